"""Pick an image and the labels that go with it, out of the layers of a viewer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from napari_swipe.layers.choice import ImageChoice, LayerChoice
from napari_swipe.layers.metadata import metadata_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_swipe.annotate.pair import Pair

NEW = "New annotation"


class PairPicker(QWidget):
    """Two boxes and a button. Labels of several levels, which cannot be painted, are not offered."""

    chosen = Signal(object, object)
    """An image layer, and a labels layer or None for a new one."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._taken: set[Layer] = set()
        self.image_box = ImageChoice(viewer, "The image to annotate.")
        self.labels_box = LayerChoice(
            "A new empty layer to paint on, or labels that exist already, of the same shape as the image."
        )
        self.button = QPushButton("Add")
        self.button.setToolTip("Annotate this image.")
        # Labels that were picked for one image are not those of the next.
        self.image_box.changed.connect(lambda: self.labels_box.choose(None))
        self.button.clicked.connect(lambda: self.chosen.emit(self.image, self.labels))
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        grid.addWidget(QLabel("Image"), 0, 0)
        grid.addWidget(self.image_box, 0, 1, 1, 2)
        grid.addWidget(QLabel("Labels"), 1, 0)
        grid.addWidget(self.labels_box, 1, 1)
        grid.addWidget(self.button, 1, 2)
        for event in self._events():
            event.connect(self._refresh)
        viewer.layers.selection.events.active.connect(self._follow)
        self._refresh()

    def disconnect_viewer(self) -> None:
        """Let go of the viewer."""
        self.image_box.disconnect_viewer()
        for event in self._events():
            event.disconnect(self._refresh)
        self._viewer.layers.selection.events.active.disconnect(self._follow)

    @property
    def image(self) -> Image | None:
        """The image that is picked."""
        return self.image_box.image

    @property
    def labels(self) -> Labels | None:
        """The labels that are picked; None for a new layer."""
        return self.labels_box.layer

    def pick(self, image: Image, labels: Labels | None = None) -> None:
        """Choose layers, as far as they are offered."""
        self.image_box.choose(image)
        self.labels_box.choose(labels)

    def set_taken(self, pairs: Collection[Pair]) -> None:
        """Offer no labels that are in pairs already, and propose an image that is in none."""
        self._taken = {layer for pair in pairs for layer in (pair.image, pair.labels)}
        self._refresh()
        free = [image for image in self.image_box.images if image not in self._taken]
        if self.image in self._taken and free:
            self.pick(free[0])

    def _events(self) -> Sequence[Any]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered, events.renamed)

    def _refresh(self) -> None:
        """Take the labels as they are now, and stay with those that were picked."""
        labels = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        free = [x for x in labels if not (x.multiscale or x in self._taken or metadata_of(x).is_map)]
        self.labels_box.offer({None: NEW} | {layer: layer.name for layer in free}, [None])
        self.button.setEnabled(self.image is not None)

    def _follow(self) -> None:
        """Pick an image that is made active in the layer list."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Image) and active not in self._taken:
            self.pick(active)
