"""Measurements of shapes whose numbers are known are right to the error that is stated beside them.

RANDOM_SHAPES=1000 looks at so many of them instead of a few.
"""

from __future__ import annotations

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
    }
    return inside, exact


def ellipsoid_in_space(random):
    axes, centre, inside = ellipsoid(random, 3)
    a, b, c = axes
    exact = {
        "volume": 4 / 3 * pi * a * b * c,
        "surface area": 4 * pi * elliprg((a * b) ** 2, (a * c) ** 2, (b * c) ** 2),
        "largest diameter": 2 * axes.max(),
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
    ("kind", "ndim", "few"),
    [(ellipse, 2, 16), (touching_discs, 2, 24), (ellipsoid_in_space, 3, 3), (torus, 3, 2)],
    ids=["ellipse", "touching discs", "ellipsoid", "torus"],
)
def test_numbers_of_random_shapes_lie_within_their_stated_errors(analytic_field, kind, ndim, few):
    right, all_of_them = Counter[str](), Counter[str]()
    for seed in range(MANY or few):
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
