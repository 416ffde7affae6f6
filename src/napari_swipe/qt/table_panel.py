"""A table that can be copied, and saved as a file."""

from collections.abc import Sequence

from napari.utils.notifications import show_error, show_info
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QTableWidget, QVBoxLayout, QWidget

from swipe_core.errors import SwipeError


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
        row.addWidget(QLabel(below), 1)
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
