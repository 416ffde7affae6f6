"""What a study found as charts: the Dice of every row, and lines against whatever rows differ in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studies.dots import write_dots
from studies.finished import FinishedRun
from studies.study import Chart, Study
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.pictures import write_lines

DICE = "Dice (%)"
MILLION, BILLION = 1e6, 1e9

Line = list[tuple[float, float]]


def write_charts(
    study: Study, finished: Sequence[FinishedRun], folder: Path, is_published: bool
) -> list[Path]:
    """``dice.png``, and a chart for each of the study's, without those that there are no scores for.

    Parameters
    ----------
    is_published
        Draw the paper's numbers beside ours.

    Raises
    ------
    ImageError
        When a file cannot be written.
    """
    written = []
    if any(run.scores for run in finished):
        _write_dice(study, finished, folder / "dice.png", is_published)
        written.append(folder / "dice.png")
    for chart in study.charts:
        ours, published = _points(study, chart, finished)
        if ours:
            path = folder / f"{chart.name}.png"
            _write_chart(chart, path, ours, published if is_published else {})
            written.append(path)
    return written


def _write_dice(study: Study, finished: Sequence[FinishedRun], path: Path, is_published: bool) -> None:
    """A line of dots for every row, or, where networks are judged in several ways, for each of these."""
    several = len(study.conditions) > 1
    values: dict[str, dict[str, list[float]]] = {}
    published: dict[str, dict[str, float]] = {}
    for condition in study.conditions:
        for row in study.rows:
            own = [run.scores.get(condition.name) for run in finished if run.row.name == row.name]
            dice = [_dice(report) for report in own if report is not None]
            if not dice:
                continue
            group, series = (condition.name, row.name) if several else (row.name, "measured")
            values.setdefault(group, {})[series] = dice
            theirs = condition.published.get(row.name, row.published.dice if condition.is_plain else None)
            if theirs is not None and is_published:
                published.setdefault(group, {})[series] = theirs
    write_dots(values, path, DICE, study.title, published=published)


def _write_chart(chart: Chart, path: Path, ours: dict[str, Line], published: dict[str, Line]) -> None:
    ticks = sorted({point.x for line in chart.lines.values() for point in line})
    write_lines(
        ours,
        path,
        chart.x_label,
        DICE,
        chart.title,
        chart.log_x,
        published=published,
        ticks=ticks or None,
    )


def _points(
    study: Study, chart: Chart, finished: Sequence[FinishedRun]
) -> tuple[dict[str, Line], dict[str, Line]]:
    """Of each series that has any: a point for every run, and those of the paper."""
    condition = study.conditions[0].name
    judged = [run for run in finished if condition in run.scores]
    rows = {row.name: row.published for row in study.rows}
    ours: dict[str, Line] = {}
    published: dict[str, Line] = {}
    for series, places in _places(chart, judged).items():
        found = [
            (x, _dice(run.scores[condition])) for name, x in places for run in judged if run.row.name == name
        ]
        if not found:
            continue
        ours[series] = found
        theirs = [
            (x if chart.x == "given" else getattr(rows[name], chart.x), rows[name].dice)
            for name, x in places
            if name in rows  # a study may be narrowed to some of its rows
        ]
        published[series] = [(x, dice) for x, dice in theirs if x is not None and dice is not None]
    return ours, {series: line for series, line in published.items() if line}


def _places(chart: Chart, judged: Sequence[FinishedRun]) -> dict[str, list[tuple[str, float]]]:
    """Rows and where they stand, by series; in a chart without lines each row is a series of its own."""
    if chart.x == "given":
        return {series: [(point.row, point.x) for point in line] for series, line in chart.lines.items()}
    return {run.row.name: [(run.row.name, _cost(run, chart.x))] for run in judged}


def _cost(run: FinishedRun, what: str) -> float:
    """In the units of `Published`."""
    return run.parameters / MILLION if what == "parameters" else run.multiply_adds / BILLION


def _dice(report: EvaluationReport) -> float:
    return 100 * report.mean("dice")
