"""The table of objects: one row each, to look at, to go to, to copy and to save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem, QWidget

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.source import LayerSource
from napari_swipe.layers.watch import LayerWatch
from napari_swipe.qt.tables import TablePanel
from napari_swipe.segment.outputs import Objects

if TYPE_CHECKING:
    from napari.layers import Labels

    from swipe_core.measure.objects import Column, ObjectMeasurement

DIGITS = 5


class ObjectTable(TablePanel):
    """What was measured of every object, in world units: the `OBJECT_COLUMNS`."""

    chosen = Signal(int, tuple)
    """The number of the object whose row was clicked, and its position in the world."""

    def __init__(self, objects: Objects, parent: QWidget | None = None) -> None:
        from swipe_core.measure.objects import columns_of

        self._objects, self._columns = objects, columns_of(objects.ndim)
        super().__init__(self._filled(), "", f"{len(objects.measurements)} objects", "objects.csv", parent)
        self.table.itemSelectionChanged.connect(self._on_selection)

    def follow(self, labels: Labels) -> None:
        """Grey the rows out, with a sentence, while a layer is not the one that was measured."""
        source = LayerSource.from_layer(labels, AxisRoles(("space",) * labels.ndim)).sealed()
        watch = LayerWatch()

        def check(layer: Labels) -> None:
            difference = source.difference(layer)
            self.table.setEnabled(difference is None)
            self.caption.setVisible(difference is not None)
            self.caption.setText(f"{layer.name} has {difference} than when it was measured: count again.")

        watch.changed.connect(check)
        watch.redrawn.connect(check)
        watch.follow([labels])
        self.destroyed.connect(lambda: watch.stop())

    def lines(self) -> list[list[str]]:
        """Return the table as it is copied."""
        measured = self._objects.measurements
        rows = [[column.text(each, DIGITS) for column in self._columns] for each in measured]
        return [self._headings(), *rows]

    def write(self, path: str) -> None:
        """Write the table as CSV, with eight figures."""
        from swipe_core.measure.objects import write_object_table

        write_object_table(path, self._objects.measurements, self._objects.unit, self._objects.ndim)

    def _headings(self) -> list[str]:
        return [column.heading(self._objects.unit, self._objects.ndim) for column in self._columns]

    def _filled(self) -> QTableWidget:
        table = QTableWidget(len(self._objects.measurements), len(self._columns))
        table.setHorizontalHeaderLabels(self._headings())
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setToolTip("Click a row to go to the object; click a heading to sort.")
        for row, measurement in enumerate(self._objects.measurements):
            for place, column in enumerate(self._columns):
                table.setItem(row, place, _item(column, measurement))
        table.setSortingEnabled(True)
        table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        table.resizeColumnsToContents()
        return table

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
