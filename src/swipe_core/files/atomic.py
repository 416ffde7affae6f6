"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from swipe_core.errors import ConfigError


@contextmanager
def atomic_write(path: Path, name: str | None = None) -> Iterator[Path]:
    """Yield a hidden file to write to, which takes the place of `path` once the block ends well.

    It lies in the same folder, since a file cannot be moved across disks in one step, and is removed where
    the block ends otherwise. A process that is killed leaves it behind. Raises `OSError` when the disk
    refuses; an older file stays as it was.

    `name`: of the draft; by default ``.NAME.PID.partial``, which tells whose it was.
    """
    draft = path.with_name(name or f".{path.name}.{os.getpid()}.partial")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        with suppress(OSError):  # the folder itself may be what is missing
            draft.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, at once or not at all, making its folder where there is none.

    Raises `ConfigError` when the folder or the file cannot be written; an older file stays as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            draft.write_bytes(text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from error
