"""What the text of NRRD and MetaImage headers states, and ITK does not hand on."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from swipe_core.errors import ImageError

LONGEST_HEADER = 2**20  # bytes
BLOCK = 2**20
PATIENT = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
ANATOMICAL_SPACES = {
    name
    for space in PATIENT
    for full in (space, f"{space}-time")
    for name in (full, "".join(word[0] for word in full.split("-")))  # and "ras", "rast"
}
SCANNER_SPACES = {"scanner-xyz", "scanner-xyz-time"}
DATA_FILE = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=.*\n?", re.MULTILINE | re.IGNORECASE)


def nrrd_fields(path: Path) -> dict[str, str]:
    """Return the fields of an NRRD's header, by name in lower case."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER).replace(b"\r\n", b"\n")
    return _fields(start.split(b"\n\n", 1)[0], ": ")


def metaimage_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a MetaImage's header, by name in lower case, and where it ends."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
    last = DATA_FILE.search(start)
    if last is None:
        raise ImageError(
            f"{path} is damaged or not a MetaImage file: its header does not name what holds the voxels; "
            "export it again."
        )
    return _fields(start[: last.end()], "="), last.end()


def _fields(header: bytes, separator: str) -> dict[str, str]:
    lines = header.decode("utf-8", "replace").splitlines()
    pairs = (line.partition(separator) for line in lines if not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, found, value in pairs if found}


def check_metaimage(path: Path, size: int) -> None:
    """See that a MetaImage has as many bytes of voxels as its header promises.

    Of compressed voxels that are damaged ITK reads what is left, and says nothing. What is in many files, in
    text or behind a foreign header is left to ITK.
    """
    fields, start = metaimage_fields(path)
    name = fields["elementdatafile"]
    is_local, flags = name.lower() == "local", ("true", "1")
    is_plain = fields.get("binarydata", "true").lower() in flags and fields.get("headersize", "0") == "0"
    if not is_plain or (not is_local and (name.lower().startswith("list") or "%" in name)):
        return
    data, start = (path, start) if is_local else (path.parent / name, 0)
    if not data.is_file():
        raise ImageError(f"{path} says that its voxels are in {name}, which is not there; copy it too.")
    is_packed = fields.get("compresseddata", "").lower() in flags
    found = _unpacked_size(data, start, size) if is_packed else data.stat().st_size - start
    if found < size:
        raise ImageError(
            f"{data} is damaged or cut short: it holds {max(found, 0)} of {size} bytes of voxels; copy or "
            "export it again."
        )


def _unpacked_size(data: Path, start: int, needed: int) -> int:
    """Count the bytes behind `start` once they are unpacked; 0 where they are damaged or end too early.

    A few bytes may become any number of them: never more than a block is held, and what goes beyond the
    needed ones is not unpacked.
    """
    stream, size = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with data.open("rb") as file:
        file.seek(start)
        try:
            while size <= needed and not stream.eof:
                packed = stream.unconsumed_tail or file.read(BLOCK)
                if not packed:
                    return 0
                size += len(stream.decompress(packed, BLOCK))
        except zlib.error:
            return 0
    return size


def restate_header(path: Path, changed: Mapping[bytes, bytes]) -> None:
    """Replace lines at the beginning of a file by others, once each."""
    content = path.read_bytes()
    for line, other in changed.items():
        content = content.replace(line, other, 1)
    path.write_bytes(content)
