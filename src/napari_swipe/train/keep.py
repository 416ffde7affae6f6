"""Keep what was learned: a model with a name, a note and where it comes from, for the Segment dock."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFormLayout, QLineEdit, QPushButton, QWidget

from swipe_core.errors import CheckpointError
from swipe_core.networks.catalogue import title_of
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from swipe_core.checkpoints.card import ModelCard
    from swipe_core.checkpoints.file import Checkpoint
    from swipe_core.checkpoints.summary import TrainingSummary
    from swipe_core.project import Project

UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # what some system does not allow in the name of a file
LIMITS = "Trained on the images of one project; try it on images of your own before you rely on it."


class KeepPanel(QWidget):
    """The name and the note that a model is kept under."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = QLineEdit()
        self.name.setPlaceholderText("a name, such as: my cells")
        self.name.setToolTip("What the model is called in the Segment dock, and its file.")
        self.note = QLineEdit()
        self.note.setPlaceholderText("a note, for those who use it")
        self.note.setToolTip("What it finds, how the images were taken, what it fails on.")
        self.button = QPushButton("Keep model")
        self.button.setToolTip(
            "Put the best weights into the folder of your models; the Segment dock lists them at once."
        )
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Name", self.name)
        form.addRow("Note", self.note)
        form.addRow("", self.button)

    @property
    def words(self) -> tuple[str, str]:
        """The name and the note as they are typed."""
        return self.name.text().strip(), self.note.text().strip()


def iter_keep(
    project: Project, source: Path | Checkpoint, folder: Path, name: str, note: str
) -> Generator[Progress, None, Path]:
    """Write a model, or that of a round without what only training needs, under a name; returns the file."""
    from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint

    yield Progress("Keeping the model", 0, 1)
    stem = UNFIT.sub("_", name).strip(" .")
    if not stem:
        raise CheckpointError("Give the model a name first: it is called so in the Segment dock.")
    path = folder / f"{stem}.safetensors"
    if path.exists():
        raise CheckpointError(f"There is a model {path.name} in {folder} already: choose another name.")
    checkpoint = source if isinstance(source, Checkpoint) else load_checkpoint(source)
    content = checkpoint.content
    summary = content.summary.model_copy(update={"note": note})
    card = _card(name, note, content.model.network, summary)
    content = content.model_copy(update={"name": name, "summary": summary, "card": card})
    save_checkpoint(path, Checkpoint(content, checkpoint.weights))
    project.add_kept(str(path))
    return path


def _card(name: str, note: str, network: str, summary: TrainingSummary) -> ModelCard:
    """Write a card for others from the summary of the training."""
    from swipe_core.checkpoints.card import ModelCard

    dice = summary.best_dice
    voxels = ", ".join(f"{count} as {of}" for of, count in (summary.painted_voxels or {}).items())
    cases = summary.validation_cases or 0
    learned = f"{title_of(network)}, {summary.step or 0} steps"
    return ModelCard(
        title=name,
        description=note or f"Trained in napari, in the project {summary.project or 'unknown'}.",
        data=f"{summary.training_cases or 0} annotated images. Voxels painted: {voxels or 'not known'}. "
        f"{learned}, started from {summary.started_from or 'nothing'}.",
        licence="as of the images it was trained on",
        attribution="whoever trained it",
        intended_use=note or "Images like those that it was trained on.",
        limits=LIMITS,
        dice={} if dice is None else {"mean": dice},
        validation=""
        if dice is None
        else f"{cases} image{'s' * (cases > 1)} of the project, by which it was chosen.",
    )
