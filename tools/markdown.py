"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table, aligned in the text too: so many columns to the `left`, the numbers to the right."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [":" + "-" * (n - 1) if i < left else "-" * (n - 1) + ":" for i, n in enumerate(widths)]

    def aligned(line: Sequence[str]) -> list[str]:
        sized = enumerate(zip(line, widths, strict=True))
        return [cell.ljust(n) if i < left else cell.rjust(n) for i, (cell, n) in sized]

    return "\n".join("| " + " | ".join(aligned(line)) + " |" for line in (lines[0], rule, *lines[1:]))
