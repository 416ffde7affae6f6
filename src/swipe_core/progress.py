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


@dataclass(frozen=True)
class Notice:
    """Something the user should know, in a sentence: the work goes on, but not quite as it was asked for."""

    message: str


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


def retold(work: Generator[Any, None, Result], tell: Callable[[Any], Any]) -> Generator[Any, None, Result]:
    """Work that is a piece of larger work: passes on what `tell` makes of each report, unless it is None."""
    with closing(work):
        while True:
            try:
                report = next(work)
            except StopIteration as end:
                return end.value
            told = tell(report)
            if told is not None:
                yield told


def only_notices(work: Generator[Any, None, Result]) -> Generator[Notice, None, Result]:
    """Work that is a piece of larger work: its notices are passed on, its progress is not."""
    return retold(work, lambda report: report if isinstance(report, Notice) else None)
