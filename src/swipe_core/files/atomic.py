"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def draft_of(path: Path, name: str | None = None) -> Iterator[Path]:
    """A hidden file to write to, which takes the place of `path` once the block ends well.

    It lies in the same folder, since a file cannot be moved across disks in one step, and is removed
    where the block ends otherwise. A process that is killed leaves it behind.

    Parameters
    ----------
    name
        Of the draft; by default ``.NAME.PID.partial``, which tells whose it was.

    Raises
    ------
    OSError
        When the disk refuses; an older file stays as it was.
    """
    draft = path.with_name(name or f".{path.name}.{os.getpid()}.partial")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        with suppress(OSError):  # the folder itself may be what is missing
            draft.unlink()
