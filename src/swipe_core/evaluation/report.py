"""A model against reference labels: scores per case and class, and their means."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from swipe_core.data.cases import Case
from swipe_core.data.labelled import read_labelled
from swipe_core.metrics import ClassScores, score_labels
from swipe_core.predictor import Predictor
from swipe_core.progress import Notice, Progress, only_notices

METRICS = ("dice", "iou", "hausdorff_95", "surface_dice")


@dataclass(frozen=True)
class CaseScores:
    """One case: scores by class name, distances in the unit of its world."""

    name: str
    classes: dict[str, ClassScores]
    unit: str

    def mean(self, metric: str) -> float:
        """Mean over the classes; distances that are undefined stay out."""
        return _mean([getattr(scores, metric) for scores in self.classes.values()])


@dataclass(frozen=True)
class EvaluationReport:
    """All cases of a split."""

    cases: tuple[CaseScores, ...]

    def mean(self, metric: str, class_name: str | None = None) -> float:
        """Mean over the cases, of one class or of the mean over classes; undefined distances stay out."""
        if class_name is None:
            return _mean([case.mean(metric) for case in self.cases])
        return _mean([getattr(case.classes[class_name], metric) for case in self.cases])

    def spread(self, metric: str) -> float:
        """Standard deviation over the cases of the mean over classes."""
        values = [v for v in (case.mean(metric) for case in self.cases) if math.isfinite(v)]
        return float(np.std(values)) if values else math.nan

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.cases[0].classes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; undefined numbers are None."""
        return {
            "mean": {metric: _number(self.mean(metric)) for metric in METRICS},
            "std": {metric: _number(self.spread(metric)) for metric in METRICS},
            "classes": {
                name: {metric: _number(self.mean(metric, name)) for metric in METRICS}
                for name in self.class_names
            },
            "cases": [
                {
                    "name": case.name,
                    "unit": case.unit,
                    **{metric: _number(case.mean(metric)) for metric in METRICS},
                    "classes": {
                        name: {k: _number(v) for k, v in asdict(scores).items()}
                        for name, scores in case.classes.items()
                    },
                }
                for case in self.cases
            ],
        }


def evaluate(
    predictor: Predictor, cases: Sequence[Case], *, tolerance: float = 1.0
) -> Generator[Progress | Notice, None, EvaluationReport]:
    """Segment every case on its own grid and compare; yields progress.

    Parameters
    ----------
    tolerance
        Of the surface Dice, in the unit of each image's world.
    """
    labels = predictor.content.labels
    scored = []
    for done, case in enumerate(cases, start=1):
        labelled = read_labelled(case, predictor.content.model.ndim, labels)
        field = yield from only_notices(predictor.iter_field(labelled.image))
        predicted = field.render(labelled.image.grid)
        scores = score_labels(
            predicted.array,
            labelled.labels.array,
            labelled.image.spacing,
            labels.classes,
            tolerance,
            ignore_label=labels.ignore_label,
        )
        scored.append(
            CaseScores(case.name, dict(zip(labels.class_names, scores, strict=True)), labelled.image.unit)
        )
        yield Progress("Evaluating", done, len(cases))
    return EvaluationReport(tuple(scored))


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.mean(finite)) if finite else math.nan


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
