"""PNG, JPEG and BMP: two-dimensional pictures without a spacing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped, UInt16

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images.channels import ChannelAxis
from swipe_core.images.decoding import decoding, plain, require_room
from swipe_core.images.medical_image import LabelMap, MedicalImage

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}
# Pixels of a palette with one bit each, deflated: 3 x 8 x 1032, and no other picture becomes as large.
LARGEST_EXPANSION = 25_000
EXIF_ORIENTATION = 0x0112
# Above these a JPEG is no drawing of two flat values any more.
JPEG_NOISE = 64
JPEG_STRAYS = 0.05


def read_raster(path: Path, ndim: int | None = None, as_labels: bool = False) -> MedicalImage:
    """Read a picture in the pixel order of the file (an EXIF rotation is not applied, as in napari).

    As labels the stored numbers are kept: the index into a palette rather than its colour, 1 rather than
    white in a picture of 1, 2 or 4 bits. A JPEG is taken as a mask of 0 and 255.
    """
    if ndim == 3:
        raise ImageError(
            f"{path} is a 2D picture, and a 3D image is needed here; use a NIfTI file or a TIFF stack."
        )
    with decoding(path, "PNG, JPEG or BMP"), _opened(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        if picture.format == "PNG" and frames > 1:
            raise ImageError(
                f"{path} is an animation of {frames} frames, and a single picture is needed here; export the "
                "frames as a TIFF stack."
            )
        most = LARGEST_EXPANSION * path.stat().st_size
        require_room(path, (picture.height, picture.width, len(picture.getbands())), 1, most=most)
        array = _stored_numbers(picture) if as_labels else _intensities(picture)
    if as_labels and picture.format == "JPEG":
        array = _black_and_white(array, path)
    if array.ndim == 2:
        array = array[..., None]
    axis: ChannelAxis = "colour" if array.shape[-1] == 3 else "channel"
    return MedicalImage(plain(array), Affine.identity(2), "pixel", path, channel_axis=axis)


def _opened(path: Path) -> ImageFile:
    """Open a picture by its first bytes; not by `PIL.Image.open`, which refuses large pictures."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    with path.open("rb") as file:
        start = file.read(8)
    kind = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), None)
    if kind is None:
        raise ImageError(f"{path} is no PNG, JPEG or BMP picture, whatever its name says; export it again.")
    if kind == "PNG":
        return PngImageFile(path)
    return JpegImageFile(path) if kind == "JPEG" else BmpImageFile(path)


def exif_orientation(path: Path) -> int:
    """Return how viewers of photographs turn a picture: EXIF's number from 1, as it is stored, to 8."""
    if not path.is_file():
        return 1
    with path.open("rb") as file:
        start = file.read(8)
    if not any(start.startswith(signature) for signature in SIGNATURES):
        return 1
    with suppress(ImageError), decoding(path, "PNG, JPEG or BMP"), _opened(path) as picture:
        # Pillow would decode a whole PNG to see whether EXIF data follow.
        if picture.format != "PNG" or "exif" in picture.info:
            return int(picture.getexif().get(EXIF_ORIENTATION, 1))
    return 1


def is_turned_by_exif(path: Path) -> bool:
    """Whether viewers of photographs exchange the rows and the columns of a picture."""
    return exif_orientation(path) > 4


def _intensities(picture: ImageFile) -> Shaped[np.ndarray, "y x *channels"]:
    if _png_bits(picture) == 16:
        return _deep_png(picture)
    if picture.mode in ("LA", "La"):
        return np.asarray(picture)[..., 0]
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.mode in ("L", "RGB", "F", "I") or picture.mode.startswith("I;16"):
        return np.asarray(picture)
    # By way of RGBA, since a palette with transparency has no direct way to RGB.
    through = "RGBA" if picture.mode in ("P", "PA") else "RGB"
    return np.asarray(picture.convert(through) if picture.mode != "RGBA" else picture)[..., :3]


def _stored_numbers(picture: ImageFile) -> Shaped[np.ndarray, "y x *channels"]:
    if picture.mode == "P":
        return np.asarray(picture)
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    bits = _png_bits(picture)
    if bits in (2, 4):
        return np.asarray(picture) // (255 // (2**bits - 1))  # Pillow stretches these to 0..255
    return _intensities(picture)


def _png_bits(picture: ImageFile) -> int | None:
    """Return the bits per sample of a PNG, from its header, which Pillow does not keep; else None."""
    if picture.format != "PNG" or picture.fp is None:
        return None
    place = picture.fp.tell()
    picture.fp.seek(24)
    bits = picture.fp.read(1)[0]
    picture.fp.seek(place)
    return int(bits)


def _deep_png(picture: ImageFile) -> UInt16[np.ndarray, "y x *channels"]:
    """Read a PNG of 16 bits per sample, all of them: Pillow alone keeps the high byte of colours.

    Pillow unpacks samples of two bytes in either byte order into one byte, so that reading
    the file in both orders yields the high and the low byte.
    """
    if picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.uint16)
    raw = str(picture.tile[0][3])
    if raw == "LA;16B":  # four bytes per pixel: grey high, grey low, alpha high, alpha low
        high, low = np.moveaxis(_unpacked(picture, "RGBA")[..., :2], -1, 0)
    else:
        high = _unpacked(picture, raw)[..., :3]
        low = _unpacked(picture, raw.replace("16B", "16L"))[..., :3]
    return high.astype(np.uint16) * 256 + low


def _unpacked(picture: ImageFile, raw: str) -> Shaped[np.ndarray, "y x channels"]:
    with type(picture)(picture.filename) as again:
        tile = again.tile[0]
        again.tile = [type(tile)(*tile[:3], raw)]
        return np.asarray(again)


def _black_and_white(array: Shaped[np.ndarray, "y x *channels"], path: Path) -> Shaped[np.ndarray, "y x"]:
    """Return the mask of 0 and 255 that a JPEG was made from: its compression blurs any other labels."""
    grey = array if array.ndim == 2 else array.mean(axis=-1)
    between = (grey >= JPEG_NOISE) & (grey <= 255 - JPEG_NOISE)
    dim = JPEG_NOISE > grey.max() > 0
    if dim or between.mean() > JPEG_STRAYS:
        raise ImageError(
            f"{path} is a JPEG, whose compression blurs labels unless they are black and white; "
            "save the label map as PNG, TIFF or NIfTI."
        )
    return np.where(grey > 127, np.uint8(255), np.uint8(0))


def write_png(path: Path, label_map: LabelMap) -> None:
    """Write a 2D label map as grey PNG of 8 or 16 bits."""
    if label_map.ndim != 2:
        raise ImageError(f"{label_map.path}: a PNG holds 2D label maps only; name the file .nii.gz or .tif.")
    if label_map.array.dtype.itemsize > 2:
        raise ImageError(
            f"{label_map.path}: a PNG holds labels up to 65535 only; name the file .nii.gz or .tif."
        )
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(label_map.array)).save(path, format="PNG")


def write_png_image(path: Path, image: MedicalImage) -> None:
    """Write a 2D image as PNG: grey of 8 or 16 bits, or RGB of 8; its spacing is dropped."""
    kinds = ((np.uint8, 1), (np.uint16, 1), (np.uint8, 3))
    is_colour = image.channels == 1 or image.channel_kinds.is_colour
    if image.ndim != 2 or not is_colour or (image.array.dtype.type, image.channels) not in kinds:
        raise ImageError(
            f"{image.name}: a PNG holds 2D images of one channel of uint8 or uint16, or of colours of uint8, "
            f"not {image.ndim}D ones of {image.channel_kinds} of {image.array.dtype}; choose another format."
        )
    from PIL import Image

    array = image.array[..., 0] if image.channels == 1 else image.array
    Image.fromarray(np.ascontiguousarray(array)).save(path, format="PNG")
