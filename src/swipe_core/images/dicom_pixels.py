"""The values of DICOM frames: decoded, in colour where they are, and rescaled frame by frame."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from swipe_core.errors import ImageError
from swipe_core.images.decoding import decoding, require_room
from swipe_core.images.dicom_frames import Frame
from swipe_core.images.itk import itk_decoding, simpleitk

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RUN_LENGTH = "1.2.840.10008.1.2.5"  # the one compression that pydicom undoes by itself
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PALETTE, BRIGHT_IS_LOW = "PALETTE COLOR", "MONOCHROME1"
Values = Shaped[np.ndarray, "*axes"]
PIXEL_ATTRIBUTES = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)


def frame_values(
    dataset: Dataset, frames: Sequence[Frame]
) -> list[Shaped[np.ndarray, "rows columns channels"]]:
    """Return the values of all frames of a file: in the units of their rescaling, or RGB.

    Where nothing is rescaled, and a file says that its low values are bright (MONOCHROME1), as many X-ray
    images do, they are inverted: bright is bright in the array, too.

    The data set is read with its pixels, and the frames are all those of the file, in its own order.
    """
    path, samples = frames[0].path, int(dataset.get("SamplesPerPixel") or 1)
    shape = (len(frames), *frames[0].shape, samples)
    require_room(path, shape, max(1, int(dataset.BitsAllocated) // 8))
    with decoding(path, "DICOM"):
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

        stored = _stored(path, dataset).reshape(shape)
        if dataset.get("PhotometricInterpretation") == PALETTE:
            return list(apply_color_lut(stored[..., 0], dataset))
        if dataset.get("ModalityLUTSequence"):
            return list(apply_modality_lut(stored, dataset))
    if samples > 1:
        return list(stored)
    is_inverted = dataset.get("PhotometricInterpretation") == BRIGHT_IS_LOW and stored.dtype.kind in "iu"
    return [
        _inverted(values, dataset)
        if is_inverted and frame.rescaling == (1, 0)
        else _rescaled(values, *frame.rescaling)
        for values, frame in zip(stored, frames, strict=True)
    ]


def _inverted(stored: Values, dataset: Dataset) -> Values:
    """The least number that the stored bits can be for the greatest, and the other way round."""
    if stored.dtype.kind == "i":
        return ~stored
    return stored.dtype.type(2 ** int(dataset.BitsStored) - 1) - stored


def _rescaled(stored: Values, slope: float, intercept: float) -> Values:
    """Whole numbers stay whole where slope and intercept are; no value is rounded."""
    if (slope, intercept) == (1, 0):
        return stored
    values = stored * slope + intercept
    is_whole = stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    if not is_whole:
        return values
    limits = np.iinfo(np.int16)
    is_short = limits.min <= values.min() and values.max() <= limits.max
    return values.astype(np.int16 if is_short else np.int32 if stored.dtype.itemsize <= 2 else np.int64)


def _stored(path: Path, dataset: Dataset) -> Values:
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != RUN_LENGTH:
        return _decompressed(path, dataset)
    return pixel_array(dataset)


def _decompressed(path: Path, dataset: Dataset) -> Values:
    """Decoded by GDCM, from a file with nothing in it but pixels: it would rescale all frames alike."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    syntax = dataset.file_meta.TransferSyntaxUID
    bare = Dataset()
    for name in PIXEL_ATTRIBUTES:
        if name in dataset:
            bare[name] = dataset[name]
    bare.SOPClassUID, bare.SOPInstanceUID = SECONDARY_CAPTURE, generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    library = simpleitk(path)
    with tempfile.TemporaryDirectory() as folder, itk_decoding(path, "GDCMImageIO"):
        copy = Path(folder) / "pixels.dcm"
        bare.save_as(copy, enforce_file_format=True)
        try:
            image = library.ReadImage(str(copy), imageIO="GDCMImageIO")
        except RuntimeError as error:
            raise ImageError(
                f"{path} is compressed as {syntax.name}, and cannot be decoded here; export it uncompressed."
            ) from error
        return library.GetArrayFromImage(image)
