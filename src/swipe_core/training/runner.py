"""The one training runner: a generator of reports, for scripts, widgets and tests alike."""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor

import swipe_core
from swipe_core.checkpoints import Checkpoint, CheckpointContent, load_checkpoint, save_checkpoint
from swipe_core.data.batch import Batch
from swipe_core.data.cases import Case
from swipe_core.data.dataset import TrainingSet
from swipe_core.devices import computes_in_bfloat16
from swipe_core.errors import CheckpointError, ConfigError, TrainingError
from swipe_core.losses import swipe_loss
from swipe_core.model.build import build_swipe
from swipe_core.model.swipe import Swipe
from swipe_core.predictor import Predictor
from swipe_core.progress import Notice, Progress
from swipe_core.training.averaging import update_average
from swipe_core.training.clock import Clock, LogWindow
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.folder import RunFolder
from swipe_core.training.optimisation import (
    build_optimiser,
    learning_rate,
    optimiser_tensors,
    restore_optimiser,
)
from swipe_core.training.reports import StepReport, TrainingResult, ValidationReport
from swipe_core.training.tensorboard import TensorBoardLog
from swipe_core.training.validation import validate

Report = Progress | Notice | StepReport | ValidationReport
GPU_WORKERS = 4
TRAINED = "trained."


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

    Raises
    ------
    ConfigError
        When the precision cannot be had on this device; when `folder` holds a run already and `resume`
        is not set, or none and it is, or the run there has another network, preprocessing, classes,
        batch size or seed.
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
    ) -> None:
        self.config = config
        self.training_cases = list(training_cases)
        self.validation_cases = list(validation_cases)
        self.folder = RunFolder(Path(folder))
        self.device = torch.device(device)
        self.max_minutes = max_minutes
        torch.manual_seed(config.training.seed)
        self.model = build_swipe(config.model).to(self.device)
        # Convolutions run up to twice as fast on memory with the channels last.
        self.memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}[config.model.ndim]
        self.model.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.half_precision = self._half_precision()
        self.optimiser = build_optimiser(self.model, config.training)
        averages = config.training.averaging_steps > 0
        self.average = copy.deepcopy(self.model).requires_grad_(False) if averages else None
        self.step = 0
        self.minutes = 0.0
        self.best_dice: float | None = None
        self._validated_step: int | None = None
        self._validation_minutes = 0.0
        self.folder.prepare(resume=resume)
        self._tensorboard = TensorBoardLog(self.folder.path) if config.training.tensorboard else None
        if resume:
            self._restore(load_checkpoint(self.folder.last))

    def run(self) -> Generator[Report, None, TrainingResult]:
        """Train to the end of the steps or of the time; closing the generator saves and stops."""
        self.folder.write_config(self.config)
        clock = Clock(self.minutes, self.max_minutes, time.monotonic())
        batches = self._training_set()
        yield from batches.load()
        try:
            yield from self._train(batches, clock)
        except (GeneratorExit, KeyboardInterrupt):
            self.minutes = clock.minutes
            self._save_last()
            raise
        return TrainingResult(
            step=self.step,
            minutes=self.minutes,
            best_dice=self.best_dice,
            finished=self.step >= self.config.training.steps,
            best=self.folder.best if self.folder.best.exists() else None,
            last=self.folder.last,
        )

    def content(self) -> CheckpointContent:
        """What a checkpoint of this moment says of itself."""
        config = self.config
        return config.checkpoint_content(
            {
                "description": config.description,
                "step": self.step,
                "steps": config.training.steps,
                "minutes": round(self.minutes, 2),
                "training_cases": len(self.training_cases),
                "validation_cases": len(self.validation_cases),
                "best_dice": self.best_dice,
                "split_seed": config.training.split_seed,
                "device": str(self.device),
                "versions": {
                    "napari-swipe": swipe_core.__version__,
                    "torch": torch.__version__,
                    "python": platform.python_version(),
                },
            },
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
        )

    def _train(self, batches: TrainingSet, clock: Clock) -> Generator[Report, None, None]:
        training = self.config.training
        workers = self.config.batch.workers
        loader = batches.loader(
            self.step,
            training.steps,
            workers=(GPU_WORKERS if self.device.type == "cuda" else 0) if workers == "auto" else workers,
            pin_memory=self.device.type == "cuda",
        )
        saved = begun = time.monotonic()
        window = LogWindow()
        for batch in loader:
            share = clock.share() if training.schedule == "budget" else 0.0
            rate = learning_rate(self.step, max(self.step / training.steps, share), training)
            try:
                losses = self._learn(batch, rate)
            except torch.OutOfMemoryError as error:
                raise TrainingError(
                    f"The memory of {self.device} does not hold a batch of {len(batch)}: raise "
                    "training.accumulate, which works through it in parts, or lower batch.size."
                ) from error
            window.add(losses, batch, time.monotonic() - begun)
            self.step += 1
            self.minutes = clock.minutes
            over = clock.is_over(self._validation_minutes)
            if self.step % training.log_every == 0 or self.step == training.steps or over:
                report = window.report(self.step, training.steps, rate, self.minutes)
                yield self._logged(report)
            if over:
                break
            if self.step % training.validate_every == 0:
                yield from self._validate(clock)
                # One more step would need one more validation, for which there is no time.
                if clock.is_over(self._validation_minutes):
                    break
            if time.monotonic() - saved > 60 * training.save_minutes:
                self._save_last()
                saved = time.monotonic()
            begun = time.monotonic()
        if self._validated_step != self.step:
            yield from self._validate(clock)
        self.minutes = clock.minutes
        self._save_last()

    def _learn(self, batch: Batch, rate: float) -> dict[str, float]:
        """One optimiser step; all randomness follows from the seed and the step."""
        training = self.config.training
        torch.manual_seed(training.seed * 1_000_003 + self.step)
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        parts = batch.to(self.device).split(training.accumulate)
        totals: dict[str, float] = {}
        for part in parts:
            images = part.images.to(memory_format=self.memory_format)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_precision):
                prediction = self.model(images, part.points_image, part.points_source)
            terms = swipe_loss(prediction, part.classes, self.config.loss)
            weight = len(part) / len(batch)
            (terms.total * weight).backward()
            for name, value in terms.as_floats().items():
                totals[name] = totals.get(name, 0.0) + weight * value
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm))
        if not all(map(math.isfinite, (norm, *totals.values()))):
            kept = f"; {self.folder.last} keeps the last good state" if self.folder.last.exists() else ""
            raise TrainingError(
                f"The loss or its gradient was not finite at step {self.step} (learning rate {rate:.2g}, "
                f"cases {', '.join(batch.names)}): lower training.learning_rate or look at these cases{kept}."
            )
        self.optimiser.step()
        if self.average is not None:
            update_average(self.average, self.model, self.step + 1, training.averaging_steps)
        return totals

    def _half_precision(self) -> bool:
        wanted = self.config.training.precision
        # torch 2.13 on a CPU leaves parts of a 3D kernel's gradient unwritten where only one axis is wide.
        spoilt = self.device.type == "cpu" and self.config.model.ndim == 3
        if wanted == "bfloat16" and spoilt:
            raise ConfigError(
                "training.precision is bfloat16, which spoils gradients of 3D networks on a CPU: "
                "choose float32 or auto, or train on a GPU."
            )
        return wanted == "bfloat16" or (wanted == "auto" and not spoilt and computes_in_bfloat16(self.device))

    @property
    def _kept_model(self) -> Swipe:
        """The network that is judged and saved."""
        return self.model if self.average is None else self.average

    def _validate(self, clock: Clock) -> Generator[Report, None, None]:
        if not self.validation_cases:
            return
        begun = clock.minutes
        content = self.content()
        predictor = Predictor(self._kept_model, content, device=self.device)
        dice = yield from validate(predictor, self.validation_cases, content)
        mean = sum(dice.values()) / len(dice)
        is_best = self.best_dice is None or mean > self.best_dice
        self.minutes = clock.minutes
        report = ValidationReport(self.step, self.minutes, dice, mean, is_best)
        if is_best:
            self.best_dice = mean
            save_checkpoint(self.folder.best, Checkpoint(self.content(), self._kept_model.state_dict()))
        logged = self._logged(report)
        self.folder.draw_curves()
        self._validated_step = self.step
        self._validation_minutes = max(self._validation_minutes, clock.minutes - begun)
        yield logged

    def _logged(self, report: StepReport | ValidationReport) -> StepReport | ValidationReport:
        self.folder.log(report)
        if self._tensorboard is not None:
            self._tensorboard.add(report)
        return report

    def _save_last(self) -> None:
        save_checkpoint(
            self.folder.last,
            Checkpoint(
                self.content(),
                self._kept_model.state_dict(),
                state=optimiser_tensors(self.optimiser) | self._trained_weights(),
                progress={
                    "step": self.step,
                    "minutes": self.minutes,
                    "best_dice": self.best_dice,
                    "validated_step": self._validated_step,
                    "validation_minutes": self._validation_minutes,
                    "batch_size": self.config.batch.size,
                    "seed": self.config.training.seed,
                },
            ),
        )

    def _trained_weights(self) -> dict[str, Tensor]:
        """The weights of the moment, for a checkpoint that holds their mean."""
        if self.average is None:
            return {}
        return {TRAINED + name: tensor for name, tensor in self.model.state_dict().items()}

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
        state = dict(checkpoint.state)
        trained = {n.removeprefix(TRAINED): state.pop(n) for n in list(state) if n.startswith(TRAINED)}
        self.model.load_state_dict(trained or dict(checkpoint.weights))
        if self.average is not None:
            self.average.load_state_dict(dict(checkpoint.weights))
        restore_optimiser(self.optimiser, state)
        self.step = int(progress["step"])
        self.minutes = float(progress["minutes"])
        self.best_dice = progress["best_dice"]
        self._validated_step = progress.get("validated_step")
        self._validation_minutes = float(progress.get("validation_minutes", 0.0))
        self.folder.forget_after(self.step)

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
