"""Telling DICOM files from others by a glance, without any library."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

# What files of DICOM are called, if they have a suffix at all; all but the first only go by their content.
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
LOOKED_AT = 64  # files of a folder; scanners put nothing but DICOM into theirs
MARK, MARK_PLACE = b"DICM", 128
# How files begin that have no mark, as before 1993: the first elements of a data set, in little endian.
BARE_BEGINNING = re.compile(rb"\x08\x00[\x00\x01\x05\x08\x16\x18]\x00(UL|CS|UI|[\x02-\x40]\x00\x00\x00)")


def is_dicom(path: Path) -> bool:
    """Whether a file is called .dcm, or has DICOM's mark, or begins as DICOM does without one."""
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as file:
            start = file.read(MARK_PLACE + len(MARK))
    except OSError:
        return False
    return start[MARK_PLACE:] == MARK or BARE_BEGINNING.match(start) is not None


def holds_dicom(folder: Path) -> bool:
    """Whether one of the first files of a folder is DICOM; False for what is no folder."""
    return folder.is_dir() and any(is_dicom(path) for path in itertools.islice(_files(folder), LOOKED_AT))


def holds_dicom_inside(folder: Path) -> bool:
    """Whether a folder, or one of the first folders inside it, holds DICOM."""
    folders = itertools.islice(os.walk(folder), LOOKED_AT)
    return any(holds_dicom(Path(inside)) for inside, _, _ in folders)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
