"""The classes that are painted, how much of each there is, and what voxels mean that nobody painted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QColorDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QTableWidgetItem,
    QWidget,
)

from napari_swipe.annotate.pair_table import short_count
from napari_swipe.qt.layouts import column, ink_of, sentence
from napari_swipe.qt.tables import ShortTable, fixed
from swipe_core.data.labels import BACKGROUND

if TYPE_CHECKING:
    from swipe_core.data.annotations import AnnotationScheme, Unpainted

COLOUR, LABEL, NAME, PAINTED, HINT = range(5)
CHIP = 14  # pixels
TOO_LITTLE = "too little"
CHOICES: dict[Unpainted, tuple[str, str]] = {
    "ignored": (
        "not annotated",
        "Only paint teaches: a few strokes in every class and some in the background, which has label 1.",
    ),
    "background": (
        "background",
        "All that is left unpainted is taught as background: annotate every image completely.",
    ),
}
INSTANCES = "Every label is one object, and all of them are one class."


class ClassTable(QWidget):
    """One row for each label that can be painted; the background is one of them where it is painted."""

    chosen = Signal(int)
    """The label of the row that was clicked."""
    renamed = Signal(int, str)
    recoloured = Signal(int, str)
    addition_requested = Signal()
    removal_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scheme: AnnotationScheme | None = None
        self.table = ShortTable(("", "Label", "Class", "Painted", ""), wide=NAME)
        self.table.setToolTip(
            "Click a row to paint with it; click its colour, or double-click its name, to change it."
        )
        self.table.cellClicked.connect(self._on_click)
        self.table.itemChanged.connect(self._on_edit)
        self.add_button, self.remove_button = QPushButton("+ Class"), QPushButton("− Class")
        self.add_button.setToolTip("One more class, with the next label.")
        self.remove_button.setToolTip("Take the last class away, as long as nothing is painted with it.")
        self.add_button.clicked.connect(lambda: self.addition_requested.emit())
        self.remove_button.clicked.connect(lambda: self.removal_requested.emit())
        row = QHBoxLayout()
        row.addWidget(self.add_button)
        row.addWidget(self.remove_button)
        row.addStretch(1)
        column(self, self.table, row)

    def show_scheme(self, scheme: AnnotationScheme) -> None:
        """Show other rows; what is painted is shown by `show_totals`."""
        self._scheme = scheme
        with QSignalBlocker(self.table):
            self.table.setRowCount(len(scheme.painted))
            for row, (label, name) in enumerate(scheme.painted.items()):
                self._fill_row(row, label, name, scheme)
        self.add_button.setEnabled(not scheme.instances)
        self.remove_button.setEnabled(len(scheme.class_names) > 1)
        self.table.fit()

    def show_totals(self, totals: Mapping[str, int], too_little: Collection[str]) -> None:
        """Show painted voxels by name over all images, and which are too few to learn from."""
        with QSignalBlocker(self.table):
            for row in range(self.table.rowCount()):
                name = self.table.item(row, NAME).text()
                self.table.item(row, PAINTED).setText(short_count(totals.get(name, 0)))
                self.table.item(row, PAINTED).setToolTip(f"{totals.get(name, 0):,} voxels over all images")
                self.table.item(row, HINT).setText(TOO_LITTLE if name in too_little else "")

    def show_chosen(self, label: int | None) -> None:
        """Mark the row of the label that is painted with."""
        labels = [] if self._scheme is None else list(self._scheme.painted)
        if self._scheme is not None and self._scheme.instances and label:
            label = min(label, max(self._scheme.painted))
        self.table.show_selected(labels.index(label) if label in labels else None)

    def _fill_row(self, row: int, label: int, name: str, scheme: AnnotationScheme) -> None:
        if self.table.item(row, NAME) is None:
            for column in (COLOUR, LABEL, NAME, PAINTED, HINT):
                self.table.setItem(row, column, fixed(""))
        # Cells are kept: Qt still looks at the one that was edited after it has emitted its signal.
        colour, number, named, _, hint = (self.table.item(row, column) for column in range(5))
        are_objects = scheme.instances and name != BACKGROUND
        colour.setIcon(QIcon() if are_objects else _icon(scheme.painted_colours[label]))
        colour.setToolTip("Every object has a colour of its own." if are_objects else "")
        number.setText(f"{label}, {label + 1}, …" if are_objects else str(label))
        named.setText(name)
        editable = Qt.ItemFlag.NoItemFlags if name == BACKGROUND else Qt.ItemFlag.ItemIsEditable
        named.setFlags(fixed("").flags() | editable)
        hint.setForeground(ink_of(self).fault)

    def _on_click(self, row: int, column: int) -> None:
        if self._scheme is None:
            return
        label = list(self._scheme.painted)[row]
        self.chosen.emit(label)
        if column == COLOUR and self._scheme.painted[label] != BACKGROUND and not self._scheme.instances:
            self._ask_colour(label)

    def _ask_colour(self, label: int) -> None:
        assert self._scheme is not None
        before, name = QColor(self._scheme.painted_colours[label]), self._scheme.painted[label]
        colour = QColorDialog.getColor(before, self, f"Colour of {name}")
        if colour.isValid():
            self.recoloured.emit(label, colour.name())

    def _on_edit(self, item: QTableWidgetItem) -> None:
        if item.column() == NAME and self._scheme is not None:
            label = list(self._scheme.painted)[item.row()]
            self.renamed.emit(label, item.text().strip())


class PolicySwitch(QWidget):
    """Two choices with a line that explains the one that is made."""

    chosen = Signal(str)
    """"ignored" or "background"."""
    instances_chosen = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons = {unpainted: QRadioButton(text) for unpainted, (text, _) in CHOICES.items()}
        group = QButtonGroup(self)
        row = QHBoxLayout()
        for unpainted, button in self.buttons.items():
            button.setToolTip(CHOICES[unpainted][1])
            button.clicked.connect(lambda _, chosen=unpainted: self.chosen.emit(chosen))
            group.addButton(button)
            row.addWidget(button)
        row.addStretch(1)
        self._words = sentence()
        self.instances = QCheckBox("Labels number single objects")
        self.instances.setToolTip(INSTANCES)
        self.instances.clicked.connect(self.instances_chosen)
        column(self, QLabel("Unpainted means"), row, self._words, self.instances)

    def show_scheme(self, scheme: AnnotationScheme) -> None:
        """Show the choices as they are."""
        self.buttons[scheme.unpainted].setChecked(True)
        self.instances.setChecked(scheme.instances)
        words = CHOICES[scheme.unpainted][1]
        objects = f"{INSTANCES} Paint one stroke in each, with a number of its own." * (
            scheme.unpainted == "ignored"
        )
        self._words.setText(f"{words} {objects or INSTANCES}" if scheme.instances else words)
        self._words.setStyleSheet(f"color: {ink_of(self).faint.name()}")


def _icon(colour: str) -> QIcon:
    """A square of a colour, in the colours that a selected row keeps."""
    pixmap = QPixmap(CHIP, CHIP)
    pixmap.fill(QColor(colour))
    drawn = QIcon(pixmap)
    drawn.addPixmap(pixmap, QIcon.Mode.Selected)
    return drawn
