"""The network in training: weights, optimiser, and the mean of the weights, one step at a time."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from swipe_core.checkpoints.file import Checkpoint
from swipe_core.compute.devices import computes_in_bfloat16
from swipe_core.compute.memory import is_out_of_memory
from swipe_core.data.batch import Batch
from swipe_core.errors import ConfigError, TrainingError
from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.layers import CHANNELS_LAST, lay_channels_last
from swipe_core.networks.registry import build_network
from swipe_core.networks.segmenter import Segmenter
from swipe_core.progress import Notice
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.distillation import Teacher, check_can_teach, only_teaches
from swipe_core.training.distributed import ALONE, Ranks
from swipe_core.training.losses import LossSums, LossTerms, Unlabelled, contrast_of, loss_sums, loss_terms
from swipe_core.training.optimisation import (
    build_optimiser,
    optimiser_tensors,
    restore_optimiser,
    set_learning_rate,
    update_average,
    updates_of,
)
from swipe_core.training.start import Inheritance, inherit, start_pretrained

TRAINED, TEACHER = "trained.", "teacher."  # prefixes of the state: weights of the moment, the teacher's
SKIPPED_IN_A_ROW = 3
NOTHING_TO_NORMALISE = "Expected more than 1 value per channel"  # what torch says of it


@dataclass(frozen=True)
class Learned:
    """The result of one step."""

    losses: dict[str, float] | None
    """The terms of `swipe_core.training.losses.LossTerms` by name; None where the batch was passed over."""
    notices: tuple[Notice, ...] = ()
    """For the user."""


class Learner:
    """A network and all that changes with it.

    Raises `ConfigError` when the precision cannot be had on this device, or `start` is of quite another
    network, or of one that differs at all where it is to be the teacher.

    `config`: its seed gives the initial weights.
    `ranks`: the processes that learn together, from the loss of all their rows of a batch.
    `start`: a trained model whose weights are taken over, as far as they fit; a pixel classifier only teaches
    another network, where `loss.retention_weight` is set.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        device: torch.device,
        ranks: Ranks = ALONE,
        start: Checkpoint | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.ranks = ranks
        self.half_precision = self._half_precision()
        torch.manual_seed(config.training.seed)
        self.model = _built(config)
        """With the weights of the moment."""
        if config.training.pretrained:
            start_pretrained(self.model, config.preprocessing)
        self.inheritance: Inheritance | None = None
        """What was taken over, or None."""
        if start is not None and not only_teaches(start.content, config):
            self.inheritance = inherit(self.model, config.labels.class_names, start)
        ranks.unite_normalisations(self.model, device)
        self.model.to(device)
        lay_channels_last(self.model)
        self.teacher: Teacher | None = None
        """The model that was started from, where the loss asks for one."""
        if start is not None and config.loss.retention_weight > 0:
            check_can_teach(start.content, config)
            self._take_teacher(start.content.model, start.weights, start.content.labels.class_names)
        self.optimiser = build_optimiser(self.model, config.training)
        averages = config.training.averaging_steps > 0
        self.average = copy.deepcopy(self.model).requires_grad_(False) if averages else None
        """With their mean over the last steps, or None without averaging."""
        self._sharing = ranks.sharing(self.model)
        self.parts = config.training.accumulate
        """In how many a batch is worked through: `training.accumulate`, or more where memory ran out."""
        self.skipped = 0
        """Batches that were passed over so far, since their loss or gradient was not finite."""
        self._skipped_in_a_row = 0
        self._updates = 0.0

    @property
    def kept_model(self) -> Segmenter:
        """The network that is validated and saved."""
        return self.model if self.average is None else self.average

    def learn(self, batch: Batch, step: int, rate: float) -> Learned:
        """Take one step; all randomness follows from the seed and the step.

        Where memory runs out, the batch is worked through in twice as many parts, as if it had been so from
        the start. In mixed precision a batch whose loss or gradient is not finite is passed over, a few times
        in a row at most. Raises `TrainingError` when memory does not hold a single image, one alone is too
        small for this network, or numbers are not finite; the weights are then those of before the step.
        """
        notices = []
        while True:
            buffers = [buffer.clone() for buffer in self.model.buffers()]
            try:
                losses = self._attempt(batch, step, rate)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._give_up(batch, error)
            except ValueError as error:
                if NOTHING_TO_NORMALISE not in str(error):
                    raise
                self._undo(buffers)
                raise TrainingError(
                    "An image shrinks to a single cell in this network, which alone is nothing to normalise "
                    "by: take two or more at once (batch.size, training.accumulate), or larger ones "
                    "(preprocessing.size, preprocessing.crop_size)."
                ) from error
            else:
                break
            # Only here, where the error is gone, is the memory free that its traceback held.
            self._undo(buffers)
            notices.append(self._split_further(batch))
        if losses is not None:
            self._skipped_in_a_row = 0
            self._updates += 1
            if self.average is not None:
                update_average(self.average, self.model, step + 1, self.config.training.averaging_steps)
            return Learned(losses, tuple(notices))
        self._undo(buffers)
        return Learned(None, (*notices, self._passed_over(batch, step, rate)))

    def _attempt(self, batch: Batch, step: int, rate: float) -> dict[str, float] | None:
        """Take a step and return its losses; None where they or the gradient were not finite."""
        training = self.config.training
        self._set_training_mode()
        set_learning_rate(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        parts = batch.split(self.parts)
        whole = self._sums_of_all(parts, step) if len(parts) > 1 else None
        self._seed(step)
        with self.ranks.apart(self._sharing):  # gradients are exchanged once, with the last part
            for part in parts[:-1]:
                self._backward(part, whole)
        losses = self._backward(parts[-1], whole).as_floats()
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm))
        if not all(map(math.isfinite, (norm, *losses.values()))):
            return None
        self.optimiser.step()
        return losses

    def _seed(self, step: int) -> None:
        torch.manual_seed(self.config.training.seed * 1_000_003 + step + (self.ranks.rank << 40))

    def _set_training_mode(self) -> None:
        self.model.train()
        if self.config.training.frozen_statistics:
            for module in self.model.modules():
                # The base of all batch normalisations, those that are gathered over processes too.
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    @torch.no_grad()
    def _sums_of_all(self, parts: Sequence[Batch], step: int) -> Tensor:
        """Return the sums that the loss of a split batch is a function of, from a forward pass of its own.

        It draws what the pass with the gradient will draw, and leaves no trace in the statistics.
        """
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        self._seed(step)
        own = torch.stack([self._sums(part.to(self.device), self.model).flat() for part in parts]).sum(dim=0)
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        return self.ranks.sum(own)

    def _backward(self, part: Batch, whole: Tensor | None) -> LossTerms:
        """Add the gradient of a part of the batch; the loss is that of the whole batch, of all processes.

        `whole`: the sums over all parts and processes; None where this part is all that the process has.
        """
        own = self._sums(part.to(self.device), self._sharing)
        sums = own.as_part_of(self.ranks.sum(own.flat().detach()) if whole is None else whole)
        terms = loss_terms(sums, self.config.loss)
        (
            terms.total * self.ranks.world
        ).backward()  # processes average their gradients, which are to be added
        return terms

    def _sums(self, part: Batch, model: nn.Module) -> LossSums:
        """Return what the loss is computed from, of a part of the batch on the device."""
        images = part.images.to(memory_format=CHANNELS_LAST[self.config.model.ndim])
        points = torch.cat([part.points_image, part.pairs_image.flatten(1, 2)], dim=1)
        source = torch.cat([part.points_source, part.pairs_source.flatten(1, 2)], dim=1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_precision):
            prediction = model(images, points, source)
        unlabelled = self._unlabelled(part, images, points, source)
        return loss_sums(prediction, part.classes, self.config.loss, part.lattice, unlabelled, part.interior)

    def _unlabelled(self, part: Batch, images: Tensor, points: Tensor, source: Tensor) -> Unlabelled | None:
        """Return what is known at the points without labels, the last of all; None without such points."""
        if not part.pairs_image.shape[1]:
            return None
        contrast = contrast_of(part.images, part.pairs_image)
        if self.teacher is None:
            return Unlabelled(contrast)
        count = part.classes.shape[1]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_precision):
            probabilities = self.teacher.probabilities(images, points, source)
        free, at_labels = probabilities[:, count:], probabilities[:, :count]
        mask = self.teacher.mask(free, points[:, count:], at_labels, part.points_image, part.classes)
        return Unlabelled(contrast, free, mask)

    def _undo(self, buffers: list[Tensor]) -> None:
        """Bring back what an attempt changed: gradients, and the statistics of the normalisations."""
        self.optimiser.zero_grad(set_to_none=True)
        if not self._updates:  # the first step makes the optimiser's state, and may have made half of it
            self.optimiser.state.clear()
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _give_up(self, batch: Batch, error: Exception) -> None:
        """Raise what ends the run, where smaller parts would not help."""
        if self.ranks.world > 1:  # the others are waiting for the gradients of this attempt
            raise TrainingError(
                f"The memory of {self.device} does not hold {len(batch.split(self.parts)[0])} images of a "
                "batch at once: raise training.accumulate, or train in more processes."
            ) from error
        if len(batch.split(self.parts)[0]) == 1:
            raise TrainingError(
                f"The memory of {self.device} does not hold a single image of a batch: lower batch.points, "
                "preprocessing.crop_size or preprocessing.size, or take a smaller network."
            ) from error
        if updates_of(self.optimiser) - {self._updates}:
            raise TrainingError(
                f"The memory of {self.device} does not hold the optimiser of this network: free some of it, "
                "or take a smaller network."
            ) from error

    def _split_further(self, batch: Batch) -> Notice:
        self.parts = min(2 * self.parts, len(batch))
        return Notice(
            f"The memory of {self.device} ran out: from now on a batch of {len(batch)} is worked through in "
            f"{len(batch.split(self.parts))} parts (training.accumulate {self.parts})."
        )

    def _passed_over(self, batch: Batch, step: int, rate: float) -> Notice:
        """Count a batch that was not learned from; raise what ends the run where that is no accident."""
        fault = (
            f"The loss or its gradient was not finite at step {step} (learning rate {rate:.2g}, "
            f"cases {', '.join(batch.names)})"
        )
        if not self.half_precision:
            raise TrainingError(f"{fault}: lower training.learning_rate or look at these cases.")
        if self._skipped_in_a_row == SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"{fault}, as at the {SKIPPED_IN_A_ROW} steps before: lower training.learning_rate, set "
                "training.precision to float32, or look at these cases."
            )
        self.skipped += 1
        self._skipped_in_a_row += 1
        return Notice(f"{fault}: this batch is passed over.")

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` needs besides the weights of `kept_model`."""
        tensors = optimiser_tensors(self.optimiser)
        if self.average is not None:
            tensors |= _named(TRAINED, self.model.state_dict())
        if self.teacher is not None:
            tensors |= _named(TEACHER, self.teacher.model.state_dict())
        return tensors

    def restore(
        self,
        weights: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        teacher_classes: Sequence[str] = (),
        teacher_network: NetworkConfig | None = None,
    ) -> None:
        """Put back the weights of `kept_model` and the `state` that belongs to them.

        `teacher_classes` and `teacher_network`: the classes that the teacher knows, where there is one, and
        its network; None is the one that learns.
        """
        rest = dict(state)
        trained, teacher = _taken_out(TRAINED, rest), _taken_out(TEACHER, rest)
        if teacher:
            self._take_teacher(teacher_network or self.config.model, teacher, teacher_classes)
        self.model.load_state_dict(trained or dict(weights))
        if self.average is not None:
            self.average.load_state_dict(dict(weights))
        restore_optimiser(self.optimiser, rest)
        self._updates = max(updates_of(self.optimiser), default=0.0)

    def _take_teacher(
        self, network: NetworkConfig, weights: Mapping[str, Tensor], its_classes: Sequence[str]
    ) -> None:
        model = build_network(network.model_copy(update={"classes": 1 + len(its_classes)}))
        model.load_state_dict(dict(weights))
        lay_channels_last(model.to(self.device))
        self.teacher = Teacher(model, its_classes, self.config.labels.class_names)

    def _half_precision(self) -> bool:
        precision = self.config.training.precision
        # torch 2.13 on a CPU leaves parts of a 3D kernel's gradient unwritten where only one axis is wide.
        spoilt = self.device.type == "cpu" and self.config.model.ndim == 3
        if precision == "bfloat16" and spoilt:
            raise ConfigError(
                "training.precision is bfloat16, which spoils gradients of 3D networks on a CPU: "
                "choose float32 or auto, or train on a GPU."
            )
        return precision == "bfloat16" or (
            precision == "auto" and not spoilt and computes_in_bfloat16(self.device)
        )


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _taken_out(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the tensors of a prefix out of the others, and return them without it."""
    found = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in found}


def _built(config: ExperimentConfig) -> Segmenter:
    """Return the network of a configuration, with its random start."""
    try:
        return build_network(config.model)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            "The network that the configuration describes does not fit into memory: lower the widths and "
            "numbers under model."
        ) from error
