"""Which network a training from nothing makes; those that cannot be had say why."""

from __future__ import annotations

import html

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QWidget

from napari_swipe.qt.number_box import ChoiceBox
from swipe_core.checkpoints.header import FIRST_NETWORK
from swipe_core.networks.catalogue import CATALOGUE, NetworkEntry, offered


class NetworkBox(ChoiceBox):
    """The networks by title, SwIPE first.

    What the user chose is remembered where it cannot be had for the images of the moment: SwIPE takes its
    place until it can.
    """

    changed = Signal()
    """Another network will be trained, by the user's choice or since the images are others."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({name: entry.title for name, entry in CATALOGUE.items()}, parent)
        self._wanted = FIRST_NETWORK
        self.offer(2)
        self.currentIndexChanged.connect(lambda _: self._on_index())

    @property
    def wanted(self) -> str:
        """What was chosen, be it to be had or not."""
        return self._wanted

    def want(self, name: str) -> None:
        """Choose a network, now or once it can be had; a name that is not known here is passed over."""
        if name in CATALOGUE:
            self._wanted = name
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
        before, index = self.choice, self.findData(self._wanted)
        can_be_had = bool(self.model().flags(self.model().index(index, 0)) & Qt.ItemFlag.ItemIsEnabled)
        with QSignalBlocker(self):
            self.setCurrentIndex(index if can_be_had else self.findData(FIRST_NETWORK))
        self._tell()
        if self.choice != before:
            self.changed.emit()

    def _on_index(self) -> None:
        self._wanted = self.choice
        self._tell()
        self.changed.emit()

    def _tell(self) -> None:
        self.setToolTip(str(self.currentData(Qt.ItemDataRole.ToolTipRole)))


def about(entry: NetworkEntry, hindrance: str | None) -> str:
    """A network as rich text, which breaks lines: why it cannot be had, if so, and what it is."""
    words = f"<b>{html.escape(entry.title)}</b> ({entry.year}). {html.escape(entry.summary)}"
    return f"<qt>{words}</qt>" if hindrance is None else f"<qt>{html.escape(hindrance)}<br>{words}</qt>"
