"""AdamW, its learning-rate schedule, its state as plain tensors, and the mean of the weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from swipe_core.networks.lite import pretrained_encoder
from swipe_core.training.config import TrainingConfig

LONGEST_WARMUP = 0.1  # of a run
RATE_SHARE = "rate_share"  # of a group of parameters


def build_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019) that decays weights, but neither biases nor normalisations.

    An encoder that starts from weights learned on ImageNet changes at a rate of its own.
    """
    encoder = pretrained_encoder(model) if config.pretrained else None
    slow = set() if encoder is None else set(encoder.parameters())
    groups = []
    for share, parameters in (
        (1.0, [p for p in model.parameters() if p not in slow]),
        (config.pretrained_rate, [p for p in model.parameters() if p in slow]),
    ):
        for decay, members in (
            (config.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if members:
                groups.append({"params": members, "weight_decay": decay, RATE_SHARE: share})
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let every group of parameters change at its share of a rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group[RATE_SHARE]


def learning_rate(step: int, progress: float, config: TrainingConfig) -> float:
    """Return the rate: linear warm-up, within a tenth of a short run, then half a cosine.

    `progress`: share of the run that is over, in [0, 1]: of its steps, or of its time if that ends first.
    """
    warmup = min(1.0, max((step + 1) / (config.warmup_steps + 1), progress / LONGEST_WARMUP))
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * warmup * (config.final_rate + (1 - config.final_rate) * cosine)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state by ``parameter number.name``, for a safetensors file."""
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
    """Return how often the parameters were changed: one number, but where a change was broken off."""
    return {float(state["step"]) for state in optimiser.state.values() if "step" in state}


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, steps: int) -> None:
    """Take the weights after `step` steps into their exponential moving average, which is what is kept.

    Polyak & Juditsky 1992; in this form Tarvainen & Valpola 2017. Normalisation statistics are
    averaged too. Early on the mean covers a tenth of the steps so far, so that a short run does not
    drag its random start along.

    `average`: a copy of `model`, changed in place.
    `steps`: about how many steps the mean covers, at most.
    """
    share = 1 / min(steps, 1 + step / 10)
    values = model.state_dict()
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(values[name], share)
        else:
            mean.copy_(values[name])
