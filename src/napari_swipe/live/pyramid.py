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
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.live.levels import LevelPlan
from napari_swipe.live.view import Request, Tile, View, as_range
from swipe_core.progress import finish

if TYPE_CHECKING:
    from napari_swipe.layers.field import LayerField
    from swipe_core.coordinates import Grid
    from swipe_core.inference.field import OccupancyField

CACHED_TILES = 600
FIRST_STEP = 16  # of MISE, in pixels: a screen is small, and every level has a cost of its own
LARGEST_REQUEST = 2**26  # voxels; napari's own export can ask for a whole level

logger = logging.getLogger(__name__)

Positions = Callable[[], Sequence[float | None]]


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
        Called from the pyramid's thread when tiles have arrived, or none will: see `failure`.
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
        self.failure: Exception | None = None  # then nothing is decoded until another field comes
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
    def coarse(self) -> np.ndarray:
        """The classes on the coarsest level."""
        return self._coarse

    def cached(self, key: tuple[Any, ...]) -> np.ndarray | None:
        """A tile that has been decoded."""
        with self._lock:
            return self._cache.get(key)

    @property
    def coarsest(self) -> int:
        return self.plan.doublings

    def shape(self, level: int) -> tuple[int, ...]:
        factor = self.factor(level)
        return self.axes.shape(tuple(n * factor for n in self.plan.base.shape))

    def replace(self, field: LayerField, coarse: np.ndarray) -> None:
        """Show another field of the same source, such as one with another threshold."""
        with self._lock:
            self._request += 1
            self._field, self._coarse = field, coarse
            self._cache.clear()
            self.failure = None

    def close(self) -> None:
        """Decode no more; what is being decoded is finished and dropped."""
        with self._lock:
            self._request += 1
            self._closed = True
        self.on_decoded = lambda: None
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def is_closed(self) -> bool:
        return self._closed

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
        view = View(self, level, axes, displayed)
        if level == self.coarsest and not view.sliced_space:
            return view.coarse()
        result = np.empty(shape, np.uint8)
        missing = [tile for tile in view.tiles() if not self._fill(result, view, tile)]
        if missing and not self._closed and self.failure is None:
            with self._lock:
                self._request += 1
                self._pending += 1
                request = self._request
            self._thread.submit(self._decode, request, view, missing)
        return result

    def decode(self, level: int, axes: Request) -> np.ndarray:
        """The classes as the field has them, decoded here and now."""
        displayed = [axis for axis, wanted in enumerate(axes) if isinstance(wanted, range)]
        return self._evaluate(self._field, View(self, level, axes, displayed), axes)

    def _read_thinned(self, level: int, axes: Request, displayed: list[int]) -> np.ndarray:
        """A request with steps, cut from the one without."""
        ranges = [as_range(axes[axis]) for axis in displayed]
        whole = list(axes)
        for axis, wanted in zip(displayed, ranges, strict=True):
            whole[axis] = range(min(wanted), max(wanted) + 1)
        index = [np.asarray(wanted) - min(wanted) for wanted in ranges]
        return self.read(level, tuple(whole))[np.ix_(*index)]

    # Tiles

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
        return view.is_uniform(tile)

    def _decode(self, request: int, view: View, tiles: list[Tile]) -> None:
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
            with self._lock:
                self._pending -= 1

    def _decode_group(self, view: View, tiles: list[Tile]) -> None:
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

    def _evaluate(self, field: LayerField, view: View, axes: Request) -> np.ndarray:
        """The classes of a request, over the displayed axes."""
        from swipe_core.inference.stack import iter_sampled

        grid = view.grid(axes)
        frame_axes = [axes[axis] for axis in self.axes.frames]
        frames = itertools.product(*((f,) if isinstance(f, int) else f for f in frame_axes))
        parts = [
            finish(iter_sampled(_quick(field.fields[frame], grid), lambda f: f.iter_render(grid))).array
            for frame in frames
        ]
        self.decodes += 1
        counts = [1 if isinstance(f, int) else len(f) for f in frame_axes]
        singles = [axis for axis in range(self.axes.ndim) if axis not in self.axes.frames + self.axes.space]
        whole = np.stack(parts).reshape(*counts, *grid.shape, *[1] * len(singles))
        order = np.argsort([*self.axes.frames, *self.axes.space, *singles])
        return whole.transpose(order).reshape([len(as_range(axes[axis])) for axis in view.displayed])

    def factor(self, level: int) -> int:
        return int(2 ** (self.coarsest - level))

    def _whole(self, level: int) -> Request:
        return tuple(range(n) for n in self.shape(level))


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
