"""A box with layers to pick from, which finds a likely one until the user has chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

if TYPE_CHECKING:
    from napari.layers import Layer

LETTERS = 14  # that fit at least


class LayerChoice(QComboBox):
    """One of several layers, under names that need not be the layers' own."""

    changed = Signal()
    """The user has picked another layer."""

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Layer] = []
        self._chosen: Layer | None = None
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(LETTERS)
        self.activated.connect(self._on_activated)

    @property
    def layer(self) -> Layer | None:
        """What is picked."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @property
    def chosen(self) -> Layer | None:
        """What the user picked, if it was the user."""
        return self._chosen

    def choose(self, layer: Layer) -> None:
        """Pick a layer as a user does."""
        self.setCurrentIndex(self._layers.index(layer))
        self._on_activated()

    def offer(self, names: Mapping[Layer, str], likely: Iterable[Layer | None]) -> None:
        """Offer these layers, and pick what the user chose; else the first of the likely ones."""
        self._layers = list(names)
        if self._chosen not in self._layers:
            self._chosen = None
        picked = next((layer for layer in (self._chosen, *likely) if layer in self._layers), None)
        self.clear()
        self.addItems(list(names.values()))
        self.setCurrentIndex(-1 if picked is None else self._layers.index(picked))

    def _on_activated(self) -> None:
        self._chosen = self.layer
        self.changed.emit()
