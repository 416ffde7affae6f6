"""The prediction script writes labels of the image's kind, in the image's place, and says what is wrong."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
import zarr
from dicom_writer import write_dicom
from PIL import Image

from swipe_core.cli import main as swipe
from swipe_core.coordinates import image_to_voxel
from swipe_core.images import read_image, read_label_map
from swipe_core.measure.metrics import dice
from swipe_core.prediction import batch, jobs, result
from swipe_core.prediction.batch import REPORT_NAME
from swipe_core.prediction.journal import JOURNAL_NAME
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice

OBLIQUE = np.array([[0.8, -0.6, 0.0, -20.0], [0.6, 0.8, 0.0, 14.0], [0.0, 0.0, 2.0, -7.0], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def module(load_script):
    return load_script("predict")


@pytest.fixture(scope="module")
def predict():
    return lambda words: swipe(["predict", *words])


@pytest.fixture(scope="module")
def checkpoint(disc_run) -> str:
    return str(disc_run / "best.safetensors")


@pytest.fixture(scope="module")
def pictures(disc_folder, tmp_path_factory) -> Path:
    """The disc as PNG, as JPEG and as TIFF of half a micrometre."""
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(disc_folder / "val" / "images" / "disc.png") as picture:
        picture.save(folder / "png.png")
        picture.save(folder / "jpeg.jpg", quality=95)
        picture.save(folder / "bitmap.bmp")
        tifffile.imwrite(
            folder / "tiff.tif",
            np.asarray(picture),
            imagej=True,
            resolution=(2.0, 2.0),
            metadata={"unit": "um"},
        )
    (folder / "notes.txt").write_text("not an image", "utf-8")
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    """Noise as an oblique NIfTI file and as a TIFF stack of 3 x 0.5 x 0.5."""
    folder = tmp_path_factory.mktemp("volumes")
    noise = np.random.default_rng(0).normal(size=(12, 18, 16)).astype(np.float32)
    nibabel.Nifti1Image(noise.T, OBLIQUE).to_filename(folder / "oblique.nii.gz")
    tifffile.imwrite(
        folder / "stack.tif",
        noise,
        imagej=True,
        resolution=(2.0, 2.0),
        metadata={"axes": "ZYX", "spacing": 3.0, "unit": "mm"},
    )
    return folder


def names(folder: Path) -> list[str]:
    """All files that lie in a folder, hidden ones too, but for the account that is kept of them."""
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    return sorted(found - {JOURNAL_NAME, REPORT_NAME})


def assert_same_place(one, other) -> None:
    np.testing.assert_allclose(one.affine.matrix, other.affine.matrix, atol=1e-5)
    assert one.unit == other.unit


# --- What it writes -----------------------------------------------------------------------------


def test_help_explains_itself(predict, capsys):
    with pytest.raises(SystemExit) as end:
        predict(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--factor", "--spacing", "--output", "--method", "--device"))


def test_a_folder_of_pictures_becomes_labels_of_their_kind_with_overlays(
    predict, checkpoint, pictures, disc_folder, tmp_path, capsys
):
    output = tmp_path / "made" / "labels"
    assert predict([checkpoint, str(pictures), "--output", str(output), "--device", "cpu"]) == 0
    overlays = [f"{name}_overlay.png" for name in ("bitmap", "jpeg", "png", "tiff")]
    # JPEG and BMP cannot hold labels.
    assert names(output) == sorted(["bitmap.png", "jpeg.png", "png.png", "tiff.tif", *overlays])
    reference = read_label_map(disc_folder / "val" / "labels" / "disc.png").array
    for name in ("bitmap.png", "jpeg.png", "png.png", "tiff.tif"):
        labels = read_label_map(output / name, ndim=2)
        assert labels.array.dtype == np.uint8 and labels.shape == (32, 32)
        assert dice(labels.array == 1, reference == 1) > 0.9
    assert "png.png  32 x 32" in capsys.readouterr().out
    for name in overlays:
        picture = read_image(output / name)
        assert (*picture.shape, picture.channels) == (32, 32, 3)


def test_single_objects_are_written_with_numbers_of_their_own_and_measured_where_that_is_wanted(
    predict, checkpoint, pictures, tmp_path
):
    command = [checkpoint, str(pictures / "png.png"), "--output", str(tmp_path), "--instances"]
    assert predict(command) == 0
    assert names(tmp_path) == ["png.png", "png_objects.png", "png_overlay.png"]
    objects, labels = (np.asarray(Image.open(tmp_path / f"png{part}.png")) for part in ("_objects", ""))
    assert objects.max() == 1 and np.array_equal(objects > 0, labels > 0)
    assert predict([*command, "--objects"]) == 0
    assert len((tmp_path / "png_objects.csv").read_text("utf-8").splitlines()) == 2


def test_labels_are_those_of_the_field(predict, checkpoint, pictures, tmp_path):
    assert predict([checkpoint, str(pictures / "png.png"), "--output", str(tmp_path), "--device", "cpu"]) == 0
    field = Predictor.load(checkpoint, device="cpu").field(read_image(pictures / "png.png"))
    np.testing.assert_array_equal(read_label_map(tmp_path / "png.png").array, field.render().array)


def test_a_tiff_keeps_its_spacing_at_any_factor(predict, checkpoint, pictures, tmp_path):
    image = read_image(pictures / "tiff.tif", ndim=2)
    assert image.spacing == pytest.approx((0.5, 0.5)) and image.unit == "micrometer"
    for factor, shape in (("1", (32, 32)), ("2", (64, 64)), ("2.5", (80, 80))):
        output = tmp_path / factor
        command = [checkpoint, str(pictures / "tiff.tif"), "--output", str(output), "--factor", factor]
        assert predict(command) == 0
        labels = read_label_map(output / "tiff.tif", ndim=2)
        assert labels.shape == shape and labels.unit == "micrometer"
        assert labels.spacing == pytest.approx((0.5 / float(factor),) * 2)
        assert read_image(output / "tiff_overlay.png").shape == shape


def test_a_spacing_can_be_asked_for(predict, checkpoint, pictures, tmp_path):
    command = [checkpoint, str(pictures / "tiff.tif"), "--output", str(tmp_path), "--spacing", "0.25", "1"]
    assert predict(command) == 0
    labels = read_label_map(tmp_path / "tiff.tif", ndim=2)
    assert labels.shape == (64, 16) and labels.spacing == pytest.approx((0.25, 1))


def test_dense_and_refined_labels_agree(predict, checkpoint, pictures, tmp_path):
    for method in ("dense", "mise"):
        command = [checkpoint, str(pictures / "png.png"), "--output", str(tmp_path / method), "--factor", "4"]
        assert predict([*command, "--method", method]) == 0
    dense, refined = (read_label_map(tmp_path / method / "png.png").array for method in ("dense", "mise"))
    assert dice(dense == 1, refined == 1) >= 0.999


def test_volumes_keep_their_place_and_have_no_overlay(predict, volume_checkpoint, volumes, tmp_path):
    command = [str(volume_checkpoint), str(volumes), "--output", str(tmp_path), "--device", "cpu"]
    assert predict(command) == 0
    assert names(tmp_path) == ["oblique.nii.gz", "stack.tif"]
    for name in names(tmp_path):
        image, labels = read_image(volumes / name, ndim=3), read_label_map(tmp_path / name, ndim=3)
        assert labels.shape == image.shape == (12, 18, 16)
        assert_same_place(labels, image)
    own, written = nibabel.load(volumes / "oblique.nii.gz"), nibabel.load(tmp_path / "oblique.nii.gz")
    np.testing.assert_allclose(written.affine, OBLIQUE, atol=1e-6)
    assert (written.get_sform(coded=True)[1], written.get_qform(coded=True)) == (2, (None, 0))
    assert (own.get_sform(coded=True)[1], own.get_qform(coded=True)) == (2, (None, 0))


@pytest.mark.parametrize(
    ("arguments", "shape", "spacing"),
    [
        (["--factor", "2"], (24, 36, 32), (1.0, 0.5, 0.5)),
        (["--spacing", "4", "1", "0.5"], (6, 18, 32), (4.0, 1.0, 0.5)),
    ],
)
def test_a_finer_volume_covers_the_same_part_of_the_world(
    predict, volume_checkpoint, volumes, tmp_path, arguments, shape, spacing
):
    path = volumes / "oblique.nii.gz"
    assert predict([str(volume_checkpoint), str(path), "--output", str(tmp_path), *arguments]) == 0
    image, labels = read_image(path), read_label_map(tmp_path / path.name)
    assert labels.shape == shape and labels.spacing == pytest.approx(spacing)
    ends = [
        grid.affine.apply(image_to_voxel(np.array([[-1.0] * 3, [1.0] * 3]), grid.shape))
        for grid in (image.grid, labels.grid)
    ]
    np.testing.assert_allclose(*ends, atol=1e-4)


def test_what_lay_in_the_folder_before_is_replaced_and_nothing_else_touched(
    predict, checkpoint, pictures, tmp_path
):
    (tmp_path / "png.png").write_text("old", "utf-8")
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    assert predict([checkpoint, str(pictures / "png.png"), "--output", str(tmp_path)]) == 0
    assert read_label_map(tmp_path / "png.png").shape == (32, 32)
    assert names(tmp_path) == ["mine.txt", "png.png", "png_overlay.png"]


# --- What users get wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.safetensors", "PNG"], "There is no checkpoint none.safetensors"),
        (["PNG", "PNG"], "is not a whole safetensors file"),
        (["CHECKPOINT", "none.png"], "There is no file or folder none.png"),
        (["CHECKPOINT", "EMPTY"], "holds no images"),
        (["CHECKPOINT", "PNG", "--device", "tpu"], "A device is one of"),
        (["CHECKPOINT", "NOTES"], "of no known image format"),
        (["CHECKPOINT", "PNG", "--factor", "0"], "The factor must be a number above 0; got 0"),
        (["CHECKPOINT", "PNG", "--factor", "-2"], "The factor must be a number above 0; got -2"),
        (["CHECKPOINT", "PNG", "--factor", "nan"], "The factor must be a number above 0; got nan"),
        (["CHECKPOINT", "PNG", "--factor", "inf"], "The factor must be a number above 0; got inf"),
        (["CHECKPOINT", "PNG", "--spacing", "1", "0"], "The spacing needs numbers above 0; got 1 0"),
        (
            ["CHECKPOINT", "PNG", "--spacing", "1", "1", "1"],
            "The spacing needs 2 numbers for a 2D model; got 1 1 1",
        ),
        (["VOLUMES", "NIFTI", "--spacing", "1", "1"], "The spacing needs 3 numbers for a 3D model"),
        (["VOLUMES", "PNG"], "a 3D image is needed here"),
        (["CHECKPOINT", "NIFTI"], "a 2D image is needed here"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(
    predict, checkpoint, volume_checkpoint, pictures, volumes, tmp_path, error_line, arguments, said
):
    (tmp_path / "empty").mkdir()
    places = {
        "CHECKPOINT": checkpoint,
        "VOLUMES": volume_checkpoint,
        "PNG": pictures / "png.png",
        "NOTES": pictures / "notes.txt",
        "NIFTI": volumes / "oblique.nii.gz",
        "EMPTY": tmp_path / "empty",
    }
    arguments = [str(places.get(argument, argument)) for argument in arguments]
    assert predict([*arguments, "--output", str(tmp_path / "labels")]) == 2
    assert said in error_line()
    assert names(tmp_path / "labels") == []


@pytest.mark.parametrize("arguments", [["--factor", "two"], ["--factor", "2", "--spacing", "1", "1"], []])
def test_arguments_that_make_no_sense_end_with_the_usage(predict, checkpoint, pictures, capsys, arguments):
    output = ["--output", "nowhere"] if arguments else []
    with pytest.raises(SystemExit) as end:
        predict([checkpoint, str(pictures / "png.png"), *output, *arguments])
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("present", "asked", "said"),
    [
        (["a.png"], ["a.png"], "would overwrite the image"),
        (["a.jpg", "a_overlay.png"], ["."], "would overwrite the image"),
        # Beside an image of this call, but not one itself.
        (["a.jpg", "a.png"], ["a.jpg"], "exists already in the folder of the images"),
        (["a.jpg", "a_overlay.png"], ["a.jpg"], "exists already in the folder of the images"),
    ],
)
def test_no_image_is_ever_overwritten(
    predict, checkpoint, pictures, tmp_path, error_line, present, asked, said
):
    for name in present:
        shutil.copy(pictures / ("png.png" if name.endswith("png") else "jpeg.jpg"), tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    images = [str(tmp_path / name) for name in asked]
    assert predict([checkpoint, *images, "--output", str(tmp_path)]) == 2
    assert said in error_line()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_labels_may_lie_beside_their_image_where_nothing_is_lost(predict, checkpoint, pictures, tmp_path):
    image = Path(shutil.copy(pictures / "jpeg.jpg", tmp_path))
    assert predict([checkpoint, str(image), "--output", str(tmp_path)]) == 0
    assert names(tmp_path) == ["jpeg.jpg", "jpeg.png", "jpeg_overlay.png"]


def test_an_overlay_never_takes_the_place_of_labels(predict, checkpoint, pictures, tmp_path, error_line):
    twin = shutil.copy(pictures / "png.png", tmp_path / "png_overlay.png")
    command = [checkpoint, str(pictures / "png.png"), str(twin), "--output", str(tmp_path / "labels")]
    assert predict(command) == 2
    assert "would be written twice" in error_line()
    assert not (tmp_path / "labels").exists()


def test_two_images_of_one_name_are_refused(predict, checkpoint, pictures, tmp_path, error_line):
    (tmp_path / "other").mkdir()
    twin = shutil.copy(pictures / "jpeg.jpg", tmp_path / "other" / "png.jpg")
    command = [checkpoint, str(pictures / "png.png"), str(twin), "--output", str(tmp_path / "labels")]
    assert predict(command) == 2
    assert "several images are called png" in error_line()
    assert not (tmp_path / "labels").exists()


def test_one_damaged_image_does_not_keep_the_others_from_being_segmented(
    predict, checkpoint, pictures, tmp_path, capsys
):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(pictures / "png.png", folder / "good.png")
    (folder / "bad.png").write_bytes((pictures / "png.png").read_bytes()[:60])
    assert predict([checkpoint, str(folder), "--output", str(tmp_path / "labels")]) == 2
    stderr = capsys.readouterr().err
    assert stderr.count("error: ") == 1 and "bad.png is damaged" in stderr
    assert "2 images: 1 done, 0 kept, 1 failed" in stderr
    assert names(tmp_path / "labels") == ["good.png", "good_overlay.png"]


def test_an_output_that_is_a_file_is_named(predict, checkpoint, pictures, tmp_path, error_line):
    (tmp_path / "labels").write_text("", "utf-8")
    assert predict([checkpoint, str(pictures / "png.png"), "--output", str(tmp_path / "labels")]) == 2
    assert f"{tmp_path / 'labels'} cannot be read or written" in error_line()


# --- What can happen on the way -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--factor", "1e9"], "labels would have 1.02e+21 voxels: use a factor below 1e+09"),
        (["--spacing", "1e3", "1e3"], "single voxel, larger than the image: give a spacing"),
        (["--factor", "1e300"], "labels would have inf voxels: use a factor below 1e+300"),
        (["--spacing", "1e-9", "1e-9"], "use a coarser spacing"),
    ],
)
def test_more_voxels_than_any_memory_holds_and_a_single_one_are_refused(
    predict, checkpoint, pictures, tmp_path, error_line, arguments, said
):
    assert predict([checkpoint, str(pictures / "png.png"), "--output", str(tmp_path), *arguments]) == 2
    assert said in error_line()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_an_image_too_large_for_the_memory_does_not_keep_the_others(
    predict, checkpoint, pictures, tmp_path, capsys, monkeypatch, error
):
    original, first = Predictor.iter_field, iter([True])

    def exhausted(*arguments):
        if next(first, False):
            raise error
        return (yield from original(*arguments))

    monkeypatch.setattr(Predictor, "iter_field", exhausted)
    images = [str(pictures / "png.png"), str(pictures / "jpeg.jpg")]
    assert predict([checkpoint, *images, "--output", str(tmp_path), "--factor", "2"]) == 2
    stderr = capsys.readouterr().err
    said = "png.png with 4096 voxels (64 x 64) of labels does not fit into memory: use a factor below 2, or"
    assert said in stderr and "1 done, 0 kept, 1 failed" in stderr
    assert names(tmp_path) == ["jpeg.png", "jpeg_overlay.png"]


def test_memory_that_runs_out_while_writing_is_told_too(
    predict, checkpoint, pictures, tmp_path, error_line, monkeypatch
):
    monkeypatch.setattr(result, "overlay", lambda *_, **__: np.empty(2**60, np.uint8))
    assert predict([checkpoint, str(pictures / "png.png"), "--output", str(tmp_path)]) == 2
    assert "png.png does not fit into memory: use a factor below 1" in error_line()


def test_a_gpu_that_is_too_small_is_told_of_and_does_no_harm(
    predict, checkpoint, pictures, tmp_path, capsys, monkeypatch
):
    original = Predictor.iter_field

    def noticing(*arguments):
        yield Notice("The memory is small.")
        return (yield from original(*arguments))

    monkeypatch.setattr(Predictor, "iter_field", noticing)
    assert predict([checkpoint, str(pictures / "png.png"), "--output", str(tmp_path)]) == 0
    assert "The memory is small." in capsys.readouterr().err
    assert names(tmp_path) == ["png.png", "png_overlay.png"]


def test_a_fault_of_the_program_is_told_with_its_place_and_does_not_keep_the_others(
    predict, checkpoint, pictures, tmp_path, error_line, monkeypatch
):
    original, first = Predictor.iter_field, iter([True])

    def broken(*arguments):
        if next(first, False):
            raise RuntimeError("a fault")
        return (yield from original(*arguments))

    monkeypatch.setattr(Predictor, "iter_field", broken)
    images = [str(pictures / "png.png"), str(pictures / "jpeg.jpg")]
    assert predict([checkpoint, *images, "--output", str(tmp_path)]) == 2
    said = error_line()
    assert "png.png met a fault of the program (RuntimeError: a fault; test_predict.py, line " in said
    assert "please report this" in said and "memory" not in said
    assert names(tmp_path) == ["jpeg.png", "jpeg_overlay.png"]


def test_ctrl_c_keeps_what_is_finished(predict, checkpoint, pictures, tmp_path, capsys, monkeypatch):
    original, first = Predictor.iter_field, iter([True])

    def interrupted(*arguments):
        if next(first, False):
            return (yield from original(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "iter_field", interrupted)
    images = [str(pictures / "png.png"), str(pictures / "jpeg.jpg")]
    assert predict([checkpoint, *images, "--output", str(tmp_path)]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"stopped; what is finished stays in {tmp_path}, and the same command goes on from there"
    assert names(tmp_path) == ["png.png", "png_overlay.png"]


# --- Many images, and going on ------------------------------------------------------------------


@pytest.fixture
def many(disc_folder, tmp_path) -> Path:
    """Twelve discs, each in other noise."""
    folder = tmp_path / "many"
    folder.mkdir()
    disc = np.asarray(Image.open(disc_folder / "val" / "images" / "disc.png")).astype(float)
    for number in range(12):
        noise = np.random.default_rng(number).normal(0, 10, disc.shape)
        Image.fromarray((disc + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files that can be seen, but for the report, which tells of times."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return {path.name: path.read_bytes() for path in files if path.name != REPORT_NAME}


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in contents(folder)}


def report_of(folder: Path) -> list[dict[str, str]]:
    with (folder / REPORT_NAME).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_the_same_call_again_keeps_what_is_finished(predict, checkpoint, many, tmp_path, capsys):
    out = tmp_path / "out"
    command = [checkpoint, str(many), "--output", str(out)]
    assert predict(command) == 0
    before = times(out)
    capsys.readouterr()
    assert predict(command) == 0
    assert times(out) == before
    told = capsys.readouterr()
    assert told.out == ""
    assert "kept: 12 of 12 images, finished before (--overwrite: anew)" in told.err
    assert "12 images: 0 done, 12 kept, 0 failed\n" in told.err
    assert {row["state"] for row in report_of(out)} == {"kept"}


@pytest.mark.parametrize(
    "option", [["--overwrite"], ["--threshold", "0.4"], ["--factor", "2"], ["--objects"]]
)
def test_all_is_made_anew_where_something_else_is_asked(predict, checkpoint, many, tmp_path, capsys, option):
    out = tmp_path / "out"
    command = [checkpoint, str(many), "--output", str(out)]
    assert predict(command) == 0
    before = times(out)
    assert predict([*command, *option]) == 0
    assert not {name for name, time in times(out).items() if before.get(name) == time}
    assert "kept" not in capsys.readouterr().err.replace("0 kept", "")


def test_labels_that_are_gone_or_changed_are_made_anew_and_the_others_kept(
    predict, checkpoint, many, tmp_path
):
    out = tmp_path / "out"
    command = [checkpoint, str(many), "--output", str(out)]
    assert predict(command) == 0
    whole, before = contents(out), times(out)
    (out / "03.png").unlink()
    (out / "05_overlay.png").write_bytes(b"cut")
    assert predict(command) == 0
    assert contents(out) == whole
    changed = {name for name, time in times(out).items() if before[name] != time}
    assert changed == {"03.png", "03_overlay.png", "05.png", "05_overlay.png"}


def test_killed_half_way_the_same_call_goes_on(predict, checkpoint, many, tmp_path, capsys):
    unbroken, out = tmp_path / "unbroken", tmp_path / "out"
    assert predict([checkpoint, str(many), "--output", str(unbroken)]) == 0
    command = [checkpoint, str(many), "--output", str(out), "--device", "cpu"]
    script = Path(__file__).parents[2] / "scripts" / "predict.py"
    process = subprocess.Popen(
        [sys.executable, str(script), *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        for _ in range(3):  # a line for each image
            process.stdout.readline()
        process.kill()
    before = times(out)
    finished = len((out / JOURNAL_NAME).read_text("utf-8").splitlines())
    assert 3 <= finished < 12
    capsys.readouterr()
    assert predict(command) == 0
    assert f"kept: {finished} of 12 images" in capsys.readouterr().err
    assert contents(out) == contents(unbroken)
    again = {name for name, time in times(out).items() if before.get(name, time) != time}
    assert len(again) <= 2  # at most what was written of the image in progress


def test_beside_their_images_labels_are_no_images_of_the_next_call(
    predict, checkpoint, pictures, tmp_path, capsys
):
    shutil.copy(pictures / "jpeg.jpg", tmp_path)
    command = [checkpoint, str(tmp_path), "--output", str(tmp_path)]
    assert predict(command) == 0
    assert predict(command) == 0
    assert "kept: 1 of 1 images" in capsys.readouterr().err
    assert predict([*command, "--threshold", "0.4"]) == 0
    assert names(tmp_path) == ["jpeg.jpg", "jpeg.png", "jpeg_overlay.png"]


def test_an_image_that_vanishes_meanwhile_fails_alone(
    predict, checkpoint, many, tmp_path, capsys, monkeypatch
):
    original = Predictor.iter_field

    def vanishing(*arguments):
        (many / "07.png").unlink(missing_ok=True)
        return (yield from original(*arguments))

    monkeypatch.setattr(Predictor, "iter_field", vanishing)
    assert predict([checkpoint, str(many), "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "12 images: 11 done, 0 kept, 1 failed; " in told and "images per second" in told
    assert told.count("07.png") == 2  # when it happened, and in the end
    rows = report_of(tmp_path / "out")
    assert [row["state"] for row in rows].count("done") == 11
    assert rows[7]["image"].endswith("07.png") and "07.png" in rows[7]["message"] and rows[7]["labels"] == ""
    assert float(rows[0]["seconds"]) > 0 and rows[0]["labels"] == str(tmp_path / "out" / "00.png")


def test_of_thousands_no_line_is_printed_for_each(
    module, predict, checkpoint, many, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(module, "MOST_LISTED", 11)
    (many / "04.png").write_bytes(b"no picture")
    assert predict([checkpoint, str(many), "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("error: ") == 1


def test_a_notice_is_told_once_however_many_images_cause_it(
    predict, checkpoint, many, tmp_path, capsys, monkeypatch
):
    original = Predictor.iter_field

    def noticing(*arguments):
        yield Notice("The memory is small.")
        return (yield from original(*arguments))

    monkeypatch.setattr(Predictor, "iter_field", noticing)
    assert predict([checkpoint, str(many), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count("The memory is small.") == 1


def test_a_report_of_one_image_is_not_needed(predict, checkpoint, pictures, tmp_path):
    assert predict([checkpoint, str(pictures / "png.png"), "--output", str(tmp_path)]) == 0
    assert not (tmp_path / REPORT_NAME).exists()


def test_a_table_of_that_name_that_is_no_report_is_kept(predict, checkpoint, many, tmp_path, error_line):
    out = tmp_path / "out"
    out.mkdir()
    (out / REPORT_NAME).write_text("patient,age\n1,60\n", "utf-8")
    assert predict([checkpoint, str(many), "--output", str(out)]) == 2
    assert "report.csv is no report of this program" in error_line()
    assert (out / REPORT_NAME).read_text("utf-8") == "patient,age\n1,60\n"
    assert names(out) == []


def positions(path: Path, many: Path) -> Path:
    """An OME-TIFF of two positions of several pages, compressed."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for number in (1, 2):
            picture = np.asarray(Image.open(many / f"{number:02}.png"))
            tiff.write(picture, metadata={"axes": "YX"}, compression="zlib")
    return path


def test_of_a_file_of_several_pictures_each_is_segmented_and_kept(
    predict, checkpoint, many, tmp_path, capsys
):
    path, out = positions(tmp_path / "cells.ome.tif", many), tmp_path / "out"
    command = [checkpoint, str(path), "--output", str(out)]
    assert predict(command) == 0
    told = capsys.readouterr()
    assert "cells.ome.tif (2)" in told.err
    labels = ["cells_1.ome.tif", "cells_2.ome.tif"]
    assert set(labels) <= set(names(out))
    alone = tmp_path / "alone"
    for number in (1, 2):
        assert predict([checkpoint, str(many / f"{number:02}.png"), "--output", str(alone)]) == 0
        expected = read_label_map(alone / f"{number:02}.png").array
        np.testing.assert_array_equal(read_label_map(out / labels[number - 1]).array, expected)
    assert [row["image"] for row in report_of(out)] == [f"{path}, picture {number}" for number in (1, 2)]
    assert predict(command) == 0
    assert {row["state"] for row in report_of(out)} == {"kept"}


def test_a_picture_of_several_that_fails_is_named(predict, checkpoint, many, tmp_path, capsys):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(np.asarray(Image.open(many / "00.png")), metadata=None)
        tiff.write(np.zeros((20, 30), np.complex64), metadata=None)
    assert predict([checkpoint, str(tmp_path / "a.tif"), "--output", str(tmp_path / "out")]) == 2
    assert "a.tif, picture 2: " in capsys.readouterr().err
    assert (tmp_path / "out" / "a_1.tif").is_file()


def test_an_image_that_cannot_be_read_is_named_counted_and_in_the_exit_code(
    predict, checkpoint, many, tmp_path, capsys
):
    (many / "slide.czi").write_bytes(b"anything")
    (many / "README.txt").write_text("words", "utf-8")
    out = tmp_path / "out"
    command = [checkpoint, str(many), "--output", str(out)]
    assert predict(command) == 3
    told = capsys.readouterr().err
    assert "12 images: 12 done, 0 kept, 0 failed, 1 left out (files that are no images: 1)" in told
    assert f"left out: {many / 'slide.czi'} is of a format that is not read here" in told
    assert [row["image"] for row in report_of(out) if row["state"] == "left out"] == [str(many / "slide.czi")]
    (many / "slide.czi").unlink()
    assert predict(command) == 0


def test_a_failure_counts_for_more_than_what_is_left_out(predict, checkpoint, many, tmp_path):
    (many / "slide.czi").write_bytes(b"anything")
    (many / "empty.png").write_bytes(b"")
    assert predict([checkpoint, str(many), "--output", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_workers_are_a_number(predict, checkpoint, pictures, capsys, value):
    with pytest.raises(SystemExit) as end:
        predict([checkpoint, str(pictures), "--output", "nowhere", "--workers", value])
    assert end.value.code == 2 and "whole number above 0" in capsys.readouterr().err


class TestBlocks:
    @pytest.fixture(scope="class")
    @classmethod
    def stacks(cls, tmp_path_factory) -> Path:
        """Noise as TIFF and as zarr."""
        folder = tmp_path_factory.mktemp("stacks")
        noise = np.random.default_rng(0).normal(100, 20, (12, 18, 40)).astype(np.uint8)
        tifffile.imwrite(folder / "stack.tif", noise)
        zarr.save(folder / "folder.zarr", noise)
        return folder

    def test_blocks_make_the_labels_of_the_whole_image(
        self, predict, volume_checkpoint, stacks, tmp_path, capsys
    ):
        command = [str(volume_checkpoint), str(stacks / "stack.tif"), "--device", "cpu", "--output"]
        assert predict([*command, str(tmp_path / "whole")]) == 0
        assert predict([*command, str(tmp_path / "blocks"), "--blocks"]) == 0
        assert "stack.tif  12 x 18 x 40" in capsys.readouterr().out
        whole, blocks = (tifffile.imread(tmp_path / way / "stack.tif") for way in ("whole", "blocks"))
        assert (whole == blocks).mean() > 0.999
        assert names(tmp_path / "blocks") == ["stack.tif"]

    def test_a_zarr_folder_becomes_a_zarr_folder_which_is_kept_the_next_time(
        self, predict, volume_checkpoint, stacks, tmp_path, capsys
    ):
        command = [str(volume_checkpoint), str(stacks), "--device", "cpu", "--output", str(tmp_path / "out")]
        assert predict(command) == 0
        assert names(tmp_path / "out") == ["folder.ome.zarr", "stack.tif"]
        labels = zarr.open_group(tmp_path / "out" / "folder.ome.zarr", mode="r")["0"][:]
        stack = tifffile.imread(tmp_path / "out" / "stack.tif")
        assert (labels == stack).mean() > 0.999
        assert predict(command) == 0
        assert "kept: 2 of 2 images" in capsys.readouterr().err
        next((tmp_path / "out" / "folder.ome.zarr").rglob("c/*/*/*")).unlink()
        assert predict([*command, "--threshold", "0.4"]) == 0

    def test_what_blocks_cannot_do_is_said_before_the_work(
        self, predict, volume_checkpoint, checkpoint, stacks, tmp_path, error_line
    ):
        command = [str(volume_checkpoint), str(stacks), "--output", str(tmp_path / "out"), "--blocks"]
        assert predict([*command, "--objects"]) == 2
        assert "leave out --objects" in error_line()
        assert not (tmp_path / "out").exists()

    def test_a_large_tiff_goes_block_by_block_by_itself(
        self, predict, volume_checkpoint, stacks, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(batch, "SMALL_FILE", 0)
        taken = []
        monkeypatch.setattr(jobs, "_iter_in_blocks", lambda job, predictor: taken.append(job) or _nothing())
        for most, expected in ((8640, 0), (8639, 1)):
            monkeypatch.setattr(batch, "MOST_WHOLE", most)
            command = [
                str(volume_checkpoint),
                str(stacks / "stack.tif"),
                "--output",
                str(tmp_path / str(most)),
            ]
            predict(command)
            assert len(taken) == expected
        predict([*command, "--objects"])  # which needs the whole image
        assert len(taken) == 1


def _nothing():
    return (12, 18, 40), None
    yield


def test_nothing_of_a_library_comes_to_the_console(tmp_path):
    """Of files whose headers break the standard, and of a damaged one: sentences of ours, and bars."""
    picture = np.zeros((64, 64), np.uint8)
    odd = write_dicom(tmp_path / "in" / "IM0001", picture, PatientAge="090Y", SpecificCharacterSet="ISO_IR 6")
    odd.write_bytes(odd.read_bytes().replace(b"090Y", b"aged").replace(b"ISO_IR 6", b"KLINGON "))
    cut = write_dicom(tmp_path / "in" / "IM0002", picture, SeriesInstanceUID="1.2.3.9")
    cut.write_bytes(cut.read_bytes()[:-50])
    script = Path(__file__).parents[2] / "scripts" / "predict.py"
    command = [sys.executable, str(script), "nuclei", str(tmp_path / "in"), "--device", "cpu"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip() and "image/s]" not in line]
    assert done.returncode == 2
    assert lines[0].startswith("error: ") and "IM0002 is damaged" in lines[0]
    assert lines[1].startswith("2 images: 1 done, 0 kept, 1 failed")
    assert [line.strip() for line in lines[2:]] == [lines[0].removeprefix("error: ")]
