"""The table of objects: one row each, to look at, to go to, to copy and to save."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem, QWidget

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.source import LayerSource
from napari_swipe.layers.watch import LayerWatch
from napari_swipe.qt.tables import TablePanel
from napari_swipe.segment.object_editor import ObjectEditor
from napari_swipe.segment.outputs import Objects

if TYPE_CHECKING:
    from napari.layers import Labels

    from swipe_core.measure.objects import Column, ObjectMeasurement

DIGITS = 5
COUNTED = 2**22  # voxels, at most, that are measured anew while the window waits


class ObjectTable(TablePanel):
    """What was measured of every object, in world units: the `OBJECT_COLUMNS`."""

    chosen = Signal(int, tuple)
    """The number of the object whose row was clicked, and its position in the world."""
    editor: ObjectEditor | None = None
    """Corrects the objects by hand, where they are followed."""

    def __init__(self, objects: Objects, parent: QWidget | None = None) -> None:
        from swipe_core.measure.objects import columns_of

        self._objects, self._columns = objects, columns_of(objects.ndim)
        super().__init__(self._filled(), "", _counted(objects), "objects.csv", parent)
        self.table.itemSelectionChanged.connect(self._on_selection)

    def follow(self, labels: Labels) -> None:
        """Measure anew what is drawn into a layer, and let its objects be corrected by hand.

        Where too much would have to be measured, or the layer lies elsewhere now, the rows are grey, with a
        sentence.
        """
        roles = AxisRoles(("space",) * labels.ndim)
        source = LayerSource.from_layer(labels, roles).sealed()
        watch = LayerWatch()

        def check(layer: Labels) -> None:
            nonlocal source
            difference = source.difference(layer)
            if difference == "other data" and self._can_count(layer):
                self._count(layer)
                source, difference = LayerSource.from_layer(layer, roles).sealed(), None
            self.table.setEnabled(difference is None)
            self.caption.setVisible(difference is not None)
            self.caption.setText(f"{layer.name} has {difference} than when it was measured: count again.")

        watch.changed.connect(check)
        watch.redrawn.connect(check)
        watch.follow([labels])
        self.destroyed.connect(lambda: watch.stop())
        if self._objects.classes is not None:
            self.editor = ObjectEditor(labels, self)
            self.layout().insertWidget(0, self.editor)

    def _can_count(self, labels: Labels) -> bool:
        classes = self._objects.classes
        return classes is not None and labels.data.size == classes.array.size <= COUNTED

    def _count(self, labels: Labels) -> None:
        """Measure the objects that a layer has now."""
        from swipe_core.images import LabelMap
        from swipe_core.measure.objects import measure_objects

        classes = self._objects.classes
        assert classes is not None
        numbers = np.asarray(labels.data).reshape(classes.shape)
        if len(classes.class_names) == 1:  # also where the network saw none
            classes = replace(classes, array=np.ones_like(classes.array))
        measured = measure_objects(
            LabelMap(numbers, classes.affine, classes.unit), classes, classes.class_names
        )
        self._objects = replace(self._objects, measurements=measured)
        self._fill(self.table)
        self.below.setText(_counted(self._objects))

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
        table = QTableWidget(0, len(self._columns))
        table.setHorizontalHeaderLabels(self._headings())
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setToolTip("Click a row to go to the object; click a heading to sort.")
        self._fill(table)
        table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        table.resizeColumnsToContents()
        return table

    def _fill(self, table: QTableWidget) -> None:
        table.setSortingEnabled(False)  # rows would move while they are filled
        table.setRowCount(len(self._objects.measurements))
        for row, measurement in enumerate(self._objects.measurements):
            for place, column in enumerate(self._columns):
                table.setItem(row, place, _item(column, measurement))
        table.setSortingEnabled(True)

    def _on_selection(self) -> None:
        rows = {index.row() for index in self.table.selectedIndexes()}
        if len(rows) == 1:
            number = int(self.table.item(rows.pop(), 0).data(Qt.ItemDataRole.DisplayRole))
            found = next(m for m in self._objects.measurements if m.number == number)
            self.chosen.emit(number, tuple(found.centroid_world))


def _counted(objects: Objects) -> str:
    count = len(objects.measurements)
    return f"{count} object{'s' * (count != 1)}"


def _item(column: Column, measurement: ObjectMeasurement) -> QTableWidgetItem:
    value = column.value(measurement)
    item = QTableWidgetItem()
    # Numbers as such, so that 10 sorts after 9.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = column.text(measurement, DIGITS)
    item.setData(Qt.ItemDataRole.DisplayRole, type(value)(text) if is_number else text)
    return item
