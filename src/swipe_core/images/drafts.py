"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swipe_core.errors import ImageError


@contextmanager
def draft_of(path: Path, suffix: str | None = None) -> Iterator[Path]:
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
    # In the same folder, since a file cannot be moved across disks in one step.
    draft = path.with_name(f".{uuid.uuid4().hex}{path.suffix if suffix is None else suffix}")
    try:
        yield draft
        os.replace(draft, path)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        draft.unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """See that the folder of a file that is to be written exists.

    Raises
    ------
    ImageError
        When it does not.
    """
    if not path.parent.is_dir():
        raise ImageError(f"{path} cannot be written, since its folder does not exist; create it first.")
