"""The header and the checksum of a MetaImage, which ITK reads with its eyes half shut."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from swipe_core.errors import ImageError

LONGEST_HEADER = 2**16  # bytes
BLOCK = 2**20
LAST_FIELD = "elementdatafile"
LOCAL = "local"
ITEMSIZES = {
    "met_char": 1,
    "met_uchar": 1,
    "met_short": 2,
    "met_ushort": 2,
    "met_int": 4,
    "met_uint": 4,
    "met_long": 4,
    "met_ulong": 4,
    "met_long_long": 8,
    "met_ulong_long": 8,
    "met_float": 4,
    "met_double": 8,
}


def check_metaimage(path: Path, *, unpack: bool = True) -> None:
    """See that a MetaImage's header is whole, and its voxels too where they lie in a single file.

    Parameters
    ----------
    unpack
        Look into compressed voxels, which takes about as long as reading them.

    Raises
    ------
    ImageError
        Otherwise.
    """
    fields, start = metaimage_fields(path)
    needed = _promised(path, fields)
    name = fields[LAST_FIELD]
    is_local = name.lower() == LOCAL
    if fields.get("binarydata", "true").lower() in ("false", "0"):
        return  # numbers as text, of any length
    if not is_local and (name.lower().startswith("list") or "%" in name):
        return  # many files, of which ITK sees to each
    data = path if is_local else path.parent / name
    if not data.is_file():
        raise ImageError(f"{path} says that its voxels are in {name}, which is not there; copy it too.")
    start = max(_whole(fields.get("headersize", "0")) or 0, start if is_local else 0)
    is_packed = fields.get("compresseddata", "").lower() in ("true", "1")
    if is_packed and not unpack:
        return
    found = _unpacked_size(data, start, needed) if is_packed else data.stat().st_size - start
    if found < needed:
        raise ImageError(
            f"{data} is damaged or cut short: it holds {max(found, 0)} of {needed} bytes of voxels; copy or "
            "export it again."
        )


def metaimage_fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields, by name in lower case, and where the voxels of the same file begin."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
    fields: dict[str, str] = {}
    place = 0
    for line in start.splitlines(keepends=True):
        place += len(line)
        name, found, value = line.decode("utf-8", "replace").partition("=")
        if not found:
            break
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == LAST_FIELD:
            return fields, place
    raise ImageError(
        f"{path} is damaged or not a MetaImage file: its header does not name what holds the voxels; export "
        "it again."
    )


def _promised(path: Path, fields: Mapping[str, str]) -> int:
    """Bytes of voxels that the header tells of."""
    sizes = [_whole(text) or 0 for text in fields.get("dimsize", "").split()]
    parts = _whole(fields.get("elementnumberofchannels", "1")) or 0
    itemsize = ITEMSIZES.get(fields.get("elementtype", "").lower().removesuffix("_array"), 0)
    needed = math.prod(sizes) * parts * itemsize
    if needed <= 0 or min(sizes) < 1 or len(sizes) != _whole(fields.get("ndims", "")):
        raise ImageError(
            f"{path} is damaged or not a MetaImage file: NDims, DimSize and ElementType of its header "
            "do not tell of voxels; export it again."
        )
    return needed


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None


def _unpacked_size(data: Path, start: int, needed: int) -> int:
    """Bytes behind `start` once they are decompressed; 0 where they are damaged or end too early.

    A few bytes may become any number of them: never more than a block is held, and what goes beyond the
    needed ones is not asked for.
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
