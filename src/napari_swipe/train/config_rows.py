"""The rows of a form for `ExperimentConfig`: each shows some fields, and says what the user made of them.

A row that the user has not touched says nothing, so that no field changes by being shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_swipe.qt.number_box import AxisBoxes, ChoiceBox, NumberBox, WholeBox, narrowed
from swipe_core.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from swipe_core.training.config import ExperimentConfig

WIDTH_BEFORE_WORDS = 90  # pixels
LEAST_SPACING = 1e-9
LEAST_RATE = 1e-12
BLOCK = 16  # voxels, of a network that sees windows of one size
USUAL_CROP = {2: 128, 3: 48}  # voxels along each axis
USUAL_WINDOW = {2: (0.0, 255.0), 3: (-1000.0, 1000.0)}  # bytes, and Hounsfield units
INTENSITIES = {
    "unit": "full range to −1 … 1",
    "standardise": "mean 0, deviation 1",
    "window": "a window of values",
}
RESAMPLINGS = {"stored": "as stored", "spacing": "to a voxel size", "size": "to a fixed size"}


class ConfigRow(QWidget):
    """Controls of one or several fields."""

    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config: ExperimentConfig | None = None
        self._is_showing = False
        self.is_touched = False
        """Whether the user changed something since `set_config`."""

    @property
    def config(self) -> ExperimentConfig | None:
        """What the row belongs to."""
        return self._config

    def set_config(self, config: ExperimentConfig) -> None:
        """Show the fields of a configuration."""
        self._config, self.is_touched = config, False
        self._is_showing = True
        self._show(config)
        self._is_showing = False

    def move_to(self, config: ExperimentConfig | None) -> None:
        """Belong to another configuration, with the controls as the user left them."""
        self._config = config

    @property
    def values(self) -> dict[str, Any]:
        """Fields such as ``"batch.size"`` that the user changed, with their values.

        Raises
        ------
        ConfigError
            When the controls of the row do not fit together.
        """
        return self._read(self._config) if self.is_touched and self._config is not None else {}

    def _touch(self) -> None:
        if not self._is_showing:
            self.is_touched = True
            self.edited.emit()

    def _show(self, config: ExperimentConfig) -> None:
        raise NotImplementedError

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        raise NotImplementedError


class FieldRow(ConfigRow):
    """One field with one control; `words` follow it."""

    def __init__(
        self, field: str, control: WholeBox | NumberBox | QCheckBox, tip: str, words: str = ""
    ) -> None:
        super().__init__()
        self.field, self.control = field, control
        self.setToolTip(tip)
        row = _row(self)
        row.addWidget(control, 1)
        if words:
            control.setMinimumWidth(WIDTH_BEFORE_WORDS)
            row.addWidget(QLabel(words))
        if isinstance(control, QCheckBox):
            control.toggled.connect(lambda _: self._touch())
        else:
            control.valueChanged.connect(lambda _: self._touch())

    def _show(self, config: ExperimentConfig) -> None:
        value = field_of(config, self.field)
        if isinstance(self.control, QCheckBox):
            self.control.setChecked(value)
        else:
            self.control.setValue(value)

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        is_box = isinstance(self.control, QCheckBox)
        return {self.field: self.control.isChecked() if is_box else self.control.value()}


class CropRow(ConfigRow):
    """The size of the parts that are learned from, or whole images."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("Learn from random parts of this many voxels, and segment in windows of this size.")
        self.is_cropped = QCheckBox()
        self.size = AxisBoxes(WholeBox, 1)
        self._whole = QLabel("off: whole images")
        row = _row(self)
        row.addWidget(self.is_cropped)
        row.addWidget(self.size, 1)
        row.addWidget(self._whole, 1)
        self.is_cropped.toggled.connect(lambda _: self._toggle())
        self.size.changed.connect(self._touch)

    def _show(self, config: ExperimentConfig) -> None:
        size = config.preprocessing.crop_size
        self.is_cropped.setChecked(size is not None)
        self.size.set_values(size or (USUAL_CROP[config.model.ndim],) * config.model.ndim)
        self._toggle()

    def _toggle(self) -> None:
        self.size.setVisible(self.is_cropped.isChecked())
        self._whole.setVisible(not self.is_cropped.isChecked())
        self._touch()

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        if not self.is_cropped.isChecked():
            return {"preprocessing.crop_size": None}
        size = self.size.values
        window = getattr(config.model, "window", None)
        if window is None:
            return {"preprocessing.crop_size": size}
        # A network for windows of one size, which are made of blocks: the crops have to fit into it.
        window = tuple(max(w, BLOCK * -(-n // BLOCK)) for n, w in zip(size, window, strict=True))
        return {"preprocessing.crop_size": size, "model.window": window}


class ResamplingRow(ConfigRow):
    """What images are resampled to before the model sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(
            "Bring every image to one voxel size (in the unit of the images), or to one size in voxels. "
            "Objects must stay several voxels wide."
        )
        self.kind = ChoiceBox(RESAMPLINGS)
        self.spacing = AxisBoxes(NumberBox, LEAST_SPACING)
        self.size = AxisBoxes(WholeBox, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.kind, self.spacing, self.size):
            column.addWidget(widget)
        self.kind.currentIndexChanged.connect(lambda _: self._choose())
        self.spacing.changed.connect(self._touch)
        self.size.changed.connect(self._touch)

    def _show(self, config: ExperimentConfig) -> None:
        preprocessing, ndim = config.preprocessing, config.model.ndim
        self.spacing.set_values(preprocessing.spacing or (1.0,) * ndim)
        self.size.set_values(preprocessing.size or (USUAL_CROP[ndim],) * ndim)
        if preprocessing.spacing is not None:
            self.kind.choose("spacing")
        else:
            self.kind.choose("stored" if preprocessing.size is None else "size")
        self._choose()

    def _choose(self) -> None:
        self.spacing.setVisible(self.kind.choice == "spacing")
        self.size.setVisible(self.kind.choice == "size")
        self._touch()

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        kind = self.kind.choice
        return {
            "preprocessing.spacing": self.spacing.values if kind == "spacing" else None,
            "preprocessing.size": self.size.values if kind == "size" else None,
        }


class IntensityRow(ConfigRow):
    """How intensities become the numbers that a network takes."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(
            "Full range: for photographs and microscopy. Mean and deviation: for MRI. "
            "A window: for CT, in Hounsfield units."
        )
        self.kind = ChoiceBox(INTENSITIES)
        self.low, self.high = NumberBox(), NumberBox()
        for box in (self.low, self.high):
            narrowed(box)
        self._window = QWidget()
        row = _row(self._window)
        row.addWidget(self.low, 1)
        row.addWidget(QLabel("to"))
        row.addWidget(self.high, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.kind)
        column.addWidget(self._window)
        self.kind.currentIndexChanged.connect(lambda _: self._choose())
        for box in (self.low, self.high):
            box.valueChanged.connect(lambda _: self._touch())

    def _show(self, config: ExperimentConfig) -> None:
        low, high = config.preprocessing.window or USUAL_WINDOW[config.model.ndim]
        self.low.setValue(low)
        self.high.setValue(high)
        self.kind.choose(config.preprocessing.intensity)
        self._choose()

    def _choose(self) -> None:
        self._window.setVisible(self.kind.choice == "window")
        self._touch()

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        kind, window = self.kind.choice, (self.low.value(), self.high.value())
        if kind == "window" and not window[0] < window[1]:
            raise ConfigError(
                f"A window of intensities goes from a low value to a higher one, and {window[0]:g} to "
                f"{window[1]:g} does not: change one of them."
            )
        return {
            "preprocessing.intensity": kind,
            "preprocessing.window": window if kind == "window" else None,
        }


def field_of(config: BaseModel, field: str) -> Any:
    """A field by its name in the whole configuration, such as ``"training.seed"``."""
    value: Any = config
    for name in field.split("."):
        value = getattr(value, name)
    return value


def _row(parent: QWidget) -> QHBoxLayout:
    row = QHBoxLayout(parent)
    row.setContentsMargins(0, 0, 0, 0)
    return row
