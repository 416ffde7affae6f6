"""Pages and scores that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from swipe_core.errors import ConfigError


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, at once or not at all, making its folder where there is none.

    Raises
    ------
    ConfigError
        When the folder or the file cannot be written; an older file stays as it was.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(text.encode())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from error
