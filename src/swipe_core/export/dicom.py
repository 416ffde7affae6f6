"""Segmentations and contours as DICOM, which refer to the series that was segmented."""

from __future__ import annotations

import warnings
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swipe_core.errors import ImageError
from swipe_core.export.contours import keyhole
from swipe_core.export.outlines import Scene, rgb_of
from swipe_core.images.dicom import series_slices

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NAME = "SwIPE Segment"
RTSTRUCT, STUDY = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.3.1.2.3.1"
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate")
STUDIED = (*PATIENT, "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")


def write_dicom_seg(path: Path, scene: Scene) -> None:
    """Write the classes as a DICOM segmentation on the slices of the series."""
    import highdicom
    from pydicom.sr.codedict import codes

    slices = _slices(scene)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        NAME, family=codes.DCM.ArtificialIntelligence, version=version("napari-swipe")
    )
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*rgb_of(colour)),
        )
        for number, (name, colour) in enumerate(zip(scene.class_names, scene.colours, strict=True), start=1)
    ]
    with warnings.catch_warnings():  # of values of the source that are unusual
        warnings.simplefilter("ignore")
        try:
            written = highdicom.seg.Segmentation(
                source_images=slices,
                pixel_array=scene.sampled.array,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=highdicom.UID(),
                series_number=1,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=NAME,
                manufacturer_model_name=NAME,
                software_versions=version("napari-swipe"),
                device_serial_number="0",
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ImageError(
                f"The series of {scene.title} lacks what a DICOM segmentation must repeat of it ({error})."
            ) from error
        written.save_as(path)


def write_rtstruct(path: Path, scene: Scene) -> None:
    """Write the outlines as contours of the patient, in mm; a hole is joined by a line run through twice."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    slices = _slices(scene)
    whole, now = Dataset(), datetime.now()
    for name in STUDIED:
        setattr(whole, name, slices[0].get(name, ""))
    whole.SOPClassUID, whole.SOPInstanceUID = RTSTRUCT, generate_uid()
    whole.Modality, whole.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    whole.SeriesNumber, whole.Manufacturer, whole.OperatorsName = 1, NAME, ""
    whole.StructureSetLabel, whole.ApprovalStatus = NAME, "UNAPPROVED"
    whole.StructureSetDate, whole.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    frame = str(slices[0].FrameOfReferenceUID)
    whole.FrameOfReferenceUID = frame
    whole.ReferencedFrameOfReferenceSequence = [
        _item(
            FrameOfReferenceUID=frame,
            RTReferencedStudySequence=[
                _item(
                    ReferencedSOPClassUID=STUDY,
                    ReferencedSOPInstanceUID=slices[0].StudyInstanceUID,
                    RTReferencedSeriesSequence=[
                        _item(
                            SeriesInstanceUID=slices[0].SeriesInstanceUID,
                            ContourImageSequence=[_reference(each) for each in slices],
                        )
                    ],
                )
            ],
        )
    ]
    classes = list(enumerate(zip(scene.class_names, scene.colours, strict=True), start=1))
    whole.StructureSetROISequence = [
        _item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=frame,
            ROIName=name,
            ROIGenerationAlgorithm="AUTOMATIC",
        )
        for number, (name, _) in classes
    ]
    whole.ROIContourSequence = [
        _item(
            ReferencedROINumber=number,
            ROIDisplayColor=rgb_of(colour),
            ContourSequence=_contours(scene, number, slices),
        )
        for number, (_, colour) in classes
    ]
    whole.RTROIObservationsSequence = [
        _item(
            ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter=""
        )
        for number, _ in classes
    ]
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.save_as(path, enforce_file_format=True)


def _contours(scene: Scene, class_index: int, slices: list[Dataset]) -> list[Dataset]:
    found = []
    for outline in scene.outlines:
        if outline.polygon.class_index != class_index or outline.slice_index is None:
            continue
        # To the left, to the back, to the head.
        points = keyhole(outline.polygon.rings)[:, ::-1] * [-1, -1, 1]
        found.append(
            _item(
                ContourImageSequence=[_reference(slices[outline.slice_index])],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{each:.5f}" for each in points.reshape(-1)],
            )
        )
    return found


def _slices(scene: Scene) -> list[Dataset]:
    """Return the headers of the slices that were segmented, in the order of the image."""
    if scene.source is None or not scene.source.is_dir() or not scene.is_anatomical:
        raise ImageError(
            f"DICOM contours and segmentations refer to a series of slices, and {scene.title} is none: open "
            "the folder of a series, or export to .seg.nrrd."
        )
    slices = series_slices(scene.source)
    if len(slices) != scene.grid.shape[0]:
        raise ImageError(
            f"The series of {scene.title} has {len(slices)} slices, and {scene.grid.shape[0]} were "
            "segmented: segment the whole of it."
        )
    if "FrameOfReferenceUID" not in slices[0]:
        raise ImageError(f"The series of {scene.title} names no frame of reference, which its contours need.")
    return slices


def _reference(each: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=each.SOPClassUID, ReferencedSOPInstanceUID=each.SOPInstanceUID)


def _item(**values: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
