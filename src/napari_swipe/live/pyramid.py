"""A label pyramid whose pixels are decoded when they are looked at.

napari asks a multiscale layer for the part of a level that fills the screen. Here a level is only a
shape: what it returns is made of cached tiles, and what is missing is filled from coarser ones at once,
decoded by a thread of the pyramid's own, and announced. Reading never waits for the network.

Conventions, measured in napari 0.9: index i of a level with factor f along a displayed axis is drawn
at index (i + 0.5) f - 0.5 of the finest level; a sliced axis is rounded to the index that is nearest
to position / f.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.live.levels import LevelPlan
from napari_swipe.live.view import Request, Tile, View, displayed_axes
from swipe_core.progress import finish

if TYPE_CHECKING:
    from napari_swipe.layers.field import LayerField
    from swipe_core.coordinates import Grid
    from swipe_core.inference.field import OccupancyField

CACHED_TILES = 600
FIRST_STEP = 16  # of MISE, in pixels: a screen is small, and every level has a cost of its own
LARGEST_REQUEST = 2**26  # voxels; napari's own export can ask for a whole level

logger = logging.getLogger(__name__)


class LabelPyramid:
    """The levels of a live labels layer.

    `field`: what is decoded.
    `plan`: its lattices.
    `coarse`: classes, or numbers of objects, on the coarsest level, over the axes of the labels.
    `on_decoded`: called from the pyramid's thread when tiles have arrived, or none will: see `failure`.
    `positions`: gives for each axis where exactly it is sliced, in indices of the finest level, or None:
    napari itself rounds to whole indices of a level.
    """

    def __init__(
        self,
        field: LayerField,
        plan: LevelPlan,
        coarse: np.ndarray,
        on_decoded: Callable[[], object] = lambda: None,
        positions: Callable[[], Sequence[float | None]] | None = None,
    ) -> None:
        self.axes = field.axes
        self.plan, self.on_decoded, self._positions = plan, on_decoded, positions
        self.failure: Exception | None = None  # then nothing is decoded until another field comes
        self.decodes = 0
        self.field, self._coarse = field, coarse
        self._cache: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._latest = 0  # the number of the last request
        self._pending = 0
        self.is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="swipe-live")
        self.levels = [
            Level(self, level, tuple(map(range, self.shape(level)))) for level in range(plan.doublings + 1)
        ]

    # What napari needs

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._coarse.dtype

    def shape(self, level: int) -> tuple[int, ...]:
        """The voxels of a level over the axes of the labels."""
        return self.axes.shape(self.plan.shape(level))

    def replace(self, field: LayerField, coarse: np.ndarray) -> None:
        """Show another field of the same source, such as one with another threshold."""
        with self._lock:
            self._latest += 1
            self.field, self._coarse = field, coarse
            self._cache.clear()
            self.failure = None

    def close(self) -> None:
        """Decode no more; what is being decoded is finished and dropped."""
        with self._lock:
            self._latest += 1
            self.is_closed = True
        self.on_decoded = lambda: None
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being decoded."""
        return self.is_closed or self._pending == 0

    def read(self, level: int, request: Request) -> np.ndarray:
        """Return the classes at once, as sharp as they are known; the rest is decoded and announced later.

        A `MemoryError` is raised when more than `LARGEST_REQUEST` voxels are asked for.
        """
        ranges = [indices for indices in request if isinstance(indices, range)]
        shape = tuple(map(len, ranges))
        if np.prod(shape, dtype=float) > LARGEST_REQUEST:
            raise MemoryError(
                f"A live layer cannot give {' x '.join(map(str, shape))} voxels at once: "
                "render labels at a resolution of your choice instead."
            )
        if any(shown.step != 1 for shown in ranges):
            return self._read_thinned(level, request)
        view = self._view(level, request)
        if level == self.plan.doublings and not view.sliced:
            return view.coarse(request)
        result = np.empty(shape, self.dtype)
        missing = [tile for tile in view.tiles() if not self._fill(result, view, tile)]
        if missing and not self.is_closed and self.failure is None:
            with self._lock:
                self._latest += 1
                self._pending += 1
                number = self._latest
            self._thread.submit(self._decode, number, view, missing)
        return result

    def decode(self, level: int, request: Request) -> np.ndarray:
        """Return the classes as the field has them, decoded here and now."""
        return self._evaluate(self.field, self._view(level, request), request)

    def _view(self, level: int, request: Request) -> View:
        positions = self._positions() if self._positions else None
        return View(self.axes, self.plan, level, request, self._coarse, self._cached, positions)

    def _read_thinned(self, level: int, request: Request) -> np.ndarray:
        """A request with steps, cut from the one without."""
        whole, index = list(request), []
        for axis, indices in enumerate(request):
            if isinstance(indices, range):
                whole[axis] = range(min(indices), max(indices) + 1)
                index.append(np.asarray(indices) - min(indices))
        return self.read(level, tuple(whole))[np.ix_(*index)]

    # Tiles

    def _cached(self, key: tuple[Any, ...]) -> np.ndarray | None:
        with self._lock:
            return self._cache.get(key)

    @property
    def _is_fine_enough(self) -> bool:
        """Whether the coarsest level is about as fine as the first lattice of MISE, which sees no more."""
        first = self.field.first
        steps = (first.grid.affine.inverse() @ self.plan.base.affine).spacing
        return max(steps) <= first.config.coarse_voxels

    def _fill(self, result: np.ndarray, view: View, tile: Tile) -> bool:
        """Copy what is known of a tile into a result; whether it is the tile itself."""
        place, inner = view.overlap(tile)
        with self._lock:
            found = self._cache.get(view.key(tile))
            if found is not None:
                self._cache.move_to_end(view.key(tile))
                result[place] = found[inner]
                return True
        result[place] = view.approximation(tile)
        return self._is_fine_enough and view.is_uniform(tile)

    def _decode(self, number: int, view: View, tiles: list[Tile]) -> None:
        try:
            for group in view.groups(tiles):
                if number != self._latest:
                    return
                self._decode_group(view, group)
                self.on_decoded()
        except Exception as error:  # in a thread of ours nobody else would see it
            logger.exception("a live tile could not be decoded")
            self.failure = error
            self.on_decoded()
        finally:
            with self._lock:
                self._pending -= 1

    def _decode_group(self, view: View, tiles: list[Tile]) -> None:
        """Decode the box around tiles at once, which costs much less than one by one."""
        field = self.field
        box = view.box(tiles)
        labels = self._evaluate(field, view, box)
        with self._lock:
            if field is self.field:
                for tile in view.tiles_of(box):
                    self._keep(view.key(tile), labels[view.place(tile, box)].copy())

    def _keep(self, key: tuple[Any, ...], labels: np.ndarray) -> None:
        self._cache[key] = labels
        while len(self._cache) > CACHED_TILES:
            self._cache.popitem(last=False)

    def _evaluate(self, field: LayerField, view: View, box: Request) -> np.ndarray:
        """What is shown of a box, over the displayed axes."""
        from swipe_core.inference.stack import iter_sampled, rendering_on

        grid = view.grid(box)
        frames = [(f,) if isinstance(f, int) else f for f in (box[axis] for axis in self.axes.frames)]
        parts = []
        for frame in itertools.product(*frames):
            rendered = finish(iter_sampled(_quick(field.fields[frame], grid), rendering_on(grid)))
            parts.append(field.shown(frame, rendered))
        self.decodes += 1
        singles = [axis for axis in range(self.axes.ndim) if axis not in self.axes.frames + self.axes.space]
        whole = np.stack(parts).reshape(*map(len, frames), *grid.shape, *[1] * len(singles))
        order = np.argsort([*self.axes.frames, *self.axes.space, *singles])
        sliced = [axis for axis in range(self.axes.ndim) if axis not in displayed_axes(box)]
        return whole.transpose(order).squeeze(tuple(sliced))


def _quick(field: OccupancyField, grid: Grid) -> OccupancyField:
    """The field with a first MISE step of at most `FIRST_STEP` pixels of this grid."""
    steps = (field.grid.affine.inverse() @ grid.affine).spacing
    step = min((s for s, n in zip(steps, grid.shape, strict=True) if n > 1), default=1.0)
    coarse = min(field.config.coarse_voxels, FIRST_STEP * step)
    return field.with_config(field.config.model_copy(update={"coarse_voxels": coarse}))


class Level:
    """One level as napari sees it: an array of a shape, of which parts are cut and then read."""

    def __init__(self, pyramid: LabelPyramid, level: int, axes: Request) -> None:
        self.pyramid, self.level, self.axes = pyramid, level, axes

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pyramid.dtype

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
        """Return the classes as the field has them, decoded now: for a file, and not for the screen."""
        return self.pyramid.decode(self.level, self.axes)

    def __deepcopy__(self, memo: Any) -> Level:
        return self  # napari copies layer data when it duplicates a layer


def _cut(axis: range, part: Any) -> range | int:
    return axis[part] if isinstance(part, slice) else int(axis[int(part)])
