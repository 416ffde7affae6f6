"""From painted layers to the cases of a project, without a window: frames, classes and corrections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image

from napari_swipe.annotate.pair import likely_axes
from napari_swipe.layers.source import LayerSource
from napari_swipe.project.snapshot import PairSnapshot, iter_write, iter_write_all, labelled_images
from napari_swipe.project.writer import Corrections
from swipe_core.data.annotations import AnnotationScheme
from swipe_core.data.labels import IGNORED
from swipe_core.errors import DataError
from swipe_core.images import read_label_map
from swipe_core.progress import finish
from swipe_core.project import Project

SCHEME = AnnotationScheme(("cell",), ("#ff0000",), "ignored")
FRAMES = np.arange(4 * 6 * 7, dtype=np.uint8).reshape(4, 6, 7)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project.create(tmp_path / "project")
    project.set_scheme(SCHEME)
    project.set_ndim(2)
    project.put_pair("movie", "train")
    return project


def snapshot(array: np.ndarray, painted: np.ndarray, ndim: int = 2, **fields) -> PairSnapshot:
    layer = Image(array, **fields.pop("layer", {}))
    source = LayerSource.from_layer(layer, likely_axes(layer, ndim))
    return PairSnapshot("movie", fields.pop("split", "train"), source, "labels", painted, SCHEME, **fields)


def painted_in(*frames: int) -> np.ndarray:
    painted = np.zeros(FRAMES.shape, np.uint8)
    for frame in frames:
        painted[frame, :2], painted[frame, 4] = 1, 2
    return painted


def written(project: Project, *pairs: PairSnapshot, **options) -> Project:
    finish(iter_write(project, pairs, **options))
    return Project.open(project.folder)


# Corrections


def test_before_a_model_there_is_nothing_to_correct():
    assert Corrections().mask(np.ones((3, 3), np.uint8)) is None


@pytest.mark.parametrize("seed", range(5))
def test_corrected_is_what_differs_from_the_annotation_that_a_model_learned_and_all_that_was_before(seed):
    rng = np.random.default_rng(seed)
    corrections, painted = Corrections(), rng.integers(0, 3, (8, 9)).astype(np.uint8)
    corrections.begin(painted)
    assert corrections.mask(painted) is None
    expected = np.zeros(painted.shape, bool)
    for _ in range(4):  # rounds
        learned = painted.copy()
        for _ in range(3):  # strokes
            painted[rng.random(painted.shape) < 0.1] = rng.integers(0, 3)
            now = expected | (painted != learned)
            mask = corrections.mask(painted)
            np.testing.assert_array_equal(np.zeros_like(now) if mask is None else mask, now)
        expected = now
        corrections.begin(painted)


def test_what_is_painted_back_before_the_next_round_is_no_correction():
    painted = np.zeros((3, 3), np.uint8)
    corrections = Corrections()
    corrections.begin(painted)
    painted[0] = 1
    assert corrections.mask(painted).sum() == 3
    painted[0] = 0
    assert corrections.mask(painted) is None


def test_corrections_do_not_change_with_the_array_that_they_were_begun_with():
    painted, known = np.zeros((3, 3), np.uint8), np.eye(3, dtype=bool)
    corrections = Corrections()
    corrections.begin(painted, known)
    painted[0, 1] = 2
    expected = np.eye(3, dtype=bool)
    expected[0, 1] = True
    np.testing.assert_array_equal(corrections.mask(painted), expected)
    np.testing.assert_array_equal(known, np.eye(3, dtype=bool))
    assert corrections.mask(np.zeros((4, 4), np.uint8)) is None  # another image took the place


# Cases


def test_of_a_stack_the_painted_frames_are_cases_and_no_others(project):
    project = written(project, snapshot(FRAMES, painted_in(1, 3)))
    assert [case.name for case in project.cases("train")] == ["movie_0001", "movie_0003"]
    case = project.read_case("movie", (3,))
    np.testing.assert_array_equal(case.image.array[..., 0], FRAMES[3])
    assert (case.labels.array[:2] == 0).all() and (case.labels.array[4] == 1).all()
    assert (case.labels.array[[2, 3, 5]] == IGNORED).all()


def test_a_frame_that_is_erased_leaves_the_project_unless_a_training_reads_it(project):
    written(project, snapshot(FRAMES, painted_in(0, 1)))
    kept = written(project, snapshot(FRAMES, painted_in(1)), keeps_frames=True)
    assert kept.written_frames("movie") == [(0,), (1,)]
    assert written(project, snapshot(FRAMES, painted_in(1))).written_frames("movie") == [(1,)]


def test_corrections_go_with_their_frame(project):
    corrected = np.zeros(FRAMES.shape, bool)
    corrected[2, 4] = True
    project = written(project, snapshot(FRAMES, painted_in(1, 2), corrected=corrected))
    assert project.read_case("movie", (1,)).corrected is None
    np.testing.assert_array_equal(project.read_case("movie", (2,)).corrected, corrected[2])


def test_an_image_is_written_once_and_again_when_it_is_another(project):
    first = snapshot(FRAMES[0], painted_in(0)[0])
    written(project, first)
    (path,) = (case.image_path for case in project.cases("train"))
    before = path.stat().st_mtime_ns
    written(project, snapshot(FRAMES[1], painted_in(0)[0]))
    assert path.stat().st_mtime_ns == before
    written(project, snapshot(FRAMES[1], painted_in(0)[0], is_new_image=True))
    np.testing.assert_array_equal(project.read_case("movie").image.array[..., 0], FRAMES[1])


def test_channels_and_colours_are_one_image_with_one_annotation():
    channels = snapshot(
        FRAMES, painted_in(0)[0], layer={"axis_labels": ("channel", "y", "x"), "scale": (1, 2, 3)}
    )
    (case,) = labelled_images([channels])
    np.testing.assert_array_equal(case.image.array, np.moveaxis(FRAMES, 0, -1))
    assert case.image.spacing == case.labels.affine.spacing == (2.0, 3.0)
    colour = snapshot(np.stack([FRAMES] * 4, axis=-1)[0], painted_in(0)[0], layer={"rgb": True})
    (case,) = labelled_images([colour])
    assert case.image.channels == 3


def test_a_volume_is_one_case_even_where_nothing_is_painted():
    pair = snapshot(FRAMES, painted_in(), 3, layer={"scale": (3, 1, 1)})
    assert pair.frames == [()]
    (case,) = labelled_images([pair])
    assert case.image.shape == FRAMES.shape and (case.labels.array == IGNORED).all()


def test_a_label_without_a_class_is_told_with_its_layer_and_what_was_written_stays(project):
    written(project, snapshot(FRAMES[0], painted_in(0)[0]))
    (unsaved,) = finish(iter_write(project, [snapshot(FRAMES[0], np.full((6, 7), 9, np.uint8))]))
    assert (unsaved.name, unsaved.layer) == ("movie", "labels") and "label 9 is painted" in unsaved.reason
    assert (project.read_case("movie").labels.array[4] == 1).all()
    with pytest.raises(DataError, match="labels is not saved: The label 9 is painted"):
        finish(iter_write_all(project, [snapshot(FRAMES[0], np.full((6, 7), 9, np.uint8))]))


def test_a_frame_that_cannot_be_written_keeps_no_other_frame_and_no_other_pair_unsaved(project):
    project.put_pair("other", "train")
    stray = painted_in(0, 1, 3)
    stray[1, 0, 0] = 9
    other = replace(snapshot(FRAMES[0], painted_in(0)[0]), name="other", labels_name="strokes")
    (unsaved,) = finish(iter_write(project, [snapshot(FRAMES, stray), other]))
    assert unsaved.name == "movie"
    again = Project.open(project.folder)
    assert again.written_frames("movie") == [(0,), (3,)] and again.written_frames("other") == [()]


def test_a_training_that_judges_by_labels_finds_them_in_its_own_classes(project):
    judged = AnnotationScheme(SCHEME.class_names, SCHEME.class_colours, "ignored")
    now = AnnotationScheme((*SCHEME.class_names, "new"), (*SCHEME.class_colours, "#00ff00"), "background")
    project.set_scheme(now)
    painted = np.zeros((6, 7), np.uint8)
    painted[4] = 1
    pair = replace(snapshot(FRAMES[0], painted), scheme=now, kept_scheme=judged)
    assert finish(iter_write(project, [pair])) == []
    (path,) = [case.label_path for case in project.cases("train")]
    on_disk = read_label_map(path).array
    assert (on_disk[4] == 1).all() and (on_disk[:4] == IGNORED).all()
    labels = Project.open(project.folder).read_case("movie").labels.array
    np.testing.assert_array_equal(labels, painted)
    painted[5] = 2  # of the class that the training does not know
    (unsaved,) = finish(iter_write(project, [replace(pair, painted=painted)]))
    assert "waits for its end" in unsaved.reason


def test_a_pair_that_has_left_the_project_is_passed_over(project):
    project.put_pair("other", "train")
    pairs = [snapshot(FRAMES, painted_in(0, 1, 2)), snapshot(FRAMES[0], painted_in(0)[0])]
    pairs[1] = PairSnapshot("other", "val", pairs[1].source, "labels", pairs[1].painted, SCHEME)
    work = iter_write(project, pairs)
    next(work)
    project.remove_pair("movie")
    finish(work)
    assert [case.name for case in project.cases("val")] == ["other"]
    assert project.cases("train") == []
