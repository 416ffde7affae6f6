"""Pick an image and the labels that go with it, out of the layers of a viewer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from napari_swipe.layers.choice import IS_MAP

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_swipe.annotate.layers import Pair

NEW = "New annotation"


class PairPicker(QWidget):
    """Two boxes and a button. Labels of several levels, which cannot be painted, are not offered."""

    wanted = Signal(object, object)
    """An image layer, and a labels layer or None for a new one."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: dict[str, list[Layer]] = {"image": [], "labels": []}
        self._taken: set[Layer] = set()
        self.image_box, self.labels_box, self.button = _box(), _box(), QPushButton("Add")
        self.image_box.setToolTip("The image to annotate.")
        self.labels_box.setToolTip(
            "A new empty layer to paint on, or labels that exist already, of the same shape as the image."
        )
        self.button.setToolTip("Annotate this image.")
        # Labels that were picked for one image are not those of the next.
        self.image_box.activated.connect(lambda _: self.labels_box.setCurrentIndex(0))
        self.button.clicked.connect(lambda: self.wanted.emit(self.image, self.labels))
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
        for event in self._events():
            event.disconnect(self._refresh)
        self._viewer.layers.selection.events.active.disconnect(self._follow)

    @property
    def image(self) -> Image | None:
        return _picked(self.image_box, self._layers["image"])

    @property
    def labels(self) -> Labels | None:
        """None for a new layer."""
        return _picked(self.labels_box, self._layers["labels"], offset=1)

    def pick(self, image: Image, labels: Labels | None = None) -> None:
        """Choose layers, as far as they are offered."""
        if image in self._layers["image"]:
            self.image_box.setCurrentIndex(self._layers["image"].index(image))
        known = labels is not None and labels in self._layers["labels"]
        self.labels_box.setCurrentIndex(1 + self._layers["labels"].index(labels) if known else 0)

    def set_taken(self, pairs: Collection[Pair]) -> None:
        """Which layers are in pairs: their labels are not offered, and another image is proposed."""
        self._taken = {layer for pair in pairs for layer in (pair.image, pair.labels)}
        self._refresh()
        if self.image in self._taken:
            free = [image for image in self._layers["image"] if image not in self._taken]
            if free:
                self.pick(free[0])

    def _events(self) -> Sequence[Any]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered, events.renamed)

    def _refresh(self) -> None:
        """Take the layers as they are now, and stay with those that were picked."""
        image, labels = self.image, self.labels
        layers = [layer for layer in self._viewer.layers if not layer.metadata.get(IS_MAP)]
        self._layers = {
            "image": [x for x in layers if isinstance(x, Image)],
            "labels": [
                x for x in layers if isinstance(x, Labels) and not x.multiscale and x not in self._taken
            ],
        }
        _fill(self.image_box, [layer.name for layer in self._layers["image"]])
        _fill(self.labels_box, [NEW, *(layer.name for layer in self._layers["labels"])])
        images = self._layers["image"]
        if images:
            self.pick(image if image in images else images[-1], labels)
        self.button.setEnabled(bool(images))

    def _follow(self) -> None:
        """An image that is made active in the layer list is the one to annotate."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Image) and active not in self._taken:
            self.pick(active)


def _box() -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(10)
    return box


def _fill(box: QComboBox, names: Sequence[str]) -> None:
    box.clear()
    box.addItems(list(names))


def _picked(box: QComboBox, layers: Sequence[Any], offset: int = 0) -> Any:
    index = box.currentIndex() - offset
    return layers[index] if 0 <= index < len(layers) else None
