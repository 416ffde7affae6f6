"""Results as Markdown: a table for each section, and one of the ratios that hold beyond a machine's mood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tools.markdown import markdown_table


@dataclass(frozen=True)
class Table:
    """Cells under a header, and what a reader must know of them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ratio:
    """A figure without a unit."""

    what: str
    value: float
    decimals: int | None = None  # where three digits do not tell enough

    def __str__(self) -> str:
        return figure(self.value) if self.decimals is None else f"{self.value:.{self.decimals}f}"


@runtime_checkable
class Section(Protocol):
    """What was measured of one part of the program."""

    def table(self) -> Table:
        """All figures."""
        ...

    def ratios(self) -> tuple[Ratio, ...]:
        """Those that are no seconds and no bytes."""
        ...


def markdown(table: Table) -> str:
    """A table with aligned columns, its title above and its notes below."""
    lines = markdown_table(table.header, table.rows, left=len(table.header))
    notes = ["", *table.notes] if table.notes else []
    return "\n".join([f"## {table.title}", "", lines, *notes])


def ratio_table(sections: Sequence[tuple[str, Section]]) -> Table:
    """The ratios of all sections."""
    rows = [(name, ratio.what, str(ratio)) for name, each in sections for ratio in each.ratios()]
    return Table("Ratios", ("section", "what", "ratio"), tuple(rows))


def figure(value: float | None) -> str:
    """A number with three digits that count; a dash for None, a question mark where it is unknown."""
    if value is None:
        return "-"
    if math.isnan(value):
        return "?"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    decimals = 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}" if size >= 0.01 or size == 0 else f"{value:.2g}"


def percent(share: float | None) -> str:
    """A share of 1."""
    return "-" if share is None else f"{100 * share:.{0 if abs(share) >= 0.1 else 1}f} %"


def times(shape: Sequence[int]) -> str:
    """A shape as people write it."""
    return " x ".join(map(str, shape))
