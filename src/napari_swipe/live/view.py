"""A request of napari to a live layer: a part of a level, cut into tiles, and what is known of it already."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_swipe.layers.field import OutputAxes
    from napari_swipe.live.levels import LevelPlan
    from swipe_core.coordinates import Grid

TILE = {1: 4096, 2: 256}  # pixels along each side, by the number of displayed axes
TILE_OF_VOLUMES = 64
UNIFORM_MARGIN = 2  # voxels of the coarsest level
LARGEST_DECODE = 2**22  # voxels decoded in one go, so that a newer request need not wait long

Request = tuple[range | int, ...]
"""For each axis of the labels the displayed indices of a level, or the index at which it is sliced."""
Tile = tuple[int, ...]
"""The number of a tile along each displayed axis."""
Cached = Callable[[tuple[Any, ...]], np.ndarray | None]
"""Gives the tile of a key, if it was decoded."""


class View:
    """One request of napari's: a level, its displayed ranges, and where the other axes are sliced.

    `axes` and `plan`: of the labels, and of their levels.
    `coarse`: classes on the coarsest level, over the axes of the labels.
    `positions`: where exactly each axis is sliced, in indices of the finest level; None where napari's index
    says it.
    """

    def __init__(
        self,
        axes: OutputAxes,
        plan: LevelPlan,
        level: int,
        request: Request,
        coarse: np.ndarray,
        cached: Cached,
        positions: Sequence[float | None] | None = None,
    ) -> None:
        self.axes, self.plan, self.level, self.request = axes, plan, level, request
        self._coarse, self._cached, self._factor = coarse, cached, plan.factor(level)
        self.displayed = displayed_axes(request)
        self.sliced = {
            axis: self._base_position(index, positions[axis] if positions else None)
            for axis, index in enumerate(request)
            if axis in axes.space and isinstance(index, int)
        }
        """Where spatial axes are sliced, in voxels of the coarsest level."""
        self.tile = TILE.get(len(self.displayed), TILE_OF_VOLUMES)

    def _base_position(self, index: int, exact: float | None) -> float:
        step = 2.0**self.level
        if exact is None or abs(exact / step - index) > 1:
            exact = index * step
        # Rounded, so that a slider that comes back finds its tiles.
        return round((exact + 0.5) / 2.0**self.plan.doublings - 0.5, 5)

    # Tiles

    def tiles(self) -> list[Tile]:
        """Return the tiles that meet the request, from the centre outwards."""
        centre = [(r.start + r.stop) / 2 / self.tile - 0.5 for r in self._ranges(self.request)]
        return sorted(
            self.tiles_of(self.request),
            key=lambda tile: sum((t - c) ** 2 for t, c in zip(tile, centre, strict=True)),
        )

    def tiles_of(self, box: Request) -> Iterable[Tile]:
        """Return the tiles that meet a box."""
        return itertools.product(
            *(range(r.start // self.tile, -(-r.stop // self.tile)) for r in self._ranges(box))
        )

    def key(self, tile: Tile) -> tuple[Any, ...]:
        indices = [index if isinstance(index, int) else None for index in self.request]
        fixed = tuple(self.sliced.get(axis, index) for axis, index in enumerate(indices))
        return (self.level, fixed, tuple(self.displayed), tile)

    def overlap(self, tile: Tile) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return where a tile lies in the request, and which part of the tile that is."""
        place, inner = [], []
        for shown, number in zip(self._ranges(self.request), tile, strict=True):
            start, stop = max(shown.start, number * self.tile), min(shown.stop, (number + 1) * self.tile)
            place.append(slice(start - shown.start, stop - shown.start))
            inner.append(slice(start - number * self.tile, stop - number * self.tile))
        return tuple(place), tuple(inner)

    def groups(self, tiles: list[Tile]) -> list[list[Tile]]:
        """Return the tiles that are decoded together: all of them, or one by one where they are too many."""
        if math.prod(map(len, self._ranges(self.box(tiles)))) <= LARGEST_DECODE:
            return [tiles]
        return [[tile] for tile in tiles]

    def box(self, tiles: list[Tile]) -> Request:
        """Return the smallest box that holds whole tiles."""
        shape = self.axes.shape(self.plan.shape(self.level))
        box = list(self.request)
        for axis, numbers in zip(self.displayed, zip(*tiles, strict=True), strict=True):
            stop = min((max(numbers) + 1) * self.tile, shape[axis])
            box[axis] = range(min(numbers) * self.tile, stop)
        return tuple(box)

    def place(self, tile: Tile, box: Request) -> tuple[slice, ...]:
        """Return where a tile lies in the array of a box."""
        starts = [n * self.tile - r.start for n, r in zip(tile, self._ranges(box), strict=True)]
        return tuple(slice(start, start + self.tile) for start in starts)

    def grid(self, box: Request) -> Grid:
        """Return the lattice of a box over space, one voxel thick where it is sliced."""
        from swipe_core.coordinates import Affine, Grid

        shape, origin, step = [], [], []
        for axis in self.axes.space:
            indices = box[axis]
            if isinstance(indices, range):
                shape.append(len(indices))
                origin.append((indices.start + 0.5) / self._factor - 0.5)
                step.append(1 / self._factor)
            else:
                shape.append(1)
                origin.append(self.sliced[axis])
                step.append(1.0)
        base = self.plan.base.affine
        return Grid(tuple(shape), base @ Affine.from_parts(np.diag(step), np.asarray(origin)))

    # What is known without decoding

    def is_uniform(self, tile: Tile) -> bool:
        """Whether no boundary can be near a tile, going by the voxels of the coarsest level around it."""
        positions = self._coarse_positions(self._cut(tile), margin=UNIFORM_MARGIN)
        around = self._coarse[tuple(slice(int(p.min()), int(p.max()) + 1) for p in positions)]
        return bool((around == around.flat[0]).all())

    def approximation(self, tile: Tile) -> np.ndarray:
        """Return a tile from the sharpest coarser tiles that are known, else from the coarsest level."""
        part = self._cut(tile)
        for level in range(self.level + 1, self.plan.doublings + 1):
            known = self._from_parent(part, level)
            if known is not None:
                return known
        return self.coarse(part)

    def coarse(self, box: Request) -> np.ndarray:
        """Return a box from the coarsest level."""
        positions = self._coarse_positions(box, margin=0)
        return self._coarse[np.ix_(*positions)].reshape([len(r) for r in self._ranges(box)])

    def _cut(self, tile: Tile) -> Request:
        """The part of the request that lies in a tile."""
        part = list(self.request)
        place, _ = self.overlap(tile)
        for axis, shown, inside in zip(self.displayed, self._ranges(self.request), place, strict=True):
            part[axis] = shown[inside]
        return tuple(part)

    def _from_parent(self, box: Request, level: int) -> np.ndarray | None:
        ratios = [2 ** (level - self.level) if axis in self.axes.space else 1 for axis in self.displayed]
        tile, indices = [], []
        for shown, ratio in zip(self._ranges(box), ratios, strict=True):
            first, last = shown.start // ratio // self.tile, (shown.stop - 1) // ratio // self.tile
            if first != last:
                return None
            tile.append(first)
            indices.append(np.asarray(shown) // ratio - first * self.tile)
        _, fixed, displayed, _ = self.key(())
        found = self._cached((level, fixed, displayed, tuple(tile)))
        return None if found is None else found[np.ix_(*indices)]

    def _coarse_positions(self, box: Request, margin: int) -> list[np.ndarray]:
        """The voxels of the coarsest level for each index of a box, and up to `margin` beyond."""
        found = []
        for axis, indices in enumerate(box):
            positions = np.asarray(indices if isinstance(indices, range) else [indices])
            if axis in self.sliced:
                positions = np.rint([self.sliced[axis]]).astype(int)
            elif axis in self.axes.space:
                positions = positions // self._factor
            if margin and axis in self.axes.space:
                positions = np.asarray([positions.min() - margin, positions.max() + margin])
            found.append(np.clip(positions, 0, self._coarse.shape[axis] - 1))
        return found

    def _ranges(self, box: Request) -> list[range]:
        """The displayed indices of a box, axis by axis."""
        return [indices for indices in box if isinstance(indices, range)]


def displayed_axes(request: Request) -> list[int]:
    """Return the axes of which a request has several indices."""
    return [axis for axis, indices in enumerate(request) if isinstance(indices, range)]
