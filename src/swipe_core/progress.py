"""Long work as generators: they yield reports and return a result, so that cancelling is just stopping."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
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


def map_reports(
    work: Generator[Any, None, Result], change: Callable[[Any], Any]
) -> Generator[Any, None, Result]:
    """Work that is a piece of larger work: yields what `change` makes of each report, unless it is None."""
    with closing(work):
        while True:
            try:
                report = next(work)
            except StopIteration as end:
                return end.value
            changed = change(report)
            if changed is not None:
                yield changed


def with_progress(
    work: Generator[Any, None, Result], progress: Progress
) -> Generator[Progress | Notice, None, Result]:
    """A piece of larger work, which has come so far: yields the notices, and `progress` at every other step.

    So whoever wants to stop is asked often, and need not wait for the piece to end.
    """
    return map_reports(work, lambda report: report if isinstance(report, Notice) else progress)


def nested_progress(
    work: Generator[Any, None, Result], number: int, count: int
) -> Generator[Progress | Notice, None, Result]:
    """One of `count` pieces of the same kind, from 0 on, with its progress as a part of that of all."""

    def of_all(report: Progress | Notice) -> Progress | Notice:
        if isinstance(report, Notice):
            return report
        return replace(report, done=number * report.total + report.done, total=count * report.total)

    return map_reports(work, of_all)


def only_notices(work: Generator[Any, None, Result]) -> Generator[Notice, None, Result]:
    """Work that is a piece of larger work: its notices are passed on, its progress is not."""
    return map_reports(work, lambda report: report if isinstance(report, Notice) else None)


class EachNoticeOnce:
    """A filter for `map_reports`: passes on all reports but the notices that went through it before."""

    def __init__(self) -> None:
        self._known: set[Notice] = set()

    def __call__(self, report: Any) -> Any:
        if not isinstance(report, Notice):
            return report
        is_new = report not in self._known
        self._known.add(report)
        return report if is_new else None
