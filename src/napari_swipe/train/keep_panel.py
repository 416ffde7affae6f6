"""Keep what was learned: a model with a name and a note, ready for the Segment dock."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLineEdit, QPushButton, QWidget


class KeepPanel(QWidget):
    """The name and the note that a model is kept under."""

    wanted = Signal(str, str)
    """Keep the model of the last round: its name, and a note."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = QLineEdit()
        self.name.setPlaceholderText("a name, such as: my cells")
        self.name.setToolTip("What the model is called in the Segment dock, and its file.")
        self.note = QLineEdit()
        self.note.setPlaceholderText("a note, for those who use it")
        self.note.setToolTip("What it finds, how the images were taken, what it fails on.")
        self.button = QPushButton("Keep model")
        self.button.setToolTip(
            "Put the best weights into the folder of your models; the Segment dock lists them at once."
        )
        self.button.clicked.connect(
            lambda: self.wanted.emit(self.name.text().strip(), self.note.text().strip())
        )
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Name", self.name)
        form.addRow("Note", self.note)
        form.addRow("", self.button)
