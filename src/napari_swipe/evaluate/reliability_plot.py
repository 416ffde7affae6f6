"""How often probabilities came true, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget

from napari_swipe.qt.layouts import ink_of

if TYPE_CHECKING:
    from swipe_core.measure.calibration import Reliability

HEIGHT, MARGIN, DOT = 190, 34, 4.0  # pixels


class ReliabilityPlot(QWidget):
    """Probabilities that were said, and the share of places that were of the class: a diagonal if right."""

    def __init__(self, reliability: Reliability, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.reliability = reliability
        self.setMinimumHeight(HEIGHT)
        lines = [
            f"said {said:.2f}: true in {true:.2f} of {places} places"
            for said, true, places in zip(
                reliability.said, reliability.came_true, reliability.places, strict=True
            )
            if places
        ]
        self.setToolTip("\n".join(lines))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the square, its diagonal, and a dot for each tenth that has places."""
        ink, painter = ink_of(self), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        side = self.height() - MARGIN
        square = QRectF(MARGIN, 2, side - 4, side - 4)
        painter.setPen(QPen(ink.faint))
        painter.drawRect(square)
        painter.setPen(QPen(ink.faint, 1, Qt.PenStyle.DashLine))
        painter.drawLine(square.bottomLeft(), square.topRight())
        painter.setPen(QPen(ink.text))
        below = QRectF(square.left(), square.bottom() + 2, square.width(), MARGIN - 4)
        painter.drawText(below, Qt.AlignmentFlag.AlignCenter, "probability that is said")
        painter.drawText(QPointF(2, square.top() + 12), "true")
        painter.drawText(QPointF(10, square.bottom()), "0")
        painter.drawText(QPointF(10, square.top() + 28), "1")
        beside = QRectF(
            square.right() + 10, square.top(), max(0.0, self.width() - square.right() - 10), square.height()
        )
        painter.drawText(
            beside, int(Qt.AlignmentFlag.AlignVCenter) | int(Qt.TextFlag.TextWordWrap), self.caption
        )
        dots = [
            QPointF(square.left() + said * square.width(), square.bottom() - true * square.height())
            for said, true in self.reliability.dots
        ]
        painter.setPen(QPen(ink.accent, 1.5))
        for first, last in zip(dots, dots[1:], strict=False):
            painter.drawLine(first, last)
        painter.setBrush(ink.accent)
        for dot in dots:
            painter.drawEllipse(dot, DOT, DOT)

    @property
    def caption(self) -> str:
        """The one number, and how to read the picture."""
        return (
            f"Expected calibration error {self.reliability.error:.4f}.\nDots below the diagonal: "
            "more was promised than came true."
        )
