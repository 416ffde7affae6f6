"""Distances to a boundary: in the world, with their sign, and as near as voxels allow."""

from __future__ import annotations

import numpy as np
import pytest

from swipe_core.coordinates import Affine, Grid
from swipe_core.measure.distances import DistanceSummary, signed_distances

TURNED = Affine(np.array([[0.4, -0.3, 10.0], [0.3, 0.4, -7.0], [0, 0, 1.0]]))
THICK = Affine(np.diag([2.0, 0.5, 0.5, 1.0]))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def half_space(shape):
    mask = np.zeros(shape, bool)
    mask[..., : shape[-1] // 2] = True
    return mask


@pytest.mark.parametrize(("shape", "affine"), [((20, 30), TURNED), ((8, 30, 30), THICK)])
def test_distances_to_a_plane_are_exact_and_have_a_sign(shape, affine, rng):
    place = np.array([n / 2 for n in shape])
    points = place + rng.uniform(-3, 3, (50, len(shape)))
    found = signed_distances(affine.apply(points), half_space(shape), affine)
    expected = (points[:, -1] - (shape[-1] / 2 - 0.5)) * affine.spacing[-1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_distances_to_a_ball_are_right_to_less_than_a_voxel(rng):
    grid = Grid((40, 40, 40), Affine.from_spacing([0.5] * 3))
    centre, radius = np.full(3, 9.7), 6.0
    distance = np.linalg.norm(grid.centres_world() - centre, axis=1).reshape(grid.shape)
    directions = rng.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    away = rng.uniform(-3, 3, 200)
    points = centre + directions * (radius + away)[:, None]
    found = signed_distances(points, distance < radius, grid.affine)
    assert np.abs(found - away).max() < 0.35
    summary = DistanceSummary.of(found)
    assert summary.mean < summary.percentile_95 < summary.largest < 3.35


def test_a_mask_that_reaches_the_border_ends_there():
    mask = np.ones((10, 10), bool)
    found = signed_distances(np.array([[4.5, 4.5], [12.5, 5.0]]), mask, Affine.identity(2))
    np.testing.assert_allclose(found, [-5, 3], atol=0.1)


def test_nothing_has_no_boundary():
    with pytest.raises(ValueError, match="empty"):
        signed_distances(np.zeros((1, 2)), np.zeros((3, 3), bool), Affine.identity(2))
