"""The script of scribbles writes a data set that trains, and tells what a user got wrong in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies.scribbles import UNPAINTED
from swipe_core.coordinates import Affine
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.images import LabelMap, read_label_map, write_label_map

SPARSE = LabelConfig(ignore_label=UNPAINTED)


@pytest.fixture(scope="module")
def module(load_script):
    return load_script("scribble")


@pytest.fixture(scope="module")
def script(module):
    return module.main


def disc(row: int, column: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:64, :72]
    return np.hypot(rows - row, columns - column) < radius


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Six pictures to train on, of which the first two show nothing, and one to validate on."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        labels = disc(30, 20 + 5 * number, 14) * (number > 1)
        save(folder / "train" / "images" / f"{number}.jpg", 60 + 120 * labels)
        save(folder / "train" / "labels" / f"{number}.png", labels)
    save(folder / "val" / "images" / "empty.png", np.full((64, 72), 60))
    save(folder / "val" / "labels" / "empty.png", np.zeros((64, 72)))
    save(folder / "val" / "images" / "one.png", 60 + 120 * disc(30, 30, 14))
    save(folder / "val" / "labels" / "one.png", disc(30, 30, 14))
    return folder


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    """Two pictures whose labels number single objects, without splits but for train/."""
    folder = tmp_path_factory.mktemp("objects")
    for number in range(2):
        labels = 1 * disc(20, 20, 9) + 2 * disc(45, 45, 12) + 7 * disc(15, 55, 8)
        save(folder / "train" / "images" / f"{number}.png", 60 + 20 * labels)
        save(folder / "train" / "labels" / f"{number}.bmp", labels)
    return folder


def test_help_explains_itself(script, capsys):
    with pytest.raises(SystemExit) as end:
        script(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(
        option in text for option in ("--cases", "--voxels", "--instances", "--labels.ignore_label 255")
    )


def test_the_copy_is_a_data_set_with_true_strokes_and_the_same_images(script, pictures, tmp_path, capsys):
    output = tmp_path / "new" / "scribbled"
    assert script([str(pictures), str(output), "--cases", "3", "--voxels", "90"]) == 0
    originals = {case.name: case for case in find_cases(pictures, "train")}
    cases = find_cases(output, "train")
    assert len(cases) == 3
    for case in cases:
        original = originals[case.name]
        assert case.image_path.read_bytes() == original.image_path.read_bytes()
        painted = read_labelled(case, 2, SPARSE).labels.array
        known = painted != UNPAINTED
        np.testing.assert_array_equal(painted[known], read_label_map(original.label_path).array[known])
        assert 80 < (painted == 0).sum() <= 90 and 80 < (painted == 1).sum() <= 90
    assert [path.name for path in output.iterdir()] == ["train"]
    assert capsys.readouterr().out.startswith(f"3 cases of {pictures} (train)")


def test_the_table_tells_the_painted_voxels_of_each_case_and_class(script, pictures, tmp_path, capsys):
    assert script([str(pictures), str(tmp_path), "--cases", "2"]) == 0
    _, header, *rows, total = capsys.readouterr().out.splitlines()
    assert header.split() == ["case", "background", "class", "1"]
    counts = []
    for case, row in zip(find_cases(tmp_path, "train"), rows, strict=True):
        painted = read_label_map(case.label_path).array
        counts.append([int((painted == klass).sum()) for klass in (0, 1)])
        assert row.split() == [case.name, *map(str, counts[-1])]
    assert total.split() == ["all", *map(str, np.sum(counts, axis=0))]


def test_cases_are_drawn_by_seed_among_those_with_every_class_and_fewer_are_part_of_more(
    script, pictures, tmp_path
):
    drawn = {}
    for seed in range(6):
        for count in (1, 3):
            output = tmp_path / f"{seed}-{count}"
            assert script([str(pictures), str(output), "--cases", str(count), "--seed", str(seed)]) == 0
            drawn[seed, count] = {case.name for case in find_cases(output, "train")}
        assert drawn[seed, 1] < drawn[seed, 3] <= {"2", "3", "4", "5"}
    assert len({frozenset(names) for names in drawn.values()}) > 2


def test_a_case_has_the_same_strokes_whichever_others_are_drawn(script, pictures, tmp_path):
    for count in (1, 4):
        assert script([str(pictures), str(tmp_path / str(count)), "--cases", str(count)]) == 0
    (case,) = find_cases(tmp_path / "1", "train")
    same = next(other for other in find_cases(tmp_path / "4", "train") if other.name == case.name)
    np.testing.assert_array_equal(
        read_label_map(case.label_path).array, read_label_map(same.label_path).array
    )


def test_full_keeps_every_case_and_label_and_goes_into_the_same_folder(script, pictures, tmp_path):
    assert script([str(pictures), str(tmp_path), "--cases", "2"]) == 0
    assert script([str(pictures), str(tmp_path), "--split", "val", "--voxels", "full"]) == 0
    assert len(find_cases(tmp_path, "train")) == 2
    cases = find_cases(tmp_path, "val")
    for case, original in zip(cases, find_cases(pictures, "val"), strict=True):
        np.testing.assert_array_equal(
            read_label_map(case.label_path).array, read_label_map(original.label_path).array
        )


@pytest.mark.parametrize("voxels", ["60", "full"])
def test_single_objects_become_one_class_in_a_format_that_can_be_written(script, objects, tmp_path, voxels):
    assert script([str(objects), str(tmp_path), "--instances", "--voxels", voxels]) == 0
    for case in find_cases(tmp_path, "train"):
        assert case.label_path.suffix == ".png"
        painted = read_labelled(case, 2, SPARSE).labels.array
        assert set(np.unique(painted)) == ({0, 1} if voxels == "full" else {0, 1, UNPAINTED})


def test_a_volume_keeps_its_place_and_format(script, tmp_path):
    labels = np.zeros((10, 30, 24), np.uint8)
    labels[3:8, 5:20, 4:12] = 1
    labels[3:8, 5:20, 12:20] = 2
    affine = Affine.from_spacing((3.0, 1.0, 1.5), (5.0, 6.0, 7.0))
    for name in ("images", "labels"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        target = tmp_path / "data" / "train" / name / "a.nii.gz"
        write_label_map(target, LabelMap(labels, affine, "millimeter"))
    assert script([str(tmp_path / "data"), str(tmp_path / "out"), "--voxels", "100"]) == 0
    (case,) = find_cases(tmp_path / "out", "train")
    config = LabelConfig(class_names=("one", "two"), ignore_label=UNPAINTED)
    painted = read_labelled(case, 3, config).labels
    np.testing.assert_allclose(painted.affine.matrix, affine.matrix, atol=1e-5)
    known = painted.array != UNPAINTED
    np.testing.assert_array_equal(painted.array[known], labels[known])
    assert case.label_path.name == "a.nii.gz"


def test_ctrl_c_leaves_nothing(module, pictures, tmp_path, capsys, interrupt):
    interrupt(module, "scribble")
    assert module.main([str(pictures), str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "stopped; nothing is written\n"
    assert list((tmp_path / "out").iterdir()) == []


# --- What users get wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--voxels", "0"], "--voxels must be a whole number above 0, or full; got '0'"),
        (["--voxels", "many"], "--voxels must be a whole number above 0, or full; got 'many'"),
        (["--cases", "0"], "--cases must be 1 or more; got 0"),
        (["--cases", "5"], "of the 6 in DATA (train) only 4 hold every class from 0 to 1"),
        (["--split", "test"], "no 'test' folder, only train, val"),
    ],
)
def test_a_wrong_option_is_named(script, pictures, tmp_path, error_line, options, said):
    assert script([str(pictures), str(tmp_path / "out"), *options]) == 2
    assert said.replace("DATA", str(pictures)) in error_line()
    assert not (tmp_path / "out").exists()


def test_an_older_copy_is_not_overwritten(script, pictures, tmp_path, error_line):
    save(tmp_path / "train" / "images" / "mine.png", np.zeros((4, 4)))
    assert script([str(pictures), str(tmp_path)]) == 2
    assert "train exists already" in error_line()
    assert [path.name for path in tmp_path.rglob("*.png")] == ["mine.png"]


def test_of_single_objects_and_masks_of_255_the_option_for_them_is_told(
    script, objects, tmp_path, error_line
):
    assert script([str(objects), str(tmp_path / "out"), "--cases", "1"]) == 2
    assert "for single objects say --instances" in error_line()
    save(tmp_path / "masks" / "train" / "images" / "a.png", np.zeros((64, 72)))
    save(tmp_path / "masks" / "train" / "labels" / "a.png", 255 * disc(30, 30, 10))
    assert script([str(tmp_path / "masks"), str(tmp_path / "out")]) == 2
    assert "for masks of 0 and 255 say --instances" in error_line()


def test_an_image_whose_voxels_lie_in_another_file_is_refused(script, tmp_path, error_line):
    save(tmp_path / "data" / "train" / "labels" / "a.png", disc(30, 30, 10))
    images = tmp_path / "data" / "train" / "images"
    images.mkdir()
    (images / "a.mhd").write_text("ElementDataFile = a.raw\n", "utf-8")
    assert script([str(tmp_path / "data"), str(tmp_path / "out")]) == 2
    assert "keeps its voxels in another file" in error_line()
