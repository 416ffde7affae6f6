"""A model that is kept: the weights of a round with a name, a note, and where they come from."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from swipe_core.errors import CheckpointError
from swipe_core.networks.catalogue import title_of
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from swipe_core.checkpoints.card import ModelCard
    from swipe_core.checkpoints.summary import TrainingSummary
    from swipe_core.project import Project

UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # what some system does not allow in the name of a file
LIMITS = "Trained on the images of one project; try it on images of your own before you rely on it."


def iter_keep(
    project: Project, source: Path, folder: Path, name: str, note: str
) -> Generator[Progress, None, Path]:
    """Write the weights of a round, without what only training needs, under a name; returns the file.

    Raises
    ------
    CheckpointError
        When there is no name or it is taken, or a file cannot be read or written.
    """
    from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint

    yield Progress("Keeping the model", 0, 1)
    stem = UNFIT.sub("_", name).strip(" .")
    if not stem:
        raise CheckpointError("Give the model a name first: it is called so in the Segment dock.")
    path = folder / f"{stem}.safetensors"
    if path.exists():
        raise CheckpointError(f"There is a model {path.name} in {folder} already: choose another name.")
    checkpoint = load_checkpoint(source)
    summary = checkpoint.content.summary.model_copy(update={"note": note})
    content = checkpoint.content
    content = content.model_copy(
        update={"name": name, "summary": summary, "card": _card(name, note, content.model.network, summary)}
    )
    save_checkpoint(path, Checkpoint(content, checkpoint.weights))
    project.add_kept(str(path))
    return path


def _card(name: str, note: str, network: str, summary: TrainingSummary) -> ModelCard:
    """What others should know of it, from what the training wrote down."""
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
