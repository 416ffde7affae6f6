"""TIFF: pictures and stacks, with the spacing that ImageJ, OME or the resolution tags state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped, UInt

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images.decoding import SILENT_CONSOLE, decoding, plain, require_room
from swipe_core.images.medical_image import LabelMap, MedicalImage, ScalarMap
from swipe_core.images.tiff_series import ALPHA, calibration, channel_kinds, kept_axes, picture_of
from swipe_core.images.units import SYMBOLS, conversion, writable_unit

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

IMAGEJ_UNITS = {
    "micrometer": "micron",
    "millimeter": "mm",
    "centimeter": "cm",
    "nanometer": "nm",
    "meter": "m",
}
IMAGEJ_TYPES = (np.uint8, np.uint16, np.float32)  # of one channel
TIFF_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
OME_UNITS = SYMBOLS | {
    "micrometer": "\N{MICRO SIGN}m",
    "angstrom": "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}",
}


def read_tiff(
    path: Path, ndim: int | None = None, as_labels: bool = False, part: int | None = None
) -> MedicalImage:
    """Read a picture of a TIFF, ImageJ TIFF or OME-TIFF at its full resolution.

    With an `ndim` of None or 3, the pages of a stack are slices of a volume. With 2, pages that the file
    calls neither slices nor times take the place of channels. As labels the stored numbers are kept: no
    palette, no inversion of white-is-zero, 1 for a set bit. Where the file holds several pictures, the
    number of one series (`part`) is needed.
    """
    from tifffile import TiffFile

    with decoding(path, "TIFF"), TiffFile(path) as tiff:
        series = picture_of(path, tiff, part)
        page = series.keyframe
        stored, axes = _pixels(path, tiff, series), series.axes
        spacing, unit = calibration(tiff, series)
        if not as_labels:
            stored, axes = coloured(stored, axes, page, tiff.is_imagej)
        if len(axes) != stored.ndim:
            raise ValueError(f"{stored.ndim} axes of pixels, called {axes}")
        alphas = sum(extra in ALPHA for extra in page.extrasamples)
        kept = kept_axes(stored.shape, stored.dtype, axes, ndim, path)
        kinds = channel_kinds(tiff, series, kept, is_palette=axes != series.axes)
    array = arranged(stored, axes, kept)
    if stored.dtype == bool:
        array = array.astype(np.uint8) * (1 if as_labels else 255)
    if alphas and "S" in axes:
        array = array[..., :-alphas]
    affine = Affine.from_spacing(spacing[4 - array.ndim :])
    return MedicalImage(plain(array), affine, unit, path, channel_axis=kinds.axis, channel_names=kinds.names)


def _pixels(path: Path, tiff: TiffFile, series: TiffPageSeries) -> Shaped[np.ndarray, "*axes"]:
    """Read the stored numbers, in the series' own axes."""
    require_whole(path, tiff, series)
    require_room(path, series.shape, series.dtype.itemsize)
    try:
        return series.asarray()
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error) and "not supported" not in str(error):
            raise
    # By itself tifffile knows no LZW, no JPEG and no packed 12-bit samples, nor an old one fax; Pillow does.
    from PIL.Image import DecompressionBombError
    from PIL.TiffImagePlugin import TiffImageFile
    from tifffile import PHOTOMETRIC

    frames = []
    try:
        with SILENT_CONSOLE, TiffImageFile(path) as picture:
            for page in series.pages:
                picture.seek(page.index if page else 0)
                frames.append(np.asarray(picture))
    except DecompressionBombError as error:
        raise ImageError(
            f"{path} is compressed in a way of which no page so large can be read here (sizes "
            f"{series.shape}); export it without compression, or deflated."
        ) from error
    stack = np.stack(frames).reshape(series.shape)
    # Pillow has already turned white-is-zero round.
    return np.invert(stack) if series.keyframe.photometric == PHOTOMETRIC.MINISWHITE else stack


def require_whole(path: Path, tiff: TiffFile, series: TiffPageSeries) -> None:
    """Raise where pages or pixels are missing: tifffile would leave them out, or read zeros."""
    size = tiff.filehandle.size
    # Every page points to the next; behind the last that tifffile found, there must be none.
    tiff.filehandle.seek(tiff.pages.next_page_offset or 0)
    if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
        raise ImageError(f"{path} is cut short after {len(tiff.pages)} pages; copy or export it again.")
    ends = [series.dataoffset + series.size * series.dtype.itemsize] if series.dataoffset is not None else []
    for page in series.pages:
        if page is None:
            raise ImageError(f"{path} is one part of an image in several files; export it as a single file.")
        ends += [start + n for start, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        parts = math.prod(series.keyframe.chunked)
        if series.dataoffset is None and len(page.dataoffsets) < parts:
            raise ImageError(
                f"{path} has {len(page.dataoffsets)} of the {parts} parts of a page; copy or export it again."
            )
    if max(ends, default=0) > size:
        raise ImageError(f"{path} is cut short at byte {size} of {max(ends)}; copy or export it again.")


def coloured(
    stored: Shaped[np.ndarray, "*axes"], axes: str, page: TiffPage, is_imagej: bool
) -> tuple[Shaped[np.ndarray, "*axes_and_colours"], str]:
    """Return colours for a palette's indices, and bright for bright."""
    from tifffile import PHOTOMETRIC

    # ImageJ's palettes only tint what are grey values.
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None and not is_imagej:
        colours = np.asarray(page.colormap) >> 8
        return np.moveaxis(colours.astype(np.uint8)[:, stored], 0, -1), axes + "S"
    if page.photometric == PHOTOMETRIC.SEPARATED and axes.endswith("S") and stored.dtype.kind == "u":
        return _printed(stored), axes
    if page.photometric == PHOTOMETRIC.MINISWHITE and stored.dtype == bool:
        return ~stored, axes
    if page.photometric == PHOTOMETRIC.MINISWHITE and stored.dtype.kind == "u":
        return stored.dtype.type(2**page.bitspersample - 1) - stored, axes
    return stored, axes


def _printed(inks: UInt[np.ndarray, "*axes inks"]) -> UInt[np.ndarray, "*axes colours"]:
    """Return red, green and blue of cyan, magenta, yellow and black ink on paper; then what follows."""
    full = np.iinfo(inks.dtype).max
    paper = 1 - inks[..., :4] / np.float32(full)
    colours = paper[..., :3] * paper[..., 3:4] if inks.shape[-1] > 3 else paper
    return np.concatenate([np.rint(colours * full).astype(inks.dtype), inks[..., 4:]], axis=-1)


def arranged(
    stored: Shaped[np.ndarray, "*axes"], axes: str, kept: str
) -> Shaped[np.ndarray, "*shape channels"]:
    """Return stored numbers, or a part of them, with the `kept` axes alone, in their order."""
    rest = [axis for axis in axes if axis not in kept]
    array = stored.transpose([axes.index(axis) for axis in [*rest, *kept]])
    array = array.reshape(array.shape[len(rest) :])
    return array if kept[-1] != "X" else array[..., None]


def write_tiff(path: Path, values: LabelMap | ScalarMap) -> None:
    """Write a label map or a scalar map as an ImageJ TIFF with its spacing and unit, deflated.

    Labels beyond 65535, which ImageJ's format does not know, and files called .ome.tif are
    written as OME-TIFF. A TIFF has no room for a rotation or an origin: these are dropped.
    """
    _write_map(path, values, "ZYX"[-values.ndim :])


def write_tiff_stack(path: Path, label_map: LabelMap) -> None:
    """Write a label map as `write_tiff` does, whose first axis counts pictures and is called time."""
    _write_map(path, label_map, "TYX")


def _write_map(path: Path, values: LabelMap | ScalarMap, axes: str) -> None:
    spacing = {axis: step for axis, step in zip(axes, values.spacing, strict=True) if axis != "T"}
    array = np.ascontiguousarray(values.array)
    if array.dtype.itemsize > 4:
        raise ImageError(f"{values.path}: a TIFF holds labels up to 2**32 - 1; name the file .nii.gz.")
    _write(path, array, axes, spacing, values.unit)


def write_tiff_image(path: Path, image: MedicalImage) -> None:
    """Write a 2D image of any channels as an ImageJ TIFF with its spacing and unit, deflated.

    Colours are written as such, other channels one after the other. Numbers that ImageJ's
    format does not know, colours of more than 8 bits, and files called .ome.tif, are written as
    OME-TIFF. A rotation and an origin are dropped.
    """
    if image.ndim != 2:
        raise ImageError(f"{image.name}: a TIFF is written of 2D images only; name the file .nii.gz.")
    if image.array.dtype not in TIFF_TYPES:
        raise ImageError(
            f"{image.name}: a TIFF is written of {', '.join(TIFF_TYPES)}, and not of {image.array.dtype}; "
            "convert the image."
        )
    if image.channel_kinds.is_colour:
        array, axes = image.array, "YXS"
    else:
        array, axes = np.moveaxis(image.array, -1, 0), "CYX"
        array, axes = (array[0], "YX") if image.channels == 1 else (array, axes)
    spacing = dict(zip("YX", image.spacing, strict=True))
    _write(path, np.ascontiguousarray(array), axes, spacing, image.unit)


def _write(
    path: Path, array: Shaped[np.ndarray, "*axes"], axes: str, spacing: Mapping[str, float], unit: str
) -> None:
    import tifffile

    metadata: dict[str, str | float]
    # tifffile cannot read several pages of ImageJ's back that are a single column wide.
    is_column = array.ndim > 2 and array.shape[axes.index("X")] == 1
    is_deep_colour = axes.endswith("S") and array.dtype != np.uint8
    as_ome = array.dtype not in IMAGEJ_TYPES or ".ome." in path.name.lower() or is_column or is_deep_colour
    if as_ome:
        metadata = ome_metadata(axes, spacing, unit)
    else:
        stated = writable_unit(unit, IMAGEJ_UNITS)
        spacing = {axis: step * conversion(unit, stated) for axis, step in spacing.items()}
        metadata = {"axes": axes, "unit": IMAGEJ_UNITS.get(stated, "pixel")}
        metadata |= {"spacing": spacing["Z"]} if "Z" in spacing else {}
    tifffile.imwrite(
        path,
        array,
        ome=as_ome,
        imagej=not as_ome,
        resolution=resolution(spacing),
        photometric="rgb" if axes.endswith("S") else "minisblack",
        compression="zlib",
        metadata=metadata,
    )


def ome_metadata(axes: str, spacing: Mapping[str, float], unit: str) -> dict[str, str | float]:
    """Return what tifffile is to write into an OME-TIFF."""
    metadata: dict[str, str | float] = {"axes": axes}
    for axis, step in spacing.items():
        metadata[f"PhysicalSize{axis}"] = step
        metadata[f"PhysicalSize{axis}Unit"] = OME_UNITS.get(unit, "pixel")
    return metadata


def resolution(spacing: Mapping[str, float]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the pixels per unit along x and y, as a TIFF has them."""
    return _rational(spacing["X"]), _rational(spacing["Y"])


def _rational(step: float) -> tuple[int, int]:
    """Return pixels per unit as the two 32-bit whole numbers of a TIFF, such that 0.3 reads back as 0.3."""
    limit = 2**32 - 1
    fraction = Fraction(step).limit_denominator(max(1, int(limit / max(step, 1.0))))
    return fraction.denominator, fraction.numerator
