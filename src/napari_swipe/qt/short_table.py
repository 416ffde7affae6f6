"""A table that is as high as its rows, for docks that scroll as a whole."""

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

ROWS = 7  # shown at most, before it scrolls


class ShortTable(QTableWidget):
    """One row can be selected; one column takes the width that the others leave.

    `wide`: the column that stretches.
    """

    def __init__(self, headings: Sequence[str], wide: int, parent: QWidget | None = None) -> None:
        super().__init__(0, len(headings), parent)
        self.setHorizontalHeaderLabels(list(headings))
        self.verticalHeader().hide()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWordWrap(False)
        self.setShowGrid(False)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setMinimumSectionSize(20)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(wide, QHeaderView.ResizeMode.Stretch)

    def fit(self) -> None:
        """Take the height of the rows; hidden without any."""
        self.setVisible(self.rowCount() > 0)
        self.fit_rows()
        rows = sum(self.rowHeight(row) for row in range(min(self.rowCount(), ROWS)))
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + rows + 2 * self.frameWidth())

    def fit_rows(self) -> None:
        """Give every row the height of its contents."""
        self.resizeRowsToContents()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        self.fit()

    def show_selected(self, row: int | None) -> None:
        """Mark a row without telling anybody."""
        with QSignalBlocker(self):
            if row is None:
                self.clearSelection()
            else:
                self.selectRow(row)


def fixed(text: str) -> QTableWidgetItem:
    """A cell that cannot be edited."""
    item = QTableWidgetItem(text)
    item.setFlags(Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled)
    return item
