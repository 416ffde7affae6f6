"""Names of layers as names of files, which every system takes and which stay apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from itertools import chain, count

LONGEST = 120  # bytes in UTF-8: the systems allow 255, of which frames, endings and drafts need some
FRAME_DIGITS = 4
FRAMES = re.compile(rf"(?:_\d{{{FRAME_DIGITS},}})+")
FOREIGN = re.compile(r"[^\w -]+")
RESERVED = re.compile(r"(con|prn|aux|nul|conin|conout|(com|lpt)[0-9¹²³])", re.IGNORECASE)
# Endings of images, which a layer often has in its name.
ENDINGS = re.compile(r"\.(ome\.tiff?|tiff?|nii\.gz|nii|png|jpe?g|bmp|nrrd|nhdr|mha|mhd|dcm)$", re.IGNORECASE)


def file_name(text: str) -> str:
    """Return a name without an ending that is legal on Windows, macOS and Linux, for any text.

    Letters of all alphabets stay, in Unicode's composed form. There is no dot in it, so what follows the
    first one in the name of a file is its ending. A name of this kind becomes itself.
    """
    plain = FOREIGN.sub("_", ENDINGS.sub("", unicodedata.normalize("NFC", text)))
    short = plain.strip(" _-").encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore").rstrip(" _-")
    if not short:
        return "image"
    return f"{short}-1" if RESERVED.fullmatch(short) else short


def free_name(text: str, taken: Collection[str]) -> str:
    """Return a name for `text` whose cases can be mistaken for those of no other name, whatever their case.

    Parameters
    ----------
    taken
        Names of other pairs, or the stems of files.
    """
    name = file_name(text)
    candidates = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(each for each in candidates if not any(_is_shared(each, other) for other in taken))


def case_name(pair: str, frame: Sequence[int] = ()) -> str:
    """Return the stem of a frame's files: ``"cells"``, or ``"movie_0007"``."""
    return "_".join((pair, *(f"{index:0{FRAME_DIGITS}d}" for index in frame)))


def frame_of(pair: str, stem: str) -> tuple[int, ...] | None:
    """Return the frame whose files have a stem: the inverse of `case_name`; None for stems of other pairs."""
    stem = unicodedata.normalize("NFC", stem)
    rest = stem.removeprefix(pair)
    if not stem.startswith(pair) or (rest and not FRAMES.fullmatch(rest)):
        return None
    return tuple(int(index) for index in rest.split("_")[1:])


def _is_shared(name: str, other: str) -> bool:
    name, other = (unicodedata.normalize("NFC", text).casefold() for text in (name, other))
    return frame_of(name, other) is not None or frame_of(other, name) is not None
