"""The start of a training: the network or the model, the time budget and the device."""

import html
from dataclasses import dataclass, replace
from pathlib import Path

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QWidget

from napari_swipe.qt.layouts import beside, sentence
from napari_swipe.qt.number_box import ChoiceBox, device_box
from napari_swipe.segment.model_picker import listed, open_button, readable
from napari_swipe.segment.model_picker import tip as model_tip
from swipe_core.checkpoints.header import ModelDescription, describe_checkpoint
from swipe_core.checkpoints.library import named_checkpoints
from swipe_core.errors import CheckpointError
from swipe_core.networks.catalogue import CATALOGUE, SWIPE, NetworkEntry, Preset, offered

# In other words than `swipe_core.networks.catalogue.PRESETS`: these stand in a narrow list.
PRESETS: dict[Preset, str] = {
    "quick": "New: quick",
    "standard": "New: standard",
    "paper": "New: as in the paper",
}
PRETRAINED = "For 2D images SwIPE's encoder starts from weights learned on ImageNet."
PRESET_TIPS: dict[Preset, str] = {
    "quick": f"A small network: minutes on a CPU. {PRETRAINED}",
    "standard": f"About four times as large: an hour on a GPU. {PRETRAINED}",
    "paper": "As large as in Zhang et al. 2023, from random weights: a day on a GPU.",
}
DEFAULT_MINUTES = 10.0
LONGEST = 7 * 24 * 60.0  # minutes


@dataclass(frozen=True)
class StartChoice:
    """Either a preset, for a training from nothing, or a model to go on from."""

    preset: Preset | None = None
    model: ModelDescription | None = None
    network: str = SWIPE
    """Of a training from nothing, by name; a model goes on with its own."""

    @property
    def checkpoint(self) -> str | None:
        """The file of the model."""
        return None if self.model is None else str(self.model.path)

    @property
    def key(self) -> tuple[str | None, str | None, str | None]:
        """The identity of a choice; a file may hold another model by now."""
        return *self.place, self.network if self.model is None else None

    @property
    def place(self) -> tuple[str | None, str | None]:
        """The identity of its entry in the list; networks have a list of their own."""
        return self.preset, self.checkpoint


class StartPanel(QWidget):
    """Presets and models to start from, the time budget and the device."""

    changed = Signal()
    refused = Signal(str)
    """Why a file is no model, in a sentence."""

    def __init__(self, device: str = "auto", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.latest: StartChoice | None = None
        """The newest model of the project."""
        self._box = QComboBox()
        self._box.setToolTip(
            "A new network, or a trained model that goes on learning from what you painted. Its classes may "
            "be others: then only the last layers start afresh."
        )
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(14)
        for preset, text in PRESETS.items():
            self._add(StartChoice(preset=preset), text, PRESET_TIPS[preset])
        self.network = NetworkBox()
        for model in readable(named_checkpoints().values()):
            self.add_model(model)
        self._box.currentIndexChanged.connect(lambda _: self._on_choice())
        self.network.changed.connect(self._on_network)
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, LONGEST)
        self.minutes.setDecimals(1)
        self.minutes.setValue(DEFAULT_MINUTES)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip(
            "The learning rate falls so that it ends with this time. Stop earlier whenever you like."
        )
        self.device = device_box(device)
        self._words = sentence()
        tip = "Start from a checkpoint file (.safetensors) anywhere on this computer."
        row = beside(self._box, open_button(tip, self.open_file))
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Start from", row)
        self._form.addRow("Network", self.network)
        self._form.addRow("", self._words)
        self._form.addRow("Time", self.minutes)
        self._form.addRow("Device", self.device)
        self.device.currentIndexChanged.connect(lambda _: self.changed.emit())
        self._on_choice()

    @property
    def choices(self) -> list[StartChoice]:
        return [self._box.itemData(index) for index in range(self._box.count())]

    @property
    def choice(self) -> StartChoice:
        picked: StartChoice = self._box.currentData()
        return picked if picked.preset is None else replace(picked, network=self.network.choice)

    def choose(self, choice: StartChoice) -> None:
        """Pick a preset with its network, or a model by its file."""
        if choice.preset is not None:
            self.network.remember(choice.network)
        if self._index_of(choice) < 0 and choice.model is not None:
            self.add_model(choice.model)
        if self._index_of(choice) >= 0:
            self._box.setCurrentIndex(self._index_of(choice))

    def add_model(self, model: ModelDescription) -> None:
        """Offer one more model to start from."""
        if str(model.path) not in [choice.checkpoint for choice in self.choices]:
            self._add(StartChoice(model=model), listed(model), model_tip(model))

    def offer_latest(self, path: Path | None) -> None:
        """Put the newest model of the project first and pick it where it is new; None takes it out again."""
        before, known = self.choice, self.latest
        with QSignalBlocker(self._box):
            self._replace_latest(path)
            self._box.setCurrentIndex(max(0, self._index_of(before)))
        if self.latest is not None and (known is None or known.checkpoint != self.latest.checkpoint):
            self.choose(self.latest)
        elif self.choice.key != before.key:
            self._on_choice()

    def _replace_latest(self, path: Path | None) -> None:
        if self.latest is not None:
            self._box.removeItem(0)
            self.latest = None
        if path is None:
            return
        try:
            model = describe_checkpoint(path)
        except CheckpointError as error:
            self.refused.emit(str(error))
            return
        self.latest = StartChoice(model=model)
        self._add(self.latest, f"Your last round ({path.parent.name})", model_tip(model), index=0)

    def _index_of(self, choice: StartChoice) -> int:
        """Return the index of a choice in the list, or -1."""
        return next((i for i, known in enumerate(self.choices) if known.place == choice.place), -1)

    def _add(self, choice: StartChoice, text: str, tip: str, index: int | None = None) -> None:
        index = self._box.count() if index is None else index
        self._box.insertItem(index, text, choice)
        self._box.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)

    def _on_choice(self) -> None:
        if self._box.currentIndex() < 0:
            return
        choice = self.choice
        self._form.setRowVisible(self.network, choice.preset is not None)
        if choice.preset is not None:
            self._words.setText(PRESET_TIPS[choice.preset])
        elif choice.model is not None:
            self._words.setText(
                f"{choice.model.network_title} that knows {', '.join(choice.model.class_names)}; images are "
                "prepared as it learned."
            )
        self.changed.emit()

    def _on_network(self) -> None:
        # Of no account to a model, which has its own.
        if self.choice.preset is not None:
            self.changed.emit()

    def open_file(self, path: Path) -> None:
        """Start from a checkpoint file; emits `refused` where it is none."""
        try:
            self.choose(StartChoice(model=describe_checkpoint(path)))
        except CheckpointError as error:
            self.refused.emit(str(error))


class NetworkBox(ChoiceBox):
    """The networks by title, SwIPE first.

    What the user chose is remembered where it cannot be had for the images of the moment: SwIPE takes its
    place until it can.
    """

    changed = Signal()
    """Another network will be trained, by the user's choice or since the images are others."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__({name: entry.title for name, entry in CATALOGUE.items()}, parent)
        self._chosen = SWIPE
        self.offer(2)
        self.currentIndexChanged.connect(lambda _: self._on_index())

    @property
    def chosen(self) -> str:
        """The network that was chosen, also where it cannot be had now."""
        return self._chosen

    def remember(self, name: str) -> None:
        """Choose a network, now or once it can be had; a name that is not known here is passed over."""
        if name in CATALOGUE:
            self._chosen = name
            self._show()

    def offer(self, ndim: int) -> None:
        """Show what can be had for images of a dimension."""
        model = self.model()
        assert isinstance(model, QStandardItemModel)
        for index, (name, hindrance) in enumerate(offered(ndim).items()):
            model.item(index).setEnabled(hindrance is None)
            self.setItemData(index, about(CATALOGUE[name], hindrance), Qt.ItemDataRole.ToolTipRole)
        self._show()

    def _show(self) -> None:
        before, index = self.choice, self.findData(self._chosen)
        can_be_had = bool(self.model().flags(self.model().index(index, 0)) & Qt.ItemFlag.ItemIsEnabled)
        with QSignalBlocker(self):
            self.setCurrentIndex(index if can_be_had else self.findData(SWIPE))
        self._show_tip()
        if self.choice != before:
            self.changed.emit()

    def _on_index(self) -> None:
        self._chosen = self.choice
        self._show_tip()
        self.changed.emit()

    def _show_tip(self) -> None:
        self.setToolTip(str(self.currentData(Qt.ItemDataRole.ToolTipRole)))


def about(entry: NetworkEntry, hindrance: str | None) -> str:
    """Describe a network in rich text, which breaks lines: why it cannot be had, if so, and what it is."""
    text = f"<b>{html.escape(entry.title)}</b> ({entry.year}). {html.escape(entry.summary)}"
    return f"<qt>{text}</qt>" if hindrance is None else f"<qt>{html.escape(hindrance)}<br>{text}</qt>"
