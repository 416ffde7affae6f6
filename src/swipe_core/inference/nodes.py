"""`NodeLattice`: the scores of a field about its boundaries, on a lattice up to the border of the image."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from swipe_core.coordinates import Affine, Grid
from swipe_core.inference.boundary import differences
from swipe_core.inference.field import OccupancyField
from swipe_core.progress import Progress

CELL = 2.0  # times the finest spacing of the encoded image: thicker voxels are cut in the first lattice


@dataclass(frozen=True, eq=False)
class NodeLattice:
    """Classes at the nodes of a lattice, and the scores at the corners of cells where classes meet."""

    grid: Grid
    """The nodes; the outermost ones lie on the border of what is covered."""
    labels: UInt8[np.ndarray, "*shape"]
    """The class at each node."""
    index: Int[np.ndarray, " known"]
    scores: Float[np.ndarray, "known classes"]
    """`index` and `scores`: flat indices of nodes in ascending order, and all scores there."""

    def part(self, class_index: int) -> tuple[tuple[int, ...], Float[np.ndarray, "*part"]] | None:
        """Return the first node of a part that holds a class, and its score less the largest other there.

        About the class there is a layer of nodes outside of it, also beyond the lattice. Away from the
        boundary the values have the right sign alone. None where the class is nowhere.
        """
        boxes = ndimage.find_objects((self.labels == class_index).view(np.uint8))
        if not boxes:
            return None
        start = np.array([s.start for s in boxes[0]]) - 1
        stop = np.array([s.stop for s in boxes[0]]) + 1
        known = differences(self.scores, class_index)
        far = float(np.abs(known).max(initial=1.0))
        values = np.full(tuple(stop - start), -far)
        inner = tuple(
            slice(max(a, 0), min(b, n)) for a, b, n in zip(start, stop, self.labels.shape, strict=True)
        )
        within = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inner, start, strict=True))
        values[within][self.labels[inner] == class_index] = far
        at = np.stack(np.unravel_index(self.index, self.labels.shape), axis=1) - start
        is_here = ((at >= 0) & (at < values.shape)).all(axis=1)
        values[tuple(at[is_here].T)] = known[is_here]
        return tuple(int(first) for first in start), values


def node_grid(grid: Grid, cell: float, flat: Sequence[int] = ()) -> Grid:
    """Return the lattice of nodes over a grid: its voxels, cut where they are longer than `cell`.

    The outermost nodes lie on the borders of the outermost voxels; along `flat` axes, which have one voxel,
    in its centre.
    """
    is_flat = np.isin(np.arange(grid.ndim), flat)
    cells = [
        0 if flat else n * math.ceil(s / cell - 1e-6)
        for n, s, flat in zip(grid.shape, grid.spacing, is_flat, strict=True)
    ]
    step = np.array([1.0 if c == 0 else n / c for n, c in zip(grid.shape, cells, strict=True)])
    inner = Affine.from_parts(np.diag(step), np.where(is_flat, 0.0, -0.5))
    return Grid(tuple(c + 1 for c in cells), grid.affine @ inner)


def iter_nodes(field: OccupancyField, grid: Grid) -> Generator[Progress, None, NodeLattice]:
    """Find all boundaries of a field on a lattice of nodes: classes by refinement, scores beside changes.

    Every corner of a cell whose corners are not of one class is evaluated.
    """
    segmentation = yield from field.iter_render(grid, method="mise")
    labels = np.ascontiguousarray(segmentation.array, dtype=np.uint8)
    index, scores = np.empty(0, np.int64), np.empty((0, 1 + len(field.class_names)), np.float32)
    while True:
        new = np.setdiff1d(np.flatnonzero(_corners_of_mixed_cells(labels)), index, assume_unique=True)
        if not len(new):
            order = np.argsort(index)
            return NodeLattice(grid, labels, index[order], scores[order])
        points = grid.affine.apply(np.stack(np.unravel_index(new, grid.shape), axis=1).astype(np.float64))
        found = yield from iter_scores(field, points, "Tracing boundaries")
        index, scores = np.concatenate([index, new]), np.concatenate([scores, found])
        labels.reshape(-1)[new] = found.argmax(axis=1)  # what refining had filled in without asking


def iter_scores(
    field: OccupancyField, points_world: Float[np.ndarray, "points ndim"], stage: str
) -> Generator[Progress, None, Float[np.ndarray, "points classes"]]:
    """Return the scores of a field at points of the world; yields progress after each chunk."""
    scores = np.empty((len(points_world), 1 + len(field.class_names)), np.float32)
    for start in range(0, len(points_world), field.chunk_points):
        part = slice(start, start + field.chunk_points)
        scores[part] = field.scores(points_world[part])
        yield Progress(stage, min(part.stop, len(points_world)), len(points_world))
    return scores


def _mixed_cells(labels: UInt8[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*cells"]:
    """Whether the corners of a cell are of several classes."""
    low, high = labels, labels
    for axis, length in enumerate(labels.shape):
        if length > 1:
            first, last = _ends(axis, labels.ndim)
            low = np.minimum(low[first], low[last])
            high = np.maximum(high[first], high[last])
    return low != high


def _corners_of_mixed_cells(labels: UInt8[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """Whether a node is a corner of a cell that has corners of several classes."""
    mixed = _mixed_cells(labels)
    for axis, length in enumerate(labels.shape):
        if length > 1:
            widths = [(1, 1) if a == axis else (0, 0) for a in range(labels.ndim)]
            padded = np.pad(mixed, widths)
            first, last = _ends(axis, labels.ndim)
            mixed = padded[first] | padded[last]
    return mixed


def _ends(axis: int, ndim: int) -> tuple[Any, Any]:
    """Return the index of all but the last along an axis, and that of all but the first."""
    first = tuple(slice(None, -1) if a == axis else slice(None) for a in range(ndim))
    last = tuple(slice(1, None) if a == axis else slice(None) for a in range(ndim))
    return first, last
