"""`ImageSource`: one picture inside a path, and the name that its outputs get."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class ImageSource:
    """One picture in a file or folder, which may hold several."""

    path: Path
    """The file or folder."""
    part: int | str | None = None
    """Which of several pictures in it: the number of a series of a TIFF, from 0 on, or the UID of a DICOM
    series in a folder. None where the path is one picture.
    """
    stem: str | None = None
    """What outputs are called, without their kind; None: as the path."""
    files: tuple[Path, ...] = field(default=(), compare=False, repr=False)
    """Those of a DICOM series where they are known, so that no others are opened to look for it."""

    @classmethod
    def of(cls, path: str | os.PathLike[str] | ImageSource) -> ImageSource:
        """Return a source as it is, and a path as the one picture that it should be."""
        return path if isinstance(path, ImageSource) else cls(Path(path))

    @property
    def name(self) -> str:
        """A name that no other picture of the same call has."""
        return self.path.name if self.stem is None else self.stem

    def absolute(self) -> ImageSource:
        """Return the same for a process with another working directory."""
        files = tuple(Path(os.path.abspath(file)) for file in self.files)
        return replace(self, path=Path(os.path.abspath(self.path)), files=files)

    def __str__(self) -> str:
        if self.part is None:
            return str(self.path)
        which = (
            f"picture {self.part + 1}" if isinstance(self.part, int) else f"series {self.stem or self.part}"
        )
        return f"{self.path}, {which}"


@dataclass(frozen=True)
class LeftOut:
    """Something in what was named that is not segmented."""

    path: Path
    reason: str
    """A phrase that goes on after the path."""
    is_image: bool = True
    """Whether it was surely meant to be segmented; else it is a copy, or no image."""

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"
