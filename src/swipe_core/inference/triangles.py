"""Closed meshes of triangles that are coarsened, flipped and refined without ever being torn.

All is done for many triangles at once: of the changes that are wanted, those are made together that have no
vertex in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

Index = Int[np.ndarray, "_"]
Vectors = Float[np.ndarray, "_ 3"]

SHAPE = 0.1  # of a triangle, of 1 for an equilateral one, below which none is made on purpose
BENT = 0.5  # cosine of the angle by which a triangle may turn at once
CREASED = 0.7  # cosine of the angle by which triangles lean at places that are kept as they were found
NO_VERTEX = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Triangles:
    """A mesh whose triangles lie on a curved surface, or on one of the planes that cut it off."""

    vertices: Vectors
    """(vertices, 3)"""
    faces: Int[np.ndarray, "faces 3"]
    """(faces, 3): Normals (v1 - v0) x (v2 - v0) point outwards."""
    sides: Int[np.ndarray, " faces"]
    """(faces): 0 for the curved surface, 1, 2, ... for planes."""

    @cached_property
    def edges(self) -> Edges:
        return Edges.of(self)

    @cached_property
    def normals(self) -> Vectors:
        """Of the faces, as long as twice their area."""
        return normals_of(*self.vertices[self.faces].transpose(1, 0, 2))

    @cached_property
    def vertex_normals(self) -> Vectors:
        """Of the curved surface, of length 1; those of vertices of planes alone are theirs."""
        is_curved = self.sides == 0
        total = np.zeros_like(self.vertices)
        for corner in range(3):
            np.add.at(total, self.faces[is_curved, corner], self.normals[is_curved])
        flat = np.zeros_like(self.vertices)
        for corner in range(3):
            np.add.at(flat, self.faces[:, corner], self.normals)
        return unit(np.where((total == 0).all(axis=1, keepdims=True), flat, total))

    @cached_property
    def side_normals(self) -> Vectors:
        """Of the planes; that of the curved surface has no meaning."""
        total = np.zeros((int(self.sides.max(initial=0)) + 1, 3))
        np.add.at(total, self.sides, self.normals)
        return total

    @cached_property
    def vertex_sides(self) -> Index:
        """The sides that meet at each vertex, as the bits of a number."""
        bits = np.zeros(len(self.vertices), np.int64)
        for corner in range(3):
            np.bitwise_or.at(bits, self.faces[:, corner], 1 << self.sides)
        return bits

    def compact(self) -> Triangles:
        """Return the same without vertices that no face has."""
        used, faces = np.unique(self.faces, return_inverse=True)
        return replace(self, vertices=self.vertices[used], faces=faces.reshape(-1, 3))


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of a mesh."""

    keys: Index
    """(edges): One number for each pair of vertices, ascending."""
    ends: Int[np.ndarray, "edges 2"]
    """(edges, 2): Vertices, the lower number first."""
    of_face: Int[np.ndarray, "faces 3"]
    """(faces, 3): The edge opposite each corner."""
    faces: Int[np.ndarray, "edges 2"]
    opposite: Int[np.ndarray, "edges 2"]
    """`faces` and `opposite`, (edges, 2): the two faces on either side, and the vertices of theirs that are
    not on the edge.
    """
    is_closed: bool
    """Whether each edge has two faces, which run through it in opposite directions."""

    @classmethod
    def of(cls, mesh: Triangles) -> Edges:
        faces, count = mesh.faces, len(mesh.vertices)
        first, last = np.roll(faces, -1, axis=1), np.roll(faces, -2, axis=1)
        every = pair_keys(first, last, count)
        keys, of_face = np.unique(every, return_inverse=True)
        of_face = of_face.reshape(-1, 3)
        order = np.argsort(of_face.reshape(-1), kind="stable")
        forwards = np.bincount(of_face.reshape(-1), (first < last).reshape(-1), minlength=len(keys))
        is_closed = len(order) == 2 * len(keys) and bool((forwards == 1).all())
        starts = np.searchsorted(of_face.reshape(-1)[order], np.arange(len(keys)))
        halves = order[np.stack([starts, np.minimum(starts + 1, len(order) - 1)], axis=1)]
        ends = np.stack([keys // count, keys % count], axis=1)
        return cls(keys, ends, of_face, halves // 3, faces.reshape(-1)[halves], is_closed)

    def sides(self, mesh: Triangles) -> Index:
        """The sides on which an edge lies, as the bits of a number."""
        return (1 << mesh.sides[self.faces[:, 0]]) | (1 << mesh.sides[self.faces[:, 1]])


def coarsened(mesh: Triangles, sagitta: float, rounds: int) -> Triangles:
    """Draw vertices onto others while edges stray from the surface no more than `sagitta`, as normals say.

    Planes, and where they meet the surface, keep their place; so do creases, where normals say too little.
    The mesh keeps the vertices that no triangle has any more.
    """
    random = np.random.default_rng(0)
    stays = bent(mesh, CREASED)
    for number in range(rounds):
        before = len(mesh.faces)
        mesh = _collapsed(flipped(mesh, sagitta, stays), sagitta, stays, random)
        if len(mesh.faces) > 0.995 * before and number % 3 == 2:
            break
    return mesh


def flipped(mesh: Triangles, sagitta: float, stays: Bool[np.ndarray, " vertices"]) -> Triangles:
    """Turn the diagonals of pairs of triangles where that makes these rounder, once; but between `stays`."""
    edges, count = mesh.edges, len(mesh.vertices)
    (i, j), (k, m) = edges.ends.T, edges.opposite.T
    is_inner = mesh.sides[edges.faces[:, 0]] == mesh.sides[edges.faces[:, 1]]
    wanted = _cosine(mesh.vertices, k, i, j) + _cosine(mesh.vertices, m, i, j) < -1e-3
    new_keys = pair_keys(k, m, count)
    wanted &= ~stays[edges.ends].all(axis=1)
    at = np.flatnonzero(is_inner & wanted & ~is_in(new_keys, edges.keys))
    at = at[_strays(mesh, k[at], m[at], mesh.sides[edges.faces[at, 0]]) <= sagitta]
    i, j, k, m = i[at], j[at], k[at], m[at]
    # Along which the first face runs from i to j, or back.
    corners = mesh.faces[edges.faces[at, 0]]
    forwards = (np.roll(corners, -1, axis=1) == j[:, None])[corners == i[:, None]]
    i, j = np.where(forwards, i, j), np.where(forwards, j, i)
    v = mesh.vertices
    first, last = normals_of(v[i], v[m], v[k]), normals_of(v[j], v[k], v[m])
    outward = _outward(mesh, [i, j, k, m], mesh.sides[edges.faces[at, 0]])
    is_good = _is_along(first, outward) & _is_along(last, outward)
    at, i, j, k, m = at[is_good], i[is_good], j[is_good], k[is_good], m[is_good]
    taken = _independent(np.stack([i, j, k, m], axis=1), np.random.default_rng(1).permutation(len(at)), count)
    faces = mesh.faces.copy()
    faces[edges.faces[at[taken], 0]] = np.stack([i, m, k], axis=1)[taken]
    faces[edges.faces[at[taken], 1]] = np.stack([j, k, m], axis=1)[taken]
    return replace(mesh, faces=faces)


def centred(mesh: Triangles, is_moved: Bool[np.ndarray, " vertices"]) -> Vectors:
    """Return the vertices, some of them drawn along their side into the middle of their neighbours."""
    first, last = mesh.edges.ends.T
    total = np.zeros_like(mesh.vertices)
    np.add.at(total, first, mesh.vertices[last])
    np.add.at(total, last, mesh.vertices[first])
    number = np.bincount(mesh.edges.ends.reshape(-1), minlength=len(total))
    step = total / np.maximum(number, 1)[:, None] - mesh.vertices
    step -= (step * mesh.vertex_normals).sum(axis=1, keepdims=True) * mesh.vertex_normals
    return np.where(is_moved[:, None], mesh.vertices + step, mesh.vertices)


def bent(mesh: Triangles, cosine: float = BENT) -> Bool[np.ndarray, " vertices"]:
    """Return which vertices have a triangle that leans far from the surface as its corners have it."""
    found = np.zeros(len(mesh.vertices), bool)
    outward = _outward(mesh, list(mesh.faces.T), mesh.sides)
    found[mesh.faces[~_is_along(mesh.normals, outward, cosine)]] = True
    return found


def unfolded(mesh: Triangles, moved: Vectors) -> Triangles:
    """Move vertices, but for those at triangles that would turn over or become thin."""
    corners = moved[mesh.faces].transpose(1, 0, 2)
    is_bad = ~_is_along(normals_of(*corners), _outward(mesh, list(mesh.faces.T), mesh.sides))
    is_bad |= _shape(*corners) < SHAPE
    stays = np.zeros(len(moved), bool)
    stays[mesh.faces[is_bad]] = True
    return replace(mesh, vertices=np.where(stays[:, None], mesh.vertices, moved))


def evened(mesh: Triangles) -> Triangles:
    """Space the vertices inside of planes evenly, so that the lines about these find room to move."""
    bits = mesh.vertex_sides
    return unfolded(mesh, centred(mesh, (bits > 1) & (bits & (bits - 1) == 0)))


def split(mesh: Triangles, edges: Index, middles: Vectors, turns: bool = True) -> Triangles:
    """Cut edges in two at given points; the triangles on both sides are cut along.

    Unless it `turns`, edges whose triangles would turn by much are left as they are.
    """
    while True:
        found, parents = _split(mesh, edges, middles)
        is_turned = ~_is_along(found.normals, mesh.normals[parents])
        is_turned &= (found.faces >= len(mesh.vertices)).any(axis=1)
        if turns or not is_turned.any():
            return found
        left = ~np.isin(edges, mesh.edges.of_face[parents[is_turned]])
        edges, middles = edges[left], middles[left]


def _split(mesh: Triangles, edges: Index, middles: Vectors) -> tuple[Triangles, Index]:
    """Return the mesh with the edges cut, and of which of its triangles each is a part."""
    new = np.full(len(mesh.edges.keys), -1, np.int64)
    new[edges] = len(mesh.vertices) + np.arange(len(edges))
    vertices = np.concatenate([mesh.vertices, middles])
    middle = new[mesh.edges.of_face]  # opposite each corner, -1 where there is none
    cut = middle >= 0
    number = cut.sum(axis=1)
    # So that the first corner is opposite the only edge that is cut, or the only one that is not.
    turn = np.where(number == 1, cut.argmax(axis=1), np.where(number == 2, (~cut).argmax(axis=1), 0))
    rolled = (np.arange(3) + turn[:, None]) % 3
    a, b, c = np.take_along_axis(mesh.faces, rolled, axis=1).T
    x, y, z = np.take_along_axis(middle, rolled, axis=1).T
    parts = [(number == 0, [a, b, c]), (number == 1, [a, b, x]), (number == 1, [a, x, c])]
    # With two cuts: the corner between them, and a quadrangle that is cut along its shorter diagonal.
    length = np.linalg.norm(vertices[[b, c]] - vertices[[y, z]], axis=2)
    first, last = (number == 2) & (length[0] <= length[1]), (number == 2) & (length[0] > length[1])
    parts += [(number == 2, [a, z, y]), (first, [z, b, y]), (first, [b, c, y])]
    parts += [(last, [z, b, c]), (last, [z, c, y])]
    parts += [(number == 3, three) for three in ([a, z, y], [z, b, x], [y, x, c], [x, y, z])]
    faces = np.concatenate([np.stack(corners, axis=1)[where] for where, corners in parts])
    parents = np.concatenate([np.flatnonzero(where) for where, _ in parts])
    return Triangles(vertices, faces, mesh.sides[parents]), parents


def pair_keys(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Return one number for each pair of vertices, whatever their order."""
    return np.minimum(first, last).astype(np.int64) * count + np.maximum(first, last)


def normals_of(first: Vectors, second: Vectors, third: Vectors) -> Vectors:
    return np.cross(second - first, third - first)


def unit(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)


def _collapsed(
    mesh: Triangles, sagitta: float, stays: Bool[np.ndarray, " vertices"], random: np.random.Generator
) -> Triangles:
    """Draw vertices onto neighbours, those that are near first, as many as do not touch."""
    count, edges = len(mesh.vertices), mesh.edges
    target, length = _nearest_allowed(mesh, stays, random)
    face, corner = np.divmod(np.arange(mesh.faces.size), 3)
    i = mesh.faces.reshape(-1)
    j = target[i]
    a, b = mesh.faces[face, (corner + 1) % 3], mesh.faces[face, (corner + 2) % 3]
    is_removed = (a == j) | (b == j)
    moved = np.flatnonzero((j >= 0) & ~is_removed)
    i, j, a, b, face = i[moved], j[moved], a[moved], b[moved], face[moved]
    v, sides = mesh.vertices, mesh.sides[face]
    new = normals_of(v[j], v[a], v[b])
    is_round = _shape(v[j], v[a], v[b]) > np.minimum(SHAPE, _shape(v[i], v[a], v[b]))
    is_good = is_round & _is_along(new, _outward(mesh, [j, a, b], sides))
    is_good &= _strays(mesh, j, a, sides) <= sagitta
    is_good &= _strays(mesh, j, b, sides) <= sagitta
    bad = np.bincount(i, ~is_good, minlength=count)
    # No vertex may be a neighbour of both but the two that lie opposite the edge.
    shared = np.bincount(i, is_in(pair_keys(a, j, count), edges.keys), minlength=count)
    valence = np.bincount(edges.ends.reshape(-1), minlength=count)
    ring = np.full((count, int(valence.max(initial=0)) + 1), -1, np.int64)
    source, neighbour = np.concatenate([edges.ends, edges.ends[:, ::-1]]).T
    order = np.argsort(source, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(source[order], source[order])
    ring[source[order], place] = neighbour[order]
    ring[:, -1] = np.arange(count)
    opposite = _opposite_valence(mesh, target, valence)
    wanted = np.flatnonzero((target >= 0) & (bad == 0) & (shared <= 1) & (opposite > 3))
    # Counted from the faces that stay, the one neighbour that both have is met once, the other as `b`.
    taken = _independent(ring[wanted], np.argsort(np.argsort(length[wanted])), count)
    onto = np.arange(count)
    onto[wanted[taken]] = target[wanted[taken]]
    faces = onto[mesh.faces]
    stays = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    return Triangles(mesh.vertices, faces[stays], mesh.sides[stays])


def _nearest_allowed(
    mesh: Triangles, stays: Bool[np.ndarray, " vertices"], random: np.random.Generator
) -> tuple[Index, Float[np.ndarray, "_"]]:
    """For each vertex a near neighbour onto which it may be drawn, or -1, and how far away it is.

    A vertex at which several sides meet moves only along the line where they do.
    """
    count, edges = len(mesh.vertices), mesh.edges
    source, target = np.concatenate([edges.ends, edges.ends[:, ::-1]]).T
    sides = np.tile(edges.sides(mesh), 2)
    length = np.linalg.norm(mesh.vertices[source] - mesh.vertices[target], axis=1)
    length = length * random.uniform(1, 2, len(length))  # in another round it is another one
    allowed = np.flatnonzero((mesh.vertex_sides[source] == sides) & ~stays[source])
    order = allowed[np.lexsort((length[allowed], source[allowed]))]
    first = order[np.unique(source[order], return_index=True)[1]]
    found, distance = np.full(count, -1, np.int64), np.full(count, np.inf)
    found[source[first]], distance[source[first]] = target[first], length[first]
    return found, distance


def _opposite_valence(mesh: Triangles, target: Index, valence: Index) -> Index:
    """For each vertex the least number of neighbours that a vertex opposite its edge to its target has."""
    edges, count = mesh.edges, len(mesh.vertices)
    at = np.searchsorted(edges.keys, pair_keys(np.arange(count), np.maximum(target, 0), count))
    at = np.minimum(at, len(edges.keys) - 1)
    return valence[edges.opposite[at]].min(axis=1)


def _strays(mesh: Triangles, first: Index, last: Index, sides: Index) -> Float[np.ndarray, " pairs"]:
    """Estimate how far an edge of a side strays from the surface: not at all on a plane.

    An arc whose ends lean by p and q against its chord of length s rises by s (p + q) / 8.
    """
    chord = mesh.vertices[last] - mesh.vertices[first]
    length = np.linalg.norm(chord, axis=1)
    chord = chord / np.maximum(length, 1e-300)[:, None]
    lean = np.abs((chord * mesh.vertex_normals[first]).sum(axis=1))
    lean += np.abs((chord * mesh.vertex_normals[last]).sum(axis=1))
    # On a line where several sides meet, it is a curve of its plane, which bends as the plane cuts.
    is_line = (mesh.vertex_sides[first] & mesh.vertex_sides[last] & ~1) != 0
    return np.where((sides == 0) | is_line, length * lean / 8 * np.where(is_line, 1.5, 1), 0.0)


def _outward(mesh: Triangles, corners: Sequence[Index], sides: Index) -> Vectors:
    """Return the outward direction of triangles by their corners, or of the plane that they are on."""
    curved = sum(mesh.vertex_normals[corner] for corner in corners)
    return np.where(sides[:, None] == 0, curved, mesh.side_normals[sides])


def _independent(
    groups: Int[np.ndarray, "wanted members"], rank: Index, count: int
) -> Bool[np.ndarray, " wanted"]:
    """Choose groups of vertices that have none in common, of lower rank first; -1 is no vertex."""
    owner = np.full(count, NO_VERTEX)
    known = groups >= 0
    np.minimum.at(owner, groups[known], np.broadcast_to(rank[:, None], groups.shape)[known])
    return ((owner[groups] == rank[:, None]) | ~known).all(axis=1)


def is_in(keys: np.ndarray, ascending: np.ndarray) -> Bool[np.ndarray, "*keys"]:
    """Return which numbers are among ascending ones."""
    if not len(ascending):
        return np.zeros(keys.shape, bool)
    return ascending[np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)] == keys


def _is_along(first: Vectors, second: Vectors, cosine: float = BENT) -> Bool[np.ndarray, "_"]:
    dot = (first * second).sum(axis=1)
    return dot > cosine * np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)


def _shape(first: Vectors, second: Vectors, third: Vectors) -> Float[np.ndarray, "_"]:
    """Of triangles, 1 for an equilateral one: four times the root of 3 times area over squares of sides."""
    squares = sum(((p - q) ** 2).sum(axis=1) for p, q in ((first, second), (second, third), (third, first)))
    area = np.linalg.norm(normals_of(first, second, third), axis=1) / 2
    return 4 * np.sqrt(3) * area / np.maximum(squares, 1e-300)


def _cosine(vertices: Vectors, apex: Index, first: Index, last: Index) -> Float[np.ndarray, "_"]:
    a, b = vertices[first] - vertices[apex], vertices[last] - vertices[apex]
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(length, 1e-300)
