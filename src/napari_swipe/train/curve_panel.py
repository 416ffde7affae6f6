"""One plot of curves over a horizontal axis that begins at 0, drawn by pyqtgraph.

This module imports pyqtgraph: import it when there is something to draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pyqtgraph import (  # type: ignore[import-untyped]
    AxisItem,
    GraphicsView,
    InfiniteLine,
    PlotCurveItem,
    ScatterPlotItem,
    ViewBox,
)
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QFont, QPen
from qtpy.QtWidgets import QGraphicsGridLayout, QWidget

from napari_swipe.qt.theme import Ink
from napari_swipe.qt.ticks import Ticks

AXIS_WIDTH = 40  # pixels; the same in all panels, so that they stand below one another
GRID_ALPHA = 45  # of 255
MARGIN = 0.03  # of the horizontal range, before the first point and beside the last
FONT_POINTS = 8
# The word of a mark is right of its line, or left where there is no room.
WORD = {"position": 0.92, "anchors": [(0, 0.5), (1, 0.5)]}


class CurvePanel(GraphicsView):
    """A view with two axes; its curves are named, and drawn anew under their names.

    The mouse goes through it, so that the wheel scrolls what the panel stands in.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        # Without menus: pyqtgraph would make windows for them, which nobody closes.
        self._box = ViewBox(enableMenu=False, enableMouse=False, defaultPadding=0)
        self._axes = {
            side: AxisItem(side, maxTickLength=-4, linkView=self._box) for side in ("left", "bottom")
        }
        self._items: dict[str, PlotCurveItem | ScatterPlotItem | InfiniteLine] = {}
        self._drawn: set[str] = set()
        self._ink: Ink | None = None
        font = QFont(self.font())
        font.setPointSize(FONT_POINTS)
        for axis in self._axes.values():
            axis.enableAutoSIPrefix(False)
            axis.setStyle(tickFont=font)
            axis.setGrid(GRID_ALPHA)
            axis.setZValue(-1)
        self._axes["left"].setWidth(AXIS_WIDTH)
        layout = self.centralLayout
        assert isinstance(layout, QGraphicsGridLayout)
        layout.setContentsMargins(0, 4, 8, 0)
        layout.setSpacing(0)
        layout.addItem(self._axes["left"], 0, 0)
        layout.addItem(self._box, 0, 1)
        layout.addItem(self._axes["bottom"], 1, 1)

    def set_ink(self, ink: Ink) -> None:
        """Colours of the ground and of the axes."""
        if ink == self._ink:
            return
        self._ink = ink
        self.setBackground(ink.background)
        for axis in self._axes.values():
            axis.setPen(ink.faint)
            axis.setTextPen(ink.text)

    def set_range(self, end: float, low: float, high: float, ticks: Ticks | None = None) -> None:
        """What is seen: 0 to `end`, and `low` to `high`; ticks as they fall, where none are given."""
        end = end or 1.0
        self._axes["left"].setTicks(None if ticks is None else [ticks])
        self._box.setRange(xRange=(-MARGIN / 2 * end, (1 + MARGIN) * end), yRange=(low, high), padding=0)

    # Drawing: what is not drawn between `begin` and `finish` goes away.

    def begin(self) -> None:
        self._drawn = set()

    def line(self, name: str, x: np.ndarray, y: np.ndarray, colour: QColor, width: float = 1.5) -> None:
        item = self._item(name, PlotCurveItem, antialias=True)
        item.setData(x, y, pen=_pen(colour, width))

    def points(
        self,
        name: str,
        x: np.ndarray | Sequence[float],
        y: np.ndarray | Sequence[float],
        colour: QColor,
        size: float,
        symbol: str = "o",
    ) -> None:
        item = self._item(name, ScatterPlotItem, pxMode=True)
        item.setData(
            x=np.asarray(x, float), y=np.asarray(y, float), size=size, brush=colour, pen=None, symbol=symbol
        )

    def mark(self, name: str, x: float, colour: QColor, text: str = "") -> None:
        """A vertical line, with a word beside its upper end."""
        item = self._item(name, InfiniteLine, angle=90, label="", labelOpts=WORD)
        item.setPen(_pen(colour, 1, Qt.PenStyle.DashLine))
        item.setValue(x)
        item.label.setFormat(text.replace("{", "{{").replace("}", "}}"))
        item.label.setColor(colour)

    def finish(self) -> None:
        for name in self._items.keys() - self._drawn:
            self._box.removeItem(self._items.pop(name))

    def _item(
        self, name: str, kind: type[PlotCurveItem | ScatterPlotItem | InfiniteLine], **options: object
    ) -> PlotCurveItem | ScatterPlotItem | InfiniteLine:
        self._drawn.add(name)
        if name not in self._items:
            self._items[name] = kind(**options)
            self._box.addItem(self._items[name], ignoreBounds=True)
        return self._items[name]


def _pen(colour: QColor, width: float, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> QPen:
    pen = QPen(colour, width, style)
    pen.setCosmetic(True)  # in pixels, whatever the ranges are
    return pen
