"""The folder that a training lives in: where it is, and how to open another one."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_swipe.qt.layouts import column, ink_of, sentence


class ProjectPanel(QWidget):
    """Says where the project is, and asks for another."""

    opened = Signal(Path)
    """A folder that holds a project, to go on with."""
    moved = Signal(Path)
    """The folder of a project that is to begin."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._words = sentence()
        self.new = QPushButton("New in…")
        self.new.setToolTip("Begin another project, in a folder of your choice.")
        self.new.clicked.connect(self._ask_for_place)
        self.open = QPushButton("Open…")
        self.open.setToolTip("Go on with a project: its images, what you painted, its rounds and models.")
        self.open.clicked.connect(self._ask_for_project)
        self._faults = sentence()
        self.show_unsaved([])
        row = QHBoxLayout()
        row.addWidget(self.new)
        row.addWidget(self.open)
        column(self, self._words, self._faults, row)

    def show_folder(self, folder: Path, exists: bool) -> None:
        """Show where the project is, or will be with the first image."""
        words = "Saved as you go in" if exists else "Will be saved as you go in"
        self._words.setText(f"{words} {_breakable(folder)}")
        self._words.setToolTip(str(folder))

    def show_unsaved(self, sentences: Sequence[str]) -> None:
        """Show what is not on the disk as it is painted, for as long as that is so."""
        self._faults.setText("\n".join(sentences))
        self._faults.setVisible(bool(sentences))
        self._faults.setStyleSheet(f"color: {ink_of(self).fault.name()}")

    def _ask_for_place(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A new, empty folder for the project")
        if folder:
            self.moved.emit(Path(folder))

    def _ask_for_project(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A folder that holds a project")
        if folder:
            self.opened.emit(Path(folder))


def proposed_folder(parent: Path) -> Path:
    """Return a folder that does not exist yet, named after the day."""
    stem = f"project-{date.today().isoformat()}"
    names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
    return next(parent / name for name in names if not (parent / name).exists())


def _breakable(folder: Path) -> str:
    """Return a path that a narrow label can wrap."""
    return str(folder).replace("/", "/\u200b").replace("\\", "\\\u200b")
