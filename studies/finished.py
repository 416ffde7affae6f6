"""`FinishedRun`: one trained network of a study, with what it scored and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from studies.study import Row
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.training.config import ExperimentConfig


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A row that was trained with one seed, and judged.

    Attributes
    ----------
    config
        What was trained, with all changes made.
    checkpoint
        The model that was judged.
    data
        The folder of the data set that it was trained on.
    split
        The part of it that the row is judged on: ``"test"``, or ``"val"`` where there is none.
    parameters
        Number of trainable numbers.
    multiply_adds
        Of one training image.
    minutes
        That training took, validations included.
    scores
        By the name of the condition; those that could not be judged are missing.
    device
        That it was trained on, as its maker calls it.
    training_shape
        Voxels of the image that `multiply_adds` is of.
    """

    row: Row
    seed: int
    config: ExperimentConfig
    checkpoint: Path
    data: Path
    split: str
    parameters: int
    multiply_adds: int
    minutes: float
    scores: Mapping[str, EvaluationReport]
    device: str = ""
    training_shape: tuple[int, ...] = ()
