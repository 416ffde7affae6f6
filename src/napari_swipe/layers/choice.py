"""A box with layers to pick from, which finds a likely one until the user has chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from napari_swipe.layers.metadata import metadata_of

if TYPE_CHECKING:
    from napari import Viewer


LETTERS = 14  # that fit at least


class LayerChoice(QComboBox):
    """One of several layers, under names that need not be the layers' own; None may stand among them."""

    changed = Signal()
    """Another layer was chosen."""

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Any] = []
        self._chosen: Any = None
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(LETTERS)
        self.activated.connect(self._on_activated)

    @property
    def layer(self) -> Any:
        """The layer that is picked, or None."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @property
    def chosen(self) -> Any:
        """The layer that the user picked, if it was the user."""
        return self._chosen

    def choose(self, layer: Any) -> None:
        """Pick a layer as a user does, if it is offered."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))
            self._on_activated()

    def offer(self, names: Mapping[Any, str], likely: Iterable[Any]) -> None:
        """Offer these layers, and pick what the user chose; else the first of the likely ones."""
        self._layers = list(names)
        if self._chosen not in self._layers:
            self._chosen = None
        candidates = [layer for layer in (self._chosen, *likely) if layer in self._layers]
        self.clear()
        self.addItems(list(names.values()))
        self.setCurrentIndex(self._layers.index(candidates[0]) if candidates else -1)

    def _on_activated(self) -> None:
        self._chosen = self.layer
        self.changed.emit()


class ImageChoice(LayerChoice):
    """One of the image layers of a viewer, other than maps: first the one that is added last.

    `changed` is emitted for every other image, whether it is the user's choice or the former one has gone.
    """

    def __init__(self, viewer: Viewer, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(tip, parent)
        self._viewer = viewer
        for event in self._events():
            event.connect(self._refresh)
        self._refresh()

    @property
    def image(self) -> Image | None:
        """The image that is picked."""
        return self.layer if isinstance(self.layer, Image) else None

    @property
    def images(self) -> list[Image]:
        """The images that are offered."""
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        return [image for image in images if not metadata_of(image).is_map]

    def pick(self, image: Image) -> None:
        """Pick an image as a user does; one that is not offered is passed over."""
        if image in self.images and image is not self.image:
            self.choose(image)

    def disconnect_viewer(self) -> None:
        """Let go of the viewer, whose events would else reach a widget that is gone."""
        for event in self._events():
            event.disconnect(self._refresh)

    def _events(self) -> tuple:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered, events.renamed

    def _refresh(self) -> None:
        """Take the layers as they are now, and stay with the one that was picked."""
        before, images = self.image, self.images
        self.offer({image: image.name for image in images}, [before, *images[-1:]])
        if self.image is not before:
            self.changed.emit()


@contextmanager
def kept_selection(viewer: Viewer) -> Iterator[None]:
    """Add or remove layers without another one becoming active: who paints goes on painting.

    Meanwhile napari shows no values under the mouse. It would take them of each layer that becomes active
    on the way, and napari 0.9 fails at labels with features where the mouse rests on a canvas that was
    switched to 3D: adding the layer would end in an exception.
    """
    layers, is_over = viewer.layers, viewer.mouse_over_canvas
    selected, active = set(layers.selection), layers.selection.active
    viewer.mouse_over_canvas = False
    try:
        yield
        if active in layers:
            layers.selection.active = active
        elif active is None:
            layers.selection = selected & set(layers)
    finally:
        viewer.mouse_over_canvas = is_over
