"""What becomes of an image that was asked about: its labels, and all that was asked for besides."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.compute.memory import out_of_memory_as
from swipe_core.coordinates import Affine, Grid
from swipe_core.images import LabelMap, MedicalImage
from swipe_core.images.channels import Channels
from swipe_core.images.medical_image import ScalarMap
from swipe_core.inference.field import Segmentation
from swipe_core.inference.maps import iter_probability, iter_uncertainty
from swipe_core.measure.objects import ObjectMeasurement, measure_objects, number_objects
from swipe_core.prediction.predictor import Predictor, iter_sampled
from swipe_core.prediction.request import Request
from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports, with_progress

Reports = Progress | Notice


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of an image.

    Attributes
    ----------
    image
        The part of it that was segmented.
    maps
        By the names that `Request.map_names` gives.
    objects, measurements
        The objects by their numbers, and each of them measured; None where they were not asked for.
    """

    image: MedicalImage
    segmentation: Segmentation
    maps: Mapping[str, ScalarMap] = field(default_factory=dict)
    objects: LabelMap | None = None
    measurements: tuple[ObjectMeasurement, ...] | None = None


def iter_answer(
    predictor: Predictor, image: MedicalImage, request: Request
) -> Generator[Reports, None, Answer]:
    """Encode an image and sample it as asked; yields progress and notices.

    Raises
    ------
    ImageError
        When the image does not suit the model or has not the region, or memory does not suffice.
    """
    part = request.part_of(image)
    yield from notices_of_channels(part.channel_kinds, predictor.content)
    grid = _grid_of_all(part, request)
    size = f"{grid.voxels} voxels ({' x '.join(map(str, grid.shape))}) of labels"
    with out_of_memory_as(f"{image.name} with {size} does not fit into memory: {request.advice}."):
        if request.frames:
            answers = yield from _iter_frames(predictor, part, request)
            answer = _stacked(part, grid, answers)
        else:
            answer = yield from _iter_picture(predictor, part, request)
        if request.objects:
            yield Progress("Measuring objects", 0, 1)
            answer = _with_objects(answer)
            yield Progress("Measuring objects", 1, 1)
        return answer


def notices_of_channels(given: Channels, content: CheckpointContent) -> Iterator[Notice]:
    """What is taken for the channels of a model though it is called otherwise."""
    wanted = content.preprocessing.channel_kinds
    is_renamed = given.axis not in (wanted.axis, "colour")
    if given.count == wanted.count > 1 and given.fits(wanted) and is_renamed:
        yield Notice(f"The {given} of an image are taken for the {wanted} of {content.name}, in this order.")


def _iter_picture(
    predictor: Predictor, image: MedicalImage, request: Request
) -> Generator[Reports, None, Answer]:
    field = yield from predictor.iter_field(image)
    grid = request.grid_of(image.grid)
    segmentation = yield from iter_sampled(field, lambda f: f.iter_render(grid, method=request.method))
    names = ("background", *field.class_names)
    samples = [partial(iter_probability, grid=grid, class_index=names.index(n)) for n in request.probability]
    samples += [partial(iter_uncertainty, grid=grid)] * request.uncertainty
    maps = {}
    for name, sample in zip(request.map_names, samples, strict=True):
        maps[name] = yield from iter_sampled(field, sample)
    return Answer(image, segmentation, maps)


def _iter_frames(
    predictor: Predictor, stack: MedicalImage, request: Request
) -> Generator[Reports, None, list[Answer]]:
    answers: list[Answer] = []
    each_once = EachNoticeOnce()
    for number in range(stack.shape[0]):
        work = map_reports(_iter_picture(predictor, _frame(stack, number), request), each_once)
        progress = Progress("Segmenting frames", number, stack.shape[0])
        answers.append((yield from with_progress(work, progress)))
    yield Progress("Segmenting frames", stack.shape[0], stack.shape[0])
    return answers


def _with_objects(answer: Answer) -> Answer:
    segmentation = answer.segmentation
    objects = number_objects(segmentation)
    measured = measure_objects(objects, segmentation, segmentation.class_names)
    return replace(answer, objects=objects, measurements=tuple(measured))


def _frame(stack: MedicalImage, number: int) -> MedicalImage:
    """A frame as an image of its own, at its spacing; where it lies in space is not for a 2D model."""
    return replace(stack, array=stack.array[number], affine=Affine.from_spacing(stack.spacing[1:]))


def _grid_of_all(image: MedicalImage, request: Request) -> Grid:
    """The lattice of the whole result."""
    if not request.frames:
        return request.grid_of(image.grid)
    return image.grid.resized((image.shape[0], *request.grid_of(_frame(image, 0).grid).shape))


def _stacked(stack: MedicalImage, grid: Grid, answers: Sequence[Answer]) -> Answer:
    """The answers for all frames as one for their stack."""
    first = answers[0]
    segmentation = Segmentation(
        np.stack([answer.segmentation.array for answer in answers]),
        grid.affine,
        stack.unit,
        space=stack.space,
        class_names=first.segmentation.class_names,
        evaluated_points=sum(answer.segmentation.evaluated_points for answer in answers),
    )
    maps = {
        name: replace(
            of_first, array=np.stack([answer.maps[name].array for answer in answers]), affine=grid.affine
        )
        for name, of_first in first.maps.items()
    }
    return Answer(stack, segmentation, maps)
