"""What there is of a study: the runs that are finished, and how far the others are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from studies.record import TrainedRecord
from studies.runs import PlannedRun
from studies.study import Row, Setting, Study
from studies.trial import Trial
from swipe_core.evaluation.report import EvaluationReport
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.folder import RunFolder
from tools.scores_file import read_report

NOT_TRAINED, NOT_JUDGED, FAILED = "not trained yet", "not judged yet", "failed"


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


@dataclass(frozen=True, eq=False)
class Results:
    """A study in one of its settings, as far as it is.

    Attributes
    ----------
    runs
        All that are planned.
    finished
        Those that are trained, with their scores so far.
    steps
        Of the others how many steps they took, by their keys.
    messages
        Why runs failed, by their keys.
    """

    study: Study
    setting_name: str
    runs: tuple[PlannedRun, ...]
    finished: tuple[FinishedRun, ...]
    steps: Mapping[str, int] = field(default_factory=dict)
    messages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def setting(self) -> Setting:
        return self.study.settings[self.setting_name]

    @property
    def folder_name(self) -> str:
        """Of the folder of its tables and pictures."""
        return f"{self.study.name}/{self.setting_name}"

    def finished_of(self, row: Row) -> tuple[FinishedRun, ...]:
        """The runs of a row that are trained, one for each seed."""
        return tuple(run for run in self.finished if run.row.name == row.name)

    def planned_of(self, row: Row) -> tuple[PlannedRun, ...]:
        """All runs of a row."""
        return tuple(run for run in self.runs if run.row.name == row.name)

    def published(self, row: Row, condition: str) -> tuple[float | None, float | None]:
        """The Dice in percent that the paper reports of a row under a condition, and its sd.

        None where it reports none, or of other data.
        """
        if not self.setting.is_published:
            return None, None
        asked = next(c for c in self.study.conditions if c.name == condition)
        if row.name in asked.published:
            return asked.published[row.name], None
        return (row.published.dice, row.published.dice_sd) if asked.is_plain else (None, None)


def trial_of(run: PlannedRun, output: Path, device: str = "cpu") -> Trial:
    """A run of a study as it is carried out in the folder that all runs of a call share."""
    return Trial(run, run.judgings, output / "runs" / run.key, device)


def read_results(
    study: Study,
    setting_name: str,
    runs: Sequence[PlannedRun],
    output: Path,
    messages: Mapping[str, tuple[str, ...]] | None = None,
) -> Results:
    """What the folder of the runs holds of a study.

    Raises
    ------
    DataError
        When a file there cannot be read.
    """
    finished, steps = [], {}
    for run in runs:
        trial = trial_of(run, output)
        if TrainedRecord.path(trial.folder).exists():
            finished.append(_read_finished(trial))
        else:
            steps[run.key] = steps_taken(trial.folder)
    return Results(study, setting_name, tuple(runs), tuple(finished), steps, messages or {})


def told(trial: Trial) -> str:
    """What came of a trial, in a line."""
    if not TrainedRecord.path(trial.folder).exists():
        return f"{trial.run.name}: {NOT_TRAINED}"
    run = _read_finished(trial)
    scores = "".join(f", {name} {100 * report.mean('dice'):.1f} %" for name, report in run.scores.items())
    return f"{trial.run.name}: trained in {run.minutes:.1f} min{'; Dice' if scores else ''}{scores[1:]}"


def _read_finished(trial: Trial) -> FinishedRun:
    run, record = trial.run, TrainedRecord.read(trial.folder)
    judged = [judging for judging in run.judgings if trial.scores_of(judging).exists()]
    return FinishedRun(
        row=run.row,
        seed=run.seed,
        config=run.config,
        checkpoint=trial.checkpoint,
        data=run.data,
        split=run.split,
        parameters=record.parameters,
        multiply_adds=record.multiply_adds,
        minutes=record.minutes,
        scores={judging.condition.name: read_report(trial.scores_of(judging)) for judging in judged},
        device=record.device,
        training_shape=record.shape,
    )


def steps_taken(folder: Path) -> int:
    """How far a run is, by its log; what is not saved is in it, too."""
    return max((record["step"] for record in RunFolder(folder).records()), default=0)
