"""Laws of stochastic patch overreach: which patches are asked about a point besides its own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from swipe_core.networks.swipe.overreach import blending_weights, draw_neighbours, neighbour_offsets, reach_of

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


# --- Blending -----------------------------------------------------------------------------------

REACHES = [(ndim, reach_of(ndim, connectivity)) for ndim, connectivity in CONNECTIVITIES] + [(2, 0), (3, 0)]


def shares_of(ndim: int, count: int = 500) -> torch.Tensor:
    """Shares of the upper patches at random points, some of them at 0, 1 and at a border."""
    shares = torch.rand(count, ndim, generator=seeded(), dtype=torch.float64)
    shares[: count // 4] = shares[: count // 4].round()
    shares[count // 2 :, 0] = 0.5
    return shares


def corners_of(ndim: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((0, 1), repeat=ndim)))


def linear_weights(shares: torch.Tensor) -> torch.Tensor:
    corners = corners_of(shares.shape[-1])[:, None]
    return torch.where(corners == 1, shares, 1 - shares).prod(dim=-1)


@pytest.mark.parametrize(("ndim", "reach"), REACHES)
def test_blending_weights_are_shares_of_1_and_only_patches_that_were_trained_there_have_any(ndim, reach):
    shares = shares_of(ndim)
    weights = blending_weights(shares, reach)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(len(shares), dtype=torch.float64))
    # Where a point lies on a border, the patches on both sides may be its own.
    own = (shares >= 0.5).int()
    axes_away = (corners_of(ndim)[:, None] - own).abs() * (shares != 0.5)
    assert (weights[axes_away.sum(dim=-1) > reach] == 0).all()
    assert (weights > 0).sum(dim=0).max() == sum(math.comb(ndim, k) for k in range(reach + 1))


@pytest.mark.parametrize(("ndim", "reach"), REACHES)
def test_where_no_more_borders_are_near_than_patches_overreach_the_weights_are_linear(ndim, reach):
    shares = shares_of(ndim)
    shares[:, reach:] = shares[:, reach:].round()
    torch.testing.assert_close(blending_weights(shares, reach), linear_weights(shares))


@pytest.mark.parametrize(("ndim", "reach"), [pair for pair in REACHES if pair[1]])
def test_across_a_border_the_weights_go_on_as_they_are(ndim, reach):
    shares = torch.rand(2000, ndim, generator=seeded(), dtype=torch.float64)
    meeting = ((shares - 0.5).abs() < 0.05).sum(dim=-1)
    shares = shares[meeting == 0]
    for axes in itertools.chain(*(itertools.combinations(range(ndim), k + 1) for k in range(reach))):
        below, above = shares.clone(), shares.clone()
        below[:, axes], above[:, axes] = 0.5 - 1e-9, 0.5 + 1e-9
        torch.testing.assert_close(
            blending_weights(below, reach), blending_weights(above, reach), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(("ndim", "reach"), [pair for pair in REACHES if pair[1]])
def test_along_a_line_through_many_patches_the_weights_of_places_change_little_by_little(ndim, reach):
    """The weight of each patch, wherever it lies about a point: no step is larger than the next is small."""
    direction = torch.tensor([1.0, 0.618, 0.414][:ndim], dtype=torch.float64)
    line = 0.137 + torch.linspace(0, 2, 200_001, dtype=torch.float64)[:, None] * direction
    cell = torch.floor(line)
    weights = blending_weights(line - cell, reach)
    counted = {}
    for corner, values in zip(corners_of(ndim), weights, strict=True):
        for place in {tuple(p) for p in (cell + corner).int().tolist()}:
            here = ((cell + corner).int() == torch.tensor(place)).all(dim=-1)
            counted.setdefault(place, torch.zeros(len(line), dtype=torch.float64))[here] += values[here]
    assert max(float(values.diff().abs().max()) for values in counted.values()) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_more_borders_meet_than_patches_overreach_one_of_the_patches_decides(dtype):
    weights = blending_weights(torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.0]], dtype=dtype), 1)
    assert weights.max(dim=0).values.tolist() == [1, 1] and weights.sum(dim=0).tolist() == [1, 1]
