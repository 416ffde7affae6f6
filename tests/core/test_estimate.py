"""What an estimate promises: the points that a render will ask, within a factor of 1.5, before it starts."""

from __future__ import annotations

import numpy as np
import pytest

from swipe_core.coordinates import Affine, Grid
from swipe_core.inference.contours import iter_contours
from swipe_core.inference.estimate import RenderCost, RenderEstimate
from swipe_core.inference.surface import iter_surfaces
from swipe_core.progress import finish

FACTOR = 1.5
SECONDS = 3.0
# An image of 64 voxels along each axis in 2D and of 24 in 3D, of half a millimetre by one by one.
GRIDS = {
    2: Grid((64, 64), Affine.from_spacing((0.5, 1.0), (10.0, -5.0))),
    3: Grid((24, 24, 24), Affine.from_spacing((0.5, 1.0, 1.0), (10.0, -5.0, 3.0))),
}


@pytest.fixture
def measured(analytic_field, ball):
    """A function from dimension, radius (of the image's width) and settings to a field and its cost."""

    def build(ndim: int, radius: float, factor: float = 1, **config: object):
        size = GRIDS[ndim].shape[0]
        field = analytic_field(ball([0.48 * size] * ndim, radius * size), GRIDS[ndim], **config)
        return field, RenderCost.measured(field, field.render(factor=factor), SECONDS)

    return build


def ratio(cost: RenderCost, grid: Grid, method: str | None = None) -> float:
    """Estimated points by those that the render really asks."""
    return cost.estimate(grid, method).points / cost.field.render(grid, method=method).evaluated_points


# The smallest ball is of 3 voxels: it is not asked of a lattice in whose cells it would fit.
@pytest.mark.parametrize(
    ("radius", "coarse_voxels"),
    [(0.12, 1.0), (0.12, 2.0), (0.3, 1.0), (0.3, 2.0), (0.3, 4.0), (0.45, 1.0), (0.45, 2.0), (0.45, 4.0)],
)
@pytest.mark.parametrize(
    ("ndim", "factors"), [(2, (0.25, 0.5, 1, 2, 4, 8, 16)), (3, (0.25, 0.5, 1, 2, 4))], ids=["2D", "3D"]
)
def test_the_points_of_a_disc_and_of_a_ball_are_told_at_every_resolution(
    measured, ndim, factors, radius, coarse_voxels
):
    field, cost = measured(ndim, radius, coarse_voxels=coarse_voxels)
    found = {factor: ratio(cost, field.image_grid.scaled(factor)) for factor in factors}
    assert all(1 / FACTOR < value < FACTOR for value in found.values()), found


def test_a_ball_at_sixteen_times_its_resolution_is_told(analytic_field, ball):
    field = analytic_field(ball([6.0] * 3, 4.0), Grid((12, 12, 12), Affine.identity(3)))
    cost = RenderCost.measured(field, field.render(), SECONDS)
    assert 1 / FACTOR < ratio(cost, field.image_grid.scaled(16)) < FACTOR


@pytest.mark.parametrize("factors", [(4.0, 1.0), (1.0, 4.0), (0.5, 8.0)])
def test_a_grid_that_is_finer_along_one_axis_is_told(measured, factors):
    field, cost = measured(2, 0.3)
    assert 1 / FACTOR < ratio(cost, field.image_grid.scaled(factors)) < FACTOR


@pytest.mark.parametrize("factor", [0.5, 4])
def test_the_measured_render_may_be_of_any_resolution(measured, factor):
    field, cost = measured(2, 0.3, factor=factor)
    for other in (0.5, 2, 8):
        assert 1 / FACTOR < ratio(cost, field.image_grid.scaled(other)) < FACTOR


def test_a_part_of_the_image_is_taken_to_hold_its_share_of_the_boundary(measured):
    field, cost = measured(2, 0.3)
    fine = field.image_grid.scaled(16)
    quarter = fine.window((0, 0), (512, 512))
    assert 1 / FACTOR < ratio(cost, quarter) < FACTOR
    around = Grid((400, 400), Affine.from_spacing((0.125, 0.25), (-10.0, -45.0)))
    assert cost.estimate(around).points < cost.estimate(field.image_grid.scaled(8)).points


@pytest.mark.parametrize("ndim", [2, 3])
def test_dense_rendering_asks_at_every_voxel(measured, ndim):
    field, cost = measured(ndim, 0.3)
    grid = field.image_grid.scaled(3)
    assert cost.estimate(grid, "dense").points == grid.voxels
    assert cost.estimate(grid).points < grid.voxels
    dense = field.with_config(field.config.model_copy(update={"method": "dense"}))
    assert RenderCost.measured(dense, dense.render(), SECONDS).estimate(grid).points == grid.voxels


def test_no_estimate_exceeds_the_voxels(measured):
    _, cost = measured(2, 0.45)
    small = cost.field.image_grid.scaled(0.1)
    assert cost.estimate(small).points == small.voxels


def test_time_is_that_of_the_measured_render_for_each_point(measured):
    field, cost = measured(2, 0.3)
    asked = field.render().evaluated_points
    grid = field.image_grid.scaled(4)
    estimate = cost.estimate(grid)
    assert estimate.seconds == pytest.approx(SECONDS / asked * estimate.points)
    assert estimate == RenderEstimate((256, 256), 65536, 65536, estimate.points, estimate.seconds)
    assert field.render(grid).array.nbytes == estimate.label_bytes


def test_an_estimate_asks_the_decoder_for_nothing(measured):
    field, cost = measured(2, 0.3)
    before = field.model.asked
    huge = cost.estimate(field.image_grid.scaled(10_000))
    assert field.model.asked == before
    assert huge.voxels == 640_000**2
    assert np.isfinite(huge.seconds)


@pytest.mark.parametrize("radius", [0.2, 0.4])
@pytest.mark.parametrize("tolerance", [0.02, 0.1])
def test_triangles_and_vertices_of_a_boundary_are_told_to_a_factor_of_2_5(
    analytic_field, ball, radius, tolerance
):
    for ndim, trace in ((2, iter_contours), (3, iter_surfaces)):
        grid = Grid((32,) * ndim, Affine.identity(ndim))
        field = analytic_field(ball([15.3] * ndim, radius * 32), grid)
        cost = RenderCost.measured(field, field.render(), SECONDS)
        found = finish(trace(field, tolerance))[0]
        elements = found.vertices if ndim == 2 else len(found.faces)
        assert 1 / 2.5 < cost.estimate_boundary(tolerance).elements / elements < 2.5
    assert cost.estimate_boundary(tolerance, 1).elements < cost.estimate_boundary(tolerance, 32).elements
