"""What contours promise: on the boundary, with holes, as many vertices as the tolerance asks for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ConfigError
from swipe_core.export.outlines import iter_scene
from swipe_core.inference.contours import iter_contours, signed_area
from swipe_core.progress import finish

OBLIQUE = Affine(np.array([[0.8 * 0.5, -0.6 * 1.2, 100.0], [0.6 * 0.5, 0.8 * 1.2, -30.0], [0, 0, 1]]))
CENTRE, OUTER, INNER = (20.2, 24.3), 14.0, 5.0


def annulus(points):
    distance = (points - torch.tensor(CENTRE)).norm(dim=-1)
    inside = torch.minimum(OUTER - distance, distance - INNER)
    return torch.stack([torch.zeros_like(inside), inside], dim=-1)


def contours_of(field, tolerance=0.05, **options):
    return finish(iter_contours(field, tolerance, **options))


@pytest.fixture(params=[Affine.identity(2), OBLIQUE], ids=["plain", "oblique"])
def grid(request):
    return Grid((40, 50), request.param)


def test_a_disc_with_a_hole_is_one_polygon_whose_vertices_are_on_the_boundary(analytic_field, grid):
    (polygon,) = contours_of(analytic_field(annulus, grid))
    assert len(polygon.rings) == 2
    for ring, radius in zip(polygon.rings, (OUTER, INNER), strict=True):
        distances = np.linalg.norm(grid.affine.inverse().apply(ring) - CENTRE, axis=1)
        assert distances == pytest.approx(radius, abs=0.01)
    assert signed_area(polygon.rings[0]) > 0 > signed_area(polygon.rings[1])
    assert polygon.deviation <= 0.05
    assert 0.5 < polygon.score <= 1


def test_no_point_of_a_side_strays_farther_than_the_tolerance(analytic_field):
    (polygon,) = contours_of(analytic_field(annulus, Grid((40, 50), Affine.identity(2))), 0.2)
    for ring, radius in zip(polygon.rings, (OUTER, INNER), strict=True):
        sides = np.linspace(ring, np.roll(ring, -1, axis=0), 21).reshape(-1, 2)
        assert np.abs(np.linalg.norm(sides - CENTRE, axis=1) - radius).max() < 0.2


def test_measurements_are_right_to_the_error_that_is_stated(analytic_field):
    field = analytic_field(annulus, Grid((40, 50), Affine.identity(2)))
    scene = finish(iter_scene(field, "disc", ["#ff0000"], 0.05, content="outlines"))
    measured = {each.title: each for each in scene.outlines[0].measured}
    truth = {
        "area": np.pi * (OUTER**2 - INNER**2),
        "perimeter": 2 * np.pi * (OUTER + INNER),
        "centroid y": CENTRE[0],
        "centroid x": CENTRE[1],
        "largest diameter": 2 * OUTER,
        "smallest diameter": 2 * OUTER,
    }
    for title, value in truth.items():
        assert abs(measured[title].value - value) <= max(measured[title].error, 0.02), title
    assert measured["area"].error < 0.01 * truth["area"]


def test_the_number_of_vertices_depends_on_the_tolerance_and_not_on_the_resolution(analytic_field):
    def magnified(factor):
        def logits(points):
            return annulus((points + 0.5) / factor - 0.5)

        return logits

    counts = []
    for factor in (1, 4):
        grid = Grid((40, 50), Affine.identity(2)).scaled(factor)
        (polygon,) = contours_of(analytic_field(magnified(factor), grid))
        counts.append(polygon.vertices)
    assert counts[1] == pytest.approx(counts[0], rel=0.1)


def test_an_object_that_leaves_the_image_ends_at_its_border(analytic_field, ball):
    field = analytic_field(ball((0.0, 0.0), 8.0), Grid((40, 50), Affine.identity(2)))
    (polygon,) = contours_of(field)
    assert polygon.rings[0].min(axis=0) == pytest.approx([-0.5, -0.5])
    assert any(np.allclose(vertex, [-0.5, -0.5]) for vertex in polygon.rings[0])
    assert signed_area(polygon.rings[0]) == pytest.approx(np.pi * 64 / 4 + 8 + 0.25, abs=0.3)


def test_a_plane_of_a_ball_shows_its_circle(analytic_field, ball):
    affine = Affine.from_spacing((2.0, 0.5, 0.5), (7.0, 8.0, 9.0))
    field = analytic_field(ball((6.0, 14.0, 15.0), 5.0), Grid((12, 30, 30), affine))
    plane = field.image_grid.window((3, 0, 0), (1, 30, 30))
    (polygon,) = contours_of(field, 0.02, plane=plane)
    places = affine.inverse().apply(polygon.rings[0])
    assert places[:, 0] == pytest.approx(3.0)
    assert np.linalg.norm(places[:, 1:] - [14.0, 15.0], axis=1) == pytest.approx(4.0, abs=0.02)
    with pytest.raises(ConfigError, match="which slice"):
        contours_of(field)
