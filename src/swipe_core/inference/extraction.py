"""From a classifier of points to a label raster, evaluated only where the classes change.

Multiresolution IsoSurface Extraction (MISE; Mescheder et al., "Occupancy Networks", CVPR 2019),
for any number of classes, in 2D and 3D alike. The cost grows with the boundary, not with the area.

A level is a lattice of points at steps of 2^k output voxels, a k for each axis. A cell of a level
carries the index of its lower corner, and every set of points or cells is an array of such flat
indices without repetition, so that the work of a level is proportional to its front.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt

from swipe_core.errors import ConfigError
from swipe_core.progress import map_reports

Classify = Callable[[Float[np.ndarray, "points ndim"]], Integer[np.ndarray, " points"]]
Indices = Int[np.ndarray, "_"]
Asking = Generator[None, None, Indices]
"""Yields after every call of the classifier; the points whose class was a surprise."""

# As many as a GPU decodes at once; indices and coordinates take 60 to 90 bytes for each.
POINTS_PER_CALL = 2**18


@dataclass(frozen=True, eq=False)
class Extraction:
    """A label raster and what it cost."""

    labels: UInt[np.ndarray, "*shape"]
    """(*shape), the smallest unsigned integers that hold the classes"""
    evaluated_points: int
    """Points that were classified; each of them once."""


def iter_extract(
    classify: Classify,
    shape: Sequence[int],
    stride: int | Sequence[int] = 8,
    margin: int = 1,
    points_per_call: int = POINTS_PER_CALL,
) -> Generator[float, None, Extraction]:
    """The class at each voxel of a raster, from few evaluations.

    All points of a lattice of step `stride` are classified. Every cell whose corners disagree, and
    its neighbours up to `margin` cells away, is split in two along each axis; the others are filled
    with their class. Steps that differ between the axes are halved where they are longest, until all
    are the same. This repeats down to single voxels, without a margin: what the first lattice
    sees only a part of, its margin has brought to light. A boundary that leaves the split cells is
    followed into the filled ones, as in the original: at every change of class in the result the
    voxels on both sides have been evaluated.

    What fits between the points of the first lattice can be missed: a structure thinner than `stride` voxels
    that touches none of them, or a hole of that size. For a fixed object and a `stride` that grows with the
    resolution, the evaluations grow as the boundary does: twofold for each doubling in 2D, fourfold in 3D.
    Raises `ConfigError` when `stride` is not a power of two, or `margin` is negative.

    `classify`: takes points (n, ndim) in the voxel frame of the raster, float64, n <= `points_per_call`, and
    gives their classes (n,), integers >= 0. It never sees a point twice. Points of the first lattice may lie
    beyond the last voxel, by less than `stride`.
    `shape`: voxels along each axis of the raster, in 2D or 3D; a length of 1 is legal.
    `stride`: step of the first lattice in voxels, a power of two, for all axes or for each; 1 evaluates every
    voxel.
    `margin`: cells of the first lattice split around each whose corners disagree; 0 is the original
    algorithm.
    `points_per_call`: most points that `classify` is given at once.

    Yields
    ------
    float
        The share of the work that is done, in [0, 1], after every call of `classify`. It grows level by
        level, as the boundary does; how long a boundary is shows only when it has been followed.

    Returns
    -------
    Extraction
        Peak memory beside that of `classify`: about 4 bytes per voxel where boundaries are sparse.
    """
    steps = (stride,) * len(shape) if isinstance(stride, int) else tuple(stride)
    if any(step < 1 or step & (step - 1) for step in steps):
        given = steps[0] if len(set(steps)) == 1 else steps
        raise ConfigError(f"The extraction stride must be a power of two (1, 2, 4, ...); got {given}.")
    if margin < 0:
        raise ConfigError(f"The extraction margin must be 0 cells or more; got {margin}.")
    level = _Level.coarsest(classify, shape, steps, points_per_call)
    share = _share_until(level)
    for part in level.evaluate_all():
        yield part * share
    evaluated = level.labels.size
    front = np.empty(0, np.intp) if level.is_finest else level.all_cells()
    while True:
        split, count = yield from map_reports(_follow(level, front, margin), _always(share))
        evaluated += count
        share = _share_until(level)
        yield share
        if level.is_finest:
            return Extraction(level.labels, evaluated)
        (level, front), margin = level.refined(split), 0


def _share_until(level: _Level) -> float:
    """The share of the work that ends with a level: its cells meet the boundary in this proportion."""
    return statistics.mean(level.steps) / math.prod(level.steps)


def _always(share: float) -> Callable[[None], float]:
    """Reports the same share whenever the classifier was called."""
    return lambda _: share


def _follow(level: _Level, front: Indices, margin: int) -> Generator[None, None, tuple[Indices, int]]:
    """Evaluate the cells of a front, and those into which the boundary runs out of it.

    Yields after every call of the classifier; returns the cells to split, and how many points were
    evaluated.
    """
    split, count = front[:0], 0
    while front.size:
        points = level.unknown(level.corners(front))
        surprises = yield from level.evaluate(points)
        count += points.size
        # A filled cell can only have come to disagree through a point that was filled otherwise.
        suspects = level.union([front, level.cells_around(surprises)])
        near = level.neighbourhood(suspects[level.disagree(suspects)], margin)
        split = level.union([split, near])
        front = near[level.incomplete(near)]
    return split, count


class _Level:
    """The lattice of some steps: the class of each point, and whether it is known or filled in.

    Points number `points` along each axis and cells `cells`; an axis of one voxel has one point
    and one flat cell.
    """

    def __init__(
        self,
        classify: Classify,
        shape: Sequence[int],
        steps: tuple[int, ...],
        labels: np.ndarray,
        points_per_call: int,
    ) -> None:
        self.classify, self.shape, self.steps, self.labels = classify, shape, steps, labels
        self.points_per_call = points_per_call
        self.points = labels.shape
        self.cells = tuple(max(n - 1, 1) for n in self.points)
        self.known = np.zeros(self.points, bool)
        self._marked = np.zeros(labels.size, bool)
        self._strides = [int(np.prod(self.points[axis + 1 :], dtype=np.int64)) for axis in range(labels.ndim)]

    @classmethod
    def coarsest(
        cls, classify: Classify, shape: Sequence[int], steps: tuple[int, ...], points_per_call: int
    ) -> _Level:
        labels = np.zeros(_lattice_shape(shape, steps), np.uint8)
        return cls(classify, shape, steps, labels, points_per_call)

    @property
    def is_finest(self) -> bool:
        return max(self.steps) == 1

    def refined(self, split: Indices) -> tuple[_Level, Indices]:
        """The level with the longest steps halved, filled from this one; and the parts of the cells."""
        halved = [step == max(self.steps) for step in self.steps]
        steps = tuple(step // 2 if half else step for step, half in zip(self.steps, halved, strict=True))
        shape = _lattice_shape(self.shape, steps)
        labels = _doubled(self.labels, shape, halved)
        fine = _Level(self.classify, self.shape, steps, labels, self.points_per_call)
        ours = tuple(slice(None, None, 2) if half else slice(None) for half in halved)
        shared = tuple(slice((n + 1) // 2 if half else n) for n, half in zip(shape, halved, strict=True))
        fine.known[ours] = self.known[shared]
        index = np.unravel_index(split, self.points)
        lower = [2 * i if half else i for i, half in zip(index, halved, strict=True)]
        parts = np.ravel_multi_index(lower, fine.points)
        for axis, half in enumerate(halved):
            parts = fine._spread_along(parts, axis, (0, 1), fine.cells) if half else parts
        return fine, parts

    # Classes

    def evaluate_all(self) -> Generator[float, None, None]:
        """Classify every point of the level, in C order; yields the share that is done."""
        size = self.labels.size
        for start in range(0, size, self.points_per_call):
            end = min(start + self.points_per_call, size)
            for _ in self.evaluate(np.arange(start, end)):
                yield end / size

    def evaluate(self, points: Indices) -> Asking:
        """Classify points; returns those that had been filled with another class."""
        surprises = [points[:0]]
        points = np.sort(points)  # near to one another, so that a call needs few windows and patches
        for start in range(0, points.size, self.points_per_call):
            batch = points[start : start + self.points_per_call]
            index = np.unravel_index(batch, self.points)
            classes = self.classify(np.stack(index, axis=-1) * np.asarray(self.steps, np.float64))
            self._widen(classes)
            surprises.append(batch[classes != self.labels.reshape(-1)[batch]])
            self.labels.reshape(-1)[batch] = classes
            yield
        self.known.reshape(-1)[points] = True
        return np.concatenate(surprises)

    def _widen(self, classes: np.ndarray) -> None:
        if classes.min() < 0:
            raise ValueError(f"classify must give classes >= 0; got {classes.min()}")
        dtype = np.promote_types(self.labels.dtype, np.min_scalar_type(classes.max()))
        self.labels = self.labels.astype(dtype, copy=False)

    def unknown(self, points: Indices) -> Indices:
        """Those of the points that have not been evaluated."""
        return points[~self.known.reshape(-1)[points]]

    def disagree(self, cells: Indices) -> Bool[np.ndarray, " cells"]:
        """Whether the corners of each cell, known or filled, are of more than one class."""
        labels = self.labels.reshape(-1)
        first = labels[cells]
        differs = np.zeros(cells.size, bool)
        for offset in self._corner_offsets():
            differs |= labels[cells + offset] != first
        return differs

    def incomplete(self, cells: Indices) -> Bool[np.ndarray, " cells"]:
        """Whether some corner of each cell has not been evaluated."""
        known = self.known.reshape(-1)
        complete = np.ones(cells.size, bool)
        for offset in self._corner_offsets():
            complete &= known[cells + offset]
        return ~complete

    # Sets of points and cells

    def all_cells(self) -> Indices:
        """Every cell of the level."""
        index = np.indices(self.cells).reshape(len(self.cells), -1)
        return np.ravel_multi_index(tuple(index), self.points)

    def corners(self, cells: Indices) -> Indices:
        """The points at the corners of cells."""
        return self._spread(cells, (0, 1), self.points)

    def cells_around(self, points: Indices) -> Indices:
        """The cells that have one of the points as a corner."""
        return self._spread(points, (-1, 0), self.cells)

    def neighbourhood(self, cells: Indices, margin: int) -> Indices:
        """Cells and those up to `margin` cells away, across faces, edges and corners."""
        return self._spread(cells, range(-margin, margin + 1), self.cells)

    def union(self, sets: Iterable[Indices]) -> Indices:
        """The indices of all sets, each once. A set on its own must be free of repetition."""
        fresh = []
        for indices in sets:
            # A mark per point takes the place of sorting.
            fresh.append(indices[~self._marked[indices]])
            self._marked[fresh[-1]] = True
        result = np.concatenate(fresh)
        self._marked[result] = False
        return result

    def _spread(self, indices: Indices, steps: Iterable[int], size: Sequence[int]) -> Indices:
        """All indices moved by each step along each axis, as far as they stay within `size`."""
        for axis in range(len(size)):
            indices = self._spread_along(indices, axis, steps, size)
        return indices

    def _spread_along(
        self, indices: Indices, axis: int, steps: Iterable[int], size: Sequence[int]
    ) -> Indices:
        return self.union([self._moved(indices, axis, step, size[axis]) for step in steps])

    def _moved(self, indices: Indices, axis: int, step: int, size: int) -> Indices:
        stride = self._strides[axis]
        position = indices // stride % self.points[axis] + step
        return indices[(position >= 0) & (position < size)] + step * stride

    def _corner_offsets(self) -> list[int]:
        offsets = [0]
        for stride, points in zip(self._strides, self.points, strict=True):
            offsets += [offset + stride for offset in offsets] if points > 1 else []
        return offsets[1:]


def _lattice_shape(shape: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """Points 0, step, 2 step, ... along each axis, up to the first that reaches the last voxel."""
    return tuple(-(-(n - 1) // step) + 1 for n, step in zip(shape, steps, strict=True))


def _doubled(labels: np.ndarray, shape: Sequence[int], halved: Sequence[bool]) -> np.ndarray:
    """Every point repeated twice along the axes whose steps are halved, cut to `shape`."""
    for axis, size in enumerate(shape):
        if not halved[axis]:
            continue
        halves = np.empty((*labels.shape[:axis], size, *labels.shape[axis + 1 :]), labels.dtype)
        before = (slice(None),) * axis
        halves[(*before, slice(0, None, 2))] = labels[(*before, slice((size + 1) // 2))]
        halves[(*before, slice(1, None, 2))] = labels[(*before, slice(size // 2))]
        labels = halves
    return labels
