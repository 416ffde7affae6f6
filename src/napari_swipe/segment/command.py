"""The command that does what the dock did."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swipe.layers.source import LayerSource
from swipe_core.checkpoints.library import named_checkpoints
from swipe_core.errors import ImageError, SwipeError
from swipe_core.inference.config import SETTINGS
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swipe.live.segmented import SegmentedLayer
    from swipe_core.images import MedicalImage

NO_FILE = "IMAGE"


@dataclass(frozen=True)
class Command:
    """A line for a terminal."""

    line: str
    caveat: str | None = None
    """Why it has IMAGE where the file should stand; None where it gives what the dock gives."""


def iter_command(
    segmented: SegmentedLayer, factor: float, is_cubic: bool
) -> Generator[Progress, None, Command]:
    """Find the ``swipe predict`` line for labels of a segmentation at a resolution.

    The file of the layer is read as the command reads it. Where that is another image than the one that was
    segmented, or there is no file, the line says IMAGE in its place, for the user to fill in.

    An `ImageError` is raised when the command cannot do the same: it knows frames along the first axis of a
    stack only.

    `factor` and `is_cubic`: as `napari_swipe.segment.outputs.lattice` takes them.
    """
    source = segmented.job.source
    if source.axes.frames not in ((), (0,)) or (source.axes.frames and segmented.job.model.ndim == 3):
        raise ImageError(
            f"No command does what was done to {source.name}: swipe predict takes images, volumes, and "
            "stacks of 2D frames along their first axis."
        )
    yield Progress("Comparing the layer with its file", 0, 1)
    caveat = _difference_from_file(source, segmented.job.model.spacing is not None or is_cubic)
    file = NO_FILE if caveat else str(source.path)
    return Command(shlex.join(_words(segmented, file, factor, is_cubic)), caveat)


def _words(segmented: SegmentedLayer, file: str, factor: float, is_cubic: bool) -> list[str]:
    job, config = segmented.job, segmented.config
    source, image = job.source, segmented.field.image_grid
    has_name = job.model.path == named_checkpoints().get(job.model.path.stem)
    words = ["swipe", "predict", job.model.path.stem if has_name else str(job.model.path)]
    words += [file, "--output", "labels"]
    if is_cubic:
        words += ["--spacing", *[f"{min(image.spacing) / factor:.12g}"] * image.ndim]
    elif factor != 1:
        words += ["--factor", f"{factor:.12g}"]
    for name, setting in SETTINGS.items():
        value = getattr(config, name)
        if value != getattr(segmented.model_config, name):
            values = value if isinstance(value, tuple) else [value]
            words += [setting.option, *(each if isinstance(each, str) else f"{each:.12g}" for each in values)]
    if source.region:
        spans = [f"{a}:{b}" for a, b in zip(source.region.start, source.region.stop, strict=True)]
        words += ["--region", *[":"] * len(source.axes.frames), *spans]
    if source.axes.frames:
        words.append("--frames")
    if source.chosen is not None:
        words += ["--channel", *(str(position + 1) for position in source.chosen)]
    if job.device != "auto":
        words += ["--device", job.device]
    return words


def _difference_from_file(source: LayerSource, needs_spacing: bool) -> str | None:
    """Return a sentence where the command would not read from the layer's file what was segmented."""
    if source.path is None:
        return f"{source.name} came from no file"
    try:
        difference = _difference(*_as_command_reads(source, source.path), needs_spacing)
    except SwipeError as error:
        return f"The command cannot read the file of {source.name} as this layer ({error})"
    return None if difference is None else f"{source.name} has {difference} than its file {source.path.name}"


def _as_command_reads(source: LayerSource, path: Path) -> tuple[LayerSource, MedicalImage]:
    """Return what of a layer is compared, and the same of its file: the region alone where it is large."""
    from swipe_core.images import read_image
    from swipe_core.images.stored import open_stored_image
    from swipe_core.images.zarr_folder import is_store

    ndim = len(source.axes.space) + len(source.axes.frames)
    if not is_store(path):
        return source.cropped(None), read_image(path, ndim=ndim)
    start = source.region.start if source.region else (0,) * len(source.axes.space)
    frames = source.frame_shape
    return source, open_stored_image(path, ndim).read(
        [*(0 for _ in frames), *start], [*frames, *source.spatial_shape]
    )


def _difference(source: LayerSource, stored: MedicalImage, needs_spacing: bool) -> str | None:
    first = source.image(source.frames[0])
    if source.chosen is not None:
        stored = stored.with_channels([str(position + 1) for position in source.chosen])
    stack = stored.array if source.axes.frames else stored.array[None]
    if stack.shape != (len(source.frames), *first.array.shape):
        return "another shape"
    frames = zip(stack, source.frames, strict=True)
    if not all(np.array_equal(pixels, source.image(frame).array) for pixels, frame in frames):
        return "other data"
    axes = len(source.axes.space)
    own, other = first.affine, stored.affine
    if not needs_spacing and first.unit == "pixel" and np.array_equal(own.linear, np.eye(axes)):
        return None  # napari's own readers drop what the file says of its spacing
    if first.unit != stored.unit:
        return "other units"
    expected = other.linear[-axes:, -axes:]
    is_there = bool(source.axes.frames) or np.allclose(own.origin, other.origin, atol=1e-4 * max(own.spacing))
    is_alike = np.allclose(own.linear, expected, atol=1e-4 * min(own.spacing))
    return None if is_there and is_alike else "another place or spacing"
