"""From a layer to its continuous segmentation: the work between the button and the first picture."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.levels import plan_levels
from napari_swipe.live.segmented import SegmentedLayer, SegmentJob
from swipe_core.errors import SwipeError
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari_swipe.viewer.state import PredictorCache
    from swipe_core.inference.config import InferenceConfig

COARSE_VOXELS = {2: 2**20, 3: 2**19}  # of the first picture, over all frames


def weighs_levels(segmented: SegmentedLayer) -> bool:
    """Whether the network says which of its levels decides; one without attention over them does not."""
    return segmented.field.first.windows[0].encoding.stage_weights is not None


def iter_segment(
    job: SegmentJob, cache: PredictorCache, tell_apart: bool = False
) -> Generator[Progress | Notice, None, SegmentedLayer]:
    """Encode every frame of a layer once, and make the first picture; yields progress.

    With `tell_apart` it shows single objects, where the model tells them apart.

    A `SwipeError` is raised when model and layer do not go together, or memory does not suffice.
    """
    job.source.axes.check(job.model.ndim, job.source.name)
    yield from other_pictures(job.source)
    yield Progress("Loading the model", 0, 1)
    predictor = cache.load(job.model.path, job.device, job.settings)
    frames = job.source.frames
    stack = yield from predictor.iter_stack(frames, job.source.image)
    field = LayerField(stack.fields, job.source)
    plan = plan_levels(field.image_grid, max(2**16, COARSE_VOXELS[job.model.ndim] // len(frames)))
    if tell_apart and field.first.model.has_interior:
        field = yield from field.iter_tell_apart()
    return (yield from _iter_first_picture(job, field, plan, predictor.content.inference))


def other_pictures(source: LayerSource) -> list[Notice]:
    """Tell of pictures that the layer's file holds besides; napari's own readers open the first alone."""
    from swipe_core.images.finding import find_images

    if source.path is None or not source.path.is_file():
        return []
    try:
        count = len(find_images([source.path]).images)
    except SwipeError:
        return []
    name = source.path.name
    text = f"{name} holds {count} pictures, and this layer is one of them; Folder to folder segments all."
    return [Notice(text)] * (count > 1)


def iter_redecide(
    segmented: SegmentedLayer, config: InferenceConfig, tell_apart: bool = False
) -> Generator[Progress | Notice, None, SegmentedLayer]:
    """The same encoding under another threshold, confidence or smoothing; nothing is encoded again."""
    field = segmented.field.with_config(config)
    if tell_apart and segmented.can_tell_apart:
        field = yield from field.iter_tell_apart()
    return (yield from _iter_first_picture(segmented.job, field, segmented.plan, segmented.model_config))


def _iter_first_picture(
    job: SegmentJob, field: LayerField, plan: LevelPlan, model_config: InferenceConfig
) -> Generator[Progress | Notice, None, SegmentedLayer]:
    from swipe_core.inference.estimate import RenderCost

    start = time.perf_counter()
    maps = yield from field.iter_render(plan.base)
    seconds = (time.perf_counter() - start) / len(maps)
    # The frame with the longest boundary costs most.
    largest = max(maps, key=lambda labels: labels.evaluated_points)
    frame_field = list(field.fields.values())[maps.index(largest)]
    cost = RenderCost.measured(frame_field, largest, seconds)
    coarse = field.stacked([field.shown(*each) for each in zip(field.fields, maps, strict=True)])
    return SegmentedLayer(job, field, plan, coarse, cost, model_config)
