"""The boxes in which the channels are chosen that a model is given."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QWidget

from swipe_core.images.channels import COLOURS, Channels

EACH, CHOOSE = "each by itself", "choose…"
NARROW = 6  # letters


class ChannelBoxes(QWidget):
    """One box for each channel that a model takes, with those of an image to choose from."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._boxes: list[QComboBox] = []
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)

    @property
    def chosen(self) -> tuple[int, ...] | None:
        """Positions of the channels; None as long as one is missing."""
        positions = [box.currentIndex() - 1 for box in self._boxes]
        return tuple(positions) if positions and min(positions) >= 0 else None

    def show_choice(self, given: Channels, wanted: Channels, chosen: tuple[int, ...] | None) -> None:
        """Offer the channels of an image for those of a model, with some chosen before or none."""
        while self._row.count():
            old = self._row.takeAt(0).widget()
            old.hide()
            old.deleteLater()
        names = given.names or [str(number + 1) for number in range(given.count)]
        self._boxes = []
        for number in range(wanted.count):
            box = QComboBox()
            box.addItems([EACH if wanted.count == 1 else CHOOSE, *names])
            box.setCurrentIndex(0 if chosen is None else chosen[number] + 1)
            box.setMinimumContentsLength(NARROW)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            what = COLOURS[number] if wanted.is_colour else f"channel {number + 1}"
            box.setToolTip(f"The channel of the image that the model is given as its {what}.")
            box.currentIndexChanged.connect(self.changed)
            self._row.addWidget(box)
            self._boxes.append(box)
