"""Seconds of works that take turns: the speed of a shared machine swings, and for all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from swipe_core.progress import Progress

Result = TypeVar("Result")
Work = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """What several works took, in every turn.

    Attributes
    ----------
    seconds
        By work, one number for each repeat; all works have equally many.
    """

    seconds: dict[str, tuple[float, ...]]

    def median(self, work: str) -> float:
        """Seconds of a work."""
        return statistics.median(self.seconds[work])

    def ratio(self, above: str, below: str) -> float:
        """How many times as long one work takes as another: the median over the repeats."""
        turns = zip(self.seconds[above], self.seconds[below], strict=True)
        return statistics.median(a / b for a, b in turns)


def take_turns(
    works: Mapping[str, Work], repeats: int, device: torch.device, stage: str, *, warm_up: bool = True
) -> Generator[Progress, None, Timings]:
    """Do all works in turn, again and again.

    Parameters
    ----------
    warm_up
        Do each once before it counts: first calls allocate memory and choose algorithms.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    total = len(works) * (repeats + warm_up)
    for turn in range(-int(warm_up), repeats):
        for index, (name, work) in enumerate(works.items(), start=1):
            took, _ = timed(work, device)
            if turn >= 0:
                seconds[name].append(took)
            yield Progress(stage, (turn + warm_up) * len(works) + index, total)
    return Timings({name: tuple(each) for name, each in seconds.items()})


def timed(work: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """Seconds of a work, until the device is done with it, and its result."""
    synchronise(device)
    start = time.perf_counter()
    result = work()
    synchronise(device)
    return time.perf_counter() - start, result


def synchronise(device: torch.device) -> None:
    """Wait for all that a GPU was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
