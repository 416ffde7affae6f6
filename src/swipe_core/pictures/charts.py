"""Curves of a training, and lines that compare, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swipe_core.pictures.overlays import new_figure, rendered, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Number = float | int
Points = Mapping[str, Sequence[tuple[Number, Number]]]  # (x, y) by the names of the series

# For lines, dots and bars on white (Okabe and Ito's, the darker ones first).
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vPX"
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "--", "linewidth": 1.2, "zorder": 1.9}
PUBLISHED = "as published"


def write_curves(
    records: Sequence[Mapping[str, Any]],
    path: Path | str,
    loss: str = "loss",
    dice: str = "validation_dice",
) -> None:
    """Loss and validation Dice of a training against its steps, as a PNG.

    `records`: each with "step", and with either quantity or both under the names `loss` and `dice`; other
    entries are passed over.
    """
    figure = new_figure(800, 600, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    _draw_loss(above, *_column(records, loss))
    _draw_dice(below, *_column(records, dice))
    below.set_xlabel("step of the optimiser")
    for axes in (above, below):
        plain_axes(axes)
    write_png(path, rendered(figure))


def _draw_loss(axes: Axes, steps: np.ndarray, losses: np.ndarray) -> None:
    colour = SERIES_COLOURS[0]
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
    axes.plot(steps, scores, color=SERIES_COLOURS[1], marker="o", markersize=3, label="each validation")
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

    `published`: points of a paper for some of the series, drawn hollow and dashed in the series' colours.
    `ticks`: the only numbers on the x axis; by default round ones.
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
    plain_axes(axes)
    name_below(figure, [*series, *([PUBLISHED] if published else [])])
    write_png(path, rendered(figure))


def write_reliability(path: Path | str, series: Points) -> None:
    """How often probabilities came true, each series beside what would be perfect, as a PNG.

    `series`: of pairs of a probability and the share of places that were of the class, both in [0, 1].
    """
    whole = {**series, "perfect": [(0.0, 0.0), (1.0, 1.0)]}
    write_lines(whole, path, "probability that is said", "share of places of the class")


def _draw_series(axes: Axes, series: Points, published: Points) -> None:
    is_line = any(len({x for x, _ in points}) > 1 for points in series.values())
    hollow = {**HOLLOW, "linestyle": "--" if is_line else "none"}
    for (name, points), colour, marker in zip(
        series.items(), cycle(SERIES_COLOURS), cycle(MARKERS), strict=False
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


def name_below(figure: Figure, names: Sequence[str]) -> None:
    """A legend under the axes, in as many columns as there is room for."""
    letters = figure.get_figwidth() * figure.dpi / 9
    columns = int(letters / (max(map(len, names)) + 7))
    figure.legend(loc="outside lower center", ncols=max(1, min(len(names), columns)), frameon=False)


def plain_axes(axes: Axes) -> None:
    """Leave the left and the lower border alone, over a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(True, color="#dddddd")
