"""Asking a run to stop or to wait, from another thread; without torch, for windows to have it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swipe_core.training.runner import Trainer


class RunControl:
    """Stops a run, or lets it wait, at any time, even before there is a trainer for it."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._stop_asked = self._pause_asked = False

    def stop(self) -> None:
        """End after the step in progress; what was learned is kept."""
        self._stop_asked = True
        if self._trainer is not None:
            self._trainer.stop()

    def pause(self) -> None:
        """Wait after the step in progress."""
        self._pause_asked = True
        if self._trainer is not None:
            self._trainer.pause()

    def go_on(self) -> None:
        """End a pause."""
        self._pause_asked = False
        if self._trainer is not None:
            self._trainer.go_on()

    @property
    def is_paused(self) -> bool:
        return self._pause_asked

    def attach(self, trainer: Trainer) -> None:
        """Hand over what was asked for so far."""
        self._trainer = trainer
        if self._pause_asked:
            trainer.pause()
        if self._stop_asked:
            trainer.stop()
