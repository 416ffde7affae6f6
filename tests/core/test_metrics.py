"""Metrics against MONAI, against hand-made cases, and at their edges."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from class_scores import agreement_of, class_scores
from scipy import ndimage

from swipe_core.errors import DataError
from swipe_core.measure.metrics import (
    MaskPair,
    dice,
    hausdorff_95,
    intersection_over_union,
    surface_dice,
    surface_distances,
)
from swipe_core.measure.scores import ClassScores, score_labels


def blobs(shape: tuple[int, ...], seed: int, classes: int = 3) -> np.ndarray:
    """Smooth random regions of every class, some of which touch the border."""
    noise = np.random.default_rng(seed).normal(size=(classes, *shape))
    return np.argmax([ndimage.gaussian_filter(n, 2.5) for n in noise], axis=0)


def square(start: int, stop: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start:stop, start:stop] = True
    return mask


EMPTY = np.zeros((20, 20), bool)
PERFECT = class_scores(1.0, 1.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def monai_metrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's imports warn of their own deprecations
        return pytest.importorskip("monai.metrics")


@pytest.mark.parametrize(
    ("shape", "spacing", "tolerance"),
    [
        ((60, 47), (1.0, 1.0), 1.0),
        ((60, 47), (0.7, 1.9), 2.0),
        ((24, 30, 19), (1.0, 1.0, 1.0), 2.0),
        ((24, 30, 19), (3.0, 0.76, 0.9), 1.5),
    ],
)
@pytest.mark.parametrize("related", [True, False])
# MONAI passes itself an argument that it deprecates.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_all_four_metrics_equal_those_of_monai(monai_metrics, shape, spacing, tolerance, related):
    import torch

    reference = blobs(shape, 0)
    predicted = np.roll(reference, 1, axis=1) if related else blobs(shape, 1)
    one_hot = [torch.tensor(np.eye(3)[a]).movedim(-1, 0)[None].float() for a in (predicted, reference)]
    expected = [
        monai_metrics.compute_dice(*one_hot, include_background=False)[0],
        monai_metrics.compute_iou(*one_hot, include_background=False)[0],
        monai_metrics.compute_hausdorff_distance(*one_hot, percentile=95, spacing=spacing)[0],
        monai_metrics.compute_surface_dice(*one_hot, class_thresholds=[tolerance] * 2, spacing=spacing)[0],
    ]
    scores = score_labels(predicted, reference, spacing, 3, tolerance)
    ours = [[s.dice, s.iou, s.hausdorff_95, s.surface_dice] for s in scores]
    np.testing.assert_allclose(np.transpose(ours), torch.stack(expected), rtol=1e-5)


def test_two_squares_by_hand():
    predicted, reference = square(4, 10), square(4, 12)
    assert dice(predicted, reference) == 2 * 36 / (36 + 64)
    assert intersection_over_union(predicted, reference) == 36 / 64
    assert (
        surface_distances(square(5, 6), square(8, 9), (1.0, 2.0)) == ([pytest.approx(math.hypot(3, 6))],) * 2
    )
    assert hausdorff_95(MaskPair(square(5, 6), square(8, 9), (1.0, 2.0))) == pytest.approx(math.hypot(3, 6))
    # One voxel row off: all 4 voxels of each 2x2 square are surface, 3 of 4 within distance 1.
    assert surface_dice(MaskPair(square(4, 6), square(5, 7), (1.0, 1.0), 1.0)) == 6 / 8


def test_equal_maps_score_perfectly():
    labels = blobs((30, 30), 0)
    for scores in score_labels(labels, labels, (1.0, 1.0), 3):
        assert agreement_of(scores) == agreement_of(PERFECT)


def test_a_class_in_neither_map_scores_perfectly():
    nowhere = replace(PERFECT, in_reference=False, in_prediction=False)
    (scores,) = score_labels(EMPTY.astype(int), EMPTY.astype(int), (1.0, 1.0), 2)
    assert agreement_of(scores) == agreement_of(nowhere)
    assert scores == ClassScores.absent()


@pytest.mark.parametrize("masks", [(EMPTY, square(4, 9)), (square(4, 9), EMPTY)])
def test_a_class_in_one_map_only_scores_nothing_and_has_no_distance(masks):
    (scores,) = score_labels(*(mask.astype(np.uint8) for mask in masks), (1.0, 1.0), 2)
    assert (scores.dice, scores.iou, scores.surface_dice) == (0, 0, 0)
    assert math.isnan(scores.hausdorff_95)
    marked = bool(masks[0].any())
    assert (scores.in_prediction, scores.in_reference) == (marked, not marked)
    assert (scores.is_false_alarm, scores.is_miss) == (marked, not marked)


def test_a_class_that_only_unlabelled_voxels_hold_is_in_neither_map():
    reference, predicted = square(4, 9).astype(int), square(4, 9).astype(int)
    reference[reference == 1] = 255
    (scores,) = score_labels(predicted, reference, (1.0, 1.0), 2, ignore_label=255)
    assert not scores.in_reference and not scores.in_prediction


def test_distances_scale_with_the_spacing():
    predicted, reference = blobs((30, 30), 0) == 1, blobs((30, 30), 1) == 1
    near, far = (hausdorff_95(MaskPair(predicted, reference, (s * 1.0, s * 2.0))) for s in (1, 3))
    assert far == pytest.approx(3 * near)


def test_volumes_are_counted_in_world_units_and_compared_with_the_reference():
    predicted, reference = np.zeros((6, 6, 6), int), np.zeros((6, 6, 6), int)
    predicted[1:5, 1:4, 2] = 1  # 12 voxels
    reference[1:5, 1:3, 2] = 1  # 8 voxels
    (scores,) = score_labels(predicted, reference, (2.5, 0.5, 0.8), 2)
    assert (scores.volume_prediction, scores.volume_reference) == (pytest.approx(12), pytest.approx(8))
    assert scores.volume_difference == pytest.approx(4)
    assert scores.relative_volume_difference == pytest.approx(0.5)
    (turned,) = score_labels(reference, predicted, (2.5, 0.5, 0.8), 2)
    assert turned.relative_volume_difference == pytest.approx(-1 / 3)


def test_a_volume_has_no_share_of_a_reference_that_is_empty_unless_it_is_empty_too():
    (false_alarm,) = score_labels(square(4, 9).astype(int), EMPTY.astype(int), (1.0, 1.0), 2)
    (nowhere,) = score_labels(EMPTY.astype(int), EMPTY.astype(int), (1.0, 1.0), 2)
    assert false_alarm.volume_difference == 25 and math.isnan(false_alarm.relative_volume_difference)
    assert nowhere.volume_difference == nowhere.relative_volume_difference == 0


def test_unlabelled_voxels_have_no_volume():
    reference, predicted = square(4, 9).astype(int), square(4, 10).astype(int)
    reference[reference == 0] = 255
    (scores,) = score_labels(predicted, reference, (1.0, 2.0), 2, ignore_label=255)
    assert scores.volume_prediction == scores.volume_reference == 50


def test_volumes_of_scores_that_do_not_tell_them_are_undefined():
    assert math.isnan(PERFECT.volume_prediction) and math.isnan(PERFECT.relative_volume_difference)


def test_axes_that_are_not_perpendicular_are_measured_as_they_lie():
    """A step down goes 3 along y and 4 along x, a step right 2 along x: 5 apart, and an area of 6."""
    sheared = np.array([[3.0, 0.0], [4.0, 2.0]])
    (scores,) = score_labels(square(5, 6).astype(int), np.roll(square(5, 6), 1, 0).astype(int), sheared, 2)
    assert scores.hausdorff_95 == pytest.approx(5)
    assert scores.volume_reference == pytest.approx(6)
    moved = np.roll(square(5, 6), (1, -2), axis=(0, 1)).astype(int)
    (left,) = score_labels(square(5, 6).astype(int), moved, sheared, 2)
    assert left.hausdorff_95 == pytest.approx(3)


def test_a_distance_that_equals_the_tolerance_is_within_it():
    """3 * 0.1 is a little more than 0.3."""
    pair = MaskPair(square(4, 5), np.roll(square(4, 5), 3, axis=0), (0.1, 0.1), 0.3)
    assert surface_dice(pair) == 1


def test_swapping_the_maps_changes_no_metric():
    one, other = blobs((20, 25, 15), 0), blobs((20, 25, 15), 1)
    both = [score_labels(*maps, (2.0, 1.0, 1.0), 3) for maps in ((one, other), (other, one))]
    assert [*map(agreement_of, both[0])] == [*map(agreement_of, both[1])]


def test_unlabelled_voxels_of_the_reference_are_left_out():
    reference, predicted = blobs((30, 30), 0), blobs((30, 30), 0)
    predicted[10:20] = 2 - predicted[10:20]
    reference[10:20] = 255
    scores = score_labels(predicted, reference, (1.0, 1.0), 3, ignore_label=255)
    assert [agreement_of(each) for each in scores] == [agreement_of(PERFECT)] * 2


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"\(4, 4\).*\(4, 5\)"):
        score_labels(np.zeros((4, 4), int), np.zeros((4, 5), int), (1.0, 1.0), 2)
    with pytest.raises(DataError, match="each of the 2 axes"):
        score_labels(np.zeros((4, 4), int), np.zeros((4, 4), int), (1.0, 1.0, 1.0), 2)
