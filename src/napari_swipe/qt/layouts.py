"""Widgets below and beside one another, and sentences among them."""

from collections.abc import Iterable

from qtpy.QtWidgets import QHBoxLayout, QLabel, QLayout, QVBoxLayout, QWidget


def column(owner: QWidget, *parts: QWidget | QLayout) -> QVBoxLayout:
    """Put parts below one another in a widget, without margins."""
    layout = QVBoxLayout(owner)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        if isinstance(part, QLayout):
            layout.addLayout(part)
        else:
            layout.addWidget(part)
    return layout


def beside(first: QWidget, *others: QWidget) -> QHBoxLayout:
    """Put widgets beside one another; the first has the room that the others leave."""
    row = QHBoxLayout()
    row.addWidget(first, 1)
    for other in others:
        row.addWidget(other)
    return row


def sentence(text: str = "") -> QLabel:
    """Return a label whose lines are broken."""
    label = QLabel(text)
    label.setWordWrap(True)
    return label


class Row(QWidget):
    """A row of widgets that may give way to others."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.widgets: list[QWidget] = []
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)

    def replace(self, widgets: Iterable[QWidget]) -> None:
        """Show these widgets instead of those that are there."""
        for old in self.widgets:
            self._row.removeWidget(old)
            old.hide()
            old.deleteLater()
        self.widgets = list(widgets)
        for widget in self.widgets:
            self._row.addWidget(widget)
