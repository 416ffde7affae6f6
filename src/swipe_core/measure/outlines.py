"""Measurements of polygons and of closed meshes, each with its numerical error.

A shape is measured twice, as it is drawn and several times finer; the difference is stated as the error of
the finer value. What both leave out alike is added: the boundary may lie beyond both ends of a diameter, and
beyond each corner of an outline, by as much as the finer shape strays.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from swipe_core.measure import Quantity

MOST_PAIRS = 1000  # points among which all distances are looked at together
DIAMETERS = ("largest diameter", "smallest diameter", "thickness")
DIRECTIONS = 720  # in which the width of a polygon is measured
PLACES, EVERY = (
    2000,
    8,
)  # at least, on the sides of a polygon, that a circle inside may touch; and starts from
SHRINKINGS = 40
SHARP = np.radians(15)  # by which an outline turns at a corner: curves are followed with smaller turns


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
    return _compared(_polygon(drawn), _polygon(fine), left, max(1, sum(map(_corners, fine))))


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


def _compared(drawn: Numbers, fine: Numbers, left: float, corners: int = 1) -> list[Measured]:
    """All numbers with their errors; `left` is how far the finer shape may stray from the boundary."""
    cut = {"area": 4 * left**2 * corners, "perimeter": 4 * left * corners}
    more = cut | dict.fromkeys(DIAMETERS, 2 * left)
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
        ("thickness", "length"): _polygon_thickness(rings, float(np.sign(area)), perimeter / PLACES),
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
        ("thickness", "length"): _mesh_thickness(vertices, faces),
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


def _corners(ring: Float[np.ndarray, "_ 2"]) -> int:
    """How often a polygon turns sharply."""
    side = np.roll(ring, -1, axis=0) - ring
    angle = np.arctan2(*side.T)
    turn = np.abs((angle - np.roll(angle, 1) + np.pi) % (2 * np.pi) - np.pi)
    return int((turn > SHARP).sum())


def _along_sides(
    rings: Sequence[Float[np.ndarray, "_ 2"]], turn: float, step: float
) -> tuple[Float[np.ndarray, "places 2"], Float[np.ndarray, "places 2"], Bool[np.ndarray, " places"]]:
    """Places on the sides of a polygon, a step apart at most, and the directions into it from there.

    Also which of them, some in each side, are in its middle or some steps from it.
    """
    places, inwards, starts = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for ring in rings:
        side = np.roll(ring, -1, axis=0) - ring
        length = np.linalg.norm(side, axis=1)
        parts = np.ceil(length / step).astype(int)
        number = np.repeat(np.arange(len(ring)), parts)
        order = np.arange(len(number)) - np.repeat(np.cumsum(parts) - parts, parts)
        share = (order + 0.5) / parts[number]
        starts.append(order % EVERY == (parts[number] // 2) % EVERY)
        places.append(ring[number] + share[:, None] * side[number])
        across = turn * np.stack([-side[:, 1], side[:, 0]], axis=1) / np.maximum(length, 1e-300)[:, None]
        inwards.append(across[number])
    return np.concatenate(places), np.concatenate(inwards), np.concatenate(starts)


def _inwards(
    vertices: Float[np.ndarray, "_ 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "_ 3"]:
    """The directions into a mesh from its vertices."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    normals, total = np.cross(b - a, c - a), np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], normals)
    return -total / np.maximum(np.linalg.norm(total, axis=1), 1e-300)[:, None]


def _polygon_thickness(rings: Sequence[Float[np.ndarray, "_ 2"]], turn: float, step: float) -> float:
    from matplotlib.path import Path

    places, inwards, is_start = _along_sides(rings, turn, step)
    outer, *holes = (Path(ring) for ring in rings)

    def is_inside(centre: np.ndarray) -> bool:
        y, x = centre.tolist()
        return outer.contains_point((y, x)) and not any(hole.contains_point((y, x)) for hole in holes)

    return _thickness(places, places[is_start], inwards[is_start], is_inside)


def _mesh_thickness(vertices: Float[np.ndarray, "_ 3"], faces: Int[np.ndarray, "faces 3"]) -> float:
    def is_inside(centre: np.ndarray) -> bool:
        """Whether the solid angles of all triangles make a whole (Van Oosterom & Strackee 1983)."""
        a, b, c = (vertices[faces] - centre).transpose(1, 0, 2)
        x, y, z = (np.linalg.norm(each, axis=1) for each in (a, b, c))
        ab, bc, ca = ((one * other).sum(axis=1) for one, other in ((a, b), (b, c), (c, a)))
        triple = (a * np.cross(b, c)).sum(axis=1)
        return float(np.arctan2(triple, x * y * z + ab * z + bc * x + ca * y).sum()) > np.pi

    return _thickness(vertices, vertices, _inwards(vertices, faces), is_inside)


def _thickness(
    points: Float[np.ndarray, "_ ndim"],
    start: Float[np.ndarray, "starts ndim"],
    inwards: Float[np.ndarray, "starts ndim"],
    is_inside: Callable[[np.ndarray], bool],
) -> float:
    """The diameter of the largest ball that fits inside.

    At some points of the boundary a ball shrinks until it holds no other (Ma, Bae & Choi 2012). Where the
    boundary is crumpled, some of them lie outside.
    """
    from scipy.spatial import KDTree

    tree = KDTree(points)
    radius = np.full(len(start), float(np.ptp(points, axis=0).min()) / 2)  # no ball inside is larger
    left = np.arange(len(start))
    for _ in range(SHRINKINGS):
        distance, nearest = tree.query(start[left] + radius[left, None] * inwards[left])
        away = points[nearest] - start[left]
        height = (away * inwards[left]).sum(axis=1)
        is_held = (distance < radius[left] * (1 - 1e-9)) & (height > 0)
        left = left[is_held]
        if not left.size:
            break
        radius[left] = (away[is_held] ** 2).sum(axis=1) / (2 * height[is_held])
    centres = start + radius[:, None] * inwards
    for best in np.argsort(-radius):
        if is_inside(centres[best]):
            return 2 * float(tree.query(centres[best])[0])
    return 0.0
