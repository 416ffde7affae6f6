"""Scores that were written to a file: read again, and believed only of the model and cases they are of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from swipe_core.errors import DataError
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.files.text import write_text
from swipe_core.inference.config import InferenceConfig
from swipe_core.measure.metrics import METRICS

if TYPE_CHECKING:
    from swipe_core.prediction.predictor import Predictor


@dataclass(frozen=True)
class Origin:
    """What scores are of.

    Attributes
    ----------
    model
        Name, and the step of its training where that is known.
    split
        Part of the data, or ``"all"``.
    image_factor
        By which the images were resampled first, as in `evaluate`; None where they were not.
    inference
        The settings in effect.
    """

    model: str
    split: str
    image_factor: tuple[float, ...] | None
    inference: InferenceConfig

    @classmethod
    def of(cls, predictor: Predictor, split: str, image_factor: Sequence[float] | None = None) -> Origin:
        """Of what a predictor scores."""
        content = predictor.content
        step = "" if content.summary.step is None else f", step {content.summary.step}"
        factors = None if image_factor is None else tuple(image_factor)
        return cls(content.name + step, split, factors, predictor.config)


def write_report(path: str | Path, report: EvaluationReport, origin: Origin) -> None:
    """Write a report and what it is of as JSON, at once or not at all.

    Raises
    ------
    ConfigError
        When the file cannot be written.
    """
    of = TypeAdapter(Origin).dump_python(origin, mode="json")
    write_text(path, json.dumps({"of": of} | report.as_dict(), indent=1) + "\n")


def read_origin(path: str | Path) -> Origin | None:
    """What the scores in a file are of; None where it does not say, as older ones do not.

    Raises
    ------
    DataError
        When there is no such file, or it holds no scores as this version writes them.
    """
    with _reading(Path(path)) as written:
        return TypeAdapter(Origin).validate_python(written["of"]) if "of" in written else None


def read_report(path: str | Path) -> EvaluationReport:
    """A report from the JSON of `EvaluationReport.as_dict`.

    Raises
    ------
    DataError
        When there is no such file, or it holds no scores as this version writes them.
    """
    path = Path(path)
    with _reading(path) as written:
        for case in written["cases"]:
            case["classes"] = {name: _class_scores(scores) for name, scores in case["classes"].items()}
        report = TypeAdapter(EvaluationReport).validate_python(written)
    if not report.cases or not report.class_names or len({tuple(c.classes) for c in report.cases}) > 1:
        raise _no_scores(path)
    return report


def _class_scores(written: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `ClassScores`: nan is null in JSON, and older versions lack some metrics."""
    known = {key: math.nan if value is None else value for key, value in written.items() if key in METRICS}
    return {**written, "values": known}


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"The scores {path} cannot be read ({error.strerror}).") from error
    # Whatever valid JSON may hold in the place of what belongs there; pydantic's errors are ValueErrors.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_scores(path) from error


def _no_scores(path: Path) -> DataError:
    return DataError(
        f"{path} holds no scores of this version: write it anew with `swipe evaluate` and its --json."
    )
