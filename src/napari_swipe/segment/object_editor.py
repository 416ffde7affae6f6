"""`ObjectEditor`: joins, cuts and takes away objects by lines drawn over them, each a step to undo."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_swipe.layers.geometry import layer_matrix
from swipe_core.errors import SwipeError
from swipe_core.measure import editing

if TYPE_CHECKING:
    from napari.layers import Labels

TIPS = {
    "Join": "Draw a line from one object into another: they become one.",
    "Cut": "Draw a line through an object, from side to side: it becomes two. In a volume the cut goes on "
    "through the slices, where the object is thinnest.",
    "Remove": "Click on an object, or draw a line through several: they become background.",
}


class ObjectEditor(QWidget):
    """Buttons, one of which may be down: then a drag over the layer does what it says.

    Ctrl+Z undoes each. `labels`: numbers of objects, one for each.
    """

    started = Signal()
    """A button went down: the layer should be the one that is active."""

    def __init__(self, labels: Labels, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._labels = labels
        self.buttons = {name: self._button(name, tip) for name, tip in TIPS.items()}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("By hand"))
        for button in self.buttons.values():
            row.addWidget(button)
        row.addWidget(QLabel("then draw on the image; Ctrl+Z undoes"), 1)
        labels.mouse_drag_callbacks.append(self._on_drag)
        self.destroyed.connect(lambda: _without(labels.mouse_drag_callbacks, self._on_drag))

    @property
    def chosen(self) -> str | None:
        """The button that is down."""
        return next((name for name, button in self.buttons.items() if button.isChecked()), None)

    def apply(self, name: str, path_voxel: np.ndarray) -> None:
        """Do what a button says along a line; a notification says where that is nothing."""
        objects = np.asarray(self._labels.data)
        try:
            if name == "Cut":
                spacing = np.linalg.norm(layer_matrix(self._labels)[:-1, :-1], axis=0)
                where, numbers = editing.cut(objects, path_voxel, spacing.tolist())
            else:
                change = editing.joined if name == "Join" else editing.removed
                where, numbers = change(objects, editing.crossed(objects, path_voxel))
        except SwipeError as error:
            show_warning(str(error))
            return
        self._labels.data_setitem(where, numbers)

    def _button(self, name: str, tip: str) -> QPushButton:
        button = QPushButton(name)
        button.setToolTip(tip)
        button.setCheckable(True)
        button.toggled.connect(lambda down: self._on_toggled(button, down))
        return button

    def _on_toggled(self, button: QPushButton, down: bool) -> None:
        if down:
            for other in self.buttons.values():
                if other is not button:
                    other.setChecked(False)
            self.started.emit()
        # The camera must not follow the drag.
        self._labels.mode = "pan_zoom"
        self._labels.mouse_pan = self.chosen is None

    def _on_drag(self, labels: Labels, event: Any) -> Generator[None, None, None]:
        name = self.chosen
        if name is None or labels.mode != "pan_zoom" or len(event.dims_displayed) != 2:
            return
        path = [labels.world_to_data(event.position)]
        yield
        while event.type == "mouse_move":
            path.append(labels.world_to_data(event.position))
            yield
        self.apply(name, np.array(path, dtype=np.float64))


def _without(callbacks: list[Any], callback: Any) -> None:
    if callback in callbacks:
        callbacks.remove(callback)
