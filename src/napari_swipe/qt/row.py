"""Widgets side by side."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtWidgets import QHBoxLayout, QWidget


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
