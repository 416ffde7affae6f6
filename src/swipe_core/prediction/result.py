"""What becomes of an image: its labels, and all that was requested besides."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from swipe_core.compute.memory import out_of_memory_as
from swipe_core.coordinates import Affine, Grid
from swipe_core.images import LabelMap, MedicalImage
from swipe_core.images.medical_image import ScalarMap
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.inference.instances import iter_objects
from swipe_core.inference.maps import iter_probability, iter_uncertainty
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.measure.objects import ObjectMeasurement, measure_objects, number_objects
from swipe_core.prediction.predictor import Predictor, notices_of_channels
from swipe_core.prediction.request import Request
from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports, with_progress

Reports = Progress | Notice
MapSample = Callable[[OccupancyField], Generator[Any, None, ScalarMap]]
Raster = TypeVar("Raster", Segmentation, LabelMap, ScalarMap)


@dataclass(frozen=True, eq=False)
class Result:
    """All that was made of an image.

    Attributes
    ----------
    image
        The part of it that was segmented.
    maps
        By the names that `Request.map_names` gives.
    objects, measurements
        The objects by their numbers, and each of them measured; None where that was not asked for.
    """

    image: MedicalImage
    segmentation: Segmentation
    maps: Mapping[str, ScalarMap] = field(default_factory=dict)
    objects: LabelMap | None = None
    measurements: tuple[ObjectMeasurement, ...] | None = None


def iter_result(
    predictor: Predictor, image: MedicalImage, request: Request
) -> Generator[Reports, None, Result]:
    """Encode an image and sample it as asked; yields progress and notices.

    Of a stack that is segmented frame by frame, one frame is in memory at a time.

    Raises
    ------
    ImageError
        When the image does not suit the model or has not the region, or memory does not suffice.
    """
    part = request.part_of(image)
    yield from notices_of_channels(part.channel_kinds, predictor.content)
    frames = [_frame(part, number) for number in range(part.shape[0])] if request.frames else [part]
    grid = request.grid_of(frames[0].grid)
    whole = part.grid.resized((len(frames), *grid.shape)) if request.frames else grid
    size = f"{whole.voxels} voxels ({' x '.join(map(str, whole.shape))}) of labels"
    with out_of_memory_as(f"{image.name} with {size} does not fit into memory: {request.advice}."):
        results, each_once = list[Result](), EachNoticeOnce()
        for number, frame in enumerate(frames):
            work = _iter_frame(predictor, frame, grid, request)
            if request.frames:
                progress = Progress("Segmenting frames", number, len(frames))
                work = with_progress(map_reports(work, each_once), progress)
            results.append((yield from work))
        result = results[0]
        if request.frames:
            yield Progress("Segmenting frames", len(frames), len(frames))
            result = _stacked(part, whole, results)
        if request.objects:
            yield Progress("Measuring objects", 0, 1)
            objects, measurements = find_objects(result.segmentation, result.objects)
            result = replace(result, objects=objects, measurements=measurements)
            yield Progress("Measuring objects", 1, 1)
        return result


def find_objects(
    segmentation: Segmentation, objects: LabelMap | None = None
) -> tuple[LabelMap, tuple[ObjectMeasurement, ...]]:
    """The objects by their numbers, the connected ones by default, and each of them measured."""
    objects = number_objects(segmentation) if objects is None else objects
    return objects, tuple(measure_objects(objects, segmentation, segmentation.class_names))


def _iter_frame(
    predictor: Predictor, image: MedicalImage, grid: Grid, request: Request
) -> Generator[Reports, None, Result]:
    field = yield from predictor.iter_field(image)
    segmentation = yield from iter_sampled(field, rendering_on(grid, request.method))
    objects = None
    # Those of a stack are connected over its frames, where nothing tells them apart.
    if request.instances or (request.objects and field.model.has_interior):
        objects = yield from iter_sampled(field, partial(iter_objects, segmentation=segmentation))
    maps = {}
    for name, sample in zip(request.map_names, _map_samples(request, grid, field.class_names), strict=True):
        maps[name] = yield from iter_sampled(field, sample)
    return Result(image, segmentation, maps, objects)


def _map_samples(request: Request, grid: Grid, class_names: Sequence[str]) -> list[MapSample]:
    """How the maps of a request are sampled: probabilities of classes, then the uncertainty."""
    known = ("background", *class_names)
    samples: list[MapSample] = [
        partial(iter_probability, grid=grid, class_index=known.index(name)) for name in request.probability
    ]
    return [*samples, partial(iter_uncertainty, grid=grid)] if request.uncertainty else samples


def _frame(stack: MedicalImage, number: int) -> MedicalImage:
    """A frame as an image of its own, at its spacing; where it lies in space is not for a 2D model."""
    return replace(stack, array=stack.array[number], affine=Affine.from_spacing(stack.spacing[1:]))


def _stacked(stack: MedicalImage, grid: Grid, frames: Sequence[Result]) -> Result:
    """The results of all frames as one for their stack."""

    def joined(rasters: Sequence[Raster]) -> Raster:
        return replace(rasters[0], array=np.stack([one.array for one in rasters]), affine=grid.affine)

    segmentations = [frame.segmentation for frame in frames]
    points = sum(one.evaluated_points for one in segmentations)
    segmentation = replace(joined(segmentations), evaluated_points=points)
    maps = {name: joined([frame.maps[name] for frame in frames]) for name in frames[0].maps}
    if frames[0].objects is None:
        return Result(stack, segmentation, maps)
    objects = [frame.objects for frame in frames if frame.objects is not None]
    counts = np.cumsum([0, *(one.array.max() for one in objects)])  # every frame has objects of its own
    numbered = [
        replace(one, array=np.where(one.array, one.array + count, 0))
        for one, count in zip(objects, counts.astype(np.int32), strict=False)
    ]
    return Result(stack, segmentation, maps, joined(numbered))
