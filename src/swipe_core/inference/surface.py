"""The boundary of a class in a volume as a closed mesh, with triangles as large as a tolerance allows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from swipe_core.errors import ConfigError
from swipe_core.inference.boundary import Boundary, Scalars, check_tolerance
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.maps import class_name
from swipe_core.inference.nodes import CELL, NodeLattice, iter_nodes, node_grid
from swipe_core.inference.tetrahedra import Tetrahedra
from swipe_core.inference.triangles import (
    CREASED,
    Triangles,
    Vectors,
    bent,
    centred,
    coarsened,
    evened,
    flipped,
    split,
    unfolded,
    unit,
)
from swipe_core.progress import Notice, Progress, with_progress

COARSENINGS, REFINEMENTS = 60, 12
CAUTIOUS = 6  # refinements that turn no triangle by much: what they leave is cut nevertheless
SAGITTA = 0.7  # of the tolerance, by which normals may suggest that an edge strays: they suggest no more
FINE = 0.1  # of the tolerance: the step by which vertices are placed
ATTEMPTS, CLOSER, LEAST_STEP = 3, 0.7, 0.2  # with a smaller tolerance, and by what it falls
LIMIT = 0.8  # of the tolerance, at the places that are looked at


@dataclass(frozen=True, eq=False)
class Surface:
    """A closed mesh of triangles around a class.

    Attributes
    ----------
    mesh
        Its vertices are on the boundary, or where the image ends.
    middles : (edges, 3)
        Where the boundary is beside the middle of each edge of the mesh, in the order of ``mesh.edges``.
    unit
        Of the world.
    tolerance
        How far from the boundary the triangles may be.
    deviation
        How far they are at most, at the middles of all edges and triangles.
    """

    mesh: Triangles
    middles: Float[np.ndarray, "edges 3"]
    class_index: int
    class_name: str
    unit: str
    tolerance: float
    deviation: float

    @property
    def vertices_world(self) -> Float[np.ndarray, "vertices 3"]:
        """The vertices, in array-axis order, (z, y, x)."""
        return self.mesh.vertices

    @property
    def faces(self) -> Int[np.ndarray, "faces 3"]:
        """Indices of vertices.

        With the components in (z, y, x) order, the normals (v1 - v0) x (v2 - v0) point out of the class.
        """
        return self.mesh.faces

    @property
    def area(self) -> float:
        """In unit^2."""
        return 0.5 * float(np.linalg.norm(self.mesh.normals, axis=1).sum())

    @cached_property
    def volume(self) -> float:
        """The volume that the surface encloses, in unit^3, by the divergence theorem."""
        if not len(self.faces):
            return 0.0
        # About a vertex, so that a far origin costs no precision.
        corners = self.vertices_world[self.faces[:, 0]] - self.vertices_world[0]
        return float((corners * self.mesh.normals).sum()) / 6

    @property
    def is_watertight(self) -> bool:
        """Whether every edge is run through once in each direction."""
        return self.mesh.edges.is_closed


def iter_surfaces(
    field: OccupancyField,
    tolerance: float,
    classes: Sequence[int] | None = None,
    *,
    strict: bool = False,
) -> Generator[Progress | Notice, None, list[Surface]]:
    """Return the surfaces on which the score of a class equals the largest of the others'.

    All boundaries are found on one lattice, about as fine as the encoded image. There each surface is
    triangulated by marching cubes with its vertices moved onto the zero set, and then coarsened where it is
    flat and refined where it bends, by evaluation of the field, until it strays nowhere by more than the
    tolerance. Where a class reaches the border of the image, it ends there, in a plane. A class that is
    nowhere has an empty surface.

    Parameters
    ----------
    tolerance
        In units of the world: the largest distance of the triangles from the boundary.
    classes
        Numbers of classes, 0 for the background; by default all but that.
    strict
        Begin anew with a smaller tolerance, a few times, where the surface strays farther at sharp creases;
        the best one counts.

    Raises
    ------
    ConfigError
        When the field is not of three dimensions or has no such class, or the tolerance is not above 0.
    """
    if field.ndim != 3:
        raise ConfigError(
            "A surface needs a model of volumes, and this one is of 2D images: ask for its contours."
        )
    check_tolerance(tolerance)
    chosen = range(1, 1 + len(field.class_names)) if classes is None else classes
    names = [class_name(field, index) for index in chosen]
    nodes = yield from iter_nodes(field, node_grid(field.grid, CELL * min(field.grid.spacing)))
    found: list[Surface] = []
    for index, name in zip(chosen, names, strict=True):
        best: Surface | None = None
        aim = tolerance
        for _ in range(ATTEMPTS if strict else 1):
            surface = yield from _iter_surface(field, nodes, index, name, aim)
            if best is None or surface.deviation < best.deviation:
                best = replace(surface, tolerance=tolerance)
            if surface.deviation <= tolerance:
                break
            aim *= max(LEAST_STEP, CLOSER * tolerance / surface.deviation)
        assert best is not None
        found.append(best)
    return found


def _iter_surface(
    field: OccupancyField, nodes: NodeLattice, index: int, name: str, tolerance: float
) -> Generator[Progress | Notice, None, Surface]:
    """Return the surface of one class."""
    boundary = Boundary.of(field, index, tolerance)
    mesh = yield from _iter_first_mesh(nodes, index, boundary)
    mesh = yield from _iter_relaxed(mesh, boundary)
    mesh = coarsened(mesh, SAGITTA * tolerance, COARSENINGS).compact()
    mesh = yield from _iter_relaxed(mesh, boundary)
    mesh, middles, deviation = yield from _iter_refined(mesh, boundary)
    # Beyond the image the field goes on, and a vertex beside its border may have followed it.
    mesh = replace(mesh, vertices=_within(field, mesh.vertices))
    middles = _within(field, middles)
    return Surface(mesh, middles, index, name, field.unit, tolerance, deviation)


def _within(field: OccupancyField, points_world: Vectors) -> Vectors:
    """The points, those beyond the border of the encoded image brought to it."""
    points = field.grid.affine.inverse().apply(points_world)
    inside = np.clip(points, -0.5, np.array(field.grid.shape) - 0.5)
    return np.where((inside == points).all(axis=1)[:, None], points_world, field.grid.affine.apply(inside))


def _fitting(number: int) -> Progress:
    return Progress("Fitting the surface", number, REFINEMENTS)


def _iter_first_mesh(
    nodes: NodeLattice, class_index: int, boundary: Boundary
) -> Generator[Progress | Notice, None, Triangles]:
    """Return the mesh on a lattice that is cut finer where the boundary bends, coarsened where it is flat."""
    lattice = Tetrahedra.about(nodes, class_index)
    if lattice is None:
        empty = np.empty((0, 3), np.int64)
        return Triangles(np.empty((0, 3)), empty, empty[:, 0])
    lattice = yield from with_progress(lattice.iter_refined(boundary), _fitting(0))
    mesh, ends = lattice.mesh()
    mesh = coarsened(mesh, SAGITTA * boundary.tolerance, COARSENINGS)
    return (yield from with_progress(lattice.iter_placed(mesh, ends, boundary), _fitting(0)))


def _iter_relaxed(mesh: Triangles, boundary: Boundary) -> Generator[Progress | Notice, None, Triangles]:
    """Space vertices evenly on the surface, but for creases, so that fewer of them suffice."""
    moved = centred(mesh, (mesh.vertex_sides == 1) & ~bent(mesh, CREASED))
    chosen = np.flatnonzero((moved != mesh.vertices).any(axis=1))
    start, directions = moved[chosen], mesh.vertex_normals[chosen]
    reach = np.full(len(chosen), 8 * boundary.tolerance)
    work = boundary.iter_offsets(start, directions, reach, boundary.tolerance)
    offsets = yield from with_progress(work, _fitting(0))
    found = start + offsets[:, None] * directions
    moved[chosen] = np.where(np.isfinite(offsets)[:, None], found, mesh.vertices[chosen])
    return unfolded(mesh, moved)


def _iter_refined(
    mesh: Triangles, boundary: Boundary
) -> Generator[Progress | Notice, None, tuple[Triangles, Vectors, float]]:
    """Split edges while the middles of edges and triangles are not within the tolerance.

    Returns the mesh, where the boundary is beside the middles of its edges, and the largest distance.
    """
    if not len(mesh.faces):
        return mesh, np.empty((0, 3)), 0.0
    known_edges, known_faces = _Known(), _Known()
    deep = np.zeros(0)
    allowed, fine = LIMIT * boundary.tolerance, FINE * boundary.tolerance
    for number in range(REFINEMENTS + 1):
        progress = _fitting(number)
        looks = _EdgeMiddles.of(mesh)
        is_inner = (mesh.sides[mesh.edges.faces] == 0).all(axis=1) & (number >= CAUTIOUS)
        found = yield from with_progress(known_edges.iter_completed(looks, is_inner, boundary), progress)
        far = looks.distances(found)
        is_found = np.isfinite(found[:, 0])
        is_split = is_found & (far > allowed)
        middles = _FaceMiddles.of(mesh, ~is_split[mesh.edges.of_face].any(axis=1))
        everywhere = np.full(len(middles.keys), number >= CAUTIOUS)
        places = yield from with_progress(known_faces.iter_completed(middles, everywhere, boundary), progress)
        deep = middles.distances(places)
        longest = middles.longest[deep > allowed]
        is_split[longest[is_found[longest]]] = True
        if number == REFINEMENTS or not is_split.any():
            break
        chosen = np.flatnonzero(is_split)
        placed, directions = found[chosen], looks.directions[chosen]
        work = boundary.iter_offsets(placed, directions, looks.reach[chosen], fine)
        placed = placed + np.nan_to_num((yield from with_progress(work, progress)))[:, None] * directions
        mesh = split(mesh, chosen, placed, turns=number >= CAUTIOUS)
        mesh = evened(flipped(mesh, SAGITTA * boundary.tolerance, bent(mesh, CREASED)))
    beside = np.where(np.isfinite(found), found, looks.points)
    return mesh, beside, float(max(far.max(), deep.max(initial=0.0)))


@dataclass(frozen=True, eq=False)
class _EdgeMiddles:
    """The middles of edges, and where to look for the boundary from there; on planes no farther than 0."""

    keys: np.ndarray
    points: Vectors
    directions: Vectors
    reach: Scalars

    @classmethod
    def of(cls, mesh: Triangles) -> _EdgeMiddles:
        first, last = mesh.edges.ends.T
        ends = mesh.vertices[mesh.edges.ends]
        directions = mesh.vertex_normals[first] + mesh.vertex_normals[last]
        sides = mesh.sides[mesh.edges.faces]
        is_curved = (sides == 0).any(axis=1)
        plane = unit(mesh.side_normals[sides.max(axis=1)])
        across = directions - (directions * plane).sum(axis=1, keepdims=True) * plane
        directions = unit(np.where((sides.max(axis=1) > 0)[:, None], across, directions))
        length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        reach = np.where(is_curved, length, 0.0)
        return cls((first << 31) | last, ends.mean(axis=1), directions, reach)

    def distances(self, found: Vectors) -> Scalars:
        """Return how far the boundary is, which the ends are on: half the length at most."""
        return np.fmin(np.linalg.norm(found - self.points, axis=1), self.reach / 2)


@dataclass(frozen=True, eq=False)
class _FaceMiddles:
    """The middles of triangles of the curved surface: as `_EdgeMiddles`, and the longest edge of each."""

    keys: np.ndarray
    points: Vectors
    directions: Vectors
    reach: Scalars
    nearest: Scalars
    longest: np.ndarray

    @classmethod
    def of(cls, mesh: Triangles, chosen: np.ndarray) -> _FaceMiddles:
        number = np.flatnonzero(chosen & (mesh.sides == 0))
        faces = mesh.faces[number]
        corners = mesh.vertices[faces]
        middle = corners.mean(axis=1)
        directions = unit(mesh.vertex_normals[faces].sum(axis=1))
        nearest = np.linalg.norm(corners - middle[:, None], axis=2).min(axis=1)
        sides = np.linalg.norm(np.roll(corners, -1, axis=1) - np.roll(corners, -2, axis=1), axis=2)
        longest = np.take_along_axis(mesh.edges.of_face[number], sides.argmax(axis=1)[:, None], axis=1)[:, 0]
        a, b, c = np.sort(faces, axis=1).astype(np.uint64).T
        # A number for the three vertices: two triangles of one mesh that share it are not to be expected.
        keys = ((a * np.uint64(0x9E3779B97F4A7C15) + b) * np.uint64(0xC2B2AE3D27D4EB4F) + c).view(np.int64)
        return cls(keys, middle, directions, sides.max(axis=1), nearest, longest)

    def distances(self, found: Vectors) -> Scalars:
        """Return how far the boundary is, which the corners are on: the nearest one is not nearer."""
        return np.fmin(np.linalg.norm(found - self.points, axis=1), self.nearest)


class _Known:
    """Where the boundary is beside middles that were looked at before: a change leaves most as they were."""

    def __init__(self) -> None:
        self._keys, self._points, self._found = np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 3))

    def iter_completed(
        self, looks: _EdgeMiddles | _FaceMiddles, is_careful: Bool[np.ndarray, " looks"], boundary: Boundary
    ) -> Generator[None, None, Vectors]:
        """Return the places of all middles on the boundary; those that are not known are looked for.

        Where one `is_careful` and the place along its direction is too far, the nearest one all around is
        taken. Not a number where none is within reach.
        """
        found = np.where((looks.reach > 0)[:, None], np.nan, looks.points)
        if len(self._keys):
            at = np.minimum(np.searchsorted(self._keys, looks.keys), len(self._keys) - 1)
            is_known = (self._keys[at] == looks.keys) & (self._points[at] == looks.points).all(axis=1)
            found = np.where(is_known[:, None], self._found[at], found)
        new = np.flatnonzero(np.isnan(found[:, 0]))
        start, directions = looks.points[new], looks.directions[new]
        offsets = yield from boundary.iter_offsets(start, directions, looks.reach[new], boundary.tolerance)
        found[new] = start + offsets[:, None] * directions
        far = looks.distances(found)
        at = np.flatnonzero(is_careful & (far > LIMIT * boundary.tolerance))
        reach = np.minimum(far[at], 4 * boundary.tolerance)
        nearest = yield from boundary.iter_nearest(looks.points[at], reach)
        found[at] = np.where(np.isfinite(nearest), nearest, found[at])
        order = np.argsort(looks.keys)
        self._keys, self._points, self._found = looks.keys[order], looks.points[order], found[order]
        return found
