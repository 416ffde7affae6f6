"""How many voxels of each number a labels layer holds, kept up to date while somebody paints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_swipe.qt.task import Task
from swipe_core.data.labels import BACKGROUND
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.utils.events import Event

    from swipe_core.data.annotations import AnnotationScheme

Histogram = Counter[int]

COUNTED_AT_ONCE = 2**22  # voxels; more are counted in a thread
BLOCK = 2**20  # voxels between two reports
LARGEST_BIN = 2**16
REST = 400  # milliseconds without a change, after which what was missed is looked for


class LabelCounts(QObject):
    """Voxels by label of one layer, 0 included.

    A stroke, an undo and a redo change the counts by what napari's history holds of them: nothing is
    counted anew. What else happens to the data is found by counting, once it has come to rest.

    Attributes
    ----------
    histogram
        Voxels by label; None while they are counted for the first time, or after other data came.
    """

    changed = Signal()
    """Something was painted, undone or assigned, and is counted."""

    def __init__(self, layer: Labels, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.histogram: Histogram | None = None
        self._layer = layer
        self._task: Task | None = None
        self._is_outdated = False
        self._undo, self._redo = self._history()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST)
        self._rest.timeout.connect(self._on_rest)
        layer.events.paint.connect(self._on_paint)
        layer.events.set_data.connect(self._on_refresh)
        layer.events.data.connect(self._on_data)
        self.recount()

    def disconnect_layer(self) -> None:
        """Let go of the layer."""
        events = self._layer.events
        events.paint.disconnect(self._on_paint)
        events.set_data.disconnect(self._on_refresh)
        events.data.disconnect(self._on_data)
        self._rest.stop()
        self._stop_counting()

    @property
    def is_counting(self) -> bool:
        return self._task is not None

    def recount(self) -> None:
        """Count all of it: at once, or in a thread where that would hold the window up."""
        self._stop_counting()
        self._undo, self._redo = self._history()
        work = iter_histogram(self._layer.data)
        if self._is_small:
            self._set(exhausted(work))
            return
        self._task = Task(work)
        self._task.finished.connect(self._on_counted)
        self._task.failed.connect(lambda _: self._stop_counting())
        self._task.start()

    @property
    def _is_small(self) -> bool:
        data = self._layer.data
        return isinstance(data, np.ndarray) and data.size <= COUNTED_AT_ONCE

    def _history(self) -> tuple[list[Any], list[Any]]:
        """What napari could undo and redo."""
        names = ("_undo_history", "_redo_history")
        undo, redo = (list(getattr(self._layer, name, ())) for name in names)
        return undo, redo

    def _stop_counting(self) -> None:
        self._is_outdated = False
        if self._task is not None:
            self._task.abandon()
            self._task = None

    # What happens to the layer

    def _on_paint(self, event: Event) -> None:
        before = self._undo
        self._undo, self._redo = self._history()
        earlier = self._undo[:-1]
        # The oldest step is dropped from a history that is full.
        is_next = not self._undo or _are_same(earlier, before) or _are_same(earlier, before[1:])
        self._add(change_of(event.value) if is_next else None)

    def _on_refresh(self) -> None:
        """Drawn anew: after an undo or a redo, or for a reason that is no business of ours."""
        before, redo_before = self._undo, self._redo
        self._undo, self._redo = undo, redo = self._history()
        if _are_same(undo, before) and _are_same(redo, redo_before):
            if self._is_small:
                self._rest.start()
        elif before and redo and _are_same(undo, before[:-1]):
            self._add(change_of(redo[-1]), sign=-1)
        elif undo and redo_before and _are_same(undo[:-1], before):
            self._add(change_of(undo[-1]))
        else:
            self._add(None)

    def _on_data(self) -> None:
        """Another array: what was counted says nothing of it."""
        self.histogram = None
        self.recount()

    def _on_rest(self) -> None:
        """Look for what was written into the array past napari."""
        if getattr(self._layer, "_staged_history", ()):
            self._rest.start()  # in the midst of a stroke, whose change is told at its end
        elif self._task is not None:
            self._is_outdated = True
        elif not self._is_small:
            self.recount()
        elif (now := exhausted(iter_histogram(self._layer.data))) != self.histogram:
            self._set(now)

    def _add(self, change: Histogram | None, sign: int = 1) -> None:
        if change is None:
            self._rest.start()
            return
        if self._task is not None:
            self._is_outdated = True  # nobody knows whether the thread saw it
        if self.histogram is not None:
            now = Counter(self.histogram)
            for label, voxels in change.items():
                now[label] += sign * voxels
            self._set(+now)

    def _on_counted(self, histogram: Histogram) -> None:
        is_outdated = self._is_outdated
        self._stop_counting()
        if is_outdated:
            self._rest.start()
        else:
            self._set(histogram)

    def _set(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self.changed.emit()


def iter_histogram(data: Any) -> Generator[Progress, None, Histogram]:
    """Voxels by label of an array of any kind, read part by part; labels without voxels are left out."""
    total = math.prod(data.shape)
    histogram: Histogram = Counter()
    done = 0
    for index in blocks(data.shape):
        block = np.asarray(data[index])
        histogram.update(_histogram(block))
        done += block.size
        yield Progress("Counting", done, total)
    return histogram


def change_of(item: Sequence[Any]) -> Histogram:
    """What one step of napari's history adds to the counts, and takes from them.

    Each part of a step holds the values before it and the value or values after it; the parts follow
    one another, so that sums over them are right wherever they overlap.
    """
    change: Histogram = Counter()
    for part in item:
        old, new = (part.old_values, part.new_value) if hasattr(part, "old_values") else _set_once(*part)
        change.subtract(_histogram(np.asarray(old)))
        change.update(_histogram(np.broadcast_to(new, np.shape(old))))
    return change


def _set_once(indices: Sequence[np.ndarray], old: Any, new: Any) -> tuple[np.ndarray, np.ndarray]:
    """The values before and after at each voxel of a list; the last counts where one stands twice."""
    axes = [np.ravel(axis)[::-1] for axis in np.broadcast_arrays(*indices)]
    keys = np.zeros(axes[0].shape, np.int64)
    for axis in axes:
        keys = keys * (int(axis.max(initial=0)) + 1) + axis
    _, first = np.unique(keys, return_index=True)
    before, after = (np.broadcast_to(value, axes[0].shape)[::-1][first] for value in (old, new))
    return before, after


def exhausted(work: Generator[Progress, None, Histogram]) -> Histogram:
    """The result of work whose reports nobody needs."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def unknown_labels(histogram: Mapping[int, int], scheme: AnnotationScheme) -> list[int]:
    """Labels that are painted and belong to no class."""
    if scheme.instances:
        return [label for label in histogram if label < 0]
    return sorted(label for label in histogram if label != 0 and label not in scheme.painted)


def class_counts(histogram: Mapping[int, int], scheme: AnnotationScheme) -> dict[str, int]:
    """As `AnnotationScheme.counts`, of voxels that are counted already; unknown labels are left out."""
    if scheme.instances:
        objects = sum(voxels for label, voxels in histogram.items() if label > 0)
        return {BACKGROUND: histogram.get(0, 0), scheme.class_names[0]: objects}
    counts = {name: histogram.get(label, 0) for label, name in scheme.painted.items()}
    return counts if scheme.unpainted == "ignored" else {BACKGROUND: histogram.get(0, 0)} | counts


def _histogram(block: np.ndarray) -> Histogram:
    painted = block[block != 0]
    histogram: Histogram = Counter()
    if painted.size:
        if painted.min() > 0 and painted.max() <= LARGEST_BIN:
            bins = np.bincount(painted.ravel())
            labels = np.flatnonzero(bins)
            voxels = bins[labels]
        else:
            labels, voxels = np.unique(painted, return_counts=True)
        histogram.update(dict(zip(labels.tolist(), voxels.tolist(), strict=True)))
    if block.size > painted.size:
        histogram[0] = int(block.size - painted.size)
    return histogram


def blocks(shape: Sequence[int]) -> Iterator[tuple[int | slice, ...]]:
    """Indices of parts of an array, each of about `BLOCK` voxels or fewer, as far as rows allow."""
    row = math.prod(shape[1:])
    if row > BLOCK and len(shape) > 1:
        for index in range(shape[0]):
            yield from ((index, *rest) for rest in blocks(shape[1:]))
    else:
        rows = max(1, BLOCK // max(1, row))
        yield from ((slice(start, start + rows),) for start in range(0, shape[0], rows))


def _are_same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether two lists hold the very same objects."""
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))
