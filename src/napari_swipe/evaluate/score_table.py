"""The table of scores: a row for each metric and a column for each class, which fits a narrow dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_swipe.qt.table_actions import TableActions

if TYPE_CHECKING:
    from swipe_core.evaluation.agreement import Agreement
    from swipe_core.measure.metrics import Metric

MEAN = "mean"
WIDEST_CLASS = 14  # letters of a heading
FLAT = (
    "QHeaderView, QHeaderView::section, QTableCornerButton::section { background: transparent; border: 0px; }"
)


class ScoreTable(QWidget):
    """How far one layer agrees with another, class by class."""

    def __init__(self, agreement: Agreement, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._agreement = agreement
        words = QLabel(caption(agreement))
        words.setWordWrap(True)
        self.table = self._filled()
        self._actions = TableActions("", self._lines, self._write, "scores.csv")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(words)
        layout.addWidget(self.table)
        layout.addWidget(self._actions)

    def copy(self) -> None:
        """The table as tab-separated text on the clipboard."""
        self._actions.copy()

    def save(self, path: str) -> None:
        """Write a CSV of one row per frame and class; what cannot be written is said in a notification."""
        self._actions.save(path)

    def _filled(self) -> QTableWidget:
        from swipe_core.measure.metrics import METRICS

        found, names = self._agreement, columns(self._agreement)
        headings = [found.heading(metric) for metric in METRICS.values()]
        table = FlatTable(headings, [_shortened(name) for name in names])
        for column, name in enumerate(names):
            table.horizontalHeaderItem(column).setToolTip(name)
        for row, metric in enumerate(METRICS.values()):
            meaning = metric.explanation(found.unit, found.ndim, found.report.tolerance)
            table.verticalHeaderItem(row).setToolTip(meaning)
            for column, name in enumerate(names):
                table.setItem(row, column, _item(metric.text(self._value(metric, name))))
        return table

    def _value(self, metric: Metric, name: str) -> float:
        is_mean = name == MEAN and name not in self._agreement.class_names
        return self._agreement.mean(metric.key, None if is_mean else name)

    def _lines(self) -> list[list[str]]:
        """The table as it is copied: all classes in full, five figures."""
        from swipe_core.measure.metrics import METRICS

        names = columns(self._agreement)
        rows = [
            [self._agreement.heading(metric), *(metric.cell(self._value(metric, name), 5) for name in names)]
            for metric in METRICS.values()
        ]
        return [["", *names], *rows]

    def _write(self, path: str) -> None:
        from swipe_core.evaluation.agreement import write_agreement

        write_agreement(path, self._agreement)


class FlatTable(QTableWidget):
    """A table that shows all its rows, named at the left; only where columns do not fit, they scroll."""

    def __init__(self, rows: list[str], columns: list[str], parent: QWidget | None = None) -> None:
        super().__init__(len(rows), len(columns), parent)
        self.setVerticalHeaderLabels(rows)
        self.setHorizontalHeaderLabels(columns)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setShowGrid(False)
        self.setStyleSheet(FLAT)
        self.verticalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setDefaultAlignment(
            Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        )

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        self.fit()

    def fit(self) -> None:
        """Columns as wide as they need, and what is left shared among them; as high as all rows."""
        header, columns = self.horizontalHeader(), range(self.columnCount())
        needed = [max(self.sizeHintForColumn(c), header.sectionSizeHint(c)) for c in columns]
        spare = self.viewport().width() - sum(needed)
        for column, width in zip(columns, needed, strict=True):
            self.setColumnWidth(column, width + max(0, spare) // len(needed))
        bar = self.horizontalScrollBar().sizeHint().height() if spare < 0 else 0
        self.setFixedHeight(header.height() + self.verticalHeader().length() + 2 * self.frameWidth() + bar)


def caption(agreement: Agreement) -> str:
    """What was compared, and which distances the means leave out."""
    report, frames = agreement.report, len(agreement.report.cases)
    words = f"{agreement.prediction} against {agreement.reference}"
    if frames == 1:
        return words
    left_out = [report.presence(name).left_out_text(name, "frame") for name in agreement.class_names]
    return ". ".join([f"{words}, mean over {frames} frames", *filter(None, left_out)])


def columns(agreement: Agreement) -> list[str]:
    """The classes, and their mean where there are several."""
    names = list(agreement.class_names)
    return [*names, MEAN] if len(names) > 1 else names


def _item(text: str) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item


def _shortened(name: str) -> str:
    return name if len(name) <= WIDEST_CLASS else name[: WIDEST_CLASS - 1] + "…"
