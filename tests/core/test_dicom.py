"""DICOM as scanners and archives write it: places, spacings, values, and what is no image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so
from dicom_writer import (
    AXIAL,
    ENHANCED_PET,
    MAMMOGRAM,
    MULTI_FRAME_ULTRASOUND,
    at,
    items,
    write_dataset,
    write_dicom,
    write_enhanced,
    write_series,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import DataError, ImageError
from swipe_core.images import read_image
from swipe_core.images.formats import holds_dicom, is_dicom
from swipe_core.prediction.predictor import space_notices

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 4000, (4, 5, 6)).astype(np.uint16)
PICTURE = VOLUME[0]
LARGER = RNG.integers(0, 255, (32, 48)).astype(np.uint8)  # ITK's compression ends the process on less
PLACES = [(-10.0, -20.0, 5.0 + 3 * k) for k in range(4)]
WORLD = np.array([[3.0, 0, 0, 5], [0, -0.7, 0, 20], [0, 0, -0.9, 10], [0, 0, 0, 1]])  # (z, y, x), RAS
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    sentence = str(caught.value)
    assert str(path) in sentence and sentence.endswith(".") and "\n" not in sentence
    return sentence


class TestEnhanced:
    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
    def test_a_volume_lies_where_the_classic_series_lies_whatever_the_order_of_its_frames(
        self, tmp_path, order
    ):
        frames = [at(PLACES[index]) for index in order]
        enhanced = read_image(write_enhanced(tmp_path / "a.dcm", VOLUME[list(order)], frames))
        classic = read_image(write_series(tmp_path / "classic", VOLUME, PLACES, order))
        for image in (enhanced, classic):
            np.testing.assert_allclose(image.affine.matrix, WORLD, atol=1e-6)
            assert np.array_equal(image.array[..., 0], VOLUME)
            assert (image.unit, image.space.is_anatomical) == ("millimeter", True)

    def test_an_oblique_volume_with_everything_in_the_frames_lies_where_the_classic_series_lies(
        self, tmp_path
    ):
        normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
        places = [np.round(np.array([1.0, 2.0, 3.0]) + 2.5 * k * normal, 6) for k in range(4)]
        groups = {
            "PixelMeasuresSequence": {"PixelSpacing": [0.7, 0.9]},
            "PlaneOrientationSequence": {"ImageOrientationPatient": list(OBLIQUE)},
        }
        frames = [at(place, **groups) for place in places]
        enhanced = read_image(write_enhanced(tmp_path / "a.dcm", VOLUME, frames, shared={}))
        series = write_series(tmp_path / "b", VOLUME, places, ImageOrientationPatient=list(OBLIQUE))
        classic = read_image(series)
        np.testing.assert_allclose(enhanced.affine.matrix, classic.affine.matrix, atol=1e-6)
        assert enhanced.spacing == pytest.approx((2.5, 0.7, 0.9), rel=1e-5)

    def test_positions_count_and_not_the_thickness_or_a_spacing_that_is_stated(self, tmp_path):
        measures = {"PixelSpacing": [0.7, 0.9], "SliceThickness": 8, "SpacingBetweenSlices": 7}
        orientation = {"ImageOrientationPatient": list(AXIAL)}
        shared = {"PixelMeasuresSequence": measures, "PlaneOrientationSequence": orientation}
        path = write_enhanced(tmp_path / "a.dcm", VOLUME, [at(p) for p in PLACES], shared)
        assert read_image(path).spacing == pytest.approx((3, 0.7, 0.9))

    def test_a_single_frame_is_as_thick_as_it_says(self, tmp_path):
        path = write_enhanced(tmp_path / "a.dcm", VOLUME[:1], [at(PLACES[0])])
        assert read_image(path).spacing == pytest.approx((5, 0.7, 0.9))
        assert read_image(path, ndim=2).spacing == pytest.approx((0.7, 0.9))

    def test_a_tilted_gantry_is_the_shear_that_it_is(self, tmp_path):
        places = [(0.0, 0.8 * k, 2.5 * k) for k in range(4)]
        path = write_enhanced(tmp_path / "a.dcm", VOLUME, [at(place) for place in places])
        np.testing.assert_allclose(read_image(path).affine.apply(np.array([3.0, 0, 0])), (7.5, -2.4, 0))

    def test_each_frame_is_rescaled_by_its_own_slope(self, tmp_path):
        frames = [
            at(place, PixelValueTransformationSequence={"RescaleSlope": slope, "RescaleIntercept": 1})
            for place, slope in zip(PLACES, (1, 0.5, 0.25, 2), strict=True)
        ]
        path = write_enhanced(tmp_path / "a.dcm", VOLUME, frames, sop_class=ENHANCED_PET)
        expected = VOLUME * np.array([1, 0.5, 0.25, 2]).reshape(-1, 1, 1) + 1
        assert np.array_equal(read_image(path).array[..., 0], expected)

    def test_points_in_time_at_every_place_are_channels_in_their_order(self, tmp_path):
        frames = [
            at(place, FrameContentSequence={"TemporalPositionIndex": time})
            for time in (2, 1)
            for place in PLACES
        ]
        path = write_enhanced(tmp_path / "a.dcm", np.concatenate([VOLUME + 1, VOLUME]), frames)
        image = read_image(path)
        assert np.array_equal(image.array, np.stack([VOLUME, VOLUME + 1], axis=-1))
        assert image.channel_axis == "time"
        np.testing.assert_allclose(image.affine.matrix, WORLD, atol=1e-6)

    def test_frames_of_one_place_that_cannot_be_told_apart_are_refused(self, tmp_path):
        path = write_enhanced(
            tmp_path / "a.dcm", np.concatenate([VOLUME, VOLUME]), [at(p) for p in [*PLACES, *PLACES]]
        )
        assert "several slices at one place" in refusal(path)

    def test_a_missing_frame_is_found(self, tmp_path):
        frames = [at(PLACES[index]) for index in (0, 1, 3)]
        assert "3 to 6 mm apart" in refusal(write_enhanced(tmp_path / "a.dcm", VOLUME[:3], frames))

    def test_several_stacks_are_refused(self, tmp_path):
        frames = [
            at(place, FrameContentSequence={"StackID": stack})
            for place, stack in zip(PLACES, ("1", "1", "2", "2"), strict=True)
        ]
        assert "2 different orientations, sizes or stacks" in refusal(
            write_enhanced(tmp_path / "a.dcm", VOLUME, frames)
        )

    def test_a_volume_of_an_ultrasound_probe_is_in_millimetres_but_not_in_a_patient(self, tmp_path):
        frames = [{"PlanePositionVolumeSequence": {"ImagePositionVolume": [1, 2, 2 * k]}} for k in range(4)]
        shared = {
            "PixelMeasuresSequence": {"PixelSpacing": [0.7, 0.9]},
            "PlaneOrientationVolumeSequence": {"ImageOrientationVolume": list(AXIAL)},
        }
        image = read_image(write_enhanced(tmp_path / "a.dcm", VOLUME, frames, shared))
        assert (image.unit, image.space.is_anatomical) == ("millimeter", False)
        assert image.spacing == pytest.approx((2, 0.7, 0.9))

    def test_reconstructed_slices_of_nuclear_medicine_lie_where_their_detector_says(self, tmp_path):
        detector = items(ImagePositionPatient=[-10, -20, 5], ImageOrientationPatient=list(AXIAL))
        vector = {"SpacingBetweenSlices": 3, "SliceVector": [1, 2, 3, 4]}
        path = write_dicom(
            tmp_path / "a.dcm",
            VOLUME,
            "1.2.840.10008.5.1.4.1.1.20",
            PixelSpacing=[0.7, 0.9],
            DetectorInformationSequence=detector,
            **vector,
        )
        image = read_image(path)
        np.testing.assert_allclose(image.affine.matrix, WORLD, atol=1e-6)
        assert (image.unit, image.space.is_anatomical) == ("millimeter", True)

    @pytest.mark.parametrize(("times", "is_anatomical"), [({}, True), ({"FrameTime": 40}, False)])
    def test_frames_behind_one_position_are_slices_unless_they_follow_in_time(
        self, tmp_path, times, is_anatomical
    ):
        place = {"ImagePositionPatient": [-10, -20, 5], "ImageOrientationPatient": list(AXIAL)}
        path = write_dicom(
            tmp_path / "a.dcm", VOLUME, PixelSpacing=[0.7, 0.9], SpacingBetweenSlices=3, **place, **times
        )
        image = read_image(path)
        assert image.space.is_anatomical == is_anatomical
        if is_anatomical:
            np.testing.assert_allclose(image.affine.matrix, WORLD, atol=1e-6)

    def test_an_enhanced_angiogram_has_the_spacing_of_its_detector(self, tmp_path):
        shared = {"FramePixelDataPropertiesSequence": {"ImagerPixelSpacing": [0.2, 0.3]}}
        image = read_image(write_enhanced(tmp_path / "a.dcm", VOLUME[:1], [{}], shared))
        assert (image.spacing, image.unit) == ((0.2, 0.3), "millimeter")
        assert image.space.lengths == "at the detector"

    def test_a_mosaic_and_a_slide_in_tiles_are_refused_with_what_to_do(self, tmp_path):
        mosaic = write_dicom(tmp_path / "a.dcm", PICTURE, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
        assert "is a mosaic" in refusal(mosaic) and "dcm2niix" in refusal(mosaic)
        slide = write_dicom(tmp_path / "b.dcm", VOLUME, TotalPixelMatrixRows=99, TotalPixelMatrixColumns=80)
        assert "whole-slide image of 99 x 80 pixels" in refusal(slide)


class TestClassic:
    def test_a_slice_that_was_copied_counts_once(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES)
        (folder / "copy.dcm").write_bytes((folder / "001.dcm").read_bytes())
        np.testing.assert_allclose(read_image(folder).affine.matrix, WORLD, atol=1e-6)

    def test_slices_that_only_share_a_wrong_uid_are_no_copies(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES, SOPInstanceUID="1.2.3", EchoTime=9)
        for path in sorted(folder.iterdir()):
            path.rename(folder / f"early-{path.name}")
        write_series(folder, VOLUME + 1, PLACES, SOPInstanceUID="1.2.3", EchoTime=80)
        assert np.array_equal(read_image(folder).array, np.stack([VOLUME, VOLUME + 1], axis=-1))

    def test_a_slope_of_nothing_changes_nothing(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES, RescaleSlope=0, RescaleIntercept=0)
        assert np.array_equal(read_image(folder).array[..., 0], VOLUME)

    def test_slices_of_two_orientations_are_refused(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES)
        write_dicom(
            folder / "scout.dcm",
            PICTURE,
            PixelSpacing=[0.7, 0.9],
            ImageOrientationPatient=list(CORONAL),
            ImagePositionPatient=[0, 0, 0],
        )
        assert "4 of 5 x 6 pixels, 1 of 5 x 6 pixels" in refusal(folder)

    def test_slices_of_two_sizes_are_refused(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES)
        big = RNG.integers(0, 9, (7, 8)).astype(np.uint16)
        write_dicom(
            folder / "big.dcm",
            big,
            PixelSpacing=[0.7, 0.9],
            ImageOrientationPatient=list(AXIAL),
            ImagePositionPatient=[-10, -20, 17],
        )
        assert "1 of 7 x 8 pixels" in refusal(folder)

    def test_echoes_of_every_slice_are_channels(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES, EchoTime=80)
        for path in sorted(folder.iterdir()):
            path.rename(folder / f"late-{path.name}")
        write_series(folder, VOLUME + 1, PLACES, EchoTime=9)
        image = read_image(folder)
        assert np.array_equal(image.array, np.stack([VOLUME + 1, VOLUME], axis=-1))
        assert (image.channel_axis, image.channel_names) == ("channel", ("EchoTime 9", "EchoTime 80"))

    def test_slopes_that_differ_between_slices_are_each_applied(self, tmp_path):
        folder = tmp_path / "a"
        for index, slope in enumerate((1, 0.5, 3, 0.125)):
            write_series(folder / str(index), VOLUME[index : index + 1], [PLACES[index]], RescaleSlope=slope)
            (folder / str(index) / "000.dcm").rename(folder / f"{index}.dcm")
        expected = VOLUME * np.array([1, 0.5, 3, 0.125]).reshape(-1, 1, 1)
        assert np.array_equal(read_image(folder).array[..., 0], expected)

    def test_whole_numbers_stay_whole_in_the_type_that_holds_them(self, tmp_path):
        image = read_image(write_series(tmp_path / "a", VOLUME, PLACES, RescaleIntercept=-1024))
        assert np.array_equal(image.array[..., 0], VOLUME.astype(int) - 1024)
        assert image.array.dtype == np.int16

    def test_pictures_without_a_place_make_no_volume(self, tmp_path):
        for index in range(3):
            write_dicom(tmp_path / f"{index}.dcm", PICTURE, PixelSpacing=[1, 1])
        assert "3 pictures without a place" in refusal(tmp_path)

    def test_a_damaged_slice_is_named_and_not_passed_over(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES)
        (folder / "003.dcm").write_bytes(b"x" * 300)
        with pytest.raises(ImageError, match=r"003\.dcm is damaged"):
            read_image(folder)

    def test_what_is_no_image_beside_a_series_makes_no_difference(self, tmp_path):
        folder = write_series(tmp_path / "a", VOLUME, PLACES)
        report = Dataset()
        report.SOPClassUID, report.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "9.9"
        write_dataset(folder / "report.dcm", report, SOPInstanceUID="9.9.9")
        assert np.array_equal(read_image(folder).array[..., 0], VOLUME)

    @pytest.mark.parametrize("compression", ["JPEG", "JPEG2000"])
    def test_compressed_slices_are_decoded(self, tmp_path, compression):
        image = sitk.GetImageFromArray(LARGER[None])
        image.SetMetaData("0008|0060", "OT")
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(tmp_path / "a.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(compression)
        writer.Execute(image)
        assert np.array_equal(np.squeeze(read_image(tmp_path / "a.dcm").array), LARGER)

    def test_a_compression_that_cannot_be_undone_is_named(self, tmp_path):
        dataset = dcmread(write_dicom(tmp_path / "a.dcm", PICTURE))
        dataset.file_meta.TransferSyntaxUID = MPEG4HP41
        dataset.PixelData = encapsulate([bytes(64)])
        dataset["PixelData"].is_undefined_length = True
        path = tmp_path / "b.dcm"
        dataset.save_as(path)
        assert "MPEG-4 AVC/H.264" in refusal(path)


class TestSpacing:
    def read(self, tmp_path: Path, **attributes: object) -> tuple[tuple[float, ...], str, str]:
        image = read_image(write_dicom(tmp_path / "a.dcm", PICTURE, MAMMOGRAM, **attributes))
        assert image.ndim == 2 and not image.space.is_anatomical
        return image.spacing, image.unit, image.space.lengths

    def test_pixel_spacing_is_from_row_to_row_and_from_column_to_column(self, tmp_path):
        assert self.read(tmp_path, PixelSpacing=[0.2, 0.3]) == ((0.2, 0.3), "millimeter", "")

    def test_imager_pixel_spacing_holds_at_the_detector(self, tmp_path):
        found = self.read(tmp_path, ImagerPixelSpacing=[0.2, 0.3])
        assert found == ((0.2, 0.3), "millimeter", "at the detector")

    def test_a_pixel_spacing_that_repeats_the_imagers_is_not_calibrated(self, tmp_path):
        found = self.read(tmp_path, PixelSpacing=[0.2, 0.3], ImagerPixelSpacing=[0.2, 0.3])
        assert found == ((0.2, 0.3), "millimeter", "at the detector")

    def test_a_calibrated_pixel_spacing_is_preferred_to_the_imagers(self, tmp_path):
        found = self.read(tmp_path, PixelSpacing=[0.16, 0.24], ImagerPixelSpacing=[0.2, 0.3])
        assert found == ((0.16, 0.24), "millimeter", "")

    def test_a_stated_magnification_leads_from_the_detector_into_the_patient(self, tmp_path):
        spacing, unit, where = self.read(
            tmp_path, ImagerPixelSpacing=[0.2, 0.3], EstimatedRadiographicMagnificationFactor=1.25
        )
        assert (spacing, unit, where) == (pytest.approx((0.16, 0.24)), "millimeter", "")

    def test_a_scanned_film_has_the_spacing_of_the_film(self, tmp_path):
        found = self.read(tmp_path, NominalScannedPixelSpacing=[0.1, 0.1])
        assert found == ((0.1, 0.1), "millimeter", "on the scanned film")

    @pytest.mark.parametrize("values", [[0, 0], [-1, 1], None])
    def test_a_spacing_that_is_none_claims_no_millimetres(self, tmp_path, values):
        assert self.read(tmp_path, PixelSpacing=values) == ((1, 1), "pixel", "")

    def test_an_aspect_ratio_is_kept_without_claiming_a_length(self, tmp_path):
        assert self.read(tmp_path, PixelAspectRatio=[4, 2]) == ((2, 1), "pixel", "")

    def region(self, x: float, y: float, units: int = 3, kind: int = 1) -> Dataset:
        return items(
            RegionSpatialFormat=kind,
            PhysicalUnitsXDirection=units,
            PhysicalUnitsYDirection=units,
            PhysicalDeltaX=x,
            PhysicalDeltaY=y,
        )[0]

    def test_an_ultrasound_region_is_calibrated_in_centimetres(self, tmp_path):
        found = self.read(tmp_path, SequenceOfUltrasoundRegions=[self.region(0.03, -0.02)])
        assert found == ((0.2, 0.3), "millimeter", "")

    def test_a_doppler_region_beside_the_image_makes_no_difference(self, tmp_path):
        regions = [self.region(0.03, 0.02), self.region(0.01, 5.0, units=4, kind=3)]
        assert self.read(tmp_path, SequenceOfUltrasoundRegions=regions)[:2] == ((0.2, 0.3), "millimeter")

    def test_regions_of_different_scales_or_without_lengths_give_no_spacing(self, tmp_path):
        regions = [self.region(0.03, 0.02), self.region(0.01, 0.01)]
        assert self.read(tmp_path, SequenceOfUltrasoundRegions=regions)[1] == "pixel"
        assert self.read(tmp_path, SequenceOfUltrasoundRegions=[self.region(1, 1, units=4)])[1] == "pixel"

    def test_a_cine_loop_is_a_volume_of_its_frames_without_a_place(self, tmp_path):
        colours = RNG.integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
        image = read_image(write_dicom(tmp_path / "a.dcm", colours, MULTI_FRAME_ULTRASOUND))
        assert np.array_equal(image.array, colours)
        assert (image.unit, image.space.is_anatomical) == ("pixel", False)


class TestWhatIsNoImage:
    @pytest.mark.parametrize(
        ("uid", "name"),
        [
            ("1.2.840.10008.5.1.4.1.1.481.2", "a radiotherapy dose"),
            ("1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set"),
            ("1.2.840.10008.5.1.4.1.1.88.33", "Comprehensive SR"),
            ("1.2.840.10008.5.1.4.1.1.11.1", "Presentation State"),
            ("1.2.840.10008.5.1.4.1.1.88.59", "Key Object Selection"),
            ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF"),
            ("1.2.840.10008.5.1.4.1.1.9.1.1", "12-lead ECG"),
            ("1.2.840.10008.1.3.10", "DICOMDIR"),
        ],
    )
    def test_it_is_named_in_one_sentence_as_a_file_and_as_a_folder(self, tmp_path, uid, name):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = uid, "1.2.3"
        path = write_dataset(tmp_path / "a.dcm", dataset)
        assert name in refusal(path)
        assert "no DICOM series" in refusal(tmp_path) and name in refusal(tmp_path)


class TestNames:
    @pytest.mark.parametrize("name", ["IM0001", "a.ima", "a.dic", "1.2.840.113619.2.55", "a.DCM"])
    @pytest.mark.parametrize("preamble", [True, False])
    def test_a_file_is_known_by_its_content(self, tmp_path, name, preamble):
        path = write_dicom(tmp_path / name, PICTURE, preamble=preamble)
        assert is_dicom(path) and holds_dicom(tmp_path)
        assert np.array_equal(read_image(path).array[..., 0], PICTURE)

    def test_what_only_begins_alike_is_none(self, tmp_path):
        (tmp_path / "a").write_bytes(b"\x08\x00\x05\x00" + bytes(300))
        assert not is_dicom(tmp_path / "a")


NOISE = """
import sys
from pathlib import Path
from swipe_core.images import read_image
from swipe_core.prediction.predictor import space_notices
for name in sys.argv[1:]:
    try:
        read_image(Path(name))
    except Exception as error:
        assert type(error).__name__ == "ImageError", error
"""


def test_nothing_of_the_libraries_comes_to_the_console(tmp_path):
    """Values that break the standard, damaged pixels and a damaged compressed stream."""
    odd = write_dicom(tmp_path / "odd.dcm", PICTURE, PatientAge="090Y", SpecificCharacterSet="ISO_IR 100")
    odd.write_bytes(odd.read_bytes().replace(b"090Y", b"aged").replace(b"ISO_IR 100", b"KLINGON   "))
    whole = write_dicom(tmp_path / "whole.dcm", PICTURE).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-20])
    (tmp_path / "long.dcm").write_bytes(whole + bytes(40))
    image = sitk.GetImageFromArray(LARGER[None])
    sitk.WriteImage(image, str(tmp_path / "packed.dcm"), useCompression=True)
    packed = bytearray((tmp_path / "packed.dcm").read_bytes())
    packed[-30:-10] = bytes(20)
    (tmp_path / "packed.dcm").write_bytes(packed)
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", NOISE, *names], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lengths_at_the_detector_are_told_of_when_an_image_is_segmented(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", PICTURE, MAMMOGRAM, ImagerPixelSpacing=[0.2, 0.3])
    calibrated = write_dicom(tmp_path / "b.dcm", PICTURE, MAMMOGRAM, PixelSpacing=[0.2, 0.3])
    content = load_checkpoint(find_checkpoint("nuclei")).content
    (notice,) = space_notices(content, read_image(path).space)
    assert "at the detector" in notice.message
    assert space_notices(content, read_image(calibrated).space) == []


class TestLabelsOfAnotherFormat:
    """NIfTI labels of a DICOM series, as programs that convert series make them."""

    def pair(self, folder: Path, array: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """What is read as the labels of a series; `matrix` leads from (x, y, z) voxels to the patient."""
        write_enhanced(folder / "images" / "a.dcm", VOLUME, [at(place) for place in PLACES])
        (folder / "labels").mkdir()
        nibabel.Nifti1Image(array.T, matrix).to_filename(folder / "labels" / "a.nii.gz")
        (case,) = find_cases(folder)
        return read_labelled(case, 3, LabelConfig(class_names=("organ",))).labels.array

    @pytest.mark.parametrize("flips", [(), (1,), (0, 2), (0, 1, 2)])
    def test_labels_with_their_axes_in_another_direction_lie_over_the_image(self, tmp_path, flips):
        labels = (VOLUME > 2000).astype(np.uint8)
        matrix = WORLD[np.ix_([2, 1, 0, 3], [2, 1, 0, 3])]
        turn = np.eye(4)
        for axis in flips:  # of (z, y, x)
            turn[2 - axis, 2 - axis], turn[2 - axis, 3] = -1, VOLUME.shape[axis] - 1
        read = self.pair(tmp_path, np.flip(labels, flips), matrix @ turn)
        assert np.array_equal(read, labels)

    def test_labels_elsewhere_in_the_patient_are_refused(self, tmp_path):
        matrix = WORLD[np.ix_([2, 1, 0, 3], [2, 1, 0, 3])].copy()
        matrix[2, 3] += 6
        with pytest.raises(DataError, match="up to 2.0 voxels apart"):
            self.pair(tmp_path, (VOLUME > 2000).astype(np.uint8), matrix)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_low_values_that_are_bright_are_inverted_unless_a_slope_gives_them_a_meaning(tmp_path, dtype):
    shown = np.arange(12, dtype=dtype).reshape(3, 4)
    stored = (np.iinfo(dtype).max - shown.astype(int) + np.iinfo(dtype).min).astype(dtype)
    bright = {"PhotometricInterpretation": "MONOCHROME1"}
    path = write_dicom(tmp_path / "xray.dcm", stored, MAMMOGRAM, **bright)
    assert np.array_equal(read_image(path).array[..., 0], shown)
    pet = write_dicom(tmp_path / "pet.dcm", shown, **bright, RescaleSlope=0.5, RescaleIntercept=1)
    assert np.array_equal(read_image(pet).array[..., 0], shown * 0.5 + 1)


def test_bits_that_are_not_stored_take_no_part_in_an_inversion(tmp_path):
    stored = np.array([[0, 4095], [4000, 95]], np.uint16)
    bits = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    path = write_dicom(tmp_path / "a.dcm", stored, MAMMOGRAM, **bits)
    assert read_image(path).array[..., 0].tolist() == [[4095, 0], [95, 4000]]
