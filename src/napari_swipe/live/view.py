"""What napari asks of a live layer: a part of a level, cut into tiles, and what is known of it already."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_swipe.live.pyramid import LabelPyramid
    from swipe_core.coordinates import Grid

TILE = {1: 4096, 2: 256}  # pixels along each side, by the number of displayed axes
TILE_OF_VOLUMES = 64
UNIFORM_MARGIN = 2  # voxels of the coarsest level
LARGEST_DECODE = 2**22  # voxels decoded in one go, so that a newer request need not wait long

Request = tuple[range | int, ...]
"""For each axis of the labels the displayed indices of a level, or the index at which it is sliced."""
Tile = tuple[int, ...]
"""The number of a tile along each displayed axis."""


class View:
    """One request of napari's: a level, its displayed ranges, and where the other axes are sliced."""

    def __init__(self, pyramid: LabelPyramid, level: int, axes: Request, displayed: list[int]) -> None:
        self.pyramid, self.level, self.axes, self.displayed = pyramid, level, axes, displayed
        self.sliced_space = [axis for axis in pyramid.axes.space if axis not in displayed]
        exact = pyramid.positions() if pyramid.positions else [None] * len(axes)
        self.sliced = {axis: self._base_position(axis, exact[axis]) for axis in self.sliced_space}
        self.tile = TILE.get(len(displayed), TILE_OF_VOLUMES)

    def _base_position(self, axis: int, exact: float | None) -> float:
        """Where a spatial axis is sliced, in voxels of the coarsest level."""
        finest = float(2**self.pyramid.coarsest)
        step = finest / self.pyramid.factor(self.level)
        index = self.axes[axis]
        assert isinstance(index, int)
        if exact is None or abs(exact / step - index) > 1:
            exact = index * step
        # Rounded, so that a slider that comes back finds its tiles.
        return round((exact + 0.5) / finest - 0.5, 5)

    def tiles(self) -> list[Tile]:
        """The tiles that meet the request, from the centre outwards."""
        ranges = [self._range(axis) for axis in self.displayed]
        centre = [(r.start + r.stop) / 2 / self.tile - 0.5 for r in ranges]
        covered = itertools.product(*(range(r.start // self.tile, -(-r.stop // self.tile)) for r in ranges))
        return sorted(covered, key=lambda tile: sum((t - c) ** 2 for t, c in zip(tile, centre, strict=True)))

    def key(self, tile: Tile) -> tuple[Any, ...]:
        indices = [axis if isinstance(axis, int) else None for axis in self.axes]
        fixed = tuple(self.sliced.get(axis, index) for axis, index in enumerate(indices))
        return (self.level, fixed, tuple(self.displayed), tile)

    def overlap(self, tile: Tile) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where a tile lies in the request, and which part of the tile that is."""
        place, inner = [], []
        for axis, number in zip(self.displayed, tile, strict=True):
            wanted = self._range(axis)
            start, stop = max(wanted.start, number * self.tile), min(wanted.stop, (number + 1) * self.tile)
            place.append(slice(start - wanted.start, stop - wanted.start))
            inner.append(slice(start - number * self.tile, stop - number * self.tile))
        return tuple(place), tuple(inner)

    def groups(self, tiles: list[Tile]) -> list[list[Tile]]:
        """Tiles that are decoded together: all of them, or one by one where they are too many."""
        if math.prod(len(as_range(axis)) for axis in self._displayed(self.box(tiles))) <= LARGEST_DECODE:
            return [tiles]
        return [[tile] for tile in tiles]

    def box(self, tiles: list[Tile]) -> Request:
        """The request of the smallest box that holds whole tiles."""
        shape = self.pyramid.shape(self.level)
        axes = list(self.axes)
        for place, axis in enumerate(self.displayed):
            first, last = min(t[place] for t in tiles), max(t[place] for t in tiles)
            axes[axis] = range(first * self.tile, min((last + 1) * self.tile, shape[axis]))
        return tuple(axes)

    def tiles_of(self, box: Request) -> list[Tile]:
        """The whole tiles in a box."""
        ranges = self._displayed(box)
        return list(
            itertools.product(*(range(r.start // self.tile, -(-r.stop // self.tile)) for r in ranges))
        )

    def place(self, tile: Tile, box: Request) -> tuple[slice, ...]:
        """Where a tile lies in the array of a box."""
        starts = [n * self.tile - r.start for n, r in zip(tile, self._displayed(box), strict=True)]
        return tuple(slice(start, start + self.tile) for start in starts)

    def _displayed(self, axes: Request) -> list[range]:
        return [as_range(axes[axis]) for axis in self.displayed]

    def is_uniform(self, tile: Tile) -> bool:
        """Whether no boundary can be near a tile, going by the coarsest level.

        Only where that level is about as fine as the first lattice of MISE, which would decide the same.
        """
        return self.pyramid.is_fine_enough and _is_constant(self._coarse_around(self._cut(tile)))

    def grid(self, axes: Request) -> Grid:
        """The lattice of a request over space, one voxel thick where it is sliced."""
        from swipe_core.coordinates import Affine, Grid

        factor = self.pyramid.factor(self.level)
        shape, origin, step = [], [], []
        for axis in self.pyramid.axes.space:
            wanted = axes[axis]
            if isinstance(wanted, range):
                shape.append(len(wanted))
                origin.append((wanted.start + 0.5) / factor - 0.5)
                step.append(1 / factor)
            else:
                shape.append(1)
                origin.append(self.sliced[axis])
                step.append(1.0)
        base = self.pyramid.plan.base.affine
        return Grid(tuple(shape), base @ Affine.from_parts(np.diag(step), np.asarray(origin)))

    def approximation(self, tile: Tile) -> np.ndarray:
        """A tile from the sharpest coarser tiles that are known, else from the coarsest level."""
        axes = self._cut(tile)
        for level in range(self.level + 1, self.pyramid.coarsest + 1):
            known = self._from_parent(axes, level)
            if known is not None:
                return known
        return self._coarse(axes)

    def coarse(self) -> np.ndarray:
        """The request from the coarsest level."""
        return self._coarse(self.axes)

    def _cut(self, tile: Tile) -> Request:
        """The part of the request that lies in a tile."""
        axes = list(self.axes)
        place, _ = self.overlap(tile)
        for axis, part in zip(self.displayed, place, strict=True):
            axes[axis] = self._range(axis)[part]
        return tuple(axes)

    def _from_parent(self, axes: Request, level: int) -> np.ndarray | None:
        ratio = 2 ** (level - self.level)
        space = self.pyramid.axes.space
        parents = [
            as_range(axes[axis]) if axis not in space else _coarser_range(as_range(axes[axis]), ratio)
            for axis in self.displayed
        ]
        tile = tuple(parent.start // self.tile for parent in parents)
        if any((p.stop - 1) // self.tile != number for p, number in zip(parents, tile, strict=True)):
            return None
        _, fixed, displayed, _ = self.key(tile)
        found = self.pyramid.cached((level, fixed, displayed, tile))
        if found is None:
            return None
        index = []
        for axis, number in zip(self.displayed, tile, strict=True):
            positions = np.asarray(as_range(axes[axis]))
            index.append((positions // ratio if axis in space else positions) - number * self.tile)
        return found[np.ix_(*index)]

    def _coarse(self, axes: Request) -> np.ndarray:
        index = [np.asarray(positions) for positions in self._coarse_positions(axes, margin=0)]
        return self.pyramid.coarse[np.ix_(*index)].reshape(
            [len(as_range(axes[axis])) for axis in self.displayed]
        )

    def _coarse_around(self, axes: Request) -> np.ndarray:
        """The voxels of the coarsest level that meet a request, and their neighbours."""
        positions = self._coarse_positions(axes, margin=UNIFORM_MARGIN)
        box = tuple(slice(int(p.min()), int(p.max()) + 1) for p in positions)
        return self.pyramid.coarse[box]

    def _coarse_positions(self, axes: Request, margin: int) -> list[np.ndarray]:
        """The voxels of the coarsest level for each index of a request, and up to `margin` beyond."""
        factor = self.pyramid.factor(self.level)
        found = []
        for axis, wanted in enumerate(axes):
            positions = np.asarray(wanted if isinstance(wanted, range) else [wanted])
            if axis in self.sliced:
                positions = np.rint([self.sliced[axis]]).astype(int)
            elif axis in self.pyramid.axes.space:
                positions = positions // factor
            if margin and axis in self.pyramid.axes.space:
                positions = np.asarray([positions.min() - margin, positions.max() + margin])
            found.append(np.clip(positions, 0, self.pyramid.coarse.shape[axis] - 1))
        return found

    def _range(self, axis: int) -> range:
        return as_range(self.axes[axis])


def _is_constant(array: np.ndarray) -> bool:
    return bool((array == array.flat[0]).all())


def as_range(wanted: range | int) -> range:
    assert isinstance(wanted, range)
    return wanted


def _coarser_range(fine: range, ratio: int) -> range:
    return range(fine.start // ratio, -(-fine.stop // ratio))
