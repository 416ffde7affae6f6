"""What the clinic reads: each file is read back by another library, and place and area compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.dicom_writer import write_series

from swipe_core.coordinates import Grid
from swipe_core.errors import ConfigError, ImageError
from swipe_core.export.exporting import iter_export
from swipe_core.export.formats import export_format
from swipe_core.images import read_image
from swipe_core.progress import finish

CENTRE, RADIUS = (4.0, 9.0, 11.0), 6.3  # in voxels of 2.5 x 0.7 x 0.9 mm
PATIENT = {
    "PatientName": "A^B",
    "PatientID": "7",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.4",
    "StudyDate": "20260101",
    "StudyTime": "120000",
    "StudyID": "1",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "FrameOfReferenceUID": "1.2.3.5",
    "Modality": "CT",
    "SeriesNumber": 1,
    "PatientPosition": "HFS",
}


@pytest.fixture
def series(tmp_path):
    pytest.importorskip("pydicom")
    places = [(-30.0, 12.0, 100.0 + 2.5 * index) for index in range(9)]
    volume = np.zeros((9, 20, 24), np.int16)
    # Named in an order that is not that of the slices.
    return write_series(
        tmp_path / "series", volume, places, [4, 2, 0, 1, 3, 8, 5, 7, 6], ImageType=["ORIGINAL"], **PATIENT
    )


@pytest.fixture
def segmented(series, analytic_field, ball):
    image = read_image(series, ndim=3)
    grid = Grid(image.shape, image.affine)
    field = analytic_field(ball(CENTRE, RADIUS), grid, class_names=("liver lobe",))
    return replace(field, space=image.space)


def export(field, path, word="", source=None):
    kind = export_format(path, field.ndim, word)
    options = {"title": "series", "colours": ["#ff8000"], "tolerance": 0.02, "kind": kind, "source": source}
    return finish(iter_export(field, path, **options))


def true_area(index):
    return np.pi * max(RADIUS**2 - (index - CENTRE[0]) ** 2, 0) * 0.7 * 0.9


def test_contours_of_a_radiotherapy_plan_lie_in_the_slices_of_their_series(segmented, series, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = tmp_path / "out.dcm"
    export(segmented, path, "rtstruct", series)
    read = pydicom.dcmread(path)
    assert (read.Modality, read.PatientID, read.StudyInstanceUID) == ("RTSTRUCT", "7", "1.2.3")
    (roi,) = read.StructureSetROISequence
    (contours,) = read.ROIContourSequence
    assert roi.ROIName == "liver lobe" and list(contours.ROIDisplayColor) == [255, 128, 0]
    headers = [pydicom.dcmread(file) for file in series.iterdir()]
    places = {each.SOPInstanceUID: each.ImagePositionPatient[2] for each in headers}
    assert len(contours.ContourSequence) == 9
    for contour in contours.ContourSequence:
        points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
        assert len(points) == contour.NumberOfContourPoints
        height = places[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert points[:, 2] == pytest.approx(height, abs=1e-3)
        x, y = points[:, :2].T
        area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        assert area == pytest.approx(true_area((height - 100) / 2.5), rel=0.005)
        assert (x.max() + x.min()) / 2 == pytest.approx(-30 + CENTRE[2] * 0.9, abs=0.05)
        assert (y.max() + y.min()) / 2 == pytest.approx(12 + CENTRE[1] * 0.7, abs=0.05)


def test_a_dicom_segmentation_names_its_segments_and_lies_on_its_series(segmented, series, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    simpleitk = pytest.importorskip("SimpleITK")
    path = tmp_path / "out.dcm"
    export(segmented, path, "seg", series)
    read = highdicom.seg.segread(path)
    assert read.get_segment_description(1).segment_label == "liver lobe"
    labels = segmented.render().array
    # A library that knows nothing of segments: its frames are those slices that hold something.
    frames = simpleitk.GetArrayFromImage(simpleitk.ReadImage(str(path)))
    assert (frames > 0).sum() == (labels == 1).sum()
    places = [
        each.PlanePositionSequence[0].ImagePositionPatient for each in read.PerFrameFunctionalGroupsSequence
    ]
    for frame, place in zip(frames, places, strict=True):
        assert np.array_equal(frame > 0, labels[round((place[2] - 100) / 2.5)] == 1)


def test_3d_slicer_finds_names_colours_and_extents(segmented, tmp_path):
    nrrd = pytest.importorskip("nrrd")
    export(segmented, tmp_path / "out.seg.nrrd")
    data, header = nrrd.read(str(tmp_path / "out.seg.nrrd"))
    assert header["Segment0_Name"] == "liver lobe" and header["Segment0_LabelValue"] == "1"
    assert [float(each) for each in header["Segment0_Color"].split()] == pytest.approx(
        [1, 128 / 255, 0], abs=1e-5
    )
    first = [int(each) for each in header["Segment0_Extent"].split()]
    where = np.argwhere(data == 1)
    assert first == np.stack([where.min(axis=0), where.max(axis=0)], axis=1).reshape(-1).tolist()
    assert header["space"] == "left-posterior-superior"
    assert header["space origin"] == pytest.approx([-30, 12, 100])
    labels = read_image(tmp_path / "out.seg.nrrd", ndim=3)
    assert np.array_equal(labels.array[..., 0], segmented.render().array)
    assert np.allclose(labels.affine.matrix, segmented.image_grid.affine.matrix)


def test_what_dicom_needs_is_said_in_a_sentence(segmented, series, tmp_path):
    with pytest.raises(ConfigError, match="--as seg or --as rtstruct"):
        export_format(tmp_path / "out.dcm", 3)
    with pytest.raises(ConfigError, match=r"for \.dcm alone"):
        export_format(tmp_path / "out.stl", 3, "seg")
    with pytest.raises(ConfigError, match="holds volumes, and this image is 2D"):
        export_format(tmp_path / "out.seg.nrrd", 2)
    with pytest.raises(ImageError, match="refer to a series of slices"):
        export(segmented, tmp_path / "out.dcm", "rtstruct", tmp_path / "image.nii")
    (series / "005.dcm").unlink()  # the last slice
    with pytest.raises(ImageError, match="has 8 slices, and 9 were segmented"):
        export(segmented, tmp_path / "out.dcm", "rtstruct", series)
    assert not (tmp_path / "out.dcm").exists()
