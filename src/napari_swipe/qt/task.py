"""A core generator in a thread: its reports and outcome as signals, and the bar that shows and stops it."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QWidget
from superqt.utils import create_worker

from napari_swipe.qt.layouts import beside, column, duration, sentence
from swipe_core.errors import SwipeError
from swipe_core.progress import Notice, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why work came to nothing, in the user's words."""

    message: str


class Task(QObject):
    """One piece of long work. Every signal is emitted in the thread of the window.

    After `cancel` nothing is emitted but `cancelled`, at once: the thread itself ends at the next
    report of the core, and what it had made is dropped.
    """

    reported = Signal(object)
    """`Progress` or `Notice`."""
    finished = Signal(object)
    """The result."""
    failed = Signal(str)
    """The reason, in a sentence."""
    cancelled = Signal()

    _arrived = Signal(object)
    _ended = Signal(object)

    def __init__(self, work: Generator[Any, None, Any]) -> None:
        super().__init__()
        self._work = work
        self._is_over = False
        # Emitted in the thread, received in the window's.
        self._arrived.connect(self._on_report)
        self._ended.connect(self._on_end)

    def start(self) -> None:
        _running.add(self)
        create_worker(self._run, _start_thread=True)

    @property
    def is_running(self) -> bool:
        """Whether its outcome is still awaited."""
        return not self._is_over

    @property
    def has_thread(self) -> bool:
        """Whether its thread goes on, be it only to put things in order after `cancel` or `abandon`."""
        return self in _running

    def cancel(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.cancelled.emit()

    def abandon(self) -> None:
        """Cancel without telling anybody."""
        self._is_over = True

    def _run(self) -> None:
        """In the thread: iterate to the end, or until it is cancelled."""
        self._ended.emit(self._outcome())

    def _outcome(self) -> Any:
        """The result, or a `Failure`: an exception in a thread would end in the user's face."""
        try:
            with closing(self._work) as work:
                while not self._is_over:
                    try:
                        report = next(work)
                    except StopIteration as end:
                        return end.value
                    self._arrived.emit(report)
        except SwipeError as error:
            return Failure(str(error))
        except MemoryError:
            return Failure(
                "There is not enough memory for this: choose a lower resolution or a smaller region."
            )
        except Exception as error:
            logger.exception("long work failed")
            return Failure(
                f"This should not have happened ({type(error).__name__}: {error}); please report it."
            )
        return None

    def _on_report(self, report: object) -> None:
        if not self._is_over:
            self.reported.emit(report)

    def _on_end(self, outcome: object) -> None:
        _running.discard(self)
        if self._is_over:
            return
        self._is_over = True
        if isinstance(outcome, Failure):
            self.failed.emit(outcome.message)
        else:
            self.finished.emit(outcome)


_running: set[Task] = set()
"""Whoever started a task may be gone before its thread is."""


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
