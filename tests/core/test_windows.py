"""Laws of blocks and windows: they cover the image, overlap as asked, lie inside, and weigh smoothly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swipe_core.blocks import Block, cut_blocks
from swipe_core.inference.windows import SMALLEST_WEIGHT, blending_weight, place_windows

shapes = st.lists(st.integers(1, 40), min_size=2, max_size=3)
overlaps = st.floats(0, 0.95)


def coverage(shape, blocks) -> np.ndarray:
    """How many blocks hold each voxel."""
    counts = np.zeros(shape, int)
    for block in blocks:
        counts[block.slices] += 1
    return counts


# --- Windows ------------------------------------------------------------------------------------


@settings(max_examples=70, deadline=None, derandomize=True)
@given(shape=shapes, data=st.data(), overlap=overlaps)
def test_windows_cover_the_image_and_lie_inside_it(shape, data, overlap):
    size = data.draw(st.lists(st.integers(2, 50), min_size=len(shape), max_size=len(shape)))
    windows = place_windows(shape, size, overlap)
    expected = tuple(min(n, s) for n, s in zip(shape, size, strict=True))
    for window in windows:
        assert window.shape == expected
        assert all(a >= 0 and a + s <= n for a, s, n in zip(window.start, window.shape, shape, strict=True))
    assert len(set(window.start for window in windows)) == len(windows)
    assert coverage(shape, windows).min() >= 1


@settings(max_examples=70, deadline=None, derandomize=True)
@given(length=st.integers(1, 400), window=st.integers(1, 120), overlap=overlaps)
def test_neighbouring_windows_overlap_by_the_asked_share_and_are_evenly_spread(length, window, overlap):
    starts = [block.start[0] for block in place_windows((length, 1), (window, 1), overlap)]
    steps = np.diff(starts)
    if len(steps):
        # A step of one voxel is the least there is.
        assert (1 - steps / window >= min(overlap, 1 - 1 / window) - 1e-9).all()
        assert steps.max() - steps.min() <= 1
        assert (starts[0], starts[-1]) == (0, length - window)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(length=st.integers(2, 400), window=st.integers(2, 120), overlap=st.floats(0, 0.75))
def test_there_are_no_more_windows_than_the_overlap_needs(length, window, overlap):
    count = len(place_windows((length, 1), (window, 1), overlap))
    step = max(1, math.floor(window * (1 - overlap)))
    assert count == max(1, 1 + math.ceil((length - window) / step))


@pytest.mark.parametrize("size", [None, (30, 41), (64, 64)])
def test_an_image_that_fits_into_one_window_has_one(size):
    assert place_windows((30, 41), size, 0.75) == [Block((0, 0), (30, 41))]


def test_an_axis_shorter_than_the_window_takes_the_whole_length():
    windows = place_windows((10, 100), (32, 50), 0.0)
    assert windows == [Block((0, 0), (10, 50)), Block((0, 50), (10, 50))]


# --- Weights ------------------------------------------------------------------------------------


def test_a_window_weighs_one_at_its_centre_and_nothing_outside():
    points = torch.tensor([[0.0, 0.0], [1.01, 0.0], [0.0, -1.2], [5.0, 5.0]])
    assert blending_weight(points).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("ndim", [2, 3])
def test_weights_are_positive_inside_symmetric_and_fall_towards_the_border(ndim):
    points = torch.rand(500, ndim, generator=torch.Generator().manual_seed(0)) * 2 - 1
    weight = blending_weight(points)
    assert ((weight > 0) & (weight <= 1)).all()
    torch.testing.assert_close(blending_weight(-points), weight)
    torch.testing.assert_close(blending_weight(points.flip(-1)), weight)
    assert (blending_weight(0.9 * points) >= weight).all()
    assert blending_weight(torch.ones(1, ndim)).item() > 0


def test_a_window_enters_with_a_negligible_weight_and_without_a_leap_after():
    along = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    weight = blending_weight(torch.stack([along, torch.zeros_like(along)], dim=-1))
    assert weight[0] == weight[-1] == pytest.approx(SMALLEST_WEIGHT)
    assert weight.diff().abs().max() < 1e-3


# --- Blocks -------------------------------------------------------------------------------------


@settings(max_examples=70, deadline=None, derandomize=True)
@given(shape=shapes, voxels=st.integers(1, 3000))
def test_blocks_cover_a_raster_without_overlap_and_keep_their_size(shape, voxels):
    blocks = cut_blocks(shape, voxels)
    assert (coverage(shape, blocks) == 1).all()
    assert all(math.prod(block.shape) <= voxels for block in blocks)


def test_a_raster_that_is_small_enough_is_one_block():
    assert cut_blocks((20, 30), 600) == [Block((0, 0), (20, 30))]


def test_blocks_stay_compact():
    assert {block.shape for block in cut_blocks((64, 64, 64), 2**12)} == {(16, 16, 16)}
