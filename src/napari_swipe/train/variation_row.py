"""The row of a form that says how training images are varied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_swipe.qt.number_box import NumberBox, narrowed
from napari_swipe.train.config_rows import ConfigRow
from swipe_core.errors import ConfigError

if TYPE_CHECKING:
    from swipe_core.training.config import ExperimentConfig

USUAL_PROBABILITY = 0.5  # of a variation that is switched on
USUAL_ROTATION = 15.0  # degrees
USUAL_SCALES = (0.8, 1.25)
LEAST_SCALE = 1e-6


class VariationRow(ConfigRow):
    """How training images are varied: fields of `AugmentationConfig`."""

    def __init__(self) -> None:
        super().__init__()
        self.mirrored = _check("mirrored", "At random, along every axis that may be mirrored.")
        self.intensity = _check("gamma and noise", "Darker and brighter middle tones, and random noise.")
        self.colour = _check("brightness and colour", "Brightness and contrast; saturation and hue of RGB.")
        self.is_rotated = _check("rotated by up to", "About any axis, either way.")
        self.degrees = NumberBox(0, 180, step=5)
        self.degrees.setSuffix("°")
        self.is_scaled = _check("scaled", "Smaller and larger; 1 is the size as it is.")
        self.smallest, self.largest = (NumberBox(LEAST_SCALE, step=0.05) for _ in range(2))
        for box in (self.degrees, self.smallest, self.largest):
            narrowed(box)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.mirrored)
        column.addLayout(_beside(self.is_rotated, self.degrees))
        column.addLayout(_beside(self.is_scaled, self.smallest, QLabel("to"), self.largest))
        column.addWidget(self.colour)
        column.addWidget(self.intensity)
        # The probabilities that they switch on and off.
        self._switches = {
            "flip": self.mirrored,
            "rotation": self.is_rotated,
            "scale": self.is_scaled,
            "colour": self.colour,
            "intensity": self.intensity,
        }
        self._connect()

    def _connect(self) -> None:
        for box in self._switches.values():
            box.toggled.connect(lambda _: self._toggle())
        for number in (self.degrees, self.smallest, self.largest):
            number.valueChanged.connect(lambda _: self._touch())

    def _toggle(self) -> None:
        self.degrees.setEnabled(self.is_rotated.isChecked())
        for number in (self.smallest, self.largest):
            number.setEnabled(self.is_scaled.isChecked())
        self._touch()

    def _show(self, config: ExperimentConfig) -> None:
        shown = _fields_of(config)
        for name, box in self._switches.items():
            box.setChecked(shown.get(name, 0) > 0 and (name != "flip" or shown["flip_axes"] != ()))
        self.degrees.setValue(shown.get("rotation_degrees", USUAL_ROTATION))
        smallest, largest = shown.get("scale_range", USUAL_SCALES)
        self.smallest.setValue(smallest)
        self.largest.setValue(largest)
        self._toggle()

    def _read(self, config: ExperimentConfig) -> dict[str, Any]:
        scales = (self.smallest.value(), self.largest.value())
        if self.is_scaled.isChecked() and scales[0] > scales[1]:
            raise ConfigError(
                f"Images are scaled from a smaller to a larger size, and {scales[0]:g} to {scales[1]:g} does "
                "not rise: change one of them."
            )
        values = _fields_of(config)
        for name, box in self._switches.items():
            values[name] = (values.get(name) or USUAL_PROBABILITY) if box.isChecked() else 0.0
        values["rotation_degrees"] = self.degrees.value()
        if self.is_scaled.isChecked():
            values["scale_range"] = scales
        if self.mirrored.isChecked():
            values["flip_axes"] = values.get("flip_axes") or None
        return {"augmentation": values}


def _fields_of(config: ExperimentConfig) -> dict[str, Any]:
    """The variation that is configured; empty where there is none."""
    return config.augmentation.model_dump() if config.augmentation is not None else {}


def _beside(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget, int(not isinstance(widget, QLabel)))
    return row


def _check(text: str, tip: str) -> QCheckBox:
    box = QCheckBox(text)
    box.setToolTip(tip)
    return box
