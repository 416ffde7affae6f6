"""Every case segmented by a model, and compared with its reference labels."""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Integer

from swipe_core.coordinates import Grid
from swipe_core.data.cases import Case
from swipe_core.data.labelled import LabelledImage, mask_notice, photograph_notice, read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.data.preprocessing import resampled
from swipe_core.errors import ConfigError, nearest_name
from swipe_core.evaluation.report import CaseScores, EvaluationReport
from swipe_core.images.units import PIXEL, conversion
from swipe_core.inference.instances import iter_objects
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.measure.instances import score_instances
from swipe_core.measure.objects import number_objects
from swipe_core.measure.scores import check_comparable, score_label
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, only_notices


def evaluate(
    predictor: Predictor,
    cases: Sequence[Case],
    *,
    tolerance: float = 1.0,
    image_factor: Sequence[float] | None = None,
    output_size: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    instances: bool = False,
) -> Generator[Progress | Notice, None, EvaluationReport]:
    """Segment every case, sampled on the grid of its reference, and compare; yields progress.

    Raises `ConfigError` when `image_factor` has neither one number nor as many as the model has axes,
    `output_size` not as many, or the model knows no such class.

    `tolerance`: of the surface Dice, in the unit of the first image, to which all distances are converted.
    `image_factor`: resample each image by these factors, one for all axes or one for each, before it is
    segmented: what a coarser or finer scan of the same would give, about.
    `output_size`: compare on a lattice of so many voxels over the extent of each image instead, where the
    reference is that of the nearest voxel.
    `classes`: judge only these. The references have the model's labels for them, and may hold any others
    besides.
    `instances`: compare single objects, too, as `iter_objects` finds them: with those that the references
    number, or with the connected parts of their classes.
    """
    labels, ndim = predictor.content.labels, predictor.content.model.ndim
    factors = _factors(image_factor, ndim)
    if output_size is not None and len(output_size) != ndim:
        raise ConfigError(f"An output size is {ndim} numbers for a {ndim}D model; got {list(output_size)}.")
    judged = labels_of(classes, labels)
    scored: list[CaseScores] = []
    white = turned = None
    for done, case in enumerate(cases, start=1):
        labelled = read_labelled(case, ndim, labels, others=classes is not None, objects=instances)
        if labelled.white is not None and white is None:
            white = labelled.white
            yield mask_notice(labels, white)
        if turned is None:
            turned = photograph_notice(case)
            if turned is not None:
                yield turned
        own = labelled.image.grid
        image = resampled(labelled.image, own.scaled(factors)) if factors else labelled.image
        field = yield from only_notices(predictor.iter_field(image))
        grid = own if output_size is None else own.resized(output_size)
        predicted = yield from only_notices(iter_sampled(field, rendering_on(grid)))
        unit = scored[0].unit if scored else labelled.image.unit
        scores = _scored(labelled, predicted.array, grid, unit, judged, tolerance, labels.ignore_label)
        if instances:
            found = yield from only_notices(
                iter_sampled(field, partial(iter_objects, segmentation=predicted))
            )
            right = number_objects(labelled.labels).array if labelled.objects is None else labelled.objects
            of_objects = score_instances(found.array, _at_nearest(right, grid.shape))
            scores = replace(scores, instances=of_objects)
        scored.append(scores)
        yield Progress("Evaluating", done, len(cases))
    return EvaluationReport(tuple(scored), tolerance)


def labels_of(classes: Sequence[str] | None, labels: LabelConfig) -> dict[str, int]:
    """The labels of some classes, or of all, by name.

    Raises `ConfigError` when there is no such class.
    """
    known = {name: label for label, name in enumerate(labels.class_names, start=1)}
    for name in classes or ():
        if name not in known:
            raise ConfigError(
                f"There is no class {name!r} to judge, only {', '.join(known)}.{nearest_name(name, known)}"
            )
    return known if classes is None else {name: known[name] for name in classes}


def _scored(
    labelled: LabelledImage,
    predicted: Integer[np.ndarray, "*shape"],
    grid: Grid,
    unit: str,
    judged: Mapping[str, int],
    tolerance: float,
    ignore_label: int | None,
) -> CaseScores:
    """One case, compared on a grid that has the extent of its image, in a unit if it has one of length."""
    # The steps along the axes, not their lengths alone: a volume may be sheared.
    reference, own = _at_nearest(labelled.labels.array, grid.shape), labelled.image.unit
    steps = grid.affine.linear * conversion(own, unit)
    check_comparable(predicted, reference, steps)
    scores = {
        name: score_label(predicted, reference, steps, label, tolerance, ignore_label)
        for name, label in judged.items()
    }
    return CaseScores(labelled.name, scores, own if PIXEL in (own, unit) else unit)


def _at_nearest(
    array: Integer[np.ndarray, "*shape"], shape: Sequence[int]
) -> Integer[np.ndarray, "*new_shape"]:
    """Labels at the voxel centres of the same extent cut into another number of voxels."""
    if array.shape == tuple(shape):
        return array
    # A centre on the border of two voxels is in the later one.
    nearest = [
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(array.shape, shape, strict=True)
    ]
    return array[np.ix_(*nearest)]


def _factors(image_factor: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    if image_factor is None:
        return ()
    if len(image_factor) not in (1, ndim) or not all(0 < factor < math.inf for factor in image_factor):
        raise ConfigError(
            f"An image factor is one number above 0, or {ndim} of them for a {ndim}D model; got "
            f"{', '.join(f'{factor:g}' for factor in image_factor)}."
        )
    return tuple(image_factor) * (ndim if len(image_factor) == 1 else 1)
