"""Laws of the frames of reference: every conversion has its way back, and voxel borders never move."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swipe_core.coordinates import (
    Affine,
    Grid,
    image_to_voxel,
    sample_at,
    voxel_centres,
    voxel_to_image,
    voxel_to_local,
    voxel_to_patch,
)

RNG = np.random.default_rng(0)
OBLIQUE = Affine(np.array([[2.5, 0, 0, 7], [0, 0.75, -0.5, -3], [0, 0.5, 0.75, 11], [0, 0, 0, 1.0]]))
SHEARED = Affine(np.array([[0.5, -1.0, 4], [1.5, 0.25, -2], [0, 0, 1.0]]))
GRIDS = [Grid((9, 13), SHEARED), Grid((6, 11, 4), OBLIQUE), Grid((1, 7), Affine.from_spacing((0.5, 2.0)))]
shapes = st.lists(st.integers(1, 5000), min_size=2, max_size=3)
positions = st.floats(-100, 6000)


def corners_of(grid: Grid) -> np.ndarray:
    """The outer corners of a grid's first and last voxels, in the world."""
    image_corners = np.array(list(itertools.product((-1.0, 1.0), repeat=grid.ndim)))
    return grid.affine.apply(image_to_voxel(image_corners, grid.shape))


class TestVoxelAndImageFrame:
    @given(shapes, st.lists(positions, min_size=3, max_size=3))
    @settings(deadline=None)
    def test_voxel_to_image_to_voxel_is_the_identity(self, shape, point):
        points_voxel = np.array([point[: len(shape)]])
        returned = image_to_voxel(voxel_to_image(points_voxel, shape), shape)
        np.testing.assert_allclose(returned, points_voxel, rtol=1e-9, atol=1e-9)

    @given(shapes, st.lists(st.floats(-3, 3), min_size=3, max_size=3))
    @settings(deadline=None)
    def test_image_to_voxel_to_image_is_the_identity(self, shape, point):
        points_image = np.array([point[: len(shape)]])
        returned = voxel_to_image(image_to_voxel(points_image, shape), shape)
        np.testing.assert_allclose(returned, points_image, atol=1e-9)

    @pytest.mark.parametrize("shape", [(4, 7), (1, 1), (3, 8, 5)])
    def test_voxel_i_of_n_sits_at_2i_plus_1_over_n_minus_1(self, shape):
        for voxel in np.ndindex(shape):
            expected = [(2 * i + 1) / n - 1 for i, n in zip(voxel, shape, strict=True)]
            np.testing.assert_allclose(voxel_to_image(np.array(voxel), shape), expected, atol=1e-12)

    def test_the_image_frame_spans_the_voxels_from_border_to_border(self):
        borders = np.array([[-0.5, -0.5], [4.5, 8.5]])
        np.testing.assert_allclose(voxel_to_image(borders, (5, 9)), [[-1, -1], [1, 1]])

    def test_arrays_and_tensors_are_converted_alike_and_tensors_keep_their_precision(self):
        points = RNG.uniform(0, 20, (2, 6, 3))
        expected = voxel_to_image(points, (20, 30, 40))
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            found = voxel_to_image(torch.from_numpy(points).to(dtype), (20, 30, 40))
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, atol=tolerance)

    @pytest.mark.parametrize("shape", [(4, 7), (3, 8, 5)])
    def test_the_conversion_as_a_matrix_is_the_same_conversion(self, shape):
        points = RNG.uniform(-2, 9, (20, len(shape)))
        by_matrix = Affine.image_from_voxel(shape).apply(points)
        np.testing.assert_allclose(by_matrix, voxel_to_image(points, shape), atol=1e-12)

    @pytest.mark.parametrize("shape", [(4, 7), (3, 2, 5)])
    def test_voxel_centres_come_in_the_order_of_the_array(self, shape):
        np.testing.assert_array_equal(voxel_centres(shape), list(np.ndindex(shape)))


class TestPatches:
    @pytest.mark.parametrize("patch_size", [1, 4, 5])
    def test_patch_k_holds_the_voxels_from_k_times_s_up_to_the_next_patch(self, patch_size):
        voxels = torch.arange(40.0)[:, None]
        index = voxel_to_patch(voxels, patch_size, [40])
        assert index[:, 0].tolist() == [v // patch_size for v in range(40)]

    def test_a_patch_begins_at_the_border_of_its_first_voxel(self):
        around_the_border = torch.tensor([[7.5 - 1e-3], [7.5], [7.5 + 1e-3]])
        assert voxel_to_patch(around_the_border, 8, [3])[:, 0].tolist() == [0, 1, 1]

    def test_points_outside_belong_to_the_nearest_patch(self):
        outside = torch.tensor([[-9.0, 12.0], [500.0, 12.0], [12.0, -0.51], [12.0, 24.0], [-1e6, 1e6]])
        expected = [[0, 1], [3, 1], [1, 0], [1, 2], [0, 2]]
        assert voxel_to_patch(outside, 8, (4, 3)).tolist() == expected

    def test_local_coordinates_run_from_minus_1_to_1_across_a_patch_about_its_centre(self):
        points = torch.tensor([[7.5], [11.5], [15.5]])
        local = voxel_to_local(points, torch.tensor([[1], [1], [1]]), 8)
        assert local[:, 0].tolist() == [-1, 0, 1]

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_local_coordinates_about_the_own_patch_stay_within_1(self, ndim):
        points = torch.rand(200, ndim, generator=torch.Generator().manual_seed(0)) * 32 - 0.5
        index = voxel_to_patch(points, 8, (4,) * ndim)
        assert voxel_to_local(points, index, 8).abs().max() <= 1 + 1e-6

    def test_seen_from_the_next_patch_a_point_lies_two_units_back(self):
        points, index = torch.tensor([[13.0, 2.0]]), torch.tensor([[1, 0]])
        moved = voxel_to_local(points, index + torch.tensor([1, 0]), 8)
        torch.testing.assert_close(moved, voxel_to_local(points, index, 8) - torch.tensor([2.0, 0.0]))


class TestSampling:
    @pytest.mark.parametrize("shape", [(6, 9), (5, 4, 7)])
    def test_a_linear_ramp_is_reproduced_between_the_outermost_centres(self, shape):
        slopes = np.arange(1, len(shape) + 1) * 0.5
        ramp = torch.from_numpy((voxel_centres(shape) @ slopes).reshape(1, *shape))
        points_voxel = RNG.uniform(0, np.array(shape) - 1, (50, len(shape)))
        points_image = torch.from_numpy(voxel_to_image(points_voxel, shape))
        np.testing.assert_allclose(sample_at(ramp, points_image)[0], points_voxel @ slopes, atol=1e-9)

    @pytest.mark.parametrize("shape", [(6, 9), (5, 4, 7)])
    def test_at_the_voxel_centres_the_image_itself_comes_back(self, shape):
        image = torch.from_numpy(RNG.random((3, *shape)))
        centres = torch.from_numpy(voxel_to_image(voxel_centres(shape), shape)).reshape(*shape, -1)
        torch.testing.assert_close(sample_at(image, centres), image)

    def test_the_padding_decides_what_lies_outside(self):
        image, far = torch.full((1, 4, 4), 7.0), torch.tensor([[3.0, 0.0]])
        assert sample_at(image, far).tolist() == [[0.0]]
        assert sample_at(image, far, "border").tolist() == [[7.0]]

    def test_the_result_has_the_channels_and_then_the_axes_of_the_points(self):
        assert sample_at(torch.zeros(3, 4, 5), torch.zeros(2, 6, 1, 2)).shape == (3, 2, 6, 1)


class TestAffine:
    @pytest.mark.parametrize("affine", [OBLIQUE, SHEARED])
    def test_there_and_back_is_the_identity(self, affine):
        points = RNG.uniform(-50, 50, (30, affine.ndim))
        np.testing.assert_allclose(affine.inverse().apply(affine.apply(points)), points, atol=1e-10)
        np.testing.assert_allclose((affine @ affine.inverse()).matrix, np.eye(affine.ndim + 1), atol=1e-12)

    def test_a_product_applies_its_right_factor_first(self):
        inner = Affine.from_spacing((2.0, 3.0, 4.0), (1.0, 0.0, -1.0))
        points = RNG.uniform(-5, 5, (30, 3))
        np.testing.assert_allclose((OBLIQUE @ inner).apply(points), OBLIQUE.apply(inner.apply(points)))

    def test_the_identity_moves_nothing(self):
        points = RNG.uniform(-5, 5, (30, 2))
        np.testing.assert_array_equal(Affine.identity(2).apply(points), points)
        assert SHEARED @ Affine.identity(2) == SHEARED

    def test_spacing_and_origin_are_those_it_was_made_from(self):
        affine = Affine.from_spacing((3.0, 0.76, 0.5), (-10.0, 4.0, 2.0))
        assert affine.spacing == pytest.approx((3.0, 0.76, 0.5))
        assert affine.origin.tolist() == [-10.0, 4.0, 2.0]
        np.testing.assert_array_equal(affine.apply(np.zeros((1, 3))), [[-10.0, 4.0, 2.0]])
        np.testing.assert_array_equal(affine.direction, np.eye(3))

    def test_spacing_is_the_distance_between_neighbours_along_each_axis_however_it_is_turned(self):
        first = OBLIQUE.apply(np.zeros(3))
        steps = [np.linalg.norm(OBLIQUE.apply(np.eye(3)[axis]) - first) for axis in range(3)]
        assert OBLIQUE.spacing == pytest.approx(steps)
        np.testing.assert_allclose(OBLIQUE.direction * OBLIQUE.spacing, OBLIQUE.linear)

    def test_tensors_keep_their_type_and_agree_with_arrays(self):
        points = RNG.uniform(-50, 50, (4, 5, 3))
        found = OBLIQUE.apply(torch.from_numpy(points).float())
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, OBLIQUE.apply(points), atol=1e-4)

    def test_it_cannot_be_changed_through_the_array_it_was_made_from(self):
        matrix = np.eye(3)
        affine = Affine(matrix)
        matrix[0, 0] = 5
        assert affine == Affine.identity(2)
        with pytest.raises(ValueError, match="read-only"):
            affine.matrix[0, 0] = 5

    def test_a_flat_one_has_no_way_back(self):
        with pytest.raises(np.linalg.LinAlgError):
            Affine.from_spacing((0.0, 1.0)).inverse()


class TestGrid:
    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("change", ["resized", "finer", "coarser", "respaced"])
    def test_its_extent_in_the_world_stays(self, grid, change):
        changed = {
            "resized": lambda: grid.resized([7, 3, 12][: grid.ndim]),
            "finer": lambda: grid.scaled(2.7),
            "coarser": lambda: grid.scaled(0.3),
            "respaced": lambda: grid.respaced([0.7, 1.9, 0.4][: grid.ndim]),
        }[change]()
        np.testing.assert_allclose(corners_of(changed), corners_of(grid), atol=1e-10)

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("factor", [2, 3, 8])
    def test_index_p_of_a_grid_scaled_by_f_lies_at_index_p_plus_half_over_f_minus_half(self, grid, factor):
        scaled = grid.scaled(float(factor))
        assert scaled.shape == tuple(n * factor for n in grid.shape)
        points = RNG.uniform(-1, 30, (20, grid.ndim))
        expected = grid.affine.apply((points + 0.5) / factor - 0.5)
        np.testing.assert_allclose(scaled.affine.apply(points), expected, atol=1e-10)

    def test_scaling_up_and_down_again_gives_the_same_grid(self):
        grid = GRIDS[1].scaled(4.0).scaled(0.25)
        assert grid.shape == GRIDS[1].shape
        np.testing.assert_allclose(grid.affine.matrix, OBLIQUE.matrix, atol=1e-12)

    def test_axes_can_be_scaled_apart(self):
        scaled = Grid((4, 6), Affine.identity(2)).scaled((2.0, 0.5))
        assert scaled.shape == (8, 3)
        assert scaled.spacing == pytest.approx((0.5, 2.0))

    def test_a_point_keeps_its_image_coordinates_when_the_grid_is_resized(self):
        grid, points_image = GRIDS[1], RNG.uniform(-1, 1, (20, 3))
        resized = grid.resized((5, 40, 3))
        before = grid.affine.apply(image_to_voxel(points_image, grid.shape))
        np.testing.assert_allclose(
            resized.affine.apply(image_to_voxel(points_image, resized.shape)), before, atol=1e-10
        )

    def test_respacing_comes_as_near_as_whole_voxels_allow(self):
        respaced = Grid((10, 20), Affine.from_spacing((3.0, 1.0))).respaced((1.0, 1.6))
        assert respaced.shape == (30, 12)
        assert respaced.spacing == pytest.approx((1.0, 20 / 12))

    def test_however_coarse_it_keeps_one_voxel(self):
        assert Grid((9, 13), SHEARED).scaled(1e-3).shape == (1, 1)
        assert Grid((9, 13), SHEARED).respaced((1e4, 1e4)).shape == (1, 1)

    def test_a_window_holds_the_same_voxels_at_the_same_places(self):
        grid = GRIDS[1]
        window = grid.window((2, 5, 0), (3, 4, 4))
        own = voxel_centres(window.shape)
        np.testing.assert_allclose(window.affine.apply(own), grid.affine.apply(own + [2, 5, 0]), atol=1e-12)
        assert window.spacing == pytest.approx(grid.spacing)

    def test_its_centres_are_the_voxel_centres_in_the_world(self):
        grid = GRIDS[1]
        np.testing.assert_array_equal(grid.centres_world(), OBLIQUE.apply(voxel_centres(grid.shape)))
        assert grid.voxels == len(grid.centres_world()) == 6 * 11 * 4

    def test_more_voxels_than_32_bits_hold_are_counted_right(self):
        assert Grid((2**17, 2**17), Affine.identity(2)).voxels == 2**34

    @pytest.mark.parametrize("shape", [(4,), (4, 5, 6), (4, 0), ()])
    def test_a_shape_that_does_not_fit_its_affine_is_refused(self, shape):
        with pytest.raises(ValueError, match="one positive size per axis of its 2D affine"):
            Grid(shape, Affine.identity(2))
