"""DICOM files for tests, written with pydicom: classic slices, enhanced volumes, and single pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
MULTI_FRAME_ULTRASOUND = "1.2.840.10008.5.1.4.1.1.3.1"
MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_dicom(
    path: Path, array: np.ndarray, sop_class: str = CT, *, preamble: bool = True, **attributes: Any
) -> Path:
    """A file of (rows, columns), of (frames, rows, columns), or of either with three colours behind."""
    is_colour = array.ndim > 2 and array.shape[-1] == 3 and array.dtype == np.uint8
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        dataset.PlanarConfiguration = 0
    if array.ndim - is_colour == 3:
        dataset.NumberOfFrames = array.shape[0]
    dataset.Rows, dataset.Columns = array.shape[array.ndim - 2 - is_colour : array.ndim - is_colour]
    dataset.BitsAllocated = dataset.BitsStored = 8 * array.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(array).tobytes()
    dataset["PixelData"].VR = "OW" if array.dtype.itemsize > 1 else "OB"
    return write_dataset(path, dataset, preamble=preamble, **attributes)


def write_dataset(path: Path, dataset: Dataset, *, preamble: bool = True, **attributes: Any) -> Path:
    """A data set with further attributes, with or without the beginning that files have today."""
    for name, value in attributes.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    if preamble:
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.save_as(path, implicit_vr=False, little_endian=True)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,
    positions: Sequence[Sequence[float]],
    order: Sequence[int] | None = None,
    **attributes: Any,
) -> Path:
    """Classic slices of (slices, rows, columns), whose files are named in the order given."""
    defaults = {"PixelSpacing": [0.7, 0.9], "ImageOrientationPatient": list(AXIAL), "SliceThickness": 5}
    for name, index in enumerate(order or range(len(volume))):
        place = list(positions[index])
        write_dicom(
            folder / f"{name:03}.dcm",
            volume[index],
            **(defaults | {"ImagePositionPatient": place, "InstanceNumber": index + 1} | attributes),
        )
    return folder


def items(**attributes: Any) -> list[Dataset]:
    """A sequence of one item; what is a mapping becomes a sequence inside."""
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, items(**value) if isinstance(value, Mapping) else value)
    return list(pydicom.Sequence([item]))


def write_enhanced(
    path: Path,
    volume: np.ndarray,
    frames: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Any] | None = None,
    sop_class: str = ENHANCED_MR,
    **attributes: Any,
) -> Path:
    """An enhanced file: one mapping of functional groups for each frame, and one for all."""
    default = {
        "PixelMeasuresSequence": {"PixelSpacing": [0.7, 0.9], "SliceThickness": 5},
        "PlaneOrientationSequence": {"ImageOrientationPatient": list(AXIAL)},
    }
    return write_dicom(
        path,
        volume,
        sop_class,
        PerFrameFunctionalGroupsSequence=[items(**frame)[0] for frame in frames],
        SharedFunctionalGroupsSequence=items(**(default if shared is None else shared)),
        **attributes,
    )


def at(position: Sequence[float], **groups: Any) -> dict[str, Any]:
    """The functional groups of a frame at a position."""
    return {"PlanePositionSequence": {"ImagePositionPatient": list(position)}, **groups}
