"""A model against reference labels: scores per case and class, their means, misses and false alarms."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Integer

from swipe_core.coordinates import Grid
from swipe_core.data.cases import Case
from swipe_core.data.labelled import LabelConfig, LabelledImage, mask_notice, photograph_notice, read_labelled
from swipe_core.data.preprocessing import resampled
from swipe_core.errors import ConfigError, nearest_name
from swipe_core.images.units import PIXEL, conversion
from swipe_core.measure.metrics import ClassScores, check_comparable, score_label
from swipe_core.prediction.predictor import Predictor, iter_sampled, rendering_on
from swipe_core.progress import Notice, Progress, only_notices

METRICS = ("dice", "iou", "hausdorff_95", "surface_dice")


@dataclass(frozen=True)
class CaseScores:
    """One case: scores by class name, distances in the unit of its world."""

    name: str
    classes: dict[str, ClassScores]
    unit: str

    def mean(self, metric: str, class_names: Collection[str] | None = None) -> float:
        """Mean over some classes, or over all; distances that are undefined stay out."""
        names = self.classes if class_names is None else class_names
        return _mean([getattr(scores, metric) for name, scores in self.classes.items() if name in names])

    @property
    def held_dice(self) -> float:
        """Mean Dice over the classes that the reference or the prediction holds; 1 where neither holds any.

        Unlike `mean`, it is not raised by classes that are rightly left out.
        """
        held = [s.dice for s in self.classes.values() if s.in_reference or s.in_prediction]
        return _mean(held) if held else 1.0


@dataclass(frozen=True)
class Presence:
    """How one class fares where it is, and where it is not.

    Attributes
    ----------
    present, absent
        Numbers of cases whose reference holds the class, and does not.
    mean, sd, median, quartiles
        Of the Dice over the cases where it is present; nan where there is none.
    false_alarms, misses
        Cases where it is absent and something was marked, and where it is present and nothing was. Neither
        have a distance.
    """

    present: int
    mean: float
    sd: float
    median: float
    quartiles: tuple[float, float]
    absent: int
    false_alarms: int
    misses: int

    def absence_told(self, class_name: str) -> str:
        """How often the class was marked where it is not, for people; there must be such cases."""
        cases = f"{self.absent} case{'s' * (self.absent != 1)} without {class_name}"
        share = 100 * self.false_alarms / self.absent
        return f"{cases}: something marked in {self.false_alarms} ({share:.0f} %)"

    def left_out_told(self, class_name: str, noun: str = "case") -> str:
        """How many cases have no HD95 of the class, for people; empty where all have one."""
        counts = {"a prediction": self.misses, "a reference": self.false_alarms}
        kinds = [f"{n} {noun}{'s' * (n != 1)} without {what}" for what, n in counts.items() if n]
        return f"HD95 of {class_name} leaves out {' and '.join(kinds)}" if kinds else ""


@dataclass(frozen=True)
class EvaluationReport:
    """All cases of a split.

    Attributes
    ----------
    tolerance
        Of the surface Dice, in the unit of each case.
    """

    cases: tuple[CaseScores, ...]
    tolerance: float = 1.0

    def mean(self, metric: str, class_name: str | None = None) -> float:
        """Mean over the cases, of one class or of the mean over the `held` ones.

        Undefined distances stay out; a class that is not held has no mean.
        """
        names = [name for name in self.held if class_name in (None, name)]
        return _mean([case.mean(metric, names) for case in self.cases])

    def spread(self, metric: str) -> float:
        """Standard deviation over the cases of the mean over the `held` classes."""
        values = [v for v in (case.mean(metric, self.held) for case in self.cases) if math.isfinite(v)]
        return float(np.std(values)) if values else math.nan

    @property
    def held(self) -> tuple[str, ...]:
        """The classes that the reference or the prediction of some case holds.

        That both lack a class counts as agreement where other cases have it; else it would raise every mean.
        """
        held = {
            name
            for case in self.cases
            for name, scores in case.classes.items()
            if scores.in_reference or scores.in_prediction
        }
        return tuple(name for name in self.class_names if name in held) if held else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.cases[0].classes)

    def holding(self, class_name: str) -> EvaluationReport:
        """Only the cases whose reference holds a class."""
        held = tuple(case for case in self.cases if case.classes[class_name].in_reference)
        return replace(self, cases=held)

    def presence(self, class_name: str) -> Presence:
        """How a class fares where the reference holds it, and how often it is marked where it is not."""
        held = [case.classes[class_name] for case in self.holding(class_name).cases]
        dice = np.array([scores.dice for scores in held] or [math.nan])
        lower, median, upper = np.percentile(dice, (25, 50, 75))
        return Presence(
            present=len(held),
            mean=float(dice.mean()),
            sd=float(dice.std()),
            median=float(median),
            quartiles=(float(lower), float(upper)),
            absent=len(self.cases) - len(held),
            false_alarms=sum(case.classes[class_name].is_false_alarm for case in self.cases),
            misses=sum(scores.is_miss for scores in held),
        )

    def worst(self, count: int) -> tuple[CaseScores, ...]:
        """The cases with the lowest `CaseScores.held_dice`, the lowest first.

        Of equals, those whose reference holds something come before false alarms, which are told elsewhere;
        then names decide.
        """

        def badness(case: CaseScores) -> tuple[float, bool, str]:
            is_empty = not any(scores.in_reference for scores in case.classes.values())
            return case.held_dice, is_empty, case.name

        return tuple(sorted(self.cases, key=badness)[:count])

    def as_dict(self) -> dict[str, Any]:
        """For JSON; undefined numbers are None."""
        return {
            "mean": {metric: _number(self.mean(metric)) for metric in METRICS},
            "std": {metric: _number(self.spread(metric)) for metric in METRICS},
            "classes": {
                name: {metric: _number(self.mean(metric, name)) for metric in METRICS}
                for name in self.class_names
            },
            "presence": {name: _numbers(asdict(self.presence(name))) for name in self.class_names},
            "tolerance": self.tolerance,
            "cases": [
                {
                    "name": case.name,
                    "unit": case.unit,
                    **{metric: _number(case.mean(metric, self.held)) for metric in METRICS},
                    "classes": {name: _numbers(asdict(scores)) for name, scores in case.classes.items()},
                }
                for case in self.cases
            ],
        }


def evaluate(
    predictor: Predictor,
    cases: Sequence[Case],
    *,
    tolerance: float = 1.0,
    image_factor: Sequence[float] | None = None,
    output_size: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
) -> Generator[Progress | Notice, None, EvaluationReport]:
    """Segment every case, sampled on the grid of its reference, and compare; yields progress.

    Parameters
    ----------
    tolerance
        Of the surface Dice, in the unit of the first image, to which all distances are converted.
    image_factor
        Resample each image by these factors, one for all axes or one for each, before it is segmented: what a
        coarser or finer scan of the same would give, about.
    output_size
        Compare on a lattice of so many voxels over the extent of each image instead, where the reference is
        that of the nearest voxel.
    classes
        Judge only these. The references have the model's labels for them, and may hold any others besides.

    Raises
    ------
    ConfigError
        When `image_factor` has neither one number nor as many as the model has axes, `output_size` not as
        many, or the model knows no such class.
    """
    labels, ndim = predictor.content.labels, predictor.content.model.ndim
    factors = _factors(image_factor, ndim)
    if output_size is not None and len(output_size) != ndim:
        raise ConfigError(f"An output size is {ndim} numbers for a {ndim}D model; got {list(output_size)}.")
    judged = labels_of(classes, labels)
    scored: list[CaseScores] = []
    white = turned = None
    for done, case in enumerate(cases, start=1):
        labelled = read_labelled(case, ndim, labels, others=classes is not None)
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
        scored.append(_scored(labelled, predicted.array, grid, unit, judged, tolerance, labels.ignore_label))
        yield Progress("Evaluating", done, len(cases))
    return EvaluationReport(tuple(scored), tolerance)


def labels_of(classes: Sequence[str] | None, labels: LabelConfig) -> dict[str, int]:
    """The labels of some classes, or of all, by name.

    Raises
    ------
    ConfigError
        When there is no such class.
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


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.mean(finite)) if finite else math.nan


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, and tuples of them, for JSON."""
    return {
        name: [_number(v) for v in value] if isinstance(value, tuple) else _number(value)
        for name, value in values.items()
    }
