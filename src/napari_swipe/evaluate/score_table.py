"""The table of scores: a row for each metric and a column for each class, which fits a narrow dock."""

from __future__ import annotations

import math
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
from napari_swipe.qt.units import short_unit

if TYPE_CHECKING:
    from swipe_core.evaluation.agreement import Agreement

NONE = "–"
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
        names, rows = columns(self._agreement), metrics(self._agreement)
        table = FlatTable([head for head, _ in rows.values()], [_shortened(name) for name in names])
        for column, name in enumerate(names):
            table.horizontalHeaderItem(column).setToolTip(name)
            for row, metric in enumerate(rows):
                table.setItem(row, column, _item(metric, self._value(metric, name)))
        for row, (_, meaning) in enumerate(rows.values()):
            table.verticalHeaderItem(row).setToolTip(meaning)
        return table

    def _value(self, metric: str, name: str) -> float:
        is_mean = name == MEAN and name not in self._agreement.class_names
        return self._agreement.mean(metric, None if is_mean else name)

    def _lines(self) -> list[list[str]]:
        """The table as it is copied: all classes in full, five figures."""
        names = columns(self._agreement)
        lines = [["", *names]]
        for metric, (heading, _) in metrics(self._agreement).items():
            values = [self._value(metric, name) * _times(metric) for name in names]
            lines.append([heading, *(f"{value:.5g}" if math.isfinite(value) else "" for value in values)])
        return lines

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
    told = [report.presence(name).left_out_told(name, "frame") for name in agreement.class_names]
    return ". ".join([f"{words}, mean over {frames} frames", *filter(None, told)])


def columns(agreement: Agreement) -> list[str]:
    """The classes, and their mean where there are several."""
    names = list(agreement.class_names)
    return [*names, MEAN] if len(names) > 1 else names


def metrics(agreement: Agreement) -> dict[str, tuple[str, str]]:
    """The heading of each metric, and what it means."""
    unit = short_unit(agreement.unit)
    size, power = {2: ("Area", "²"), 3: ("Volume", "³")}[agreement.ndim]
    within = f"{agreement.report.tolerance:.4g} {unit}"
    return {
        "dice": ("Dice", "Twice the overlap over the sum of the sizes: 1 is the same, 0 nothing in common."),
        "iou": ("IoU", "The overlap over the union: 1 is the same, 0 nothing in common."),
        "hausdorff_95": (
            f"HD95 [{unit}]",
            "Hausdorff distance: 95 % of both outlines lie nearer to each other than this. None where only "
            "one of the two has the class.",
        ),
        "surface_dice": (
            f"Surface Dice ({within})",
            f"The share of both outlines that lies within {within} of the other.",
        ),
        "volume_prediction": (f"Predicted [{unit}{power}]", f"{size} in the prediction."),
        "volume_reference": (f"Reference [{unit}{power}]", f"{size} in the reference."),
        "volume_difference": (f"Difference [{unit}{power}]", "Prediction minus reference."),
        "relative_volume_difference": ("Difference [%]", "Prediction minus reference, of the reference."),
    }


def _item(metric: str, value: float) -> QTableWidgetItem:
    item = QTableWidgetItem(_readable(metric, value))
    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item


def _readable(metric: str, value: float) -> str:
    """A number with as many figures as matter to the eye; differences with their sign."""
    if not math.isfinite(value):
        return NONE
    value *= _times(metric)
    if metric in ("dice", "iou", "surface_dice"):
        return f"{value:.3f}"
    sign = "+" if metric.endswith("difference") and value else ""
    if metric == "relative_volume_difference":
        return f"{value:{sign}.1f}"
    is_long = 1000 <= abs(value) < 1e7
    return f"{value:{sign}.0f}" if is_long else f"{value:{sign}.3g}"


def _times(metric: str) -> float:
    return 100 if metric == "relative_volume_difference" else 1


def _shortened(name: str) -> str:
    return name if len(name) <= WIDEST_CLASS else name[: WIDEST_CLASS - 1] + "…"
