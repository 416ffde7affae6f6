"""Which network a training from nothing makes; those that cannot be had say why."""

from __future__ import annotations

import html

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QWidget

from napari_swipe.qt.number_box import ChoiceBox
from swipe_core.networks.catalogue import CATALOGUE, SWIPE, NetworkEntry, offered


class NetworkBox(ChoiceBox):
    """The networks by title, SwIPE first.

    What the user chose is remembered where it cannot be had for the images of the moment: SwIPE takes its
    place until it can.
    """

    changed = Signal()
    """Another network will be trained, by the user's choice or since the images are others."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({name: entry.title for name, entry in CATALOGUE.items()}, parent)
        self._chosen = SWIPE
        self.offer(2)
        self.currentIndexChanged.connect(lambda _: self._on_index())

    @property
    def chosen(self) -> str:
        """The network that was chosen, also where it cannot be had now."""
        return self._chosen

    def remember(self, name: str) -> None:
        """Choose a network, now or once it can be had; a name that is not known here is passed over."""
        if name in CATALOGUE:
            self._chosen = name
            self._show()

    def offer(self, ndim: int) -> None:
        """Show what can be had for images of a dimension."""
        model = self.model()
        assert isinstance(model, QStandardItemModel)
        for index, (name, hindrance) in enumerate(offered(ndim).items()):
            model.item(index).setEnabled(hindrance is None)
            self.setItemData(index, about(CATALOGUE[name], hindrance), Qt.ItemDataRole.ToolTipRole)
        self._show()

    def _show(self) -> None:
        before, index = self.choice, self.findData(self._chosen)
        can_be_had = bool(self.model().flags(self.model().index(index, 0)) & Qt.ItemFlag.ItemIsEnabled)
        with QSignalBlocker(self):
            self.setCurrentIndex(index if can_be_had else self.findData(SWIPE))
        self._show_tip()
        if self.choice != before:
            self.changed.emit()

    def _on_index(self) -> None:
        self._chosen = self.choice
        self._show_tip()
        self.changed.emit()

    def _show_tip(self) -> None:
        self.setToolTip(str(self.currentData(Qt.ItemDataRole.ToolTipRole)))


def about(entry: NetworkEntry, hindrance: str | None) -> str:
    """Describe a network in rich text, which breaks lines: why it cannot be had, if so, and what it is."""
    text = f"<b>{html.escape(entry.title)}</b> ({entry.year}). {html.escape(entry.summary)}"
    return f"<qt>{text}</qt>" if hindrance is None else f"<qt>{html.escape(hindrance)}<br>{text}</qt>"
