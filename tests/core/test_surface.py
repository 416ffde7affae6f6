"""What a surface promises: closed, outward, between the voxels, and asked for near the boundary alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ConfigError
from swipe_core.inference.surface import Surface, iter_surface
from swipe_core.progress import finish

# 2 x 0.7 x 1.1 millimetres, turned by 37 degrees about the first axis, far from the origin.
OBLIQUE = Affine(
    np.array(
        [[2.0, 0, 0, 1000.0], [0, 0.8 * 0.7, -0.6 * 1.1, -40.0], [0, 0.6 * 0.7, 0.8 * 1.1, 7.0], [0, 0, 0, 1]]
    )
)
MIRRORED = OBLIQUE @ Affine(np.diag([1.0, -1.0, 1.0, 1.0]))
SHAPE = (24, 26, 28)
CENTRE = (11.3, 12.2, 13.6)
RADIUS = 8.2


def edges(surface: Surface) -> Counter[tuple[int, int]]:
    """How often each directed edge occurs."""
    return Counter((int(f[i]), int(f[(i + 1) % 3])) for f in surface.faces for i in range(3))


def is_closed(surface: Surface) -> bool:
    """Whether every edge is run through once in each direction."""
    counted = edges(surface)
    return all(count == 1 and counted[end, start] == 1 for (start, end), count in counted.items())


def voxels_of(surface: Surface, affine: Affine) -> np.ndarray:
    return affine.inverse().apply(surface.vertices_world.astype(np.float64))


@pytest.mark.parametrize(
    "affine", [Affine.identity(3), OBLIQUE, MIRRORED], ids=["plain", "oblique", "mirror"]
)
def test_a_ball_has_its_area_its_volume_and_its_radius(analytic_field, ball, affine):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, affine))
    surface = finish(iter_surface(field, field.image_grid, 1))
    radii = np.linalg.norm(voxels_of(surface, affine) - CENTRE, axis=1)
    assert np.abs(radii - RADIUS).max() < 0.05
    ball_volume = 4 / 3 * np.pi * RADIUS**3 * abs(np.linalg.det(affine.linear))
    assert surface.volume == pytest.approx(ball_volume, rel=0.01)
    assert surface.area == pytest.approx(ellipsoid_area(affine), rel=0.01)
    assert is_closed(surface)
    assert surface.vertices_world.dtype == np.float32 and surface.faces.dtype == np.int32
    assert (surface.class_name, surface.unit) == ("one", "millimeter")


def ellipsoid_area(affine: Affine) -> float:
    """Of the ball in the world, by Cauchy's formula: the mean over the unit sphere of the area element."""
    normals = np.random.default_rng(0).normal(size=(200_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    stretched = normals @ np.linalg.inv(affine.linear)
    elements = abs(np.linalg.det(affine.linear)) * np.linalg.norm(stretched, axis=1)
    return 4 * np.pi * RADIUS**2 * float(elements.mean())


@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED], ids=["oblique", "mirror"])
def test_every_normal_points_out_of_the_class(analytic_field, ball, affine):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, affine))
    surface = finish(iter_surface(field, field.image_grid, 1))
    first, second, third = surface.vertices_world[surface.faces].astype(np.float64).transpose(1, 0, 2)
    outward = (first + second + third) / 3 - affine.apply(np.array(CENTRE))
    assert ((np.cross(second - first, third - first) * outward).sum(axis=1) > 0).all()


def test_a_finer_grid_gives_the_same_surface_more_smoothly(analytic_field, ball):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, OBLIQUE))
    coarse, fine = (finish(iter_surface(field, field.image_grid.scaled(factor), 1)) for factor in (1, 2))
    off = [
        np.abs(np.linalg.norm(voxels_of(s, OBLIQUE) - CENTRE, axis=1) - RADIUS).max() for s in (coarse, fine)
    ]
    assert off[1] < 0.4 * off[0]
    assert fine.volume == pytest.approx(coarse.volume, rel=0.01)


def test_the_surface_of_one_class_runs_where_it_meets_the_largest_of_the_others(analytic_field):
    # Three slabs along the last axis, meeting at 6.3 and at 15.8.
    def slabs(points: torch.Tensor) -> torch.Tensor:
        x = points[:, 2]
        return torch.stack([6.3 - x, torch.zeros_like(x), x - 15.8], dim=-1)

    field = analytic_field(slabs, Grid((4, 5, 24), Affine.identity(3)), class_names=("middle", "last"))
    middle = finish(iter_surface(field, field.image_grid, 1))
    ends = middle.vertices_world[:, 2]
    np.testing.assert_allclose([ends.min(), ends.max()], [6.3, 15.8], atol=1e-4)
    # It reaches the other borders, half a voxel beyond the last centres.
    np.testing.assert_allclose(middle.vertices_world[:, :2].min(axis=0), -0.5, atol=1e-4)
    np.testing.assert_allclose(middle.vertices_world[:, :2].max(axis=0), (3.5, 4.5), atol=1e-4)
    assert is_closed(middle)
    assert finish(iter_surface(field, field.image_grid, 2)).class_name == "last"


def test_the_threshold_moves_the_surface(analytic_field, ball):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, OBLIQUE), threshold=0.8)
    surface = finish(iter_surface(field, field.image_grid, 1))
    radii = np.linalg.norm(voxels_of(surface, OBLIQUE) - CENTRE, axis=1)
    assert np.abs(radii - (RADIUS - np.log(4))).max() < 0.05


def test_a_class_that_fills_the_grid_has_its_box_for_a_surface(analytic_field):
    field = analytic_field(
        lambda points: torch.tensor([0.0, 3.0]).expand(len(points), 2), Grid((5, 6, 7), OBLIQUE)
    )
    surface = finish(iter_surface(field, field.image_grid, 1))
    assert is_closed(surface)
    # Less what marching cubes cut off its edges.
    assert surface.volume == pytest.approx(5 * 6 * 7 * abs(np.linalg.det(OBLIQUE.linear)), rel=0.1)


def test_a_ball_that_is_cut_by_the_border_is_closed(analytic_field, ball):
    field = analytic_field(ball((-0.5, 12, 13), RADIUS), Grid(SHAPE, Affine.identity(3)))
    surface = finish(iter_surface(field, field.image_grid, 1))
    assert is_closed(surface)
    assert surface.volume == pytest.approx(2 / 3 * np.pi * RADIUS**3, rel=0.02)
    assert surface.vertices_world[:, 0].min() == pytest.approx(-0.5, abs=1e-4)


def test_a_class_that_is_nowhere_has_an_empty_surface(analytic_field, ball):
    field = analytic_field(ball(CENTRE, -1.0), Grid(SHAPE, OBLIQUE))
    surface = finish(iter_surface(field, field.image_grid, 1))
    assert surface.vertices_world.shape == (0, 3) and surface.faces.shape == (0, 3)
    assert (surface.area, surface.volume) == (0, 0)


def test_the_cost_grows_with_the_surface_and_not_with_the_volume(analytic_field, ball):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, Affine.identity(3)))
    asked = []
    for factor in (2, 4):
        grid = field.image_grid.scaled(factor)
        before = field.model.asked
        finish(iter_surface(field, grid, 1))
        asked.append(field.model.asked - before)
    assert 3 < asked[1] / asked[0] < 5
    assert asked[1] < 0.5 * grid.voxels


def test_progress_is_told_chunk_by_chunk(analytic_field, ball):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, OBLIQUE), chunk_points=1000)
    reports = list(iter_surface(field, field.image_grid, 1))
    tracing = [report for report in reports if report.stage == "Tracing the surface"]
    assert [report.done for report in tracing[:2]] == [1000, 2000]
    assert tracing[-1].done == tracing[-1].total > 2000
    assert reports[0].stage == "Rendering"


def test_a_picture_has_no_surface(analytic_field, ball):
    field = analytic_field(ball((5.0, 5.0), 3.0), Grid((12, 12), Affine.identity(2)))
    with pytest.raises(ConfigError, match="2D"):
        finish(iter_surface(field, field.image_grid, 1))


@pytest.mark.parametrize("class_index", [-1, 2])
def test_a_class_that_the_model_does_not_know_is_refused(analytic_field, ball, class_index):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, OBLIQUE))
    with pytest.raises(
        ConfigError, match=rf"no class {class_index}; choose one of 0 \(background\), 1 \(one\)"
    ):
        finish(iter_surface(field, field.image_grid, class_index))
