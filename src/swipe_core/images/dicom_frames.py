"""The frames of DICOM files, and their places: a classic file has one, an enhanced one a whole volume."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from swipe_core.errors import ImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vector = Float[np.ndarray, " 3"]
Steps = tuple[float, float]  # from row to row, and from column to column
CENTIMETRE = 3  # of the codes of Physical Units X/Y Direction
TWO_DIMENSIONAL = 1  # of the codes of Region Spatial Format
# Stated for a plane that is not in the patient, and where that plane is.
ELSEWHERE = {
    "ImagerPixelSpacing": "at the detector",
    "ImagePlanePixelSpacing": "at the detector",
    "NominalScannedPixelSpacing": "on the scanned film",
}
# Where frames of one place differ: each attribute, and its functional group in enhanced files.
CONTRASTS = {
    "TemporalPositionIndex": "FrameContentSequence",
    "TemporalPositionIdentifier": "",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "AcquisitionNumber": "",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "EchoTime": "",
    "DiffusionBValue": "MRDiffusionSequence",
    "DiffusionGradientOrientation": "",
    "FrameType": "MRImageFrameTypeSequence",
    "ImageType": "",
}
TIMES = set(list(CONTRASTS)[:5])


@dataclass(frozen=True)
class PixelSpacing:
    """Distances between neighbouring pixels."""

    steps: Steps = (1.0, 1.0)
    """From row to row, and from column to column."""
    unit: str = "pixel"
    """``"millimeter"``, or ``"pixel"`` where the file states no length."""
    measured: str = ""
    """Where the lengths hold, if not in what is pictured: ``"at the detector"``."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture, and what its file states of it."""

    path: Path
    index: int
    """`path` and `index`: the file, and the number of the picture in it."""
    shape: tuple[int, int]
    """Rows and columns."""
    position: Vector | None
    """(x, y, z) of the first pixel's centre in the patient, in millimetres: to the left, to the back, and to
    the head. None where the file does not know.
    """
    rows: Vector
    columns: Vector
    """`rows` and `columns`: unit vectors: the directions in which the rows follow each other, and the
    columns.
    """
    spacing: PixelSpacing
    """Of the pixels."""
    thickness: float
    """Distance to the next slice, as far as a single one knows it, in millimetres."""
    is_anatomical: bool
    """Whether the positions are those in a patient, rather than in the space of a probe."""
    stack: str
    """What tells volumes of one series apart."""
    contrast: tuple[tuple[float, str], ...]
    """What tells frames at one place apart: the values of `CONTRASTS`, each a number or a text."""
    rescaling: tuple[float, float]
    """Slope and intercept."""
    identity: tuple[Hashable, ...]
    """Two frames that have it in common are copies."""

    @property
    def normal(self) -> Vector:
        """The unit vector across the slice."""
        return np.cross(self.columns, self.rows)


def frames_of(path: Path, dataset: Dataset) -> list[Frame]:
    """Return the frames of a file in its own order."""
    _check_untiled(path, dataset)
    count = int(dataset.get("NumberOfFrames") or 1)
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    places = [None] * count if each or shared or count == 1 else _implied_offsets(dataset, count)
    return [
        _frame(path, dataset, index, [*each[index : index + 1], *shared[:1]], places[index])
        for index in range(count)
    ]


def _frame(path: Path, dataset: Dataset, index: int, groups: list[Dataset], offset: float | None) -> Frame:
    """Return a frame; `offset` is its distance from the position that a file states for its first one."""
    is_single = not dataset.get("NumberOfFrames") or int(dataset.NumberOfFrames) == 1
    # The one position of a file of several frames is not that of each.
    is_stated = bool(groups) or is_single or offset is not None
    position, orientation = _place(groups, _detector(dataset)) if is_stated else (None, None)
    steps = lengths(_value(groups, dataset, "PixelMeasuresSequence", "PixelSpacing"))
    at_detector = lengths(_value(groups, dataset, "FramePixelDataPropertiesSequence", "ImagerPixelSpacing"))
    spacing = pixel_spacing(dataset, steps, at_detector)
    is_placed = position is not None and orientation is not None and spacing.unit == "millimeter"
    columns, rows = orientation if is_placed and orientation is not None else (np.eye(3)[0], np.eye(3)[1])
    if position is not None and is_placed and offset is not None:
        position = position + offset * np.cross(columns, rows)
    between = _value(groups, dataset, "PixelMeasuresSequence", "SpacingBetweenSlices")
    thickness = between or _value(groups, dataset, "PixelMeasuresSequence", "SliceThickness")
    stack = str(_value(groups, dataset, "FrameContentSequence", "StackID") or "")
    slope = _value(groups, dataset, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = _value(groups, dataset, "PixelValueTransformationSequence", "RescaleIntercept")
    contrast = _contrast(groups, dataset)
    return Frame(
        path=path,
        index=index,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=position if is_placed else None,
        rows=rows,
        columns=columns,
        spacing=spacing,
        thickness=abs(float(thickness or 0)),
        is_anatomical=is_placed and not any("PlanePositionVolumeSequence" in group for group in groups),
        stack=stack,
        contrast=contrast,
        rescaling=(float(slope or 1), float(intercept or 0)),  # a slope of 0 is one that is not known
        identity=(
            *(str(dataset.get(name)) for name in ("SOPInstanceUID", "InstanceNumber")),
            str(position if is_placed else path),
            index,
            contrast,
        ),
    )


def _value(groups: Sequence[Dataset], dataset: Dataset, sequence: str, name: str) -> Any:
    """Return an attribute of a frame: from its own functional groups, the shared ones, or the file's own."""
    for group in groups:
        items = group.get(sequence)
        if items and items[0].get(name) is not None:
            return items[0].get(name)
    return dataset.get(name)


def _place(groups: Sequence[Dataset], root: Dataset) -> tuple[Vector | None, tuple[Vector, Vector] | None]:
    """Return the position, and the directions along a row and along a column, made unit vectors."""
    position = _value(groups, root, "PlanePositionSequence", "ImagePositionPatient")
    cosines = _value(groups, root, "PlaneOrientationSequence", "ImageOrientationPatient")
    if position is None:
        position = _value(groups, root, "PlanePositionVolumeSequence", "ImagePositionVolume")
        cosines = _value(groups, root, "PlaneOrientationVolumeSequence", "ImageOrientationVolume")
    place, directions = _vector(position, 3), _vector(cosines, 6)
    if directions is None:
        return place, None
    columns, rows = directions[:3], directions[3:]
    if min(np.linalg.norm(columns), np.linalg.norm(rows), np.linalg.norm(np.cross(columns, rows))) < 0.5:
        return place, None
    return place, (columns / np.linalg.norm(columns), rows / np.linalg.norm(rows))


def _vector(values: Any, length: int) -> Float[np.ndarray, " length"] | None:
    if values is None or isinstance(values, str) or np.size(values) != length:
        return None
    vector = np.array([float(value) for value in values])
    return vector if np.isfinite(vector).all() else None


def _detector(dataset: Dataset) -> Dataset:
    """Return where nuclear medicine states places: of reconstructed slices, at the first detector."""
    detectors = dataset.get("DetectorInformationSequence")
    return detectors[0] if detectors and "ImagePositionPatient" not in dataset else dataset


def _implied_offsets(dataset: Dataset, count: int) -> Sequence[float | None]:
    """Return the distances of the frames from the first one in a file that states a single position.

    None of frames that follow each other in time, or are not said to lie apart.
    """
    offsets = dataset.get("SliceLocationVector")
    if offsets is not None and np.size(offsets) == count:
        return [float(offset) - float(offsets[0]) for offset in offsets]
    slices = dataset.get("SliceVector")
    between = dataset.get("SpacingBetweenSlices")
    if between and slices is not None and sorted(slices) == list(range(1, count + 1)):
        return [(number - 1) * float(between) for number in slices]
    is_timed = "FrameTime" in dataset or "FrameTimeVector" in dataset
    if between and slices is None and "ImagePositionPatient" in dataset and not is_timed:
        return [index * float(between) for index in range(count)]
    return [None] * count


def _contrast(groups: Sequence[Dataset], dataset: Dataset) -> tuple[tuple[float, str], ...]:
    values = {name: _value(groups, dataset, sequence, name) for name, sequence in CONTRASTS.items()}
    directions = _value(groups, dataset, "MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    if directions:
        values["DiffusionGradientOrientation"] = directions[0].get("DiffusionGradientOrientation")
    return tuple(
        (float(value), "") if isinstance(value, Real) else (0.0, str(value or ""))
        for value in values.values()
    )


def _check_untiled(path: Path, dataset: Dataset) -> None:
    image_type = [str(value).upper() for value in dataset.get("ImageType") or []]
    if "MOSAIC" in image_type:
        raise ImageError(
            f"{path} is a mosaic, with all slices of a volume side by side in one picture; convert it to "
            "NIfTI first, with dcm2niix."
        )
    whole = (dataset.get("TotalPixelMatrixRows"), dataset.get("TotalPixelMatrixColumns"))
    if all(whole) and whole != (dataset.Rows, dataset.Columns):
        raise ImageError(
            f"{path} is a whole-slide image of {whole[0]} x {whole[1]} pixels in tiles; convert it to "
            "OME-TIFF first."
        )


def pixel_spacing(dataset: Dataset, steps: Steps | None, at_imager: Steps | None) -> PixelSpacing:
    """Return what the attributes of a frame state of its pixels.

    A Pixel Spacing that differs from the Imager Pixel Spacing is calibrated (PS3.3, 10.7.1.3); one that
    repeats it holds at the detector, and in the patient only once it is divided by the magnification.

    `steps` and `at_imager` are the frame's own Pixel Spacing and Imager Pixel Spacing, in millimetres.
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
    """Return a pair of positive numbers; None where a file holds anything else."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        return None
    first, second = (_number(value) for value in values)
    if first is None or second is None or min(first, second) <= 0:
        return None
    return first, second


def _ultrasound_spacing(dataset: Dataset) -> PixelSpacing | None:
    """Return that of calibrated ultrasound regions; a pixel where they differ or are no lengths."""
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    planes = [region for region in regions if region.get("RegionSpatialFormat") == TWO_DIMENSIONAL]
    if not planes:
        return None
    found = {_region_steps(region) for region in planes}
    steps = found.pop()
    return PixelSpacing() if found or steps is None else PixelSpacing(steps, "millimeter")


def _region_steps(region: Dataset) -> Steps | None:
    """Return the steps in millimetres; None of a region whose axes are not both in centimetres."""
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
