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


def finish_under_bar(
    work: Generator[Progress, None, Result], *, unit: str = "it", inner: bool = False
) -> Result:
    """`finish` under a progress bar in the terminal, which starts anew where a new stage does.

    Parameters
    ----------
    unit
        What one piece is.
    inner
        A bar below another one: it vanishes at its end, and only a terminal shows it.
    """
    from tqdm import tqdm  # here, because widgets have bars of their own

    with tqdm(unit=unit, dynamic_ncols=True, leave=not inner, disable=None if inner else False) as bar:

        def show(report: Progress) -> None:
            if report.total != bar.total or report.done < bar.n:
                bar.reset(report.total)
            bar.set_description(report.stage, refresh=False)
            bar.update(report.done - bar.n)
            bar.refresh()

        return finish(work, show)
