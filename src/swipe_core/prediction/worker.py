"""What happens inside a process of a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from swipe_core.blocks import Block
from swipe_core.compute.cluster import alone_in_worker, shared_device, unseen
from swipe_core.errors import ImageError
from swipe_core.prediction.jobs import Job, JobResult, failed, run_job
from swipe_core.prediction.large import segment_block


def run_there(job: Job, threads: int | None, is_remote: bool) -> JobResult:
    """`run_job` in a worker.

    Parameters
    ----------
    threads
        For torch; as many as Dask gives the worker by default.
    is_remote
        Whether this machine may see other files than the one that sent the job.
    """
    with alone_in_worker(threads) as worker:
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
    with alone_in_worker(threads) as worker:
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
    needed = [job.image.path, job.order.folder]
    if Path(job.order.checkpoint).is_absolute():
        needed.append(Path(job.order.checkpoint))
    return unseen(needed)
