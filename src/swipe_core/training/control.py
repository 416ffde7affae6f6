"""Requests to a run, to stop or to wait, from another thread; without torch, so that windows open at once."""

from dataclasses import dataclass


@dataclass
class RunControl:
    """What a run is asked to do, at any time, even before there is a trainer for it."""

    is_stopping: bool = False
    is_paused: bool = False

    def stop(self) -> None:
        """End after the step, or the validation case, in progress; what was learned is kept."""
        self.is_stopping = True

    def pause(self) -> None:
        """Wait after the step in progress, until `go_on` or `stop`."""
        self.is_paused = True

    def go_on(self) -> None:
        """End a pause."""
        self.is_paused = False
