"""How large a voxel of a TIFF is: ImageJ's, OME's or the resolution tags' word for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from swipe_core.images.units import conversion, unit_named

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

Calibration = tuple[tuple[float, ...], str]
UNKNOWN: Calibration = ((1.0, 1.0, 1.0), "pixel")
INCH_CODE, CENTIMETER_CODE = 2, 3  # of the tag ResolutionUnit


def calibration(tiff: TiffFile, series: TiffPageSeries) -> Calibration:
    """Spacing of a series in (z, y, x) order and its unit; ones and ``"pixel"`` where the file is silent.

    A resolution per inch, or per nothing, is taken for a printer's and ignored.
    """
    page = series.keyframe
    if tiff.is_ome and tiff.ome_metadata:
        return _ome(tiff.ome_metadata, tiff.series.index(series), len(tiff.series))
    per = page.tags.valueof("ResolutionUnit")
    if tiff.is_imagej:
        metadata = tiff.imagej_metadata or {}
        unit = metadata.get("unit", "inch" if per == INCH_CODE else "pixel")
        # One unit for all three axes; the resolutions are in pixels per unit.
        steps = [metadata.get("spacing", 1.0), *_steps(page)]
        return UNKNOWN if unit in ("inch", "in") else _usable(steps, unit_named(unit))
    if per == CENTIMETER_CODE:
        y, x = (step * conversion("centimeter", "micrometer") for step in _steps(page))
        return _usable([1.0, y, x], "micrometer")
    return UNKNOWN


def _steps(page: TiffPage) -> list[float]:
    """Distance between pixels in (y, x) order, in the unit of the resolution tags."""
    rationals = [page.tags.valueof(f"{axis}Resolution", default=(1, 1)) for axis in "YX"]
    return [below / above if above else 0.0 for above, below in rationals]


def _ome(xml: str, number: int, series: int) -> Calibration:
    """From the ``PhysicalSize`` of the image of this number, in the unit of its x axis."""
    images = ElementTree.fromstring(xml).findall(".//{*}Pixels")
    # Images without pixels are no series, and then the numbers tell nothing.
    pixels = images[number if len(images) == series else 0] if images else None
    found = pixels.attrib if pixels is not None else {}
    units = {axis: unit_named(found.get(f"PhysicalSize{axis}Unit", "um")) for axis in "ZYX"}
    unit = units["X"] if "PhysicalSizeX" in found else "pixel"
    steps = [float(found.get(f"PhysicalSize{axis}", 1.0)) * conversion(units[axis], unit) for axis in "ZYX"]
    return _usable(steps, unit)


def _usable(steps: Sequence[float], unit: str) -> Calibration:
    """The calibration, unless a number of it cannot be a distance."""
    if not all(np.isfinite(step) and step != 0 for step in steps):
        return UNKNOWN
    return tuple(abs(float(step)) for step in steps), unit
