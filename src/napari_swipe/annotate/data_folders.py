"""Folders of annotated images that are learned from besides the layers of the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_swipe.annotate.pair_table import cross
from swipe_core.errors import DataError

PARTS = (".", "train", "val", "test")
NAME_LENGTH = 34  # characters of a path that are shown


class DataFolders(QWidget):
    """A list of data sets, each with images/ and labels/, or train/ and val/ with these inside."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folders: list[Path] = []
        self.button = QPushButton("Add folder…")
        self.button.setToolTip(
            "A data set on disk to learn from as well: a folder with images/ and labels/, or with train/ and "
            "val/ that hold these."
        )
        self.button.clicked.connect(self._ask)
        self._rows = QGridLayout()
        self._rows.setColumnStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._rows)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)

    def set_folders(self, folders: Sequence[Path]) -> None:
        """Show other folders, in order."""
        self.folders = [Path(folder) for folder in folders]
        while self._rows.count():
            widget = self._rows.takeAt(0).widget()
            widget.hide()
            widget.deleteLater()
        for row, folder in enumerate(self.folders):
            text = str(folder)
            name = QLabel(text if len(text) <= NAME_LENGTH else f"…{text[-NAME_LENGTH:]}")
            name.setToolTip(text)
            self._rows.addWidget(name, row, 0)
            self._rows.addWidget(
                cross(f"Do not learn from {folder}.", lambda f=folder: self._remove(f)), row, 1
            )

    def add(self, folder: Path) -> None:
        """One folder more.

        Raises
        ------
        DataError
            When it is no data set, or stands there already.
        """
        if folder in self.folders:
            raise DataError(f"{folder} is in the list already: choose another folder.")
        if not any(
            (folder / part / "images").is_dir() and (folder / part / "labels").is_dir() for part in PARTS
        ):
            raise DataError(
                f"{folder} is no data set: choose a folder that holds images/ and labels/, or train/ and "
                "val/ with these inside."
            )
        self.set_folders([*self.folders, folder])
        self.changed.emit()

    def _remove(self, folder: Path) -> None:
        self.set_folders([other for other in self.folders if other != folder])
        self.changed.emit()

    def _ask(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A folder of annotated images")
        if chosen:
            try:
                self.add(Path(chosen))
            except DataError as error:
                show_error(str(error))
