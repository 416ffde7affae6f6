"""The curves of a training that goes on: its loss, and the Dice of its validations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QColor, QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from napari_swipe.qt.layouts import Ink, column, ink_of, mixed, rest_timer, sentence
from napari_swipe.train.history import Along, History, smoothed, thinned
from swipe_core.pictures.overlays import default_colours

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pyqtgraph import PlotWidget  # type: ignore[import-untyped]

REDRAW_DELAY = 250  # milliseconds: at most four redraws a second
MOST_POINTS = 500  # of a curve: a dock has about as many pixels
LEAST_LOSS = 1e-6  # what a logarithmic axis shows of a loss of 0
SHOWN_LOSSES = 0.99  # single spikes do not squeeze all others
PANEL_HEIGHT = 130  # pixels
FEW_TICKS = 5  # of a logarithmic axis, which all have room for words
AXIS_WIDTH = 40  # pixels; the same in both plots, so that they stand below one another
DICE_RANGE = (-0.08, 1.08)  # a little more than there can be, so that 0 and 1 are seen
NOTHING_YET = "The curves of the training appear here."
NO_VALIDATION = (
    "No validation image: set one image to “validation” to see here how well the model does on images "
    "that it does not learn from."
)
VALIDATION_TO_COME = "Dice of the validation images: the first validation is yet to come."


class CurvesPlot(QWidget):
    """Loss above, Dice of the validation images below, over minutes or steps.

    Nothing is drawn while the widget is hidden.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history = History()
        self.class_colours: dict[str, str] = {}
        self._panels: tuple[PlotWidget, PlotWidget] | None = None
        self._expects_validation = False
        self._begins_anew = True
        self.redraws = 0
        """The number of times that the curves were drawn."""
        self._timer = rest_timer(self, REDRAW_DELAY, self._redraw)
        self.loss_caption = sentence()
        self.loss_caption.setToolTip("Mean loss over the last points. The faint points are single reports.")
        self.dice_caption = sentence()
        self.dice_caption.setToolTip(
            "Dice of the last validation, from 0 to 1: how well the model's labels cover those that were "
            "painted. The star is the best validation, whose weights are kept."
        )
        self.sentence = sentence(NOTHING_YET)
        self.along = QComboBox()
        for name in ("minutes", "steps"):
            self.along.addItem(name, name)
        self.along.setToolTip(
            "What the horizontal axis counts: minutes of training, or steps of the optimiser."
        )
        self.logarithmic = QCheckBox("log loss")
        self.logarithmic.setToolTip("Show the loss on a logarithmic axis.")
        self.along.currentIndexChanged.connect(lambda _: self._draw_soon(anew=True))
        self.logarithmic.toggled.connect(lambda _: self._draw_soon(anew=True))
        self._lay_out()
        self._arrange()

    def _lay_out(self) -> None:
        self._controls = QWidget()
        row = QHBoxLayout(self._controls)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.logarithmic)
        row.addStretch(1)
        row.addWidget(self.along)
        row.addStretch(1)
        # As wide as the box on the left, so that the axis has its name in the middle.
        row.addSpacing(self.logarithmic.sizeHint().width())
        column(self, self.loss_caption, self.dice_caption, self._controls, self.sentence).setSpacing(2)

    # What is reported

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one report, as a line of a log.jsonl has it."""
        self._history.add([record])
        self._draw_soon()

    def load(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        """Show the lines of a log.jsonl, or nothing, instead of what is shown."""
        self._history = History()
        self._history.add(records)
        self._draw_soon(anew=True)

    def expect_validation(self, expected: bool) -> None:
        """Say whether there are validation images, until there is a validation."""
        self._expects_validation = expected
        self._draw_soon()

    def set_class_colours(self, colours: Mapping[str, str]) -> None:
        """Set the colours "#rrggbb" of the classes by name; others have those of the palette."""
        self.class_colours = dict(colours)
        self._draw_soon()

    # Drawing

    def _draw_soon(self, anew: bool = False) -> None:
        """Draw once the delay is over, with all that has come until then; `anew`: on cleared panels."""
        self._begins_anew |= anew
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        self._draw_soon()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._draw_soon(anew=True)

    def _redraw(self) -> None:
        self.redraws += 1
        self._arrange()
        if self._panels is None or not self._has_anything:
            return
        ink, axis = ink_of(self), self.along.currentData()
        loss, dice = self._panels
        for panel in self._panels:
            if self._begins_anew:
                self._clear(panel, axis, ink, is_loss=panel is loss)
            panel.setXRange(0, self._history.end(axis) or 1.0, padding=0.03)
        self._begins_anew = False
        self._draw_loss(loss, axis, ink)
        self._draw_dice(dice, axis, ink)

    @property
    def _has_anything(self) -> bool:
        return bool(self._history.losses or self._history.validations)

    def _arrange(self) -> None:
        """Show the parts that there is something for; the panels are made when they are first needed."""
        has_dice = bool(self._history.validations)
        if self._has_anything and self._panels is None:
            self._panels = self._made_panels()
        if self._panels is not None:
            loss, dice = self._panels
            loss.setVisible(self._has_anything)
            dice.setVisible(has_dice)
        for widget in (self.loss_caption, self._controls):
            widget.setVisible(self._has_anything)
        self.dice_caption.setVisible(has_dice)
        self.sentence.setVisible(not has_dice)
        without = VALIDATION_TO_COME if self._expects_validation else NO_VALIDATION
        self.sentence.setText(without if self._has_anything else NOTHING_YET)

    def _made_panels(self) -> tuple[PlotWidget, PlotWidget]:
        # Importing pyqtgraph takes some tenths of a second.
        from pyqtgraph import PlotWidget

        loss, dice = (PlotWidget(self, enableMenu=False) for _ in range(2))
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        for panel, caption in ((loss, self.loss_caption), (dice, self.dice_caption)):
            # The mouse goes through, so that the wheel scrolls what the plots stand in.
            panel.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            panel.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            panel.setMinimumHeight(PANEL_HEIGHT)
            panel.hideButtons()
            menu = panel.plotItem.ctrlMenu
            menu.setParent(panel, menu.windowFlags())  # else a window of its own, which nobody closes
            panel.showGrid(x=True, y=True, alpha=0.2)
            panel.getAxis("left").setWidth(AXIS_WIDTH)
            layout.insertWidget(layout.indexOf(caption) + 1, panel, 1)
        loss.getAxis("left").logTickStrings = log_words
        return loss, dice

    def _clear(self, panel: PlotWidget, axis: Along, ink: Ink, is_loss: bool) -> None:
        """Leave nothing in a panel but its axes, and lines where the run was resumed."""
        panel.clear()
        panel.setBackground(ink.background)
        if is_loss:
            panel.setLogMode(y=self.logarithmic.isChecked())
            panel.enableAutoRange(y=SHOWN_LOSSES)
        else:
            panel.setYRange(*DICE_RANGE, padding=0)
        for side in ("left", "bottom"):
            panel.getAxis(side).setPen(ink.faint)
            panel.getAxis(side).setTextPen(ink.text)
        for moment in self._history.resumed:
            # Words would overlap: the last line alone has one.
            is_named = is_loss and moment is self._history.resumed[-1]
            panel.addLine(
                x=moment.along(axis),
                pen={"color": ink.faint, "style": Qt.PenStyle.DashLine},
                label="resumed" if is_named else None,
                labelOpts={"position": 0.92, "anchors": [(0, 0.5), (1, 0.5)], "color": ink.faint},
            )

    def _draw_loss(self, panel: PlotWidget, axis: Along, ink: Ink) -> None:
        losses = np.array(self._history.losses)
        self.loss_caption.setText("<b>Loss</b>")
        if not len(losses):
            return
        smooth, shown = smoothed(losses), thinned(len(losses), MOST_POINTS)
        self.loss_caption.setText(f"<b>Loss</b> &nbsp;{_line(ink.accent)} {smooth[-1]:.3g}")
        x = self._history.along(axis)[shown]
        reports, smooth = (np.maximum(values, LEAST_LOSS)[shown] for values in (losses, smooth))
        faint = mixed(ink.background, ink.accent, 0.4)
        _draw(panel, "reports", x, reports, pen=None, **_symbols(faint, 3))
        _draw(panel, "loss", x, smooth, pen={"color": ink.accent, "width": 2}, antialias=True)

    def _draw_dice(self, panel: PlotWidget, axis: Along, ink: Ink) -> None:
        validations, best = self._history.validations, self._history.best
        if not validations:
            return
        x = np.array([validation.moment.along(axis) for validation in validations])
        curves = self._dice_curves(ink)
        # The mean, which comes first, is drawn over the others.
        for name, y, colour in reversed(curves):
            pen = {"color": colour, "width": 2 if colour is ink.text else 1.2}
            _draw(panel, name, x, y, pen=pen, connect="finite", antialias=True, **_symbols(colour, 5))
        if best is not None:
            at = [best.moment.along(axis)]
            _draw(panel, "best", at, [best.mean], pen=None, **_symbols(ink.text, 14, "star"))
        self.dice_caption.setText(self._dice_words(curves, axis))

    def _dice_curves(self, ink: Ink) -> list[tuple[str, np.ndarray, QColor]]:
        """Name, values and colour: the mean, and the classes where there are several."""
        validations = self._history.validations
        names = list(dict.fromkeys(name for validation in validations for name in validation.dice))
        means = np.array([validation.mean for validation in validations])
        if len(names) == 1:
            return [(names[0], means, ink.text)]
        colours = dict(zip(names, default_colours(len(names)), strict=True)) | self.class_colours
        by_class = [
            (name, np.array([v.dice.get(name, np.nan) for v in validations]), ink.readable(colours[name]))
            for name in names
        ]
        return [("mean", means, ink.text), *by_class]

    def _dice_words(self, curves: list[tuple[str, np.ndarray, QColor]], axis: Along) -> str:
        """The last value of every curve in the curve's colour, and the best."""
        words = [
            f"{_line(colour)}&nbsp;{escape(name)}&nbsp;{y[-1]:.3f}"
            for name, y, colour in curves
            if np.isfinite(y[-1])
        ]
        best = self._history.best
        if best is not None:
            when = (
                f"{best.moment.minutes:.1f}&nbsp;min"
                if axis == "minutes"
                else f"step&nbsp;{best.moment.step}"
            )
            words.append(f"★&nbsp;best&nbsp;{best.mean:.3f} at&nbsp;{when}")
        return "<b>Dice</b> &nbsp;" + " &nbsp; ".join(words)


def _draw(panel: PlotWidget, name: str, x: ArrayLike, y: ArrayLike, **style: Any) -> None:
    """Draw a curve, or what has become of it: to change one takes a tenth of the time of making it."""
    there = [item for item in panel.listDataItems() if item.name() == name]
    if there:
        there[0].setData(x, y, **style)
    else:
        panel.plot(x, y, name=name, **style)


def log_words(exponents: Sequence[float], *_: object) -> list[str]:
    """Return the words at ticks of a logarithmic axis, no more than have room one above the other."""
    most = len(exponents)
    digits = "123456789" if most <= FEW_TICKS else "125" if most <= 3 * 9 else "1"
    values = [10.0**exponent for exponent in exponents]
    return [f"{value:.3g}" if f"{value:.3e}"[0] in digits else "" for value in values]


def _line(colour: QColor) -> str:
    """A short line as a legend has it."""
    return f'<span style="color:{colour.name()}"><b>━</b></span>'


def _symbols(colour: QColor, size: float, shape: str = "o") -> dict[str, Any]:
    return {"symbol": shape, "symbolSize": size, "symbolBrush": colour, "symbolPen": None}
