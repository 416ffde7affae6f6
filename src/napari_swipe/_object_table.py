"""The table of objects: one row each, to look at, to go to, to copy and to save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_swipe._outputs import Objects
from napari_swipe._units import short_unit
from swipe_core.errors import SwipeError

if TYPE_CHECKING:
    from swipe_core.objects import ObjectMeasurement


class ObjectTable(QWidget):
    """Number, class, size, position and largest diameter of every object, in world units."""

    chosen = Signal(int, tuple)
    """The number of the object whose row was clicked, and its position in the world."""

    def __init__(self, objects: Objects, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._objects = objects
        self.table = QTableWidget(len(objects.measurements), len(headings(objects)))
        self.table.setHorizontalHeaderLabels(headings(objects))
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setToolTip("Click a row to go to the object; click a heading to sort.")
        for row, measurement in enumerate(objects.measurements):
            for column, value in enumerate(cells(measurement)):
                self.table.setItem(row, column, _item(value))
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.table.resizeColumnsToContents()
        self.table.itemSelectionChanged.connect(self._on_selection)
        copy, save = QPushButton("Copy"), QPushButton("Save as CSV…")
        copy.setToolTip("Put the table on the clipboard, for a spreadsheet.")
        save.setToolTip("Write the table to a file.")
        copy.clicked.connect(self.copy)
        save.clicked.connect(self._ask_and_save)
        row_of_buttons = QHBoxLayout()
        row_of_buttons.addWidget(QLabel(f"{len(objects.measurements)} objects"), 1)
        row_of_buttons.addWidget(copy)
        row_of_buttons.addWidget(save)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addLayout(row_of_buttons)

    def copy(self) -> None:
        """The table as tab-separated text on the clipboard."""
        rows: list[list[Any]] = [cells(measurement) for measurement in self._objects.measurements]
        text = "\n".join("\t".join(str(value) for value in line) for line in [headings(self._objects), *rows])
        QGuiApplication.clipboard().setText(text)
        show_info("The table is on the clipboard.")

    def save(self, path: str) -> None:
        """Write the table as CSV; what cannot be written is said in a notification."""
        from swipe_core.objects import write_object_table

        try:
            write_object_table(path, self._objects.measurements, self._objects.unit, self._objects.ndim)
            show_info(f"The table is in {path}.")
        except SwipeError as error:
            show_error(str(error))

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", "objects.csv", "Tables (*.csv)")
        if path:
            self.save(path)

    def _on_selection(self) -> None:
        rows = {index.row() for index in self.table.selectedIndexes()}
        if len(rows) == 1:
            number = int(self.table.item(rows.pop(), 0).data(Qt.ItemDataRole.DisplayRole))
            found = next(m for m in self._objects.measurements if m.number == number)
            self.chosen.emit(number, tuple(found.centroid_world))


def headings(objects: Objects) -> list[str]:
    unit = short_unit(objects.unit)
    power, size = {2: ("²", "area"), 3: ("³", "volume")}[objects.ndim]
    axes = "zyx"[-objects.ndim :]
    places = [f"{axis} [{unit}]" for axis in axes]
    return ["number", "class", f"{size} [{unit}{power}]", *places, f"largest diameter [{unit}]"]


def cells(measurement: ObjectMeasurement) -> list[float | int | str]:
    """A row: numbers rounded to five figures."""
    places = [float(f"{c:.5g}") for c in measurement.centroid_world]
    size, diameter = float(f"{measurement.size:.5g}"), float(f"{measurement.largest_diameter:.5g}")
    return [measurement.number, measurement.class_name, size, *places, diameter]


def _item(value: float | int | str) -> QTableWidgetItem:
    item = QTableWidgetItem()
    item.setData(Qt.ItemDataRole.DisplayRole, value)  # as a number, so that 10 sorts after 9
    return item
