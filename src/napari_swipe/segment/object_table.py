"""The table of objects: one row each, to look at, to go to, to copy and to save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QLabel, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.source import LayerSource
from napari_swipe.layers.watch import LayerWatch
from napari_swipe.qt.table_actions import TableActions
from napari_swipe.segment.outputs import Objects

if TYPE_CHECKING:
    from napari.layers import Labels

    from swipe_core.measure.objects import Column, ObjectMeasurement

DIGITS = 5


class ObjectTable(QWidget):
    """What was measured of every object, in world units: the `OBJECT_COLUMNS`."""

    chosen = Signal(int, tuple)
    """The number of the object whose row was clicked, and its position in the world."""

    def __init__(self, objects: Objects, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        from swipe_core.measure.objects import columns_of

        self._objects, self._columns = objects, columns_of(objects.ndim)
        self.table = QTableWidget(len(objects.measurements), len(self._columns))
        self.table.setHorizontalHeaderLabels(self._headings())
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setToolTip("Click a row to go to the object; click a heading to sort.")
        for row, measurement in enumerate(objects.measurements):
            for place, column in enumerate(self._columns):
                self.table.setItem(row, place, _item(column, measurement))
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.table.resizeColumnsToContents()
        self.table.itemSelectionChanged.connect(self._on_selection)
        words = f"{len(objects.measurements)} objects"
        self._actions = TableActions(words, self._lines, self._write, "objects.csv")
        self._change = QLabel()
        self._change.setWordWrap(True)
        self._change.hide()
        layout = QVBoxLayout(self)
        layout.addWidget(self._change)
        layout.addWidget(self.table)
        layout.addWidget(self._actions)

    def follow(self, labels: Labels) -> None:
        """Grey the rows out, with a sentence, while a layer is not the one that was measured."""
        source = LayerSource.from_layer(labels, AxisRoles(("space",) * labels.ndim)).sealed()
        watch = LayerWatch()

        def check(layer: Labels) -> None:
            difference = source.difference(layer)
            self.table.setEnabled(difference is None)
            self._change.setVisible(difference is not None)
            self._change.setText(f"{layer.name} has {difference} than when it was measured: count again.")

        watch.changed.connect(check)
        watch.redrawn.connect(check)
        watch.follow([labels])
        self.destroyed.connect(lambda: watch.stop())

    def copy(self) -> None:
        """The table as tab-separated text on the clipboard."""
        self._actions.copy()

    def save(self, path: str) -> None:
        """Write the table as CSV; what cannot be written is said in a notification."""
        self._actions.save(path)

    def _headings(self) -> list[str]:
        return [column.heading(self._objects.unit, self._objects.ndim) for column in self._columns]

    def _lines(self) -> list[list[str]]:
        measured = self._objects.measurements
        rows = [[column.text(each, DIGITS) for column in self._columns] for each in measured]
        return [self._headings(), *rows]

    def _write(self, path: str) -> None:
        from swipe_core.measure.objects import write_object_table

        write_object_table(path, self._objects.measurements, self._objects.unit, self._objects.ndim)

    def _on_selection(self) -> None:
        rows = {index.row() for index in self.table.selectedIndexes()}
        if len(rows) == 1:
            number = int(self.table.item(rows.pop(), 0).data(Qt.ItemDataRole.DisplayRole))
            found = next(m for m in self._objects.measurements if m.number == number)
            self.chosen.emit(number, tuple(found.centroid_world))


def _item(column: Column, measurement: ObjectMeasurement) -> QTableWidgetItem:
    value = column.value(measurement)
    item = QTableWidgetItem()
    # Numbers as such, so that 10 sorts after 9.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = column.text(measurement, DIGITS)
    item.setData(Qt.ItemDataRole.DisplayRole, type(value)(text) if is_number else text)
    return item
