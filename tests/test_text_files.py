"""Text files are UTF-8, here and on systems whose own encoding is another: every call names it.

ruff's own rule sees `open`, but not the methods of what it does not know to be a path.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = {"read_text": 0, "write_text": 1}  # of the encoding among the arguments of a path's methods


def calls_without_encoding(source: str) -> Iterator[int]:
    """The lines of calls that leave the encoding of a text file to the system."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        place = PLACES.get(node.func.attr)
        named = {keyword.arg for keyword in node.keywords}
        if place is not None and len(node.args) <= place and "encoding" not in named:
            yield node.lineno


def test_every_text_file_is_read_and_written_as_utf_8():
    sources = [path for name in ("src", "scripts", "tests") for path in (ROOT / name).rglob("*.py")]
    assert len(sources) > 300
    found = {path: list(calls_without_encoding(path.read_text("utf-8"))) for path in sources}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('path.read_text("utf-8")', 0),
        ('path.write_text(text, encoding="utf-8")', 0),
        ("path.read_text()", 1),
        ("path.write_text(text)", 1),
    ],
)
def test_a_call_that_leaves_it_to_the_system_is_found(source, count):
    assert len(list(calls_without_encoding(source))) == count
