"""Where the images of a folder are, and where their labels go."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QToolButton, QWidget
from superqt import QCollapsible


class FolderPanel(QCollapsible):
    """A section to choose the folders of images and of labels; it is closed at first."""

    wanted = Signal(str, str)
    """Segment the images of one folder into another."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Folder to folder", parent)
        self.images = _path_row(
            "Every image in this folder, and in the folders inside, is segmented; of a file with several "
            "pictures each."
        )
        self.labels = _path_row("Labels are written here, named after their images; 2D ones with an overlay.")
        self.button = QPushButton("Segment folder")
        self.button.setToolTip(
            "With the model and device that are set, and with what is set under Result once an image has "
            "been segmented. Images that are finished are kept."
        )
        self.button.clicked.connect(lambda: self.wanted.emit(self.images.text(), self.labels.text()))
        inner = QWidget()
        form = QFormLayout(inner)
        form.addRow("Images", _with_browser(self.images))
        form.addRow("Labels", _with_browser(self.labels))
        form.addRow("", self.button)
        self.addWidget(inner)
        self.layout().setContentsMargins(0, 0, 0, 0)


def _path_row(tip: str) -> QLineEdit:
    row = QLineEdit()
    row.setToolTip(tip)
    return row


def _with_browser(line: QLineEdit) -> QHBoxLayout:
    button = QToolButton()
    button.setText("…")
    button.setToolTip("Choose a folder.")

    def ask() -> None:
        folder = QFileDialog.getExistingDirectory(line, "Choose a folder", line.text())
        if folder:
            line.setText(folder)

    button.clicked.connect(ask)
    row = QHBoxLayout()
    row.addWidget(line, 1)
    row.addWidget(button)
    return row
