"""Sheets of pictures with titles and a legend."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from swipe_core.pictures.overlays import RGB, new_figure, rendered

_GAP = 8  # pixels between panels


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet, shown pixel for pixel, and the words above it."""

    rgb: RGB
    title: str = ""


def contact_sheet(
    rows: Sequence[Sequence[Panel]], legend: Mapping[str, str] | None = None, title: str = ""
) -> RGB:
    """Panels in rows and columns on white, none of them resampled.

    Make every panel as large as it shall be seen, by `fitted_shape` and the `shape` of `overlay`.
    Titles are broken into lines no longer than their panel is wide, that of the sheet into lines as wide as
    the sheet; `legend` maps names to the colours "#rrggbb" to be explained below the panels.
    """
    count = max(len(row) for row in rows)
    widths = [max(row[i].rgb.shape[1] for row in rows if i < len(row)) for i in range(count)]
    strips = [_row(row, widths) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    if title:
        words = _wrapped(title, width)
        caption = _caption(words, width, len(words.splitlines()))
        strips.insert(0, _on_white(caption, caption.shape[0] + _GAP, width))
    if legend:
        strips.append(_legend(legend, width))
    sheet = np.concatenate([_on_white(strip, strip.shape[0], width) for strip in strips])
    return np.pad(sheet, ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=255)


def _row(row: Sequence[Panel], widths: Sequence[int]) -> RGB:
    titles = [_wrapped(panel.title, panel.rgb.shape[1]) for panel in row]
    lines = max(len(title.splitlines()) for title in titles)
    height = max(panel.rgb.shape[0] for panel in row) + _GAP
    blocks = [
        np.concatenate([_caption(title, width + _GAP, lines), _on_white(panel.rgb, height, width + _GAP)])
        for panel, title, width in zip(row, titles, widths, strict=False)
    ]
    return np.concatenate(blocks, axis=1)


def _on_white(rgb: RGB, height: int, width: int) -> RGB:
    sheet = np.full((height, width, 3), 255, np.uint8)
    sheet[: rgb.shape[0], : rgb.shape[1]] = rgb
    return sheet


def _wrapped(text: str, width: int) -> str:
    """Text broken into lines that fit a width in pixels (9 pt type: 7.5 pixels a letter)."""
    return "\n".join(textwrap.wrap(text, max(8, int(width / 7.5))))


def _caption(text: str, width: int, lines: int) -> RGB:
    height = 17 * lines + 5 if lines else 0
    if not text:
        return _on_white(np.empty((0, 0, 3), np.uint8), height, width)
    figure = new_figure(width, height)
    figure.text(1 / width, 4 / height, text, va="bottom", fontsize=9, linespacing=1.15)
    return rendered(figure)


def _legend(colours: Mapping[str, str], width: int) -> RGB:
    from matplotlib.patches import Patch

    per_line = max(1, width // (60 + 8 * max(map(len, colours))))
    lines = -(-len(colours) // per_line)
    figure = new_figure(width, 19 * lines + 8)
    patches = [Patch(facecolor=colour, edgecolor="#444444", label=name) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="center left", ncols=per_line, fontsize=9, frameon=False, borderpad=0)
    return rendered(figure)
