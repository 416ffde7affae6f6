"""The running of a training: its buttons, how far it is and how long it still takes, and its curves."""

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QProgressBar, QPushButton, QWidget

from napari_swipe.qt.layouts import column, duration, sentence
from napari_swipe.train.curves import CurvesPlot

NOTHING, RUNNING, PAUSED, STOPPING = "nothing", "running", "paused", "stopping"
PARTS = 1000  # of the progress bar
BUTTONS = {
    "Train": "Write the project, and learn from it in a thread of its own.",
    "Pause": "Wait after this step, with everything saved.",
    "Stop": "End after this step. The best weights are kept, and Resume goes on from here.",
    "Resume": "Go on with the last round of this project, for the time that is set.",
    "Copy as command": "The line that does the same without a window, on the clipboard.",
}


class RoundPanel(QWidget):
    """The buttons, the bar and the curves; `show_state` and `show_report` set what they show."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = NOTHING
        self.train, self.pause, self.stop, self.resume, self.copy = map(QPushButton, BUTTONS)
        for button, tip in zip(
            (self.train, self.pause, self.stop, self.resume, self.copy), BUTTONS.values(), strict=True
        ):
            button.setToolTip(tip)
        self._bar = QProgressBar()
        self._bar.setRange(0, PARTS)
        self._words = sentence()
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.curves = CurvesPlot()
        buttons = QGridLayout()
        for place, button in enumerate((self.train, self.pause, self.stop, self.resume)):
            buttons.addWidget(button, 0, place)
        column(self, buttons, self._bar, self._words, self.curves, self.copy)
        self.show_state(NOTHING)

    @property
    def words(self) -> str:
        return self._words.text()

    def show_state(self, state: str, can_resume: bool = False) -> None:
        """Show a state, and enable the buttons that can be pressed in it."""
        self.state = state
        runs = state in (RUNNING, PAUSED)
        self.train.setEnabled(state == NOTHING)
        self.resume.setEnabled(state == NOTHING and can_resume)
        self.pause.setEnabled(runs)
        self.pause.setText("Go on" if state == PAUSED else "Pause")
        self.stop.setEnabled(runs)
        self._bar.setVisible(state != NOTHING)

    def begin(self) -> None:
        """A training begins."""
        self._bar.setRange(0, 0)
        self.say("Preparing …")

    def show_report(self, report: Any) -> None:
        """Show how far a training is, or what comes before and between its steps."""
        if self.state != RUNNING:
            return
        if report.stage != "Training":
            self._bar.setRange(0, report.total)
            self._bar.setValue(report.done)
            self.say(f"{report.stage}: {report.done} of {report.total}")
            return
        self._bar.setRange(0, PARTS)
        self._bar.setValue(round(PARTS * report.share))
        left = duration(60 * report.minutes_left)
        self.say(f"Step {report.done}, about {left} left" if report.minutes_left else "Coming to an end …")

    def say(self, words: str) -> None:
        """A sentence under the bar."""
        self._words.setText(words)
