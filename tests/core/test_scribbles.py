"""Laws of scribbles: what is painted is true, little, and in lines as a hand draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from studies.scribbles import PAINTED_AT_MOST, SLACK, UNPAINTED, Stroke, draw_strokes, scribble
from swipe_core.errors import DataError

TOUCHING = np.ones((3, 3), bool)
SEEDS = range(4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(shape: tuple[int, ...], classes: int, seed: int = 0, size: float = 6) -> np.ndarray:
    """Background 0 and irregular objects of each class."""
    noise = np.random.default_rng(seed).standard_normal((classes, *shape))
    smooth = np.stack([ndimage.gaussian_filter(channel, size) for channel in noise])
    smooth[0] = 0.7 * smooth.std()
    return smooth.argmax(axis=0).astype(np.uint8)


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.hypot(rows - centre[0], columns - centre[1]) < radius


def picture(stroke: Stroke, shape: tuple[int, ...]) -> np.ndarray:
    """The stroke as a mask of the plane that it lies in."""
    mask = np.zeros(shape[-2:], bool)
    mask[tuple(stroke.voxels[:, -2:].T)] = True
    return mask


def extent(stroke: Stroke) -> float:
    return float(np.hypot(*np.ptp(stroke.voxels[:, -2:], axis=0))) + 1


MAPS = [((96, 120), 2), ((96, 120), 4), ((20, 60, 50), 3)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("shape", "classes"), MAPS)
def test_no_painted_voxel_disagrees_with_the_labels(shape, classes, seed):
    labels = blobs(shape, classes, seed)
    painted = scribble(labels, classes, 200, seeded(seed))
    assert painted.dtype == np.uint8
    known = painted != UNPAINTED
    np.testing.assert_array_equal(painted[known], labels[known])
    assert set(np.unique(painted[known])) == set(range(classes))


@pytest.mark.parametrize("voxels", [30, 200, 500])
@pytest.mark.parametrize(("shape", "classes"), MAPS)
def test_a_class_with_room_gets_nearly_the_voxels_asked_for_and_never_more(shape, classes, voxels):
    painted = scribble(blobs(shape, classes), classes, voxels, seeded())
    counts = np.bincount(painted[painted != UNPAINTED], minlength=classes)
    assert (counts <= voxels).all()
    assert (counts >= (1 - SLACK) * voxels).all()


def test_most_of_a_small_object_stays_unpainted():
    labels = disc((64, 64), (30, 30), 5).astype(np.uint8)
    painted = scribble(labels, 2, 1000, seeded())
    assert 0 < (painted == 1).sum() <= np.ceil(PAINTED_AT_MOST * labels.sum())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("shape", "classes"), MAPS)
def test_every_stroke_hangs_together_in_one_plane_inside_of_one_object(shape, classes, seed):
    labels = blobs(shape, classes, seed)
    for stroke in draw_strokes(labels, classes, 200, seeded(seed)):
        plane = labels
        if len(shape) == 3:
            (number,) = np.unique(stroke.voxels[:, 0])
            plane = labels[number]
        mask = picture(stroke, shape)
        assert ndimage.label(mask, structure=TOUCHING)[1] == 1
        assert len(np.unique(ndimage.label(plane == stroke.klass)[0][mask])) == 1


@pytest.mark.parametrize("width", [(1.0, 1.0), (2.0, 3.0), (5.0, 5.0)])
def test_strokes_are_lines_as_wide_as_the_brush(width):
    labels = disc((200, 200), (100, 100), 60).astype(np.uint8)
    strokes = [stroke for seed in SEEDS for stroke in draw_strokes(labels, 2, 300, seeded(seed), width)]
    for stroke in strokes:
        depth = ndimage.distance_transform_edt(np.pad(picture(stroke, labels.shape), 1))
        assert depth.max() <= width[1] / 2 + 1
    areas = [len(stroke.voxels) for stroke in strokes]
    spans = [extent(stroke) for stroke in strokes]
    # A line covers its length times its width; a blob of that area would span much less.
    assert np.median(spans) > 2 * np.median(np.sqrt(areas)) / np.sqrt(width[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_large_object_and_the_background_get_two_to_eight_strokes(seed):
    labels = disc((300, 300), (140, 160), 70).astype(np.uint8)
    strokes = draw_strokes(labels, 2, 200, seeded(seed))
    for klass in (0, 1):
        assert 2 <= sum(stroke.klass == klass for stroke in strokes) <= 8


def test_the_same_generator_gives_the_same_strokes_and_another_one_others():
    labels = blobs((80, 80), 3)
    first, again, other = (scribble(labels, 3, 200, seeded(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_in_a_slender_object_strokes_follow_its_middle(seed):
    labels = np.zeros((60, 160), np.uint8)
    labels[25:34, 10:150] = 1
    strokes = [stroke for stroke in draw_strokes(labels, 2, 200, seeded(seed)) if stroke.klass == 1]
    rows = np.concatenate([stroke.voxels[:, 0] for stroke in strokes])
    assert abs(rows.mean() - 29) < 1
    assert (np.abs(rows - 29) <= 3).mean() > 0.95
    assert max(np.ptp(stroke.voxels[:, 1]) for stroke in strokes) > 15


def test_larger_objects_get_longer_strokes():
    small, large = disc((200, 300), (50, 50), 8), disc((200, 300), (110, 190), 70)
    labels = (small | large).astype(np.uint8)
    spans: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(8):
        for stroke in draw_strokes(labels, 2, 200, seeded(seed)):
            if stroke.klass:
                spans[bool(large[tuple(stroke.voxels[0])])].append(extent(stroke))
    assert np.mean(spans[True]) > 1.5 * np.mean(spans[False])


def test_some_strokes_run_along_the_boundary_on_either_side_and_others_do_not():
    labels = disc((240, 240), (120, 120), 60).astype(np.uint8)
    for klass in (0, 1):
        distance = ndimage.distance_transform_edt(labels == klass)
        reach = [
            distance[tuple(stroke.voxels.T)].max()
            for seed in range(8)
            for stroke in draw_strokes(labels, 2, 200, seeded(seed))
            if stroke.klass == klass
        ]
        along = np.mean(np.array(reach) < 10)
        assert 0.15 < along < 0.85


@pytest.mark.parametrize("seed", SEEDS)
def test_strokes_turn_to_one_object_after_the_other(seed):
    labels = np.zeros((120, 120), np.uint8)
    for row in range(15, 120, 30):
        for column in range(15, 120, 30):
            labels |= disc(labels.shape, (row, column), 7).astype(np.uint8)
    strokes = [stroke for stroke in draw_strokes(labels, 2, 200, seeded(seed)) if stroke.klass == 1]
    objects, _ = ndimage.label(labels)
    touched = {int(objects[tuple(stroke.voxels[0])]) for stroke in strokes}
    assert len(touched) >= max(4, 0.7 * len(strokes))


@pytest.mark.parametrize("seed", SEEDS)
def test_in_a_volume_several_planes_are_painted_and_the_background_in_those_of_the_objects(seed):
    labels = np.zeros((30, 60, 60), np.uint8)
    labels[8:20, 10:40, 10:45] = 1
    strokes = draw_strokes(labels, 2, 200, seeded(seed))
    planes = [{int(stroke.voxels[0, 0]) for stroke in strokes if stroke.klass == klass} for klass in (0, 1)]
    assert len(planes[1]) >= 2
    assert planes[0] <= set(range(8, 20))


@pytest.mark.parametrize("seed", SEEDS)
def test_unlabelled_voxels_stay_unpainted_and_nobody_follows_their_border(seed):
    inside = disc((120, 120), (60, 60), 40)
    distance = ndimage.distance_transform_edt(inside)
    strokes = draw_strokes(np.where(inside, 1, UNPAINTED), 2, 200, seeded(seed))
    assert strokes
    for stroke in strokes:
        along = distance[tuple(stroke.voxels.T)]
        assert along.min() > 0 and along.max() > 10


def test_of_a_class_that_is_not_there_nothing_is_painted():
    painted = scribble(np.zeros((40, 50), np.uint8), 3, 100, seeded())
    assert set(np.unique(painted)) == {0, UNPAINTED}
    nothing = scribble(np.full((40, 50), UNPAINTED, np.uint8), 3, 100, seeded())
    assert (nothing == UNPAINTED).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (24, 24), (3, 12, 9)])
@pytest.mark.parametrize("seed", SEEDS)
def test_specks_and_notches_are_no_trouble(shape, seed):
    labels = np.random.default_rng(seed).integers(0, 3, shape).astype(np.int64)
    strokes = draw_strokes(labels, 3, 50, seeded(seed), (2.0, 6.0))
    assert strokes
    for stroke in strokes:
        assert (labels[tuple(stroke.voxels.T)] == stroke.klass).all()
        assert ndimage.label(picture(stroke, shape), structure=TOUCHING)[1] == 1


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        (np.full((8, 8), 2, np.uint8), 2, "got the label 2"),
        (np.full((8, 8), -1, np.int16), 2, "got the label -1"),
        (np.zeros((8, 8), np.uint16), 300, "got 300 classes"),
        (np.zeros((2, 2, 8, 8), np.uint8), 2, "the labels have 4"),
    ],
)
def test_labels_that_cannot_be_painted_are_named(labels, classes, said):
    with pytest.raises(DataError, match=said):
        scribble(labels, classes, 100, seeded())


def test_a_simulated_correction_runs_through_the_deepest_place_of_the_largest_error():
    from studies.corrections import LENGTH, stroke_in

    wrong = np.zeros((40, 90), bool)
    wrong[2:5, 2:5], wrong[10:31, 20:80] = True, True
    row, run = stroke_in(wrong)
    assert row == 20 and LENGTH // 2 < run.stop - run.start <= LENGTH
    assert wrong[row, run].all()
    row, run = stroke_in(wrong[:8, :8])
    assert (row, run.start, run.stop) == (3, 2, 5)
