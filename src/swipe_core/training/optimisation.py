"""AdamW, its learning-rate schedule, and its state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from swipe_core.training.config import TrainingConfig

LONGEST_WARMUP = 0.1  # of a run


def build_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) that decays weights, but neither biases nor normalisations."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )


def learning_rate(step: int, progress: float, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine. A short run is warm after a tenth of it at the latest.

    Parameters
    ----------
    progress
        Share of the run that is over, in [0, 1]: of its steps, or of its time if that ends first.
    """
    warmup = min(1.0, max((step + 1) / (config.warmup_steps + 1), progress / LONGEST_WARMUP))
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * warmup * (config.final_rate + (1 - config.final_rate) * cosine)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by ``parameter number.name``, for a safetensors file."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, s in state.items() for name, value in s.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` took out of an optimiser of the same model."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def updates_of(optimiser: torch.optim.Optimizer) -> set[float]:
    """How often the parameters were changed: one number, but where a change was broken off."""
    return {float(state["step"]) for state in optimiser.state.values() if "step" in state}
