"""The boundaries of a field in an image, or in a plane of a volume, as polygons with holes."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from swipe_core.coordinates import Grid
from swipe_core.errors import ConfigError
from swipe_core.inference.boundary import Boundary, Scalars, check_tolerance
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.instances import FieldObjects
from swipe_core.inference.maps import class_name
from swipe_core.inference.nodes import CELL, NodeLattice, iter_nodes, node_grid
from swipe_core.progress import Notice, Progress, with_progress

DENSER = 8.0  # times closer than the tolerance the boundary is followed, before vertices are left out
ROUNDS = 14
SAMPLES = 64  # places inside of an object, at most, over which its probability is averaged

Ring = Float[np.ndarray, "_ ndim"]


@dataclass(frozen=True, eq=False)
class Polygon:
    """The outline of one object of a class."""

    rings: tuple[Ring, ...]
    """Closed, without the first vertex again, in the world and in array-axis order: the outer one, and those
    of holes. The outer one turns from the first axis of the plane to the second, holes back.
    """
    fine_rings: tuple[Ring, ...]
    """The same boundary followed several times closer."""
    class_index: int
    class_name: str
    unit: str
    tolerance: float
    score: float
    """The mean probability of the class inside, in [0, 1]."""
    deviation: float
    """How far `rings` are from the boundary at most, where it was evaluated."""
    fine_deviation: float
    """The same of `fine_rings`."""

    @property
    def vertices(self) -> int:
        return sum(map(len, self.rings))


def iter_contours(
    field: OccupancyField,
    tolerance: float,
    classes: Sequence[int] | None = None,
    plane: Grid | None = None,
    objects: FieldObjects | None = None,
) -> Generator[Progress | Notice, None, list[Polygon]]:
    """Return the outlines of all objects of the classes of a field, each as a polygon: of connected ones.

    Vertices lie on the boundary, by evaluation of the field. How many there are depends on the tolerance and
    not on any raster: the boundary is followed several times closer, and then vertices are left out as long
    as it strays nowhere by more than the tolerance. Where an object reaches the border of the image, its
    outline follows that. Raises `ConfigError` when the field has no such class, needs a plane, or the
    tolerance is not above 0.

    `tolerance`: in units of the world.
    `classes`: numbers of classes, 0 for the background; by default all but that.
    `plane`: of a field in three dimensions: a lattice of one voxel along one axis, through whose centre the
    plane lies; its other axes bound what is looked at.
    `objects`: of the field: those that touch are told apart, as they are there.
    """
    check_tolerance(tolerance)
    chosen = range(1, 1 + len(field.class_names)) if classes is None else classes
    names = [class_name(field, index) for index in chosen]
    grid, flat = _plane(field, plane)
    nodes = yield from iter_nodes(field, node_grid(grid, CELL * min(field.grid.spacing), flat))
    apart: list[_Apart | None] = [None] if objects is None else [*_Apart.of_all(objects)]
    found: list[Polygon] = []
    for (index, name), own in itertools.product(zip(chosen, names, strict=True), apart):
        boundary = Boundary.of(field, index, tolerance / DENSER)
        tracing = _Tracing(nodes, flat, boundary if own is None else own.within(boundary), own)
        rings = yield from tracing.iter_rings(index)
        drawn = [(_simplified(ring, tolerance, DENSER), ring) for ring in rings]
        for parts in _with_holes(drawn, tracing):
            score = yield from _iter_score(field, parts, tracing, index)
            thin, fine = tuple(part[0][0] for part in parts), tuple(part[1].points for part in parts)
            far, fine_far = max(part[0][1] for part in parts), max(part[1].distance for part in parts)
            found.append(Polygon(thin, fine, index, name, field.unit, tolerance, score, far, fine_far))
    return found


def _plane(field: OccupancyField, plane: Grid | None) -> tuple[Grid, tuple[int, ...]]:
    if field.ndim == 2:
        return field.grid, ()
    flat = () if plane is None else tuple(axis for axis, n in enumerate(plane.shape) if n == 1)
    if plane is None or not flat:
        raise ConfigError("Contours of a volume are drawn in a plane: say in which slice.")
    return plane, flat[:1]


@dataclass(frozen=True, eq=False)
class _Line:
    """A closed line of points, and which of them stay: corners where an object meets the border."""

    points: Ring
    stays: Bool[np.ndarray, " points"]
    distance: float  # of its chords from the boundary


@dataclass(frozen=True, eq=False)
class _Apart:
    """Some of the objects of a field, none of which touch each other."""

    objects: FieldObjects
    is_own: Bool[np.ndarray, " numbers"]

    @classmethod
    def of_all(cls, objects: FieldObjects) -> list[_Apart]:
        """As few as hold all objects."""
        colours = objects.colours()
        return [cls(objects, colours == colour) for colour in range(1, 1 + int(colours.max()))]

    def has(self, points: Ring) -> Bool[np.ndarray, " points"]:
        """Whether points of the world, inside of a class, are of one of these objects."""
        number: np.ndarray = self.objects.at(self.objects.grid.affine.inverse().apply(points))
        return self.is_own[number]

    def within(self, boundary: Boundary) -> Boundary:
        """Return the boundary of these objects alone; where they touch others, its function jumps."""

        def function(points: Ring) -> Scalars:
            values = boundary.function(points)
            inside = np.flatnonzero(values > 0)
            values[inside[~self.has(points[inside])]] *= -1
            return values

        return replace(boundary, function=function)


@dataclass(frozen=True, eq=False)
class _Tracing:
    """Follows one boundary in the plane of a lattice."""

    nodes: NodeLattice
    flat: tuple[int, ...]
    boundary: Boundary
    apart: _Apart | None = None

    @property
    def basis(self) -> Float[np.ndarray, "ndim 2"]:
        """Orthonormal directions of the plane in the world."""
        axes = [axis for axis in range(self.nodes.grid.ndim) if axis not in self.flat]
        found, upper = np.linalg.qr(self.nodes.grid.affine.linear[:, axes])
        return found * np.sign(np.diag(upper))

    def flattened(self, points: Ring) -> Float[np.ndarray, "_ 2"]:
        """Return the coordinates of points in the plane."""
        return (points - self.nodes.grid.affine.origin) @ self.basis

    def iter_rings(self, class_index: int) -> Generator[Progress | Notice, None, list[_Line]]:
        """Return the closed lines about a class, followed to the tolerance of the boundary."""
        from skimage.measure import find_contours

        part = self.nodes.part(class_index)
        if part is None:
            return []
        start, values = part
        if self.apart is not None:
            inside = np.argwhere(values > 0)
            is_other = ~self.apart.has(self.nodes.grid.affine.apply(inside + np.array(start, float)))
            values[tuple(inside[is_other].T)] *= -1
            if not (values > 0).any():
                return []
        plane = values.take(1, axis=self.flat[0]) if self.flat else values
        size = np.abs(plane)
        even = np.copysign(0.5 + 0.5 * size / (size + np.median(size) + 1e-300), plane)
        loops = [loop[:-1] for loop in find_contours(even, 0.0, positive_orientation="high")]
        place = np.concatenate(loops)
        if self.flat:
            place = np.insert(place, self.flat[0], 1.0, axis=1)
        ring = np.repeat(np.arange(len(loops)), [len(loop) for loop in loops])
        is_between = np.abs(place - np.rint(place)) > 0.2
        low = np.where(is_between, np.floor(place), np.rint(place)).astype(np.int64)
        ends, last = np.stack([low, low + is_between]), np.array(self.nodes.grid.shape) - 1
        inner = np.clip(ends + start, 0, last)
        at = [values[tuple(each.T)] for each in ends]
        points = [self.nodes.grid.affine.apply(each.astype(np.float64)) for each in inner]
        is_cut = (inner[0] == inner[1]).all(axis=1)
        work = self.boundary.iter_zeros(points[0], points[1], at[0], at[1])
        share = np.nan_to_num((yield from with_progress(work, _following(0))))
        vertices = np.where(is_cut[:, None], points[0], points[0] + share[:, None] * (points[1] - points[0]))
        is_wall = (last > 0) & (((inner == 0) | (inner == last)).all(axis=0))
        sides = np.concatenate([is_wall & (inner[0] == 0), is_wall & (inner[0] == last)], axis=1)
        return (yield from self._iter_followed(vertices, ring, sides))

    def _iter_followed(
        self, vertices: Ring, ring: Int[np.ndarray, " vertices"], sides: Bool[np.ndarray, "vertices _"]
    ) -> Generator[Progress | Notice, None, list[_Line]]:
        """Put further vertices between those of rings, until the chords are as near as is wanted."""
        offsets = np.zeros(len(vertices))
        is_open = np.ones(len(vertices), bool)
        for number in range(ROUNDS):
            following = _next(ring)
            is_open &= ~(sides & sides[following]).any(axis=1)
            at = np.flatnonzero(is_open)
            if not len(at):
                break
            chord = vertices[following[at]] - vertices[at]
            length = np.linalg.norm(chord, axis=1)
            flat = chord @ self.basis / np.maximum(length, 1e-300)[:, None]
            across = np.stack([flat[:, 1], -flat[:, 0]], axis=1) @ self.basis.T
            middle = vertices[at] + chord / 2
            work = self.boundary.iter_offsets(middle, across, length, self.boundary.tolerance)
            found = yield from with_progress(work, _following(number))
            middle = middle + np.nan_to_num(found)[:, None] * across
            far = np.fmin(np.abs(found), length / 2)
            offsets[at], is_open[at] = far, False
            is_split = (far > self.boundary.tolerance) & np.isfinite(found)
            where = at[is_split] + 1
            vertices = np.insert(vertices, where, middle[is_split], axis=0)
            ring = np.insert(ring, where, ring[at[is_split]])
            sides = np.insert(sides, where, False, axis=0)
            halves = np.zeros(len(is_open), bool)
            halves[at[is_split]] = True
            is_open = np.insert(is_open | halves, where, True)
            offsets = np.insert(np.where(halves, 0.0, offsets), where, 0.0)
        following = _next(ring)
        on_wall = (sides & sides[following]).any(axis=1)
        before = np.empty_like(on_wall)
        before[following] = on_wall
        is_corner = (sides.sum(axis=1) > 1) | (on_wall != before)
        parts = np.split(np.arange(len(ring)), np.flatnonzero(np.diff(ring)) + 1)
        return [
            _Line(vertices[part], is_corner[part], float(offsets[part].max()))
            for part in map(lambda part: _without_repeats(vertices, part), parts)
            if len(part) > 2
        ]


def _following(number: int) -> Progress:
    return Progress("Following contours", number, ROUNDS)


def _next(ring: Int[np.ndarray, " vertices"]) -> Int[np.ndarray, " vertices"]:
    """Return the number of the vertex after each, in rings that lie one after the other."""
    following = np.arange(1, len(ring) + 1)
    ends = np.flatnonzero(np.append(np.diff(ring) != 0, True))
    following[ends] = np.insert(ends[:-1] + 1, 0, 0)
    return following


def _without_repeats(vertices: Ring, part: np.ndarray) -> np.ndarray:
    return part[(vertices[part] != np.roll(vertices[part], 1, axis=0)).any(axis=1)]


def _simplified(line: _Line, tolerance: float, denser: float) -> tuple[Ring, float]:
    """Leave out vertices (Douglas & Peucker 1973), and return how far the rest is from the boundary at most.

    A line that would cross itself keeps more of them.
    """
    within = tolerance - max(line.distance, tolerance / denser)
    while True:
        kept, far = _kept(line.points, line.stays, within)
        ring = line.points[kept]
        if within < tolerance / denser or not _crosses_itself(ring):
            return ring, far + line.distance
        within /= 2


def _kept(points: Ring, stays: Bool[np.ndarray, " points"], within: float) -> tuple[np.ndarray, float]:
    """The vertices that stay, and the largest distance of others from the line through these."""
    first = int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))
    opposite = int(np.argmax(((points - points[first]) ** 2).sum(axis=1)))
    count = len(points)
    is_kept = stays.copy()
    is_kept[[first, opposite]] = True
    anchors = np.flatnonzero(is_kept)
    spans = list(zip(anchors, np.append(anchors[1:], anchors[0] + count), strict=True))
    far = 0.0
    while spans:
        start, stop = spans.pop()
        if stop - start < 2:
            continue
        between = points[np.arange(start + 1, stop) % count]
        distances = _from_segment(between, points[start % count], points[stop % count])
        place = int(distances.argmax())
        if distances[place] <= within:
            far = max(far, float(distances[place]))
            continue
        middle = start + 1 + place
        is_kept[middle % count] = True
        spans += [(start, middle), (middle, stop)]
    return np.flatnonzero(is_kept), far


def _from_segment(points: Ring, start: np.ndarray, end: np.ndarray) -> Scalars:
    chord = end - start
    square = float(chord @ chord)
    share = np.clip((points - start) @ chord / square, 0, 1) if square else np.zeros(len(points))
    return np.linalg.norm(points - start - share[:, None] * chord, axis=1)


def _crosses_itself(ring: Ring) -> bool:
    """Whether two sides of a polygon that are not neighbours meet, or it has no extent."""
    if len(ring) < 3:
        return True
    a = ring[:, :2] if ring.shape[1] == 2 else _two_widest(ring)
    b, count = np.roll(a, -1, axis=0), len(a)
    for start in range(0, count, 512):
        part = slice(start, start + 512)
        one, two = _turn(a[part, None], b[part, None], a[None]), _turn(a[part, None], b[part, None], b[None])
        three = _turn(a[None], b[None], a[part, None])
        four = _turn(a[None], b[None], b[part, None])
        if ((one * two < 0) & (three * four < 0)).any():
            return True
    return False


def _two_widest(ring: Ring) -> np.ndarray:
    about = ring - ring.mean(axis=0)
    return about @ np.linalg.svd(about, full_matrices=False)[2][:2].T


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    first, second = b - a, c - a
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


Drawn = tuple[tuple[Ring, float], _Line]


def _with_holes(drawn: list[Drawn], tracing: _Tracing) -> list[list[Drawn]]:
    """Put holes to the smallest ring in which they lie; the outer ring is the first of each group."""
    from matplotlib.path import Path

    areas = [signed_area(tracing.flattened(each[1].points)) for each in drawn]
    groups = [[each] for each, area in zip(drawn, areas, strict=True) if area > 0]
    sizes = [area for area in areas if area > 0]
    shapes = [Path(tracing.flattened(group[0][1].points)) for group in groups]
    for each, area in zip(drawn, areas, strict=True):
        if area > 0:
            continue
        places = tracing.flattened(each[1].points)
        around = [
            (size, number)
            for number, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
            if size > -area and shape.contains_points(places).mean() > 0.5
        ]
        if around:
            groups[min(around)[1]].append(each)
    return groups


def signed_area(ring: Float[np.ndarray, "_ 2"]) -> float:
    """Return the area of a polygon, below 0 where it turns from the second axis to the first."""
    about = ring - ring[0]
    first, second = about, np.roll(about, -1, axis=0)
    return float((first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum()) / 2


def places_inside(rings: Sequence[Float[np.ndarray, "_ 2"]], across: int) -> Float[np.ndarray, "places 2"]:
    """Return places that are spread evenly over a polygon: those of a lattice over its box; one at least.

    `rings`: the outer one, and those of holes.
    `across`: places along each side of the box.
    """
    from matplotlib.path import Path

    low, high = rings[0].min(axis=0), rings[0].max(axis=0)
    axes = [low[i] + (np.arange(across) + 0.5) / across * (high[i] - low[i]) for i in range(2)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = Path(rings[0]).contains_points(places)
    for hole in rings[1:]:
        inside &= ~Path(hole).contains_points(places)
    return places[inside] if inside.any() else rings[0].mean(axis=0, keepdims=True)


def _iter_score(
    field: OccupancyField, parts: list[Drawn], tracing: _Tracing, class_index: int
) -> Generator[Progress | Notice, None, float]:
    """The mean probability of a class over places that are spread evenly over an object."""
    rings = [tracing.flattened(part[1].points) for part in parts]
    places = places_inside(rings, int(np.sqrt(SAMPLES)) + 4)
    chosen = places[:: max(1, len(places) // SAMPLES)]
    yield _following(ROUNDS)
    world = chosen @ tracing.basis.T + tracing.nodes.grid.affine.origin
    return float(field.probabilities(world)[:, class_index].mean())
