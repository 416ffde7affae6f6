"""How much memory is free, when it runs out, and how a failure of work is put in a sentence."""

import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swipe_core.errors import ImageError, SwipeError

# Torch has a class of its own for a GPU's memory, but tells everything else in a RuntimeError's words.
WORDS = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED", "bad_alloc")
LONGEST_ERROR = 200  # characters of an error that was not meant for users


def free_memory() -> int | None:
    """Bytes that this machine can still give; None where it cannot be told."""
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of its GPU does not suffice."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    # The plugin asks for the free memory, and is not to wait for torch when it starts.
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in WORDS)


@contextmanager
def out_of_memory_as(sentence: str) -> Iterator[None]:
    """Raise an `ImageError` of this sentence where memory runs out inside."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ImageError(sentence) from error


def failure_sentence(
    error: Exception, subject: str, *, file: Path | None, advice: str, report: str = "please report this"
) -> str:
    """Say in a sentence for users why work on something failed.

    `subject`: what was worked on, at the beginning of the sentence.
    `file`: what the system refused, where its error names none.
    `advice`: what to do where memory does not suffice.
    `report`: what to ask for where the program itself is at fault.
    """
    if isinstance(error, SwipeError):
        return str(error)
    refused = error.filename or file if isinstance(error, OSError) else None
    if isinstance(error, OSError) and refused:
        return f"{refused} cannot be read or written ({error.strerror or error})."
    if is_out_of_memory(error):
        return f"{subject} does not fit into memory: {advice}."
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = textwrap.shorten(str(error), LONGEST_ERROR)
    return (
        f"{subject} met a fault of the program ({type(error).__name__}: {words}; {Path(last.filename).name}, "
        f"line {last.lineno}): {report}."
    )
