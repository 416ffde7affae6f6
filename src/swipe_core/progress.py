"""Long work as generators: they yield reports and return a result, so that cancelling is just stopping."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """`done` of `total` pieces of a stage named in the user's words."""

    stage: str
    done: int
    total: int


def finish(work: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end and return its result, ignoring what it reports."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
