"""The time of a training run: how much is over, and what happened since the last report."""

from __future__ import annotations

import time
from dataclasses import dataclass

from swipe_core.training.reports import StepReport


@dataclass
class Clock:
    """Minutes of training, over all sessions of a run, and the budget of this one.

    Attributes
    ----------
    before
        Minutes of earlier sessions.
    budget
        Minutes that this session may take, or None.
    start
        `time.monotonic` at the start of this session.
    """

    before: float
    budget: float | None
    start: float

    @property
    def minutes(self) -> float:
        """Of the whole run so far."""
        return self.before + (time.monotonic() - self.start) / 60

    def share(self) -> float:
        """How much of the time is over, in [0, 1]; 0 without a budget."""
        return 0.0 if self.budget is None else min(1.0, self.minutes / (self.before + self.budget))

    def minutes_left(self, needed: float) -> float:
        """Until the budget ends, or until the steps do, for which `needed` minutes are expected."""
        if self.budget is None:
            return needed
        return min(needed, max(0.0, self.before + self.budget - self.minutes))

    def is_over(self, reserve: float) -> bool:
        """Whether the budget ends within `reserve` minutes, which the last validation needs."""
        return self.budget is not None and self.minutes + reserve >= self.before + self.budget


class LogWindow:
    """The means over the steps since the last report."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.seconds, self.steps, self.images = 0.0, 0, 0
        self.sums: dict[str, float] = {}

    def add(self, losses: dict[str, float], images: int, seconds: float) -> None:
        """One step over so many images, in all processes, that took `seconds`, waiting for them included."""
        self.seconds += seconds
        self.steps += 1
        self.images += images
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def report(self, step: int, steps: int, rate: float, minutes: float) -> StepReport:
        """Report on the steps so far, of which there is at least one, and begin anew."""
        means = {name: total / self.steps for name, total in self.sums.items()}
        speed = self.images / max(self.seconds, 1e-9)
        self._reset()
        return StepReport(step, steps, means, rate, minutes, speed)
