"""The colours of the window that a widget stands in, whatever theme it has."""

from dataclasses import dataclass

from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QWidget

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
