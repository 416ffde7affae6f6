"""How many voxels of each number a labels layer holds, kept up to date while somebody paints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_swipe.layers.source import content_digest
from napari_swipe.qt.layouts import rest_timer
from napari_swipe.qt.task import Task
from swipe_core.blocks import cut_blocks
from swipe_core.progress import Progress, finish

if TYPE_CHECKING:
    from napari.layers import Labels

    from swipe_core.data.annotations import AnnotationScheme

COUNTED_AT_ONCE = 2**22  # voxels; more are counted in a thread
BLOCK = 2**20  # voxels that are counted, and compared with what they were, at a time
LARGEST_BIN = 2**16
REST = 400  # milliseconds without a change, after which it is counted


@dataclass(frozen=True)
class BlockCount:
    """Voxels of a block by label, 0 included, and a digest of what stands in it."""

    digest: int | None
    voxels: Counter[int]


class LabelCounts(QObject):
    """Voxels by label of one layer, counted after each rest of the brush.

    Only blocks that are not as they were are counted anew, and a layer that was drawn anew for another
    reason has none. Large layers are counted in a thread.
    """

    changed = Signal()
    """Something was painted, undone, written or assigned, and is counted."""

    def __init__(self, layer: Labels, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._layer = layer
        self._blocks: list[BlockCount] | None = None
        self._task: Task | None = None
        self._is_changed = False  # since `changed` was emitted last
        self._is_painted = False
        self._is_outdated = False  # what the thread counts
        self._rest = rest_timer(self, REST, self._on_rest)
        layer.events.paint.connect(self._on_paint)
        layer.events.set_data.connect(self._on_drawn)
        layer.events.data.connect(self._on_data)
        if self._is_small:
            self._blocks = finish(iter_count(layer.data))
        else:
            self._on_rest()

    def disconnect_layer(self) -> None:
        """Let go of the layer."""
        self._layer.events.paint.disconnect(self._on_paint)
        self._layer.events.set_data.disconnect(self._on_drawn)
        self._layer.events.data.disconnect(self._on_data)
        self._rest.stop()
        self._stop_counting()

    @property
    def is_pending(self) -> bool:
        """Whether something may have changed that is not counted yet."""
        return self._rest.isActive() or self._task is not None

    @property
    def histogram(self) -> Counter[int] | None:
        """Voxels by label; None while a large layer is counted for the first time."""
        if self._rest.isActive() and self._is_small:
            self._take(finish(iter_count(self._layer.data, self._blocks or ())))
        return None if self._blocks is None else sum((block.voxels for block in self._blocks), Counter[int]())

    @property
    def _is_small(self) -> bool:
        data = self._layer.data
        return isinstance(data, np.ndarray) and data.size <= COUNTED_AT_ONCE

    def _on_paint(self) -> None:
        self._is_painted = True
        self._rest.start()

    def _on_drawn(self) -> None:
        """Drawn anew: after an undo or a redo, or for a reason that is no business of ours."""
        # What is not in memory takes long to read, and has nothing to undo before it is painted on.
        if self._is_painted or isinstance(self._layer.data, np.ndarray):
            self._rest.start()

    def _on_data(self) -> None:
        """Another array: what was counted says nothing of it."""
        self._stop_counting()
        self._blocks, self._is_changed = None, True
        self._rest.start()

    def _on_rest(self) -> None:
        if self._is_small:
            self._take(finish(iter_count(self._layer.data, self._blocks or ())))
            self._announce()
        elif self._task is not None:
            self._is_outdated = True
        else:
            self._task = Task(iter_count(self._layer.data, self._blocks or ()))
            self._task.finished.connect(self._on_counted)
            self._task.failed.connect(lambda _: self._stop_counting())
            self._task.start()

    def _on_counted(self, blocks: list[BlockCount]) -> None:
        is_outdated = self._is_outdated
        self._stop_counting()
        self._take(blocks)
        self._announce()
        if is_outdated:
            self._on_rest()

    def _take(self, blocks: list[BlockCount]) -> None:
        self._is_changed |= blocks != self._blocks
        self._blocks = blocks

    def _announce(self) -> None:
        if self._is_changed:
            self._is_changed = False
            self.changed.emit()

    def _stop_counting(self) -> None:
        self._is_outdated = False
        if self._task is not None:
            self._task.abandon()
            self._task = None


def iter_count(data: Any, known: Sequence[BlockCount] = ()) -> Generator[Progress, None, list[BlockCount]]:
    """Count an array of any kind, but for blocks that are as they are known; yields progress."""
    blocks = cut_blocks(data.shape, BLOCK) if math.prod(data.shape) else []
    counted = list[BlockCount]()
    for number, block in enumerate(blocks):
        part = np.asarray(data[block.slices])
        digest = content_digest(part)
        is_known = number < len(known) and known[number].digest == digest
        counted.append(known[number] if is_known else BlockCount(digest, label_histogram(part)))
        yield Progress("Counting", number + 1, len(blocks))
    return counted


def label_histogram(labels: np.ndarray) -> Counter[int]:
    """Return the voxels of each label in an array."""
    if labels.size and labels.min() >= 0 and labels.max() <= LARGEST_BIN:
        bins = np.bincount(labels.ravel())
        numbers, voxels = np.flatnonzero(bins), bins[bins > 0]
    else:
        numbers, voxels = np.unique(labels, return_counts=True)
    return Counter(dict(zip(numbers.tolist(), voxels.tolist(), strict=True)))


def unknown_labels(histogram: Mapping[int, int], scheme: AnnotationScheme) -> list[int]:
    """Return the labels that are painted and belong to no class, in order."""
    known = {0, *scheme.painted}
    return sorted(label for label in histogram if label < 0 or not (scheme.instances or label in known))
