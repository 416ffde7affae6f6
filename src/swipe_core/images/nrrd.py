"""What the text at the beginning of an NRRD file states, and ITK does not hand on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

LONGEST_HEADER = 2**20  # bytes
END = b"\n\n"
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
PATIENT = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
ANATOMICAL_SPACES = {
    name
    for space in PATIENT
    for full in (space, f"{space}-time")
    for name in (full, "".join(word[0] for word in full.split("-")))  # and "ras", "rast"
}
SCANNER_SPACES = {"scanner-xyz", "scanner-xyz-time"}


def nrrd_fields(path: Path) -> dict[str, str]:
    """The fields of a header, by name in lower case."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER).replace(b"\r\n", b"\n")
    lines = start.split(END, 1)[0].decode("utf-8", "replace").splitlines()
    pairs = (line.partition(": ") for line in lines if not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, found, value in pairs if found}


def quoted(text: str) -> list[str]:
    """The strings of a field such as ``"mm" "mm" "um"``."""
    return QUOTED.findall(text)


def restate_header(path: Path, changed: Mapping[bytes, bytes]) -> None:
    """Replace lines at the beginning of a file by others, once each."""
    content = path.read_bytes()
    for line, other in changed.items():
        content = content.replace(line, other, 1)
    path.write_bytes(content)
