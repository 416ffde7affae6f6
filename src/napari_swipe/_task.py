"""A core generator in a thread: its reports, its result or its failure come back as signals."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker, create_worker

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

    def __init__(self, work: Generator[Any, None, Any]) -> None:
        super().__init__()
        self._is_over = False
        self._worker: GeneratorWorker = create_worker(_guarded, work, _start_thread=False)
        self._worker.yielded.connect(self._on_report)
        self._worker.returned.connect(self._on_return)

    def start(self) -> None:
        self._worker.start()

    @property
    def is_running(self) -> bool:
        """Whether its outcome is still awaited."""
        return not self._is_over

    def cancel(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._worker.quit()
        self.cancelled.emit()

    def _on_report(self, report: object) -> None:
        if not self._is_over:
            self.reported.emit(report)

    def _on_return(self, outcome: object) -> None:
        if self._is_over:
            return
        self._is_over = True
        if isinstance(outcome, Failure):
            self.failed.emit(outcome.message)
        else:
            self.finished.emit(outcome)


def _guarded(work: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    """The work, with a failure as its result: an exception in a thread would end in napari's face."""
    try:
        with closing(work):
            return (yield from work)
    except SwipeError as error:
        return Failure(str(error))
    except MemoryError:
        return Failure("There is not enough memory for this: choose a lower resolution or a smaller region.")
    except Exception as error:
        logger.exception("long work failed")
        return Failure(f"This should not have happened ({type(error).__name__}: {error}); please report it.")
