"""Lines of dots that compare groups, as a PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swipe_core.pictures import write_png
from swipe_core.pictures.charts import (
    HOLLOW,
    MARKERS,
    PUBLISHED,
    SERIES_COLOURS,
    Number,
    name_below,
    plain_axes,
)
from swipe_core.pictures.rendering import new_figure, rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
