"""What multiresolution extraction promises: the dense result, from few evaluations, each once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swipe_core.coordinates import voxel_centres
from swipe_core.errors import ConfigError
from swipe_core.inference.extraction import Extraction, iter_extract
from swipe_core.progress import finish


def extract(*arguments, **settings) -> Extraction:
    return finish(iter_extract(*arguments, **settings))


SHAPES_2D = [(1, 1), (1, 50), (7, 1), (2, 3), (64, 64), (65, 97), (100, 37)]
SHAPES_3D = [(1, 1, 1), (1, 40, 29), (33, 1, 20), (17, 24, 30)]


class Recorder:
    """A classifier that remembers every point that it was asked for."""

    def __init__(self, classify):
        self.classify = classify
        self.calls = []

    def __call__(self, points_voxel):
        assert points_voxel.dtype == np.float64
        self.calls.append(points_voxel)
        return self.classify(points_voxel)

    @property
    def points(self):
        return np.concatenate(self.calls)


def ball(centre, radius):
    return lambda points: (np.linalg.norm(points - centre, axis=-1) < radius).astype(np.int64)


def half_space(normal, offset):
    return lambda points: (points @ np.asarray(normal, float) > offset).astype(np.uint8)


def voronoi(seeds):
    return lambda points: ((points[:, None] - seeds) ** 2).sum(-1).argmin(-1)


def lattice_seeds(shape, pitch, jitter, rng):
    """Seeds about `pitch` voxels apart, so that no Voronoi cell is thin."""
    axes = [np.arange(0, n + pitch, pitch) for n in shape]
    seeds = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape)).astype(float)
    return seeds + rng.uniform(-jitter, jitter, seeds.shape)


def dense(classify, shape):
    return classify(voxel_centres(shape)).reshape(shape)


def classes_for(shape):
    size = np.asarray(shape)
    yield ball(0.4 * size, max(8, 0.35 * max(shape)))
    yield half_space(np.arange(1, len(shape) + 1), 0.6 * size.sum())
    yield voronoi(lattice_seeds(shape, 20, 3, np.random.default_rng(0)))


@pytest.mark.parametrize("strides", [(1, 4, 8), (4, 2, 1)], ids=str)
@pytest.mark.parametrize("shape", SHAPES_2D + SHAPES_3D, ids=str)
def test_steps_that_differ_between_the_axes_give_the_same(shape, strides):
    for classify in classes_for(shape):
        result = extract(classify, shape, strides[: len(shape)])
        np.testing.assert_array_equal(result.labels, dense(classify, shape))


@pytest.mark.parametrize("margin", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES_2D + SHAPES_3D, ids=str)
def test_extraction_equals_dense_evaluation_of_structures_larger_than_the_stride(shape, margin):
    for classify in classes_for(shape):
        np.testing.assert_array_equal(extract(classify, shape, 4, margin).labels, dense(classify, shape))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_disc_and_any_half_plane_larger_than_the_stride_is_exact(data):
    shape = data.draw(st.lists(st.integers(1, 90), min_size=2, max_size=2))
    stride = data.draw(st.sampled_from([1, 2, 4, 8]))
    centre = [data.draw(st.floats(-10, n + 10)) for n in shape]
    angle = data.draw(st.floats(0, 2 * np.pi))
    normal = [np.cos(angle), np.sin(angle)]
    disc = ball(centre, data.draw(st.floats(2 * stride, 60)))
    for classify in (disc, half_space(normal, np.dot(normal, centre))):
        # A disc that only grazes the image shows a sliver, which is smaller than any stride.
        padded = Recorder(lambda points, classify=classify: classify(points - 128))
        around = [n + 256 for n in shape]
        labels = extract(padded, around, stride).labels[tuple(slice(128, 128 + n) for n in shape)]
        np.testing.assert_array_equal(labels, dense(classify, shape))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 40), min_size=2, max_size=3),
    strides=st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=3, max_size=3),
    margin=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_on_any_map_no_point_is_asked_twice_and_no_change_of_class_is_a_guess(shape, strides, margin, seed):
    stride = strides[: len(shape)]
    seeds = np.random.default_rng(seed).uniform(-5, 45, (12, len(shape)))
    recorder = Recorder(voronoi(seeds))
    result = extract(recorder, shape, stride, margin)
    points = recorder.points
    assert len(np.unique(points, axis=0)) == len(points) == result.evaluated_points
    assert (points >= 0).all()
    assert (points < np.asarray(shape) - 1 + np.asarray(stride)).all()
    assert result.labels.shape == tuple(shape)

    known = np.zeros(shape, bool)
    inside = points[(points < shape).all(-1)].astype(int)
    known[tuple(inside.T)] = True
    expected = dense(recorder.classify, shape)
    assert (result.labels == expected)[known].all()
    for axis in range(len(shape)):
        changes = np.diff(result.labels.astype(int), axis=axis) != 0
        lower = np.moveaxis(known, axis, 0)[:-1]
        upper = np.moveaxis(known, axis, 0)[1:]
        assert (lower & upper)[np.moveaxis(changes, axis, 0)].all()


def test_a_structure_that_was_touched_once_is_followed_wherever_it_leads():
    # A winding line of 3 voxels, thinner than the stride, that starts in a large disc.
    def snake(points):
        y, x = points.T
        return (np.abs(y - 80 - 25 * np.sin(x / 20)) < 1.5) | (np.hypot(y - 80, x - 10) < 20)

    labels = extract(lambda points: snake(points).astype(int), (160, 300), 16).labels
    np.testing.assert_array_equal(labels, dense(snake, (160, 300)))


@pytest.mark.parametrize(("ndim", "coarse", "growth"), [(2, 16, 2), (3, 8, 4)])
def test_evaluations_grow_with_the_boundary_when_resolution_doubles(ndim, coarse, growth):
    def evaluations(stride):
        size = coarse * stride
        classify = ball(np.full(ndim, 0.45 * size), 0.3 * size)
        return extract(classify, (size,) * ndim, stride).evaluated_points

    assert evaluations(16) / evaluations(8) == pytest.approx(growth, rel=0.15)
    assert evaluations(16) < 0.4 * (coarse * 16) ** ndim


@pytest.mark.parametrize(("shape", "stride"), [((1200, 1100), 1), ((1200, 1100), 8), ((96, 110, 125), 1)])
def test_memory_is_a_few_bytes_per_voxel_and_that_of_a_call(shape, stride):
    tracemalloc.start()
    try:
        extract(half_space(np.ones(len(shape)), 100), shape, stride)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * np.prod(shape) + 2**25


def test_stride_one_is_the_dense_evaluation():
    recorder = Recorder(ball((20, 30), 11))
    result = extract(recorder, (41, 53), stride=1)
    assert result.evaluated_points == 41 * 53
    np.testing.assert_array_equal(recorder.points, voxel_centres((41, 53)))
    np.testing.assert_array_equal(result.labels, dense(recorder.classify, (41, 53)))


def test_a_uniform_image_costs_only_the_first_lattice():
    result = extract(lambda points: np.full(len(points), 3), (160, 160), stride=16)
    assert result.evaluated_points == 11 * 11
    assert (result.labels == 3).all()


@pytest.mark.parametrize("stride", [1, 8])
def test_calls_are_bounded_and_each_tells_how_far_the_work_is(stride):
    recorder, shares = Recorder(ball((60, 60), 30)), []
    work = iter_extract(recorder, (128, 128), stride, points_per_call=100)
    labels = finish(work, lambda share: shares.append((share, len(recorder.calls)))).labels
    assert max(map(len, recorder.calls)) <= 100
    np.testing.assert_array_equal(labels, dense(recorder.classify, (128, 128)))
    told = [share for share, _ in shares]
    assert told == sorted(told) and told[0] > 0 and told[-1] == 1
    calls = [count for _, count in shares]
    assert max(np.diff(calls)) <= 1


def test_calls_are_few():
    recorder = Recorder(ball((60, 60), 30))
    extract(recorder, (128, 128), stride=8)
    assert len(recorder.calls) == 4  # strides 8, 4, 2, 1


@pytest.mark.parametrize(("largest", "dtype"), [(255, np.uint8), (256, np.uint16), (70000, np.uint32)])
def test_labels_take_the_smallest_unsigned_type_even_where_a_class_appears_late(largest, dtype):
    def classify(points):
        return np.where(np.abs(points[:, 0] - 9) < 0.5, largest, points[:, 0] > 9)

    labels = extract(classify, (32, 32), stride=8).labels
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, dense(classify, (32, 32)))


@pytest.mark.parametrize("stride", [0, -4, 3, 12])
def test_a_stride_that_is_no_power_of_two_is_refused(stride):
    with pytest.raises(ConfigError, match=f"power of two.*got {stride}"):
        extract(ball((4, 4), 2), (8, 8), stride)


def test_a_negative_margin_is_refused():
    with pytest.raises(ConfigError, match="margin"):
        extract(ball((4, 4), 2), (8, 8), 2, margin=-1)
