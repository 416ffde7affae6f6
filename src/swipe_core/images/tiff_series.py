"""What is in a TIFF, by its own words: pictures, their axes and channels, and how large a voxel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from swipe_core.errors import ImageError, first_few
from swipe_core.images.channels import COLOURS, Channels, stack_refused
from swipe_core.images.decoding import decoding
from swipe_core.images.units import PIXEL, common_unit, conversion, unit_named

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# tifffile's letters for axes: Z depth, T time, I pages, Q unknown, C channels, S samples of a pixel.
DEPTH_AXES = "ZTIQ"
CHANNEL_AXES = "SC"
# What scanners of slides keep besides the slide.
COPIES = ("label", "macro", "thumbnail", "overview")
STACKS = {"T": "a movie of {} time points", "Z": "a stack of {} slices"}
ALPHA = (1, 2)
COLOUR_MODES = ("RGB", "YCBCR", "SEPARATED")  # of pages that are read as red, green and blue
Calibration = tuple[tuple[float, ...], str]
UNKNOWN: Calibration = ((1.0, 1.0, 1.0), "pixel")
INCH_CODE, CENTIMETER_CODE = 2, 3  # of the tag ResolutionUnit
SCREEN = 72  # pixels per inch


@dataclass(frozen=True)
class TiffContents:
    """What is in a TIFF."""

    pictures: tuple[int, ...]
    """Numbers of the series that are pictures of their own."""
    copies: tuple[str, ...] = ()
    """What else there is that the file calls a reduced picture, or a slide's label; each as a phrase."""
    doubtful: tuple[str, ...] = ()
    """What else there is, and may be a picture of its own."""
    begins_in: str = ""
    """Where there is no picture: the name of the file in which the one begins that this is a part of."""


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
        sizes = first_few([_size(tiff.series[index]) for index in pictures])
        raise ImageError(
            f"{path} holds {len(pictures)} pictures ({sizes}), and one is needed here; save each as a "
            "file of its own."
        )
    return tiff.series[pictures[0]]


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


def calibration(tiff: TiffFile, series: TiffPageSeries) -> Calibration:
    """Return the spacing of a series in (z, y, x) order and its unit; pixels where the file is silent.

    A resolution per inch, or per nothing, is taken for a printer's and ignored; the inches that ImageJ states
    are lengths, but for a screen's 72 pixels each, which ImageJ ignores too.
    """
    page = series.keyframe
    if tiff.is_ome and tiff.ome_metadata:
        return _ome(tiff.ome_metadata, tiff.series.index(series), len(tiff.series))
    per = page.tags.valueof("ResolutionUnit")
    if tiff.is_imagej:
        metadata = tiff.imagej_metadata or {}
        unit = metadata.get("unit")
        # The resolutions are in pixels per unit, and the other axes may have units of their own.
        units = [unit_named(metadata.get(key, unit)) for key in ("zunit", "yunit")] + [unit_named(unit)]
        depth = metadata.get("spacing", 1.0)
        steps = [depth if isinstance(depth, (int, float)) else 1.0, *_steps(page)]
        is_printed = unit is None and per == INCH_CODE
        is_screen = units[-1] == "inch" and np.isclose(steps[-1], 1 / SCREEN)
        return UNKNOWN if is_printed or is_screen else _usable(steps, units)
    if per == CENTIMETER_CODE:
        y, x = (step * conversion("centimeter", "micrometer") for step in _steps(page))
        return _usable([1.0, y, x], ["micrometer"] * 3)
    return UNKNOWN


def _steps(page: TiffPage) -> list[float]:
    """Return the distance between pixels in (y, x) order, in the unit of the resolution tags."""
    rationals = [page.tags.valueof(f"{axis}Resolution", default=(1, 1)) for axis in "YX"]
    return [below / above if above else 0.0 for above, below in rationals]


def _ome(xml: str, number: int, series: int) -> Calibration:
    """Return the ``PhysicalSize`` of the image of this number; an axis without one has the unit of x."""
    images = ElementTree.fromstring(xml).findall(".//{*}Pixels")
    # Images without pixels are no series, and then the numbers tell nothing.
    pixels = images[number if len(images) == series else 0] if images else None
    found = pixels.attrib if pixels is not None else {}
    sized = [axis if f"PhysicalSize{axis}" in found else "X" for axis in "ZYX"]
    units = [unit_named(found.get(f"PhysicalSize{axis}Unit", "um")) for axis in sized]
    steps = [float(found.get(f"PhysicalSize{axis}", 1.0)) for axis in "ZYX"]
    return _usable(steps, units) if "PhysicalSizeX" in found else _usable(steps, [PIXEL] * 3)


def _usable(steps: Sequence[float], units: Sequence[str]) -> Calibration:
    """Return the calibration in one unit, unless a number of it cannot be a distance."""
    if not all(np.isfinite(step) and step != 0 for step in steps):
        return UNKNOWN
    unit, factors = common_unit(units)
    return tuple(abs(float(step)) * factor for step, factor in zip(steps, factors, strict=True)), unit
