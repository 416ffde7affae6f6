"""What is painted with: the layer and the label that the user chose, here or in napari."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_swipe.annotate.layers import paint_with
from napari_swipe.annotate.pair import Pair
from napari_swipe.annotate.pairs import AnnotatedPairs

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels


class Brush(QObject):
    """The pair and the label that napari's brush works on."""

    changed = Signal()
    """Another layer or another label is painted with."""

    def __init__(self, viewer: Viewer, model: AnnotatedPairs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._model = viewer, model
        self._last = ""  # the name of the pair that was active last
        self._followed: list[Labels] = []
        viewer.layers.selection.events.active.connect(self._on_active)
        model.changed.connect(self._on_pairs)

    def disconnect_viewer(self) -> None:
        """Let go of the viewer and of all layers."""
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self._model.changed.disconnect(self._on_pairs)
        self._follow([])

    @property
    def pair(self) -> Pair | None:
        """The pair whose image or labels are active in the viewer, or were when one of them last was."""
        pairs = self._model.pairs
        last = [pair for pair in pairs if pair.name == self._last]
        return self._active() or next(iter(last or pairs[-1:]), None)

    @property
    def label(self) -> int | None:
        """The label that is painted with."""
        return self.pair.labels.selected_label if self.pair else None

    def choose_pair(self, name: str) -> None:
        """Paint on a pair from now on; the layers of the others are hidden, which may lie over it."""
        for pair in self._model.pairs:
            pair.image.visible = pair.labels.visible = pair.name == name
        chosen = next(pair for pair in self._model.pairs if pair.name == name)
        selected = chosen.labels.selected_label
        is_known = selected in self._model.scheme.painted or self._model.scheme.instances
        paint_with(self._viewer, chosen.labels, selected if is_known else 1)

    def choose_label(self, label: int) -> None:
        """Paint with a label; where objects are numbered, with the next number."""
        pair = self.pair
        if pair is None:
            return
        if self._model.scheme.instances:
            largest = int(np.iinfo(pair.labels.data.dtype).max)
            label = min(self._model.highest_label(pair.name) + 1, largest)
        paint_with(self._viewer, pair.labels, label)

    def _active(self) -> Pair | None:
        active = self._viewer.layers.selection.active
        found = (pair for pair in self._model.pairs if active is pair.image or active is pair.labels)
        return next(found, None)

    def _on_active(self) -> None:
        self._remember()
        self.changed.emit()

    def _on_pairs(self) -> None:
        self._follow([pair.labels for pair in self._model.pairs])
        self._remember()

    def _remember(self) -> None:
        active = self._active()
        self._last = active.name if active else self._last

    def _follow(self, layers: list[Labels]) -> None:
        for layer in self._followed:
            layer.events.selected_label.disconnect(self._on_active)
        for layer in layers:
            layer.events.selected_label.connect(self._on_active)
        self._followed = layers
