"""The progress of long work, and the button that stops it."""

import time
from collections.abc import Callable, Generator
from typing import Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QWidget

from napari_swipe.qt.layouts import beside, column, sentence
from napari_swipe.qt.task import Task
from napari_swipe.qt.units import duration
from swipe_core.progress import Notice, Progress


class TaskBar(QWidget):
    """One task at a time: what it does, how far it is, how long it still takes, and Cancel."""

    became_busy = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._task: Task | None = None
        self._stage, self._stage_started = "", 0.0
        self._bar = QProgressBar()
        self._bar.setTextVisible(True)
        self._cancel = QPushButton("Cancel")
        self._cancel.setToolTip("Stop at once. Layers that are finished stay as they are.")
        self._cancel.clicked.connect(self.cancel)
        self._words = sentence()
        row = beside(self._bar, self._cancel)
        column(self, row, self._words)
        self._show_running(False)

    @property
    def is_busy(self) -> bool:
        return self._task is not None

    def say(self, words: str) -> None:
        """A sentence under the bar."""
        self._words.setText(words)

    def run(
        self, work: Generator[Any, None, Any], title: str, on_done: Callable[[Any], object]
    ) -> Task | None:
        """Start work and show it to its end; None, and a word to the user, where something runs already."""
        if self._task is not None:
            show_warning("One thing at a time: wait for what is running, or cancel it.")
            return None
        task = Task(work)
        self._task, self._stage = task, ""
        task.reported.connect(self._on_report)
        task.finished.connect(lambda _: self._end(""))
        task.failed.connect(self._on_failure)
        task.cancelled.connect(lambda: self._end("Cancelled."))
        # After the bar's own slot, which makes it free for what comes next.
        task.finished.connect(on_done)
        self._bar.setRange(0, 0)
        self._bar.setFormat(title)
        self.say(f"{title} …")
        self._show_running(True)
        task.start()
        return task

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def abandon(self) -> None:
        """Cancel without a word to widgets, which may be gone already."""
        if self._task is not None:
            self._task.abandon()
            self._task = None

    def _on_report(self, report: object) -> None:
        if isinstance(report, Notice):
            show_info(report.message)
        elif isinstance(report, Progress):
            if report.stage != self._stage:
                self._stage, self._stage_started = report.stage, time.monotonic()
            self._bar.setRange(0, report.total)
            self._bar.setValue(report.done)
            self._bar.setFormat("%p %")
            self.say(f"{report.stage}{self._left(report)}")

    def _left(self, report: Progress) -> str:
        """The time that is left, once there is enough to judge by."""
        over = time.monotonic() - self._stage_started
        if not report.done or over < 2:
            return ""
        return f", about {duration(over * (report.total - report.done) / report.done)} left"

    def _on_failure(self, reason: str) -> None:
        self._end(reason)
        show_error(reason)

    def _end(self, words: str) -> None:
        self._task = None
        self.say(words)
        self._show_running(False)

    def _show_running(self, running: bool) -> None:
        self._bar.setVisible(running)
        self._cancel.setVisible(running)
        self.became_busy.emit(running)
