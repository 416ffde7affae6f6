"""The losses and validations of a training, and when it was resumed."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Along = Literal["minutes", "steps"]
MEANS_PER_CURVE = 40  # a smoothed curve averages over this part of its points


@dataclass(frozen=True)
class Moment:
    """A time of a training: its minutes, and the optimiser's step."""

    minutes: float
    step: int

    def along(self, axis: Along) -> float:
        return self.minutes if axis == "minutes" else float(self.step)


@dataclass(frozen=True)
class Validation:
    """Dice of one validation, by class name and as their mean."""

    moment: Moment
    dice: Mapping[str, float]
    mean: float


@dataclass
class History:
    """Losses and validations in the order in which they came, and the moments at which a run was resumed."""

    moments: list[Moment] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    resumed: list[Moment] = field(default_factory=list)
    best: Validation | None = None
    """The validation that was reported as the best so far."""

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add lines of a log.jsonl, in the order of the file; a loss that is not finite cannot be drawn."""
        for record in records:
            kind, step, minutes = record.get("kind"), record["step"], record.get("minutes", 0.0)
            if kind == "step" and math.isfinite(record["losses"]["total"]):
                self.moments.append(Moment(minutes, step))
                self.losses.append(record["losses"]["total"])
            elif kind == "validation":
                self.validations.append(
                    Validation(Moment(minutes, step), record["dice"], record["mean_dice"])
                )
                self.best = self.validations[-1] if record["is_best"] else self.best
            elif kind == "session" and self.moments:
                self.resumed.append(Moment(self.moments[-1].minutes, step))

    def along(self, axis: Along) -> np.ndarray:
        """Return the places of the losses on the horizontal axis."""
        return np.array([moment.along(axis) for moment in self.moments], float)

    def end(self, axis: Along) -> float:
        """Return the end of the horizontal axis."""
        last = [*self.moments[-1:], *(v.moment for v in self.validations[-1:]), *self.resumed]
        return max((moment.along(axis) for moment in last), default=0.0)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return each value as the mean of its neighbours: up to half a window on each side.

    The same number on both sides, so that a straight line stays one up to its ends.
    """
    half = len(values) // (2 * MEANS_PER_CURVE)
    index = np.arange(len(values))
    reach = np.minimum(half, np.minimum(index, len(values) - 1 - index))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


def thinned(count: int, most: int) -> np.ndarray:
    """Return indices of at most `most` of so many points, evenly, the last among them."""
    stride = max(1, -(-count // most))
    return np.arange(count - 1, -1, -stride)[::-1]
