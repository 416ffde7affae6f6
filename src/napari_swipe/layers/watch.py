"""`LayerWatch`: notices when layers get other data, other axes, or another place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_swipe.qt.layouts import rest_timer

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.utils.events import Event

PLACING = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
CHANGING = ("data", *PLACING)
DRAWING = ("set_data", "paint")
REST = 300  # milliseconds without another drawing


class LayerWatch(QObject):
    """Follows some layers, and says of each what may have become of it.

    A result is compared with its layer by `LayerSource.difference`; this class says when to do so. It
    belongs to its owner, who calls `stop` before going.
    """

    changed = Signal(object)
    """A layer with other data, another place, other units or other names of axes; at once."""
    redrawn = Signal(object)
    """A layer that was painted on, or drawn anew for another reason, after a rest: something may have been
    written into its array."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Layer] = []
        self._drawn: list[Layer] = []
        self._rest = rest_timer(self, REST, self._report_redrawn)

    @property
    def layers(self) -> list[Layer]:
        """Those that are followed."""
        return list(self._layers)

    def follow(self, layers: Iterable[Layer]) -> None:
        """Follow these layers from now on, and no others."""
        before, self._layers = self._layers, list(layers)
        for layer in [known for known in before if known not in self._layers]:
            self._each_event(layer, "disconnect")
        for layer in [new for new in self._layers if new not in before]:
            self._each_event(layer, "connect")
        self._drawn = [layer for layer in self._drawn if layer in self._layers]

    def stop(self) -> None:
        """Let go of all layers."""
        self._rest.stop()
        self.follow([])

    def _each_event(self, layer: Layer, act: str) -> None:
        for name in CHANGING:
            getattr(getattr(layer.events, name), act)(self._on_change)
        for name in DRAWING:
            if name in layer.events.emitters:
                getattr(getattr(layer.events, name), act)(self._on_drawn)

    def _on_change(self, event: Event) -> None:
        self.changed.emit(event.source)

    def _on_drawn(self, event: Event) -> None:
        if event.source not in self._drawn:
            self._drawn.append(event.source)
        self._rest.start()

    def _report_redrawn(self) -> None:
        drawn, self._drawn = self._drawn, []
        for layer in drawn:
            self.redrawn.emit(layer)
