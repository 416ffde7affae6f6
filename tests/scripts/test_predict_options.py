"""Every further option of the prediction script does what it says, and says what cannot be done."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so
import tifffile
from PIL import Image

from swipe_core.checkpoints.library import bundled_checkpoints
from swipe_core.cli import main as swipe
from swipe_core.coordinates import Affine
from swipe_core.images import MedicalImage, read_image, read_label_map
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.batch import REPORT_NAME
from swipe_core.prediction.journal import JOURNAL_NAME
from swipe_core.prediction.predictor import Predictor

OBLIQUE = np.array([[0.8, -0.6, 0.0, -20.0], [0.6, 0.8, 0.0, 14.0], [0.0, 0.0, 2.0, -7.0], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def main():
    return lambda words: swipe(["predict", *words])


@pytest.fixture(scope="module")
def checkpoint(disc_run) -> str:
    return str(disc_run / "best.safetensors")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Five frames of 40 x 48 with a bright disc that goes to the right."""
    rows, columns = np.mgrid[:40, :48]
    discs = [np.hypot(rows - 17, columns - (12 + 5 * time)) < 9 for time in range(5)]
    noise = np.random.default_rng(3).normal(60, 10, (5, 40, 48))
    return (noise + 120 * np.array(discs)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(frames, tmp_path_factory) -> Path:
    """The first frame as PNG and as TIFF of half a micrometre, all frames as TIFF and as oblique NIfTI."""
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(frames[0]).save(folder / "disc.png")
    half = {"imagej": True, "resolution": (2.0, 2.0)}
    tifffile.imwrite(folder / "small.tif", frames[0], metadata={"unit": "um"}, **half)
    tifffile.imwrite(
        folder / "movie.tif", frames, metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"}, **half
    )
    nibabel.Nifti1Image(frames.astype(np.float32).T, OBLIQUE).to_filename(folder / "volume.nii.gz")
    return folder


@pytest.fixture(scope="module")
def dyes(folder, frames) -> Path:
    """The disc as the third of three dyes, as one of three pages, and in a stack of two dyes."""
    dark = np.full_like(frames[0], 8)
    dyes = np.stack([frames[0][::-1], dark, frames[0]])
    names = {"axes": "CYX", "Channel": {"Name": ["GFP", "RFP", "DAPI"]}}
    tifffile.imwrite(folder / "dyes.ome.tif", dyes, ome=True, photometric="minisblack", metadata=names)
    tifffile.imwrite(folder / "pages.tif", dyes, photometric="minisblack")
    stack = np.stack([np.zeros_like(frames), frames], axis=1)
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    return folder


@pytest.fixture
def predict(main, checkpoint, folder, tmp_path):
    """A function from the name of an image and options to the exit code; writes into tmp_path/out."""
    return lambda image, *options, model=checkpoint: main(
        [model, str(folder / image), "--output", str(tmp_path / "out"), "--device", "cpu", *options]
    )


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    """What lies in a folder, but for the account that is kept of it."""
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    return sorted(found - {JOURNAL_NAME, REPORT_NAME})


class TestModels:
    def test_the_list_shows_every_model_that_ships_with_its_card(self, main, capsys):
        with pytest.raises(SystemExit) as end:
            main(["--list"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        header, *rows = text.split("\n\n")[0].splitlines()
        assert header.split()[:2] == ["name", "finds"]
        assert [row.split()[0] for row in rows] == sorted(bundled_checkpoints())
        assert len({len(row[: row.index("channel")]) for row in rows}) == 1
        assert all("limits: " in part and "to be named: " in part for part in text.split("\n\n")[1:])
        assert re.search(r"nucleus 0\.\d+", text) and "CC BY-SA 4.0" in text

    def test_a_model_that_ships_is_used_by_its_name(self, predict, folder, out):
        assert predict("disc.png", model="nuclei") == 0
        expected = Predictor.load("nuclei", device="cpu").field(read_image(folder / "disc.png")).render()
        np.testing.assert_array_equal(read_label_map(out / "disc.png").array, expected.array)

    def test_a_name_that_nobody_knows_is_answered_with_the_known_ones(self, predict, error_line):
        assert predict("disc.png", model="nuclej") == 2
        text = error_line()
        assert "hippocampus, nuclei" in text and "Did you mean 'nuclei'?" in text


class TestSettings:
    def test_a_higher_threshold_finds_less(self, predict, out):
        found = []
        for threshold in ("0.2", "0.5", "0.8"):
            assert predict("disc.png", "--threshold", threshold) == 0
            found.append((read_label_map(out / "disc.png").array > 0).sum())
        assert found[0] > found[1] > found[2] > 0

    @pytest.mark.parametrize(
        ("option", "value"), [("smoothing", 3.0), ("threshold", 0.9), ("confidence", 0.9), ("overlap", 0.1)]
    )
    def test_a_setting_reaches_the_field(self, predict, folder, checkpoint, out, option, value, monkeypatch):
        configs = []
        original = Predictor.iter_field

        def watched(self, image):
            configs.append(self.config)
            return (yield from original(self, image))

        monkeypatch.setattr(Predictor, "iter_field", watched)
        assert predict("disc.png", f"--{option}", str(value)) == 0
        own = Predictor.load(checkpoint, device="cpu")
        assert configs == [own.config.model_copy(update={option: value})]
        changed = Predictor(own.model, own.content, config=configs[0]).field(read_image(folder / "disc.png"))
        np.testing.assert_array_equal(read_label_map(out / "disc.png").array, changed.render().array)

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("--threshold", "1.5", "--threshold cannot be 1.5 (Input should be less than 1)"),
            ("--threshold", "nan", "--threshold cannot be nan"),
            ("--smoothing", "-1", "--smoothing cannot be -1"),
            ("--overlap", "1", "--overlap cannot be 1"),
        ],
    )
    def test_a_number_out_of_its_range_is_named(self, predict, out, error_line, option, value, said):
        assert predict("disc.png", option, value) == 2
        assert said in error_line()
        assert names(out) == []

    def test_the_help_says_what_the_settings_mean(self, main, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        text = " ".join(capsys.readouterr().out.split())
        for name in ("threshold", "confidence", "smoothing", "overlap"):
            assert f"--{name} X {InferenceConfig.model_fields[name].description}" in text


class TestRegion:
    def test_labels_cover_the_region_alone_at_its_place_in_the_world(
        self, predict, folder, out, volume_checkpoint
    ):
        """Of an oblique volume, with open ends."""
        options = ["--region", "1:4", "5:", ":"]
        assert predict("volume.nii.gz", *options, model=str(volume_checkpoint)) == 0
        image, labels = read_image(folder / "volume.nii.gz"), read_label_map(out / "volume.nii.gz")
        assert labels.shape == (3, 35, 48) and labels.unit == image.unit
        corners = np.array([[0.0, 0, 0], [2, 34, 47]])
        np.testing.assert_allclose(
            labels.affine.apply(corners), image.affine.apply(corners + (1, 5, 0)), atol=1e-4
        )

    def test_they_are_those_of_the_part_segmented_by_itself(self, predict, checkpoint, frames, out):
        assert predict("disc.png", "--region", "4:34", "2:30", "--factor", "2") == 0
        part = MedicalImage(frames[0, 4:34, 2:30, None], Affine.identity(2), "pixel")
        expected = Predictor.load(checkpoint, device="cpu").field(part).render(factor=2).array
        np.testing.assert_array_equal(read_label_map(out / "disc.png").array, expected)
        assert expected.any() and expected.shape == (60, 56)
        assert read_image(out / "disc_overlay.png").shape == (60, 56)

    @pytest.mark.parametrize(
        ("region", "said"),
        [
            (["0:10"], "The region needs 2 spans for 2D images; got 1."),
            (["0:10", "0:10", "0:10"], "The region needs 2 spans for 2D images; got 3."),
            (["0:41", "0:10"], "has 40 x 48 voxels, and the part 0:41 x 0:10 is not inside it"),
            (["10:10", ":"], "the part 10:10 x 0:48 is not inside it"),
            (["30:20", ":"], "the part 30:20 x 0:48 is not inside it"),
        ],
    )
    def test_a_region_that_the_image_does_not_have_is_refused(self, predict, out, error_line, region, said):
        assert predict("disc.png", "--region", *region) == 2
        assert said in error_line()
        assert names(out) == []

    @pytest.mark.parametrize("span", ["10", "a:b", "1:2:3", "1.5:3"])
    def test_a_span_that_is_none_ends_with_the_usage(self, predict, capsys, span):
        with pytest.raises(SystemExit) as end:
            predict("disc.png", "--region", span, ":")
        assert end.value.code == 2
        assert "is no START:STOP of whole numbers" in capsys.readouterr().err


class TestObjects:
    def test_objects_are_numbered_and_measured_in_the_units_of_the_image(self, predict, out, capsys):
        assert predict("small.tif", "--objects", "--factor", "2") == 0
        assert names(out) == ["small.tif", "small_objects.csv", "small_objects.tif", "small_overlay.png"]
        labels, objects = (read_label_map(out / f"small{end}.tif", ndim=2) for end in ("", "_objects"))
        np.testing.assert_array_equal(objects.array > 0, labels.array > 0)
        np.testing.assert_allclose(objects.affine.matrix, labels.affine.matrix)
        with (out / "small_objects.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["number"]) for row in rows] == list(range(1, objects.array.max() + 1))
        areas = [float(row["area [um^2]"]) for row in rows]
        assert sum(areas) == pytest.approx((labels.array > 0).sum() / 16)
        assert f"small.tif  80 x 96  {len(rows)} objects" in capsys.readouterr().out

    def test_an_image_in_the_way_of_a_table_or_a_map_is_not_overwritten(
        self, main, checkpoint, folder, tmp_path, error_line
    ):
        (tmp_path / "a.jpg").write_bytes((folder / "disc.png").read_bytes())
        (tmp_path / "a_objects.png").write_bytes((folder / "disc.png").read_bytes())
        assert main([checkpoint, str(tmp_path), "--output", str(tmp_path), "--objects"]) == 2
        assert "would overwrite the image" in error_line()
        assert names(tmp_path) == ["a.jpg", "a_objects.png"]


class TestMaps:
    def test_probability_and_uncertainty_are_those_of_the_field(self, predict, folder, checkpoint, out):
        options = ["--probability", "foreground", "--probability", "background", "--uncertainty"]
        assert predict("small.tif", *options, "--probability", "foreground") == 0
        assert names(out) == [
            "small.tif",
            "small_overlay.png",
            "small_probability_background.tif",
            "small_probability_foreground.tif",
            "small_uncertainty.tif",
        ]
        image = read_image(folder / "small.tif", ndim=2)
        field = Predictor.load(checkpoint, device="cpu").field(image)
        expected = field.probabilities(image.grid.centres_world()).reshape(*image.shape, 2)
        for index, name in enumerate(("background", "foreground")):
            written = read_image(out / f"small_probability_{name}.tif", ndim=2)
            assert written.array.dtype == np.float32 and written.unit == "micrometer"
            assert written.spacing == pytest.approx((0.5, 0.5))
            np.testing.assert_allclose(written.array[..., 0], expected[..., index], atol=1e-5)
        doubt = read_image(out / "small_uncertainty.tif", ndim=2).array[..., 0]
        np.testing.assert_allclose(doubt, 1 - np.abs(expected[..., 1] - expected[..., 0]), atol=1e-5)

    @pytest.mark.parametrize(("image", "suffix"), [("disc.png", ".tif"), ("volume.nii.gz", ".nii.gz")])
    def test_they_have_a_format_that_holds_fractions_and_the_resolution_of_the_labels(
        self, predict, folder, out, volume_checkpoint, checkpoint, image, suffix
    ):
        model = str(volume_checkpoint) if suffix == ".nii.gz" else checkpoint
        assert predict(image, "--uncertainty", "--factor", "0.5", model=model) == 0
        name = image.split(".")[0]
        written = read_image(out / f"{name}_uncertainty{suffix}")
        assert written.shape == read_label_map(out / image).shape
        expected = read_image(folder / image).grid.scaled(0.5)
        assert written.spacing == pytest.approx(expected.spacing)
        if suffix == ".nii.gz":  # a TIFF has no place in the world
            np.testing.assert_allclose(written.affine.matrix, expected.affine.matrix, atol=1e-5)

    def test_a_class_that_the_model_lacks_is_named_with_the_nearest(self, predict, out, error_line):
        assert predict("disc.png", "--probability", "forground") == 2
        text = error_line()
        assert "has no class 'forground'; choose one of background, foreground." in text
        assert "Did you mean 'foreground'?" in text
        assert names(out) == []


class TestFrames:
    @pytest.mark.parametrize("image", ["movie.tif", "volume.nii.gz"])
    def test_a_stack_becomes_a_stack_of_the_labels_of_its_frames(
        self, predict, folder, checkpoint, frames, out, image
    ):
        assert predict(image, "--frames") == 0
        assert names(out) == [image]
        stack, labels = read_image(folder / image, ndim=3), read_label_map(out / image, ndim=3)
        np.testing.assert_allclose(labels.affine.matrix, stack.affine.matrix, atol=1e-5)
        predictor = Predictor.load(checkpoint, device="cpu")
        for frame, of_frame in zip(frames, labels.array, strict=True):
            picture = MedicalImage(
                frame.astype(stack.array.dtype)[..., None], Affine.from_spacing(stack.spacing[1:]), stack.unit
            )
            np.testing.assert_array_equal(of_frame, predictor.field(picture).render().array)
        columns = [np.nonzero(of_frame)[1].mean() for of_frame in labels.array]
        assert np.all(np.diff(columns) > 2)

    def test_frames_become_finer_and_not_more(self, predict, folder, out):
        assert predict("volume.nii.gz", "--frames", "--factor", "2") == 0
        stack, labels = read_image(folder / "volume.nii.gz"), read_label_map(out / "volume.nii.gz")
        assert labels.shape == (5, 80, 96)
        ends = np.array([[0.0, -0.5, -0.5], [4, 79.5, 95.5]])
        np.testing.assert_allclose(
            labels.affine.apply(ends), stack.affine.apply(ends * (1, 0.5, 0.5) - (0, 0.25, 0.25)), atol=1e-4
        )

    def test_with_a_spacing_a_region_objects_and_maps(self, predict, out):
        options = ["--spacing", "1", "0.25", "--region", "1:4", "0:32", ":", "--objects", "--uncertainty"]
        assert predict("movie.tif", "--frames", *options) == 0
        assert names(out) == ["movie.tif", "movie_objects.csv", "movie_objects.tif", "movie_uncertainty.tif"]
        for name in ("movie.tif", "movie_objects.tif"):
            labels = read_label_map(out / name, ndim=3)
            assert labels.shape == (3, 16, 96)
            assert labels.spacing == pytest.approx((3.0, 1.0, 0.25))
        assert read_image(out / "movie_uncertainty.tif", ndim=3).shape == (3, 16, 96)

    @pytest.mark.parametrize(
        ("image", "model", "options", "said"),
        [
            ("volume.nii.gz", "volume", [], "is a 3D model: it takes a stack as a whole, not in frames."),
            ("small.tif", "disc", [], "a 3D image is needed here"),
            ("movie.tif", "disc", ["--spacing", "1", "1", "1"], "The spacing needs 2 numbers for a 2D model"),
            ("movie.tif", "disc", ["--region", ":", ":"], "The region needs 3 spans for 3D images; got 2."),
        ],
    )
    def test_what_has_no_frames_is_refused(
        self, predict, checkpoint, volume_checkpoint, out, error_line, image, model, options, said
    ):
        model = str(volume_checkpoint) if model == "volume" else checkpoint
        assert predict(image, "--frames", *options, model=model) == 2
        assert said in error_line()
        assert names(out) == []


def test_that_a_photograph_is_taken_as_it_is_stored_is_told_once(predict, folder, frames, out, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "photographs").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(frames[0]).save(folder / "photographs" / name, exif=exif)
    assert predict("photographs") == 0
    assert capsys.readouterr().err.count("are segmented as they are stored") == 1
    assert read_label_map(out / "a.png").shape == frames[0].shape


class TestChannels:
    @pytest.mark.parametrize("channel", ["3", "DAPI", "dapi"])
    def test_the_channel_that_is_named_is_segmented_as_if_it_were_alone(self, predict, dyes, out, channel):
        assert predict("disc.png") == predict("dyes.ome.tif", "--channel", channel) == 0
        alone, of_dye = read_label_map(out / "disc.png"), read_label_map(out / "dyes.ome.tif")
        assert alone.array.any()
        np.testing.assert_array_equal(of_dye.array, alone.array)

    def test_dyes_are_never_mixed(self, predict, dyes, out, error_line):
        assert predict("dyes.ome.tif") == 2
        assert "has 3 channels (GFP, RFP, DAPI); this model takes 1 channel" in (text := error_line())
        assert "--channel GFP" in text
        assert names(out) == []

    def test_pages_are_segmented_each_by_itself_or_one_of_them(self, predict, dyes, out, error_line):
        assert predict("pages.tif") == 2
        assert (
            "has 3 pages; this model takes 1 channel: segment each page by itself with --frames"
            in error_line()
        )
        assert predict("pages.tif", "--frames") == 0
        each = read_label_map(out / "pages.tif", ndim=3).array
        assert predict("pages.tif", "--channel", "3", "--overwrite") == 0
        np.testing.assert_array_equal(read_label_map(out / "pages.tif").array, each[2])
        assert each[2].any()

    def test_with_frames_the_channel_of_each_is_chosen(self, predict, dyes, out):
        assert predict("movie.tif", "--frames") == predict("stack.tif", "--frames", "--channel", "2") == 0
        of_movie, of_stack = (read_label_map(out / name, ndim=3).array for name in ("movie.tif", "stack.tif"))
        assert of_movie.any()
        np.testing.assert_array_equal(of_stack, of_movie)

    def test_a_point_in_time_is_chosen_of_a_series_of_volumes(
        self, predict, folder, volume_checkpoint, out, error_line
    ):
        times = np.random.default_rng(0).normal(size=(16, 18, 12, 3)).astype(np.float32)
        nibabel.Nifti1Image(times, OBLIQUE).to_filename(folder / "series.nii.gz")
        nibabel.Nifti1Image(times[..., 1], OBLIQUE).to_filename(folder / "second.nii.gz")
        model = str(volume_checkpoint)
        assert predict("series.nii.gz", model=model) == 2
        assert "has 3 time points; this model takes 1 channel: choose one with --time" in error_line()
        assert predict("series.nii.gz", "--time", "2", model=model) == 0
        assert predict("second.nii.gz", model=model) == 0
        of_series, of_second = (read_label_map(out / f"{name}.nii.gz") for name in ("series", "second"))
        np.testing.assert_array_equal(of_series.array, of_second.array)

    @pytest.mark.parametrize(
        ("channels", "said"),
        [
            (["4"], "choose a number from 1 to 3"),
            (["DAPY"], "Did you mean 'DAPI'?"),
            (["1", "2"], "takes 1 channel: choose as many with --channel; got 1 2."),
        ],
    )
    def test_channels_that_are_not_there_or_too_many_are_refused(
        self, predict, dyes, out, error_line, channels, said
    ):
        assert predict("dyes.ome.tif", "--channel", *channels) == 2
        assert said in error_line()
        assert names(out) == []


class TestMedicalFormats:
    @pytest.fixture
    def noise(self) -> sitk.Image:
        image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 99, (6, 14, 12), np.int16))
        image.SetSpacing((0.5, 0.5, 2.0))
        image.SetOrigin((10.0, -4.0, 7.0))
        return image

    @pytest.mark.parametrize(
        ("name", "written"),
        [
            ("scan.nrrd", "scan.nrrd"),
            ("scan.mha", "scan.mha"),
            ("scan.mhd", "scan.mha"),
            ("scan", "scan.nii.gz"),
        ],
    )
    def test_labels_have_the_format_of_the_image_or_one_that_holds_its_place(
        self, main, volume_checkpoint, noise, tmp_path, out, name, written
    ):
        """A folder of DICOM slices is one image."""
        path = tmp_path / name
        if path.suffix:
            sitk.WriteImage(noise, str(path))
        else:
            save_slices(noise, path)
        command = [str(volume_checkpoint), str(path), "--output", str(out), "--uncertainty"]
        assert main([*command, "--device", "cpu"]) == 0
        assert names(out) == sorted([written, "scan_uncertainty.nii.gz"])
        image = read_image(path, ndim=3)
        for result in (read_label_map(out / written), read_image(out / "scan_uncertainty.nii.gz")):
            assert result.shape == image.shape == (6, 14, 12)
            np.testing.assert_allclose(result.affine.matrix, image.affine.matrix, atol=1e-4)


def save_slices(image: sitk.Image, folder: Path) -> None:
    """A volume as a DICOM series, a file per slice."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(image.GetDepth()):
        piece = image[:, :, number]
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|0032": "\\".join(map(str, image.TransformIndexToPhysicalPoint((0, 0, number)))),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(number + 1),
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{number + 1}",
        }
        for key, value in tags.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(piece)
