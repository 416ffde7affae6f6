"""The table of scores: a row for each metric and a column for each class, which fits a narrow dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_swipe.qt.tables import TablePanel

if TYPE_CHECKING:
    from swipe_core.evaluation.agreement import Agreement
    from swipe_core.measure.metrics import Metric

MEAN = "mean"
WIDEST_CLASS = 14  # letters of a heading
FLAT = (
    "QHeaderView, QHeaderView::section, QTableCornerButton::section { background: transparent; border: 0px; }"
)


class ScoreTable(TablePanel):
    """How far one layer agrees with another, class by class."""

    def __init__(self, agreement: Agreement, parent: QWidget | None = None) -> None:
        from swipe_core.measure.metrics import METRICS

        self.agreement, self._metrics, self._names = agreement, tuple(METRICS.values()), columns(agreement)
        super().__init__(self._filled(), caption(agreement), "", "scores.csv", parent)
        self.layout().setContentsMargins(0, 0, 0, 0)

    def lines(self) -> list[list[str]]:
        """Return the table as it is copied: all classes in full, five figures."""
        lines = [["", *self._names]]
        for metric in self._metrics:
            cells = [metric.cell(self._value(metric, name), digits=5) for name in self._names]
            lines.append([self.agreement.heading(metric), *cells])
        return lines + [[name, f"{value:.5g}"] for name, value in self._single().items()]

    def _single(self) -> dict[str, float]:
        """The scores of single objects, by their headings; none where labels are classes."""
        from swipe_core.measure.instances import INSTANCE_METRICS

        return {INSTANCE_METRICS[key]: value for key, value in self.agreement.report.instances.items()}

    def write(self, path: str) -> None:
        """Write a CSV of one row per frame and class."""
        from swipe_core.evaluation.agreement import write_agreement

        write_agreement(path, self.agreement)

    def _filled(self) -> FlatTable:
        found, names = self.agreement, self._names
        single = self._single()
        rows = [*map(found.heading, self._metrics), *single]
        table = FlatTable(rows, [_shortened(name) for name in names])
        for row, value in enumerate(single.values(), start=len(self._metrics)):
            table.setItem(row, 0, _item(f"{value:.3f}"))
        for column, name in enumerate(names):
            table.horizontalHeaderItem(column).setToolTip(name)
        for row, metric in enumerate(self._metrics):
            meaning = metric.explanation(found.unit, found.ndim, found.report.tolerance)
            table.verticalHeaderItem(row).setToolTip(meaning)
            for column, name in enumerate(names):
                table.setItem(row, column, _item(metric.text(self._value(metric, name))))
        return table

    def _value(self, metric: Metric, name: str) -> float:
        is_mean = name == MEAN and name not in self.agreement.class_names
        return self.agreement.mean(metric.key, None if is_mean else name)


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
