"""The boundary of a class as a mesh whose vertices lie between the voxels."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32
from scipy import ndimage

from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ConfigError
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.maps import class_name
from swipe_core.progress import Progress

# Voxels on either side of a change of class at which the field is evaluated. One is enough for the mesh;
# the second mends what refining at boundaries has filled in without asking.
BAND = 2


@dataclass(frozen=True, eq=False)
class Surface:
    """A closed mesh of triangles around a class.

    Attributes
    ----------
    vertices_world : (vertices, 3)
        In array-axis order, (z, y, x).
    faces : (faces, 3)
        Indices of vertices. With the components in that order, the normals
        (v1 - v0) x (v2 - v0) point out of the class.
    unit
        Of the world.
    """

    vertices_world: Float32[np.ndarray, "vertices 3"]
    faces: Int32[np.ndarray, "faces 3"]
    class_name: str
    unit: str

    @property
    def area(self) -> float:
        """In unit^2."""
        return 0.5 * float(np.linalg.norm(self._normals(), axis=1).sum())

    @property
    def volume(self) -> float:
        """The volume that the surface encloses, in unit^3, by the divergence theorem."""
        return float((self._corners()[:, 0] * self._normals()).sum()) / 6

    def _normals(self) -> Float[np.ndarray, "faces 3"]:
        """Outward, of twice the length of a triangle's area."""
        first, second, third = self._corners().transpose(1, 0, 2)
        return np.cross(second - first, third - first)

    def _corners(self) -> Float[np.ndarray, "faces 3 3"]:
        """Corners of the triangles, about a vertex so that a far origin costs no precision."""
        vertices = self.vertices_world.astype(np.float64)
        return (vertices - vertices[:1])[self.faces]


def iter_surface(field: OccupancyField, grid: Grid, class_index: int) -> Generator[Progress, None, Surface]:
    """The surface where the score of a class equals the largest of the others', by marching cubes.

    A label map is rendered by refinement, and the scores are evaluated only within two voxels of the
    class's boundary there, so that the cost grows with the surface. Vertices lie where the difference
    of the scores, interpolated between voxel centres, is zero. Where the class reaches the border of
    the grid, the surface is closed half a voxel beyond the last centres. A class that is nowhere has
    an empty surface.

    Parameters
    ----------
    grid
        The lattice, in the world, between whose points the surface runs.
    class_index
        0 for the background, 1, 2, ... for the classes.

    Raises
    ------
    ConfigError
        When the field is not of three dimensions or has no such class.
    """
    if field.ndim != 3:
        raise ConfigError(
            "A surface needs a model of volumes, and this one is of 2D images: draw its labels."
        )
    name = class_name(field, class_index)
    segmentation = yield from field.iter_render(grid, method="mise")
    box = _box(segmentation.array == class_index)
    if box is None:
        return _mesh(np.full((2, 2, 2), -1, np.float32), grid.affine, name, field.unit)
    inside = segmentation.array[box] == class_index
    part = grid.window([s.start for s in box], inside.shape)
    difference = yield from _iter_difference(field, part, inside, class_index)
    return _mesh(difference, part.affine, name, field.unit)


def _box(inside: Bool[np.ndarray, "z y x"]) -> tuple[slice, ...] | None:
    """The part of a grid in which a class lies, and as much around it as is evaluated; None if nowhere."""
    boxes = ndimage.find_objects(inside.view(np.uint8))
    if not boxes:
        return None
    return tuple(
        slice(max(s.start - BAND, 0), min(s.stop + BAND, n))
        for s, n in zip(boxes[0], inside.shape, strict=True)
    )


def _iter_difference(
    field: OccupancyField, grid: Grid, inside: Bool[np.ndarray, "z y x"], class_index: int
) -> Generator[Progress, None, Float32[np.ndarray, "z y x"]]:
    """The class's score less the largest other, near its boundary; elsewhere a number of the same sign."""
    cube = np.ones((3, 3, 3), bool)
    near = ndimage.binary_dilation(inside, cube, BAND)
    near &= ~ndimage.binary_erosion(inside, cube, BAND, border_value=1)
    indices = np.argwhere(near)
    found = np.empty(len(indices), np.float32)
    for start in range(0, len(indices), field.chunk_points):
        chunk = slice(start, start + field.chunk_points)
        scores = field.scores(grid.affine.apply(indices[chunk].astype(np.float64)))
        found[chunk] = scores[:, class_index] - np.delete(scores, class_index, axis=1).max(axis=1)
        yield Progress("Tracing the surface", min(chunk.stop, len(indices)), len(indices))
    largest = np.abs(found).max(initial=1)
    difference = np.where(inside, largest, -largest).astype(np.float32)
    difference[near] = found
    return difference


def _mesh(difference: Float32[np.ndarray, "z y x"], affine: Affine, name: str, unit: str) -> Surface:
    """The surface of zero difference, closed half a voxel beyond the border."""
    from skimage.measure import marching_cubes

    if not (difference > 0).any():
        return Surface(np.empty((0, 3), np.float32), np.empty((0, 3), np.int32), name, unit)
    # Beyond the border the value is the negative of the last one: zero lies half-way.
    padded = -np.abs(np.pad(difference, 1, mode="edge"))
    padded[1:-1, 1:-1, 1:-1] = difference
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="ascent", allow_degenerate=False)
    # An affine that mirrors turns every triangle round.
    if np.linalg.det(affine.linear) < 0:
        faces = faces[:, ::-1]
    vertices_world = affine.apply(vertices.astype(np.float64) - 1)
    return Surface(vertices_world.astype(np.float32), np.ascontiguousarray(faces, np.int32), name, unit)
