"""The curves of a training that goes on: its loss, and the Dice of its validations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QColor, QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_swipe.qt.theme import Ink, ink_of, mixed
from napari_swipe.qt.ticks import log_ticks
from napari_swipe.train.history import Along, History, smoothed, thinned
from swipe_core.pictures.overlays import default_colours

if TYPE_CHECKING:
    from napari_swipe.train.curve_panel import CurvePanel

REDRAW_DELAY = 250  # milliseconds: at most four redraws a second
MOST_POINTS = 500  # of a curve: a dock has about as many pixels
LEAST_LOSS = 1e-6  # what a logarithmic axis shows of a loss of 0
PANEL_HEIGHT = 130  # pixels
ROOM_FOR_WORDS = 0.22  # of the horizontal axis
DICE_RANGE = (-0.08, 1.08)  # a little more than there can be, so that 0 and 1 are seen
DICE_TICKS = [(tenths / 10, f"{tenths / 10:.1f}") for tenths in range(0, 11, 2)]
NOTHING_YET = "The curves of the training appear here."
NO_VALIDATION = (
    "No validation image: set one image to “validation” to see here how well the model does on images "
    "that it does not learn from."
)
VALIDATION_TO_COME = "Dice of the validation images: the first validation is yet to come."


class CurvesPlot(QWidget):
    """Loss above, Dice of the validation images below, over minutes or steps.

    Nothing is drawn while the widget is hidden. Minutes and steps are those of the whole run: whoever shows
    several rounds in one plot counts on, and calls `mark` between them.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._history = History()
        self.class_colours: dict[str, str] = {}
        self._panels: tuple[CurvePanel, CurvePanel] | None = None
        self._expects_validation = False
        self.redraws = 0
        """How often the curves were drawn."""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW_DELAY)
        self._timer.timeout.connect(self._redraw)
        self.loss_caption = QLabel()
        self.loss_caption.setToolTip("Mean loss over the last points. The faint points are single reports.")
        self.dice_caption = QLabel()
        self.dice_caption.setToolTip(
            "Dice of the last validation, from 0 to 1: how well the model's labels cover those that were "
            "painted. The star is the best validation, whose weights are kept."
        )
        self.sentence = QLabel(NOTHING_YET)
        for label in (self.loss_caption, self.dice_caption, self.sentence):
            label.setWordWrap(True)
        self.along = QComboBox()
        for name in ("minutes", "steps"):
            self.along.addItem(name, name)
        self.along.setToolTip(
            "What the horizontal axis counts: minutes of training, or steps of the optimiser."
        )
        self.logarithmic = QCheckBox("log loss")
        self.logarithmic.setToolTip("Show the loss on a logarithmic axis.")
        self.along.currentIndexChanged.connect(lambda _: self._draw_soon())
        self.logarithmic.toggled.connect(lambda _: self._draw_soon())
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
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in (self.loss_caption, self.dice_caption, self._controls, self.sentence):
            layout.addWidget(widget)

    # What is told

    def add_step(self, minutes: float, step: int, loss: float) -> None:
        """One report of the loss."""
        self._history.add_step(minutes, step, loss)
        self._draw_soon()

    def add_validation(
        self, minutes: float, step: int, dice: Mapping[str, float], mean: float, is_best: bool
    ) -> None:
        """One validation: Dice by class name, their mean, and whether it is the best so far."""
        self._history.add_validation(minutes, step, dice, mean, is_best)
        self._draw_soon()

    def load(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Show the lines of a log.jsonl instead of what is shown."""
        self._history = History()
        self._history.add_records(records)
        self._draw_soon()

    def clear(self) -> None:
        """Forget everything that was told."""
        self._history = History()
        self._draw_soon()

    def expect_validation(self, expected: bool) -> None:
        """Whether there are validation images: what the sentence says until there is a validation."""
        self._expects_validation = expected
        self._draw_soon()

    def set_class_colours(self, colours: Mapping[str, str]) -> None:
        """Colours "#rrggbb" of the classes by name; others have those of the palette."""
        self.class_colours = dict(colours)
        self._draw_soon()

    # Drawing

    def _draw_soon(self) -> None:
        """Draw once the delay is over, with all that has come until then."""
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        self._draw_soon()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._draw_soon()

    def _redraw(self) -> None:
        self.redraws += 1
        self._arrange()
        if self._panels is None or not self._has_anything:
            return
        loss, dice = self._panels
        ink, axis = ink_of(self), self.along.currentData()
        end = self._history.end(axis)
        for panel in (loss, dice):
            panel.set_ink(ink)
            panel.begin()
            self._draw_marks(panel, axis, ink, with_text=panel is loss)
        self._draw_loss(loss, axis, end, ink)
        self._draw_dice(dice, axis, end, ink)
        for panel in (loss, dice):
            panel.finish()

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

    def _made_panels(self) -> tuple[CurvePanel, CurvePanel]:
        # Importing pyqtgraph takes some tenths of a second.
        from napari_swipe.train.curve_panel import CurvePanel

        loss, dice = CurvePanel(self), CurvePanel(self)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        for panel, caption in ((loss, self.loss_caption), (dice, self.dice_caption)):
            panel.setMinimumHeight(PANEL_HEIGHT)
            layout.insertWidget(layout.indexOf(caption) + 1, panel, 1)
        return loss, dice

    def _draw_marks(self, panel: CurvePanel, axis: Along, ink: Ink, *, with_text: bool) -> None:
        places = [moment.along(axis) for moment, _ in self._history.marks]
        # Words need room: of marks that stand close together the last has its word.
        following = [*places[1:], math.inf]
        room = ROOM_FOR_WORDS * self._history.end(axis)
        for number, (_, text) in enumerate(self._history.marks):
            is_named = with_text and following[number] - places[number] > room
            panel.mark(f"mark {number}", places[number], ink.faint, text if is_named else "")

    def _draw_loss(self, panel: CurvePanel, axis: Along, end: float, ink: Ink) -> None:
        losses = np.array(self._history.losses)
        is_log = self.logarithmic.isChecked()
        if not len(losses):
            panel.set_range(end, 0, 1)
            self.loss_caption.setText("<b>Loss</b>")
            return
        smooth = smoothed(losses)
        self.loss_caption.setText(f"<b>Loss</b> &nbsp;{_line(ink.accent)} {smooth[-1]:.3g}")
        if is_log:
            losses, smooth = (np.log10(np.maximum(values, LEAST_LOSS)) for values in (losses, smooth))
        shown = thinned(len(losses), MOST_POINTS)
        x = self._history.along(axis)[shown]
        low, high = _loss_range(losses, smooth, is_log)
        panel.set_range(end, low, high, log_ticks(low, high) if is_log else None)
        panel.points("reports", x, losses[shown], mixed(ink.background, ink.accent, 0.4), size=3)
        panel.line("loss", x, smooth[shown], ink.accent, width=2)

    def _draw_dice(self, panel: CurvePanel, axis: Along, end: float, ink: Ink) -> None:
        validations, best = self._history.validations, self._history.best
        if not validations:
            return
        x = np.array([validation.moment.along(axis) for validation in validations])
        curves = self._dice_curves(ink)
        panel.set_range(end, *DICE_RANGE, DICE_TICKS)
        # The mean, which comes first, is drawn over the others.
        for number, (_, y, colour) in reversed(list(enumerate(curves))):
            known = np.isfinite(y)
            panel.line(f"line {number}", x[known], y[known], colour, width=1.2 if number else 2)
            panel.points(f"points {number}", x[known], y[known], colour, size=5)
        if best is not None:
            panel.points("best", [best.moment.along(axis)], [best.mean], ink.text, size=14, symbol="star")
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


def _line(colour: QColor) -> str:
    """A short line as a legend has it."""
    return f'<span style="color:{colour.name()}"><b>━</b></span>'


def _loss_range(losses: np.ndarray, smooth: np.ndarray, is_log: bool) -> tuple[float, float]:
    """Least and greatest shown value: single spikes do not squeeze all others."""
    low, high = np.percentile(losses, (0.5, 99.5))
    low, high = min(float(low), float(smooth.min())), max(float(high), float(smooth.max()))
    margin = 0.06 * (high - low) or 0.1
    return (low - margin if is_log else max(0.0, low - margin)), high + margin
