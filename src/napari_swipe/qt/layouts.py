"""Widgets below and beside one another, numbers with their units, and the colours of the window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QHBoxLayout, QLabel, QLayout, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from swipe_core.checkpoints.header import ModelDescription


def column(owner: QWidget, *parts: QWidget | QLayout) -> QVBoxLayout:
    """Put parts below one another in a widget, without margins."""
    layout = QVBoxLayout(owner)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        if isinstance(part, QLayout):
            layout.addLayout(part)
        else:
            layout.addWidget(part)
    return layout


def beside(first: QWidget, *others: QWidget) -> QHBoxLayout:
    """Put widgets beside one another; the first has the room that the others leave."""
    row = QHBoxLayout()
    row.addWidget(first, 1)
    for other in others:
        row.addWidget(other)
    return row


def sentence(text: str = "") -> QLabel:
    """Return a label whose lines are broken."""
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def rest_timer(owner: QObject, milliseconds: int, on_rest: Callable[[], object]) -> QTimer:
    """Return a timer that calls once, when it has not been started again for so long."""
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(on_rest)
    return timer


class Row(QWidget):
    """A row of widgets that may give way to others."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.widgets: list[QWidget] = []
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)

    def replace(self, widgets: Iterable[QWidget]) -> None:
        """Show these widgets instead of those that are there."""
        for old in self.widgets:
            self._row.removeWidget(old)
            old.hide()
            old.deleteLater()
        self.widgets = list(widgets)
        for widget in self.widgets:
            self._row.addWidget(widget)


def short_unit(unit: str) -> str:
    """A unit as it is written after a number."""
    from swipe_core.images.units import symbol_of

    return symbol_of(unit, is_plain=False)


def spacing_text(model: ModelDescription) -> str:
    """The spacing that a model brings images to: "1 × 1 × 1 mm"."""
    steps = " × ".join(f"{step:g}" for step in model.spacing or ())
    return f"{steps} {short_unit(model.spacing_unit or '')}".rstrip()


def readable_factor(factor: float) -> str:
    """A resolution beside that of the image: "4x", "1/2x"."""
    return f"{factor:.3g}x" if factor > 0.995 else f"1/{1 / factor:.3g}x"


def duration(seconds: float) -> str:
    """A span of time: "0.4 s", "12 s", "3 min", "2.5 h"."""
    if seconds < 1:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


LEAST_CONTRAST = 2.5  # of a line against what is behind it; the WCAG asks 3 of graphics that stand alone
STEPS_TOWARDS_TEXT = 10


@dataclass(frozen=True)
class Ink:
    """The colours to draw with, so that everything can be read and looks at home."""

    background: QColor
    text: QColor
    """`background` and `text`: As the theme has them."""
    faint: QColor
    """Between the two: grids, and what stands back."""
    accent: QColor
    """Of the first curve in a plot."""
    fault: QColor
    """Of what is wrong."""

    def readable(self, colour: str) -> QColor:
        """Return a colour, moved towards that of the text as far as it needs to stand out."""
        for step in range(STEPS_TOWARDS_TEXT + 1):
            moved = mixed(QColor(colour), self.text, step / STEPS_TOWARDS_TEXT)
            if contrast(moved, self.background) >= LEAST_CONTRAST:
                return moved
        return self.text


def ink_of(widget: QWidget) -> Ink:
    """Return the colours that the theme gives to a widget; napari's style sheets are heeded."""
    widget.ensurePolished()
    palette = widget.palette()
    background, text = (
        palette.color(role) for role in (QPalette.ColorRole.Window, QPalette.ColorRole.WindowText)
    )
    is_dark = luminance(background) < luminance(text)
    return Ink(
        background=background,
        text=text,
        faint=mixed(background, text, 0.55),
        accent=QColor("#6cb6ff" if is_dark else "#0b62b0"),
        fault=QColor("#ff7b72" if is_dark else "#b3261e"),
    )


def mixed(first: QColor, second: QColor, share: float) -> QColor:
    """Return a colour between two, `share` of the way from the first to the second."""
    parts = zip(first.getRgb()[:3], second.getRgb()[:3], strict=True)
    return QColor(*(round(a + share * (b - a)) for a, b in parts))


def luminance(colour: QColor) -> float:
    """Return the relative luminance from 0 to 1, as the WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.getRgbF()[:3]]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


def contrast(first: QColor, second: QColor) -> float:
    """Return the contrast ratio from 1 to 21, as the WCAG 2 defines it."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)
