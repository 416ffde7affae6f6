"""An estimate of the memory that a training on a CPU takes, which ends where the system has none left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from swipe_core.compute.memory import free_memory
from swipe_core.data.batch import class_map_of
from swipe_core.data.cases import Case
from swipe_core.data.labelled import read_labelled
from swipe_core.data.preprocessing import preprocess
from swipe_core.errors import ConfigError, readable_bytes
from swipe_core.networks.registry import build_network
from swipe_core.progress import Notice
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.losses import swipe_loss

# In mixed precision most of what the backward pass needs takes half the space, but not the normalisations.
HALF_PRECISION_SHARE = 0.75
# No network of ours keeps more, by far: what stays below needs no closer look, which takes seconds.
MOST_PER_VOXEL, MOST_PER_OUTPUT = 32_000, 64_000


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training takes at its peak, about."""

    weights: int
    """Weights, gradients, the optimiser's two moments, and the mean of the weights."""
    image: int
    """What the backward pass of one image needs."""
    part: int
    """Images that are worked through at once."""
    cases: int
    """Images that are held in memory, and their labels where whole masks are cut from these."""

    @property
    def total(self) -> int:
        return self.weights + self.part * self.image + self.cases

    def images_within(self, free: int) -> int:
        """Return how many images may be worked through at once; 0 where not even one may."""
        return max(0, int((free - self.weights - self.cases) // max(self.image, 1)))


def footprint(config: ExperimentConfig, shape: Sequence[int], cases: int, half_precision: bool) -> Footprint:
    """Return an estimate from the configuration alone, right within a factor of two.

    `shape`: of an image that the network learns from.
    `cases`: bytes of what is held of the cases in memory.
    """
    part = math.ceil(config.batch.size / config.training.accumulate)
    copies = 4 + (config.training.averaging_steps > 0)
    with torch.device("meta"):
        weights = sum(p.numel() * p.element_size() for p in build_network(config.model).parameters())
    share = HALF_PRECISION_SHARE if half_precision else 1.0
    return Footprint(copies * weights, int(share * saved_bytes(config, shape, part) / part), part, cases)


def saved_bytes(config: ExperimentConfig, shape: Sequence[int], images: int) -> int:
    """Return what the forward pass and the loss keep for the backward pass, and that pass needs on top.

    The network runs on torch's meta device, which computes shapes alone. Every storage counts once, the
    weights not at all, and the largest twice more: gradients of about its size come and go.
    """
    sizes: dict[int, int] = {}
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[StorageWeakRef(storage).cdata] = storage.nbytes()
        held.append(tensor)  # a storage that were freed could lend its number to another
        return tensor

    with torch.device("meta"):
        model = build_network(config.model).train()
        points = torch.zeros(images, _points(config, shape), config.model.ndim)
        classes = torch.zeros(points.shape[:2], dtype=torch.long)
        pictures = torch.zeros(images, config.model.channels, *shape)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            lattice = shape if config.batch.supervision == "masks" else None
            swipe_loss(model(pictures, points, points), classes, config.loss, lattice)
    own = {StorageWeakRef(p.untyped_storage()).cdata for p in [*model.parameters(), *model.buffers()]}
    activations = [size for number, size in sizes.items() if number not in own]
    return sum(activations) + 2 * max(activations)


def check_memory(config: ExperimentConfig, cases: Sequence[Case], half_precision: bool) -> Notice | None:
    """Check that a training on the CPU fits into the memory that is free; a notice where it may be tight.

    Raises `ConfigError` when even half of the estimate does not fit.
    """
    free = free_memory()
    if free is None or not cases:
        return None
    labelled = read_labelled(cases[0], config.preprocessing.ndim, config.labels)
    first = preprocess(labelled.image, config.preprocessing).tensor
    shape = config.preprocessing.crop_size or tuple(first.shape[1:])
    size = first.nbytes
    if config.batch.supervision == "masks":
        size += class_map_of(labelled.labels.array, config.labels).nbytes
    held = int(min(size * len(cases), config.batch.memory_gb * 2**30))
    outputs = (_points(config, shape) + 2 * config.batch.pairs) * config.model.answers_per_point
    most = config.batch.size * (math.prod(shape) * MOST_PER_VOXEL + outputs * MOST_PER_OUTPUT)
    if held + most <= free:
        return None
    needed = footprint(config, shape, held, half_precision)
    if needed.total <= free:
        return None
    images = needed.images_within(free)
    remedy = "lower preprocessing.crop_size or preprocessing.size, or take a smaller network"
    if images:
        parts = math.ceil(config.batch.size / images)
        remedy = f"set training.accumulate {parts}, or batch.size {images}"
    sizes = f"{readable_bytes(needed.total)} and {readable_bytes(free)}"
    balance = f"This training needs about {sizes} of memory are free"
    if needed.total > 2 * free:
        raise ConfigError(f"{balance}: {remedy}.")
    return Notice(f"{balance}, which may be too little: if the system ends it, {remedy}.")


def _points(config: ExperimentConfig, shape: Sequence[int]) -> int:
    """Return how many points the network learns from at each image."""
    return math.prod(shape) if config.batch.supervision == "masks" else config.batch.points
