"""Measurements of polygons and of closed meshes, each with its numerical error.

A shape is measured twice, as it is drawn and several times finer; the difference is stated as the error of
the finer value. What both leave out alike is added: the boundary may lie beyond both ends of a diameter, and
beyond the corners of an outline, by as much as the finer shape strays.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from swipe_core.measure import Quantity

MOST_PAIRS = 1000  # points among which all distances are looked at together
DIAMETERS = ("largest diameter", "smallest diameter")
DIRECTIONS = 720  # in which the width of a polygon is measured


@dataclass(frozen=True)
class Measured:
    """A number of an object, and how far it may be from that of the exact boundary."""

    title: str
    quantity: Quantity
    value: float
    error: float


def measured_polygon(
    drawn: Sequence[Float[np.ndarray, "_ 2"]], fine: Sequence[Float[np.ndarray, "_ 2"]], left: float
) -> list[Measured]:
    """Measure a polygon with holes, given by its rings, in the plane; the outer ring comes first.

    `left`: how far the finer one strays from the boundary at most.
    """
    return _compared(_polygon(drawn), _polygon(fine), left)


def measured_mesh(
    vertices: Float[np.ndarray, "_ 3"],
    faces: Int[np.ndarray, "faces 3"],
    fine_vertices: Float[np.ndarray, "_ 3"],
    fine_faces: Int[np.ndarray, "fine_faces 3"],
    deviation: float,
) -> list[Measured]:
    """Measure a closed mesh, given as it is drawn and with each edge cut in two.

    `deviation`: the largest of what is drawn from the boundary.
    """
    return _compared(_mesh(vertices, faces), _mesh(fine_vertices, fine_faces), deviation / 4)


Numbers = dict[tuple[str, Quantity], float]


def _compared(drawn: Numbers, fine: Numbers, left: float) -> list[Measured]:
    """All numbers with their errors; `left` is how far the finer shape may stray from the boundary."""
    more = {"area": 4 * left**2, "perimeter": 4 * left} | dict.fromkeys(DIAMETERS, 2 * left)
    return [
        Measured(title, quantity, value, abs(value - drawn[title, quantity]) + more.get(title, 0.0))
        for (title, quantity), value in fine.items()
    ]


def _polygon(rings: Sequence[Float[np.ndarray, "_ 2"]]) -> Numbers:
    area, moment, perimeter = 0.0, np.zeros(2), 0.0
    origin = rings[0][0]
    for ring in rings:
        first = ring - origin
        last = np.roll(first, -1, axis=0)
        cross = first[:, 0] * last[:, 1] - first[:, 1] * last[:, 0]
        area += float(cross.sum()) / 2
        moment += ((first + last) * cross[:, None]).sum(axis=0) / 6
        perimeter += float(np.linalg.norm(last - first, axis=1).sum())
    y, x = moment / area + origin
    angles = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
    along = (rings[0] - origin) @ np.stack([np.sin(angles), np.cos(angles)])
    return {
        ("area", "size"): abs(area),  # rings of a mirrored image run the other way round
        ("perimeter", "length"): perimeter,
        ("centroid y", "length"): float(y),
        ("centroid x", "length"): float(x),
        ("largest diameter", "length"): _largest_diameter(rings[0]),
        ("smallest diameter", "length"): float(np.ptp(along, axis=0).min()),
    }


def _mesh(vertices: Float[np.ndarray, "_ 3"], faces: Int[np.ndarray, "faces 3"]) -> Numbers:
    origin = vertices[0]
    a, b, c = (vertices[faces] - origin).transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    sixfold = (a * normals).sum(axis=1)
    volume = float(sixfold.sum()) / 6
    z, y, x = ((a + b + c) * sixfold[:, None]).sum(axis=0) / 24 / volume + origin
    return {
        ("volume", "size"): volume,
        ("surface area", "area"): float(np.linalg.norm(normals, axis=1).sum()) / 2,
        ("centroid z", "length"): float(z),
        ("centroid y", "length"): float(y),
        ("centroid x", "length"): float(x),
        ("largest diameter", "length"): _largest_diameter(vertices),
    }


def _largest_diameter(points: Float[np.ndarray, "_ ndim"]) -> float:
    """The greatest distance between two points (Feret's diameter)."""
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import cdist

    if len(points) > MOST_PAIRS // 10:
        with suppress(QhullError):  # flat
            points = points[ConvexHull(points).vertices]
    parts = np.array_split(points, 1 + len(points) // MOST_PAIRS)
    return max(float(cdist(part, points).max()) for part in parts)
