"""When memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from swipe_core.errors import ImageError

# Torch has a class of its own for a GPU's memory, but tells everything else in a RuntimeError's words.
WORDS = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of its GPU does not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)


@contextmanager
def explained(sentence: str) -> Iterator[None]:
    """Raise an `ImageError` of this sentence where memory runs out inside."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ImageError(sentence) from error
