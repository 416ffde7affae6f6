"""How large a voxel of a TIFF is: ImageJ's, OME's or the resolution tags' word for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from swipe_core.images.units import PIXEL, common_unit, conversion, unit_named

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

Calibration = tuple[tuple[float, ...], str]
UNKNOWN: Calibration = ((1.0, 1.0, 1.0), "pixel")
INCH_CODE, CENTIMETER_CODE = 2, 3  # of the tag ResolutionUnit
SCREEN = 72  # pixels per inch


def calibration(tiff: TiffFile, series: TiffPageSeries) -> Calibration:
    """Spacing of a series in (z, y, x) order and its unit; ones and ``"pixel"`` where the file is silent.

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
    """Distance between pixels in (y, x) order, in the unit of the resolution tags."""
    rationals = [page.tags.valueof(f"{axis}Resolution", default=(1, 1)) for axis in "YX"]
    return [below / above if above else 0.0 for above, below in rationals]


def _ome(xml: str, number: int, series: int) -> Calibration:
    """From the ``PhysicalSize`` of the image of this number; an axis without one has the unit of x."""
    images = ElementTree.fromstring(xml).findall(".//{*}Pixels")
    # Images without pixels are no series, and then the numbers tell nothing.
    pixels = images[number if len(images) == series else 0] if images else None
    found = pixels.attrib if pixels is not None else {}
    sized = [axis if f"PhysicalSize{axis}" in found else "X" for axis in "ZYX"]
    units = [unit_named(found.get(f"PhysicalSize{axis}Unit", "um")) for axis in sized]
    steps = [float(found.get(f"PhysicalSize{axis}", 1.0)) for axis in "ZYX"]
    return _usable(steps, units) if "PhysicalSizeX" in found else _usable(steps, [PIXEL] * 3)


def _usable(steps: Sequence[float], units: Sequence[str]) -> Calibration:
    """The calibration in one unit, unless a number of it cannot be a distance."""
    if not all(np.isfinite(step) and step != 0 for step in steps):
        return UNKNOWN
    unit, factors = common_unit(units)
    return tuple(abs(float(step)) * factor for step, factor in zip(steps, factors, strict=True)), unit
