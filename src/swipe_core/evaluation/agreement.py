"""How far a prediction agrees with a reference that lies anywhere: one image, or the frames of a stack."""

import csv
import io
import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from swipe_core.data.labelled import WHITE, single_objects
from swipe_core.errors import DataError
from swipe_core.evaluation.report import CaseScores, EvaluationReport
from swipe_core.files.atomic import write_text
from swipe_core.images import LabelMap
from swipe_core.measure.instances import INSTANCE_METRICS, InstanceScores, score_instances
from swipe_core.measure.metrics import METRICS, Metric
from swipe_core.measure.scores import ClassScores, check_comparable, score_label
from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports, with_progress

Labels = Integer[np.ndarray, "*shape"]
Reports = Progress | Notice
Sampling = Callable[[LabelMap], Generator[Reports, None, Labels]]

MOST_CLASSES = 128
HINT = "where labels number single objects, have all of them compared as one class"
OBJECTS = "objects"
IGNORED = 255  # where all labels are one class


@dataclass(frozen=True)
class Comparison:
    """How label maps are compared."""

    tolerance: float | None = None
    """Of the surface Dice, in the reference's unit; None is one voxel of the reference, along its finest
    axis.
    """
    ignore_label: int | None = None
    """Voxels with this value in the reference are left out."""
    as_objects: bool = False
    """Labels number single objects: all of them are one class, and the objects are compared, too."""
    class_names: Mapping[int, str] | None = None
    """Of labels; others are called by their number."""
    classes: int | None = None
    """The reference may hold the labels 1 to this; None is any."""


@dataclass(frozen=True, eq=False)
class FramePair:
    """One image of what is compared: its name, such as its index in a stack, and what gives its labels."""

    name: str
    read: Callable[[], LabelMap]
    """Gives its reference; called once."""
    sample: Sampling
    """Gives the predicted labels on the reference's grid, as a generator: see `common_grid`."""


@dataclass(frozen=True)
class Agreement:
    """The scores of a prediction against a reference, which have the names that the user knows."""

    prediction: str
    reference: str
    report: EvaluationReport
    """One case for each frame; the classes are those that one of the two holds in any frame."""
    ndim: int
    """Axes of one frame: volumes are areas in 2D."""

    @property
    def unit(self) -> str:
        return self.report.cases[0].unit

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.report.class_names

    def mean(self, metric: str, class_name: str | None = None) -> float:
        """Return the mean over the frames, of one class or over the classes too, which volumes have not."""
        if class_name is None and METRICS[metric].better is None:
            return math.nan
        return self.report.mean(metric, class_name)

    def heading(self, metric: Metric, *, is_plain: bool = False) -> str:
        """Return the heading of a metric in the unit of the world, as `Metric.heading`."""
        return metric.heading(self.unit, self.ndim, self.report.tolerance, is_plain=is_plain)


def iter_agreement(
    prediction: str, reference: str, frames: Sequence[FramePair], how: Comparison
) -> Generator[Reports, None, Agreement]:
    """Score each frame; yields progress.

    Raises `DataError` when the maps cannot be compared, hold no label or too many, or the reference one that
    may not be.
    """
    scored: list[tuple[dict[int, ClassScores], InstanceScores | None]] = []
    each_once = EachNoticeOnce()
    for pair in frames:
        image = pair.read()
        tolerance = min(image.spacing) if how.tolerance is None else how.tolerance
        work = map_reports(_iter_frame(pair, image, how, tolerance), each_once)
        if len(frames) > 1:
            work = with_progress(work, Progress("Scoring frames", len(scored), len(frames)))
        scored.append((yield from work))
    names, absent = _names({label for scores, _ in scored for label in scores}, how), ClassScores.absent()
    cases = [
        CaseScores(
            pair.name, {name: scores.get(n, absent) for n, name in names.items()}, image.unit, instances
        )
        for pair, (scores, instances) in zip(frames, scored, strict=True)
    ]
    return Agreement(prediction, reference, EvaluationReport(tuple(cases), tolerance), image.ndim)


def write_agreement(path: str | os.PathLike[str], agreement: Agreement) -> None:
    """Write a CSV of one row per frame and class; its header names the units and the tolerance.

    The file appears whole or not at all. Distances and shares that are undefined are left empty. Raises
    `ConfigError` when the file cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    headings = [agreement.heading(metric, is_plain=True) for metric in METRICS.values()]
    single = agreement.report.instances
    headings += [INSTANCE_METRICS[name] for name in single]
    table.writerow(["prediction", "reference", "frame", "class", *headings])
    for case in agreement.report.cases:
        of_objects = [f"{getattr(case.instances, name):.8g}" for name in single]
        for name, scores in case.classes.items():
            cells = [metric.cell(getattr(scores, key)) for key, metric in METRICS.items()]
            table.writerow([agreement.prediction, agreement.reference, case.name, name, *cells, *of_objects])
    write_text(os.fspath(path), text.getvalue())


def _iter_frame(
    pair: FramePair, image: LabelMap, how: Comparison, tolerance: float
) -> Generator[Reports, None, tuple[dict[int, ClassScores], InstanceScores | None]]:
    """Scores of the labels that one of the two holds, and of single objects where labels number them."""
    reference, ignored, steps = image.array, how.ignore_label, image.affine.linear
    predicted = yield from pair.sample(image)
    check_comparable(predicted, reference, steps)
    found = _labels_in(predicted, reference, ignored)
    white = None if how.as_objects else _white_of(found, how)
    instances = _instances(predicted, reference, ignored) if how.as_objects else None
    if white is not None:
        yield Notice(f"A mask of 0 and {white} is compared: {white} is read as {_names({1}, how)[1]}.")
    if how.as_objects or white is not None:
        predicted, reference = _as_one_class(predicted, None), _as_one_class(reference, ignored)
        ignored = None if ignored is None else IGNORED
        found = (found[0] and {1}, found[1] and {1})
    _check_labels(found, how)
    labels = sorted(found[0] | found[1])
    scores = {}
    for number, label in enumerate(labels):
        yield Progress("Scoring", number, len(labels))
        scores[label] = score_label(predicted, reference, steps, label, tolerance, ignored)
    return scores, instances


def _instances(predicted: Labels, reference: Labels, ignored: int | None) -> InstanceScores:
    counted = True if ignored is None else reference != ignored
    return score_instances(*(single_objects(np.where(counted, each, 0)) for each in (predicted, reference)))


def _as_one_class(labels: Labels, ignored: int | None) -> Labels:
    one = (labels != 0).astype(np.uint8)
    if ignored is not None:
        one[labels == ignored] = IGNORED
    return one


def _labels_in(predicted: Labels, reference: Labels, ignored: int | None) -> tuple[set[int], set[int]]:
    """All labels of the two but the background, where the reference is not ignored."""
    found: tuple[set[int], set[int]] = (set(), set())
    for slices in zip(predicted, reference, strict=True):  # one by one: a whole volume takes long to sort
        counted = ... if ignored is None else slices[1] != ignored
        for labels, part in zip(found, slices, strict=True):
            labels |= set(np.unique(part[counted]).tolist()) - {0}
    return found


def _white_of(found: tuple[set[int], set[int]], how: Comparison) -> int | None:
    """The number of white where masks of black and white are compared with each other, or with label 1."""
    numbers = (found[0] | found[1]) - {1}
    is_one_class = how.classes in (None, 1) and len(found[0]) < 2 and len(found[1]) < 2
    return numbers.pop() if is_one_class and len(numbers) == 1 and numbers <= set(WHITE) else None


def _check_labels(found: tuple[set[int], set[int]], how: Comparison) -> None:
    """See that the labels of a prediction and of a reference can be compared; raise a `DataError` if not."""
    highest = max(found[1], default=0)
    if how.classes is not None and highest > how.classes and not how.as_objects:
        raise DataError(
            f"The reference holds the label {highest}, and the model knows {how.classes} "
            f"class{'es' if how.classes > 1 else ''}: {HINT}, or pick a reference with the model's classes."
        )
    for mask, other in (found, found[::-1]):
        if len(mask) == 1 and mask <= set(WHITE) and len(other) > 1 and not mask & other:
            raise DataError(
                f"A mask of 0 and {min(mask)} cannot be compared with {len(other)} labels, one by one: have "
                "all labels compared as one class, or pick labels of the same classes."
            )
    if len(found[0] | found[1]) > MOST_CLASSES:
        raise DataError(
            f"The label maps hold {len(found[0] | found[1])} labels, and {MOST_CLASSES} classes can be "
            f"compared at most: {HINT}."
        )


def _names(labels: set[int], how: Comparison) -> dict[int, str]:
    """Return what the labels are called, each by a name of its own; none at all are a `DataError`."""
    if not labels:
        raise DataError("Neither the prediction nor the reference holds a label: there is nothing to score.")
    if how.as_objects:
        return {1: OBJECTS}
    names: dict[int, str] = {}
    for label in sorted(labels):
        name = (how.class_names or {}).get(label) or f"label {label}"
        names[label] = f"{name} ({label})" if name in names.values() else name
    return names
