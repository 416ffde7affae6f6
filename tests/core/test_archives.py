"""The paper's data sets, in miniature: whatever their archives look like, `find_cases` reads them after."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies.archives import ARCHIVES, iter_arrange
from swipe_core.coordinates import Affine
from swipe_core.data import SPLITS
from swipe_core.data.cases import Case, find_cases, split_cases
from swipe_core.data.labelled import read_labelled
from swipe_core.errors import ConfigError, DataError
from swipe_core.images import LabelMap, MedicalImage, write_image, write_label_map
from swipe_core.progress import Progress, finish
from swipe_core.training.config import load_config

SHAPE = (6, 8, 9)
AFFINE = Affine.from_spacing((3.0, 0.8, 0.8), (5.0, -7.0, 2.0))


def square(size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size + 8), np.uint8)
    mask[10:25, 12:30] = 1
    return mask


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def frame(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)


def kvasir(folder: Path, names: list[str]) -> Path:
    """Masks as the archive has them: JPEG in three channels, with the noise of their compression."""
    for number, name in enumerate(names):
        save(folder / "sessile-main-Kvasir-SEG" / "images" / f"{name}.jpg", frame(number))
        mask = np.repeat(255 * square()[..., None], 3, axis=-1)
        save(folder / "sessile-main-Kvasir-SEG" / "masks" / f"{name}.jpg", mask, quality=30)
    return folder


def clinic(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        save(folder / "TIF" / "Original" / f"{name}.tif", frame(number))
        save(folder / "TIF" / "Ground Truth" / f"{name}.tif", 255 * square())
    return folder


def volume(image_path: Path, label_path: Path, classes: list[int]) -> None:
    for path in (image_path, label_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SHAPE, np.uint8)
    labels.flat[: len(classes)] = classes
    values = np.arange(labels.size, dtype=np.int16).reshape(*SHAPE, 1) - 1000
    write_image(image_path, MedicalImage(values, AFFINE, "millimeter"))
    write_label_map(label_path, LabelMap(labels, AFFINE, "millimeter"))


def bcv(folder: Path, numbers: list[int]) -> Path:
    root = folder / "RawData" / "Training"
    for number in numbers:
        stem = f"{number:04d}.nii.gz"
        volume(root / "img" / f"img{stem}", root / "label" / f"label{stem}", list(range(14)))
    return folder


def amos(folder: Path, numbers: list[int], classes: int = 16) -> Path:
    for number in numbers:
        name = f"amos_{number:04d}.nii.gz"
        volume(
            folder / "amos22" / "imagesTr" / name, folder / "amos22" / "labelsTr" / name, list(range(classes))
        )
    return folder


NAMES = [f"case{number}" for number in range(10)]
NUMBERS = [1, 2, 3, 4, 5, 6, 7, 8, 21, 40]
MAKERS = {
    "kvasir-sessile": lambda folder: kvasir(folder, NAMES),
    "cvc-clinicdb": lambda folder: clinic(folder, NAMES),
    "bcv": lambda folder: bcv(folder, NUMBERS),
    "amos": lambda folder: amos(folder, [*NUMBERS, 507, 600]),
}
CONFIGS = {"kvasir-sessile": "sessile", "cvc-clinicdb": "sessile", "bcv": "bcv", "amos": "bcv"}


@pytest.fixture
def arranged(tmp_path):
    """A function from an archive's name to the folder that was made of its miniature."""

    def arrange(name: str, **options) -> Path:
        source = MAKERS[name](tmp_path / "source")
        finish(iter_arrange(name, source, tmp_path / "new" / name, **options))
        return tmp_path / "new" / name

    return arrange


def by_name(folder: Path) -> list[Case]:
    return sorted(find_cases(folder), key=lambda case: case.name)


def test_there_is_a_miniature_of_every_archive():
    assert MAKERS.keys() == ARCHIVES.keys() == CONFIGS.keys()


@pytest.mark.parametrize("name", list(ARCHIVES))
def test_every_archive_becomes_cases_of_the_papers_split_that_the_configuration_reads(arranged, name):
    folder, config = arranged(name), load_config(CONFIGS[name])
    cases = {split: find_cases(folder, split) for split in SPLITS}
    assert [len(cases[split]) for split in SPLITS] == [6, 2, 2]
    for case in find_cases(folder):
        labelled = read_labelled(case, config.model.ndim, config.labels)
        assert labelled.image.channels == config.preprocessing.channels
        assert labelled.labels.array.any()
    # It is the split that a folder without parts gets.
    expected = split_cases(by_name(folder), seed=0)
    assert cases == {split: sorted(expected[split], key=lambda case: case.name) for split in SPLITS}


@pytest.mark.parametrize("name", list(ARCHIVES))
def test_the_split_depends_on_the_seed_alone_and_every_case_is_in_one_part(tmp_path, name):
    source = MAKERS[name](tmp_path / "source")
    parts = []
    for number, seed in enumerate((0, 0, 1)):
        target = tmp_path / str(number)
        counts = finish(iter_arrange(name, source, target, seed=seed))
        assert counts == {"train": 6, "val": 2, "test": 2}
        parts.append([{case.name for case in find_cases(target, split)} for split in SPLITS])
        assert len(set.union(*parts[-1])) == 10
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize("name", ["kvasir-sessile", "cvc-clinicdb"])
def test_masks_are_zero_and_one_whatever_compression_made_of_them(arranged, name):
    config = load_config("sessile")
    for case in find_cases(arranged(name)):
        assert case.label_path.suffix == ".png"
        labels = read_labelled(case, 2, config.labels).labels.array
        assert set(np.unique(labels)) == {0, 1}
        wrong = (labels != square()).sum()
        assert wrong == 0 if name == "cvc-clinicdb" else wrong < 40  # where JPEG smeared the edge


def test_a_mask_of_noise_alone_is_empty_and_one_of_zeros_and_ones_is_not(tmp_path):
    source = kvasir(tmp_path / "source", ["a", "b", "c"])
    masks = source / "sessile-main-Kvasir-SEG" / "masks"
    noise = np.random.default_rng(0).integers(0, 9, (40, 48), np.uint8)
    save(masks / "a.jpg", noise, quality=95)
    (masks / "b.jpg").unlink()
    save(masks / "b.png", square())
    (masks / "c.jpg").unlink()
    opaque = np.concatenate(
        [np.repeat(255 * square()[..., None], 3, -1), np.full((40, 48, 1), 255, np.uint8)], -1
    )
    save(masks / "c.png", opaque)
    finish(iter_arrange("kvasir-sessile", source, tmp_path / "new"))
    config = load_config("sessile")
    found = {
        case.name: read_labelled(case, 2, config.labels).labels.array for case in find_cases(tmp_path / "new")
    }
    assert not found["a"].any()
    np.testing.assert_array_equal(found["b"], square())
    np.testing.assert_array_equal(found["c"], square())


def test_volumes_of_bcv_are_named_by_their_images_and_keep_their_labels(arranged):
    cases = by_name(arranged("bcv"))
    assert [case.name for case in cases] == [f"img{number:04d}" for number in NUMBERS]
    labelled = read_labelled(cases[0], 3, load_config("bcv").labels)
    assert labelled.labels.array.flat[:14].tolist() == list(range(14))
    np.testing.assert_allclose(labelled.labels.affine.matrix, labelled.image.affine.matrix)


def test_of_amos_mr_is_left_out_and_classes_get_the_numbers_of_bcv(arranged):
    cases = by_name(arranged("amos"))
    assert [case.name for case in cases] == [f"amos_{number:04d}" for number in NUMBERS]
    labels = load_config("bcv").labels
    read = read_labelled(cases[0], 3, labels)
    by_class = dict(zip(("", *labels.class_names), range(14), strict=True))
    of_amos = [
        "",
        "spleen",
        "right kidney",
        "left kidney",
        "gallbladder",
        "esophagus",
        "liver",
        "stomach",
        "aorta",
    ]
    of_amos += ["inferior vena cava", "pancreas", "right adrenal gland", "left adrenal gland", "", "", ""]
    assert read.labels.array.flat[:16].tolist() == [by_class[organ] for organ in of_amos]
    np.testing.assert_allclose(read.labels.affine.matrix, read.image.affine.matrix)


@pytest.mark.parametrize(("copies", "links"), [(False, 2), (True, 1)])
def test_images_are_linked_unless_copies_are_asked_for(arranged, copies, links):
    for case in find_cases(arranged("bcv", copies=copies)):
        assert os.stat(case.image_path).st_nlink == os.stat(case.label_path).st_nlink == links


def test_an_archive_of_links_becomes_files_that_are_there(tmp_path):
    real = kvasir(tmp_path / "real", NAMES)
    linked = tmp_path / "source"
    for path in sorted(real.rglob("*.jpg")):
        link = linked / path.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(path, link.parent))
    finish(iter_arrange("kvasir-sessile", linked, tmp_path / "new"))
    assert all(case.image_path.is_file() for case in find_cases(tmp_path / "new"))


def test_the_folder_one_is_in_may_be_the_target(tmp_path, monkeypatch):
    source = kvasir(tmp_path / "source", NAMES)
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    finish(iter_arrange("kvasir-sessile", source, Path()))
    assert len(find_cases(tmp_path / "new")) == len(NAMES)


def test_where_the_disk_has_no_links_files_are_copied(arranged, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert len(find_cases(arranged("bcv"))) == 10


def test_it_tells_how_far_it_is(tmp_path):
    reports = list(iter_arrange("cvc-clinicdb", clinic(tmp_path / "source", NAMES), tmp_path / "new"))
    assert reports == [Progress("Arranging CVC-ClinicDB", done, 10) for done in range(1, 11)]


# --- What a user can get wrong ------------------------------------------------------------------


def message(name: str, source: Path, target: Path) -> str:
    with pytest.raises((ConfigError, DataError)) as error:
        finish(iter_arrange(name, source, target))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_archive_is_told_with_the_nearest_name(tmp_path):
    assert "Did you mean 'amos'?" in message("amoss", tmp_path, tmp_path / "new")


def test_a_source_that_is_not_there_or_of_another_archive_is_told(tmp_path):
    assert "There is no folder" in message("bcv", tmp_path / "nowhere", tmp_path / "new")
    told = message("bcv", clinic(tmp_path / "source", NAMES), tmp_path / "new")
    assert "holds no folder with img/ and label/, as BCV has" in told


def test_a_folder_without_images_is_told(tmp_path):
    for part in ("Original", "Ground Truth"):
        (tmp_path / "source" / part).mkdir(parents=True)
    assert "holds no images of CVC-ClinicDB" in message("cvc-clinicdb", tmp_path / "source", tmp_path / "new")


@pytest.mark.parametrize("part", ["Original", "Ground Truth"])
def test_an_image_without_a_mask_and_a_mask_without_an_image_are_told(tmp_path, part):
    source = clinic(tmp_path / "source", NAMES)
    other = {"Original": "Ground Truth", "Ground Truth": "Original"}[part]
    (source / "TIF" / other / "case3.tif").unlink()
    told = message("cvc-clinicdb", source, tmp_path / "new")
    assert f"{Path('TIF') / part} holds case3.tif, and" in told
    assert not (tmp_path / "new").exists()


def test_a_label_that_amos_does_not_have_is_told_and_nothing_is_left_behind(tmp_path):
    source = amos(tmp_path / "source", NUMBERS, classes=18)
    assert "holds the label 16, which AMOS does not have" in message("amos", source, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_target_that_holds_something_is_left_alone(tmp_path):
    source, target = clinic(tmp_path / "source", NAMES), tmp_path / "new"
    target.mkdir()
    finish(iter_arrange("cvc-clinicdb", source, target))
    before = sorted(target.rglob("*"))
    assert "is there already" in message("cvc-clinicdb", source, target)
    assert sorted(target.rglob("*")) == before


# --- The script ---------------------------------------------------------------------------------


def test_the_script_arranges_and_says_how_many_cases_there_are(load_script, tmp_path, capsys):
    source = clinic(tmp_path / "source", NAMES)
    assert load_script("arrange").main(["cvc-clinicdb", str(source), str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}: 6 train, 2 val, 2 test\n"
    assert len(find_cases(tmp_path / "new", "train")) == 6


def test_the_script_tells_a_mistake_in_one_line(load_script, tmp_path, capsys):
    assert load_script("arrange").main(["bcv", str(tmp_path / "nowhere"), str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
