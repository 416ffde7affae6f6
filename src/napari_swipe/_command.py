"""The script line that does what the dock did."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from swipe_core.bundled import bundled_checkpoints
from swipe_core.errors import ImageError

if TYPE_CHECKING:
    from napari_swipe._segmenting import SegmentedLayer
    from swipe_core.coordinates import Grid

NO_FILE = "IMAGE"


def predict_command(segmented: SegmentedLayer, grid: Grid) -> str:
    """The `scripts/predict.py` line for a segmentation at a resolution.

    A layer that came from no file is called IMAGE there, for the user to fill in.

    Raises
    ------
    ImageError
        When the script cannot do the same: it knows frames along the first axis of a stack only.
    """
    job, config = segmented.job, segmented.config
    source, image = job.source, segmented.field.image_grid
    if source.axes.frames not in ((), (0,)) or (source.axes.frames and source.axes.channel is not None):
        raise ImageError(
            f"No command does what was done to {source.name}: scripts/predict.py takes images, volumes, and "
            "stacks of frames along their first axis."
        )
    bundled = job.model.path == bundled_checkpoints().get(job.model.path.stem)
    words = ["python", "scripts/predict.py", job.model.path.stem if bundled else str(job.model.path)]
    words += [str(source.path) if source.path else NO_FILE, "--output", "labels"]
    if grid.shape != image.shape:
        words += ["--spacing", *(f"{step:.6g}" for step in grid.spacing)]
    for setting in ("threshold", "confidence", "smoothing"):
        value = getattr(config, setting)
        if value != getattr(segmented.model_config, setting):
            words += [f"--{setting}", f"{value:g}"]
    if source.region:
        spans = [f"{a}:{b}" for a, b in zip(source.region.start, source.region.stop, strict=True)]
        words += ["--region", *[":"] * len(source.axes.frames), *spans]
    if source.axes.frames:
        words.append("--frames")
    if job.device != "auto":
        words += ["--device", job.device]
    return shlex.join(words)
