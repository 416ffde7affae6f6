"""How a trained model came about, as its file says it; without torch."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer


class Provenance(BaseModel):
    """Where a training comes from; what is not known is None, and is left out of the file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    started_from: str | None = None
    """Name of the model whose weights it began with."""
    project: str | None = None
    round: str | None = None
    """`project` and `round`: name of the annotation project, and the folder of the run inside of it."""
    layers: list[str] | None = None
    folders: list[str] | None = None
    """`layers` and `folders`: what it was trained on: layers of the project, and data sets beside them."""
    painted_voxels: dict[str, int] | None = None
    """Annotated voxels by class name."""

    @model_serializer(mode="wrap")
    def _known(self, serialise: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}


class TrainingSummary(Provenance):
    """How a model came about."""

    # Files of other versions may say more, which is kept.
    model_config = ConfigDict(frozen=True, extra="allow")

    description: str | None = None
    """Of the configuration."""
    step: int | None = None
    steps: int | None = None
    """`step` and `steps`: optimiser steps so far, and those of the whole run."""
    minutes: float | None = None
    """Training time so far."""
    training_cases: int | None = None
    validation_cases: int | None = None
    """`training_cases` and `validation_cases`: how many there were."""
    best_dice: float | None = None
    best_dice_by_class: dict[str, float] | None = None
    """`best_dice` and `best_dice_by_class`: of the best validation so far, in [0, 1]; by class only where
    there are several.
    """
    skipped_batches: int | None = None
    """Batches that were passed over, since their loss or gradient was not finite."""
    split_seed: int | None = None
    """By which a folder without parts is divided into training, validation and test cases."""
    training_marks: list[str] | None = None
    """By which the training cases are known again, see `swipe_core.data.cases.marks_of`."""
    device: str | None = None
    versions: dict[str, str] | None = None
    """`device` and `versions`: what it was trained with."""
    note: str | None = None
    """What the user wrote on keeping the model."""
