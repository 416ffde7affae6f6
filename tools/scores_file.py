"""Scores that `swipe evaluate --json` wrote, read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from swipe_core.errors import DataError
from swipe_core.evaluation.report import EvaluationReport, Origin
from swipe_core.measure.metrics import METRICS


def read_origin(path: str | Path) -> Origin | None:
    """Return what the scores in a file are of; None where it does not say, as older ones do not.

    Raises
    ------
    DataError
        When there is no such file, or it holds no scores as this version writes them.
    """
    with _reading(Path(path)) as written:
        return TypeAdapter(Origin).validate_python(written["of"]) if "of" in written else None


def read_report(path: str | Path) -> EvaluationReport:
    """Return the report that `write_report` wrote.

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
