"""How much memory is free, and when it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from swipe_core.errors import ImageError

# Torch has a class of its own for a GPU's memory, but tells everything else in a RuntimeError's words.
WORDS = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED", "bad_alloc")


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
