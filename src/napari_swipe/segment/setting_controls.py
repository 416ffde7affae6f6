"""Controls for the settings of inference, each made from its record in `swipe_core.inference.config`."""

import math
from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QHBoxLayout, QWidget
from superqt import QCollapsible, QLabeledDoubleSlider

from napari_swipe.qt.number_box import ChoiceBox
from swipe_core.inference.config import SETTINGS, DecisionSetting, InferenceConfig

AS_MODEL = ""  # the choice of nothing, where a setting may be left to the model


class SettingSlider(QLabeledDoubleSlider):
    """A number, in steps; it can be typed beside the slider, too."""

    def __init__(self, setting: DecisionSetting) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._step = setting.step
        self.setDecimals(max(0, -math.floor(math.log10(setting.step))))
        self.setRange(*setting.bounds)
        self.setSingleStep(setting.step)
        self.chosen = self.valueChanged

    @property
    def setting_value(self) -> float:
        return round(round(self.value() / self._step) * self._step, 9)

    def show_value(self, value: float) -> None:
        self.setValue(value)


class SettingChoice(ChoiceBox):
    """One of several words."""

    def __init__(self, setting: DecisionSetting) -> None:
        default = {} if setting.field.default else {AS_MODEL: "as the model says"}
        super().__init__(default | {word: word for word in setting.choices})
        self.chosen = self.currentIndexChanged

    @property
    def setting_value(self) -> str | None:
        return self.choice or None

    def show_value(self, word: str | None) -> None:
        self.choose(word or AS_MODEL)


class AxisTicks(QWidget):
    """Any of the axes of an image, z first; of a picture y and x."""

    chosen = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._ticks = [QCheckBox(name) for name in "zyx"]
        self._ndim = len(self._ticks)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for tick in self._ticks:
            tick.toggled.connect(lambda _: self.chosen.emit())
            row.addWidget(tick)
        row.addStretch(1)

    @property
    def setting_value(self) -> tuple[int, ...]:
        shown = self._ticks[-self._ndim :]
        return tuple(axis for axis, tick in enumerate(shown) if tick.isChecked())

    def show_value(self, axes: tuple[int, ...]) -> None:
        for axis, tick in enumerate(self._ticks[-self._ndim :]):
            tick.setChecked(axis in axes)

    def set_ndim(self, ndim: int) -> None:
        """Show the axes of images of so many dimensions."""
        self._ndim = ndim
        for position, tick in enumerate(reversed(self._ticks)):
            tick.setVisible(position < ndim)


SettingControl = SettingSlider | SettingChoice | AxisTicks


def setting_control(setting: DecisionSetting) -> SettingControl:
    """Return the control of a setting, with its meaning as the tool tip."""
    kind = SettingChoice if setting.choices else SettingSlider
    control = AxisTicks() if setting.takes_axes else kind(setting)
    control.setToolTip(f"{setting.description[:1].upper()}{setting.description[1:]}.")
    return control


def setting_controls(*, advanced: bool) -> dict[str, SettingControl]:
    """Return the controls of all settings that are advanced, or of all others, by their names."""
    chosen = (setting for setting in SETTINGS.values() if setting.is_advanced == advanced)
    return {setting.name: setting_control(setting) for setting in chosen}


class AdvancedPanel(QCollapsible):
    """Settings that few need, closed at first; they count from the next Segment on."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Advanced: from the next Segment on", parent)
        self.controls = setting_controls(advanced=True)
        self._of_model: Mapping[str, Any] = self.values
        inner = QWidget()
        form = QFormLayout(inner)
        for name, control in self.controls.items():
            form.addRow(SETTINGS[name].title, control)
        self.addWidget(inner)
        self.layout().setContentsMargins(0, 0, 0, 0)

    @property
    def values(self) -> dict[str, Any]:
        return {name: control.setting_value for name, control in self.controls.items()}

    @property
    def changes(self) -> dict[str, Any]:
        """What is set otherwise than the model has it, as fields of `InferenceConfig`."""
        return {name: value for name, value in self.values.items() if value != self._of_model[name]}

    def show_model(self, config: InferenceConfig, ndim: int) -> None:
        """Show what a model has."""
        for name, control in self.controls.items():
            with QSignalBlocker(control):
                if isinstance(control, AxisTicks):
                    control.set_ndim(ndim)
                control.show_value(getattr(config, name))
        self._of_model = self.values
