"""Telling DICOM files from others by a glance, without any library."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

LOOKED_AT = 64  # files of a folder; scanners put nothing but DICOM into theirs
MARK, MARK_PLACE = b"DICM", 128


def is_dicom(path: Path) -> bool:
    """Whether a file is called .dcm, or has DICOM's mark."""
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as file:
            file.seek(MARK_PLACE)
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Whether one of the first files of a folder is DICOM; False for what is no folder."""
    return folder.is_dir() and any(is_dicom(path) for path in itertools.islice(_files(folder), LOOKED_AT))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
