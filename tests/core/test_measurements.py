"""Measurements of shapes whose numbers are known are right to the error that is stated beside them.

RANDOM_SHAPES=1000 looks at so many of them instead of a few, of which a tenth each are ellipsoids and tori.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from math import pi

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import ellipe, elliprg

from swipe_core.coordinates import Affine, Grid
from swipe_core.export.outlines import iter_scene, measured_surface
from swipe_core.export.table import rows_of, write_table
from swipe_core.images import MedicalImage
from swipe_core.progress import finish

MANY = int(os.environ.get("RANDOM_SHAPES", "0"))
LEAST_SHARE = 0.95  # of the numbers that must lie within their stated error
ROUNDING = 1e-4  # of a length, in single precision


def ellipsoid(random, ndim):
    """Half axes, and a turned ellipsoid as an implicit function of the world: positive inside."""
    axes = random.uniform(4, 8, ndim)
    centre = random.uniform(-1, 1, ndim)
    turn = Rotation.random(random_state=int(random.integers(2**31))).as_matrix()
    if ndim == 2:
        angle = random.uniform(0, pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def inside(world):
        return axes.min() * (1 - np.linalg.norm((world - centre) @ turn / axes, axis=1))

    return axes, centre, inside


def ellipse(random):
    (a, b), centre, inside = (lambda axes, *rest: (sorted(axes, reverse=True), *rest))(*ellipsoid(random, 2))
    exact = {
        "area": pi * a * b,
        "perimeter": 4 * a * ellipe(1 - (b / a) ** 2),
        "largest diameter": 2 * a,
        "smallest diameter": 2 * b,
        "thickness": 2 * b,
        "centroid y": centre[0],
        "centroid x": centre[1],
    }
    return inside, exact


def touching_discs(random):
    """Two discs that overlap a little: a boundary with two corners."""
    first, second = random.uniform(3, 5, 2)
    apart = (first + second) * random.uniform(0.8, 0.95)
    angle = random.uniform(0, 2 * pi)
    ends = np.array([[0.0, 0.0], [apart * np.cos(angle), apart * np.sin(angle)]]) - 0.5 * apart * np.array(
        [np.cos(angle), np.sin(angle)]
    )

    def inside(world):
        return np.maximum(
            first - np.linalg.norm(world - ends[0], axis=1), second - np.linalg.norm(world - ends[1], axis=1)
        )

    halves = [
        np.arccos((apart**2 + one**2 - other**2) / (2 * apart * one))
        for one, other in ((first, second), (second, first))
    ]
    segments = sum(r**2 * (h - np.sin(2 * h) / 2) for r, h in zip((first, second), halves, strict=True))
    exact = {
        "area": pi * (first**2 + second**2) - segments,
        "perimeter": 2 * first * (pi - halves[0]) + 2 * second * (pi - halves[1]),
        "largest diameter": first + second + apart,
        "thickness": 2 * max(first, second),
    }
    return inside, exact


def ellipsoid_in_space(random):
    axes, centre, inside = ellipsoid(random, 3)
    a, b, c = axes
    exact = {
        "volume": 4 / 3 * pi * a * b * c,
        "surface area": 4 * pi * elliprg((a * b) ** 2, (a * c) ** 2, (b * c) ** 2),
        "largest diameter": 2 * axes.max(),
        "thickness": 2 * axes.min(),
        **dict(zip(("centroid z", "centroid y", "centroid x"), centre, strict=True)),
    }
    return inside, exact


def torus(random):
    large, small = random.uniform(5, 6.5), random.uniform(1.8, 3)
    turn = Rotation.random(random_state=int(random.integers(2**31))).as_matrix()

    def inside(world):
        z, y, x = (world @ turn).T
        return small - np.hypot(np.hypot(y, x) - large, z)

    exact = {
        "volume": 2 * pi**2 * large * small**2,
        "surface area": 4 * pi**2 * large * small,
        "largest diameter": 2 * (large + small),
        "thickness": 2 * small,
    }
    return inside, exact


def measured(analytic_field, inside, random, ndim):
    """Measure a shape on a turned lattice whose voxels are longer along one axis."""
    spacing = random.permutation([0.7, 1.0, 1.6][-ndim:])
    turn = Rotation.random(random_state=int(random.integers(2**31))).as_matrix()
    if ndim == 2:
        turn = np.eye(2)[random.permutation(2)]
    linear = turn * spacing
    shape = tuple(np.ceil(24 / spacing).astype(int).tolist())
    affine = Affine.from_parts(linear, -linear @ ((np.array(shape) - 1) / 2))
    grid = Grid(shape, affine)

    def logits(points_voxel):
        value = torch.from_numpy(inside(affine.apply(points_voxel.numpy().astype(np.float64)))).float()
        return torch.stack([torch.zeros_like(value), value], dim=-1)

    content = "outlines" if ndim == 2 else "surfaces"
    scene = finish(iter_scene(analytic_field(logits, grid), "", ["#ff0000"], 0.05, content=content))
    (found,) = scene.outlines or scene.surfaces
    return {each.title: each for each in (found.measured if ndim == 2 else measured_surface(found))}


@pytest.mark.parametrize(
    ("kind", "ndim", "few", "share"),
    [
        (ellipse, 2, 16, 0.4),
        (touching_discs, 2, 24, 0.4),
        (ellipsoid_in_space, 3, 3, 0.1),
        (torus, 3, 2, 0.1),
    ],
    ids=["ellipse", "touching discs", "ellipsoid", "torus"],
)
def test_numbers_of_random_shapes_lie_within_their_stated_errors(analytic_field, kind, ndim, few, share):
    right, all_of_them = Counter[str](), Counter[str]()
    for seed in range(round(share * MANY) or few):
        random = np.random.default_rng(seed)
        inside, exact = kind(random)
        numbers = measured(analytic_field, inside, random, ndim)
        for title, value in exact.items():
            all_of_them[title] += 1
            allowed = numbers[title].error + ROUNDING * (10 if title in ("volume", "area") else 1)
            right[title] += abs(numbers[title].value - value) <= allowed
    shares = {title: right[title] / count for title, count in all_of_them.items()}
    print(kind.__name__, {title: round(share, 3) for title, share in shares.items()})
    assert sum(right.values()) >= LEAST_SHARE * sum(all_of_them.values()), shares


def test_touching_objects_have_outlines_of_their_own_that_meet(analytic_field):
    """Two discs that overlap: the line between their corners parts them, and nothing is lost."""
    centres = torch.tensor([[20.0, 17.0], [20.0, 36.0]])

    def logits(points):
        inside = (10 - torch.cdist(points, centres.to(points))).amax(dim=-1)
        return torch.stack([torch.zeros_like(inside), inside], dim=-1)

    grid = Grid((40, 54), Affine.identity(2))
    whole, apart = (
        finish(
            iter_scene(
                analytic_field(logits, grid, touching=touching), "", ["#ff0000"], 0.05, content="outlines"
            )
        ).outlines
        for touching in ("learned", "distance")
    )
    assert (len(whole), len(apart)) == (1, 2)
    areas = [{each.title: each.value for each in outline.measured}["area"] for outline in apart]
    assert areas[0] == pytest.approx(areas[1], rel=0.03)
    assert sum(areas) == pytest.approx(whole[0].measured[0].value, rel=0.002)
    columns = [outline.polygon.rings[0][:, 1] for outline in apart]
    first, second = sorted(columns, key=np.mean)
    assert first.max() == pytest.approx(26.5, abs=0.5) == second.min()


def test_mean_intensities_are_right_to_the_error_that_is_stated(analytic_field):
    """Of an image that rises along an axis the mean inside of a shape is its value at the centroid."""
    inside, exact = ellipse(np.random.default_rng(3))
    affine = Affine.from_spacing((0.5, 0.5), (-12.0, -12.0))
    grid = Grid((49, 49), affine)
    ramp = np.indices(grid.shape).astype(np.float32).transpose(1, 2, 0)

    def logits(points):
        value = torch.from_numpy(inside(affine.apply(points.numpy().astype(np.float64)))).float()
        return torch.stack([torch.zeros_like(value), value], dim=-1)

    image = MedicalImage(ramp, affine, "millimeter")
    work = iter_scene(analytic_field(logits, grid), "", ["#ff0000"], 0.05, content="outlines", image=image)
    measured = {each.title: each for each in finish(work).outlines[0].measured}
    expected = affine.inverse().apply(np.array([[exact["centroid y"], exact["centroid x"]]]))[0]
    for number, value in enumerate(expected, start=1):
        found = measured[f"mean intensity of {number}"]
        assert abs(found.value - value) <= max(found.error, 0.02) < 0.1


def test_a_volume_lists_its_objects_with_their_cavities_and_intensities(analytic_field, tmp_path):
    """A hollow ball of 6 with a hole of 3, and a ball of 4."""
    centres = torch.tensor([[10.0, 10.0, 10.0], [10.0, 10.0, 26.0]])

    def logits(points):
        first, second = torch.cdist(points, centres.to(points)).T
        inside = torch.maximum(torch.minimum(6 - first, first - 3), 4 - second)
        return torch.stack([torch.zeros_like(inside), inside], dim=-1)

    grid = Grid((21, 21, 36), Affine.identity(3))
    array = np.zeros((*grid.shape, 1), np.float32)
    array[:, :, 19:] = 7
    work = iter_scene(
        analytic_field(logits, grid),
        "",
        ["#ff0000"],
        0.1,
        content="surfaces",
        image=MedicalImage(array, grid.affine, "millimeter"),
    )
    scene = finish(work)
    rows = rows_of(scene)
    assert [row.about["object"] for row in rows] == ["all", "1", "2"]
    hollow, ball = 4 / 3 * pi * (6**3 - 3**3), 4 / 3 * pi * 4**3
    for row, volume in zip(rows, (hollow + ball, hollow, ball), strict=True):
        found = {each.title: each for each in row.measured}["volume"]
        assert abs(found.value - volume) <= found.error
    intensity = {each.title: each for each in rows[0].measured}["mean intensity"]
    assert abs(intensity.value - 7 * ball / (hollow + ball)) < 0.1
    write_table(tmp_path / "out.csv", scene)
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert float(read[2]["volume [mm^3]"]) == pytest.approx(ball, rel=0.02)
    assert read[0]["mean intensity error"] and not read[1]["mean intensity"]
