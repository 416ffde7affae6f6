"""NRRD and MetaImage files, through SimpleITK: the extra ``medical``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from swipe_core.errors import ImageError
from swipe_core.images.anatomy import LPS_TO_RAS, placed, reversed_axes
from swipe_core.images.decoding import Shared, decoding, reason, require_room, silent_console
from swipe_core.images.header import ImageHeader
from swipe_core.images.medical_image import LabelMap, MedicalImage
from swipe_core.images.metaimage import check_metaimage
from swipe_core.images.units import conversion, unit_named

if TYPE_CHECKING:
    from SimpleITK import Image, ImageFileReader

# The decoder is chosen by the suffix, as for every other format here, and not by trying them all.
DECODERS = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
KINDS = {"NrrdImageIO": "NRRD", "MetaImageIO": "MetaImage", "GDCMImageIO": "DICOM"}


def read_itk(path: Path, ndim: int | None = None, as_labels: bool = False) -> MedicalImage:
    """Read an NRRD or a MetaImage.

    The world is turned from ITK's (left, posterior, superior) to ours. What has no place in a
    patient stays as it is: 2D images, and an NRRD without a named space. The parts of a voxel, or a
    fourth axis, become channels.

    Parameters
    ----------
    path : Path
    ndim : int, optional
        With 2, a volume of a single slice is a 2D image. Else as many as the file has.
    as_labels : bool
        Makes no difference here.

    Raises
    ------
    ImageError
        When SimpleITK is missing, the file is damaged, does not fit into memory, or its axes cannot be
        placed.
    """
    reader = file_reader(path)
    with itk_decoding(path, reader.GetImageIO()):
        if reader.GetImageIO() == "MetaImageIO":
            check_metaimage(path)
        reader.ReadImageInformation()
        require_room(path, (*reader.GetSize(), reader.GetNumberOfComponents()), _itemsize(reader, path))
        image = reader.Execute()
    is_oriented = _is_oriented(reader, image)
    return placed(
        channels_last(image, path),
        world_matrix(image, is_oriented),
        _unit(reader, image, is_oriented),
        path,
        ndim,
        is_flat=image.GetDimension() == 2,
        is_anatomical=is_oriented,
    )


def read_itk_header(path: Path) -> ImageHeader:
    """From the header alone: a fourth axis counts points in time, the parts of a voxel are channels.

    Raises
    ------
    ImageError
        When SimpleITK is missing, or the file is damaged.
    """
    reader = file_reader(path)
    with itk_decoding(path, reader.GetImageIO()):
        if reader.GetImageIO() == "MetaImageIO":
            check_metaimage(path, unpack=False)
        reader.ReadImageInformation()
        size, parts = reader.GetSize(), reader.GetNumberOfComponents()
        pixels = simpleitk(path).GetPixelIDValueAsString(reader.GetPixelID())
    times = int(np.prod(size[3:], dtype=np.int64))
    return ImageHeader(
        channel_axis="time" if times > 1 else "channel",
        channels=times * parts,
        is_integer="integer" in pixels,
    )


def simpleitk(path: Path) -> ModuleType:
    """The library; `path` is what it is needed for.

    Raises
    ------
    ImageError
        When it is not installed.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise ImageError(
            f'{path} needs SimpleITK, which is not installed; run: pip install "napari-swipe[medical]".'
        ) from error
    return SimpleITK


def file_reader(path: Path) -> ImageFileReader:
    """A reader for one file, with the decoder of its suffix."""
    reader = simpleitk(path).ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(DECODERS[path.suffix.lower()])
    return reader


def _itemsize(reader: ImageFileReader, path: Path) -> int:
    """Bytes of a number, from the name of its type: ``"16-bit signed integer"``."""
    bits = re.search(r"(\d+)-bit", simpleitk(path).GetPixelIDValueAsString(reader.GetPixelID()))
    return int(bits.group(1)) // 8 if bits else 1


@contextmanager
def itk_decoding(path: Path, decoder: str) -> Iterator[None]:
    """As `decoding`, with ITK's warnings silent: its errors say the same, and are raised.

    The decoders of MetaImage and DICOM are not ITK's own, and print whatever they meet.
    """
    simpleitk(path)
    console = nullcontext() if decoder == "NrrdImageIO" else silent_console()
    with _ITK_UNWARNED, decoding(path, KINDS[decoder]), console:
        yield


@contextmanager
def _itk_warnings_off() -> Iterator[None]:
    from SimpleITK import ProcessObject

    shown = ProcessObject.GetGlobalWarningDisplay()
    ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        ProcessObject.SetGlobalWarningDisplay(shown)


_ITK_UNWARNED = Shared(_itk_warnings_off)


def world_matrix(image: Image, is_oriented: bool) -> Float[np.ndarray, "4 4"]:
    """(x, y, z) voxels to our (x, y, z) world, of an image of two axes or more."""
    ndim, kept = image.GetDimension(), min(image.GetDimension(), 3)
    direction = np.reshape(image.GetDirection(), (ndim, ndim))
    matrix = np.eye(4)
    matrix[:kept, :kept] = (direction * image.GetSpacing())[:kept, :kept]
    matrix[:kept, 3] = image.GetOrigin()[:kept]
    return LPS_TO_RAS @ matrix if is_oriented else matrix


def channels_last(image: Image, path: Path) -> Shaped[np.ndarray, "z y x channels"]:
    """The numbers of an image; a 2D one has a single slice."""
    stored = simpleitk(path).GetArrayFromImage(image)
    if stored.dtype.kind not in "biuf":
        raise ImageError(f"{path} holds {stored.dtype} values; real numbers are needed here.")
    parts, axes = image.GetNumberOfComponentsPerPixel(), stored.shape[: image.GetDimension()]
    spatial, times = (1, *axes)[-3:], int(np.prod(axes[:-3], dtype=np.int64))
    if times > 1 and parts > 1:
        raise ImageError(
            f"{path} has {times} times of voxels with {parts} parts, and only one of both can be channels; "
            "split the file."
        )
    return stored.reshape(times, *spatial, parts).transpose(1, 2, 3, 4, 0).reshape(*spatial, times * parts)


def _is_oriented(reader: ImageFileReader, image: Image) -> bool:
    if reader.GetImageIO() == "NrrdImageIO" and image.GetDimension() == 3:
        return bool(reader.HasMetaDataKey("NRRD_space"))  # of an image in time ITK loses it
    return image.GetDimension() >= 3


def _unit(reader: ImageFileReader, image: Image, is_oriented: bool) -> str:
    """ITK's world is in millimetres, unless the file says otherwise or knows no distances."""
    if reader.HasMetaDataKey("NRRD_units[0]"):
        return unit_named(reader.GetMetaData("NRRD_units[0]"))
    has_spacing = is_oriented or any(step != 1 for step in image.GetSpacing())
    return "millimeter" if has_spacing else "pixel"


def write_itk(path: Path, label_map: LabelMap) -> None:
    """Write a label map as NRRD or MetaImage, compressed; its unit becomes the millimetre.

    A 2D label map has no place in a patient, and is not turned.
    """
    library = simpleitk(path)
    ndim = label_map.ndim
    matrix = reversed_axes(label_map.affine.matrix).matrix * conversion(label_map.unit, "millimeter")
    if ndim == 3:
        matrix = LPS_TO_RAS @ matrix
    spacing = np.linalg.norm(matrix[:ndim, :ndim], axis=0)
    image = library.GetImageFromArray(np.ascontiguousarray(label_map.array))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:ndim, ndim].tolist())
    image.SetDirection((matrix[:ndim, :ndim] / spacing).ravel().tolist())
    try:
        library.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise ImageError(f"{label_map.path} cannot be written ({reason(error)}).") from error
