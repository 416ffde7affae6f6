"""Image and label files that appear whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swipe_core.errors import ImageError
from swipe_core.files.atomic import draft_of


@contextmanager
def image_draft(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """A hidden file to write to; it takes the place of `path` once the block ends well.

    Parameters
    ----------
    path : Path
    suffix : str, optional
        Of the draft: libraries go by it. By default that of `path`, which may be no more than
        the last part of ``".nii.gz"``.

    Raises
    ------
    ImageError
        When the folder is missing, or the disk refuses.
    """
    check_folder(path)
    try:
        with draft_of(path, f".{uuid.uuid4().hex}{path.suffix if suffix is None else suffix}") as draft:
            yield draft
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_folder(path: Path) -> None:
    """See that the folder of a file that is to be written exists.

    Raises
    ------
    ImageError
        When it does not.
    """
    if not path.parent.is_dir():
        raise ImageError(f"{path} cannot be written, since its folder does not exist; create it first.")
