"""The one training runner: a generator of reports, for scripts, widgets and tests alike."""

import copy
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint
from swipe_core.checkpoints.summary import Provenance
from swipe_core.data.batch import Batch
from swipe_core.data.cases import Case, share_of_cases
from swipe_core.data.dataset import TrainingSet
from swipe_core.errors import ConfigError, TrainingError
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.calibration import Calibration, iter_calibration
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.distributed import ALONE, Ranks, is_lost_contact
from swipe_core.training.folder import RunFolder
from swipe_core.training.footprint import check_memory
from swipe_core.training.journal import Journal
from swipe_core.training.learner import Learner
from swipe_core.training.optimisation import learning_rate
from swipe_core.training.reports import (
    Clock,
    LogWindow,
    RunControl,
    StepReport,
    TrainingProgress,
    TrainingResult,
    ValidationReport,
)
from swipe_core.training.start import decided
from swipe_core.training.state import RunState
from swipe_core.training.validation import validate

Report = Progress | Notice | StepReport | ValidationReport
AnyReport = TypeVar("AnyReport")
GPU_WORKERS = 4
TRAINING, PAUSED = "Training", "Paused"  # stages of `Progress`
PAUSE_SECONDS = 0.1  # between two looks whether a pause is over


class Trainer:
    """A training run in its folder.

    Parameters
    ----------
    training_cases, validation_cases
        Without validation cases the best checkpoint is not known and only the last is kept.
    folder
        Where checkpoints, log and curves go.
    resume
        Continue the run that `folder` holds; one that ended before it saved its state begins anew, and so
        does one that never began.
    max_minutes
        End after this time, reading and validation included; the learning rate is annealed to end
        there too, unless `training.schedule` is ``steps``. How long a validation takes is known from
        the one before; the first of a run may come on top.
    ranks
        The processes that train together, each with a trainer of its own (see `distributed`).
    start
        A trained model to go on from, in a run of its own: its weights are taken over as far as they
        fit. It is validated first, so that the best checkpoint is never worse than it. Without effect
        where a run is resumed, which has weights already.
    provenance
        What checkpoints are to say of where the run comes from.
    control
        By which another thread, or a signal handler, stops the run or lets it wait: it then yields `Progress`
        of the stage `PAUSED` every now and then, with its state saved; the time does not count. A training
        in several processes does not wait.

    Raises
    ------
    ConfigError
        When the precision cannot be had on this device; when `folder` holds a run already and `resume`
        is not set, or the run there has another network, preprocessing, classes, batch size, seed or set
        of cases; when another process trains there.
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
        start: Checkpoint | None = None,
        provenance: Provenance | None = None,
        control: RunControl | None = None,
    ) -> None:
        training = config.training
        self.training_cases = share_of_cases(training_cases, training.case_share, training.split_seed)
        self.validation_cases = list(validation_cases)
        self.folder = RunFolder(Path(folder))
        self.max_minutes = max_minutes
        self.ranks = ranks
        self._rows = ranks.rows(config.batch.size)
        self._begins_anew = resume and not self.folder.last.exists()
        goes_on = resume and not self._begins_anew
        start = None if goes_on else start
        earlier = load_checkpoint(self.folder.last) if goes_on else None
        earlier_preprocessing = None if earlier is None else earlier.content.preprocessing
        self.config = config = decided(config, self.training_cases, earlier_preprocessing)
        self.learner = Learner(config, torch.device(device), ranks, start)
        provenance = provenance or Provenance()
        if start is not None and provenance.started_from is None:
            provenance = provenance.model_copy(update={"started_from": start.content.name})
        self.state = RunState(config, self.training_cases, self.validation_cases, provenance=provenance)
        self.control = control or RunControl()
        self._between_steps = True
        self._each_once = EachNoticeOnce()
        self._journal = Journal(self.folder, config, self.learner.device)
        if ranks.is_first:
            self.folder.check(resume=resume)
        self._state_in_folder = self.folder.state_mark()
        if earlier is not None:
            self.state.restore(earlier, self.learner, self.folder)
        self._validated_at = 0.0  # minutes of the run at the last validation of this session

    @property
    def step(self) -> int:
        """How many steps were learned so far."""
        return self.state.step

    @property
    def minutes(self) -> float:
        """How long they took, over all sessions."""
        return self.state.minutes

    def predictor(self, config: InferenceConfig | None = None) -> Predictor:
        """Return the network that would be kept now, ready to segment, which does not change the run."""
        content = self.state.content(self.learner)
        return Predictor(self.learner.kept_model, content, device=self.learner.device, config=config)

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
                yield from self._begin()
            clock = Clock(self.minutes, self.max_minutes, time.monotonic())
            batches = self._training_set()
            yield from self._until_stopped(batches.load())
            try:
                yield from self._train(batches, clock)
                yield from self._calibrate()
            except (GeneratorExit, KeyboardInterrupt):
                self.state.minutes = clock.minutes
                # Half a step is no state to go on from; and who asks for the second time does not wait.
                if self._between_steps and not self.control.is_stopping:
                    self._save_last()
                raise
            except RuntimeError as error:
                self._raise_unless_stopping(error)
                self._save_last()
        return self._result()

    def _begin(self) -> Iterator[Notice]:
        """Check that this run can be had in its folder, and only then write there."""
        if self.folder.state_mark() != self._state_in_folder:
            raise ConfigError(f"Another process has just trained in {self.folder.path}: start anew.")
        notice = None
        if self.learner.device.type == "cpu" and self.ranks.world == 1:
            notice = check_memory(self.config, self.training_cases, self.learner.half_precision)
        self.folder.begin(self.config, self.step, validated=self.state.is_validated)
        self._journal.begin_session(self.step)
        if self._begins_anew:
            yield Notice(f"There is no saved state in {self.folder.path}: the training begins anew.")
        if notice is not None:
            yield notice
        if self.learner.inheritance is not None:
            yield Notice(str(self.learner.inheritance))

    def _raise_unless_stopping(self, error: RuntimeError) -> None:
        """Raise what the end of another process means for this one, unless it was to stop anyway."""
        if self.ranks.world > 1 and is_lost_contact(error):
            raise TrainingError(
                f"Process {self.ranks.rank} of {self.ranks.world} cannot go on, since another one has ended: "
                "look for its reason, and go on with --resume."
            ) from error
        if "DataLoader worker" not in str(error):
            raise error
        # What asks this process to stop may have ended its workers, too.
        if not (self._between_steps and self.control.is_stopping):
            raise TrainingError(
                "The system ended a process that prepares batches, mostly for want of memory: "
                "lower batch.workers, or free some memory."
            ) from error

    def _result(self) -> TrainingResult:
        validated = not self.validation_cases or self.state.is_validated
        finished = self.step >= self.config.training.steps and validated
        return TrainingResult(
            step=self.step,
            minutes=self.minutes,
            best_dice=self.state.best_dice,
            finished=finished,
            best=self.folder.best if self.folder.best.exists() else None,
            last=self.folder.last,
            stopped=self.control.is_stopping and not finished,
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
            interior=config.learns_interior,
        )

    def _train(self, batches: TrainingSet, clock: Clock) -> Generator[Report, None, None]:
        """Take the steps that are left and validate, unless a stop came while cases were read."""
        if not self._agreed(0.0)[1]:
            yield from self._take_steps(batches, clock)
            if not self.state.is_validated:
                yield from self._validate(clock)
        self.state.minutes = clock.minutes
        self._save_last()

    def _take_steps(self, batches: TrainingSet, clock: Clock) -> Generator[Report, None, None]:
        training = self.config.training
        # The run ended between this step and its validation; or it has yet to surpass what it started from.
        if self._is_validation_due(clock) or (self.step == 0 and self.learner.inheritance is not None):
            yield from self._validate(clock)
        saved = begun = time.monotonic()
        first, before = self.step, clock.minutes
        window = LogWindow()
        for batch in self._prepared(batches):
            share, stopping = self._agreed(clock.share())
            if stopping:
                break
            progress = max(self.step / training.steps, share if training.schedule == "budget" else 0.0)
            rate = learning_rate(self.step, progress, training)
            yield from self._learn(batch, rate, window, begun)
            self.state.minutes = clock.minutes
            over, stopping = self._agreed(clock.is_over(self.state.validation_minutes))
            if window.steps and self._is_report_due(bool(over)):
                yield from self._reported(window.report(self.step, training.steps, rate, self.minutes))
            needed = (clock.minutes - before) / (self.step - first) * (training.steps - self.step)
            yield TrainingProgress(
                TRAINING, self.step, training.steps, clock.minutes - clock.before, clock.minutes_left(needed)
            )
            if over or stopping:
                break
            if self._is_validation_due(clock):
                yield from self._validate(clock)
                # One more step would need one more validation, for which there is no time.
                if any(self._agreed(clock.is_over(self.state.validation_minutes))):
                    break
            if time.monotonic() - saved > 60 * training.save_minutes:
                self._save_last()
                saved = time.monotonic()
            yield from self._while_paused(clock)
            begun = time.monotonic()

    def _while_paused(self, clock: Clock) -> Iterator[Progress]:
        """Wait until a pause ends, with the state saved; the time does not count."""
        if not self.control.is_paused or self.ranks.world > 1:
            return
        self._save_last()
        while self.control.is_paused and not self.control.is_stopping:
            begun = time.monotonic()
            try:
                yield Progress(PAUSED, self.step, self.config.training.steps)
                time.sleep(PAUSE_SECONDS)
            finally:  # also where the run is closed while it waits
                clock.start += time.monotonic() - begun

    def _prepared(self, batches: TrainingSet) -> Iterator[Batch]:
        """Return the batches of the steps that are left."""
        on_gpu = self.learner.device.type == "cuda"
        workers = self.config.batch.workers
        return batches.loader(
            self.step,
            self.config.training.steps,
            workers=(GPU_WORKERS if on_gpu else 0) if workers == "auto" else workers,
            pin_memory=on_gpu,
        )

    def _learn(self, batch: Batch, rate: float, window: LogWindow, begun: float) -> Iterator[Notice]:
        """Take one step, and yield its notices."""
        self._between_steps = False
        try:
            learned = self.learner.learn(batch, self.step, rate)
        except TrainingError as error:
            raise TrainingError(self.folder.with_what_is_kept(str(error))) from error
        self.state.step += 1
        self._between_steps = True
        if learned.losses is not None:
            images = len(batch) * self.ranks.world
            window.add(learned.losses, images, time.monotonic() - begun)
        yield from learned.notices

    def _reported(self, report: StepReport) -> Iterator[Report]:
        """Write a report into the log, in the first process, and yield it."""
        if self.ranks.is_first:
            self._journal.write(report)
            yield from self._journal.show(report)
            yield report

    def _is_report_due(self, over: bool) -> bool:
        training = self.config.training
        return over or self.step % training.log_every == 0 or self.step == training.steps

    def _is_validation_due(self, clock: Clock) -> bool:
        training = self.config.training
        is_time = self.step > 0 and self.step % training.validate_every == 0
        if training.validate_minutes > 0 and self.ranks.world == 1:
            waited = clock.minutes - max(clock.before, self._validated_at)
            is_time = is_time or waited >= training.validate_minutes
        return is_time and not self.state.is_validated

    def _validate(self, clock: Clock) -> Generator[Report, None, None]:
        """Validate the network in the first process; the others wait for it to be done."""
        if not self.validation_cases:
            return
        if self.ranks.is_first:
            yield from self._validate_here(clock)
        validated, _ = self._agreed(self.ranks.is_first and self.state.is_validated)
        if validated:
            self.state.validated_step = self.step

    def _agreed(self, value: float) -> tuple[float, bool]:
        """Return the largest value of all processes, and whether any of them is to stop, which stops all.

        A process goes by this result: its own control may come to stop while it waits for the others, who
        would then wait for it forever.
        """
        largest, stop = self.ranks.largest(value, self.control.is_stopping)
        if stop:
            self.control.stop()
        return largest, bool(stop)

    def _validate_here(self, clock: Clock) -> Generator[Report, None, None]:
        begun, state = clock.minutes, self.state
        content = state.content(self.learner)
        work = validate(self.predictor(), self.validation_cases, content)
        dice = yield from self._until_stopped(map_reports(work, self._each_once))
        if dice is None:
            return
        if not dice:  # nothing to choose by
            state.validated_step, self._validated_at = self.step, clock.minutes
            return
        mean = sum(dice.values()) / len(dice)
        is_best = state.best_dice is None or mean >= state.best_dice  # of equals, who learned longer
        state.minutes = clock.minutes
        report = ValidationReport(self.step, self.minutes, dice, mean, is_best)
        # Before the state knows of it: who goes on takes out of the log what the state does not know.
        self._journal.write(report)
        if is_best and not self.folder.last.exists():  # best without last could neither go on nor start anew
            self._save_last()
        state.validated_step = self.step
        self._validated_at = clock.minutes
        state.validation_minutes = max(state.validation_minutes, clock.minutes - begun)
        if is_best:
            state.best_dice, state.best_dice_by_class = mean, dice
            self._save_best()
            self._save_last()  # a run that forgets how good its best is could replace it with a worse one
        yield from self._journal.show(report)
        yield report
        yield from self._journal.draw()

    def _calibrate(self) -> Generator[Report, None, None]:
        """Fit the temperature of the best weights on the validation cases, and keep it with them."""
        if not self.ranks.is_first or self.control.is_stopping or not self.folder.best.exists():
            return
        best = load_checkpoint(self.folder.best)
        if best.content.temperature is not None:  # of a run that had ended before
            return
        model = copy.deepcopy(self.learner.kept_model)
        model.load_state_dict(best.weights)
        predictor = Predictor(model, best.content, device=self.learner.device)
        work = iter_calibration(predictor, self.validation_cases)
        found: Calibration | None = yield from self._until_stopped(map_reports(work, self._each_once))
        if found is not None:
            self.folder.save(self.folder.best, found.of(best))

    def _until_stopped(self, work: Iterator[AnyReport]) -> Generator[AnyReport, None, Any]:
        """Pass on what a generator reports, and its result: None where the run is stopped before its end."""
        with closing(work):  # type: ignore[type-var]
            while not self.control.is_stopping:
                try:
                    report = next(work)
                except StopIteration as end:
                    return end.value
                if not self.control.is_stopping:
                    yield report
        return None

    def _save_best(self) -> None:
        weights = self.learner.kept_model.state_dict()
        self.folder.save(self.folder.best, Checkpoint(self.state.content(self.learner), weights))

    def _save_last(self) -> None:
        if not self.ranks.is_first:
            return
        self.folder.save(self.folder.last, self.state.checkpoint(self.learner))
        self._state_in_folder = self.folder.state_mark()
