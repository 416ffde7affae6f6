"""What can be done with a table: copy it, and save it as a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

from swipe_core.errors import SwipeError


class TableActions(QWidget):
    """Words under a table, and the buttons Copy and Save.

    Parameters
    ----------
    words
        What the table is of.
    lines
        Gives the table's lines of cells, with its headings.
    write
        Writes the table as CSV to a path.
    name
        Of the file that is offered.
    """

    def __init__(
        self,
        words: str,
        lines: Callable[[], Sequence[Sequence[Any]]],
        write: Callable[[str], object],
        name: str,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._lines, self._write, self._name = lines, write, name
        copy, save = QPushButton("Copy"), QPushButton("Save as CSV…")
        copy.setToolTip("Put the table on the clipboard, for a spreadsheet.")
        save.setToolTip("Write the table to a file.")
        copy.clicked.connect(self.copy)
        save.clicked.connect(self._ask_and_save)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel(words), 1)
        row.addWidget(copy)
        row.addWidget(save)

    def copy(self) -> None:
        """The table as tab-separated text on the clipboard."""
        text = "\n".join("\t".join(str(cell) for cell in line) for line in self._lines())
        QGuiApplication.clipboard().setText(text)
        show_info("The table is on the clipboard.")

    def save(self, path: str) -> None:
        """Write the table as CSV; what cannot be written is said in a notification."""
        try:
            self._write(path)
            show_info(f"The table is in {path}.")
        except SwipeError as error:
            show_error(str(error))

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", self._name, "Tables (*.csv)")
        if path:
            self.save(path)
