"""The boxes in which the channels are chosen that a model is given."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_swipe.qt.layouts import Row
from swipe_core.images.channels import COLOURS, Channels

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
