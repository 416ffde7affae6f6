"""Scores per case and class, their means, misses and false alarms."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from swipe_core.files.atomic import write_text
from swipe_core.inference.config import InferenceConfig
from swipe_core.measure.instances import InstanceScores, mean_instances
from swipe_core.measure.metrics import METRICS, agreement_metrics
from swipe_core.measure.scores import ClassScores

if TYPE_CHECKING:
    from swipe_core.prediction.predictor import Predictor


@dataclass(frozen=True)
class CaseScores:
    """One case: scores by class name, distances in the unit of its world; of single objects where wanted."""

    name: str
    classes: dict[str, ClassScores]
    unit: str
    instances: InstanceScores | None = None

    def mean(self, metric: str, class_names: Collection[str] | None = None) -> float:
        """Mean over some classes, or over all; distances that are undefined stay out."""
        names = self.classes if class_names is None else class_names
        return _mean([getattr(scores, metric) for name, scores in self.classes.items() if name in names])

    @property
    def present_dice(self) -> float:
        """Mean Dice over the classes that the reference or the prediction holds; 1 where neither holds any.

        Unlike `mean`, it is not raised by classes that are rightly left out.
        """
        held = [scores.dice for scores in self.classes.values() if scores.is_held]
        return _mean(held) if held else 1.0


@dataclass(frozen=True)
class Presence:
    """How one class fares where it is, and where it is not."""

    present: int
    mean: float
    sd: float
    median: float
    quartiles: tuple[float, float]
    """`mean`, `sd`, `median` and `quartiles`: of the Dice over the cases where it is present; nan where there
    is none.
    """
    absent: int
    """`present` and `absent`: numbers of cases whose reference holds the class, and does not."""
    false_alarms: int
    misses: int
    """`false_alarms` and `misses`: cases where it is absent and something was marked, and where it is present
    and nothing was. Neither have a distance.
    """

    def false_alarm_text(self, class_name: str) -> str:
        """Return how often the class was marked where it is not; there must be such cases."""
        cases = f"{self.absent} case{'s' * (self.absent != 1)} without {class_name}"
        share = 100 * self.false_alarms / self.absent
        return f"{cases}: something marked in {self.false_alarms} ({share:.0f} %)"

    def left_out_text(self, class_name: str, noun: str = "case") -> str:
        """Return how many cases have no HD95 of the class; an empty text where all have one."""
        counts = {"a prediction": self.misses, "a reference": self.false_alarms}
        kinds = [f"{n} {noun}{'s' * (n != 1)} without {what}" for what, n in counts.items() if n]
        return f"HD95 of {class_name} leaves out {' and '.join(kinds)}" if kinds else ""


@dataclass(frozen=True)
class EvaluationReport:
    """All cases of a split."""

    cases: tuple[CaseScores, ...]
    tolerance: float = 1.0
    """Of the surface Dice, in the unit of each case."""

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
        held = {name for case in self.cases for name, scores in case.classes.items() if scores.is_held}
        return tuple(name for name in self.class_names if name in held) if held else ()

    @property
    def instances(self) -> dict[str, float]:
        """The mean scores of single objects over the cases, by name; none where they were not compared."""
        scores = [case.instances for case in self.cases if case.instances is not None]
        return mean_instances(scores) if scores else {}

    def heading(self, key: str) -> str:
        """Return the heading of a metric of agreement, in the unit of the first case."""
        ndim = 3  # which matters to sizes alone
        return METRICS[key].heading(self.cases[0].unit, ndim, self.tolerance)

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
        """The cases with the lowest `CaseScores.present_dice`, the lowest first.

        Of equals, those whose reference holds something come before false alarms, which have a
        count of their own; then names decide.
        """

        def badness(case: CaseScores) -> tuple[float, bool, str]:
            is_empty = not any(scores.in_reference for scores in case.classes.values())
            return case.present_dice, is_empty, case.name

        return tuple(sorted(self.cases, key=badness)[:count])

    def as_dict(self) -> dict[str, Any]:
        """Return all scores for JSON; undefined numbers are None."""
        metrics = agreement_metrics()
        return {
            "mean": {key: _number(self.mean(key)) for key in metrics},
            "std": {key: _number(self.spread(key)) for key in metrics},
            "classes": {
                name: {key: _number(self.mean(key, name)) for key in metrics} for name in self.class_names
            },
            "presence": {name: _numbers(asdict(self.presence(name))) for name in self.class_names},
            "tolerance": self.tolerance,
            **({"instances": self.instances} if self.instances else {}),
            "cases": [
                {
                    "name": case.name,
                    "unit": case.unit,
                    **{key: _number(case.mean(key, self.held)) for key in metrics},
                    "classes": {name: _numbers(scores.as_dict()) for name, scores in case.classes.items()},
                    **({"instances": _numbers(asdict(case.instances))} if case.instances else {}),
                }
                for case in self.cases
            ],
        }


@dataclass(frozen=True)
class Origin:
    """What scores are of."""

    model: str
    """Name, and the step of its training where that is known."""
    split: str
    """Part of the data, or ``"all"``."""
    image_factor: tuple[float, ...] | None
    """By which the images were resampled first, as in `evaluate`; None where they were not."""
    inference: InferenceConfig
    """The settings in effect."""

    @classmethod
    def of(cls, predictor: Predictor, split: str, image_factor: Sequence[float] | None = None) -> Origin:
        """Return what the scores of a predictor are of."""
        content = predictor.content
        step = "" if content.summary.step is None else f", step {content.summary.step}"
        factors = None if image_factor is None else tuple(image_factor)
        return cls(content.name + step, split, factors, predictor.config)


def write_report(path: str | Path, report: EvaluationReport, origin: Origin) -> None:
    """Write a report and what it is of as JSON, as `write_text` does."""
    of = TypeAdapter(Origin).dump_python(origin, mode="json")
    write_text(path, json.dumps({"of": of} | report.as_dict(), indent=1) + "\n")


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
