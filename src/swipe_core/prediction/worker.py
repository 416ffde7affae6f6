"""What happens inside a process of a cluster."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from swipe_core.blocks import Block
from swipe_core.cluster import shared_device, unseen
from swipe_core.errors import ImageError
from swipe_core.prediction.jobs import Job, JobResult, failed, run_job
from swipe_core.prediction.large import segment_block

_ONE_AT_A_TIME = threading.Lock()  # a worker of several threads: they are torch's, for one image


def run_there(job: Job, threads: int | None, is_remote: bool) -> JobResult:
    """`run_job` in a worker.

    Parameters
    ----------
    threads
        For torch; as many as Dask gives the worker by default.
    is_remote
        Whether this machine may see other files than the one that sent the job.
    """
    from distributed import get_worker

    worker = get_worker()
    with _ONE_AT_A_TIME:
        torch.set_num_threads(threads or worker.state.nthreads)
        missing = _unseen(job) if is_remote else None
        if missing is not None:
            return failed(job, missing)
        return run_job(_on_device(job, worker, is_remote))


def run_block(block: Block, job: Job, store: Path, threads: int | None, is_remote: bool) -> int:
    """`segment_block` in a worker, of a job of an image that is segmented block by block.

    Raises
    ------
    SwipeError
        As `segment_block`, and when this machine does not see the files.
    """
    from distributed import get_worker

    worker = get_worker()
    with _ONE_AT_A_TIME:
        torch.set_num_threads(threads or worker.state.nthreads)
        missing = _unseen(job) if is_remote else None
        if missing is not None:
            raise ImageError(missing)
        order = _on_device(job, worker, is_remote).order
        return segment_block(
            order.checkpoint, order.config, job.image, order.request, store, block, device=order.device
        )


def _on_device(job: Job, worker: Any, is_remote: bool) -> Job:
    """The job for the device of a worker."""
    device = job.order.device if is_remote else shared_device(job.order.device, worker.name)
    return replace(job, order=replace(job.order, device=device))


def _unseen(job: Job) -> str | None:
    """A sentence on what this machine does not see of what a job needs, if there is any."""
    needed = [job.image, job.order.folder]
    if Path(job.order.checkpoint).is_absolute():
        needed.append(Path(job.order.checkpoint))
    return unseen(needed)
