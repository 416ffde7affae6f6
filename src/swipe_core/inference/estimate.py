"""Estimates of what a render will cost, before it starts."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from swipe_core.coordinates import Grid
from swipe_core.inference.field import Method, OccupancyField, Segmentation

# Points that refining at a boundary asks on a level of the lattice, for each pair of neighbouring
# voxels of different classes there: as counted on discs and balls of any size. The first level is
# refined with a margin, the others at the boundary alone.
FIRST_POINTS_PER_CHANGE = {2: 5.0, 3: 6.0}
POINTS_PER_CHANGE = {2: 2.1, 3: 2.7}
# As counted on the samples: triangles over area / (radius x tolerance), vertices over the length by
# sqrt(8 x radius x tolerance), and as how many points of a render each of them takes.
TRIANGLES, VERTICES, POINTS_PER_ELEMENT = 1.9, 2.0, 80


@dataclass(frozen=True)
class RenderEstimate:
    """An estimate of the cost of a render."""

    shape: tuple[int, ...]
    voxels: int
    label_bytes: int
    """Of the finished label map, one for each voxel."""
    points: int
    """At how many the field will be asked."""
    seconds: float


@dataclass(frozen=True)
class BoundaryEstimate:
    """An estimate of what the boundary of all classes becomes within a tolerance."""

    elements: int
    """Triangles of meshes, or vertices of contours."""
    seconds: float


@dataclass(frozen=True, eq=False)
class RenderCost:
    """The cost of rendering a field, known from one render of it.

    Attributes
    ----------
    grid
        Of that render.
    changes
        Pairs of neighbouring voxels whose classes differ there: a measure of the boundary.
    inside
        Voxels of any class there.
    seconds_per_point
        Of that render, all its work included.
    """

    field: OccupancyField
    grid: Grid
    changes: int
    inside: int
    seconds_per_point: float

    @classmethod
    def measured(cls, field: OccupancyField, segmentation: Segmentation, seconds: float) -> RenderCost:
        """Measure it by a render of the whole image, by either method, and the time that it took."""
        per_point = seconds / max(segmentation.evaluated_points, 1)
        labels = segmentation.array
        return cls(field, segmentation.grid, _changes(labels), int(np.count_nonzero(labels)), per_point)

    def estimate(self, grid: Grid, method: Method | None = None) -> RenderEstimate:
        """The cost on another grid; `method` is as configured by default.

        Dense rendering asks at every voxel. MISE asks at the first lattice and, on each level of
        refinement, in proportion to the voxels on the boundary: as many as in the measured render,
        times the ratio of voxel sizes to the power of ndim - 1, and times the share of the world that
        the grid covers.
        """
        strides = (1,) * grid.ndim
        if (method or self.field.config.method) == "mise":
            strides = self.field.lattice_stride(grid)
        lattice = math.prod(-(-(n - 1) // s) + 1 for n, s in zip(grid.shape, strides, strict=True))
        points = min(grid.voxels, round(lattice + self._refined(grid, strides)))
        return RenderEstimate(grid.shape, grid.voxels, grid.voxels, points, points * self.seconds_per_point)

    def estimate_boundary(self, tolerance: float, slices: int | None = None) -> BoundaryEstimate:
        """The cost of drawing the boundary of all classes, from how large and how curved it is.

        `tolerance`: in units of the world.
        `slices`: of a volume, in which there are contours; by default it becomes a mesh.
        """
        grid, ndim = self.grid, self.grid.ndim
        step = _voxel(grid) ** (1 / ndim)
        # A boundary that lies in no direction more than in others changes so many pairs for its size.
        size = self.changes * step ** (ndim - 1) * (np.pi / 4 if ndim == 2 else 2 / 3)
        radius = ndim * max(self.inside, 1) * _voxel(grid) / max(size, step)
        if ndim == 3 and slices is None:
            elements = TRIANGLES * size / (radius * tolerance)
        else:
            length = size if slices is None else size * np.pi / 4 / grid.spacing[0] * slices / grid.shape[0]
            elements = VERTICES * length / np.sqrt(8 * radius * tolerance)
        first = self.estimate(self.field.grid, "mise").points
        seconds = (first + POINTS_PER_ELEMENT * elements) * self.seconds_per_point
        return BoundaryEstimate(round(elements), seconds)

    def _refined(self, grid: Grid, strides: tuple[int, ...]) -> float:
        """Points asked beyond the first lattice, on the levels that its longest steps are halved to."""
        ratio = _voxel(self.grid) / _voxel(grid)
        share = min(1.0, grid.voxels / self.grid.voxels / ratio)
        changes = self.changes * share * ratio ** ((grid.ndim - 1) / grid.ndim)
        points, per_change = 0.0, FIRST_POINTS_PER_CHANGE[grid.ndim]
        while max(strides) > 1:
            longest = max(strides)
            strides = tuple(step // 2 if step == longest else step for step in strides)
            # A boundary that lies in no direction more than in others meets the pairs along each axis alike.
            meets = statistics.mean(strides) / math.prod(strides)
            points += per_change * changes * meets
            per_change = POINTS_PER_CHANGE[grid.ndim]
        return points


def _voxel(grid: Grid) -> float:
    """The volume of a voxel in the world."""
    return float(abs(np.linalg.det(grid.affine.linear)))


def _changes(labels: Integer[np.ndarray, "*shape"]) -> int:
    axes = [np.moveaxis(labels, axis, 0) for axis in range(labels.ndim)]
    return sum(int(np.count_nonzero(along[1:] != along[:-1])) for along in axes)
