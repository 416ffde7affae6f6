"""What is learned from: a table of annotated images, and a list of data sets on disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QWidget,
)

from napari_swipe.annotate.pair import Pair, Split
from napari_swipe.layers.choice import ImageChoice, LayerChoice
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.qt.layouts import column, sentence
from napari_swipe.qt.tables import ShortTable, fixed

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer


NEW = "New annotation"


class PairPicker(QWidget):
    """Two boxes and a button. Labels of several levels, which cannot be painted, are not offered."""

    chosen = Signal(object, object)
    """An image layer, and a labels layer or None for a new one."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._taken: set[Layer] = set()
        self.image_box = ImageChoice(viewer, "The image to annotate.")
        self.labels_box = LayerChoice(
            "A new empty layer to paint on, or labels that exist already, of the same shape as the image."
        )
        self.button = QPushButton("Add")
        self.button.setToolTip("Annotate this image.")
        # Labels that were picked for one image are not those of the next.
        self.image_box.changed.connect(lambda: self.labels_box.choose(None))
        self.button.clicked.connect(lambda: self.chosen.emit(self.image, self.labels))
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
        self.image_box.disconnect_viewer()
        for event in self._events():
            event.disconnect(self._refresh)
        self._viewer.layers.selection.events.active.disconnect(self._follow)

    @property
    def image(self) -> Image | None:
        """The image that is picked."""
        return self.image_box.image

    @property
    def labels(self) -> Labels | None:
        """The labels that are picked; None for a new layer."""
        return self.labels_box.layer

    def pick(self, image: Image, labels: Labels | None = None) -> None:
        """Choose layers, as far as they are offered."""
        self.image_box.choose(image)
        self.labels_box.choose(labels)

    def set_taken(self, pairs: Collection[Pair]) -> None:
        """Offer no labels that are in pairs already, and propose an image that is in none."""
        self._taken = {layer for pair in pairs for layer in (pair.image, pair.labels)}
        self._refresh()
        free = [image for image in self.image_box.images if image not in self._taken]
        if self.image in self._taken and free:
            self.pick(free[0])

    def _events(self) -> Sequence[Any]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered, events.renamed)

    def _refresh(self) -> None:
        """Take the labels as they are now, and stay with those that were picked."""
        labels = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        free = [x for x in labels if not (x.multiscale or x in self._taken or metadata_of(x).is_map)]
        self.labels_box.offer({None: NEW} | {layer: layer.name for layer in free}, [None])
        self.button.setEnabled(self.image is not None)

    def _follow(self) -> None:
        """Pick an image that is made active in the layer list."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Image) and active not in self._taken:
            self.pick(active)


USES: dict[Split, str] = {"train": "train", "val": "validation"}
IMAGE, USE, PAINTED, REMOVE = range(4)
NAME_WIDTH = 96  # pixels
PATH_LENGTH = 34  # characters of a path that are shown


class PairTable(QWidget):
    """One row for each pair, in order."""

    chosen = Signal(str)
    """The name of the pair whose row was clicked."""
    split_chosen = Signal(str, str)
    """The name of a pair, and what it is used for from now on."""
    removal_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pairs: list[Pair] = []
        self.table = _WrappingTable(("Image", "Use", "Painted", ""), wide=PAINTED)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(IMAGE, header.ResizeMode.Interactive)
        self.table.setColumnWidth(IMAGE, NAME_WIDTH)
        self.table.setToolTip(
            "Click a row to paint on it. Images for validation are measured, never learned from."
        )
        self.table.cellClicked.connect(lambda row, column: self.chosen.emit(self._pairs[row].name))
        column(self, self.table)

    def show_pairs(self, pairs: Sequence[Pair]) -> None:
        """Show other rows; what is painted is shown by `show_painted`."""
        self._pairs = list(pairs)
        self.table.setRowCount(0)
        self.table.setRowCount(len(pairs))
        for row, pair in enumerate(pairs):
            self.table.setItem(row, IMAGE, fixed(""))
            self.table.setCellWidget(row, USE, self._use_box(pair))
            self.table.setCellWidget(row, PAINTED, _painted_label())
            tip = f"Take {pair.name} off the list. Its layers stay."
            remove = _remove_button(tip, partial(self.removal_requested.emit, pair.name))
            self.table.setCellWidget(row, REMOVE, remove)
        self.show_names()

    def show_names(self) -> None:
        """Show what the layers are called now."""
        for row, pair in enumerate(self._pairs):
            item = self.table.item(row, IMAGE)
            item.setText(pair.image.name)
            item.setToolTip(f"{pair.image.name}, painted in {pair.labels.name}")
        self.table.fit()

    def show_painted(self, name: str, counts: Mapping[str, int] | None, colours: Mapping[str, str]) -> None:
        """Show what is painted of a pair.

        `counts`: voxels of the classes by name, as far as they have a colour; None while they are counted.
        `colours`: ``"#rrggbb"`` by name.
        """
        row = self._row(name)
        if row is None:
            return
        label = self.table.cellWidget(row, PAINTED)
        shown = {} if counts is None else {known: counts.get(known, 0) for known in colours}
        parts = [
            f'<span style="color:{colours[known]}">■</span>&nbsp;{short_count(count)}'
            for known, count in shown.items()
            if count
        ]
        label.setText("counting …" if counts is None else " &nbsp;".join(parts) or "nothing yet")
        label.setToolTip("\n".join(f"{known}: {count:,} voxels" for known, count in shown.items()))
        self.table.fit()

    def show_chosen(self, name: str | None) -> None:
        """Mark the row of the pair that is painted on."""
        self.table.show_selected(self._row(name))

    def _row(self, name: str | None) -> int | None:
        return next((row for row, pair in enumerate(self._pairs) if pair.name == name), None)

    def _use_box(self, pair: Pair) -> QComboBox:
        box = _CalmBox()
        for split, text in USES.items():
            box.addItem(text, split)
        box.setCurrentIndex(list(USES).index(pair.split))
        box.setToolTip("Train: learn from it. Validation: measure Dice on it, and keep the best weights.")
        box.currentIndexChanged.connect(lambda _: self.split_chosen.emit(pair.name, box.currentData()))
        return box


class DataFolders(QWidget):
    """A list of data sets, each with images/ and labels/, or train/ and val/ with these inside."""

    addition_requested = Signal(Path)
    removal_requested = Signal(Path)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._button = QPushButton("Add folder…")
        self._button.setToolTip(
            "A data set on disk to learn from as well: a folder with images/ and labels/, or with train/ and "
            "val/ that hold these."
        )
        self._button.clicked.connect(self._ask)
        self._rows = QGridLayout()
        self._rows.setColumnStretch(0, 1)
        layout = column(self, self._rows)
        layout.addWidget(self._button, 0, Qt.AlignmentFlag.AlignLeft)

    def show_folders(self, folders: Sequence[Path]) -> None:
        """Show other folders, in order."""
        while self._rows.count():
            widget = self._rows.takeAt(0).widget()
            widget.hide()
            widget.deleteLater()
        for row, folder in enumerate(folders):
            text = str(folder)
            name = QLabel(text if len(text) <= PATH_LENGTH else f"…{text[-PATH_LENGTH:]}")
            name.setToolTip(text)
            tip = f"Do not learn from {folder}."
            remove = _remove_button(tip, partial(self.removal_requested.emit, folder))
            self._rows.addWidget(name, row, 0)
            self._rows.addWidget(remove, row, 1)

    def _ask(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A folder of annotated images")
        if chosen:
            self.addition_requested.emit(Path(chosen))


class _WrappingTable(ShortTable):
    """Rows are as high as their counts need, which Qt does not ask of labels in cells."""

    def fit_rows(self) -> None:
        super().fit_rows()
        for row in range(self.rowCount()):
            label = self.cellWidget(row, PAINTED)
            if label is not None:
                height = label.heightForWidth(self.columnWidth(PAINTED))
                self.setRowHeight(row, max(self.rowHeight(row), height))


class _CalmBox(QComboBox):
    """Scrolling the dock over it changes nothing."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        event.ignore()


def short_count(count: int) -> str:
    """A number of voxels in little room: "340", "12k", "3.4M"."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= 10 * size or (count >= size and size > 10**3):
            return f"{count / size:.3g}{letter}" if count < 1000 * size else f"{count / size:.0f}{letter}"
    return str(count)


def _remove_button(tip: str, on_click: Callable[[], object]) -> QToolButton:
    button = QToolButton()
    button.setText("✕")
    button.setToolTip(tip)
    button.setAutoRaise(True)
    button.clicked.connect(lambda: on_click())
    return button


def _painted_label() -> QLabel:
    label = sentence()
    label.setContentsMargins(2, 0, 2, 0)
    return label
