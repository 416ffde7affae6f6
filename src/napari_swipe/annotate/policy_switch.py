"""The switch for what voxels mean that nobody painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QHBoxLayout, QLabel, QRadioButton, QVBoxLayout, QWidget

from napari_swipe.qt.theme import ink_of

if TYPE_CHECKING:
    from swipe_core.data.annotations import AnnotationScheme, Unpainted

CHOICES: dict[Unpainted, tuple[str, str]] = {
    "ignored": (
        "not annotated",
        "Only paint teaches: a few strokes in every class and some in the background, which has label 1.",
    ),
    "background": (
        "background",
        "All that is left unpainted is taught as background: annotate every image completely.",
    ),
}
INSTANCES = "Every label is one object, and all of them are one class."


class PolicySwitch(QWidget):
    """Two choices with a line that explains the one that is made."""

    chosen = Signal(str)
    """"ignored" or "background"."""
    instances_chosen = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons = {unpainted: QRadioButton(text) for unpainted, (text, _) in CHOICES.items()}
        group = QButtonGroup(self)
        row = QHBoxLayout()
        for unpainted, button in self.buttons.items():
            button.setToolTip(CHOICES[unpainted][1])
            button.clicked.connect(lambda _, chosen=unpainted: self.chosen.emit(chosen))
            group.addButton(button)
            row.addWidget(button)
        row.addStretch(1)
        self._words = QLabel()
        self._words.setWordWrap(True)
        self.instances = QCheckBox("Labels number single objects")
        self.instances.setToolTip(INSTANCES)
        self.instances.clicked.connect(self.instances_chosen)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Unpainted means"))
        layout.addLayout(row)
        layout.addWidget(self._words)
        layout.addWidget(self.instances)

    def show_scheme(self, scheme: AnnotationScheme) -> None:
        """The choices as they are."""
        self.buttons[scheme.unpainted].setChecked(True)
        self.instances.setChecked(scheme.instances)
        self.instances.setVisible(scheme.unpainted == "background")
        words = CHOICES[scheme.unpainted][1]
        self._words.setText(f"{words} {INSTANCES}" if scheme.instances else words)
        self._words.setStyleSheet(f"color: {ink_of(self).faint.name()}")
