"""Pick a trained model, and see what it is."""

import html
from collections.abc import Callable, Iterable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QToolButton, QWidget
from superqt import QCollapsible

from napari_swipe.qt.layouts import beside, column, sentence, spacing_text
from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.header import ModelDescription, describe_checkpoint
from swipe_core.checkpoints.library import checkpoints_in, named_checkpoints
from swipe_core.errors import CheckpointError, readable_bytes
from swipe_core.networks.catalogue import SWIPE


class ModelPicker(QWidget):
    """A list of the bundled models, those in the user's folder, and files that were opened.

    `folder`: the user's own, or None.
    """

    changed = Signal()
    refused = Signal(str)
    """Why a file is no model, in a sentence."""

    def __init__(self, folder: Path | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.is_chosen = False
        """Whether the user picked a model, rather than was offered one."""
        self._box = QComboBox()
        self._box.setToolTip("Trained models: those that come with the plugin, and your own.")
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(14)
        self._box.currentIndexChanged.connect(self._on_index)
        self._box.activated.connect(self._on_activated)
        self._info = sentence()
        self._info.setTextFormat(Qt.TextFormat.RichText)
        self._info.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self._about_text = sentence()
        self._about_text.setTextFormat(Qt.TextFormat.RichText)
        self._about = QCollapsible("About this model")
        self._about.addWidget(self._about_text)
        self._about.layout().setContentsMargins(0, 0, 0, 0)
        tip = "Use a checkpoint file (.safetensors) from anywhere on this computer."
        row = beside(self._box, open_button(tip, self.open_file))
        column(self, row, self._info, self._about)
        self._fill(readable([*named_checkpoints().values(), *(checkpoints_in(folder) if folder else [])]))

    @property
    def models(self) -> list[ModelDescription]:
        return [self._box.itemData(index) for index in range(self._box.count())]

    @property
    def model(self) -> ModelDescription | None:
        """The one that is picked."""
        model: ModelDescription | None = self._box.currentData()
        return model

    def pick(self, name: str) -> bool:
        """Pick a model by its name or its path; whether there is one."""
        for index, model in enumerate(self.models):
            if name in (model.name, model.path.stem, str(model.path)):
                self._box.setCurrentIndex(index)
                return True
        return False

    def _on_activated(self) -> None:
        self.is_chosen = True

    def open_file(self, path: Path) -> None:
        """Add a checkpoint file to the list and pick it; emits `refused` where it is none."""
        self.is_chosen = True
        if self.pick(str(path)):
            return
        try:
            model = describe_checkpoint(path)
        except CheckpointError as error:
            self.refused.emit(str(error))
            return
        self._fill([model])
        self._box.setCurrentIndex(len(self.models) - 1)

    def offer(self, path: Path) -> None:
        """Add a checkpoint to the list and leave the choice as it is; what is no model is passed over."""
        if str(path) not in [str(model.path) for model in self.models]:
            self._fill(readable([path]))

    def _fill(self, models: Iterable[ModelDescription]) -> None:
        for model in models:
            self._box.addItem(listed(model), model)
            self._box.setItemData(self._box.count() - 1, tip(model), Qt.ItemDataRole.ToolTipRole)
        self._on_index()

    def _on_index(self) -> None:
        model = self.model
        self._info.setText(summary(model) if model else "No model yet: open a checkpoint file.")
        self._about.setVisible(model is not None and model.card is not None)
        self._about_text.setText(about(model.card) if model is not None and model.card is not None else "")
        self.changed.emit()


def open_button(tip: str, open_file: Callable[[Path], object]) -> QToolButton:
    """Return a button that asks for a checkpoint file and has it opened."""

    def ask_for_file() -> None:
        kinds = "SwIPE models (*.safetensors)"
        path, _ = QFileDialog.getOpenFileName(button, "Open a trained model", "", kinds)
        if path:
            open_file(Path(path))

    button = QToolButton()
    button.setText("Open…")
    button.setToolTip(tip)
    button.clicked.connect(ask_for_file)
    return button


def readable(paths: Iterable[Path]) -> list[ModelDescription]:
    """The descriptions of those files that are checkpoints; others in a folder are passed over."""
    models = []
    for path in paths:
        try:
            models.append(describe_checkpoint(path))
        except CheckpointError:
            continue
    return models


def entry(model: ModelDescription) -> str:
    """A model in the list. Every run calls its checkpoint best, so then the folder's name says more."""
    if model.card is not None:
        return model.card.title
    generic = model.path.stem in ("best", "last")
    return f"{model.path.parent.name}/{model.path.stem}" if generic else model.path.stem


def listed(model: ModelDescription) -> str:
    """An entry with the dimension, and the network where it is another than most models have."""
    kind = f"{model.ndim}D" if model.network == SWIPE else f"{model.network_title}, {model.ndim}D"
    return f"{entry(model)}  ·  {kind}"


def tip(model: ModelDescription) -> str:
    """Return the network of a model, and where it lies."""
    return f"{model.network_title}: {model.path}"


def summary(model: ModelDescription) -> str:
    """Return a model as rich text: classes, network, what images are brought to, quality, data, licence."""
    chips = "  ".join(
        f'<span style="color:{colour}">■</span> {html.escape(name)}'
        for name, colour in zip(model.class_names, model.class_colours, strict=True)
    )
    lines = [chips, _input_line(model)]
    if model.card is not None:
        lines += _card_lines(model.card)
    else:
        lines.append(f"No card: trained here or elsewhere; {readable_bytes(model.bytes)}.")
    return "<br>".join(lines)


def _input_line(model: ModelDescription) -> str:
    kinds = model.channel_kinds
    channels = "grey" if kinds.count == 1 else "colour" if kinds.is_colour else str(kinds)
    parts = [model.network_title, f"{model.ndim}D, {channels}"]
    if model.spacing:
        parts.append(f"spacing {spacing_text(model)}")
    elif model.size:
        parts.append("resized to " + " × ".join(map(str, model.size)) + " px")
    else:
        parts.append("any spacing")
    if model.orientation:
        parts.append(f"axes as {model.orientation}")
    if model.window:
        parts.append(f"intensity {model.window[0]:g} to {model.window[1]:g}")
    else:
        parts.append("full intensity range" if model.intensity == "unit" else "any intensity")
    return ", ".join(parts)


def _card_lines(card: ModelCard) -> list[str]:
    scores = ", ".join(f"{html.escape(name)} {dice:.2f}" for name, dice in card.dice.items())
    lines = [f"Dice on validation: {scores}"] if scores else []
    lines.append(f"Licence: {html.escape(card.licence)}")
    return lines


def about(card: ModelCard) -> str:
    """The rest of a card: what the model does, its data, and what it must not be used for."""
    parts = {
        "": card.description,
        "Data": card.data,
        "Validation": card.validation,
        "For": card.intended_use,
        "Limits": card.limits,
        "Attribution": card.attribution,
    }
    return "<br>".join(
        (f"<b>{name}</b> " if name else "") + html.escape(text) for name, text in parts.items() if text
    )
