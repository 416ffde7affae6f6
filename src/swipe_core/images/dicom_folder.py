"""What DICOM there is in a folder: series of slices, pictures of their own, and what is no image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swipe_core.errors import ImageError
from swipe_core.images.dicom import dicom_header, pydicom, why_no_image
from swipe_core.images.source import ImageSource, LeftOut

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class DicomSeries:
    """The files of one series of images in a folder, and their headers."""

    uid: str
    files: Sequence[Path]
    headers: Sequence[Dataset]

    @property
    def title(self) -> str:
        """What the scanner's operator called it, as a part of a file's name; empty where nothing is told."""
        return re.sub(r"[^\w.+-]+", "_", str(self.headers[0].get("SeriesDescription") or "")).strip("_")

    def is_one_picture(self, ndim: int | None) -> bool:
        """Whether the files are the slices of one picture, of `ndim` axes if that is given."""
        are_slices = all("ImagePositionPatient" in header for header in self.headers)
        have_frames = any(int(header.get("NumberOfFrames") or 1) > 1 for header in self.headers)
        return len(self.files) > 1 and not have_frames and (are_slices or ndim != 2)


def dicom_pictures(
    folder: Path, files: Sequence[Path], stem: str, ndim: int | None, *, is_alone: bool
) -> tuple[list[ImageSource], list[LeftOut]]:
    """The pictures in the DICOM files of a folder, and the files that hold none.

    A series of slices is one picture. A file that is a series by itself is one, too, and so is each file of
    a series of single pictures, as of X-rays, where pictures of two axes are needed.

    Parameters
    ----------
    files
        All DICOM files that are in the folder.
    stem
        What outputs of the folder are called.
    ndim
        Axes of the pictures that are needed; None where any will do.
    is_alone
        Whether no other images are in the folder, so that its only picture is named after it.

    Raises
    ------
    ImageError
        When pydicom is missing.
    """
    series, left_out = _read_headers(folder, files)
    if is_alone and len(series) == 1 and (len(series[0].files) == 1 or series[0].is_one_picture(ndim)):
        return [ImageSource(folder, None, stem)], left_out
    pictures: list[ImageSource] = []
    for each, name in zip(series, _names(stem, series), strict=True):
        if each.is_one_picture(ndim):
            pictures.append(ImageSource(folder, each.uid, name))
        else:
            pictures += [ImageSource(path) for path in each.files]
    return pictures, left_out


def _read_headers(folder: Path, files: Sequence[Path]) -> tuple[list[DicomSeries], list[LeftOut]]:
    pydicom(folder)
    found: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    left_out = []
    for path in files:
        try:
            header = dicom_header(path)
        except ImageError:
            left_out.append(LeftOut(path, "is damaged or no DICOM file"))
            continue
        reason = why_no_image(header)
        if reason:
            left_out.append(LeftOut(path, f"is {reason}, not an image", is_image=False))
        else:
            found[str(header.get("SeriesInstanceUID"))].append((path, header))
    return [DicomSeries(uid, *zip(*rows, strict=True)) for uid, rows in found.items()], left_out


def _names(stem: str, series: Sequence[DicomSeries]) -> list[str]:
    """What outputs of several series are called: by their titles, and numbers where these do not do."""
    titles = [each.title for each in series]
    return [
        f"{stem}_{title}" if title and titles.count(title) == 1 else f"{stem}_{number}"
        for number, title in enumerate(titles, 1)
    ]
