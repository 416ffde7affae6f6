"""How a trained model came about, as its file says it; without torch."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer


class Provenance(BaseModel):
    """Where a training comes from; what is not known is None, and is left out of the file.

    Attributes
    ----------
    started_from
        Name of the model whose weights it began with.
    project, round
        Name of the annotation project, and the folder of the run inside of it.
    layers, folders
        What it was trained on: layers of the project, and data sets beside them.
    painted_voxels
        Annotated voxels by class name.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    started_from: str | None = None
    project: str | None = None
    round: str | None = None
    layers: list[str] | None = None
    folders: list[str] | None = None
    painted_voxels: dict[str, int] | None = None

    @model_serializer(mode="wrap")
    def _known(self, serialise: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}


class TrainingSummary(Provenance):
    """How a model came about.

    Attributes
    ----------
    description
        Of the configuration.
    step, steps
        Optimiser steps so far, and those of the whole run.
    minutes
        Training time so far.
    training_cases, validation_cases
        How many there were.
    best_dice, best_dice_by_class
        Of the best validation so far, in [0, 1]; by class only where there are several.
    skipped_batches
        Batches that were passed over, since their loss or gradient was not finite.
    split_seed
        By which a folder without parts is divided into training, validation and test cases.
    training_marks
        By which the training cases are known again, see `swipe_core.data.cases.marks_of`.
    device, versions
        What it was trained with.
    note
        What the user wrote on keeping the model.
    """

    # Files of other versions may say more, which is kept.
    model_config = ConfigDict(frozen=True, extra="allow")

    description: str | None = None
    step: int | None = None
    steps: int | None = None
    minutes: float | None = None
    training_cases: int | None = None
    validation_cases: int | None = None
    best_dice: float | None = None
    best_dice_by_class: dict[str, float] | None = None
    skipped_batches: int | None = None
    split_seed: int | None = None
    training_marks: list[str] | None = None
    device: str | None = None
    versions: dict[str, str] | None = None
    note: str | None = None
