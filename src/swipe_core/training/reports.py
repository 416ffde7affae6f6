"""The reports of a training run, which scripts print, widgets plot and logs keep; its clock, its control."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swipe_core.progress import Progress


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


@dataclass(frozen=True)
class TrainingProgress(Progress):
    """Steps that are done, of those that there are at most, and the time of this session."""

    minutes: float
    """So far, without pauses."""
    minutes_left: float
    """Until the steps end or the time does, whichever comes first."""

    @property
    def share(self) -> float:
        """How much of this session is over, in [0, 1]."""
        whole = self.minutes + self.minutes_left
        return self.minutes / whole if whole else 1.0


@dataclass(frozen=True)
class StepReport:
    """One optimiser step, or the mean over the steps since the last report."""

    step: int
    steps: int
    losses: dict[str, float]
    """The terms of `swipe_core.training.losses.LossTerms` by name."""
    learning_rate: float
    minutes: float
    """Training time so far, over all sessions of a resumed run."""
    images_per_second: float
    """Over the steps of this report."""


@dataclass(frozen=True)
class ValidationReport:
    """Real inference on the validation cases."""

    step: int
    minutes: float
    dice: dict[str, float]
    """Mean Dice over the cases, by class name."""
    mean_dice: float
    """Mean of these."""
    is_best: bool
    """Whether this is the best mean so far, and so what best.safetensors holds."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    step: int
    minutes: float
    best_dice: float | None
    finished: bool
    """False where time ran out before the steps did, or the run was stopped; `--resume` goes on."""
    best: Path | None
    last: Path
    """`best` and `last`: checkpoint files; `best` is None without validation cases."""
    stopped: bool = False
    """Whether it ended on request."""


def as_record(report: StepReport | ValidationReport) -> dict[str, Any]:
    """Return a report as a line of log.jsonl."""
    kind = "step" if isinstance(report, StepReport) else "validation"
    return {"kind": kind, **asdict(report)}


@dataclass
class Clock:
    """Minutes of training, over all sessions of a run, and the budget of this one."""

    before: float
    """Minutes of earlier sessions."""
    budget: float | None
    """Minutes that this session may take, or None."""
    start: float
    """`time.monotonic` at the start of this session."""

    @property
    def minutes(self) -> float:
        """Minutes of the whole run so far."""
        return self.before + (time.monotonic() - self.start) / 60

    def share(self) -> float:
        """Return how much of the time is over, in [0, 1]; 0 without a budget."""
        return 0.0 if self.budget is None else min(1.0, self.minutes / (self.before + self.budget))

    def minutes_left(self, needed: float) -> float:
        """Return minutes until the budget ends, or the steps, for which `needed` minutes are expected."""
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
        """Add a step over so many images of all processes, which took `seconds` with the wait for them."""
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
