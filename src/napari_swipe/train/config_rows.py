"""The rows of a form for `ExperimentConfig`: each shows some fields, and returns what the user changed.

A row that the user has not touched has no values, so that no field changes by being shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_swipe.qt.number_box import GREATEST, AxisBoxes, ChoiceBox, NumberBox, WholeBox, narrowed
from swipe_core.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from swipe_core.training.config import ExperimentConfig

WIDTH_BEFORE_WORDS = 90  # pixels
LEAST = 1e-12  # of a number that must be above 0
STEPS_ACROSS = 20  # of the arrows, from one bound of a number to the other
BLOCK = 16  # voxels, of a network that sees windows of one size
CROPS: dict[int, tuple[float, ...]] = {2: (128, 128), 3: (48, 48, 48)}  # voxels
USUAL: dict[str, dict[int, tuple[float, ...]]] = {
    "crop_size": CROPS,
    "size": CROPS,
    "spacing": {2: (1.0, 1.0), 3: (1.0, 1.0, 1.0)},
    "window": {2: (0.0, 255.0), 3: (-1000.0, 1000.0)},  # bytes, and Hounsfield units
}
"""Numbers that are shown where a configuration leaves them open, by field and number of axes."""
VARIATIONS = {
    "flip": ("mirrored", "At random, along every axis that may be mirrored."),
    "rotation": ("rotated by up to", "About any axis, either way."),
    "scale": ("scaled", "Smaller and larger; 1 is the size as it is."),
    "colour": ("brightness and colour", "Brightness and contrast; saturation and hue of RGB."),
    "intensity": ("gamma and noise", "Darker and brighter middle tones, and random noise."),
}
USUAL_PROBABILITY = 0.5  # of a variation that is switched on
USUAL_ROTATION = 15.0  # degrees
USUAL_SCALES = (0.8, 1.25)
LIMITS = ("from", "to")


class ConfigRow(QWidget):
    """Controls of one or several fields."""

    edited = Signal()

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.is_touched = False
        """Whether the user changed something since `show_config`."""
        self._is_showing = False
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)

    def show_config(self, config: ExperimentConfig) -> None:
        """Show the fields of a configuration."""
        self.is_touched, self._is_showing = False, True
        self._show(config)
        self._arrange()
        self._is_showing = False

    def values(self, config: ExperimentConfig) -> dict[str, Any]:
        """Return the fields that the user changed, such as ``"batch.size"``, with values for a configuration.

        A `ConfigError` is raised when the controls of the row do not fit together.
        """
        return self._read(config) if self.is_touched else {}

    def _add_line(self, *parts: QWidget | str) -> QWidget:
        """One line of controls and words; what the user does to a control touches the row."""
        line = QWidget()
        layout = QHBoxLayout(line)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in [part for part in parts if part != ""]:
            widget = QLabel(part) if isinstance(part, str) else part
            layout.addWidget(widget, int(isinstance(widget, (QAbstractSpinBox, QComboBox, AxisBoxes))))
            for name in ("toggled", "currentIndexChanged", "valueChanged"):
                if hasattr(widget, name):
                    getattr(widget, name).connect(self._on_control)
        self._column.addWidget(line)
        return line

    def _on_control(self, *_: object) -> None:
        if not self._is_showing:
            self.is_touched = True
            self._arrange()
            self.edited.emit()

    def _arrange(self) -> None:
        """Show and enable the controls that count now."""

    def _show(self, config: ExperimentConfig) -> None:
        raise NotImplementedError

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        raise NotImplementedError


class FieldRow(ConfigRow):
    """One field, with a control of its type and within its bounds as the configuration declares them.

    The control is made with the first configuration: to import the declarations takes seconds.

    `words`: what stands behind a number, or beside a box to check.
    """

    control: QCheckBox | WholeBox | NumberBox

    def __init__(self, field: str, tip: str, words: str = "") -> None:
        super().__init__(tip)
        self.field, self.words = field, words

    def _show(self, config: ExperimentConfig) -> None:
        if not self._column.count():
            section, _, name = self.field.rpartition(".")
            self._build(type(field_of(config, section)).model_fields[name])
        value = field_of(config, self.field)
        if isinstance(self.control, QCheckBox):
            self.control.setChecked(value)
        else:
            self.control.setValue(value)

    def _build(self, declared: FieldInfo) -> None:
        if declared.annotation is bool:
            self.control = QCheckBox(self.words)
            self._add_line(self.control)
            return
        bounds = {
            name: getattr(rule, name)
            for rule in declared.metadata
            for name in ("ge", "gt", "le")
            if hasattr(rule, name)
        }
        low, high = bounds.get("ge", bounds.get("gt", -GREATEST) + LEAST), bounds.get("le", GREATEST)
        if declared.annotation is int:
            self.control = WholeBox(low, high)
        else:
            self.control = NumberBox(low, high, (high - low) / STEPS_ACROSS if "le" in bounds else None)
        if self.words:
            self.control.setMinimumWidth(WIDTH_BEFORE_WORDS)
        self._add_line(self.control, self.words)

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        is_box = isinstance(self.control, QCheckBox)
        return {self.field: self.control.isChecked() if is_box else self.control.value()}


class ChoiceRow(ConfigRow):
    """One of several ways to prepare images, some of which have numbers: `None` where they are not chosen.

    `texts`: the ways by name.
    `numbers`: the boxes of those that have numbers, under the field of `PreprocessingConfig` that they set.
    """

    def __init__(self, tip: str, texts: Mapping[str, str], numbers: Mapping[str, AxisBoxes]) -> None:
        super().__init__(tip)
        self.kind, self.numbers = ChoiceBox(texts), numbers
        self._add_line(self.kind)
        self._lines = {name: self._add_line(boxes) for name, boxes in numbers.items()}
        self._arrange()

    def _show(self, config: ExperimentConfig) -> None:
        preprocessing, ndim = config.preprocessing, config.model.ndim
        for name, boxes in self.numbers.items():
            boxes.set_values(getattr(preprocessing, name) or USUAL[name][ndim])
        chosen = [name for name in self.numbers if getattr(preprocessing, name) is not None]
        self.kind.choose(chosen[0] if chosen else self._without_numbers(config))

    def _without_numbers(self, config: ExperimentConfig) -> str:
        """Return the way that is chosen where no numbers are set."""
        return "none"

    def _arrange(self) -> None:
        for name, line in self._lines.items():
            line.setVisible(self.kind.choice == name)

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        chosen = self.kind.choice
        return {
            f"preprocessing.{name}": boxes.values if name == chosen else None
            for name, boxes in self.numbers.items()
        }


class CropRow(ChoiceRow):
    """The size of the parts that are learned from, or whole images."""

    def __init__(self) -> None:
        super().__init__(
            "Learn from random parts of this many voxels, and segment in windows of this size.",
            {"none": "whole images", "crop_size": "random parts of"},
            {"crop_size": AxisBoxes(WholeBox, 1)},
        )

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        fields = super()._read(config)
        size, window = fields["preprocessing.crop_size"], getattr(config.model, "window", None)
        if size is not None and window is not None:
            # A network for windows of one size, which are made of blocks: the crops have to fit into it.
            blocks = zip(size, window, strict=True)
            fields["model.window"] = tuple(max(w, BLOCK * -(-n // BLOCK)) for n, w in blocks)
        return fields


class IntensityRow(ChoiceRow):
    """How intensities become the numbers that a network takes."""

    def __init__(self) -> None:
        super().__init__(
            "Full range: for photographs and microscopy. Mean and deviation: for MRI. "
            "A window: for CT, in Hounsfield units.",
            {
                "unit": "full range to −1 … 1",
                "standardise": "mean 0, deviation 1",
                "range": "0.5 to 99.5 % to −1 … 1",
                "window": "a window of values",
            },
            {"window": AxisBoxes(NumberBox, names=LIMITS)},
        )

    def _without_numbers(self, config: ExperimentConfig) -> str:
        return config.preprocessing.intensity

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        fields = super()._read(config)
        low, high = self.numbers["window"].values
        if self.kind.choice == "window" and not low < high:
            raise ConfigError(
                f"A window of intensities goes from a low value to a higher one, and {low:g} to {high:g} "
                "does not: change one of them."
            )
        return {"preprocessing.intensity": self.kind.choice, **fields}


class VariationRow(ConfigRow):
    """How training images are varied: fields of `AugmentationConfig`, switched by their probabilities."""

    def __init__(self) -> None:
        super().__init__("")
        self.switches = {name: QCheckBox(text) for name, (text, _) in VARIATIONS.items()}
        self.degrees = NumberBox(0, 180, step=5)
        self.degrees.setSuffix("°")
        narrowed(self.degrees)
        self.scales = AxisBoxes(NumberBox, LEAST, LIMITS)
        self._numbers: dict[str, QWidget] = {"rotation": self.degrees, "scale": self.scales}
        for name, box in self.switches.items():
            box.setToolTip(VARIATIONS[name][1])
            self._add_line(box, self._numbers.get(name, ""))

    def _show(self, config: ExperimentConfig) -> None:
        shown = _variation(config)
        for name, box in self.switches.items():
            box.setChecked(shown.get(name, 0) > 0 and (name != "flip" or shown["flip_axes"] != ()))
        self.degrees.setValue(shown.get("rotation_degrees", USUAL_ROTATION))
        self.scales.set_values(shown.get("scale_range", USUAL_SCALES))

    def _arrange(self) -> None:
        for name, numbers in self._numbers.items():
            numbers.setEnabled(self.switches[name].isChecked())

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        values = _variation(config)
        for name, box in self.switches.items():
            values[name] = (values.get(name) or USUAL_PROBABILITY) if box.isChecked() else 0.0
        values["rotation_degrees"] = self.degrees.value()
        if values["scale"]:
            smallest, largest = values["scale_range"] = self.scales.values
            if smallest > largest:
                raise ConfigError(
                    f"Images are scaled from a smaller to a larger size, and {smallest:g} to {largest:g} "
                    "does not rise: change one of them."
                )
        if values["flip"]:
            values["flip_axes"] = values.get("flip_axes") or None
        return {"augmentation": values}


def field_of(config: BaseModel, field: str) -> Any:
    """Return a field by its name in the whole configuration, such as ``"training.seed"``."""
    value: Any = config
    for name in field.split("."):
        value = getattr(value, name)
    return value


def _variation(config: ExperimentConfig) -> dict[str, Any]:
    """The variation that is configured; empty where there is none."""
    return config.augmentation.model_dump() if config.augmentation is not None else {}
