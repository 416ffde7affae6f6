"""Long work as generators: they yield reports and return a result, so that cancelling is just stopping."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """`done` of `total` pieces of a stage named in the user's words."""

    stage: str
    done: int
    total: int


def finish(work: Generator[Any, None, Result], show: Callable[[Any], object] | None = None) -> Result:
    """Run a generator to its end and return its result; `show` gets what it reports.

    Where `show` raises, the generator is closed at once and not whenever it is collected.
    """
    with closing(work):
        while True:
            try:
                report = next(work)
            except StopIteration as end:
                return end.value
            if show is not None:
                show(report)
