"""Look at what is learned, and correct it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QPushButton, QWidget

from napari_swipe.segment.image_picker import IS_MAP

if TYPE_CHECKING:
    from napari import Viewer


class CorrectPanel(QWidget):
    """The image that is previewed, and the button that turns a prediction into labels to correct."""

    image_chosen = Signal()
    prediction_wanted = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._images: list[Image] = []
        self._box = QComboBox()
        self._box.setToolTip(
            "The image that the preview and the prediction are of. Any image, annotated or not."
        )
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(14)
        self._box.activated.connect(lambda _: self.image_chosen.emit())
        self.live = QCheckBox("Preview while it learns")
        self.live.setChecked(True)
        self.live.setToolTip(
            "Every few seconds what is in view is segmented with the weights of the moment, in a layer of "
            "its own. It takes less than a tenth of the time."
        )
        self.live.toggled.connect(lambda _: self.image_chosen.emit())
        self.predict = QPushButton("Prediction as labels")
        self.predict.setToolTip(
            "Segment this image with the model of the last round, into a new labels layer that you can edit. "
            "It takes the place of the image's annotation, whose layer stays: all of it then counts as "
            "right, and what you change counts most."
        )
        self.predict.clicked.connect(lambda: self.prediction_wanted.emit())
        self._words = QLabel(
            "Or paint only where the preview is wrong: what you paint after a round weighs more in the next."
        )
        self._words.setWordWrap(True)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Image", self._box)
        form.addRow("", self.live)
        form.addRow("", self.predict)
        form.addRow(self._words)
        for event in self._events():
            event.connect(self._refresh)
        self._refresh()

    @property
    def image(self) -> Image | None:
        index = self._box.currentIndex()
        return self._images[index] if 0 <= index < len(self._images) else None

    def choose(self, image: Image) -> None:
        """Look at this image."""
        if image in self._images:
            self._box.setCurrentIndex(self._images.index(image))
            self.image_chosen.emit()

    def disconnect_viewer(self) -> None:
        """Let go of the viewer, whose events would else reach a widget that is gone."""
        for event in self._events():
            event.disconnect(self._refresh)

    def _events(self) -> tuple:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered, events.renamed

    def _refresh(self) -> None:
        before = self.image
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        self._images = [layer for layer in layers if not layer.metadata.get(IS_MAP)]
        self._box.clear()
        self._box.addItems([layer.name for layer in self._images])
        if before in self._images:
            self._box.setCurrentIndex(self._images.index(before))
        if self.image is not before:
            self.image_chosen.emit()
