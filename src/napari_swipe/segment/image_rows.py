"""Rows about the image that is picked: the channels that a model is given, and the patient's planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from napari_swipe.layers.metadata import metadata_of
from napari_swipe.qt.layouts import Row
from swipe_core.images.channels import COLOURS, Channels

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


EACH, CHOOSE = "each by itself", "choose…"
NARROW = 6  # letters


class ChannelBoxes(Row):
    """One box for each channel that a model takes, with those of an image to choose from."""

    changed = Signal()

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """Positions of the channels; None as long as one is missing."""
        positions = [box.currentIndex() - 1 for box in self.widgets if isinstance(box, QComboBox)]
        return tuple(positions) if positions and min(positions) >= 0 else None

    def show_choice(self, given: Channels, taken: Channels, chosen: tuple[int, ...] | None) -> None:
        """Offer the channels of an image for those that a model takes, with some chosen before or none."""
        names = given.names or [str(number + 1) for number in range(given.count)]
        boxes = [QComboBox() for _ in range(taken.count)]
        for number, box in enumerate(boxes):
            box.addItems([EACH if taken.count == 1 else CHOOSE, *names])
            box.setCurrentIndex(0 if chosen is None else chosen[number] + 1)
            box.setMinimumContentsLength(NARROW)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            what = COLOURS[number] if taken.is_colour else f"channel {number + 1}"
            box.setToolTip(f"The channel of the image that the model is given as its {what}.")
            box.currentIndexChanged.connect(self.changed)
        self.replace(boxes)


PLANES = {
    "Axial": ((0, 1, 2), "from the feet: front up, the patient's right at the left"),
    "Coronal": ((1, 0, 2), "from the front: head up, the patient's right at the left"),
    "Sagittal": ((2, 0, 1), "from the side: head up, front at the left"),
}
"""By plane the order of the axes (head, front, right), the sliced one first, and what is seen, in words."""

# All three axes run against those of the screen: up and to the left; away, so that 3D is no mirror image.
ORIENTATION = ("away", "up", "left")


def is_anatomical(layer: Layer | None) -> bool:
    """Whether the last three axes of a layer's world are those of a patient."""
    space = None if layer is None else metadata_of(layer).space
    return layer is not None and layer.ndim >= 3 and getattr(space, "is_anatomical", False)


def show_plane(viewer: Viewer, plane: str) -> None:
    """Turn the camera and the order of the axes of a viewer; its layers stay as they are."""
    order, _ = PLANES[plane]
    dims = viewer.dims
    leading = dims.ndim - len(order)
    dims.ndisplay = 2
    dims.order = (*range(leading), *(leading + axis for axis in order))
    viewer.scene.camera.orientation = ORIENTATION
    viewer.reset_view()


class AnatomicalViews(QWidget):
    """A button for each plane."""

    plane_chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for plane, (_, words) in PLANES.items():
            button = QPushButton(plane)
            button.setToolTip(f"Show the {plane.lower()} plane, seen {words}. The data stay as they are.")
            button.clicked.connect(lambda _, plane=plane: self.plane_chosen.emit(plane))
            row.addWidget(button)
        row.addStretch(1)
