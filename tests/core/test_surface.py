"""What a surface promises: closed, outward, on the boundary, and as coarse as the tolerance allows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ConfigError
from swipe_core.export.outlines import measured_surface
from swipe_core.inference.surface import iter_surfaces
from swipe_core.progress import finish

# 2 x 0.7 x 1.1 millimetres, turned by 37 degrees about the first axis, far from the origin.
OBLIQUE = Affine(
    np.array(
        [[2.0, 0, 0, 1000.0], [0, 0.8 * 0.7, -0.6 * 1.1, -40.0], [0, 0.6 * 0.7, 0.8 * 1.1, 7.0], [0, 0, 0, 1]]
    )
)
MIRRORED = OBLIQUE @ Affine(np.diag([1.0, -1.0, 1.0, 1.0]))
SHAPE = (14, 16, 18)
CENTRE = (6.3, 7.2, 8.6)
RADIUS = 5.2
TOLERANCE = 0.1
PLACES = {"plain": Affine.identity(3), "oblique": OBLIQUE, "mirrored": MIRRORED}


def surface_of(field, tolerance=TOLERANCE):
    (surface,) = finish(iter_surfaces(field, tolerance))
    return surface


def on_triangles(surface):
    """Points all over the triangles, in the world."""
    shares = [s for s in itertools.product(np.arange(7) / 6, repeat=3) if abs(sum(s) - 1) < 1e-9]
    return np.einsum("sc,fcx->fsx", np.array(shares), surface.vertices_world[surface.faces]).reshape(-1, 3)


def voxels_of(points, affine):
    return affine.inverse().apply(points)


@pytest.fixture(params=PLACES)
def affine(request):
    return PLACES[request.param]


def test_a_ball_is_closed_and_no_point_of_its_triangles_strays_farther_than_the_tolerance(
    analytic_field, ball, affine
):
    surface = surface_of(analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, affine)))
    assert surface.is_watertight
    # A distance of d voxels is one of d times the finest spacing at least.
    from_sphere = np.linalg.norm(voxels_of(on_triangles(surface), affine) - CENTRE, axis=1) - RADIUS
    assert np.abs(from_sphere).max() * min(affine.spacing) < 1.1 * TOLERANCE
    assert surface.deviation <= TOLERANCE
    vertices = np.linalg.norm(voxels_of(surface.vertices_world, affine) - CENTRE, axis=1) - RADIUS
    assert np.abs(vertices).max() < 0.1 * TOLERANCE
    assert (surface.class_name, surface.unit) == ("one", "millimeter")


def test_edges_that_are_sharper_than_the_lattice_keep_the_tolerance(analytic_field):
    turn = torch.linalg.qr(torch.tensor([[1.0, 0.4, 0.2], [-0.3, 1.0, 0.5], [0.1, -0.6, 1.0]]))[0]

    def box(points):
        inside = 3.7 - ((points - torch.tensor(CENTRE)) @ turn).abs().amax(dim=-1)
        return torch.stack([torch.zeros_like(inside), inside], dim=-1)

    surface = surface_of(analytic_field(box, Grid(SHAPE, Affine.identity(3))))
    assert surface.is_watertight and surface.deviation <= TOLERANCE
    about = (on_triangles(surface) - np.array(CENTRE)) @ turn.numpy()
    # The middles of edges and triangles are looked at; across a right angle other points are farther.
    assert np.abs(np.abs(about).max(axis=1) - 3.7).max() < 1.5 * TOLERANCE
    assert surface.volume == pytest.approx(7.4**3, rel=0.02)


def test_volume_and_area_of_a_ball_are_right_to_the_error_that_is_stated(analytic_field, ball):
    measured = {
        each.title: each
        for each in measured_surface(
            surface_of(analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, Affine.identity(3))))
        )
    }
    truth = {
        "volume": 4 / 3 * np.pi * RADIUS**3,
        "surface area": 4 * np.pi * RADIUS**2,
        "largest diameter": 2 * RADIUS,
    } | {f"centroid {axis}": c for axis, c in zip("zyx", CENTRE, strict=True)}
    for title, value in truth.items():
        assert abs(measured[title].value - value) <= max(measured[title].error, 1e-3), title
    assert measured["volume"].error < 0.05 * truth["volume"]


def test_every_normal_points_out_of_the_class(analytic_field, ball, affine):
    surface = surface_of(analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, affine)))
    assert surface.volume > 0
    middles = surface.vertices_world[surface.faces].mean(axis=1)
    outward = ((middles - affine.apply(np.array(CENTRE))) * surface.mesh.normals).sum(axis=1)
    assert (outward > 0).all()


def test_where_the_class_leaves_the_image_it_ends_in_the_plane_of_the_border(analytic_field, ball, affine):
    field = analytic_field(ball((0.5, 14.0, 8.6), RADIUS), Grid(SHAPE, affine))
    surface = surface_of(field)
    assert surface.is_watertight
    places = voxels_of(surface.vertices_world, affine)
    assert places.min(axis=0)[0] == pytest.approx(-0.5)
    assert places.max(axis=0)[1] == pytest.approx(15.5)
    inside = np.argwhere(field.render(factor=6).array).shape[0] / 6**3 * abs(np.linalg.det(affine.linear))
    assert surface.volume == pytest.approx(inside, rel=0.03)


def test_triangles_become_fewer_as_the_tolerance_grows(analytic_field, ball):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, Affine.identity(3)))
    counts = [len(surface_of(field, tolerance).faces) for tolerance in (0.02, 0.1, 0.5)]
    assert counts[0] > 3 * counts[1] > 9 * counts[2] / 2


def test_a_tunnel_stays_open(analytic_field):
    def torus(points):
        about = (points[:, 1:] - torch.tensor([7.2, 8.6])).norm(dim=-1) - 5.0
        inside = 2.0 - (about**2 + (points[:, 0] - 6.3) ** 2).sqrt()
        return torch.stack([torch.zeros_like(inside), inside], dim=-1)

    surface = surface_of(analytic_field(torus, Grid(SHAPE, Affine.identity(3))))
    euler = len(surface.vertices_world) - len(surface.mesh.edges.keys) + len(surface.faces)
    assert (surface.is_watertight, euler) == (True, 0)
    measured = {each.title: each for each in measured_surface(surface)}
    assert measured["volume"].value == pytest.approx(2 * np.pi**2 * 5 * 2**2, abs=measured["volume"].error)


def test_a_class_that_is_nowhere_has_an_empty_surface(analytic_field, ball):
    surface = surface_of(analytic_field(ball(CENTRE, -1.0), Grid(SHAPE, OBLIQUE)))
    assert surface.vertices_world.shape == (0, 3) and surface.faces.shape == (0, 3)
    assert (surface.area, surface.volume) == (0, 0)


def test_the_field_is_evaluated_about_the_boundary_alone(analytic_field, ball):
    field = analytic_field(ball((20.0, 20.0, 20.0), 14.0), Grid((40, 40, 40), Affine.identity(3)))
    surface_of(field, 0.3)
    assert field.model.asked < 0.75 * field.grid.voxels


def test_progress_comes_after_every_chunk(analytic_field, ball):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, OBLIQUE), chunk_points=1000)
    stages = [report.stage for report in iter_surfaces(field, TOLERANCE)]
    assert list(dict.fromkeys(stages)) == ["Rendering", "Tracing boundaries", "Fitting the surface"]
    assert stages.count("Fitting the surface") >= 5


def test_a_picture_has_no_surface(analytic_field, ball):
    field = analytic_field(ball((5.0, 5.0), 3.0), Grid((12, 12), Affine.identity(2)))
    with pytest.raises(ConfigError, match="2D"):
        finish(iter_surfaces(field, TOLERANCE))


@pytest.mark.parametrize("tolerance", [0.0, -1.0, np.inf, np.nan])
def test_a_tolerance_is_a_number_above_0(analytic_field, ball, tolerance):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, OBLIQUE))
    with pytest.raises(ConfigError, match="number above 0"):
        finish(iter_surfaces(field, tolerance))


@pytest.mark.parametrize("class_index", [-1, 2])
def test_a_class_that_the_model_does_not_know_is_refused(analytic_field, ball, class_index):
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, OBLIQUE))
    with pytest.raises(
        ConfigError, match=rf"no class {class_index}; choose one of 0 \(background\), 1 \(one\)"
    ):
        finish(iter_surfaces(field, TOLERANCE, [class_index]))


def test_a_strict_surface_begins_anew_until_it_keeps_the_tolerance_and_the_best_counts(
    analytic_field, ball, monkeypatch
):
    from swipe_core.inference import surface as module

    aims, strays = list[float](), [4.0, 3.0, 6.0]
    drawn = module._iter_surface

    def astray(field, nodes, index, name, aim):
        found = yield from drawn(field, nodes, index, name, TOLERANCE)
        aims.append(aim)
        return replace(found, deviation=strays[len(aims) - 1] * aim)

    monkeypatch.setattr(module, "_iter_surface", astray)
    field = analytic_field(ball(CENTRE, RADIUS), Grid(SHAPE, Affine.identity(3)))
    (plain,) = finish(iter_surfaces(field, TOLERANCE))
    assert plain.deviation == pytest.approx(4 * TOLERANCE) and len(aims) == 1
    aims.clear()
    (strict,) = finish(iter_surfaces(field, TOLERANCE, strict=True))
    assert aims[0] > aims[1] and len(aims) == 2  # three times a fifth of it is within
    assert strict.deviation <= TOLERANCE and strict.tolerance == TOLERANCE
