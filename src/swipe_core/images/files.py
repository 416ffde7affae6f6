"""Reading and writing by suffix: one road for every format."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from swipe_core.errors import ImageError
from swipe_core.files.atomic import atomic_write
from swipe_core.images.channels import ChannelAxis
from swipe_core.images.formats import (
    DICOM,
    IMAGE_SUFFIXES,
    TIFF,
    Format,
    ImageHeader,
    image_format,
    image_stem,
    image_suffix,
    imported,
    named_format,
    suffixes_with,
)
from swipe_core.images.medical_image import LabelMap, MedicalImage, ScalarMap
from swipe_core.images.source import ImageSource

LABEL_FOLDERS = ("labels", "labelstr", "labelsts")
LABEL_ENDINGS = ("_seg", "_dseg", "_label", "_labels", ".seg")
WRITTEN = {"label_writer": "a label map", "image_writer": "an image", "map_writer": "a map of fractions"}
WHOLE = 1e-5  # how far from a whole number a label may be
LABEL_REMEDIES: dict[ChannelAxis, str] = {
    "colour": "save class numbers instead of colours",
    "channel": "save one of them, or class numbers instead of colours",
    "time": "save each time point as a file of its own",
    "page": "save each page as a file of its own",
    "layer": "its segments overlap: export them from 3D Slicer as one label map",
}


def read_image(path: str | os.PathLike[str] | ImageSource, ndim: int | None = None) -> MedicalImage:
    """Read an image of any format in `IMAGE_SUFFIXES`, or a folder that holds one DICOM series.

    NRRD, MetaImage and DICOM need SimpleITK, the extra ``medical``.

    Parameters
    ----------
    path : path or ImageSource
        A path must be one picture; of several in it, an `ImageSource` names one.
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
        Whether the numbers are those of objects rather than classes: every positive one
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
    smallest = replace(label_map, array=_smallest(label_map.array, path), path=path)
    _write(path, "stack_writer" if is_stack else "label_writer", smallest)


def write_scalar_map(path: str | os.PathLike[str], scalar_map: ScalarMap) -> None:
    """Write a map as NIfTI or TIFF of 32-bit floats, by the path's suffix.

    The file appears whole or not at all; one of the same name is replaced. NIfTI keeps the affine,
    TIFF the spacing.

    Raises
    ------
    ImageError
        When the suffix is another, or the disk refuses.
    """
    _write(Path(path), "map_writer", scalar_map)


def write_image(path: str | os.PathLike[str], image: MedicalImage) -> None:
    """Write an image in the format of the path's suffix, in its own dtype.

    The file appears whole or not at all; one of the same name is replaced. `read_image` gives the same image
    back, but for its place: NIfTI keeps the affine in single precision, TIFF the spacing, PNG nothing. Raises
    `ImageError` when the suffix cannot be written, the format cannot hold the image, it holds NaN or infinite
    values, or the disk refuses.

    `image`: for PNG: 2D, grey of uint8 or uint16, or RGB of uint8. For TIFF: 2D, of any channels, whole
    numbers of up to 32 bits, float32 or float64. For NIfTI: of any channels, whole numbers, float32 or
    float64.
    """
    path = Path(path)
    _check_writable(path, "image_writer")
    _check_finite(image.array, path)
    _write(path, "image_writer", replace(image, path=path))


def check_label_path(path: Path, *, is_stack: bool = False) -> None:
    """See that `write_label_map` can write to a path, before the labels are there.

    Raises `ImageError` when the suffix cannot be written, or not for a stack, or the folder does not exist.
    """
    kind = _check_writable(path, "label_writer")
    if is_stack and not kind.stack_writer:
        raise ImageError(f"{path} cannot hold a stack of pictures; name it .tif.")
    check_folder(path)


def read_header(path: str | os.PathLike[str] | ImageSource) -> ImageHeader:
    """Read what a file that `read_image` takes says of its voxels, without these.

    Raises `ImageError` when the file is missing, unknown, or damaged.
    """
    path = ImageSource.of(path).path
    kind = _readable_format(path)
    header: ImageHeader = imported(kind.header_reader)(path) if kind.header_reader else ImageHeader()
    return header


def holds_labels(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be shown as a label map, judged without reading its voxels.

    It is one if it calls itself one (NIfTI's intent code 1002, which `write_label_map` sets); or if it holds
    whole numbers and is kept as label maps are: in a folder called ``labels`` (or ``labelsTr``,
    ``labelsTs``), or under a name that ends with ``_seg``, ``_dseg``, ``_label`` or ``_labels``, or ``.seg``.
    All else is an image, however few values it holds: that an image is taken for labels would be the worse
    mistake. A file of several channels is never a label map. Raises `ImageError` when the file is missing,
    unknown, or damaged.
    """
    path = Path(path)
    header = read_header(path)
    folder, stem = path.absolute().parent.name.lower(), image_stem(path).lower()
    is_kept_as_labels = folder in LABEL_FOLDERS or stem.endswith(LABEL_ENDINGS)
    is_label_map = header.is_declared_labels or (header.is_integer and is_kept_as_labels)
    return is_label_map and header.channels == 1


@contextmanager
def image_draft(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """Give a hidden file to write to, which takes the place of `path` once the block ends well.

    Raises `ImageError` when the folder is missing, or the disk refuses.

    `suffix`: of the draft: libraries go by it. By default that of `path`, which may be no more than the last
    part of ``".nii.gz"``.
    """
    check_folder(path)
    try:
        with atomic_write(path, f".{uuid.uuid4().hex}{path.suffix if suffix is None else suffix}") as draft:
            yield draft
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_folder(path: Path) -> None:
    """See that the folder of a file that is to be written exists.

    Raises `ImageError` when it does not.
    """
    if not path.parent.is_dir():
        raise ImageError(f"{path} cannot be written, since its folder does not exist; create it first.")


def _read(source: ImageSource, ndim: int | None, as_labels: bool) -> MedicalImage:
    path, part = source.path, source.part
    kind = _readable_format(path)
    image: MedicalImage
    if isinstance(part, str):
        image = imported(DICOM.reader)(path, ndim, as_labels, part, source.files)
    elif part is not None:
        image = imported(TIFF.reader)(path, ndim, as_labels, part)
    else:
        image = imported(kind.reader)(path, ndim, as_labels)
    if image.array.size == 0:
        raise ImageError(f"{path} holds no voxels: its shape is {image.shape}; export it again.")
    return image


def _readable_format(path: Path) -> Format:
    """Return the format of a file or folder that is there, is not empty, and is of a known format."""
    kind = image_format(path)
    if path.is_dir():
        if kind is None:
            raise ImageError(f"{path} is a folder without DICOM files; name an image file.")
        return kind
    if kind is None:
        raise ImageError(f"{path} is of no known image format; use one of {', '.join(IMAGE_SUFFIXES)}.")
    if not path.is_file():
        raise ImageError(f"{path} does not exist; name an image file.")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty; copy or export it again.")
    return kind


def _check_writable(path: Path, writer: str) -> Format:
    kind = named_format(path)
    if kind is None or not getattr(kind, writer):
        raise ImageError(
            f"{path} cannot be written as {WRITTEN[writer]}; name it with one of "
            f"{', '.join(suffixes_with(writer))}."
        )
    return kind


def _write(path: Path, writer: str, values: LabelMap | MedicalImage | ScalarMap) -> None:
    kind = _check_writable(path, writer)
    with image_draft(path, image_suffix(path)) as draft:
        imported(getattr(kind, writer))(draft, values)


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
    """Return the smallest unsigned type for labels up to `largest`."""
    candidates = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
    return next(dtype for dtype in candidates if largest <= np.iinfo(dtype).max)
