"""The settings of a training, as a form: what a user would touch of an `ExperimentConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QToolButton, QWidget

from napari_swipe.qt.layouts import column, ink_of, sentence
from napari_swipe.qt.number_box import AxisBoxes, NumberBox, WholeBox
from napari_swipe.train.config_rows import (
    LEAST,
    ChoiceRow,
    ConfigRow,
    CropRow,
    FieldRow,
    IntensityRow,
    VariationRow,
)
from swipe_core.errors import ConfigError
from swipe_core.networks.catalogue import title_of

if TYPE_CHECKING:
    from swipe_core.training.config import ExperimentConfig

LEARNING = {
    "Learning rate": (
        "training.learning_rate",
        "How far one step goes. Smaller for fine-tuning; too large, and the loss does not fall.",
    ),
    "Images a step": ("batch.size", "Images that one step learns from. More need more memory."),
    "Points an image": ("batch.points", "Points of each image that one step asks the model about."),
    "On objects": (
        "batch.foreground_probability",
        "Share of the crops, from 0 to 1, that are sure to show an object.",
        "of the crops",
    ),
    "On corrections": (
        "sampling.corrected_share",
        "Share of the points, from 0 to 1, that is drawn where labels were corrected, if any were.",
        "of the points",
    ),
    "Averaged over": (
        "training.averaging_steps",
        "Keep the mean of the weights over about this many steps, which is calmer; 0: the last weights.",
        "steps",
    ),
    "Statistics": (
        "training.frozen_statistics",
        "Leave the statistics of batch normalisation as they are: for fine-tuning on few images.",
        "keep those of the model",
    ),
    "Seed": ("training.seed", "The same number gives the same training again."),
}
"""The fields of the section "Learning" by title: which one, what it does, and words beside its control."""


class ConfigForm(QWidget):
    """One line that sums the settings up, and below it the settings themselves, folded away at first.

    What the form does not show is kept as it is in the configuration that was set.
    """

    changed = Signal()
    """The user changed a setting; `config` may be invalid now."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config: ExperimentConfig | None = None
        self._parameters: int | None = None
        learning = {title: FieldRow(*words) for title, words in LEARNING.items()}
        self.fields = {row.field: row for row in learning.values()}
        """The rows of single fields, by field."""
        self.intensity, self.crop, self.variation = IntensityRow(), CropRow(), VariationRow()
        self.resampling = ChoiceRow(
            "Bring every image to one voxel size (in the unit of the images), or to one size in voxels. "
            "Objects must stay several voxels wide.",
            {"none": "as stored", "spacing": "to a voxel size", "size": "to a fixed size"},
            {"spacing": AxisBoxes(NumberBox, LEAST), "size": AxisBoxes(WholeBox, 1)},
        )
        images: dict[str, ConfigRow] = {
            "Intensities": self.intensity,
            "Resampled": self.resampling,
            "Crops": self.crop,
            "Varied": self.variation,
        }
        self.rows: dict[str, ConfigRow] = {**learning, **images}
        """All rows by title."""
        self.summary, self.fault = sentence(), sentence()
        self.reset_button = QPushButton("Suggested settings")
        self.reset_button.setToolTip("Replace all settings by those that fit the annotated images.")
        self._lay_out({"Learning": learning, "Images": images})
        self._colour_fault()
        self._show_state()

    def _lay_out(self, sections: Mapping[str, Mapping[str, ConfigRow]]) -> None:
        self._body = QWidget()
        form = QFormLayout(self._body)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        for section, rows in sections.items():
            form.addRow(QLabel(f"<b>{section}</b>"))
            for title, row in rows.items():
                form.addRow(title, row)
                form.labelForField(row).setToolTip(row.toolTip())
                row.edited.connect(self._on_edit)
        form.addRow(self.reset_button)
        # No QCollapsible, which does not grow when rows appear in it, and leaves folded ones to the Tab key.
        self.fold = QToolButton()
        self.fold.setText("Settings")
        self.fold.setCheckable(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setToolTip("Show or hide the settings of the training.")
        self.fold.toggled.connect(self._unfold)
        self._unfold(False)
        column(self, self.summary, self.fold, self._body, self.fault)

    def _unfold(self, is_open: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self._body.setVisible(is_open)

    # What is set

    def set_config(
        self, config: ExperimentConfig, parameters: int | None = None, keep_edits: bool = False
    ) -> None:
        """Show a configuration; `changed` is not emitted.

        `parameters`: of its network, for the summary.
        `keep_edits`: what the user changed stays as far as it fits; else nothing is `edited` then.
        """
        self._config, self._parameters = config, parameters
        for row in self.rows.values():
            if not (keep_edits and row.is_touched and _fits(row, config)):
                row.show_config(config)
        self._show_state()

    @property
    def edits(self) -> dict[str, Any]:
        """The fields that the user changed, such as ``"batch.size"``, with values; raises as `config`."""
        return self._edited_config[0]

    @property
    def config(self) -> ExperimentConfig:
        """The configuration as it was set, with what the user changed.

        A `ConfigError` is raised when none was set, or what the user changed does not fit together.
        """
        return self._edited_config[1]

    @property
    def _edited_config(self) -> tuple[dict[str, Any], ExperimentConfig]:
        if self._config is None:
            raise ConfigError("There are no settings yet: annotate an image first, or add a folder.")
        rows = self.rows.values()
        edits = {field: value for row in rows for field, value in row.values(self._config).items()}
        return edits, with_fields(self._config, edits)

    @property
    def edited(self) -> bool:
        """Whether the user touched a setting since `set_config`."""
        return any(row.is_touched for row in self.rows.values())

    def _on_edit(self) -> None:
        self._show_state()
        self.changed.emit()

    # What is shown

    def _show_state(self) -> None:
        """The summary, or what is wrong."""
        self._body.setEnabled(self._config is not None)
        self.fields["batch.foreground_probability"].setEnabled(self.crop.kind.choice == "crop_size")
        summary = fault = ""
        try:
            summary = summary_of(self.config, self._parameters)
        except ConfigError as error:
            if self._config is None:
                summary = str(error)
            else:
                fault = str(error)
        for label, text in ((self.summary, summary), (self.fault, fault)):
            label.setText(text)
            label.setVisible(bool(text))

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._colour_fault()

    def _colour_fault(self) -> None:
        self.fault.setStyleSheet(f"color: {ink_of(self).fault.name()}")


def _fits(row: ConfigRow, config: ExperimentConfig) -> bool:
    """Whether a configuration can have what the user set in a row."""
    try:
        with_fields(config, row.values(config))
    except ConfigError:
        return False
    return True


def with_fields(config: ExperimentConfig, values: Mapping[str, Any]) -> ExperimentConfig:
    """Return a configuration with other values of some fields, such as ``{"batch.size": 4}``.

    A `ConfigError` is raised when it is not valid then.
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
    """Return the settings in one line: "2D, crops of 128 × 128, ..., U-Net of 1.2 M parameters"."""
    preprocessing, batch = config.preprocessing, config.batch
    if preprocessing.crop_size is not None:
        seen = f"crops of {_product(preprocessing.crop_size)}"
    elif preprocessing.size is not None:
        seen = f"whole images as {_product(preprocessing.size)}"
    else:
        seen = "whole images"
    images = f"{batch.size} image" + "s" * (batch.size > 1)
    network = title_of(config.model.network)
    if parameters is not None:
        size = f"{parameters / 1e6:.1f} M" if parameters >= 1e6 else f"{parameters / 1e3:.3g} k"
        network += f" of {size} parameters"
    return (
        f"{config.model.ndim}D, {seen}, {images} and {batch.points} points a step, "
        f"learning rate {config.training.learning_rate:.4g}, {network}"
    )


def _product(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))
