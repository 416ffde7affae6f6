"""The results of a study as CSV: one line for each row, seed and condition, with numbers in full."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from studies.judging import Judging
from studies.results import FAILED, NOT_JUDGED, NOT_TRAINED, FinishedRun, Results
from studies.runs import PlannedRun
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.measure.metrics import agreement_metrics

Cell = str | int | float | None

PLANNED = ("study", "setting", "row", "network", "seed", "condition", "data", "split", "cases", "run")
TRAINED = ("parameters", "multiply_adds", "minutes", "device")
OTHERS = ("surface_dice_tolerance", "unit", "published_dice_percent", "published_dice_sd")


def csv_text(results: Results) -> str:
    """Scores from 0 to 1, distances in `unit`; what is unknown or undefined is left empty."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    scored = [name for metric in agreement_metrics() for name in (metric, f"{metric}_sd_over_cases")]
    table.writerow([*PLANNED, "state", *TRAINED, *scored, *OTHERS])
    trained = {(run.row.name, run.seed): run for run in results.finished}
    for planned in results.runs:
        run = trained.get((planned.row.name, planned.seed))
        for judging in planned.judgings:
            table.writerow(_told(cell) for cell in _line(results, planned, judging, run))
    return text.getvalue()


def _line(results: Results, planned: PlannedRun, judging: Judging, run: FinishedRun | None) -> Iterable[Cell]:
    study, setting, row, condition = results.study, results.setting, planned.row, judging.condition
    report = None if run is None else run.scores.get(condition.name)
    yield from (study.name, results.setting_name, row.name, row.network, planned.seed, condition.name)
    yield setting.other_data if condition.other_data else setting.data
    yield from (judging.split or "all", judging.count, planned.key)
    if report is not None:
        yield "judged"
    elif planned.key in results.messages:
        yield FAILED
    else:
        yield NOT_TRAINED if run is None else NOT_JUDGED
    yield from (None if run is None else getattr(run, name) for name in TRAINED)
    yield from _scores(report)
    yield from results.published(row, condition.name)


def _scores(report: EvaluationReport | None) -> Iterable[Cell]:
    for metric in agreement_metrics():
        yield None if report is None else report.mean(metric)
        yield None if report is None else report.spread(metric)
    yield from (None, None) if report is None else (report.tolerance, report.cases[0].unit)


def _told(cell: Cell) -> str:
    is_unknown = cell is None or (isinstance(cell, float) and not math.isfinite(cell))
    return "" if is_unknown else str(cell)
