"""Tables in docks: as high as their rows, or with buttons to copy and save them."""

from collections.abc import Sequence

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QGuiApplication, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from swipe_core.errors import SwipeError

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


class TablePanel(QWidget):
    """A table between words, with the buttons Copy and Save, for which a subclass has `lines` and `write`.

    `above` and `below`: words over the table, and beside the buttons.
    `file_name`: is offered when the table is saved.
    """

    def __init__(
        self, table: QTableWidget, above: str, below: str, file_name: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.table, self.caption, self._file_name = table, QLabel(above), file_name
        self.caption.setWordWrap(True)
        self.caption.setVisible(bool(above))
        copy, save = QPushButton("Copy"), QPushButton("Save as CSV…")
        copy.setToolTip("Put the table on the clipboard, for a spreadsheet.")
        save.setToolTip("Write the table to a file.")
        copy.clicked.connect(self.copy)
        save.clicked.connect(self._ask_and_save)
        row, layout = QHBoxLayout(), QVBoxLayout(self)
        self.below = QLabel(below)
        row.addWidget(self.below, 1)
        row.addWidget(copy)
        row.addWidget(save)
        layout.addWidget(self.caption)
        layout.addWidget(table)
        layout.addLayout(row)

    def lines(self) -> Sequence[Sequence[str]]:
        """Return the table's lines of cells, with its headings."""
        raise NotImplementedError

    def write(self, path: str) -> None:
        """Write the table as CSV."""
        raise NotImplementedError

    def copy(self) -> None:
        """Put the table on the clipboard as tab-separated text."""
        QGuiApplication.clipboard().setText("\n".join("\t".join(line) for line in self.lines()))
        show_info("The table is on the clipboard.")

    def save(self, path: str) -> None:
        """Write the table as CSV; a notification says whether it could be written."""
        try:
            self.write(path)
            show_info(f"The table is in {path}.")
        except SwipeError as error:
            show_error(str(error))

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", self._file_name, "Tables (*.csv)")
        if path:
            self.save(path)
