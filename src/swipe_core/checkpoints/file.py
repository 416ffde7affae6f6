"""A trained model in one safetensors file: weights, and as JSON all that is needed to use them.

Nothing in the file is ever executed: safetensors holds plain arrays, and the header is parsed as JSON
and validated field by field.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.header import FORMAT, VERSION, check_format, damaged, unusable
from swipe_core.checkpoints.summary import TrainingSummary
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.errors import CheckpointError
from swipe_core.files.atomic import atomic_write
from swipe_core.files.tensors import tensor_digest
from swipe_core.inference.config import InferenceConfig
from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.registry import AnyNetwork, build_network
from swipe_core.networks.segmenter import Segmenter

WEIGHT_PREFIX = "model."
STATE_PREFIX = "state."


class CheckpointContent(BaseModel):
    """What stands in the header besides the weights.

    Attributes
    ----------
    summary
        How the model came about: data, steps, minutes, scores, versions.
    card
        What users should know of a released model.
    temperature
        By which logits are divided so that probabilities come true, fitted on validation data; None: never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: AnyNetwork
    preprocessing: PreprocessingConfig
    labels: LabelConfig
    inference: InferenceConfig
    summary: TrainingSummary = TrainingSummary()
    card: ModelCard | None = None
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model at rest.

    Attributes
    ----------
    weights
        The state of the network, by parameter name.
    state, progress
        What a training run needs to go on (optimiser tensors, and counters), or empty.
    path
        Where it was read from.
    """

    content: CheckpointContent
    weights: Mapping[str, Tensor]
    state: Mapping[str, Tensor] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @cached_property
    def digest(self) -> str:
        """The `model_digest` of it; its name and the settings of inference make no difference."""
        return model_digest(self.content, self.weights)

    def build(self) -> Segmenter:
        """Return the network with these weights, in training mode, on the CPU.

        Raises
        ------
        CheckpointError
            When the weights are not those of the configured network.
        """
        # A description of any size costs nothing to compare: no memory is taken before it fits.
        if not _describes(self.content.model, self.weights):
            raise CheckpointError(
                f"The weights in {self.path} do not belong to the network it describes: "
                "the file was altered; use another copy."
            )
        model = build_network(self.content.model)
        model.load_state_dict(dict(self.weights))
        return model


def model_digest(content: CheckpointContent, weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of what decides a model's output: weights, network, and how images are prepared."""
    described = content.model_dump_json(include={"model", "preprocessing", "labels"})
    return hashlib.sha256(f"{described}\n{tensor_digest(weights)}".encode()).hexdigest()


def _describes(config: NetworkConfig, weights: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names and shapes of the network that a configuration makes."""
    if config.least_tensors() > len(weights):  # it would take for ever to build
        return False
    try:
        with torch.device("meta"):
            expected = build_network(config).state_dict()
    except (RuntimeError, OverflowError, TypeError, ValueError):  # sizes that no tensor can have
        return False
    return {n: t.shape for n, t in expected.items()} == {n: t.shape for n, t in weights.items()}


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, half: bool = False) -> None:
    """Write a checkpoint so that `path` holds either the old file or the whole new one, never a part.

    Parameters
    ----------
    half
        Write weights in half precision, which takes half the space; `load_checkpoint` gives single
        precision back. The state of a training run stays as it is.

    Raises
    ------
    CheckpointError
        When the folder cannot be written or the disk is full; an older file stays as it was. With
        `half`, when a weight is not finite in half precision.
    """
    path = Path(path)
    weights = _halved(checkpoint.weights) if half else checkpoint.weights
    tensors = {WEIGHT_PREFIX + name: tensor for name, tensor in weights.items()}
    tensors |= {STATE_PREFIX + name: tensor for name, tensor in checkpoint.state.items()}
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "content": checkpoint.content.model_dump_json(),
        "progress": json.dumps(dict(checkpoint.progress)),
        "digest": tensor_digest(tensors),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, draft, metadata)
            with open(draft, "rb") as written:
                os.fsync(written.fileno())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({error}): free some space or choose another folder."
        ) from error


def _halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as they are written in half precision; raise where one is not finite after the cast."""
    halved = {}
    for name, tensor in weights.items():
        # One-dimensional tensors stay: a running variance below 6e-8 would become 0, which the division by
        # its root makes worse than any rounding; with the biases and scales they are some 5 % of the file.
        # Of the matrices and kernels a small element matters only beside the large ones of its row.
        if not tensor.is_floating_point() or tensor.ndim < 2:
            halved[name] = tensor
            continue
        halved[name] = tensor.half()
        if not torch.isfinite(halved[name]).all():
            raise CheckpointError(
                f"The weight {name} reaches {float(tensor.abs().max()):.3g}, and half precision holds finite "
                "numbers up to 65504: save it in single precision."
            )
    return halved


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed, and the weights are in single precision.

    What is returned has no tie to the file, which may be replaced.

    Raises
    ------
    CheckpointError
        When there is no such file, or it is damaged, of another kind, or of a newer version. A changed
        byte of a tensor is noticed in files that have a digest, as all that are written here have.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            check_format(path, metadata)
            # Its tensors are views of the file, which Windows would not let anybody replace while they live.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path) from error
    if "digest" in metadata and metadata["digest"] != tensor_digest(tensors):
        raise damaged(path)
    content, progress = _parse_header(path, metadata)
    weights = _with_prefix(tensors, WEIGHT_PREFIX)
    return Checkpoint(
        content=content,
        weights={name: t.float() if t.is_floating_point() else t for name, t in weights.items()},
        state=_with_prefix(tensors, STATE_PREFIX),
        progress=progress,
        path=path,
    )


def _parse_header(path: Path, metadata: Mapping[str, str]) -> tuple[CheckpointContent, dict[str, Any]]:
    try:
        content = CheckpointContent.model_validate_json(metadata.get("content", ""))
        return content, TypeAdapter(dict[str, Any]).validate_json(metadata.get("progress", "{}"))
    except ValidationError as error:
        raise unusable(path, error) from error


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
