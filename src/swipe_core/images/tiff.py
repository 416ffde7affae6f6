"""TIFF: pictures and stacks, with the spacing that ImageJ, OME or the resolution tags tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Shaped, UInt

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images.calibration import calibration
from swipe_core.images.channels import COLOURS, Channels, stack_refused
from swipe_core.images.decoding import SILENT_CONSOLE, decoding, plain, require_room
from swipe_core.images.medical_image import LabelMap, MedicalImage, ScalarMap
from swipe_core.images.units import SYMBOLS, conversion, writable_unit

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# tifffile's letters for axes: Z depth, T time, I pages, Q unknown, C channels, S samples of a pixel.
DEPTH_AXES = "ZTIQ"
CHANNEL_AXES = "SC"
# What scanners of slides keep besides the slide.
COPIES = ("label", "macro", "thumbnail", "overview")
NAMED_AT_MOST = 5
STACKS = {"T": "a movie of {} time points", "Z": "a stack of {} slices"}
ALPHA = (1, 2)
COLOUR_MODES = ("RGB", "YCBCR", "SEPARATED")  # of pages that are read as red, green and blue
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


@dataclass(frozen=True)
class TiffContents:
    """What is in a TIFF.

    Attributes
    ----------
    pictures
        Numbers of the series that are pictures of their own.
    copies
        What else there is that the file calls a reduced picture, or a slide's label; each as a phrase.
    doubtful
        What else there is, and may be a picture of its own.
    begins_in
        Where there is no picture: the name of the file in which the one begins that this is a part of.
    """

    pictures: tuple[int, ...]
    copies: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    begins_in: str = ""


def tiff_contents(path: Path) -> TiffContents:
    """Return the pictures in a TIFF, from its headers."""
    from tifffile import TiffFile

    with decoding(path, "TIFF"), TiffFile(path) as tiff:
        return _contents(tiff)


def _contents(tiff: TiffFile) -> TiffContents:
    """Return the pictures; of an OME-TIFF in several files, each belongs to the file in which it begins."""
    files = [next((page.parent for page in series.pages if page), tiff) for series in tiff.series]
    own = [index for index, file in enumerate(files) if file is tiff]
    if not own and files:
        return TiffContents((), begins_in=files[0].filename)
    pictures = [index for index in own if not _is_copy(tiff.series[index])] or own[:1]
    rest = [tiff.series[index] for index in own if index not in pictures]
    levels = [level for index in own for level in tiff.series[index].levels[1:]]
    # By their sizes alone, tifffile takes pages for the levels of a pyramid.
    doubtful = [level for level in levels if level.kind == "generic" and not _is_copy(level)]
    phrases = [f"{_size(series)} pixels, taken for a smaller copy" for series in doubtful]
    beyond = _undescribed(tiff)
    return TiffContents(
        tuple(pictures),
        tuple(
            f"{_size(series)} pixels, {_kind(series)}"
            for series in [*rest, *levels]
            if series not in doubtful
        ),
        tuple(phrases + [f"pages that the file's description does not count: {beyond}"] * bool(beyond)),
    )


def _undescribed(tiff: TiffFile) -> int:
    """Count the pages that belong to no series."""
    series = [each for one in tiff.series for each in one.levels if not each.keyframe.is_subifd]
    is_alone = all(page is None or page.parent is tiff for one in tiff.series for page in one.pages)
    return max(0, len(tiff.pages) - sum(map(len, series))) if is_alone else 0


def _kind(series: TiffPageSeries) -> str:
    name = series.name.lower()
    return f"the slide's {name}" if name in COPIES else "a reduced copy or a mask"


def _is_copy(series: TiffPageSeries) -> bool:
    """Whether the file itself calls a series a reduced picture, a mask, or one of the slide and its label."""
    page = series.keyframe
    return bool(page.is_reduced or page.is_mask or page.is_subifd or series.name.lower() in COPIES)


def _size(series: TiffPageSeries) -> str:
    return " x ".join(str(n) for axis, n in zip(series.axes, series.shape, strict=True) if axis != "S")


def picture_of(path: Path, tiff: TiffFile, part: int | None) -> TiffPageSeries:
    """Return the series that is read: the one of this number, or the only picture there is."""
    if part is not None:
        if part >= len(tiff.series):
            raise ImageError(f"{path} holds {len(tiff.series)} pictures, and no {part + 1}th one.")
        return tiff.series[part]
    contents = _contents(tiff)
    pictures = contents.pictures
    if contents.begins_in:
        raise ImageError(
            f"{path} is a part of the picture that begins in {contents.begins_in}; name that file instead."
        )
    if len(pictures) > 1:
        sizes = ", ".join(_size(tiff.series[index]) for index in pictures[:NAMED_AT_MOST])
        more = ", ..." if len(pictures) > NAMED_AT_MOST else ""
        raise ImageError(
            f"{path} holds {len(pictures)} pictures ({sizes}{more}), and one is needed here; save each as a "
            "file of its own."
        )
    return tiff.series[pictures[0]]


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


def tiff_axes(path: Path) -> tuple[str, tuple[int, ...], Channels]:
    """Return letters and lengths of the axes of a TIFF's one picture, and its channels; no pixel is read."""
    from tifffile import TiffFile

    with decoding(path, "TIFF"), TiffFile(path) as tiff:
        series = picture_of(path, tiff, None)
        letter = next((axis for axis in CHANNEL_AXES if axis in series.axes), "X")
        kinds = channel_kinds(tiff, series, letter, is_palette=False)
        return str(series.axes), tuple(map(int, series.shape)), kinds


def channel_kinds(tiff: TiffFile, series: TiffPageSeries, kept: str, *, is_palette: bool) -> Channels:
    """Return what the channels of a series are, whose axes are `kept`; those of a palette are its colours."""
    letter, page = kept[-1], series.keyframe
    if is_palette:
        return Channels(len(COLOURS), "colour")
    if letter == "X":
        return Channels(1)
    if letter not in CHANNEL_AXES:
        return Channels(series.shape[series.axes.index(letter)], "page")
    count = series.shape[series.axes.index(letter)] - sum(extra in ALPHA for extra in page.extrasamples)
    if letter == "S":
        mode = getattr(page.photometric, "name", "")
        is_colour = mode in COLOUR_MODES
        if mode == "SEPARATED" and count > len(COLOURS):
            count -= 1  # black ink, which has gone into the colours
        if is_colour and count > len(COLOURS):
            return Channels(count, names=(*COLOURS, *(f"sample {n + 1}" for n in range(3, count))))
        return Channels(count, "colour" if is_colour and count == len(COLOURS) else "channel")
    return Channels(count, names=_channel_names(tiff, series, count))


def _channel_names(tiff: TiffFile, series: TiffPageSeries, count: int) -> tuple[str, ...]:
    """Return what ImageJ or OME calls the channels; nothing unless each has a name."""
    if tiff.is_ome and tiff.ome_metadata:
        images = ElementTree.fromstring(tiff.ome_metadata).findall("{*}Image/{*}Pixels")
        own = images[tiff.series.index(series)] if len(images) == len(tiff.series) else None
        names = [] if own is None else [channel.get("Name", "") for channel in own.findall("{*}Channel")]
    else:
        labels = (tiff.imagej_metadata or {}).get("Labels", []) if tiff.is_imagej else []
        names = [str(label) for label in labels[:count]]  # channels follow each other first
    return tuple(names) if len(names) == count and all(names) and len(set(names)) == count else ()


def _pixels(path: Path, tiff: TiffFile, series: TiffPageSeries) -> Shaped[np.ndarray, "*axes"]:
    """Read the stored numbers, in the series' own axes."""
    require_whole(path, tiff, series)
    require_room(path, series.shape, series.dtype.itemsize)
    try:
        return series.asarray()
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
    # By itself tifffile knows no LZW, no JPEG and no packed 12-bit samples; Pillow does.
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


def kept_axes(shape: Sequence[int], dtype: np.dtype, axes: str, ndim: int | None, path: Path) -> str:
    """Return the axes of an image in their order: depth if any, rows, columns, channels if any.

    Shape, dtype and axes are those of the stored numbers, in tifffile's letters.
    """
    if dtype.kind not in "biuf":
        raise ImageError(f"{path} holds {dtype} values; export real numbers instead.")
    size: dict[str, int] = {}
    for axis, n in zip(axes, shape, strict=True):
        size[axis] = max(n, size.get(axis, 1))
    channel = next((axis for axis in CHANNEL_AXES if size.get(axis, 1) > 1), None)
    depth = next((axis for axis in DEPTH_AXES if size.get(axis, 1) > 1), None)
    if ndim == 2 and channel is None and depth in ("I", "Q"):
        channel, depth = depth, None
    found = 2 if depth is None else 3
    kept = [axis for axis in (depth, "Y", "X", channel) if axis]
    is_doubled = any(axes.count(axis) > 1 for axis in kept)
    has_more = any(size[axis] > 1 for axis in axes if axis not in kept)
    if is_doubled or has_more or not {"Y", "X"} <= set(axes):
        several = f"volumes at {size['T']} time points: " if depth == "Z" and size.get("T", 1) > 1 else ""
        raise ImageError(
            f"{path} has {several}axes {axes} of sizes {tuple(shape)}; only depth, rows, columns and "
            "channels have a place here: split the file."
        )
    if depth is not None and ndim == 2:
        what = STACKS.get(depth, "a stack of {} pages").format(size[depth])
        raise stack_refused(path, f"{what} (axes {axes} of sizes {tuple(shape)})")
    if ndim not in (None, found):
        raise ImageError(
            f"{path} is a {found}D image with axes {axes} of sizes {tuple(shape)}; "
            f"a {ndim}D image is needed here."
        )
    return "".join(kept)


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
