"""Projects: what is painted lies in a data set, comes back, and is never half there or lost."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swipe_core.coordinates import Affine
from swipe_core.data.annotations import AnnotationScheme
from swipe_core.data.cases import find_cases
from swipe_core.data.labels import IGNORED
from swipe_core.errors import DataError, ImageError, ProjectError
from swipe_core.images import LabelMap, MedicalImage, read_label_map, write_label_map
from swipe_core.project import Project, RoundRecord, TrainSettings
from swipe_core.project.project_file import write_record
from swipe_core.project.records import case_name, file_name, frame_of, free_name

SCHEME = AnnotationScheme(("polyp", "tool"), ("#ff0000", "#0000ff"), "ignored")
RESERVED = ("CON", "prn", "AUX", "nul", "COM1", "lpt9", "COM¹", "CONIN$", "CONOUT$")
NAMES = (
    "cells",
    "a/b\\c",
    "Größe µm",
    "細胞",
    "../../etc",
    "img.ome.tif",
    ".hidden",
    "name. ",
    "x" * 500,
    "",
)
as_root = hasattr(os, "geteuid") and os.geteuid() == 0


def picture(shape: tuple[int, ...] = (6, 7, 1), dtype: type = np.uint8, shift: int = 0) -> MedicalImage:
    array = (np.arange(np.prod(shape)).reshape(shape) % 50 + shift).astype(dtype)
    return MedicalImage(array, Affine.identity(len(shape) - 1), "pixel")


def painting(shape: tuple[int, ...] = (6, 7), value: int = 1) -> LabelMap:
    array = np.full(shape, IGNORED, np.uint8)
    array[..., 2:4], array[..., 5] = value, 0
    return LabelMap(array, Affine.identity(len(shape)), "pixel")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project with two classes."""
    project = Project.create(tmp_path / "project", "Polyps")
    project.set_scheme(SCHEME)
    return project


def visible(folder: Path) -> set[str]:
    """The files in a folder, as paths from it on."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def failing(message: str = "No space left on device") -> Callable[..., None]:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, message)

    return fail


# Its file


def test_a_project_is_opened_as_it_was_left(project: Project) -> None:
    project.set_ndim(2)
    settings = TrainSettings(preset="quick", model="/models/a.safetensors", minutes=10.5, device="cpu")
    project.set_settings(settings)
    project.put_pair("cells", "val", "cells.tif", "cells annotation", ["frame", "space", "space"])
    project.add_round(RoundRecord(folder="runs/01", started_from="polyp", painted={"polyp": 120}))
    project.update_round("runs/01", step=80, minutes=1.5, dice=0.75, state="finished")
    again = Project.open(project.folder)
    assert again.record == project.record
    assert again.name == "Polyps"
    assert again.record.settings == settings and settings.network == "swipe"
    assert again.record.rounds[0].dice == 0.75


def test_a_project_of_an_older_version_is_opened_with_all_that_it_says(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(Path(__file__).parents[1] / "data" / "old_project", tmp_path / "old"))
    before = (folder / "project.yaml").read_bytes()
    project = Project.open(folder)
    assert project.notice == "" and (folder / "project.yaml").read_bytes() == before
    record = project.record
    assert (record.name, record.ndim, record.folders, record.kept) == ("project", 2, [], [])
    assert [(pair.name, pair.split, pair.frames) for pair in record.pairs] == [
        ("disc", "train", [[]]),
        ("frames", "val", [[0]]),
    ]
    assert [(round_.folder, round_.step, round_.dice) for round_ in record.rounds] == [("runs/01", 2, 1.0)]
    assert project.latest_model() == folder / "runs" / "01" / "best.safetensors"
    assert [case.name for case in project.cases("train")] == ["disc"]
    case = project.read_case("disc")
    assert case.corrected is not None and case.corrected.sum() == 5
    assert {label: int((case.labels.array == label).sum()) for label in (0, 1)} == {0: 101, 1: 64}
    project.write_case("disc", (), "train", None, case.labels, case.corrected)
    project.update_round("runs/01", state="stopped")
    assert Project.open(folder).record == project.record


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30), st.text(max_size=5))
@example("Größe\x85\u2028\ufeff: yes", "\x85\u2029")
@example("on", "off")
def test_every_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str, preset: str) -> None:
    project = Project.create(tmp_path_factory.mktemp("texts") / "project", text)
    project.set_settings(TrainSettings(preset=preset))
    project.put_pair(text, labels=text)
    assert Project.open(project.folder).record == project.record


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "content is unusable"),
        (b"version: 1\nname: a\nname: b\n", "'name' stands twice in line 3"),
        (b"version: 1\nname: a\npairs: [", "no whole project file"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"version: 1\nname: a\nclasses: 3\n", "its classes is unusable"),
        (b"version: 2\nname: a\nbeyond: 3\n", "reads up to 1: update napari-swipe"),
        (b"version: 1\nname: a\nscheme: {class_names: [a, a], class_colours: ['#000000', '#000000'],"
         b" unpainted: ignored}\n", "rename one of those called a"),
        (b"version: 1\nname: a\nscheme: {class_names: [a], class_colours: ['#000000'], unpainted: ignored,"
         b" more: 1}\n", "its scheme.*more is unusable"),
        (b"version: 1\nname: a\npairs: [{name: a, split: train, source: a, labels: a, stem: ../a}]\n",
         "cannot be the name of a file"),
        (b"version: 1\nname: a\nrounds: [{folder: ../../x, started_from: a}]\n", "its rounds.0.folder"),
        (b"version: 1\nname: !!python/object/apply:os.system [a]\n", "no whole project file"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_in_a_sentence_and_kept(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "project.yaml").write_bytes(content)
    with pytest.raises(ProjectError, match=message):
        Project.open(tmp_path)
    assert (tmp_path / "project.yaml").read_bytes() == content
    with pytest.raises(ProjectError, match="already holds a project"):
        Project.create(tmp_path, "a")
    assert (tmp_path / "project.yaml").read_bytes() == content


def test_a_folder_without_a_project_is_not_opened(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ProjectError, match="holds no project"):
            Project.open(folder)


def test_a_project_begins_in_a_new_folder_and_takes_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    assert Project.create(tmp_path / "empty", "").name == "empty"
    assert Project.create(tmp_path / "new" / "deep", "deep").folder.is_dir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    with pytest.raises(ProjectError, match="holds files that are no project"):
        Project.create(tmp_path / "used", "a")
    with pytest.raises(ProjectError, match="cannot be written"):
        Project.create(tmp_path / "used" / "thesis.txt" / "project", "a")


def test_on_a_full_disk_the_file_and_the_project_stay_what_they_were(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, record = (project.folder / "project.yaml").read_bytes(), project.record
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", failing())
        for change in (
            lambda: project.set_settings(TrainSettings(minutes=3)),
            lambda: project.put_pair("cells"),
            lambda: project.write_config("name: a"),
        ):
            with pytest.raises(ProjectError, match="cannot be written .No space left on device."):
                change()
    assert visible(project.folder) == {"project.yaml"}
    assert (project.folder / "project.yaml").read_bytes() == before
    assert project.record == record == Project.open(project.folder).record


@pytest.mark.skipif(os.name == "nt" or as_root, reason="needs folders that refuse this user")
def test_a_project_that_is_read_only_can_be_looked_at(project: Project) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    project.folder.chmod(0o500)
    try:
        again = Project.open(project.folder)
        assert again.read_case("cells").image.array.shape == (6, 7, 1)
        with pytest.raises(ProjectError, match="cannot be written"):
            again.set_ndim(2)
    finally:
        project.folder.chmod(0o700)


def test_a_project_that_cannot_be_put_in_order_is_opened_as_it_is(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cells", "foam"):
        project.put_pair(name)
        project.write_case(name, (), "train", picture(), painting())
    (project.data / "train" / "labels" / "foam.tif").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", failing("Read-only file system"))
        assert Project.open(project.folder).read_case("cells").image.array.shape == (6, 7, 1)
    assert [case.name for case in Project.open(project.folder).cases("train")] == ["cells"]


def test_nothing_is_written_where_nothing_changes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.set_settings(TrainSettings(minutes=3))
    pair = project.put_pair("cells", source="cells.tif")
    monkeypatch.setattr("os.replace", failing())
    project.set_settings(TrainSettings(minutes=3))
    project.set_scheme(SCHEME)
    assert project.put_pair("cells", source="cells.tif") == pair


def test_changes_from_several_threads_are_all_kept(project: Project) -> None:
    def work(number: int) -> None:
        for step in range(5):
            project.add_kept(f"/models/{number}.{step}")
        project.put_pair(f"cells {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = Project.open(project.folder).record
    assert len(record.kept) == 20
    assert sorted(pair.name for pair in record.pairs) == [f"cells {number}" for number in range(4)]


def test_a_project_can_be_moved_with_all_that_lies_in_it(project: Project, tmp_path: Path) -> None:
    (project.folder / "pictures").mkdir()
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    project.put_pair("inside", source=str(project.folder / "pictures" / "a.tif"))
    project.put_pair("outside", source=str(outside / "b.tif"))
    project.put_pair("layer", source="pictures")
    project.write_case("inside", (), "train", picture(), painting())
    project.set_folders([project.folder / "pictures", outside])
    project.add_kept(project.models / "polyp.safetensors")
    text = (project.folder / "project.yaml").read_text(encoding="utf-8")
    assert str(project.folder) not in text and "./pictures/a.tif" in text

    moved = Project.open(Path(shutil.move(project.folder, tmp_path / "moved")))
    assert [pair.source for pair in moved.record.pairs] == [
        str(moved.folder / "pictures" / "a.tif"),
        str(outside / "b.tif"),
        "pictures",
    ]
    assert moved.record.folders == [str(moved.folder / "pictures"), str(outside)]
    assert moved.record.kept == [str(moved.models / "polyp.safetensors")]
    assert moved.read_case("inside").image.array.shape == (6, 7, 1)


def test_a_path_of_bytes_that_are_no_text_does_no_harm(project: Project) -> None:
    project.put_pair("cells", source="/data/\udcff.tif")
    project.set_folders(["/data/\udcff"])
    assert Project.open(project.folder).record == project.record


# Names


@given(st.one_of(st.text(), st.sampled_from(RESERVED + NAMES), st.from_regex(r"[./\\ _-]*(con|NUL)[._ -]*")))
def test_any_text_becomes_a_name_that_every_system_takes(text: str) -> None:
    name = file_name(text)
    assert name and not set(name) & set('<>:"/\\|?*.\0\n') and name == name.strip(" .")
    assert len(name.encode()) <= 150
    assert name.upper() not in {reserved.upper() for reserved in RESERVED}
    assert file_name(name) == name


def test_letters_of_all_alphabets_stay_and_endings_go() -> None:
    assert file_name("Größe µm") == "Größe µm"
    assert file_name("細胞.nii.gz") == "細胞"
    assert file_name("u\u0308ber.ome.tif") == "\u00fcber"
    assert file_name("con.png") == "con-1"


@given(st.text(max_size=5), st.lists(st.integers(0, 20000), max_size=3))
def test_the_name_of_a_case_tells_its_frame(text: str, frame: list[int]) -> None:
    name = file_name(text)
    assert frame_of(name, case_name(name, tuple(frame))) == tuple(frame)


def test_cases_are_called_as_their_pair_with_the_frame(project: Project) -> None:
    project.put_pair("my cells.tif")
    assert project.case_name("my cells.tif") == "my cells"
    assert project.case_name("my cells.tif", (7,)) == "my cells_0007"
    assert project.case_name("my cells.tif", (2, 12345)) == "my cells_0002_12345"


@given(
    st.lists(st.sampled_from(["a", "A", "a_0001", "a_0001_0002", "a-2", "a/", "a.tif", "a_1"]), min_size=2),
    st.lists(st.integers(0, 3), max_size=2),
)
def test_cases_of_two_pairs_never_share_a_name(texts: list[str], frame: list[int]) -> None:
    names: list[str] = []
    for text in texts:
        names.append(free_name(text, names))
    for name in names:
        found = [
            other
            for other in names
            if frame_of(other.lower(), case_name(name, tuple(frame)).lower()) is not None
        ]
        assert found == [name]


@pytest.mark.parametrize("name", [*RESERVED, *NAMES])
def test_a_layer_of_any_name_has_a_case(project: Project, name: str) -> None:
    pair = project.put_pair(name)
    assert pair.name == name
    project.write_case(name, (), "train", picture(), painting())
    (case,) = find_cases(project.data, "train")
    assert case.name == project.case_name(name)
    assert project.folder in case.image_path.resolve().parents
    np.testing.assert_array_equal(project.read_case(name).labels.array, painting().array)


def test_two_layers_of_one_name_have_files_of_their_own(project: Project) -> None:
    first, second, third = (project.put_pair(name) for name in ("cells", "cells.tif", "Cells"))
    assert [first.name, second.name, third.name] == ["cells", "cells.tif", "Cells"]
    for value, pair in enumerate((first, second, third)):
        project.write_case(pair.name, (), "train", picture(shift=value), painting(value=value))
    assert len({case.name.lower() for case in project.cases("train")}) == 3
    for value, pair in enumerate((first, second, third)):
        assert project.read_case(pair.name).labels.array[0, 2] == value


def test_files_that_were_there_before_a_pair_stay_their_owner_s(project: Project) -> None:
    images, labels = (project.data / "train" / kind for kind in ("images", "labels"))
    for folder in (images, labels):
        folder.mkdir(parents=True)
        (folder / "cells.tif").write_bytes(b"another program's")
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    assert (labels / "cells.tif").read_bytes() == b"another program's"
    project.remove_pair("cells")
    assert visible(project.data / "train") == {"images/cells.tif", "labels/cells.tif"}


# Cases


def test_a_case_comes_back_as_it_was_written(project: Project) -> None:
    project.put_pair("cells")
    corrected = np.zeros((6, 7), bool)
    corrected[1:3] = True
    project.write_case("cells", (), "train", picture((6, 7, 3)), painting(), corrected)
    for opened in (project, Project.open(project.folder)):
        case = opened.read_case("cells")
        np.testing.assert_array_equal(case.image.array, picture((6, 7, 3)).array)
        np.testing.assert_array_equal(case.labels.array, painting().array)
        np.testing.assert_array_equal(case.corrected, corrected)
        assert opened.written_frames("cells") == [()] and opened.has_image("cells")
        assert opened.record.ndim == 2


def test_volumes_keep_their_place_in_the_world(project: Project) -> None:
    affine = Affine.from_spacing((2.5, 0.5, 0.5), (10.0, -20.0, 30.0))
    project.put_pair("ct")
    volume = picture((4, 6, 7, 2), np.int16)
    labels = painting((4, 6, 7))
    project.write_case(
        "ct",
        (),
        "val",
        MedicalImage(volume.array, affine, "millimeter"),
        LabelMap(labels.array, affine, "millimeter"),
    )
    case = project.read_case("ct")
    np.testing.assert_array_equal(case.image.array, volume.array)
    np.testing.assert_allclose(case.labels.affine.matrix, affine.matrix)


@pytest.mark.parametrize("dtype", [bool, np.float16, np.int64, np.uint64, np.float64, np.longdouble])
@pytest.mark.parametrize("shape", [(6, 7, 2), (3, 6, 7, 1)])
def test_layers_of_any_numbers_can_be_written(project: Project, dtype: type, shape: tuple[int, ...]) -> None:
    project.put_pair("cells")
    image = picture(shape, dtype)
    project.write_case("cells", (), "train", image, painting(shape[:-1]))
    np.testing.assert_array_equal(project.read_case("cells").image.array, image.array.astype(np.float64))


def test_frames_are_cases_of_their_own(project: Project) -> None:
    project.put_pair("movie")
    for frame in ((12,), (3,)):
        project.write_case("movie", frame, "train", picture(shift=frame[0]), painting())
    assert [case.name for case in project.cases("train")] == ["movie_0003", "movie_0012"]
    assert project.written_frames("movie") == [(3,), (12,)]
    project.remove_case("movie", (3,))
    assert [case.name for case in project.cases("train")] == ["movie_0012"]
    assert Project.open(project.folder).written_frames("movie") == [(12,)]


def test_labels_are_written_anew_beside_the_same_image(project: Project) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(shift=5), painting())
    project.write_case("cells", (), "train", None, painting(value=2))
    case = project.read_case("cells")
    assert case.image.array[0, 0, 0] == 5 and case.labels.array[0, 2] == 2
    project.write_case("cells", (), "train", picture(shift=9), painting(value=2))
    assert project.read_case("cells").image.array[0, 0, 0] == 9


def test_corrections_go_where_there_are_none_any_more(project: Project) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting(), np.ones((6, 7), bool))
    assert project.cases("train")[0].corrections_path is not None
    project.write_case("cells", (), "train", None, painting(), np.zeros((6, 7), bool))
    assert project.cases("train")[0].corrections_path is None


def test_a_case_without_an_image_is_refused(project: Project) -> None:
    project.put_pair("cells")
    with pytest.raises(ProjectError, match="image of cells is not in .* write it with its labels"):
        project.write_case("cells", (), "train", None, painting())
    with pytest.raises(ProjectError, match="no image called foam"):
        project.write_case("foam", (), "train", picture(), painting())
    with pytest.raises(ValueError, match="shape"):
        project.write_case("cells", (), "train", picture((5, 7, 1)), painting())
    with pytest.raises(ProjectError, match="holds no cells: write it first"):
        project.read_case("cells")
    assert not project.data.exists() or not visible(project.data)


def test_images_of_2d_and_3d_do_not_mix(project: Project) -> None:
    project.put_pair("cells")
    project.put_pair("ct")
    project.write_case("cells", (), "train", picture(), painting())
    with pytest.raises(ProjectError, match="are 2D, and ct would be 3D"):
        project.write_case("ct", (), "train", picture((3, 6, 7, 1)), painting((3, 6, 7)))
    with pytest.raises(ProjectError, match="no 3D image: remove cells, and add it again"):
        project.write_case("cells", (), "train", picture((3, 6, 7, 1)), painting((3, 6, 7)))


def test_without_a_case_no_split_is_there(project: Project) -> None:
    assert project.cases("train") == project.cases("val") == []
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    assert len(project.cases("train")) == 1 and project.cases("val") == []
    project.remove_case("cells")
    assert project.cases("train") == []
    assert project.data_sets() == []


def test_cases_of_other_data_sets_are_joined(project: Project, disc_folder: Path) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    project.set_folders([disc_folder])
    assert [case.name for case in project.cases("train")] == ["cells", "disc"]
    assert [case.name for case in project.cases("val")] == ["disc"]
    project.set_folders([disc_folder, project.folder / "gone"])
    for split in ("train", "val"):
        with pytest.raises(DataError, match="gone"):
            project.cases(split)


def test_another_split_takes_the_files_of_a_pair_along(project: Project) -> None:
    project.put_pair("movie", "train")
    project.put_pair("cells", "train")
    project.write_case("cells", (), "train", picture(), painting())
    for frame in ((0,), (1,)):
        project.write_case("movie", frame, "train", picture(), painting(), np.ones((6, 7), bool))
    project.update_pair("movie", split="val")
    assert [case.name for case in project.cases("train")] == ["cells"]
    assert [case.name for case in project.cases("val")] == ["movie_0000", "movie_0001"]
    assert all(case.corrections_path for case in project.cases("val"))
    project.write_case("movie", (1,), "train", None, painting(value=2))
    assert len(project.cases("train")) == 3 and project.cases("val") == []
    assert project.read_case("movie", (1,)).labels.array[0, 2] == 2
    assert not (project.data / "val").exists()


def test_a_pair_that_is_put_again_keeps_its_files(project: Project) -> None:
    project.put_pair("a/b", "train", "layer", "painted")
    project.write_case("a/b", (), "train", picture(), painting())
    project.put_pair("a/b", "val", "layer", "renamed")
    pair = project.pair("a/b")
    assert (pair.labels, pair.split, pair.frames, pair.stem) == ("renamed", "val", [[]], "a_b")
    assert [case.name for case in project.cases("val")] == ["a_b"]


def test_a_pair_that_is_removed_is_put_away_and_not_deleted(project: Project) -> None:
    for value in (1, 2):
        project.put_pair("cells")
        project.write_case("cells", (), "train", picture(), painting(value=value))
        project.remove_pair("cells")
        assert project.record.pairs == [] and project.cases("train") == []
    kept = (project.folder / "removed").rglob("labels/*.tif")
    assert sorted(read_label_map(path).array[0, 2] for path in kept) == [1, 2]


# Another scheme

BACKGROUND = AnnotationScheme(SCHEME.class_names, SCHEME.class_colours, "background")
ONE = AnnotationScheme(("polyp",), ("#ff0000",), "ignored")


def changed(project: Project, *schemes: AnnotationScheme) -> Project:
    """The project after its labels were written and other schemes chosen, as a dead program leaves it."""
    for scheme in schemes:
        project.set_scheme(scheme)
    return Project.open(project.folder)


def labels_of(project: Project, name: str = "cells") -> np.ndarray:
    """The labels as they are read, which are those in the file."""
    found = project.read_case(name).labels.array
    (path,) = (case.label_path for case in project.cases("train") if case.name == name)
    np.testing.assert_array_equal(read_label_map(path).array, found)
    return found


@pytest.fixture
def painted(project: Project) -> Project:
    """With one image, whose labels are written: of polyp, of background, and of nothing."""
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting(value=1))
    return project


def test_labels_that_were_written_before_unpainted_became_background_follow(painted: Project) -> None:
    again = changed(painted, BACKGROUND)
    expected = painting(value=1).array
    np.testing.assert_array_equal(labels_of(again), np.where(expected == IGNORED, 0, expected))
    assert again.record.scheme == BACKGROUND and again.record.former == []
    assert again.notice.startswith("The labels of cells were saved before")
    assert Project.open(painted.folder).notice == ""


def test_labels_that_were_written_before_unpainted_became_ignored_follow(project: Project) -> None:
    project.set_scheme(BACKGROUND)
    project.put_pair("cells")
    labels = painting(value=2)
    labels.array[labels.array == IGNORED] = 0
    project.write_case("cells", (), "train", picture(), labels)
    again = changed(project, SCHEME)
    np.testing.assert_array_equal(labels_of(again), np.where(labels.array == 0, IGNORED, labels.array))


def test_labels_that_were_written_anew_are_not_changed_again(painted: Project) -> None:
    painted.set_scheme(BACKGROUND)
    labels = LabelMap(np.zeros((6, 7), np.uint8), Affine.identity(2), "pixel")
    painted.write_case("cells", (), "train", None, labels, scheme=BACKGROUND)
    again = changed(painted, SCHEME, BACKGROUND)
    assert (labels_of(again) == 0).all()


def test_a_class_that_files_still_hold_is_never_taken_for_the_one_that_took_its_place(
    project: Project,
) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting(value=2))
    other = AnnotationScheme(("polyp", "scar"), ("#ff0000", "#00ff00"), "ignored")
    again = changed(project, ONE, other)
    assert again.record.scheme.class_names == ("polyp", "scar", "tool")
    assert (labels_of(again)[:, 2] == 3).all()


def test_a_class_that_no_file_holds_goes(painted: Project) -> None:
    again = changed(painted, ONE)
    assert again.record.scheme == ONE and (labels_of(again)[:, 2] == 1).all() and again.notice == ""


def test_a_class_keeps_its_labels_under_another_name(project: Project) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting(value=2))
    renamed = AnnotationScheme(("polyp", "snare"), SCHEME.class_colours, "background")
    again = changed(project, BACKGROUND, renamed)
    assert again.record.scheme == renamed and (labels_of(again)[:, 2] == 2).all()


def test_unannotated_voxels_are_no_objects(painted: Project) -> None:
    objects = AnnotationScheme(("polyp",), ("#ff0000",), "background", instances=True)
    again = changed(painted, objects)
    np.testing.assert_array_equal(labels_of(again), painting(value=1).array == 1)


def test_labels_written_in_a_scheme_that_is_not_the_present_one_keep_their_meaning(painted: Project) -> None:
    painted.set_scheme(BACKGROUND)
    painted.write_case("cells", (), "train", None, painting(value=2), scheme=SCHEME)
    assert (painted.read_case("cells").labels.array[:, :2] == 0).all()
    assert (labels_of(Project.open(painted.folder))[:, :4] == [0, 0, 2, 2]).all()


def test_labels_beyond_the_classes_of_an_older_project_get_classes(painted: Project) -> None:
    (case,) = painted.cases("train")
    write_label_map(case.label_path, painting(value=4))
    again = Project.open(painted.folder)
    with pytest.raises(DataError, match="outside the 3 classes"):
        again.read_case("cells")
    again.adapt_labels("cells")
    assert again.record.scheme.class_names == ("polyp", "tool", "class 4")
    assert (labels_of(again)[:, 2] == 3).all() and "cells" in again.notice


def test_labels_of_an_older_project_that_lack_the_switch_to_background_follow(painted: Project) -> None:
    record = painted.record.model_copy(update={"scheme": BACKGROUND})
    write_record(painted.folder / "project.yaml", record)
    again = Project.open(painted.folder)
    again.adapt_labels("cells")
    assert set(np.unique(labels_of(again))) == {0, 1}


def test_what_is_not_annotated_is_no_mask_of_white(project: Project) -> None:
    project.set_scheme(ONE)
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting(value=0))
    only_background = AnnotationScheme(("polyp",), ("#ff0000",), "background")
    record = project.record.model_copy(update={"scheme": only_background})
    write_record(project.folder / "project.yaml", record)
    again = Project.open(project.folder)
    with pytest.raises(DataError, match="not annotated"):
        again.read_case("cells")
    again.adapt_labels("cells")
    assert (labels_of(again) == 0).all()


def test_the_files_say_whether_the_images_are_2d_or_3d(painted: Project) -> None:
    painted.set_ndim(3)
    again = Project.open(painted.folder)
    assert again.record.ndim == 2 and again.read_case("cells").labels.ndim == 2


def test_whenever_a_program_is_killed_labels_mean_what_they_meant(painted: Project, tmp_path: Path) -> None:
    new = painting(value=2)
    new.array[new.array == IGNORED] = 0
    before, classes = painting(value=1).array, (1, 2)
    for moments in itertools.count():
        folder = tmp_path / f"killed after {moments}"
        shutil.copytree(painted.folder, folder)
        with pytest.MonkeyPatch.context() as patch:
            dying = Project.open(folder)
            death = Death(patch, moments)
            with contextlib.suppress(Killed):
                dying.set_scheme(BACKGROUND)
                dying.write_case("cells", (), "train", None, new, scheme=BACKGROUND)
                dying.set_scheme(ONE)
        again = Project.open(folder)
        found, scheme = again.read_case("cells").labels.array, again.record.scheme
        value = int(found[0, 2])
        is_ignored = scheme.unpainted == "ignored"
        assert value in classes and (value == 1 or scheme.class_names == ("polyp", "tool"))
        assert (found[:, :2] == (IGNORED if is_ignored else 0)).all()
        assert (found[:, 2:4] == value).all() and (before[:, 2:4] == 1).all()
        if death.left >= 0:
            break
    assert moments >= 3


# The folder


def test_a_place_is_looked_at_and_left_as_it_is(tmp_path: Path) -> None:
    Project.check_place(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    Project.check_place(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
    Project.create(tmp_path / "other")
    with pytest.raises(ProjectError, match="already holds a project"):
        Project.check_place(tmp_path / "other")
    with pytest.raises(ProjectError, match="cannot be written"):
        Project.check_place(Path("/proc/nothing"))


def test_a_project_whose_folder_is_gone_is_not_begun_anew_behind_the_user_s_back(painted: Project) -> None:
    gone = painted.folder.rename(painted.folder.with_name("moved"))
    with pytest.raises(ProjectError, match="is gone: bring it back"):
        painted.write_case("cells", (), "train", None, painting(value=2))
    assert not painted.folder.exists()
    gone.rename(painted.folder)
    painted.write_case("cells", (), "train", None, painting(value=2))
    assert (labels_of(Project.open(painted.folder))[:, 2] == 2).all()


def test_a_project_file_that_was_deleted_is_there_again_with_the_next_case(painted: Project) -> None:
    (painted.folder / "project.yaml").unlink()
    painted.write_case("cells", (), "train", None, painting(value=2))
    assert (labels_of(Project.open(painted.folder))[:, 2] == 2).all()


# Faults


@pytest.mark.parametrize("written", ["write_image", "write_label_map"])
def test_on_a_full_disk_the_older_case_stays_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    project.put_pair("foam")
    monkeypatch.setattr("tifffile.imwrite", _full_from(written))
    for name in ("cells", "foam"):
        with pytest.raises(ImageError, match="No space left on device"):
            project.write_case(name, (), "train", picture(shift=7), painting(value=2))
    monkeypatch.undo()
    assert [case.name for case in project.cases("train")] == ["cells"]
    assert project.read_case("cells").labels.array[0, 2] == 1
    assert not [name for name in visible(project.data) if Path(name).name.startswith(".")]
    assert project.written_frames("foam") == []


def _full_from(written: str) -> Callable[..., None]:
    """A `tifffile.imwrite` for which the disk is full, from images on or from labels on."""
    import tifffile

    write = tifffile.imwrite

    def imwrite(path: Path, array: np.ndarray, **options: object) -> None:
        is_label_map = IGNORED in array
        if written == "write_image" or is_label_map:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, array, **options)

    return imwrite


class Killed(BaseException):
    """The end of a program that has no time to clear up."""


class Death:
    """Ends a program before one of the moments at which files appear, move or go; after it none of these is.

    Parameters
    ----------
    moments
        How many pass before.
    """

    def __init__(self, patch: pytest.MonkeyPatch, moments: int) -> None:
        self.left = moments
        for module, name in ((os, "replace"), (os, "unlink"), (shutil, "rmtree")):
            patch.setattr(module, name, self._before(getattr(module, name)))

    def _before(self, function: Callable[..., None]) -> Callable[..., None]:
        def act(*arguments: object, **options: object) -> None:
            self.left -= 1
            if self.left < 0:
                raise Killed
            function(*arguments, **options)

        return act


def live(project: Project) -> None:
    """What a program may do, every kind of change once."""
    project.put_pair("foam")
    project.write_case("foam", (), "train", picture(), painting(value=2), np.ones((6, 7), bool))
    project.write_case("movie", (1,), "val", None, painting(value=2), np.ones((6, 7), bool))
    project.write_case("movie", (1,), "val", picture(), painting(value=2))
    project.remove_pair("cells")
    project.remove_case("foam")


def test_whenever_a_program_is_killed_the_project_opens_and_trains(project: Project, tmp_path: Path) -> None:
    for name, frames in (("cells", [()]), ("movie", [(0,), (1,)])):
        project.put_pair(name)
        for frame in frames:
            project.write_case(name, frame, "train", picture(), painting())
    for moments in itertools.count():
        folder = tmp_path / f"killed after {moments}"
        shutil.copytree(project.folder, folder)
        with pytest.MonkeyPatch.context() as patch:
            dying = Project.open(folder)
            death = Death(patch, moments)
            with contextlib.suppress(Killed):
                live(dying)
        again = Project.open(folder)
        cases = {case.name for split in ("train", "val") for case in again.cases(split)}
        frames = [
            (pair.name, frame) for pair in again.record.pairs for frame in again.written_frames(pair.name)
        ]
        assert cases == {again.case_name(*case) for case in frames}
        assert {"movie_0000", "movie_0001"} <= cases <= {"cells", "foam", "movie_0000", "movie_0001"}
        for name, frame in frames:
            value = again.read_case(name, frame).labels.array[0, 2]
            assert value in {"cells": (1,), "foam": (2,)}.get(name, (1, 2) if frame == (1,) else (1,))
        # What was painted is somewhere, also of the pair that was taken out.
        kept = [path for path in folder.rglob("cells.tif") if path.parent.name == "labels"]
        assert [read_label_map(path).array[0, 2] for path in kept] == [1]
        if death.left >= 0:
            break
    assert moments > 20
    assert cases == {"movie_0000", "movie_0001"}


def test_what_was_left_half_written_long_ago_is_cleared_away(project: Project) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    old, fresh = (project.data / "train" / "images" / f".{digit * 32}.tif" for digit in "ab")
    for draft in (old, fresh):
        draft.write_bytes(b"half")
    os.utime(old, (1, 1))
    Project.open(project.folder)
    assert not old.exists() and fresh.exists()


def test_labels_whose_image_somebody_took_are_told_and_not_touched(project: Project) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    (project.data / "train" / "images" / "cells.tif").unlink()
    again = Project.open(project.folder)
    assert again.written_frames("cells") == []
    with pytest.raises(DataError, match="cells"):
        again.cases("train")
    again.write_case("cells", (), "train", picture(), painting())
    assert len(again.cases("train")) == 1


# Rounds and models


def test_rounds_are_numbered_on(project: Project) -> None:
    assert project.runs() == [] and project.next_run() == project.folder / "runs" / "01"
    for name in ("01", "02", "10", "notes"):
        (project.folder / "runs" / name).mkdir(parents=True)
    assert [path.name for path in project.runs()] == ["01", "02", "10"]
    assert project.next_run().name == "11"
    project.add_round(RoundRecord(folder="runs/12", started_from="nothing"))
    assert project.next_run().name == "13"


def test_a_round_whose_process_died_is_not_running_any_more(project: Project) -> None:
    from swipe_core.training.lock import RunLock

    for name in ("01", "02"):
        (project.folder / "runs" / name).mkdir(parents=True)
        project.add_round(RoundRecord(folder=f"runs/{name}", started_from="nothing", step=7))
    lock = RunLock(project.folder / "runs" / "02" / "run.lock")
    with lock.held():
        again = Project.open(project.folder)
    assert [record.state for record in again.record.rounds] == ["stopped", "running"]
    assert again.record.rounds[0].step == 7


def test_the_latest_model_is_the_best_of_the_last_round_that_has_one(project: Project) -> None:
    assert project.latest_model() is None
    runs = [project.folder / "runs" / name for name in ("01", "02", "03")]
    for run in runs:
        run.mkdir(parents=True)
    (runs[0] / "best.safetensors").touch()
    assert project.latest_model() == runs[0] / "best.safetensors"
    for kind in ("last", "best"):
        (runs[1] / f"{kind}.safetensors").touch()
        assert project.latest_model() == runs[1] / f"{kind}.safetensors"


def test_a_model_that_is_kept_twice_is_noted_once(project: Project) -> None:
    first = project.models / "mine.safetensors"
    project.add_kept(first)
    project.add_kept(first)
    assert Project.open(project.folder).record.kept == [str(first)]


def test_the_configuration_is_written_whole(project: Project) -> None:
    project.write_config("name: größer\n")
    assert project.config_file.read_text(encoding="utf-8") == "name: größer\n"


def test_a_project_is_shown_without_torch(project: Project) -> None:
    project.put_pair("cells")
    project.write_case("cells", (), "train", picture(), painting())
    program = (
        "import sys; from pathlib import Path; from swipe_core.project import Project\n"
        "Project.open(Path(sys.argv[1])).next_run(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(project.folder)]).returncode == 0
