"""Calling other people's decoders on files that may be anything."""

import importlib
import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Shaped

from swipe_core.compute.memory import free_memory
from swipe_core.errors import ImageError, readable_bytes

ITK_REASON = re.compile(r"ERROR: (?:\w+\(0x[0-9a-f]+\): )?(.+)", re.IGNORECASE)
ITK_PLACE = "Exception thrown in SimpleITK"
# Who complains, as loggers and as modules, of what an `ImageError` says or what makes no difference.
LOGGERS = ("tifffile", "nibabel.global", "PIL.TiffImagePlugin", "PIL.PngImagePlugin", "PIL.Image", "pydicom")
STDERR = 2
COMPLAINING = r"(PIL|tifffile|nibabel|numpy|pydicom)\b"


def extra_library(name: str, extra: str, path: Path) -> ModuleType:
    """Import a library that comes with an extra of this package and is needed for a path."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImageError(
            f'{path} needs {name}, which is not installed; run: pip install "napari-swipe[{extra}]".'
        ) from error


@contextmanager
def decoding(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError` that names the file.

    To be put around calls of a decoding library only: on damaged bytes these raise any
    exception there is, and around code of ours that would hide our own faults.
    """
    try:
        with _silence():
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


def require_room(path: Path, shape: Sequence[int], itemsize: int, *, most: int | None = None) -> None:
    """See that the numbers a header promises can be there, before memory is allocated for them.

    `itemsize` is in bytes, and so is `most`: what the stored ones can become, where compression has a limit.
    """
    needed = math.prod(int(n) for n in shape) * itemsize
    shown = " x ".join(str(int(n)) for n in shape)
    promise = f"{path} promises {shown} values ({readable_bytes(needed)})"
    if most is not None and needed > most:
        raise ImageError(
            f"{promise}, which a file of {path.stat().st_size} bytes cannot hold; export it again."
        )
    free = free_memory()
    if free is not None and needed > free:
        raise ImageError(
            f"{promise}, and {readable_bytes(free)} of memory are free; crop it, or reduce its resolution, "
            "first."
        )


class Shared:
    """A change of the whole process, made by the first of overlapping blocks and undone by the last.

    Blocks that each put back what they found would undo the change under one another.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change = change
        self._inside = 0
        self._undoing = ExitStack()
        self._unlock()
        if hasattr(os, "register_at_fork"):  # or a child could be born with the lock held
            os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._undoing.enter_context(self._change())
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._undoing.close()


@contextmanager
def _ignored_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=COMPLAINING)
        yield


_UNWARNED = Shared(_ignored_warnings)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what decoders complain of from the console.

    Of logs those of this thread; of warnings, whose filters are those of the whole process, all that the
    decoders' modules give in any thread until the last such block is left.
    """
    thread = threading.get_ident()

    def is_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(is_others)
    try:
        with _UNWARNED:
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_others)


def reason(error: Exception) -> str:
    """Return what a decoder complains of, in a line: its first, or the one that ITK puts behind addresses."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = ITK_REASON.search(str(error))
    plainest = lines[-1] if lines[0].startswith(ITK_PLACE) else lines[0]
    return (found.group(1) if found else plainest).strip().rstrip(".:")


@contextmanager
def _stderr_sent_away() -> Iterator[None]:
    with open(os.devnull, "wb") as nowhere:
        try:
            kept = os.dup(STDERR)
        except OSError:  # a program without a console
            yield
            return
        os.dup2(nowhere.fileno(), STDERR)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


SILENT_CONSOLE = Shared(_stderr_sent_away)
"""Sends away what C libraries print on the stream of errors, which have no other switch."""


def plain(array: Shaped[np.ndarray, "*axes"]) -> Shaped[np.ndarray, "*axes"]:
    """Return the same values as torch can take them: native, contiguous, writable, no longer than 64 bits."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return np.require(array, array.dtype.newbyteorder("="), ["C_CONTIGUOUS", "WRITEABLE"])
