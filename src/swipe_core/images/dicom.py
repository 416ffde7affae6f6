"""DICOM: single files, classic series and enhanced multi-frame objects; the extra ``medical``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from swipe_core.errors import ImageError, first_few
from swipe_core.images.channels import ChannelAxis
from swipe_core.images.decoding import decoding, extra_library
from swipe_core.images.dicom_frames import Frame, frames_of
from swipe_core.images.dicom_stack import Stack, frame_values, stack_of
from swipe_core.images.formats import dicom_files
from swipe_core.images.medical_image import MedicalImage, placed
from swipe_core.images.source import ImageSource, LeftOut

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Valid DICOM that is no image, or whose numbers are none of an image's, and what it is.
NO_IMAGES = {
    "1.2.840.10008.1.3.10": "the index of a medium (DICOMDIR)",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose (RT Dose)",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation (SEG)",
}


@dataclass(frozen=True)
class DicomSeries:
    """The files of one series of images in a folder, and their headers."""

    uid: str
    files: Sequence[Path]
    headers: Sequence[Dataset]

    @property
    def description(self) -> str:
        """What the scanner's operator called it."""
        return str(self.headers[0].get("SeriesDescription") or "").strip()

    @property
    def stem(self) -> str:
        """The description as a part of a file's name."""
        return re.sub(r"[^\w.+-]+", "_", self.description).strip("_")

    def __str__(self) -> str:
        title = repr(self.description) if self.description else f"the one of {self.files[0].name}"
        return f"{title} ({len(self.files)} files)"

    def is_one_picture(self, ndim: int | None) -> bool:
        """Whether the files are the slices of one picture, of `ndim` axes if that is given."""
        are_slices = all("ImagePositionPatient" in header for header in self.headers)
        have_frames = any(int(header.get("NumberOfFrames") or 1) > 1 for header in self.headers)
        return len(self.files) > 1 and not have_frames and (are_slices or ndim != 2)


def dicom_series(files: Sequence[Path]) -> tuple[list[DicomSeries], Mapping[Path, str | ImageError]]:
    """Sort the DICOM files of a folder into series of images, each of which may be a volume.

    Returns
    -------
    series
        By their UIDs, in the order of their first files.
    others
        For each other file, what it is instead, such as ``"a structured report"``, or why it cannot be read.
    """
    found: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    others: dict[Path, str | ImageError] = {}
    for path in files:
        try:
            header = _header(path)
        except ImageError as error:
            others[path] = error
            continue
        if reason := _why_no_image(header):
            others[path] = reason
        else:
            found[str(header.get("SeriesInstanceUID"))].append((path, header))
    return [DicomSeries(uid, *zip(*rows, strict=True)) for uid, rows in found.items()], others


def dicom_pictures(
    folder: Path, files: Sequence[Path], stem: str, ndim: int | None, *, is_alone: bool
) -> tuple[list[ImageSource], list[LeftOut]]:
    """Return the pictures in the DICOM files of a folder, and the files that hold none.

    A series of slices is one picture. A file that is a series by itself is one, too, and so is each file of
    a series of single pictures, as of X-rays, where pictures of two axes are needed.

    `files`: all DICOM files that are in the folder.
    `stem`: what outputs of the folder are called.
    `ndim`: axes of the pictures that are needed; None where any will do.
    `is_alone`: whether no other images are in the folder, so that its only picture is named after it.
    """
    pydicom(folder)
    series, others = dicom_series(files)
    left_out = [
        LeftOut(path, "is damaged or no DICOM file")
        if isinstance(reason, ImageError)
        else LeftOut(path, f"is {reason}, not an image", is_image=False)
        for path, reason in others.items()
    ]
    if is_alone and len(series) == 1 and (len(series[0].files) == 1 or series[0].is_one_picture(ndim)):
        return [ImageSource(folder, None, stem)], left_out
    stems = [each.stem for each in series]
    pictures: list[ImageSource] = []
    for number, each in enumerate(series, 1):
        # A title that does not tell a series from others gives way to a number.
        end = each.stem if each.stem and stems.count(each.stem) == 1 else str(number)
        if each.is_one_picture(ndim):
            pictures.append(ImageSource(folder, each.uid, f"{stem}_{end}", tuple(each.files)))
        else:
            pictures += [ImageSource(path) for path in each.files]
    return pictures, left_out


def read_dicom(
    path: Path,
    ndim: int | None = None,
    as_labels: bool = False,
    series: str | None = None,
    files: Sequence[Path] = (),
) -> MedicalImage:
    """Read a DICOM file, or a series in a folder, with the rescaling of every frame applied.

    Slices are sorted by position, and the step between them is that of their positions: a tilted gantry
    becomes the shear that it is. An enhanced multi-frame file lies where the classic series of the same
    slices lies. Frames at one place, of several times or contrasts, become channels. What has no place in a
    patient is a 2D image, or a volume of its frames, which then lie a pixel apart.
    Where a folder holds several series, the UID of one is needed; its files are looked for where they are
    not given.
    """
    if path.is_file():
        header = _header(path)
        if reason := _why_no_image(header):
            raise ImageError(f"{path} is {reason}, not an image; name the images that it belongs to.")
        only = DicomSeries("", [path], [header])
    else:
        only = _one_series(path, series, files)
    frames: list[Frame] = []
    for file, header in zip(only.files, only.headers, strict=True):
        with decoding(file, "DICOM"):
            frames += frames_of(file, header)
    stack = stack_of(frames, path)
    first = stack.first
    image = placed(
        _values(stack, frames),
        stack.matrix,
        first.spacing.unit,
        path,
        ndim,
        is_flat=stack.step is None and len(stack.places) == 1,
        is_anatomical=first.is_anatomical,
        frames="slices" if first.is_anatomical else "frames",
    )
    space = replace(image.space, lengths=first.spacing.measured)
    if len(stack.places[0]) == 1:
        axis: ChannelAxis = "colour" if image.channels == 3 else "channel"
        return replace(image, space=space, channel_axis=axis)
    axis = "time" if stack.counts_times else "channel"
    return replace(image, space=space, channel_axis=axis, channel_names=stack.contrast_names)


def series_slices(folder: Path) -> list[Dataset]:
    """Return the whole data sets of the slices of the only series in a folder, in the order of its volume.

    Raises
    ------
    ImageError
        When there is no such series, or its files are not single slices.
    """
    files = _one_series(folder, None, ()).files
    read = {file: _whole(file) for file in files}
    places = stack_of(
        [frame for file, each in read.items() for frame in frames_of(file, each)], folder
    ).places
    if len(places) != len(files):
        raise ImageError(f"{folder} does not hold one file for each slice, to which contours could refer.")
    return [read[place[0].path] for place in places]


def pydicom(path: Path) -> ModuleType:
    """Import pydicom; `path` is what it is needed for, as for `extra_library`."""
    return extra_library("pydicom", "medical", path)


def _header(path: Path) -> Dataset:
    """Read all that a file states but its pixels."""
    library = pydicom(path)
    with decoding(path, "DICOM"):
        dataset = library.dcmread(path, force=True, stop_before_pixels=True)
        if not (dataset.file_meta or "SOPClassUID" in dataset or "Rows" in dataset):
            raise ValueError("it does not begin as DICOM does")
        return dataset


def _why_no_image(dataset: Dataset) -> str:
    """Say what a DICOM file is that holds no image, such as ``"a structured report"``; empty of images."""
    from pydicom.uid import UID

    uid = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""
    if uid in NO_IMAGES:
        return NO_IMAGES[uid]
    if "Rows" in dataset and "Columns" in dataset:
        return ""
    return f"a DICOM object of another kind ({UID(uid).name.removesuffix(' Storage')})"


def _one_series(folder: Path, uid: str | None, files: Sequence[Path]) -> DicomSeries:
    """Return the series of a UID in a folder, or the only one."""
    series, others = dicom_series(files or sorted(dicom_files(folder)))
    for error in others.values():
        if isinstance(error, ImageError):
            raise error
    named = [each for each in series if each.uid == uid]
    if not series:
        what = f" but {', '.join(sorted({str(reason) for reason in others.values()}))}" if others else ""
        raise ImageError(f"{folder} holds no DICOM series{what}; name the folder of one series.")
    if not named and len(series) > 1:
        raise ImageError(
            f"{folder} holds {len(series)} DICOM series: {first_few(series)}; put the one to read into a "
            "folder of its own."
        )
    return (named or series)[0]


def _values(stack: Stack, frames: Sequence[Frame]) -> Shaped[np.ndarray, "z y x channels"]:
    """All frames' values in the order of the stack; each file is read once."""
    files: dict[Path, list[Frame]] = {}
    for frame in frames:
        files.setdefault(frame.path, []).append(frame)
    needed = {frame.identity for place in stack.places for frame in place}
    values = {}
    for path, inside in files.items():
        for frame, array in zip(inside, frame_values(_whole(path), inside), strict=True):
            if frame.identity in needed:
                values[frame.identity] = array
    places = [np.concatenate([values[frame.identity] for frame in place], axis=-1) for place in stack.places]
    with decoding(stack.first.path, "DICOM"):  # which may not fit in memory together
        return np.stack(places)


def _whole(path: Path) -> Dataset:
    library = pydicom(path)
    with decoding(path, "DICOM"):
        dataset = library.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:  # of a file without a mark
            implicit, explicit = library.uid.ImplicitVRLittleEndian, library.uid.ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = implicit if dataset.original_encoding[0] else explicit
        return dataset
