"""The state of a training run: how far it is, and what its checkpoints keep of that."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter

from swipe_core.checkpoints.file import Checkpoint, CheckpointContent
from swipe_core.checkpoints.summary import Provenance, TrainingSummary
from swipe_core.data.cases import Case, marks_of
from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.errors import CheckpointError, ConfigError
from swipe_core.networks.registry import AnyNetwork
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.folder import RunFolder
from swipe_core.training.journal import versions
from swipe_core.training.learner import Learner


@dataclass
class RunState:
    """The counters of a run; with the learner's tensors they are all that it goes on from."""

    config: ExperimentConfig
    training_cases: Sequence[Case]
    validation_cases: Sequence[Case]
    """`config`, `training_cases` and `validation_cases`: what the run is of; they stay as they are."""
    step: int = 0
    minutes: float = 0.0
    """`step` and `minutes`: steps that were learned, and the time that they took."""
    best_dice: float | None = None
    best_dice_by_class: dict[str, float] = field(default_factory=dict)
    """`best_dice` and `best_dice_by_class`: of the best validation so far; None, and empty, before the first
    one.
    """
    validated_step: int | None = None
    """The step after which the network was last validated."""
    validation_minutes: float = 0.0
    """How long the longest validation took."""
    provenance: Provenance = Provenance()
    """Where the run comes from, as its checkpoints say it."""

    @cached_property
    def _training_marks(self) -> list[str]:
        """The marks by which the model knows its training cases again."""
        return sorted(marks_of(self.training_cases))

    @property
    def is_validated(self) -> bool:
        """Whether the network was validated after the last step."""
        return self.validated_step == self.step

    def content(self, learner: Learner) -> CheckpointContent:
        """Return the content of a checkpoint of this moment."""
        config = self.config
        return config.checkpoint_content(
            TrainingSummary(
                description=config.description,
                step=self.step,
                steps=config.training.steps,
                minutes=round(self.minutes, 2),
                training_cases=len(self.training_cases),
                validation_cases=len(self.validation_cases),
                best_dice=self.best_dice,
                best_dice_by_class=self.best_dice_by_class if config.labels.classes > 2 else None,
                skipped_batches=learner.skipped,
                split_seed=config.training.split_seed,
                training_marks=self._training_marks,
                device=str(learner.device),
                versions=versions(),
                **self.provenance.model_dump(),
            )
        )

    def checkpoint(self, learner: Learner) -> Checkpoint:
        """Return all that the run needs to go on from this moment."""
        progress = {
            "step": self.step,
            "minutes": self.minutes,
            "best_dice": self.best_dice,
            "best_dice_by_class": self.best_dice_by_class,
            "validated_step": self.validated_step,
            "validation_minutes": self.validation_minutes,
            "skipped": learner.skipped,
            "provenance": self.provenance.model_dump(),
            "taught": [] if learner.teacher is None else list(learner.teacher.classes),
            "teacher": None
            if learner.teacher is None
            else learner.teacher.model.config.model_dump(mode="json"),
            **self._fixed(),
        }
        weights = learner.kept_model.state_dict()
        return Checkpoint(self.content(learner), weights, state=learner.state(), progress=progress)

    def restore(self, checkpoint: Checkpoint, learner: Learner, folder: RunFolder) -> None:
        """Go back to the moment of a checkpoint.

        Raises `CheckpointError` when it holds a model, but no run, and `ConfigError` when it is of a run that
        this configuration, or these cases, cannot continue.
        """
        progress = checkpoint.progress
        if "step" not in progress:
            raise CheckpointError(
                f"{folder.last} holds a model, but not the state of a training run: start a new run."
            )
        differing = self.differences(checkpoint)
        if differing:
            raise ConfigError(
                f"The run in {folder.path} was started with another {' and '.join(differing)}: "
                f"resume with {folder.path / 'config.yaml'} and the same data, or choose another folder."
            )
        teacher = progress.get("teacher")
        network = None if teacher is None else TypeAdapter(AnyNetwork).validate_python(teacher)
        learner.restore(checkpoint.weights, checkpoint.state, progress.get("taught", ()), network)
        learner.skipped = int(progress.get("skipped", 0))
        self.step = int(progress["step"])
        self.minutes = float(progress["minutes"])
        self.best_dice = progress["best_dice"]
        self.best_dice_by_class = progress.get("best_dice_by_class", {})
        self.validated_step = progress.get("validated_step")
        self.validation_minutes = float(progress.get("validation_minutes", 0.0))
        self.provenance = Provenance(**progress.get("provenance", {}) | self.provenance.model_dump())

    def differences(self, checkpoint: Checkpoint) -> list[str]:
        """Return what keeps this configuration from continuing a run as if it had never stopped."""
        config, content, progress = self.config, checkpoint.content, checkpoint.progress
        same = {
            "network": content.model.same_network(config.model),
            "preprocessing": _same_preprocessing(content.preprocessing, config.preprocessing),
            "set of labels": content.labels == config.labels,
        }
        # What an older version did not write down cannot be compared.
        same |= {
            name.replace("_", " "): progress.get(name, own) == own for name, own in self._fixed().items()
        }
        return [name for name, agrees in same.items() if not agrees]

    def _fixed(self) -> dict[str, Any]:
        """Return what must not change on the way, by its name.

        With other training cases the batches would be others, and one that was kept for validation could
        be among them; with other validation cases the best so far could not be told.
        """
        return {
            "batch_size": self.config.batch.size,
            "seed": self.config.training.seed,
            "set_of_training_cases": digest_of_names(self.training_cases),
            "set_of_validation_cases": digest_of_names(self.validation_cases),
        }


def _same_preprocessing(former: PreprocessingConfig, now: PreprocessingConfig) -> bool:
    """Whether two are the same; runs of an older version did not record the unit of the spacing."""
    if former.spacing_unit is None:
        former = former.model_copy(update={"spacing_unit": now.spacing_unit})
    return former == now


def digest_of_names(cases: Sequence[Case]) -> str:
    """Return a digest that cases of the same names share, in any order, and no others."""
    names = json.dumps(sorted(case.name for case in cases))  # which writes bytes that are no text, too
    return hashlib.sha256(names.encode()).hexdigest()
