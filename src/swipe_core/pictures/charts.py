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

# For lines and bars on white (Okabe and Ito's, the darker ones first).
_CURVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_MARKERS = "osD^vPX"


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
    series: Mapping[str, Sequence[tuple[Number, Number]]],
    path: Path | str,
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
) -> None:
    """Named series of (x, y) points as lines with markers, as a PNG. The labels name the units."""
    figure = new_figure(800, 500, layout="constrained")
    axes = figure.subplots()
    for (name, points), colour, marker in zip(
        series.items(), cycle(_CURVE_COLOURS), cycle(_MARKERS), strict=False
    ):
        x, y = np.asarray(sorted(points), float).reshape(-1, 2).T
        axes.plot(x, y, marker=marker, color=colour, label=name)
    if log_x:
        axes.set_xscale("log")
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    _plain(axes)
    _name_below(figure, list(series))
    write_png(path, rendered(figure))


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
