"""How large the pixels of a DICOM file are, and where: in the patient, at the detector, or nowhere stated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Steps = tuple[float, float]  # from row to row, and from column to column
CENTIMETRE = 3  # of the codes of Physical Units X/Y Direction
TWO_DIMENSIONAL = 1  # of the codes of Region Spatial Format
# Stated for a plane that is not in the patient, and where that plane is.
ELSEWHERE = {
    "ImagerPixelSpacing": "at the detector",
    "ImagePlanePixelSpacing": "at the detector",
    "NominalScannedPixelSpacing": "on the scanned film",
}


@dataclass(frozen=True)
class PixelSpacing:
    """Distances between neighbouring pixels.

    Attributes
    ----------
    steps
        From row to row, and from column to column.
    unit
        ``"millimeter"``, or ``"pixel"`` where the file states no length.
    measured
        Where the lengths hold, if not in what is pictured: ``"at the detector"``.
    """

    steps: Steps = (1.0, 1.0)
    unit: str = "pixel"
    measured: str = ""


def pixel_spacing(dataset: Dataset, steps: Steps | None, at_imager: Steps | None) -> PixelSpacing:
    """Return what the attributes of a frame state of its pixels.

    A Pixel Spacing that differs from the Imager Pixel Spacing is calibrated (PS3.3, 10.7.1.3); one that
    repeats it holds at the detector, and in the patient only once it is divided by the magnification.

    Parameters
    ----------
    dataset : Dataset
        Of the file.
    steps, at_imager
        The frame's own Pixel Spacing and Imager Pixel Spacing, in millimetres.
    """
    regions = _ultrasound_spacing(dataset)
    if regions:
        return regions
    found = {name: lengths(dataset.get(name)) for name in ELSEWHERE} | {"ImagerPixelSpacing": at_imager}
    name, at_detector = next(((name, pair) for name, pair in found.items() if pair), ("", None))
    if steps and (at_detector is None or not _is_close(steps, at_detector)):
        return PixelSpacing(steps, "millimeter")
    if at_detector:
        magnification = _number(dataset.get("EstimatedRadiographicMagnificationFactor"))
        if magnification and magnification > 0 and name == "ImagerPixelSpacing":
            return PixelSpacing(
                (at_detector[0] / magnification, at_detector[1] / magnification), "millimeter"
            )
        return PixelSpacing(at_detector, "millimeter", ELSEWHERE[name])
    ratio = lengths(dataset.get("PixelAspectRatio"))
    return PixelSpacing((ratio[0] / ratio[1], 1.0)) if ratio else PixelSpacing()


def lengths(values: Any) -> Steps | None:
    """A pair of positive numbers; None where a file holds anything else."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        return None
    first, second = (_number(value) for value in values)
    if first is None or second is None or min(first, second) <= 0:
        return None
    return first, second


def _ultrasound_spacing(dataset: Dataset) -> PixelSpacing | None:
    """Of the calibrated regions of an ultrasound image; a pixel where they differ or are in no lengths."""
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    planes = [region for region in regions if region.get("RegionSpatialFormat") == TWO_DIMENSIONAL]
    if not planes:
        return None
    found = {_region_steps(region) for region in planes}
    steps = found.pop()
    return PixelSpacing() if found or steps is None else PixelSpacing(steps, "millimeter")


def _region_steps(region: Dataset) -> Steps | None:
    """In millimetres; None of a region whose axes are not both in centimetres."""
    units = (region.get("PhysicalUnitsYDirection"), region.get("PhysicalUnitsXDirection"))
    deltas = [_number(region.get(f"PhysicalDelta{axis}")) for axis in "YX"]
    if units != (CENTIMETRE, CENTIMETRE):
        return None
    return lengths([None if delta is None else round(abs(delta) * 10, 9) for delta in deltas])


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_close(first: Steps, second: Steps) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(first, second, strict=True))
