"""A core generator in a thread: its reports, its result or its failure come back as signals."""

import logging
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from swipe_core.errors import SwipeError

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
