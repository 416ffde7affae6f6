"""A configuration for data that nobody has configured yet: sized for the images, the device and the time.

What these numbers were chosen by is measured in docs/RESULTS.md, section "From scribbles".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import ndimage

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.data.labelled import LabelledImage
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import ConfigError
from swipe_core.images.channels import COLOURS, Channels
from swipe_core.images.orientation import CANONICAL
from swipe_core.images.units import PIXEL, common_unit
from swipe_core.networks.catalogue import PRESETS, SWIPE, Preset, check_dimension, title_of
from swipe_core.networks.pixel_classifier import PixelClassifierConfig
from swipe_core.networks.registry import KINDS
from swipe_core.training.config import ExperimentConfig, parse_config

CROPS: dict[tuple[Preset, int], int] = {
    ("quick", 2): 128,
    ("standard", 2): 192,
    ("paper", 2): 384,
    ("quick", 3): 48,
    ("standard", 3): 64,
    ("paper", 3): 96,
}
CPU_BATCH = 4  # images a step
GPU_BATCH = {2: 12, 3: 6}
MOST_STEPS = 30_000
APART: dict[str, Any] = {"touching": "distance", "seed_threshold": 0.8, "smallest_object": 0.2}
"""Settings that part objects which are numbered, where the network does not learn how deep points lie."""
VOLUME_OVERLAP = 0.25  # of windows: a third of the windows of the default, 0.5, in each of which more is new
FEW_CASES = 8  # below this batches say little of what other images look like
AIR = -500  # Hounsfield units: no other kind of image goes so far below zero
CT_WINDOW = (-1000.0, 1000.0)  # of the paper's 3D experiments
LARGEST_OBJECT = 0.6  # of a crop's edge: a larger object is looked at from further away

# Of labels that leave most of an image open.
PAIRS = 256  # of points without labels
LIKENESS, ALIKE = 10.0, 0.5  # from nothing, the image itself says where boundaries are
RETENTION, LITTLE_LIKENESS = 3.0, 3.0  # from a trained model, above all that model does


@dataclass(frozen=True)
class DataSummary:
    """Facts of the annotated images that a configuration depends on."""

    ndim: Literal[2, 3]
    channels: int
    cases: int
    """How many there are."""
    shape: tuple[int, ...]
    """The median along each axis, in voxels."""
    spacing: tuple[float, ...]
    unit: str
    """`spacing` and `unit`: the median voxel, and its unit; an empty one where only some images have a unit
    of length, since their spacings then mean nothing together.
    """
    is_colour: bool
    """Red, green and blue, as all of them declare."""
    is_ct: bool
    """A volume in Hounsfield units."""
    extent: float | None
    """The median edge of the boxes around the annotated parts of the foreground, in voxels, or None."""


def summarise(images: Iterable[LabelledImage], ignore_label: int | None = None) -> DataSummary:
    """Summarise annotated images, one at a time.

    Raises `ConfigError` when there is none, or they differ in dimension or channels.
    """
    shapes, spacings, extents = list[tuple[int, ...]](), list[tuple[float, ...]](), list[float]()
    kinds, units, is_colour, is_ct = set[tuple[int, Channels]](), list[str](), True, True
    for each in images:
        labelled = each.oriented(CANONICAL)
        image = labelled.image
        of_colour = image.channel_kinds.is_colour
        kinds.add((image.ndim, Channels(image.channels, "colour" if of_colour else "channel")))
        is_colour = is_colour and of_colour
        shapes.append(image.shape)
        spacings.append(image.spacing)
        units.append(image.unit)
        is_ct = is_ct and image.ndim == 3 and image.channels == 1 and float(image.array.min()) <= AIR
        extents += _extents(labelled.labels.array, ignore_label)
    if not kinds:
        raise ConfigError("There is no annotated image yet: paint some labels on an image, or add a folder.")
    if len(kinds) > 1:
        found = ", ".join(sorted(f"{ndim}D with {channels}" for ndim, channels in kinds))
        raise ConfigError(f"Images of one training must be of one kind; these are {found}: take some out.")
    ndim, channels = kinds.pop()
    unit, factors = common_unit(units)
    return DataSummary(
        ndim=3 if ndim == 3 else 2,
        channels=channels.count,
        cases=len(shapes),
        shape=tuple(int(n) for n in np.median(shapes, axis=0)),
        spacing=tuple(np.median(np.array(spacings) * np.array(factors)[:, None], axis=0).tolist()),
        unit=unit if unit != PIXEL or set(units) == {PIXEL} else "",
        is_colour=is_colour,
        is_ct=is_ct,
        extent=float(np.median(extents)) if extents else None,
    )


def _extents(label_map: np.ndarray, ignore_label: int | None) -> list[float]:
    """The longest edge of the box around each connected annotated part of the foreground."""
    foreground = label_map > 0
    if ignore_label is not None:
        foreground &= label_map != ignore_label
    parts, _ = ndimage.label(foreground)
    return [float(max(axis.stop - axis.start for axis in box)) for box in ndimage.find_objects(parts) if box]


def suggest(
    summary: DataSummary,
    labels: LabelConfig,
    preset: Preset,
    device: torch.device,
    minutes: float = 10.0,
    name: str = "mine",
    network: str = SWIPE,
    answer: CheckpointContent | None = None,
) -> ExperimentConfig:
    """Return a configuration for a training from nothing.

    It says how to learn, and leaves it to a time budget how long: `training.steps` is only a limit. Every
    network learns from points, so that strokes will do. Raises `ConfigError` when there is no such network
    for images of this dimension.

    `minutes`: the budget: about ten validations are spread over it.
    `network`: its name, as `swipe_core.networks.catalogue` has it.
    `answer`: the pixel classifier that learned from the same strokes on images: the training that starts from
    it is taught by it where nothing is painted.
    """
    ndim = summary.ndim
    check_dimension(network, ndim)
    preprocessing = preprocessing_for(summary, CROPS[preset, ndim])
    if answer is not None:
        is_of_kind = (answer.model.ndim, answer.model.channels) == (ndim, summary.channels)
        answer = answer if is_of_kind and would_teach(answer, labels) else None
    if answer is not None:
        its = answer.preprocessing.model_dump(mode="json")
        preprocessing = its | {"crop_size": preprocessing["crop_size"]}
    kind = KINDS[network]
    fields = kind.fields(preset, ndim, preprocessing["crop_size"])
    gpu_batch = kind.batches.get((preset, ndim), GPU_BATCH[ndim])
    batch = CPU_BATCH if device.type == "cpu" else gpu_batch
    values: dict[str, Any] = {
        "name": name,
        "description": f"{title_of(network)}, {preset}: {PRESETS[preset]}",
        "model": fields | {"channels": summary.channels},
        "labels": labels.model_dump(mode="json"),
        "preprocessing": preprocessing,
        **_learning(ndim, summary.is_colour, labels.ignore_label is not None, batch, minutes),
    }
    values["training"] |= {"learning_rate": kind.learning_rate(preset, ndim)}
    values["inference"] = {"overlap": VOLUME_OVERLAP} if ndim == 3 else {}
    if labels.instances and not values["model"].get("interior"):
        values["inference"] |= APART
    if labels.ignore_label is not None:
        values["batch"] |= {"pairs": PAIRS}
        values["loss"] = {"likeness_weight": LIKENESS, "likeness_contrast": ALIKE}
        values["loss"] |= {} if answer is None else {"retention_weight": RETENTION}
    return parse_config(values)


def would_teach(content: CheckpointContent, labels: LabelConfig) -> bool:
    """Return whether a model is the answer to strokes on images: it is to teach a network, not to go on."""
    is_answer = isinstance(content.model, PixelClassifierConfig) and content.model.ndim == 2
    return is_answer and labels.ignore_label is not None


def suggest_fine_tuning(
    content: CheckpointContent,
    labels: LabelConfig,
    cases: int,
    device: torch.device,
    minutes: float = 10.0,
    name: str = "mine",
) -> ExperimentConfig:
    """Return a configuration for going on from a trained model with other images, or other classes.

    Network, preprocessing and inference stay the model's own.

    `cases`: how many annotated images there are: of few of them the statistics of the batch normalisations
    are left as they are.
    """
    model, preprocessing = content.model, content.preprocessing
    batch = CPU_BATCH if device.type == "cpu" else GPU_BATCH[model.ndim]
    values: dict[str, Any] = {
        "name": name,
        "description": f"fine-tuned from {content.name}",
        "model": model.model_dump(mode="json") | {"classes": labels.classes},
        "labels": labels.model_dump(mode="json"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "inference": content.inference.model_dump(mode="json"),
        **_learning(
            model.ndim,
            preprocessing.channel_kinds.is_colour,
            labels.ignore_label is not None,
            batch,
            minutes,
        ),
    }
    values["training"] |= {"learning_rate": 1e-4, "frozen_statistics": cases < FEW_CASES}
    if labels.ignore_label is not None:
        values["batch"] |= {"pairs": PAIRS}
        values["loss"] = {"retention_weight": RETENTION, "likeness_weight": LITTLE_LIKENESS}
    return parse_config(values)


def _learning(ndim: int, is_colour: bool, is_sparse: bool, batch_size: int, minutes: float) -> dict[str, Any]:
    """The sections that say how to learn, whatever the network."""
    if ndim == 3:
        points, background, near = 1024, 12000, 0.53  # enough far from all boundaries, too
    elif is_sparse:
        points, background, near = 512, 6000, 0.33
    else:  # nearly as whole images have them: then what is found is neither too large nor far off
        points, background, near = 1024, 12000, 0.17
    flat = {"flip": 0.5, "rotation_degrees": 90, "scale": 0.8, "scale_range": [0.6, 1.7]}
    volume = {"flip_axes": [], "rotation_degrees": 15, "scale": 0.3}
    return {
        "sampling": {
            "boundary_width": 5 if ndim == 2 else 3,
            "background_points": background,
            "background_boundary_share": near,
        },
        "augmentation": (flat if ndim == 2 else volume)
        | ({"colour": 0.8} if is_colour else {"colour": 0.5, "intensity": 0.5}),
        "batch": {
            "size": batch_size,
            "points": points,
            "foreground_probability": 0.9,
        },
        "training": {
            "steps": MOST_STEPS,
            "warmup_steps": 20,
            "averaging_steps": 300,
            "validate_every": MOST_STEPS,
            "validate_minutes": round(min(max(minutes / 10, 0.2), 10.0), 2),
            "save_minutes": 0.5,
            "log_every": 5,
        },
    }


def preprocessing_for(summary: DataSummary, crop: int | None) -> dict[str, Any]:
    """Return how images are brought to a network: at their own resolution, unless objects exceed its crops.

    `crop`: the longest edge of what is learned from, in voxels; None: whole images.
    """
    if summary.is_ct:
        values: dict[str, Any] = {"intensity": "window", "window": CT_WINDOW}
    else:
        values = {"intensity": "unit" if summary.is_colour else "standardise"}
    factor = 1.0
    if crop and summary.unit and summary.extent is not None and summary.extent > LARGEST_OBJECT * crop:
        factor = _two_digits(summary.extent / (LARGEST_OBJECT * crop))
    spacing = [step * factor for step in summary.spacing]
    if summary.ndim == 3:
        # Thick slices keep their number; the planes in between are what a network would have to invent.
        finest = min(summary.spacing) * factor
        spacing = [max(step, finest) for step in summary.spacing]
    if factor > 1 or summary.unit not in ("pixel", ""):
        values |= {"spacing": spacing, "spacing_unit": summary.unit}
    if summary.channels == len(COLOURS) and not summary.is_colour:
        values["channel_axis"] = "channel"
    if crop:
        shape = [n * a / b for n, a, b in zip(summary.shape, summary.spacing, spacing, strict=True)]
        values["crop_size"] = [min(crop, 16 * max(1, round(n / 16))) for n in shape]
    return values


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
