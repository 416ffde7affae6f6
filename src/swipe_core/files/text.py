"""Pages and scores that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

from swipe_core.errors import ConfigError
from swipe_core.files.atomic import draft_of


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, at once or not at all, making its folder where there is none.

    Raises
    ------
    ConfigError
        When the folder or the file cannot be written; an older file stays as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path) as draft:
            draft.write_bytes(text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from error
