"""Folders of DICOM slices, through SimpleITK: the extra ``medical``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from swipe_core.errors import ImageError
from swipe_core.images.anatomy import LPS_TO_RAS, placed
from swipe_core.images.itk import (
    ORIENTATION,
    PIXEL_SPACINGS,
    channels_last,
    file_reader,
    itk_decoding,
    read_itk,
    simpleitk,
    world_matrix,
)
from swipe_core.images.medical_image import MedicalImage

if TYPE_CHECKING:
    from SimpleITK import ImageSeriesReader

POSITION, DESCRIPTION = "0020|0032", "0008|103e"
# Slices of a scanner are evenly spaced up to the rounding of their positions.
UNEVEN = 0.05
SAME_PLACE = 1e-3  # mm
NAMED_AT_MOST = 5


def read_dicom_series(folder: Path, ndim: int | None = None, as_labels: bool = False) -> MedicalImage:
    """Read the one series in a folder as a volume, with its rescaling applied.

    Slices are sorted by position, and the step between them is that of their positions: a tilted
    gantry becomes the shear that it is. Files of other kinds, and folders inside, are passed over.

    Parameters
    ----------
    folder : Path
    ndim, as_labels
        As in `read_itk`.

    Raises
    ------
    ImageError
        When SimpleITK is missing; when there is no series or several, or slices are damaged, missing,
        doubled or of different sizes.
    """
    names = _slices(folder)
    if len(names) == 1:
        return replace(read_itk(Path(names[0]), ndim, as_labels), path=folder)
    reader = simpleitk(folder).ImageSeriesReader()
    reader.SetFileNames(names)
    reader.SetImageIO("GDCMImageIO")
    reader.MetaDataDictionaryArrayUpdateOn()
    with itk_decoding(folder, "GDCMImageIO"):
        image = reader.Execute()
    is_oriented = bool(reader.HasMetaDataKey(0, ORIENTATION))
    matrix = world_matrix(image, is_oriented)
    positions = _positions(reader, len(names))
    if is_oriented and positions is not None:
        matrix[:3, 2] = LPS_TO_RAS[:3, :3] @ _step(positions, folder)
    has_spacing = is_oriented or any(reader.HasMetaDataKey(0, key) for key in PIXEL_SPACINGS)
    unit = "millimeter" if has_spacing else "pixel"
    return placed(channels_last(image, folder), matrix, unit, folder, ndim, is_anatomical=is_oriented)


def _slices(folder: Path) -> list[str]:
    """The files of the one series, sorted by position."""
    library = simpleitk(folder)
    with itk_decoding(folder, "GDCMImageIO"):
        found = [
            list(library.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
            for series in library.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        ]
    if not found:
        raise ImageError(f"{folder} holds no DICOM series that can be read; name the folder of one series.")
    if len(found) > 1:
        some = ", ".join(f"{_title(names[0])} ({len(names)} files)" for names in found[:NAMED_AT_MOST])
        more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
        raise ImageError(
            f"{folder} holds {len(found)} DICOM series: {some}{more}; put the one to read into a folder of "
            "its own."
        )
    return found[0]


def _title(name: str) -> str:
    """What the scanner's operator called the series of a file."""
    reader = file_reader(Path(name))
    with itk_decoding(Path(name), "GDCMImageIO"):
        reader.ReadImageInformation()
    title = reader.GetMetaData(DESCRIPTION).strip() if reader.HasMetaDataKey(DESCRIPTION) else ""
    title = title.encode("utf-8", "replace").decode()  # of other encodings SWIG makes lone surrogates
    return repr(title) if title else f"the one of {Path(name).name}"


def _positions(reader: ImageSeriesReader, count: int) -> Float[np.ndarray, "slices 3"] | None:
    """(x, y, z) of every slice's first voxel in DICOM's world; None where a slice does not know."""
    if not all(reader.HasMetaDataKey(index, POSITION) for index in range(count)):
        return None
    texts = [reader.GetMetaData(index, POSITION).split("\\") for index in range(count)]
    return np.array(texts, dtype=np.float64)


def _step(positions: Float[np.ndarray, "slices 3"], folder: Path) -> Float[np.ndarray, " 3"]:
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    if lengths.min() < SAME_PLACE:
        raise ImageError(
            f"{folder} holds several slices at one place, as of several times or contrasts; put the slices "
            "of one of them into a folder of their own."
        )
    mean = steps.mean(axis=0)
    if np.linalg.norm(steps - mean, axis=1).max() > UNEVEN * np.linalg.norm(mean):
        raise ImageError(
            f"{folder} holds slices that are {lengths.min():g} to {lengths.max():g} mm apart, and evenly "
            "spaced ones are needed; see whether one is missing, and export the series again."
        )
    return mean
