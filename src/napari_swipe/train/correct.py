"""Look at what is learned, and correct it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QPushButton, QWidget

from napari_swipe.layers.choice import ImageChoice

if TYPE_CHECKING:
    from napari import Viewer


class CorrectPanel(QWidget):
    """The image that is previewed, and the button that turns a prediction into labels to correct."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.images = ImageChoice(
            viewer, "The image that the preview and the prediction are of. Any image, annotated or not."
        )
        self.live = QCheckBox("Preview while it learns")
        self.live.setChecked(True)
        self.live.setToolTip(
            "Every few seconds what is in view is segmented with the weights of the moment, in a layer of "
            "its own. It takes less than a tenth of the time."
        )
        self.predict = QPushButton("Prediction as labels")
        self.predict.setToolTip(
            "Segment this image with the model of the last round, into a new labels layer that you can edit. "
            "It takes the place of the image's annotation, whose layer stays: all of it then counts as "
            "right, and what you change counts most."
        )
        hint = QLabel(
            "Or paint only where the preview is wrong: what you paint after a round weighs more in the next."
        )
        hint.setWordWrap(True)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Image", self.images)
        form.addRow("", self.live)
        form.addRow("", self.predict)
        form.addRow(hint)
