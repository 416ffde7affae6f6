"""What a training run says while it goes on; scripts print it, widgets plot it, logs keep it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swipe_core.progress import Progress


@dataclass(frozen=True)
class TrainingProgress(Progress):
    """Steps that are done, of those that there are at most, and the time of this session.

    Attributes
    ----------
    minutes
        So far, without pauses.
    minutes_left
        Until the steps end or the time does, whichever comes first.
    """

    minutes: float
    minutes_left: float

    @property
    def share(self) -> float:
        """How much of this session is over, in [0, 1]."""
        whole = self.minutes + self.minutes_left
        return self.minutes / whole if whole else 1.0


@dataclass(frozen=True)
class StepReport:
    """One optimiser step, or the mean over the steps since the last report.

    Attributes
    ----------
    losses
        The terms of `swipe_core.training.losses.LossTerms` by name.
    minutes
        Training time so far, over all sessions of a resumed run.
    images_per_second
        Over the steps of this report.
    """

    step: int
    steps: int
    losses: dict[str, float]
    learning_rate: float
    minutes: float
    images_per_second: float


@dataclass(frozen=True)
class ValidationReport:
    """Real inference on the validation cases.

    Attributes
    ----------
    dice
        Mean Dice over the cases, by class name.
    mean_dice
        Mean of these.
    is_best
        Whether this is the best mean so far, and so what best.safetensors holds.
    """

    step: int
    minutes: float
    dice: dict[str, float]
    mean_dice: float
    is_best: bool


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes
    ----------
    finished
        False where time ran out before the steps did, or the run was stopped; `--resume` goes on.
    best, last
        Checkpoint files; `best` is None without validation cases.
    stopped
        Whether it ended because it was asked to.
    """

    step: int
    minutes: float
    best_dice: float | None
    finished: bool
    best: Path | None
    last: Path
    stopped: bool = False


def as_record(report: StepReport | ValidationReport) -> dict[str, Any]:
    """A line of log.jsonl."""
    kind = "step" if isinstance(report, StepReport) else "validation"
    return {"kind": kind, **asdict(report)}
