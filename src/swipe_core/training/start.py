"""The start of a training: what its first image decides, and the weights of another model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swipe_core.checkpoints.file import Checkpoint
from swipe_core.data.cases import Case
from swipe_core.data.labels import BACKGROUND
from swipe_core.data.preprocessing import PreprocessingConfig, likely_unit
from swipe_core.errors import ConfigError
from swipe_core.images import MedicalImage, read_image
from swipe_core.images.orientation import CANONICAL
from swipe_core.networks.lite import pretrained_encoder
from swipe_core.networks.segmenter import Segmenter
from swipe_core.training.config import ExperimentConfig

LEFT_OPEN = ("spacing_unit", "orientation", "channel_axis")  # of preprocessing, for the images to decide
# By which intensities are brought to the range of the images that weights were learned on: [-1, 1], with a
# deviation of about a half.
PRETRAINED_SCALES = {"unit": 1.0, "range": 1.0, "window": 2.0, "standardise": 0.5}
LEAST_SHARE = 0.5  # of the weights: a network that shares less is another one


@dataclass(frozen=True)
class Inheritance:
    """What a network took over from another model."""

    model: str
    """The other model's name."""
    share: float
    """Of all weights, in [0, 1]."""
    kept_classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    """`kept_classes` and `new_classes`: names of the classes that the other model knew, and of those it did
    not, without the background.
    """
    fresh: tuple[str, ...]
    """Names of the tensors that start at random as a whole, because the other model's do not fit."""
    class_layers: tuple[str, ...] = ()
    """As `swipe_core.networks.segmenter.Segmenter` has them."""

    def __str__(self) -> str:
        parts = [f"Starting from {self.model}: {100 * self.share:.3g} % of the weights are kept"]
        if self.new_classes:
            kept = f", those for {', '.join(self.kept_classes)} too" if self.kept_classes else ""
            parts.append(f"{kept}; the last layers start afresh for {', '.join(self.new_classes)}")
        others = [name for name in self.fresh if not name.startswith(self.class_layers)]
        if others:
            parts.append(f"; so do {len(others)} tensors of another shape ({others[0]}, ...)")
        return "".join(parts) + "."


def decided(
    config: ExperimentConfig, cases: Sequence[Case], earlier: PreprocessingConfig | None = None
) -> ExperimentConfig:
    """Return the configuration, with what its preprocessing leaves open decided by the first training image.

    That are the unit of its spacing, the orientation of volumes and the kind of channels. A run that goes on
    has them as `earlier`. Raises `ImageError` when that image cannot be read.
    """
    preprocessing = config.preprocessing
    if earlier is not None:
        found: dict[str, Any] = {name: getattr(earlier, name) for name in LEFT_OPEN}
    elif cases:
        found = stated(read_image(cases[0].image_path, ndim=preprocessing.ndim), preprocessing)
    else:
        return config
    defaults = {name: PreprocessingConfig.model_fields[name].default for name in LEFT_OPEN}
    still_open = {name for name in LEFT_OPEN if getattr(preprocessing, name) == defaults[name]}
    update = {name: value for name, value in found.items() if name in still_open}
    return config.model_copy(update={"preprocessing": preprocessing.model_copy(update=update)})


def stated(image: MedicalImage, preprocessing: PreprocessingConfig) -> dict[str, Any]:
    """Return what an image says of the fields in `LEFT_OPEN`; no kind of channels where it is as usual."""
    kinds, spacing = image.channel_kinds, preprocessing.spacing
    is_as_usual = kinds.count != preprocessing.channels or kinds.axis == preprocessing.channel_kinds.axis
    return {
        "spacing_unit": None if spacing is None else likely_unit(image, spacing),
        "orientation": CANONICAL if image.space.is_anatomical else None,
        "channel_axis": None if preprocessing.channels == 1 or is_as_usual else kinds.axis,
    }


def start_pretrained(model: Segmenter, preprocessing: PreprocessingConfig) -> None:
    """Give the encoder of a network the weights learned on ImageNet, where there are some for it."""
    encoder = pretrained_encoder(model)
    if encoder is not None:
        encoder.load_pretrained(PRETRAINED_SCALES[preprocessing.intensity])


@torch.no_grad()
def inherit(model: Segmenter, class_names: Sequence[str], start: Checkpoint) -> Inheritance:
    """Give a network the weights of a trained model, as far as they fit; the others stay as they are.

    In the last layers every class has weights of its own: those of classes of the same name are taken over,
    and those of the background always. Raises `ConfigError` when less than half of the weights fit: then the
    networks have little in common.

    `model`: changed in place.
    `class_names`: of the classes 1, 2, ... that it is to learn.
    """
    wanted = {BACKGROUND: 0} | {name: row for row, name in enumerate(class_names, start=1)}
    known = {BACKGROUND: 0} | {
        name: row for row, name in enumerate(start.content.labels.class_names, start=1)
    }
    rows = [(wanted[name], known[name]) for name in wanted if name in known]
    fresh, kept, total = list[str](), 0, 0
    for name, own in model.state_dict().items():
        per_class = name.startswith(model.class_layers)
        taken = _take(own, start.weights.get(name), rows if per_class else None)
        total, kept = total + own.numel(), kept + taken
        if own.numel() and not taken:
            fresh.append(name)
    if kept < LEAST_SHARE * total:
        raise ConfigError(
            f"The network of this configuration shares only {100 * kept / total:.0f} % of its weights with "
            f"{start.content.name}: take the sections model and preprocessing of that model, or start afresh."
        )
    return Inheritance(
        model=start.content.name,
        share=kept / total,
        kept_classes=tuple(name for name in class_names if name in known),
        new_classes=tuple(name for name in class_names if name not in known),
        fresh=tuple(fresh),
        class_layers=model.class_layers,
    )


def _take(own: Tensor, other: Tensor | None, rows: Sequence[tuple[int, int]] | None) -> int:
    """Copy what fits of a tensor, or of its rows, into the network's own; return how many numbers."""
    if other is None or own.shape[1:] != other.shape[1:]:
        return 0
    if rows is not None:
        for to_row, from_row in rows:
            own[to_row].copy_(other[from_row])
        return sum(own[to_row].numel() for to_row, _ in rows)
    if own.shape != other.shape:
        return 0
    own.copy_(other)
    return own.numel()
