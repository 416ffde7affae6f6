"""The table of what was measured from the boundary: each number with its error, in units of the world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem, QWidget

from napari_swipe.qt.tables import TablePanel

if TYPE_CHECKING:
    from swipe_core.export.outlines import Scene

NOTE = "Measured on the boundary, within ± its numerical error; nothing here is counted in voxels."


class BoundaryTable(TablePanel):
    """A row for each object; of a volume also for each class, with the band of its volume if it is known."""

    def __init__(self, scene: Scene, parent: QWidget | None = None) -> None:
        from swipe_core.export.table import lines_of

        self._scene = scene
        self._headings, *self._rows = lines_of(scene)
        count = len(self._rows)
        below = f"{count} row{'s' * (count != 1)}"
        super().__init__(self._filled(), NOTE, below, "measurements.csv", parent)

    def lines(self) -> list[list[str]]:
        """Return the table as it is shown."""
        return [self._headings, *self._rows]

    def write(self, path: str) -> None:
        """Write the table as CSV, errors in columns of their own."""
        from swipe_core.export.table import write_table
        from swipe_core.images.files import image_draft

        with image_draft(Path(path)) as draft:
            write_table(draft, self._scene)

    def _filled(self) -> QTableWidget:
        table = QTableWidget(len(self._rows), len(self._headings))
        table.setHorizontalHeaderLabels(self._headings)
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        for row, cells in enumerate(self._rows):
            for column, cell in enumerate(cells):
                table.setItem(row, column, QTableWidgetItem(cell))
        table.resizeColumnsToContents()
        return table
