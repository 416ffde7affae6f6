"""One run of a study as it is carried out: trained, then judged, and nothing that is finished done again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studies.judging import Judging, iter_judge
from studies.record import TrainedRecord, cost_of
from studies.runs import PlannedRun
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.compute.devices import choose_device
from swipe_core.compute.memory import failure_sentence, is_out_of_memory
from swipe_core.data.cases import Case, find_cases
from swipe_core.data.preprocessing import target_grid
from swipe_core.images import read_image
from swipe_core.training.folder import RunFolder
from swipe_core.training.journal import device_name
from swipe_core.training.runner import Report, Trainer

State = Literal["done", "failed", "stopped"]


@dataclass(frozen=True)
class Trial:
    """What is to be done of one run.

    Attributes
    ----------
    judgings
        Of all studies that share the run.
    folder
        Of the run: an ordinary one of `Trainer`, with the scores beside the checkpoints.
    device
        As `choose_device` takes it, on the machine that does the work.
    """

    run: PlannedRun
    judgings: tuple[Judging, ...]
    folder: Path
    device: str = "cpu"

    @property
    def checkpoint(self) -> Path:
        """The model that is judged: nothing may have been chosen by the cases that it is judged on."""
        folder = RunFolder(self.folder)
        return folder.best if self.run.is_chosen else folder.last

    def scores_of(self, judging: Judging) -> Path:
        """The file of the scores under a condition."""
        return self.folder / "scores" / f"{judging.key}.json"

    @property
    def unjudged(self) -> tuple[Judging, ...]:
        """What has no scores yet."""
        return tuple(judging for judging in self.judgings if not self.scores_of(judging).exists())

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return TrainedRecord.path(self.folder).exists() and not self.unjudged


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial.

    Attributes
    ----------
    messages
        Why it failed, or could not be judged under a condition, in sentences.
    """

    key: str
    state: State
    messages: tuple[str, ...] = ()


def iter_trial(
    trial: Trial, is_halted: Callable[[], bool] = lambda: False
) -> Generator[Report, None, TrialResult]:
    """Train and judge as far as that is not done; yields reports, and whatever goes wrong is in the result.

    Parameters
    ----------
    is_halted
        Asked at every report: once it is true, the state is saved and the result is ``"stopped"``.
    """
    key = trial.run.key
    try:
        with closing(_iter_done(trial)) as work:
            while not is_halted():
                try:
                    report = next(work)
                except StopIteration as end:
                    return TrialResult(key, "failed" if end.value else "done", end.value)
                yield report
        return TrialResult(key, "stopped")
    except Exception as error:  # this run's alone: the others are not to suffer from it
        return TrialResult(key, "failed", (sentence(error),))


def _iter_done(trial: Trial) -> Generator[Report, None, tuple[str, ...]]:
    """Sentences on the conditions under which the network could not be judged."""
    if not TrainedRecord.path(trial.folder).exists():
        yield from _iter_trained(trial)
    faults = []
    checkpoint = load_checkpoint(trial.checkpoint) if trial.unjudged else None
    for judging in trial.unjudged:
        assert checkpoint is not None
        try:
            yield from iter_judge(checkpoint, judging, trial.scores_of(judging), trial.device)
        except Exception as error:  # of this condition alone
            faults.append(f"{judging.condition.name}: {sentence(error)}")
    return tuple(faults)


def _iter_trained(trial: Trial) -> Generator[Report, None, None]:
    run, device = trial.run, choose_device(trial.device)
    config, seed = run.config, run.config.training.split_seed
    cases = find_cases(run.data, "train", seed)
    trainer = Trainer(
        config,
        cases,
        find_cases(run.data, "val", seed) if run.is_chosen else [],
        trial.folder,
        device=device,
        resume=RunFolder(trial.folder).last.exists(),
    )
    result = yield from trainer.run()
    shape = _training_shape(trial, cases)
    parameters, multiply_adds = cost_of(config, shape)
    record = TrainedRecord(
        steps=result.step,
        minutes=result.minutes,
        device=device_name(device),
        parameters=parameters,
        multiply_adds=multiply_adds,
        shape=shape,
    )
    record.write(trial.folder)


def _training_shape(trial: Trial, cases: Sequence[Case]) -> tuple[int, ...]:
    """Voxels of a training image: of the first one where they differ."""
    preprocessing = trial.run.config.preprocessing
    fixed = preprocessing.crop_size or preprocessing.size
    if fixed is not None:
        return fixed
    return target_grid(read_image(cases[0].image_path, ndim=preprocessing.ndim), preprocessing).shape


def sentence(error: Exception) -> str:
    """Say why a run failed."""
    if is_out_of_memory(error):
        return "The memory does not suffice: lower batch.size, or raise training.accumulate."
    return failure_sentence(error, "This run", file=None, advice="")
