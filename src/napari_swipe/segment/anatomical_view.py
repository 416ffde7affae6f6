"""The planes of a patient as radiologists look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_swipe.layers.metadata import metadata_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

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
