"""What a study found as charts: the Dice of every row, and lines against whatever rows differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.results import FinishedRun
from studies.study import Chart, Study
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.pictures import write_lines, write_png
from swipe_core.pictures.charts import (
    HOLLOW,
    MARKERS,
    PUBLISHED,
    SERIES_COLOURS,
    Number,
    name_below,
    plain_axes,
)
from swipe_core.pictures.overlays import new_figure, rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def write_dots(
    values: Mapping[str, Mapping[str, Sequence[Number]]],
    path: Path | str,
    x_label: str,
    title: str = "",
    digits: int = 1,
    *,
    published: Mapping[str, Mapping[str, Number]] | None = None,
) -> None:
    """One line of dots for every group, from top to bottom, as a PNG: `values[group][series]`.

    Every value is a dot, their mean a larger one with its number; a group may lack some series.

    Parameters
    ----------
    published
        What a paper has in their place, drawn hollow.
    """
    published = published or {}
    names = list(dict.fromkeys(name for row in values.values() for name in row))
    figure = new_figure(800, 130 + len(values) * (14 + 20 * len(names)), layout="constrained")
    axes = figure.subplots()
    _draw_groups(axes, values, names, published, f"%.{digits}f")
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set(xlabel=x_label, title=title)
    axes.margins(x=0.12)
    plain_axes(axes)
    axes.grid(False, axis="y")
    for place in range(1, len(values)):
        axes.axhline(place - 0.5, color="#eeeeee", linewidth=0.8)
    if published or len(names) > 1:
        name_below(figure, [*names, *([PUBLISHED] if published else [])])
    write_png(path, rendered(figure))


def _draw_groups(
    axes: Axes,
    values: Mapping[str, Mapping[str, Sequence[Number]]],
    names: Sequence[str],
    published: Mapping[str, Mapping[str, Number]],
    number: str,
) -> None:
    for name, colour, marker, shift in zip(
        names, cycle(SERIES_COLOURS), cycle(MARKERS), _within_group(len(names)), strict=False
    ):
        style: dict[str, Any] = {"color": colour, "marker": marker}
        for place, (group, row) in enumerate(values.items()):
            theirs = published.get(group, {}).get(name)
            if theirs is not None:
                axes.plot(theirs, place + shift, **style, **HOLLOW)
            if row.get(name):
                is_below = theirs is not None and bool(theirs > np.mean(row[name]))
                _draw_dots(axes, row[name], place + shift, style, number, is_below)
        axes.plot([], [], **style, linestyle="none", label=name)
    if published:
        axes.plot([], [], marker="o", color="#555555", label=PUBLISHED, **{**HOLLOW, "linestyle": "none"})


def _within_group(count: int) -> np.ndarray:
    """Where the lines of a group lie about its middle, which is one apart from the next one's."""
    return 0.7 * ((np.arange(count) + 0.5) / count - 0.5)


def _draw_dots(
    axes: Axes,
    values: Sequence[Number],
    height: float,
    style: Mapping[str, Any],
    number: str,
    is_left: bool,
) -> None:
    """The values, their mean, and what it is: to the left or to the right of all of them."""
    if len(values) > 1:
        axes.plot(values, [height] * len(values), **{**style, "marker": "."}, linestyle="none", alpha=0.4)
    mean = float(np.mean(values))
    axes.plot(mean, height, **style)
    axes.annotate(
        number % mean,
        (min(values) if is_left else max(values), height),
        (-8 if is_left else 8, 0),
        textcoords="offset points",
        ha="right" if is_left else "left",
        va="center",
        fontsize=8,
    )
