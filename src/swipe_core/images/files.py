"""Reading and writing by suffix: one road for every format."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from swipe_core.errors import ImageError
from swipe_core.images.channels import ChannelAxis
from swipe_core.images.dicom import read_dicom
from swipe_core.images.dicom_files import DICOM_SUFFIXES, holds_dicom, is_dicom
from swipe_core.images.drafts import check_folder, image_draft
from swipe_core.images.header import ImageHeader
from swipe_core.images.itk import read_itk, read_itk_header, write_itk
from swipe_core.images.medical_image import LabelMap, MedicalImage
from swipe_core.images.nifti import read_nifti, read_nifti_header, write_nifti
from swipe_core.images.raster import read_raster, write_png, write_png_image
from swipe_core.images.source import ImageSource
from swipe_core.images.tiff import read_tiff, write_tiff, write_tiff_image

Reader = Callable[[Path, int | None, bool], MedicalImage]
Writer = Callable[[Path, LabelMap], None]

READERS: dict[str, Reader] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".tif": read_tiff,
    ".tiff": read_tiff,
    ".ome.tif": read_tiff,
    ".ome.tiff": read_tiff,
    ".png": read_raster,
    ".jpg": read_raster,
    ".jpeg": read_raster,
    ".bmp": read_raster,
    ".nrrd": read_itk,
    ".nhdr": read_itk,
    ".mha": read_itk,
    ".mhd": read_itk,
    ".dcm": read_dicom,
}
WRITERS: dict[str, Writer] = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".tif": write_tiff,
    ".tiff": write_tiff,
    ".ome.tif": write_tiff,
    ".ome.tiff": write_tiff,
    ".png": write_png,
    ".nrrd": write_itk,
    ".mha": write_itk,
}
IMAGE_WRITERS: dict[str, Callable[[Path, MedicalImage], None]] = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".tif": write_tiff_image,
    ".tiff": write_tiff_image,
    ".ome.tif": write_tiff_image,
    ".ome.tiff": write_tiff_image,
    ".png": write_png_image,
}
WHOLE = 1e-5  # how far from a whole number a label may be
HEADER_READERS: dict[str, Callable[[Path], ImageHeader]] = {
    ".nii": read_nifti_header,
    ".nii.gz": read_nifti_header,
    ".nrrd": read_itk_header,
    ".nhdr": read_itk_header,
    ".mha": read_itk_header,
    ".mhd": read_itk_header,
}
LABEL_REMEDIES: dict[ChannelAxis, str] = {
    "colour": "save class numbers instead of colours",
    "channel": "save one of them, or class numbers instead of colours",
    "time": "save each time point as a file of its own",
    "page": "save each page as a file of its own",
    "layer": "its segments overlap: export them from 3D Slicer as one label map",
}
IMAGE_SUFFIXES = tuple(READERS)
"""Suffixes of the files that can be read, in lower case; the case of a file's own does not matter."""


def image_suffix(path: str | os.PathLike[str]) -> str:
    """The longest known suffix of a file's name as the file spells it (``".nii.gz"``), else ``""``."""
    name = Path(path).name
    known = (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)
    length = max((len(suffix) for suffix in known if name.lower().endswith(suffix)), default=0)
    return name[len(name) - length :]


def image_stem(path: str | os.PathLike[str]) -> str:
    """A file's name without its known suffix: ``"a"`` for ``a.nii.gz``, ``"a.b"`` for ``a.b.png``."""
    return Path(path).name.removesuffix(image_suffix(path))


def read_image(path: str | os.PathLike[str] | ImageSource, ndim: int | None = None) -> MedicalImage:
    """Read an image of any format in `IMAGE_SUFFIXES`, or a folder that holds one DICOM series.

    NRRD, MetaImage and DICOM need SimpleITK, the extra ``medical``.

    Parameters
    ----------
    path : path or ImageSource
        A path must be one picture; of several in it, an `ImageSource` tells which.
    ndim : {2, 3}, optional
        How many spatial axes are needed, for files that can be understood in two ways: a
        TIFF of several pages is a volume unless 2 is asked for.

    Returns
    -------
    MedicalImage
        Intensities in the dtype of the file; without an alpha channel.

    Raises
    ------
    ImageError
        When the file is missing, unknown, damaged, not of `ndim` axes, holds NaN or
        infinite values, or several pictures; when SimpleITK is needed and missing.
    """
    source = ImageSource.of(path)
    image = _read(source, ndim, as_labels=False)
    _check_finite(image.array, source.path)
    return image


def read_label_map(
    path: str | os.PathLike[str], ndim: int | None = None, instances: bool = False
) -> LabelMap:
    """Read a label map of any format in `IMAGE_SUFFIXES`.

    Of a palette the index counts, not the colour. Whole numbers stored as floats are
    accepted. A JPEG can only be a mask of 0 and 255.

    Parameters
    ----------
    path : path
    ndim : {2, 3}, optional
        As in `read_image`.
    instances : bool
        Whether the numbers tell objects apart rather than classes: every positive one
        becomes 1. Also the way to read a mask of 0 and 255.

    Raises
    ------
    ImageError
        As `read_image`; and when the file holds fractions or colours, or negative numbers of objects.
    """
    path = Path(path)
    image = _read(ImageSource(path), ndim, as_labels=True)
    array = _whole(_single_channel(image, path), path)
    if instances:
        array = (_smallest(array, path) > 0).astype(np.uint8)
    return LabelMap(array, image.affine, image.unit, path, image.space)


def write_label_map(path: str | os.PathLike[str], label_map: LabelMap, *, is_stack: bool = False) -> None:
    """Write a label map in the format of the path's suffix, in the smallest unsigned dtype.

    The file appears whole or not at all; one of the same name is replaced. NIfTI keeps the
    affine, NRRD and MetaImage too, TIFF the spacing, PNG nothing.

    Parameters
    ----------
    path : path
    label_map : LabelMap
    is_stack : bool
        Whether the first of three axes counts pictures, such as points in time, rather than slices
        of a volume. TIFF alone can say so.

    Raises
    ------
    ImageError
        When the suffix cannot be written, the format cannot hold the labels, or the disk
        refuses.
    """
    path = Path(path)
    check_label_path(path, is_stack=is_stack)
    suffix = image_suffix(path)
    writer = WRITERS[suffix.lower()]
    smallest = replace(label_map, array=_smallest(label_map.array, path), path=path)
    with image_draft(path, suffix) as draft:
        write_tiff(draft, smallest, is_stack) if is_stack else writer(draft, smallest)


def write_image(path: str | os.PathLike[str], image: MedicalImage) -> None:
    """Write an image in the format of the path's suffix, in its own dtype.

    The file appears whole or not at all; one of the same name is replaced. `read_image` gives the same
    image back, but for its place: NIfTI keeps the affine in single precision, TIFF the spacing, PNG
    nothing.

    Parameters
    ----------
    path : path
    image : MedicalImage
        For PNG: 2D, grey of uint8 or uint16, or RGB of uint8. For TIFF: 2D, of any channels, whole
        numbers of up to 32 bits, float32 or float64. For NIfTI: of any channels, whole numbers,
        float32 or float64.

    Raises
    ------
    ImageError
        When the suffix cannot be written, the format cannot hold the image, it holds NaN or infinite
        values, or the disk refuses.
    """
    path = Path(path)
    suffix = image_suffix(path)
    if suffix.lower() not in IMAGE_WRITERS:
        raise ImageError(
            f"{path} cannot be written as an image; name it with one of {', '.join(IMAGE_WRITERS)}."
        )
    _check_finite(image.array, path)
    with image_draft(path, suffix) as draft:
        IMAGE_WRITERS[suffix.lower()](draft, replace(image, path=path))


def image_file_suffix(image: MedicalImage | LabelMap) -> str:
    """The ending of a file that can hold any such image: ``".tif"`` in 2D, ``".nii.gz"`` in 3D."""
    return ".tif" if image.ndim == 2 else ".nii.gz"


def check_label_path(path: Path, *, is_stack: bool = False) -> None:
    """See that `write_label_map` can write to a path, before the labels are there.

    Raises
    ------
    ImageError
        When the suffix cannot be written, or not for a stack, or the folder does not exist.
    """
    suffix = image_suffix(path).lower()
    if suffix not in WRITERS:
        raise ImageError(
            f"{path} cannot be written as a label map; name it with one of {', '.join(WRITERS)}."
        )
    if is_stack and WRITERS[suffix] is not write_tiff:
        raise ImageError(f"{path} cannot hold a stack of pictures; name it .tif.")
    check_folder(path)


def read_header(path: str | os.PathLike[str] | ImageSource) -> ImageHeader:
    """What a file that `read_image` takes says of its voxels, without reading them.

    Raises
    ------
    ImageError
        When the file is missing, unknown, or damaged.
    """
    source = ImageSource.of(path)
    path = source.path
    _check_readable(path)
    reader = HEADER_READERS.get(image_suffix(path).lower())
    return reader(path) if reader else ImageHeader()


def _is_dicom(path: Path) -> bool:
    """A folder of DICOM, or a file of it: by its content where the suffix does not say what it is."""
    if path.is_dir():
        return holds_dicom(path)
    return image_suffix(path).lower() in ("", *DICOM_SUFFIXES) and path.is_file() and is_dicom(path)


def _read(source: ImageSource, ndim: int | None, as_labels: bool) -> MedicalImage:
    path, part = source.path, source.part
    _check_readable(path)
    if isinstance(part, str):
        image = read_dicom(path, ndim, as_labels, part)
    elif part is not None:
        image = read_tiff(path, ndim, as_labels, part)
    else:
        reader = read_dicom if _is_dicom(path) else READERS[image_suffix(path).lower()]
        image = reader(path, ndim, as_labels)
    if image.array.size == 0:
        raise ImageError(f"{path} holds no voxels: its shape is {image.shape}; export it again.")
    return image


def _check_readable(path: Path) -> None:
    if path.is_dir():
        if holds_dicom(path):
            return
        raise ImageError(f"{path} is a folder without DICOM files; name an image file.")
    if image_suffix(path).lower() not in READERS and not _is_dicom(path):
        raise ImageError(f"{path} is of no known image format; use one of {', '.join(IMAGE_SUFFIXES)}.")
    if not path.is_file():
        raise ImageError(f"{path} does not exist; name an image file.")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty; copy or export it again.")


def _check_finite(array: Shaped[np.ndarray, "*shape channels"], path: Path) -> None:
    count = array.size - int(np.isfinite(array).sum()) if array.dtype.kind == "f" else 0
    if count:
        raise ImageError(f"{path} has {count} NaN or infinite values among {array.size}; replace them.")


def _single_channel(image: MedicalImage, path: Path) -> Shaped[np.ndarray, "*shape"]:
    array = image.array
    first = array[..., 0]
    if any(not np.array_equal(first, array[..., i]) for i in range(1, array.shape[-1])):
        raise ImageError(
            f"{path} has {array.shape[-1]} different {image.channel_kinds.counted}, and a label map has one "
            f"number per voxel; {LABEL_REMEDIES[image.channel_axis]}."
        )
    return np.ascontiguousarray(first)


def _whole(array: Shaped[np.ndarray, "*shape"], path: Path) -> Integer[np.ndarray, "*shape"]:
    if array.dtype.kind != "f":
        return array
    array = array.astype(np.float64, copy=False)
    # What a header scales, as by 1 / 255, misses a whole number by a rounding.
    with np.errstate(invalid="ignore"):  # infinity less itself is no number, and so not whole
        is_whole = (np.abs(array - np.rint(array)) <= WHOLE) & (np.abs(array) < 2**53)
    if not is_whole.all():
        raise ImageError(
            f"{path} holds {np.count_nonzero(~is_whole)} values that are no whole numbers (such as "
            f"{array[~is_whole][0]:g}); a label map needs class numbers."
        )
    array = np.rint(array)
    return array.astype(np.dtype(np.int64) if array.min() < 0 else _unsigned(array.max()))


def _smallest(array: Integer[np.ndarray, "*shape"], path: Path) -> Integer[np.ndarray, "*shape"]:
    if array.min() < 0:
        raise ImageError(f"{path}: labels must not be negative, and the least is {array.min()}.")
    return array.astype(_unsigned(array.max()), copy=False)


def _unsigned(largest: np.number) -> np.dtype:
    """The smallest unsigned type for labels up to `largest`."""
    candidates = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
    return next(dtype for dtype in candidates if largest <= np.iinfo(dtype).max)
