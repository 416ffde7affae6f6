"""The one training runner: a generator of reports, for scripts, widgets and tests alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch

from swipe_core.checkpoints import Checkpoint, CheckpointContent, load_checkpoint
from swipe_core.data.batch import Batch
from swipe_core.data.cases import Case, share_of_cases
from swipe_core.data.dataset import TrainingSet
from swipe_core.errors import CheckpointError, ConfigError, TrainingError
from swipe_core.predictor import Predictor
from swipe_core.progress import Notice, Progress
from swipe_core.training.clock import Clock, LogWindow
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.distributed import ALONE, Ranks, is_lost_contact
from swipe_core.training.folder import RunFolder
from swipe_core.training.footprint import check_memory
from swipe_core.training.learner import Learner
from swipe_core.training.optimisation import learning_rate
from swipe_core.training.reports import StepReport, TrainingResult, ValidationReport
from swipe_core.training.session import session_record, versions
from swipe_core.training.tensorboard import TensorBoardLog
from swipe_core.training.validation import validate

Report = Progress | Notice | StepReport | ValidationReport
Told = TypeVar("Told")
GPU_WORKERS = 4


class Trainer:
    """A training run in its folder.

    Parameters
    ----------
    training_cases, validation_cases
        Without validation cases the best checkpoint is not known and only the last is kept.
    folder
        Where checkpoints, log and curves go.
    resume
        Continue the run that `folder` holds.
    max_minutes
        End after this time, reading and validation included; the learning rate is annealed to end
        there too, unless `training.schedule` is ``steps``. How long a validation takes is known from
        the one before; the first of a run may come on top.
    ranks
        The processes that train together, each with a trainer of its own (see `distributed`).

    Raises
    ------
    ConfigError
        When the precision cannot be had on this device; when `folder` holds a run already and `resume`
        is not set, or none and it is, or the run there has another network, preprocessing, classes,
        batch size or seed; when another process trains there.
    CheckpointError
        When the checkpoint to resume from cannot be used.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        training_cases: Sequence[Case],
        validation_cases: Sequence[Case],
        folder: str | Path,
        *,
        device: torch.device | str = "cpu",
        resume: bool = False,
        max_minutes: float | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config
        training = config.training
        self.training_cases = share_of_cases(training_cases, training.case_share, training.split_seed)
        self.validation_cases = list(validation_cases)
        self.folder = RunFolder(Path(folder))
        self.max_minutes = max_minutes
        self.ranks = ranks
        self._rows = ranks.rows(config.batch.size)
        self.learner = Learner(config, torch.device(device), ranks)
        self.step = 0
        self.minutes = 0.0
        self.best_dice: float | None = None
        self.best_dice_by_class: dict[str, float] = {}
        self._validated_step: int | None = None
        self._validation_minutes = 0.0
        self._stop_asked = False
        self._between_steps = True
        self._failing: set[str] = set()
        self._tensorboard = TensorBoardLog(self.folder.path) if config.training.tensorboard else None
        if ranks.is_first:
            self.folder.check(resume=resume)
        self._state_in_folder = self.folder.state_mark()
        if resume:
            self._restore(load_checkpoint(self.folder.last))
        self._session_from: int | None = None

    def stop(self) -> None:
        """Ask the run to end after the step, or the validation case, in progress, with its state saved.

        May be called at any time, also by a signal handler or from another thread.
        """
        self._stop_asked = True

    def run(self) -> Generator[Report, None, TrainingResult]:
        """Train to the end of the steps or of the time, or until `stop`; closing the generator saves, too.

        Raises
        ------
        ConfigError
            When another process trains in the folder, or has done so since this trainer was made; when a
            CPU's free memory does not suffice.
        TrainingError
            When memory or the disk do not suffice, or numbers are not finite.
        CheckpointError
            When the state cannot be saved.
        """
        with self.folder.held() if self.ranks.is_first else nullcontext():
            if self.ranks.is_first:
                self._begin()
            clock = Clock(self.minutes, self.max_minutes, time.monotonic())
            batches = self._training_set()
            yield from self._until_stopped(batches.load())
            try:
                yield from self._train(batches, clock)
            except (GeneratorExit, KeyboardInterrupt):
                self.minutes = clock.minutes
                # Half a step is no state to go on from; and who asks for the second time does not wait.
                if self._between_steps and not self._stop_asked:
                    self._save_last()
                raise
            except RuntimeError as error:
                self._explain(error)
                self._save_last()
        return self._result()

    def _begin(self) -> None:
        if self.folder.state_mark() != self._state_in_folder:
            raise ConfigError(f"Another process has just trained in {self.folder.path}: start anew.")
        self.folder.begin(self.config, self.step, validated=self._validated_step == self.step)
        self._session_from = self.step
        if self.learner.device.type == "cpu" and self.ranks.world == 1:
            check_memory(self.config, self.training_cases, self.learner.half_precision)

    def _explain(self, error: RuntimeError) -> None:
        """Say what the end of another process does to this one; nothing where it was to stop anyway."""
        if self.ranks.world > 1 and is_lost_contact(error):
            raise TrainingError(
                f"Process {self.ranks.rank} of {self.ranks.world} cannot go on, since another one has ended: "
                "look for its reason, and go on with --resume."
            ) from error
        if "DataLoader worker" not in str(error):
            raise error
        # What asks this process to stop may have ended its workers, too.
        if not (self._between_steps and self._stop_asked):
            raise TrainingError(
                "The system ended a process that prepares batches, mostly for want of memory: "
                "lower batch.workers, or free some memory."
            ) from error

    def content(self) -> CheckpointContent:
        """What a checkpoint of this moment says of itself."""
        config = self.config
        by_class = {"best_dice_by_class": self.best_dice_by_class} if config.labels.classes > 2 else {}
        return config.checkpoint_content(
            {
                "description": config.description,
                "step": self.step,
                "steps": config.training.steps,
                "minutes": round(self.minutes, 2),
                "training_cases": len(self.training_cases),
                "validation_cases": len(self.validation_cases),
                "best_dice": self.best_dice,
                **by_class,
                "skipped_batches": self.learner.skipped,
                "split_seed": config.training.split_seed,
                "device": str(self.learner.device),
                "versions": versions(),
            },
        )

    def _result(self) -> TrainingResult:
        validated = not self.validation_cases or self._validated_step == self.step
        finished = self.step >= self.config.training.steps and validated
        return TrainingResult(
            step=self.step,
            minutes=self.minutes,
            best_dice=self.best_dice,
            finished=finished,
            best=self.folder.best if self.folder.best.exists() else None,
            last=self.folder.last,
            stopped=self._stop_asked and not finished,
        )

    def _training_set(self) -> TrainingSet:
        config = self.config
        return TrainingSet(
            self.training_cases,
            preprocessing=config.preprocessing,
            labels=config.labels,
            sampling=config.sampling,
            augmentation=config.augmentation,
            batch=config.batch,
            seed=config.training.seed,
            rows=self._rows,
        )

    def _train(self, batches: TrainingSet, clock: Clock) -> Generator[Report, None, None]:
        training = self.config.training
        if self._is_validation_due():  # the run ended between this step and its validation
            yield from self._validate(clock)
        saved = begun = time.monotonic()
        window = LogWindow()
        for batch in self._prepared(batches):
            share, stopping = self._agreed(clock.share())
            if stopping:
                break
            progress = max(self.step / training.steps, share if training.schedule == "budget" else 0.0)
            rate = learning_rate(self.step, progress, training)
            yield from self._learn(batch, rate, window, begun)
            self.minutes = clock.minutes
            over, stopping = self._agreed(clock.is_over(self._validation_minutes))
            if window.steps and self._is_report_due(bool(over)):
                yield from self._logged(window.report(self.step, training.steps, rate, self.minutes))
            if over or stopping:
                break
            if self._is_validation_due():
                yield from self._validate(clock)
                # One more step would need one more validation, for which there is no time.
                if any(self._agreed(clock.is_over(self._validation_minutes))):
                    break
            if time.monotonic() - saved > 60 * training.save_minutes:
                self._save_last()
                saved = time.monotonic()
            begun = time.monotonic()
        if self._validated_step != self.step:
            yield from self._validate(clock)
        self.minutes = clock.minutes
        self._save_last()

    def _prepared(self, batches: TrainingSet) -> Iterator[Batch]:
        """The batches of the steps that are left."""
        on_gpu = self.learner.device.type == "cuda"
        workers = self.config.batch.workers
        return batches.loader(
            self.step,
            self.config.training.steps,
            workers=(GPU_WORKERS if on_gpu else 0) if workers == "auto" else workers,
            pin_memory=on_gpu,
        )

    def _learn(self, batch: Batch, rate: float, window: LogWindow, begun: float) -> Iterator[Notice]:
        """One step, with what there is to say of it."""
        self._between_steps = False
        try:
            learned = self.learner.learn(batch, self.step, rate)
        except TrainingError as error:
            raise TrainingError(self.folder.with_what_is_kept(str(error))) from error
        self.step += 1
        self._between_steps = True
        if learned.losses is not None:
            window.add(learned.losses, batch, time.monotonic() - begun)
        yield from learned.notices

    def _is_report_due(self, over: bool) -> bool:
        training = self.config.training
        return over or self.step % training.log_every == 0 or self.step == training.steps

    def _is_validation_due(self) -> bool:
        is_time = self.step > 0 and self.step % self.config.training.validate_every == 0
        return is_time and self._validated_step != self.step

    def _validate(self, clock: Clock) -> Generator[Report, None, None]:
        """Judge the network, in the first process; the others wait for it to be done."""
        if not self.validation_cases:
            return
        if self.ranks.is_first:
            yield from self._judged(clock)
        validated, _ = self._agreed(self.ranks.is_first and self._validated_step == self.step)
        if validated:
            self._validated_step = self.step

    def _agreed(self, value: float) -> tuple[float, bool]:
        """The largest value of all processes, and whether one of them is asked to stop, and so are all.

        A process goes by this answer: its own `_stop_asked` may come true while it waits for the others,
        who would then wait for it forever.
        """
        largest, stop = self.ranks.largest(value, self._stop_asked)
        self._stop_asked = self._stop_asked or bool(stop)
        return largest, bool(stop)

    def _judged(self, clock: Clock) -> Generator[Report, None, None]:
        begun = clock.minutes
        content = self.content()
        predictor = Predictor(self.learner.kept_model, content, device=self.learner.device)
        dice = yield from self._until_stopped(validate(predictor, self.validation_cases, content))
        if dice is None:
            return
        mean = sum(dice.values()) / len(dice)
        is_best = self.best_dice is None or mean > self.best_dice
        self.minutes = clock.minutes
        if is_best:
            if not self.folder.last.exists():  # best without last could neither go on nor start anew
                self._save_last()
            self.best_dice, self.best_dice_by_class = mean, dice
            weights = self.learner.kept_model.state_dict()
            self.folder.save(self.folder.best, Checkpoint(self.content(), weights))
        self._validated_step = self.step
        self._validation_minutes = max(self._validation_minutes, clock.minutes - begun)
        yield from self._logged(ValidationReport(self.step, self.minutes, dice, mean, is_best))
        yield from self._attempted("The picture of the curves", self.folder.draw_curves)

    def _logged(self, report: StepReport | ValidationReport) -> Iterator[Report]:
        """Write a report down, in the first process, and pass it on."""
        if not self.ranks.is_first:
            return
        if self._session_from is not None:
            self.folder.log_record(session_record(self.config, self.learner.device, self._session_from))
            self._session_from = None
        self.folder.log(report)
        if self._tensorboard is not None:
            board = self._tensorboard
            yield from self._attempted("The TensorBoard file", lambda: board.add(report))
        yield report

    def _attempted(self, what: str, draw: Callable[[], None]) -> Iterator[Notice]:
        """Do what only shows the run: where that fails, one notice says so, and the run goes on."""
        try:
            draw()
        except Exception as error:  # whatever it is, it is no reason to lose a training
            if what not in self._failing:
                self._failing.add(what)
                yield Notice(f"{what} cannot be written ({error}): the training goes on without it.")

    def _until_stopped(self, work: Iterator[Told]) -> Generator[Told, None, Any]:
        """What the generator `work` tells, and its result; None where the run is stopped before it comes."""
        with closing(work):  # type: ignore[type-var]
            while not self._stop_asked:
                try:
                    told = next(work)
                except StopIteration as end:
                    return end.value
                if not self._stop_asked:
                    yield told
        return None

    def _save_last(self) -> None:
        if not self.ranks.is_first:
            return
        self.folder.save(
            self.folder.last,
            Checkpoint(
                self.content(),
                self.learner.kept_model.state_dict(),
                state=self.learner.state(),
                progress={
                    "step": self.step,
                    "minutes": self.minutes,
                    "best_dice": self.best_dice,
                    "best_dice_by_class": self.best_dice_by_class,
                    "validated_step": self._validated_step,
                    "validation_minutes": self._validation_minutes,
                    "skipped": self.learner.skipped,
                    "batch_size": self.config.batch.size,
                    "seed": self.config.training.seed,
                },
            ),
        )
        self._state_in_folder = self.folder.state_mark()

    def _restore(self, checkpoint: Checkpoint) -> None:
        progress = checkpoint.progress
        if "step" not in progress:
            raise CheckpointError(
                f"{self.folder.last} holds a model, but not the state of a training run: start a new run."
            )
        differing = self._differences(checkpoint)
        if differing:
            raise ConfigError(
                f"The run in {self.folder.path} was started with another {' and '.join(differing)}: "
                f"resume with {self.folder.path / 'config.yaml'}, or choose another folder."
            )
        self.learner.restore(checkpoint.weights, checkpoint.state)
        self.learner.skipped = int(progress.get("skipped", 0))
        self.step = int(progress["step"])
        self.minutes = float(progress["minutes"])
        self.best_dice = progress["best_dice"]
        self.best_dice_by_class = progress.get("best_dice_by_class", {})
        self._validated_step = progress.get("validated_step")
        self._validation_minutes = float(progress.get("validation_minutes", 0.0))

    def _differences(self, checkpoint: Checkpoint) -> list[str]:
        """What keeps this configuration from continuing a run as if it had never stopped."""
        config, content, progress = self.config, checkpoint.content, checkpoint.progress
        same = {
            "network": content.model.same_network(config.model),
            "preprocessing": content.preprocessing == config.preprocessing,
            "set of labels": content.labels == config.labels,
            "batch size": progress.get("batch_size", config.batch.size) == config.batch.size,
            "seed": progress.get("seed", config.training.seed) == config.training.seed,
        }
        return [name for name, agrees in same.items() if not agrees]
