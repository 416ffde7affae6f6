"""Laws of stochastic patch overreach: which patches are asked about a point besides its own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from swipe_core.model.overreach import draw_neighbours, neighbour_offsets

CONNECTIVITIES = [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_patch(grid: tuple[int, ...], times: int = 1) -> torch.Tensor:
    """A batch of one with `times` points in every patch of the grid."""
    patches = torch.tensor(list(itertools.product(*map(range, grid))))
    return patches.repeat_interleave(times, dim=0)[None]


def neighbours_of(patch: tuple[int, ...], grid: tuple[int, ...], connectivity: int) -> set[tuple[int, ...]]:
    """By the definition, without a tensor: patches inside the grid at an admissible offset."""
    candidates = (
        tuple(p + o for p, o in zip(patch, offset, strict=True))
        for offset in neighbour_offsets(len(grid), connectivity).tolist()
    )
    return {c for c in candidates if all(0 <= i < n for i, n in zip(c, grid, strict=True))}


@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
def test_there_are_as_many_neighbours_as_the_connectivity_says(ndim, connectivity):
    offsets = {tuple(o) for o in neighbour_offsets(ndim, connectivity).tolist()}
    assert len(offsets) == connectivity
    assert {tuple(-i for i in o) for o in offsets} == offsets
    assert all(max(map(abs, o)) == 1 for o in offsets)


@pytest.mark.parametrize(
    ("ndim", "connectivity", "axes_crossed"), [(2, 4, 1), (2, 8, 2), (3, 6, 1), (3, 18, 2), (3, 26, 3)]
)
def test_connectivity_adds_faces_then_edges_then_corners(ndim, connectivity, axes_crossed):
    assert neighbour_offsets(ndim, connectivity).abs().sum(dim=1).max() == axes_crossed


@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
@pytest.mark.parametrize("size", [2, 4])
def test_every_neighbour_exists_and_honours_the_connectivity_and_none_is_missed(ndim, connectivity, size):
    grid = (size, size + 1, size)[:ndim]
    points = every_patch(grid)
    drawn = draw_neighbours(points, grid, 400, connectivity, seeded())
    assert drawn.shape == (1, points.shape[1], 400, ndim)
    for patch, picks in zip(points[0].tolist(), drawn[0].tolist(), strict=True):
        assert set(map(tuple, picks)) == neighbours_of(tuple(patch), grid, connectivity)


@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
@pytest.mark.parametrize("grid", [(2, 2, 2), (1, 3, 1), (3, 2, 5)])
def test_no_point_stays_in_its_own_patch(ndim, connectivity, grid):
    grid = grid[:ndim]
    points = every_patch(grid, times=20)
    drawn = draw_neighbours(points, grid, 8, connectivity, seeded())
    assert (drawn != points[:, :, None]).any(dim=-1).all()


@pytest.mark.parametrize("patch", [(1, 1), (0, 0), (0, 1), (2, 2)])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_neighbours_are_drawn_uniformly_among_those_that_exist(patch, connectivity):
    draws = 20_000
    drawn = draw_neighbours(torch.tensor([[patch]]), (3, 3), draws, connectivity, seeded())
    found, counts = drawn[0, 0].unique(dim=0, return_counts=True)
    share = 1 / len(neighbours_of(patch, (3, 3), connectivity))
    assert len(found) == round(1 / share)
    # Five standard deviations of a binomial count.
    tolerance = 5 * math.sqrt(draws * share * (1 - share)) + 1
    assert (counts - draws * share).abs().max() <= tolerance


def test_the_draws_of_points_and_of_batch_items_differ():
    drawn = draw_neighbours(torch.ones(2, 3, 2, dtype=torch.int64), (3, 3), 30, 8, seeded())
    assert len({tuple(picks.flatten().tolist()) for picks in drawn.flatten(0, 1)}) == 6


def test_the_same_seed_draws_the_same_neighbours_and_another_seed_others():
    points = every_patch((4, 4), times=5)
    first, again, other = (draw_neighbours(points, (4, 4), 8, 8, seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_generator_the_global_seed_decides():
    points = every_patch((4, 4))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = draw_neighbours(points, (4, 4), 8, 8)
        torch.manual_seed(5)
        assert torch.equal(draw_neighbours(points, (4, 4), 8, 8), first)


def test_where_there_is_only_one_patch_it_stands_in_for_its_neighbours():
    points = torch.zeros(2, 5, 3, dtype=torch.int64)
    assert torch.equal(draw_neighbours(points, (1, 1, 1), 4, 26, seeded()), torch.zeros(2, 5, 4, 3).long())
