"""A label pyramid whose pixels are decoded when they are looked at.

napari asks a multiscale layer for the part of a level that fills the screen. Here a level is only a
shape: the answer is made of cached tiles, and what is missing is filled from coarser ones at once,
decoded by a thread of the pyramid's own, and announced. Reading never waits for the network.

Conventions, measured in napari 0.9: index i of a level with factor f along a displayed axis is drawn
at index (i + 0.5) f - 0.5 of the finest level; a sliced axis is rounded to the index that is nearest
to position / f.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_swipe._layer_field import LayerField
    from swipe_core.coordinates import Grid
    from swipe_core.inference.field import OccupancyField

TILE = {1: 4096, 2: 256}  # pixels along each side, by the number of displayed axes
TILE_OF_VOLUMES = 64
CACHED_TILES = 600
UNIFORM_MARGIN = 2  # voxels of the coarsest level
LARGEST_DECODE = 2**22  # voxels decoded in one go, so that a newer request need not wait long
FIRST_STEP = 16  # of MISE, in pixels: a screen is small, and every level has a cost of its own
LARGEST_REQUEST = 2**26  # voxels; napari's own export can ask for a whole level
FINEST = 10  # doublings from the image's own lattice to the finest level
TEXTURE_DOUBLINGS = 16  # a layer's zoom is in single precision on the graphics card

logger = logging.getLogger(__name__)

Request = tuple[range | int, ...]
Positions = Callable[[], Sequence[float | None]]


@dataclass(frozen=True)
class LevelPlan:
    """The lattices of a pyramid.

    Attributes
    ----------
    base
        Of the coarsest level, over space.
    doublings
        From there to the finest level.
    """

    base: Grid
    doublings: int

    @property
    def finest(self) -> Grid:
        return self.base.scaled(2**self.doublings)


def plan_levels(image: Grid, voxels: int = 2**20, finest: int = FINEST) -> LevelPlan:
    """The coarsest level has about cubic voxels, and as many as `voxels` allows, up to 4x the image.

    Every axis is that of the image times a power of two, so levels and image share their borders.
    """
    spacing = np.asarray(image.spacing)
    exponents = np.rint(np.log2(spacing / spacing.min())).astype(int)
    exponents = np.where(np.asarray(image.shape) > 1, exponents, 0)
    room = voxels / (image.voxels * 2.0 ** exponents.sum())
    shift = min(2, int(np.floor(np.log2(room) / image.ndim)))
    base = image.scaled((2.0 ** (exponents + shift)).tolist())
    return LevelPlan(base, min(TEXTURE_DOUBLINGS, max(1, finest - shift)))


class LabelPyramid:
    """The levels of a live labels layer.

    Parameters
    ----------
    field
        What is decoded.
    plan
        Its lattices.
    coarse
        Classes on the coarsest level, over the axes of the labels.
    on_decoded
        Called from the pyramid's thread when tiles have arrived.
    positions
        Gives for each axis where exactly it is sliced, in indices of the finest level, or None: napari
        itself rounds to whole indices of a level.
    """

    def __init__(
        self,
        field: LayerField,
        plan: LevelPlan,
        coarse: np.ndarray,
        on_decoded: Callable[[], object] = lambda: None,
        positions: Positions | None = None,
    ) -> None:
        self.axes = field.axes
        self.plan, self.on_decoded, self.positions = plan, on_decoded, positions
        self.failure: Exception | None = None
        self.decodes = 0
        self._field, self._coarse = field, coarse
        self._cache: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._request = 0
        self._pending = 0
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="swipe-live")
        self.levels = [Level(self, level, self._whole(level)) for level in range(plan.doublings + 1)]

    # What napari needs

    @property
    def is_fine_enough(self) -> bool:
        """Whether the coarsest level is about as fine as the first lattice of MISE."""
        first = self._field.first
        steps = (first.grid.affine.inverse() @ self.plan.base.affine).spacing
        return max(steps) <= first.config.coarse_voxels

    @property
    def field(self) -> LayerField:
        """What is decoded now."""
        return self._field

    @property
    def coarsest(self) -> int:
        return self.plan.doublings

    def shape(self, level: int) -> tuple[int, ...]:
        factor = self._factor(level)
        return self.axes.shape(tuple(n * factor for n in self.plan.base.shape))

    def replace(self, field: LayerField, coarse: np.ndarray) -> None:
        """Show another field of the same source, such as one with another threshold."""
        with self._lock:
            self._request += 1
            self._field, self._coarse = field, coarse
            self._cache.clear()

    def close(self) -> None:
        """Decode no more; what is being decoded is finished and dropped."""
        self._request += 1
        self.on_decoded = lambda: None
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def is_idle(self) -> bool:
        """Whether everything that was asked for is there."""
        return self._closed or self._pending == 0

    def read(self, level: int, axes: Request) -> np.ndarray:
        """The classes at once, as sharp as they are known; the rest is decoded and announced later.

        Raises
        ------
        MemoryError
            When more than `LARGEST_REQUEST` voxels are asked for.
        """
        displayed = [axis for axis, wanted in enumerate(axes) if isinstance(wanted, range)]
        shape = tuple(len(axes[axis]) for axis in displayed)  # type: ignore[arg-type]
        if np.prod(shape, dtype=float) > LARGEST_REQUEST:
            raise MemoryError(
                f"A live layer cannot give {' x '.join(map(str, shape))} voxels at once: "
                "render labels at a resolution of your choice instead."
            )
        if any(axes[axis].step != 1 for axis in displayed):  # type: ignore[union-attr]
            return self._read_thinned(level, axes, displayed)
        view = _View(self, level, axes, displayed)
        if level == self.coarsest and not view.sliced_space:
            return view.coarse()
        result = np.empty(shape, np.uint8)
        missing = [tile for tile in view.tiles() if not self._fill(result, view, tile)]
        if missing and not self._closed:
            self._request += 1
            self._pending += 1
            self._thread.submit(self._decode, self._request, view, missing)
        return result

    def decode(self, level: int, axes: Request) -> np.ndarray:
        """The classes as the field has them, decoded here and now."""
        displayed = [axis for axis, wanted in enumerate(axes) if isinstance(wanted, range)]
        return self._evaluate(self._field, _View(self, level, axes, displayed), axes)

    def _read_thinned(self, level: int, axes: Request, displayed: list[int]) -> np.ndarray:
        """A request with steps, cut from the one without."""
        ranges = [_range(axes[axis]) for axis in displayed]
        whole = list(axes)
        for axis, wanted in zip(displayed, ranges, strict=True):
            whole[axis] = range(min(wanted), max(wanted) + 1)
        index = [np.asarray(wanted) - min(wanted) for wanted in ranges]
        return self.read(level, tuple(whole))[np.ix_(*index)]

    # Tiles

    def _fill(self, result: np.ndarray, view: _View, tile: _Tile) -> bool:
        """Copy what is known of a tile into a result; whether it is the tile itself."""
        place, inner = view.overlap(tile)
        with self._lock:
            found = self._cache.get(view.key(tile))
            if found is not None:
                self._cache.move_to_end(view.key(tile))
                result[place] = found[inner]
                return True
        result[place] = view.approximation(tile)
        return view.is_uniform(tile)

    def _decode(self, request: int, view: _View, tiles: list[_Tile]) -> None:
        try:
            for group in view.groups(tiles):
                if request != self._request:
                    return
                self._decode_group(view, group)
                self.on_decoded()
        except Exception as error:  # in a thread of ours nobody else would see it
            logger.exception("a live tile could not be decoded")
            self.failure = error
            self.on_decoded()
        finally:
            self._pending -= 1

    def _decode_group(self, view: _View, tiles: list[_Tile]) -> None:
        """Decode the box around tiles at once, which costs much less than one by one."""
        field = self._field
        box = view.box(tiles)
        labels = self._evaluate(field, view, box)
        with self._lock:
            if field is self._field:
                for tile in view.tiles_of(box):
                    self._keep(view.key(tile), labels[view.place(tile, box)].copy())

    def _keep(self, key: tuple[Any, ...], labels: np.ndarray) -> None:
        self._cache[key] = labels
        while len(self._cache) > CACHED_TILES:
            self._cache.popitem(last=False)

    def _evaluate(self, field: LayerField, view: _View, axes: Request) -> np.ndarray:
        """The classes of a request, over the displayed axes."""
        grid = view.grid(axes)
        frame_axes = [axes[axis] for axis in self.axes.frames]
        frames = itertools.product(*((f,) if isinstance(f, int) else f for f in frame_axes))
        parts = [_quick(field.fields[frame], grid).render(grid).array for frame in frames]
        self.decodes += 1
        counts = [1 if isinstance(f, int) else len(f) for f in frame_axes]
        singles = [axis for axis in range(self.axes.ndim) if axis not in self.axes.frames + self.axes.space]
        whole = np.stack(parts).reshape(*counts, *grid.shape, *[1] * len(singles))
        order = np.argsort([*self.axes.frames, *self.axes.space, *singles])
        return whole.transpose(order).reshape([len(_range(axes[axis])) for axis in view.displayed])

    def _factor(self, level: int) -> int:
        return int(2 ** (self.coarsest - level))

    def _whole(self, level: int) -> Request:
        return tuple(range(n) for n in self.shape(level))


_Tile = tuple[int, ...]


def _quick(field: OccupancyField, grid: Grid) -> OccupancyField:
    """The field with a first MISE step of at most `FIRST_STEP` pixels of this grid."""
    steps = (field.grid.affine.inverse() @ grid.affine).spacing
    step = min((s for s, n in zip(steps, grid.shape, strict=True) if n > 1), default=1.0)
    coarse = min(field.config.coarse_voxels, FIRST_STEP * step)
    return field.with_config(field.config.model_copy(update={"coarse_voxels": coarse}))


class _View:
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
        step = finest / self.pyramid._factor(self.level)
        index = self.axes[axis]
        assert isinstance(index, int)
        if exact is None or abs(exact / step - index) > 1:
            exact = index * step
        # Rounded, so that a slider that comes back finds its tiles.
        return round((exact + 0.5) / finest - 0.5, 5)

    def tiles(self) -> list[_Tile]:
        """The tiles that meet the request, from the centre outwards."""
        ranges = [self._range(axis) for axis in self.displayed]
        centre = [(r.start + r.stop) / 2 / self.tile - 0.5 for r in ranges]
        covered = itertools.product(*(range(r.start // self.tile, -(-r.stop // self.tile)) for r in ranges))
        return sorted(covered, key=lambda tile: sum((t - c) ** 2 for t, c in zip(tile, centre, strict=True)))

    def key(self, tile: _Tile) -> tuple[Any, ...]:
        indices = [axis if isinstance(axis, int) else None for axis in self.axes]
        fixed = tuple(self.sliced.get(axis, index) for axis, index in enumerate(indices))
        return (self.level, fixed, tuple(self.displayed), tile)

    def overlap(self, tile: _Tile) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where a tile lies in the request, and which part of the tile that is."""
        place, inner = [], []
        for axis, number in zip(self.displayed, tile, strict=True):
            wanted = self._range(axis)
            start, stop = max(wanted.start, number * self.tile), min(wanted.stop, (number + 1) * self.tile)
            place.append(slice(start - wanted.start, stop - wanted.start))
            inner.append(slice(start - number * self.tile, stop - number * self.tile))
        return tuple(place), tuple(inner)

    def groups(self, tiles: list[_Tile]) -> list[list[_Tile]]:
        """Tiles that are decoded together: all of them, or one by one where they are too many."""
        if math.prod(len(_range(axis)) for axis in self._displayed(self.box(tiles))) <= LARGEST_DECODE:
            return [tiles]
        return [[tile] for tile in tiles]

    def box(self, tiles: list[_Tile]) -> Request:
        """The request of the smallest box that holds whole tiles."""
        shape = self.pyramid.shape(self.level)
        axes = list(self.axes)
        for place, axis in enumerate(self.displayed):
            first, last = min(t[place] for t in tiles), max(t[place] for t in tiles)
            axes[axis] = range(first * self.tile, min((last + 1) * self.tile, shape[axis]))
        return tuple(axes)

    def tiles_of(self, box: Request) -> list[_Tile]:
        """The whole tiles in a box."""
        ranges = self._displayed(box)
        return list(
            itertools.product(*(range(r.start // self.tile, -(-r.stop // self.tile)) for r in ranges))
        )

    def place(self, tile: _Tile, box: Request) -> tuple[slice, ...]:
        """Where a tile lies in the array of a box."""
        starts = [n * self.tile - r.start for n, r in zip(tile, self._displayed(box), strict=True)]
        return tuple(slice(start, start + self.tile) for start in starts)

    def _displayed(self, axes: Request) -> list[range]:
        return [_range(axes[axis]) for axis in self.displayed]

    def is_uniform(self, tile: _Tile) -> bool:
        """Whether no boundary can be near a tile, going by the coarsest level.

        Only where that level is about as fine as the first lattice of MISE, which would decide the same.
        """
        return self.pyramid.is_fine_enough and _is_constant(self._coarse_around(self._cut(tile)))

    def grid(self, axes: Request) -> Grid:
        """The lattice of a request over space, one voxel thick where it is sliced."""
        from swipe_core.coordinates import Affine, Grid

        factor = self.pyramid._factor(self.level)
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

    def approximation(self, tile: _Tile) -> np.ndarray:
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

    def _cut(self, tile: _Tile) -> Request:
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
            _range(axes[axis]) if axis not in space else _scaled_range(_range(axes[axis]), ratio)
            for axis in self.displayed
        ]
        tile = tuple(parent.start // self.tile for parent in parents)
        if any((p.stop - 1) // self.tile != number for p, number in zip(parents, tile, strict=True)):
            return None
        _, fixed, displayed, _ = self.key(tile)
        with self.pyramid._lock:
            found = self.pyramid._cache.get((level, fixed, displayed, tile))
        if found is None:
            return None
        index = []
        for axis, number in zip(self.displayed, tile, strict=True):
            positions = np.asarray(_range(axes[axis]))
            index.append((positions // ratio if axis in space else positions) - number * self.tile)
        return found[np.ix_(*index)]

    def _coarse(self, axes: Request) -> np.ndarray:
        index = [np.asarray(positions) for positions in self._coarse_positions(axes, margin=0)]
        return self.pyramid._coarse[np.ix_(*index)].reshape(
            [len(_range(axes[axis])) for axis in self.displayed]
        )

    def _coarse_around(self, axes: Request) -> np.ndarray:
        """The voxels of the coarsest level that meet a request, and their neighbours."""
        positions = self._coarse_positions(axes, margin=UNIFORM_MARGIN)
        box = tuple(slice(int(p.min()), int(p.max()) + 1) for p in positions)
        return self.pyramid._coarse[box]

    def _coarse_positions(self, axes: Request, margin: int) -> list[np.ndarray]:
        """The voxels of the coarsest level for each index of a request, and up to `margin` beyond."""
        factor = self.pyramid._factor(self.level)
        found = []
        for axis, wanted in enumerate(axes):
            positions = np.asarray(wanted if isinstance(wanted, range) else [wanted])
            if axis in self.sliced:
                positions = np.rint([self.sliced[axis]]).astype(int)
            elif axis in self.pyramid.axes.space:
                positions = positions // factor
            if margin and axis in self.pyramid.axes.space:
                positions = np.asarray([positions.min() - margin, positions.max() + margin])
            found.append(np.clip(positions, 0, self.pyramid._coarse.shape[axis] - 1))
        return found

    def _range(self, axis: int) -> range:
        return _range(self.axes[axis])


def _is_constant(array: np.ndarray) -> bool:
    return bool((array == array.flat[0]).all())


def _range(wanted: range | int) -> range:
    assert isinstance(wanted, range)
    return wanted


def _scaled_range(fine: range, ratio: int) -> range:
    return range(fine.start // ratio, -(-fine.stop // ratio))


class Level:
    """One level as napari sees it: an array of a shape, of which parts are cut and then read."""

    def __init__(self, pyramid: LabelPyramid, level: int, axes: Request) -> None:
        self.pyramid, self.level, self.axes = pyramid, level, axes

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.axes if isinstance(axis, range))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=object))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Level:
        key = key if isinstance(key, tuple) else (key,)
        if any(part is Ellipsis for part in key):
            at = next(i for i, part in enumerate(key) if part is Ellipsis)
            key = key[:at] + (slice(None),) * (self.ndim - len(key) + 1) + key[at + 1 :]
        parts = iter(key + (slice(None),) * (self.ndim - len(key)))
        axes = [axis if not isinstance(axis, range) else _cut(axis, next(parts)) for axis in self.axes]
        return Level(self.pyramid, self.level, tuple(axes))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.pyramid.read(self.level, self.axes), dtype=dtype)

    def decoded(self) -> np.ndarray:
        """The field's own answer, after waiting for it: for a file, and not for the screen."""
        return self.pyramid.decode(self.level, self.axes)

    def __deepcopy__(self, memo: Any) -> Level:
        return self  # napari copies layer data when it duplicates a layer


def _cut(axis: range, part: Any) -> range | int:
    return axis[part] if isinstance(part, slice) else int(axis[int(part)])
