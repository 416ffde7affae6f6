"""What is written down of a training that has ended: how long it took, where, and what its network costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from swipe_core.errors import DataError
from swipe_core.files.atomic import write_text
from swipe_core.networks.registry import build_network
from swipe_core.training.config import ExperimentConfig


class TrainedRecord(BaseModel):
    """A training that came to its end.

    Attributes
    ----------
    minutes
        Over all sessions, with the validations where there are any.
    device
        As its maker calls it.
    parameters, multiply_adds
        Numbers that are trained, and operations for one training image.
    shape
        Voxels of that image.
    """

    model_config = ConfigDict(frozen=True)

    steps: int
    minutes: float
    device: str
    parameters: int
    multiply_adds: int
    shape: tuple[int, ...]

    @staticmethod
    def path(folder: Path) -> Path:
        """The file in the folder of a run; it is there once the training has ended."""
        return folder / "trained.json"

    @classmethod
    def read(cls, folder: Path) -> TrainedRecord:
        """The record in the folder of a run.

        Raises
        ------
        DataError
            When it cannot be read.
        """
        path = cls.path(folder)
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"{path} is no record of a training: delete it, to have it made anew.") from error

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all.

        Raises
        ------
        ConfigError
            When the folder cannot be written.
        """
        write_text(self.path(folder), self.model_dump_json(indent=1) + "\n")


def cost_of(config: ExperimentConfig, shape: Sequence[int]) -> tuple[int, int]:
    """Parameters of a network, and multiply-adds for one training image of so many voxels.

    Nothing is computed: the network is made without memory.
    """
    from studies.cost import (  # torch's counter takes a second to load
        multiply_adds,
        parameter_count,
    )

    with torch.device("meta"):
        model = build_network(config.model)
    return parameter_count(model), multiply_adds(model, shape, config.batch.points)
