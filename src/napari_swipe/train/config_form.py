"""The settings of a training, as a form: what a user would touch of an `ExperimentConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_swipe.qt.number_box import NumberBox, WholeBox
from napari_swipe.qt.theme import ink_of
from napari_swipe.train.config_rows import (
    LEAST_RATE,
    ConfigRow,
    CropRow,
    FieldRow,
    IntensityRow,
    ResamplingRow,
)
from napari_swipe.train.variation_row import VariationRow
from swipe_core.errors import ConfigError
from swipe_core.networks.catalogue import title_of

if TYPE_CHECKING:
    from swipe_core.training.config import ExperimentConfig


class ConfigForm(QWidget):
    """One line that sums the settings up, and below it the settings themselves, folded away at first.

    What the form does not show is kept as it is in the configuration that was set.
    """

    changed = Signal()
    """The user changed a setting; `config` may be invalid now."""
    reset_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config: ExperimentConfig | None = None
        self._parameters: int | None = None
        self._build_rows()
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.fault = QLabel()
        self.fault.setWordWrap(True)
        self.fold = QToolButton()
        self.fold.setText("Settings")
        self.fold.setCheckable(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setToolTip("Show or hide the settings of the training.")
        self.fold.toggled.connect(self._unfold)
        self.reset_button = QPushButton("Suggested settings")
        self.reset_button.setToolTip("Replace all settings by those that fit the annotated images.")
        self.reset_button.clicked.connect(lambda: self.reset_wanted.emit())
        self._lay_out()
        self._unfold(False)
        self._colour_fault()
        self._tell()

    def _build_rows(self) -> None:
        share = 0.05  # of one, that an arrow adds
        self.learning_rate = FieldRow(
            "training.learning_rate",
            NumberBox(LEAST_RATE),
            "How far one step goes. Smaller for fine-tuning; too large, and the loss does not fall.",
        )
        self.batch_size = FieldRow(
            "batch.size", WholeBox(1), "Images that one step learns from. More need more memory."
        )
        self.points = FieldRow(
            "batch.points", WholeBox(1), "Points of each image that one step asks the model about."
        )
        self.averaging = FieldRow(
            "training.averaging_steps",
            WholeBox(0),
            "Keep the mean of the weights over about this many steps, which is calmer; 0: the last weights.",
            "steps",
        )
        self.frozen = FieldRow(
            "training.frozen_statistics",
            QCheckBox("keep those of the model"),
            "Leave the statistics of batch normalisation as they are: for fine-tuning on few images.",
        )
        self.seed = FieldRow("training.seed", WholeBox(0), "The same number gives the same training again.")
        self.intensity = IntensityRow()
        self.resampling = ResamplingRow()
        self.crop = CropRow()
        self.foreground = FieldRow(
            "batch.foreground_probability",
            NumberBox(0, 1, step=share),
            "Share of the crops, from 0 to 1, that are sure to show an object.",
            "of the crops",
        )
        self.corrections = FieldRow(
            "sampling.corrected_share",
            NumberBox(0, 1, step=share),
            "Share of the points, from 0 to 1, that is drawn where labels were corrected, if any were.",
            "of the points",
        )
        self.variation = VariationRow()

    def _sections(self) -> dict[str, dict[str, ConfigRow]]:
        return {
            "Learning": {
                "Learning rate": self.learning_rate,
                "Images a step": self.batch_size,
                "Points an image": self.points,
                "On objects": self.foreground,
                "On corrections": self.corrections,
                "Averaged over": self.averaging,
                "Statistics": self.frozen,
                "Seed": self.seed,
            },
            "Images": {
                "Intensities": self.intensity,
                "Resampled": self.resampling,
                "Crops": self.crop,
                "Varied": self.variation,
            },
        }

    @property
    def rows(self) -> list[ConfigRow]:
        return [row for section in self._sections().values() for row in section.values()]

    def _lay_out(self) -> None:
        self._body = QWidget()
        form = QFormLayout(self._body)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        for title, section in self._sections().items():
            form.addRow(QLabel(f"<b>{title}</b>"))
            for name, row in section.items():
                form.addRow(name, row)
                form.labelForField(row).setToolTip(row.toolTip())
                row.edited.connect(self._on_edit)
        form.addRow(self.reset_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.summary, self.fold, self._body, self.fault):
            layout.addWidget(widget)

    def _unfold(self, is_open: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self._body.setVisible(is_open)

    # What is set

    def set_config(
        self, config: ExperimentConfig, parameters: int | None = None, keep_edits: bool = False
    ) -> None:
        """Show a configuration; `changed` is not emitted.

        Parameters
        ----------
        parameters
            Of its network, for the summary.
        keep_edits
            What the user changed stays as far as it fits; else nothing is `edited` then.
        """
        self._config, self._parameters = config, parameters
        for row in self.rows:
            if not (keep_edits and row.is_touched and _fits(row, config)):
                row.set_config(config)
        self._tell()

    @property
    def edits(self) -> dict[str, Any]:
        """The fields that the user changed, such as ``"batch.size"``, with their values.

        Raises
        ------
        ConfigError
            When the controls of a row do not fit together.
        """
        return {field: value for row in self.rows for field, value in row.values.items()}

    @property
    def config(self) -> ExperimentConfig:
        """The configuration as it was set, with what the user changed.

        Raises
        ------
        ConfigError
            When none was set, or what the user changed does not fit together.
        """
        if self._config is None:
            raise ConfigError("There are no settings yet: annotate an image first, or add a folder.")
        return with_fields(self._config, self.edits)

    @property
    def edited(self) -> bool:
        """Whether the user touched a setting since `set_config`."""
        return any(row.is_touched for row in self.rows)

    def _on_edit(self) -> None:
        self._tell()
        self.changed.emit()

    # What is shown

    def _tell(self) -> None:
        """The summary, or what is wrong."""
        self._body.setEnabled(self._config is not None)
        self.foreground.setEnabled(self.crop.is_cropped.isChecked())
        try:
            config = self.config
        except ConfigError as error:
            is_empty = self._config is None
            self.summary.setText(str(error) if is_empty else "")
            self.fault.setText("" if is_empty else str(error))
        else:
            self.summary.setText(summary_of(config, self._parameters))
            self.fault.setText("")
        self.summary.setVisible(bool(self.summary.text()))
        self.fault.setVisible(bool(self.fault.text()))

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._colour_fault()

    def _colour_fault(self) -> None:
        self.fault.setStyleSheet(f"color: {ink_of(self).fault.name()}")


def _fits(row: ConfigRow, config: ExperimentConfig) -> bool:
    """Whether what the user set in a row can be had in another configuration; the row is then of that one."""
    before = row.config
    row.move_to(config)  # what it sets may depend on it
    try:
        with_fields(config, row.values)
    except ConfigError:
        row.move_to(before)
        return False
    return True


def with_fields(config: ExperimentConfig, values: Mapping[str, Any]) -> ExperimentConfig:
    """A configuration with other values of some fields, such as ``{"batch.size": 4}``.

    Raises
    ------
    ConfigError
        When it is not valid then.
    """
    if not values:
        return config
    from swipe_core.training.config import parse_config

    new = config.model_dump()
    for field, value in values.items():
        *sections, last = field.split(".")
        node = new
        for section in sections:
            node = node[section]
        node[last] = value
    return parse_config(new, "The settings")


def summary_of(config: ExperimentConfig, parameters: int | None = None) -> str:
    """The settings in one line: "2D, crops of 128 × 128, ..., U-Net of 1.2 M parameters"."""
    preprocessing, batch = config.preprocessing, config.batch
    if preprocessing.crop_size is not None:
        seen = f"crops of {_product(preprocessing.crop_size)}"
    elif preprocessing.size is not None:
        seen = f"whole images as {_product(preprocessing.size)}"
    else:
        seen = "whole images"
    images = f"{batch.size} image" + "s" * (batch.size > 1)
    parts = [
        f"{config.model.ndim}D",
        seen,
        f"{images} and {batch.points} points a step",
        f"learning rate {config.training.learning_rate:.4g}",
    ]
    network = title_of(config.model.network)
    parts.append(network if parameters is None else f"{network} of {_count(parameters)} parameters")
    return ", ".join(parts)


def _product(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.3g} k"
