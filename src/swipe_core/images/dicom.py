"""DICOM: single files, classic series and enhanced multi-frame objects; the extra ``medical``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from swipe_core.errors import ImageError
from swipe_core.images.anatomy import placed
from swipe_core.images.channels import ChannelAxis
from swipe_core.images.decoding import decoding, extra_library
from swipe_core.images.dicom_frames import Frame, frames_of
from swipe_core.images.dicom_pixels import frame_values
from swipe_core.images.dicom_stack import NAMED_AT_MOST, Stack, stack_of
from swipe_core.images.formats import is_dicom
from swipe_core.images.medical_image import MedicalImage

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Valid DICOM that is no image, or whose numbers are none of an image's, and what it is.
NO_IMAGES = {
    "1.2.840.10008.1.3.10": "the index of a medium (DICOMDIR)",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose (RT Dose)",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation (SEG)",
}


def read_dicom(
    path: Path, ndim: int | None = None, as_labels: bool = False, series: str | None = None
) -> MedicalImage:
    """Read a DICOM file, or a series in a folder, with the rescaling of every frame applied.

    Slices are sorted by position, and the step between them is that of their positions: a tilted gantry
    becomes the shear that it is. An enhanced multi-frame file lies where the classic series of the same
    slices lies. Frames at one place, of several times or contrasts, become channels. What has no place in a
    patient is a 2D image, or a volume of its frames, which then lie a pixel apart.

    Parameters
    ----------
    path : Path
    ndim : int, optional
        With 2, a volume of a single slice is a 2D image. Else as many as the file has.
    as_labels : bool
        Makes no difference here.
    series : str, optional
        UID of the series to read, needed where a folder holds several.

    Raises
    ------
    ImageError
        When pydicom is missing; when there is no image or several, or slices are damaged, missing, doubled
        or of different sizes.
    """
    frames = _frames(path, series)
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


def pydicom(path: Path) -> ModuleType:
    """Import pydicom; `path` is what it is needed for, as for `extra_library`."""
    return extra_library("pydicom", "medical", path)


def _frames(path: Path, series: str | None = None) -> list[Frame]:
    datasets = [(path, dicom_header(path))] if path.is_file() else _one_series(path, series)
    return [frame for file, dataset in datasets for frame in _checked_frames(file, dataset)]


def dicom_header(path: Path) -> Dataset:
    """All that a file states but its pixels.

    Raises
    ------
    ImageError
        When pydicom is missing, or the file is damaged.
    """
    library = pydicom(path)
    with decoding(path, "DICOM"):
        dataset = library.dcmread(path, force=True, stop_before_pixels=True)
        if not (dataset.file_meta or "SOPClassUID" in dataset or "Rows" in dataset):
            raise ValueError("it does not begin as DICOM does")
        return dataset


def _checked_frames(path: Path, dataset: Dataset) -> list[Frame]:
    reason = why_no_image(dataset)
    if reason:
        raise ImageError(f"{path} is {reason}, not an image; name the images that it belongs to.")
    with decoding(path, "DICOM"):
        return frames_of(path, dataset)


def why_no_image(dataset: Dataset) -> str:
    """What a DICOM file is that holds no image, such as ``"a structured report"``; empty of images."""
    from pydicom.uid import UID

    uid = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""
    if uid in NO_IMAGES:
        return NO_IMAGES[uid]
    if "Rows" in dataset and "Columns" in dataset:
        return ""
    return f"a DICOM object of another kind ({UID(uid).name.removesuffix(' Storage')})"


def _one_series(folder: Path, uid: str | None) -> list[tuple[Path, Dataset]]:
    """The files of the series of a UID in a folder, or of the only one."""
    by_uid = series_in(folder)
    if uid in by_uid:
        return by_uid[uid]
    found = list(by_uid.values())
    if len(found) > 1:
        some = ", ".join(f"{_title(files)} ({len(files)} files)" for files in found[:NAMED_AT_MOST])
        more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
        raise ImageError(
            f"{folder} holds {len(found)} DICOM series: {some}{more}; put the one to read into a folder of "
            "its own."
        )
    return found[0]


def series_in(folder: Path) -> dict[str, list[tuple[Path, Dataset]]]:
    """Return the series of images in a folder, by UID, each of which may be a volume: files and headers.

    Files of other kinds, DICOM without an image, and folders inside are passed over.

    Raises
    ------
    ImageError
        When there is none, or a DICOM file is damaged.
    """
    series: dict[str, list[tuple[Path, Dataset]]] = {}
    others: set[str] = set()
    for path in _dicom_files(folder):
        dataset = dicom_header(path)
        reason = why_no_image(dataset)
        if reason:
            others.add(reason)
        else:
            series.setdefault(str(dataset.get("SeriesInstanceUID")), []).append((path, dataset))
    if not series:
        what = f" but {', '.join(sorted(others))}" if others else ""
        raise ImageError(f"{folder} holds no DICOM series{what}; name the folder of one series.")
    return series


def _dicom_files(folder: Path) -> Iterator[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return (path for path in files if is_dicom(path))


def _title(files: Sequence[tuple[Path, Dataset]]) -> str:
    """What the scanner's operator called the series of a file."""
    path, dataset = files[0]
    title = str(dataset.get("SeriesDescription") or "").strip()
    return repr(title) if title else f"the one of {path.name}"


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
