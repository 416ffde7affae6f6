"""Calling other people's decoders on files that may be anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from swipe_core.errors import ImageError

ITK_REASON = re.compile(r"ERROR: (?:\w+\(0x[0-9a-f]+\): )?(.+)", re.IGNORECASE)


@contextmanager
def decoding(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError` that names the file.

    To be put around calls of a decoding library only: on damaged bytes these raise any
    exception there is, and around code of ours that would hide our own faults.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"{path} does not fit in memory; crop it, or reduce its resolution, first."
        ) from error
    except Exception as error:
        raise ImageError(
            f"{path} is damaged or not a {kind} file that can be read here ({reason(error)}); "
            "export it again."
        ) from error


def reason(error: Exception) -> str:
    """What a decoder complains of, in a line: its first, or the one that ITK puts behind addresses."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = ITK_REASON.search(str(error))
    return (found.group(1) if found else lines[0]).strip().rstrip(".:")


def plain(array: Shaped[np.ndarray, "*axes"]) -> Shaped[np.ndarray, "*axes"]:
    """The same values as torch can take them: native, contiguous, writable, no longer than 64 bits."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return np.require(array, array.dtype.newbyteorder("="), ["C_CONTIGUOUS", "WRITEABLE"])
