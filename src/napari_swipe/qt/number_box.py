"""Boxes for numbers and choices: they show few digits, keep all of them, and do not turn with the wheel."""

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QValidator, QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QDoubleSpinBox, QHBoxLayout, QSpinBox, QWidget

GREATEST_WHOLE = 2**31 - 1
GREATEST = 1e15
DECIMALS = 30  # enough for every digit of the least number that anyone sets
NARROW = "QAbstractSpinBox { min-width: 20px; padding: 1px 3px; }"
NARROW_WIDTH = 44  # pixels


def narrowed(box: QAbstractSpinBox) -> None:
    """Make a box fit beside others in a dock: without arrows, and as wide as there is room."""
    box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    box.setStyleSheet(NARROW)
    box.setMinimumWidth(NARROW_WIDTH)


class _ScrollsOn:
    """A control that the wheel does not turn: it scrolls what the control stands in."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        event.ignore()


class WholeBox(_ScrollsOn, QSpinBox):
    """A whole number."""

    def __init__(self, low: float = 0, high: float = GREATEST_WHOLE) -> None:
        super().__init__()
        self.setRange(int(low), int(min(high, GREATEST_WHOLE)))
        self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def setValue(self, value: float) -> None:  # noqa: N802 - Qt's name
        """Show a number of any size, or the nearest there is room for."""
        super().setValue(int(min(value, GREATEST_WHOLE)))


class NumberBox(_ScrollsOn, QDoubleSpinBox):
    """Any number, "0.0005" or "5e-4": six digits are shown, and none is lost unless another text is typed."""

    def __init__(self, low: float = -GREATEST, high: float = GREATEST, step: float | None = None) -> None:
        super().__init__()
        self.setDecimals(DECIMALS)
        self.setRange(low, high)
        if step is None:
            self.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        else:
            self.setSingleStep(step)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def textFromValue(self, value: float) -> str:  # noqa: N802 - Qt's name
        return f"{value:.6g}"

    def valueFromText(self, text: str) -> float:  # noqa: N802 - Qt's name
        """The number that a text means; the text that is shown means the number with all its digits."""
        plain = self._plain(text)
        return self.value() if plain == self.textFromValue(self.value()) else float(plain.replace(",", "."))

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        try:
            value = float(self._plain(text).replace(",", "."))
        except ValueError:
            is_begun = not self._plain(text).strip("0123456789.,+-eE")
            state = QValidator.State.Intermediate if is_begun else QValidator.State.Invalid
        else:
            is_within = self.minimum() <= value <= self.maximum()
            state = QValidator.State.Acceptable if is_within else QValidator.State.Intermediate
        return state, text, position

    def _plain(self, text: str) -> str:
        return text.removeprefix(self.prefix()).removesuffix(self.suffix()).strip()


class ChoiceBox(_ScrollsOn, QComboBox):
    """One of several words."""

    def __init__(self, choices: Mapping[str, str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        for name, text in choices.items():
            self.addItem(text, name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    @property
    def choice(self) -> str:
        return str(self.currentData())

    def choose(self, name: str) -> None:
        self.setCurrentIndex(self.findData(name))


class AxisBoxes(QWidget):
    """A number for each axis of an image, z first, or for each of other `names`."""

    valueChanged = Signal()  # noqa: N815 - as Qt's boxes have it

    def __init__(
        self, kind: type[WholeBox | NumberBox], low: float = -GREATEST, names: Sequence[str] = "zyx"
    ) -> None:
        super().__init__()
        self.boxes: tuple[WholeBox | NumberBox, ...] = tuple(kind(low) for _ in names)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        for name, box in zip(names, self.boxes, strict=True):
            box.setPrefix(f"{name} ")
            narrowed(box)
            box.valueChanged.connect(lambda _: self.valueChanged.emit())
            row.addWidget(box, 1)

    @property
    def shown(self) -> tuple[WholeBox | NumberBox, ...]:
        """The boxes of the axes that there are."""
        return tuple(box for box in self.boxes if not box.isHidden())

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(box.value() for box in self.shown)

    def set_values(self, values: Sequence[float]) -> None:
        """Show as many numbers, those of the last axes."""
        for box in self.boxes[: len(self.boxes) - len(values)]:
            box.hide()
        for box, value in zip(self.boxes[-len(values) :], values, strict=True):
            box.show()
            box.setValue(value)


DEVICES = {"auto": "Automatic", "cpu": "CPU", "cuda": "NVIDIA GPU (CUDA)", "mps": "Apple GPU (MPS)"}


def device_box(chosen: str = "auto") -> ChoiceBox:
    """Return a box whose choices are the names that the core knows devices by."""
    box = ChoiceBox(DEVICES)
    box.choose(chosen)
    box.setToolTip("What computes. Automatic takes a GPU where there is one.")
    return box
