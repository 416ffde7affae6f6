"""One training in several processes, as ``torchrun`` starts them: each learns from its rows of every batch.

A batch is a function of the seed and the step alone, and process r of n works on its rows r, r + n, ...;
the gradients are added up, so that all processes hold the same weights at all times, and the loss is that
of the whole batch, from sums over all processes. A run therefore sees the same batches whatever the number
of processes, and can be resumed with another one. What differs is what processes draw or gather on their
own: the neighbours of stochastic patch overreach, and on a CPU the statistics of batch normalisation, which
are those of the process's own rows (the running ones are the first process's). On GPUs these statistics are
gathered over all processes.

The first process alone validates and writes; the others wait for it.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from swipe_core.errors import ConfigError

# The others wait this long while the first process validates.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training."""

    rank: int = 0
    """Its number, from 0 on."""
    world: int = 1
    """How many there are."""

    @property
    def is_first(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Return which rows of a batch are this process's.

        Raises `ConfigError` when the processes cannot share a batch evenly.
        """
        if batch_size % self.world:
            raise ConfigError(
                f"batch.size is {batch_size}, which {self.world} processes cannot share evenly: "
                "choose a multiple of their number."
            )
        return slice(self.rank, None, self.world)

    def largest(self, *values: float) -> list[float]:
        """Return the largest of each value that any process has; all processes wait for one another here."""
        if self.world == 1:
            return list(values)
        on_gpu = distributed.get_backend() == "nccl"
        tensor = torch.tensor(values, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return tensor.tolist()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, which wait for one another here; in place."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def unite_normalisations(self, model: nn.Module, device: torch.device) -> None:
        """Let the normalisations of a network see all processes' rows, where the device can do that."""
        if self.world > 1 and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, but for a network that is nothing else

    def sharing(self, model: nn.Module) -> nn.Module:
        """Return the same network, which averages its gradients over the processes."""
        return model if self.world == 1 else DistributedDataParallel(model)

    def apart(self, sharing: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which a `sharing` network leaves its gradients with this process."""
        return sharing.no_sync() if isinstance(sharing, DistributedDataParallel) else nullcontext()


ALONE = Ranks()


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Meet the other processes of a training, if ``torchrun`` started any, and part at the end.

    Yields this process's place among them, and the device that it works on: the GPU of its number where
    `device` is ``cuda`` without one.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device.index is None else device
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), world), device
    finally:
        distributed.destroy_process_group()


def is_lost_contact(error: RuntimeError) -> bool:
    """Whether an error says that another process of the training has ended."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "process group")
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in words)
