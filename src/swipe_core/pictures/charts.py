"""Curves of a training, and lines and bars that compare, as PNG files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swipe_core.pictures.rendering import new_figure, rendered, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Number = float | int
Points = Mapping[str, Sequence[tuple[Number, Number]]]  # (x, y) by the names of the series

# For lines and bars on white (Okabe and Ito's, the darker ones first).
_CURVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_MARKERS = "osD^vPX"
_HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "--", "linewidth": 1.2, "zorder": 1.9}
PUBLISHED = "as published"


def write_curves(
    records: Sequence[Mapping[str, Any]],
    path: Path | str,
    loss: str = "loss",
    dice: str = "validation_dice",
) -> None:
    """Loss and validation Dice of a training against its steps, as a PNG.

    Parameters
    ----------
    records : sequence of mappings
        Each with "step", and with either quantity or both under the names `loss` and `dice`; other
        entries are passed over.
    """
    figure = new_figure(800, 600, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    _draw_loss(above, *_column(records, loss))
    _draw_dice(below, *_column(records, dice))
    below.set_xlabel("step of the optimiser")
    for axes in (above, below):
        _plain(axes)
    write_png(path, rendered(figure))


def _draw_loss(axes: Axes, steps: np.ndarray, losses: np.ndarray) -> None:
    colour = _CURVE_COLOURS[0]
    axes.set_ylabel("training loss")
    window = len(losses) // 50
    if window < 2:
        axes.plot(steps, losses, color=colour)
        return
    axes.plot(steps, losses, color=colour, alpha=0.3, label="each record")
    mean = np.convolve(losses, np.full(window, 1 / window), "valid")
    centres = steps[window // 2 : window // 2 + len(mean)]
    axes.plot(centres, mean, color=colour, label=f"mean of {window} records")
    axes.legend(frameon=False, loc="upper right")


def _draw_dice(axes: Axes, steps: np.ndarray, scores: np.ndarray) -> None:
    axes.set_ylabel("validation Dice (0 to 1)")
    if not scores.size:
        return
    best = int(scores.argmax())
    axes.plot(steps, scores, color=_CURVE_COLOURS[1], marker="o", markersize=3, label="each validation")
    found = f"best: {scores[best]:.4f} at step {steps[best]:.0f}"
    axes.plot(steps[best], scores[best], "k*", markersize=10, linestyle="none", label=found)
    axes.legend(frameon=False, loc="lower right")


def _column(records: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one quantity, from the records that have it."""
    pairs = [(record["step"], record[name]) for record in records if record.get(name) is not None]
    table = np.array(pairs, float).reshape(-1, 2)
    table = table[np.isfinite(table[:, 1])]
    return table[:, 0], table[:, 1]


def write_lines(
    series: Points,
    path: Path | str,
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
    *,
    published: Points | None = None,
    ticks: Sequence[Number] | None = None,
) -> None:
    """Named series of (x, y) points as lines with markers, as a PNG. The labels name the units.

    Where several points of a series have one x, its line goes through their mean, and they are dots about it.

    Parameters
    ----------
    published
        Points of a paper for some of the series, drawn hollow and dashed in the series' colours.
    ticks
        The only numbers on the x axis; by default round ones.
    """
    figure = new_figure(800, 500, layout="constrained")
    axes = figure.subplots()
    _draw_series(axes, series, published or {})
    if log_x:
        _make_logarithmic(axes)
    if ticks is not None:
        axes.set_xticks([], minor=True)
        axes.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.margins(0.06)
    _plain(axes)
    _name_below(figure, [*series, *([PUBLISHED] if published else [])])
    write_png(path, rendered(figure))


def _draw_series(axes: Axes, series: Points, published: Points) -> None:
    is_line = any(len({x for x, _ in points}) > 1 for points in series.values())
    hollow = {**_HOLLOW, "linestyle": "--" if is_line else "none"}
    for (name, points), colour, marker in zip(
        series.items(), cycle(_CURVE_COLOURS), cycle(_MARKERS), strict=False
    ):
        x, y = _in_order(points)
        at = np.unique(x)
        means = [y[x == place].mean() for place in at]
        axes.plot(at, means, marker=marker, color=colour, linestyle="-" if is_line else "none", label=name)
        if len(at) < len(x):
            axes.plot(x, y, marker=".", linestyle="none", color=colour, alpha=0.4)
        axes.plot(*_in_order(published.get(name, ())), marker=marker, color=colour, **hollow)
    if published:
        axes.plot([], [], marker="o", color="#555555", label=PUBLISHED, **hollow)


def _in_order(points: Sequence[tuple[Number, Number]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(sorted(points), float).reshape(-1, 2).T
    return x, y


def _make_logarithmic(axes: Axes) -> None:
    """With round numbers in place of powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


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
    _plain(axes)
    axes.grid(False, axis="y")
    for place in range(1, len(values)):
        axes.axhline(place - 0.5, color="#eeeeee", linewidth=0.8)
    if published or len(names) > 1:
        _name_below(figure, [*names, *([PUBLISHED] if published else [])])
    write_png(path, rendered(figure))


def _draw_groups(
    axes: Axes,
    values: Mapping[str, Mapping[str, Sequence[Number]]],
    names: Sequence[str],
    published: Mapping[str, Mapping[str, Number]],
    number: str,
) -> None:
    for name, colour, marker, shift in zip(
        names, cycle(_CURVE_COLOURS), cycle(_MARKERS), _within_group(len(names)), strict=False
    ):
        style: dict[str, Any] = {"color": colour, "marker": marker}
        for place, (group, row) in enumerate(values.items()):
            theirs = published.get(group, {}).get(name)
            if theirs is not None:
                axes.plot(theirs, place + shift, **style, **_HOLLOW)
            if row.get(name):
                is_below = theirs is not None and bool(theirs > np.mean(row[name]))
                _draw_dots(axes, row[name], place + shift, style, number, is_below)
        axes.plot([], [], **style, linestyle="none", label=name)
    if published:
        axes.plot([], [], marker="o", color="#555555", label=PUBLISHED, **{**_HOLLOW, "linestyle": "none"})


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


def write_bars(
    values: Mapping[str, Mapping[str, Number]],
    path: Path | str,
    y_label: str,
    title: str = "",
    digits: int = 2,
) -> None:
    """Groups of bars from zero, as a PNG: `values[series][group]`; a series may lack some groups."""
    groups = list(dict.fromkeys(group for row in values.values() for group in row))
    figure = new_figure(max(500, 120 + 56 * len(groups) * len(values)), 450, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(values)
    for index, ((name, row), colour) in enumerate(zip(values.items(), cycle(_CURVE_COLOURS), strict=False)):
        present = [place for place, group in enumerate(groups) if np.isfinite(row.get(group, np.nan))]
        places = np.array(present) + (index - (len(values) - 1) / 2) * width
        heights = [row[groups[place]] for place in present]
        bars = axes.bar(places, heights, 0.94 * width, color=colour, label=name)
        axes.bar_label(bars, fmt=f"%.{digits}f", fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), [textwrap.fill(group, 7 * len(values) + 4) for group in groups])
    axes.set(ylabel=y_label, title=title)
    axes.margins(y=0.1)
    _plain(axes)
    axes.grid(False, axis="x")
    _name_below(figure, list(values))
    write_png(path, rendered(figure))


def _name_below(figure: Figure, names: Sequence[str]) -> None:
    """A legend under the axes, in as many columns as there is room for."""
    letters = figure.get_figwidth() * figure.dpi / 9
    columns = int(letters / (max(map(len, names)) + 7))
    figure.legend(loc="outside lower center", ncols=max(1, min(len(names), columns)), frameon=False)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(True, color="#dddddd")
