"""A lattice of tetrahedra that is cut finer where a boundary bends, and the closed mesh that it holds.

Cubes are cut as Kuhn has it, and tetrahedra in two as Maubach (1995) has it: always so that none has a
vertex within an edge of another, so that the mesh has no gap, however different their sizes are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from swipe_core.coordinates import Affine
from swipe_core.inference.boundary import Boundary
from swipe_core.inference.nodes import NodeLattice
from swipe_core.inference.triangles import Triangles, is_in, normals_of, pair_keys, unit

HALVINGS = 6  # of an edge of the first lattice, at most
ONE = 2 << HALVINGS  # an edge of the first lattice, in units of places
BENDS = 20.0  # the surface in a tetrahedron strays by its size times the turn to its neighbour over this
PAIRS = np.array(list(itertools.combinations(range(4), 2)))
FACES = np.array(list(itertools.combinations(range(4), 3)))


@dataclass(frozen=True, eq=False)
class Tetrahedra:
    """Tetrahedra about the boundary of a class."""

    places: Int[np.ndarray, "nodes 3"]
    """(nodes, 3): In the lattice, in units of 1 / `ONE`."""
    values: Float[np.ndarray, " nodes"]
    """Of the boundary's function; away from it their sign alone counts."""
    is_hull: Bool[np.ndarray, " nodes"]
    """Nodes at which the tetrahedra end within the lattice."""
    cells: Int[np.ndarray, "cells 4"]
    """(cells, 4): Nodes in the order of Maubach."""
    ages: Int[np.ndarray, " cells"]
    """How often each has been cut."""
    affine: Affine
    """Of the lattice: to the world."""
    last: Int[np.ndarray, "3"]
    """The place of the last node of the lattice."""

    @classmethod
    def about(cls, nodes: NodeLattice, class_index: int) -> Tetrahedra | None:
        """Return those of the cubes in which a class meets others, of their neighbours, and at the border."""
        part = nodes.part(class_index)
        if part is None:
            return None
        start, values = part
        last = np.array(nodes.grid.shape) - 1
        crop = tuple(slice(max(0, -a), b + 1 - a) for a, b in zip(start, last, strict=True))
        values, first = values[crop], np.maximum(start, 0)
        inside = values > 0
        some, all_in = _over_corners(inside, np.logical_or), _over_corners(inside, np.logical_and)
        chosen = ndimage.binary_dilation(some & ~all_in, np.ones((3, 3, 3)))
        index = np.indices(chosen.shape).transpose(1, 2, 3, 0) + first
        chosen |= some & ((index == 0) | (index == last - 1)).any(axis=-1)
        is_whole = np.ones(chosen.shape, bool)
        missing = _around_nodes(is_whole) != _around_nodes(chosen)
        for axis in range(3):  # where the part ends within the lattice
            sides = np.moveaxis(missing, axis, 0)
            sides[0] |= first[axis] > 0
            sides[-1] |= first[axis] + chosen.shape[axis] < last[axis]
        corners = np.argwhere(chosen)
        steps = np.eye(3, dtype=np.int64)[list(itertools.permutations(range(3)))].cumsum(axis=1)
        steps = np.concatenate([np.zeros((6, 1, 3), np.int64), steps], axis=1)
        every = (corners[:, None, None] + steps).reshape(-1, 3)
        flat, cells = np.unique(np.ravel_multi_index(tuple(every.T), values.shape), return_inverse=True)
        at = np.unravel_index(flat, values.shape)
        places = (np.stack(at, axis=1) + first) * ONE
        return cls(
            places,
            values[at],
            missing[at],
            cells.reshape(-1, 4),
            np.zeros(6 * len(corners), np.int64),
            nodes.grid.affine,
            last * ONE,
        )

    @property
    def points(self) -> Float[np.ndarray, "nodes 3"]:
        """The nodes in the world."""
        return self.affine.apply(self.places / ONE)

    def iter_refined(self, boundary: Boundary) -> Generator[Any, None, Tetrahedra]:
        """Cut tetrahedra until the surface bends between neighbours by no more than the tolerance allows."""
        found = self
        while True:
            wanted = found._bending() > boundary.tolerance
            wanted &= found.ages < 3 * HALVINGS
            if not wanted.any():
                return found
            known = len(found.places)
            found = found._cut(wanted)
            new = known + np.flatnonzero(~found.is_hull[known:])
            values = found.values.copy()
            values[new] = yield from boundary.iter_values(found.affine.apply(found.places[new] / ONE))
            found = replace(found, values=values)

    def mesh(self) -> tuple[Triangles, Int[np.ndarray, "vertices 2"]]:
        """Return the closed mesh about the places of positive values, and the nodes between which its
        vertices lie, which are at the zeros of values interpolated between these.
        """
        pieces = [self._pieces()]
        for axis, end in itertools.product(range(3), range(2)):
            pieces += self._caps(axis, end)
        faces, sides = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        keys, number = np.unique(faces, return_inverse=True)
        ends = np.stack(np.divmod(keys, len(self.places)), axis=1)
        low, high = self.values[ends].T
        share = np.where(low == high, 0.0, low / np.where(low == high, 1.0, low - high))
        start, end_points = self.points[ends].transpose(1, 0, 2)
        vertices = start + share[:, None] * (end_points - start)
        return Triangles(vertices, number.reshape(-1, 3), sides), ends

    def iter_placed(
        self, mesh: Triangles, ends: Int[np.ndarray, "vertices 2"], boundary: Boundary
    ) -> Generator[Any, None, Triangles]:
        """Return a mesh of some of the vertices of `mesh`, each moved onto the boundary between its nodes."""
        at = np.unique(mesh.faces)
        at = at[ends[at, 0] != ends[at, 1]]
        start, last = self.points[ends[at]].transpose(1, 0, 2)
        share = yield from boundary.iter_zeros(start, last, *self.values[ends[at]].T)
        vertices = mesh.vertices.copy()
        vertices[at] = start + share[:, None] * (last - start)
        return replace(mesh, vertices=vertices).compact()

    def _bending(self) -> Float[np.ndarray, " cells"]:
        """Estimate how far the surface strays in each tetrahedron, from the slopes of its neighbours."""
        values = self.values[self.cells]
        mixed = np.flatnonzero((values > 0).any(axis=1) & (values <= 0).any(axis=1))
        cells, points = self.cells[mixed], self.points[self.cells[mixed]]
        edges = points[:, 1:] - points[:, :1]
        slopes = unit(
            np.linalg.solve(edges, (values[mixed][:, 1:] - values[mixed][:, :1])[..., None])[..., 0]
        )
        size = np.linalg.norm(points[:, PAIRS[:, 0]] - points[:, PAIRS[:, 1]], axis=2).max(axis=1)
        faces = np.sort(cells[:, FACES].reshape(-1, 3), axis=1)
        owner = np.repeat(np.arange(len(mixed)), 4)
        order = np.lexsort(faces.T)
        same = (faces[order[1:]] == faces[order[:-1]]).all(axis=1)
        one, two = owner[order[1:][same]], owner[order[:-1][same]]
        turn = np.linalg.norm(slopes[one] - slopes[two], axis=1)
        bends = np.zeros(len(mixed))
        np.maximum.at(bends, one, turn)
        np.maximum.at(bends, two, turn)
        found = np.zeros(len(self.cells))
        found[mixed] = bends * size / BENDS
        return found

    def _cut(self, wanted: Bool[np.ndarray, " cells"]) -> Tetrahedra:
        """Cut tetrahedra in two, and others until none has a node within an edge; new values are means."""
        found = self
        while wanted.any():
            found = found._bisected(wanted)
            new = np.sort(found._keys(found.places[len(self.places) :]))
            middles = found._keys(found.places[found.cells[:, PAIRS]].sum(axis=2) // 2)
            wanted = np.asarray(is_in(middles, new).any(axis=1))
        return found

    def _bisected(self, wanted: Bool[np.ndarray, " cells"]) -> Tetrahedra:
        cells, ages = self.cells[wanted], self.ages[wanted]
        rows, tag = np.arange(len(cells)), 3 - ages % 3
        ends = np.stack([cells[:, 0], cells[rows, tag]], axis=1)
        middles = self.places[ends].sum(axis=1) // 2
        keys = self._keys(self.places)
        order = np.argsort(keys)
        unique, first, number = np.unique(self._keys(middles), return_index=True, return_inverse=True)
        at = order[np.minimum(np.searchsorted(keys[order], unique), len(keys) - 1)]
        is_new = keys[at] != unique
        ids = np.where(is_new, len(keys) + np.cumsum(is_new) - 1, at)
        middle, new = ids[number], first[is_new]
        kept, other = cells.copy(), cells.copy()
        kept[rows, tag] = middle
        for place in range(3):
            other[:, place] = np.where(place < tag, cells[:, place + 1], cells[:, place])
        other[rows, tag] = middle
        return replace(
            self,
            places=np.concatenate([self.places, middles[new]]),
            values=np.concatenate([self.values, self.values[ends[new]].mean(axis=1)]),
            is_hull=np.concatenate([self.is_hull, self.is_hull[ends[new]].all(axis=1)]),
            cells=np.concatenate([self.cells[~wanted], kept, other]),
            ages=np.concatenate([self.ages[~wanted], ages + 1, ages + 1]),
        )

    def _keys(self, places: np.ndarray) -> np.ndarray:
        size = self.last + 1
        return (places[..., 0] * size[1] + places[..., 1]) * size[2] + places[..., 2]

    def _pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the triangles within tetrahedra, a key for each corner, and the side that they are on."""
        (a, b, c, d), number = self._inside_first(self.cells)
        parts = []
        for wanted, corners in (
            (1, ((a, b), (a, c), (a, d))),
            (3, ((a, d), (b, d), (c, d))),
            (2, ((a, c), (a, d), (b, d))),
            (2, ((a, c), (b, d), (b, c))),
        ):
            at = number == wanted
            outward = (self.places[d[at]] - self.places[a[at]]) @ self.affine.linear.T
            parts.append(self._turned(at, corners, outward))
        return np.concatenate(parts), np.zeros(sum(map(len, parts)), np.int64)

    def _caps(self, axis: int, end: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the triangles on a plane in which the lattice ends, as `_pieces` does."""
        is_there = self.places[:, axis] == (self.last[axis] if end else 0)
        faces = self.cells[:, FACES].reshape(-1, 3)
        faces = faces[is_there[faces].all(axis=1)]
        (a, b, c), number = self._inside_first(faces)
        outward = (2 * end - 1) * self.affine.linear[:, axis]
        parts = []
        for wanted, corners in (
            (1, ((a, a), (a, b), (a, c))),
            (2, ((a, a), (b, b), (b, c))),
            (2, ((a, a), (b, c), (a, c))),
            (3, ((a, a), (b, b), (c, c))),
        ):
            keys = self._turned(number == wanted, corners, outward[None])
            parts.append((keys, np.full(len(keys), 1 + axis + 3 * end)))
        return parts

    def _inside_first(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nodes of groups, those inside before the others, and how many are inside."""
        inside = self.values[groups] > 0
        order = np.argsort(~inside, axis=1, kind="stable")
        return np.take_along_axis(groups, order, axis=1).T, inside.sum(axis=1)

    def _turned(
        self, at: np.ndarray, corners: tuple[tuple[np.ndarray, np.ndarray], ...], outward: np.ndarray
    ) -> np.ndarray:
        """Return the keys of triangles between nodes, turned so that they look outward."""
        ends = np.stack([np.stack([first[at], last[at]], axis=1) for first, last in corners], axis=1)
        middles = self.places[ends].mean(axis=2) @ self.affine.linear.T
        is_back = (normals_of(*middles.transpose(1, 0, 2)) * outward).sum(axis=1) < 0
        keys = pair_keys(ends[..., 0], ends[..., 1], len(self.places))
        return np.where(is_back[:, None], keys[:, ::-1], keys)


def _over_corners(nodes: np.ndarray, combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Combine what the eight corners of each cube have."""
    for axis in range(3):
        low = np.take(nodes, range(nodes.shape[axis] - 1), axis)
        nodes = combine(low, np.take(nodes, range(1, nodes.shape[axis]), axis))
    return nodes


def _around_nodes(cubes: Bool[np.ndarray, "_ _ _"]) -> Int[np.ndarray, "_ _ _"]:
    """Return how many cubes have each node as a corner."""
    count = np.pad(cubes.astype(np.int64), 1)
    return np.asarray(_over_corners(count, np.add))
