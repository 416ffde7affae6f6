"""Images on several processes, of this machine or of many."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from swipe_core.compute.cluster import Cluster, ClusterLostError, iter_outcomes
from swipe_core.errors import ImageError, SwipeError
from swipe_core.images.stored import open_stored_image
from swipe_core.prediction import worker
from swipe_core.prediction.block_renderer import STAGE
from swipe_core.prediction.jobs import Job, JobResult, failed, predictor_of, sentence
from swipe_core.prediction.large import iter_begin_large, iter_finish_large
from swipe_core.progress import Notice, Progress


def iter_on_cluster(cluster: Cluster, jobs: Iterable[Job]) -> Generator[JobResult, None, None]:
    """The results of jobs, in the order in which they end; closing it cancels what has not begun.

    Raises
    ------
    ClusterLostError
        When the scheduler is gone.
    """
    run = partial(worker.run_there, threads=cluster.threads, is_remote=cluster.is_remote)
    sent = {_absolute(job): job for job in jobs}
    for there, outcome in iter_outcomes(cluster.client, run, sent):
        job = sent[there]
        if isinstance(outcome, Exception):
            yield failed(job, f"{job.image} {_fault(outcome)}")
        else:  # named as it was given
            yield replace(outcome, job=job)


def iter_in_blocks(cluster: Cluster, job: Job) -> Generator[Progress | Notice, None, JobResult]:
    """The result of a job of an image whose blocks the workers share; stopped, it goes on the next time.

    Raises
    ------
    ClusterLostError
        When the scheduler is gone.
    """
    start = time.perf_counter()
    try:
        shape = yield from _iter_blocks(cluster, job)
    except ClusterLostError:
        raise
    except Exception as error:  # this image's alone: the others are not to suffer from it
        return failed(job, sentence(job, error), time.perf_counter() - start)
    return JobResult(job, "done", time.perf_counter() - start, shape=shape)


def _iter_blocks(cluster: Cluster, job: Job) -> Generator[Progress | Notice, None, tuple[int, ...]]:
    order, target = job.order, job.outputs["labels"]
    predictor = predictor_of(replace(order, device="cpu"))  # which only plans
    source = order.request.with_channels(open_stored_image(job.image, order.ndim))
    work = yield from iter_begin_large(predictor, source, order.request, target, overwrite=True)
    blocks, unfinished = len(work.plan.blocks), work.unfinished
    done = blocks - len(unfinished)
    yield Progress(STAGE, done, blocks)
    run = partial(
        worker.run_block,
        job=_absolute(job),
        store=Path(os.path.abspath(work.store.path)),
        threads=cluster.threads,
        is_remote=cluster.is_remote,
    )
    with closing(iter_outcomes(cluster.client, run, unfinished)) as outcomes:
        for _, outcome in outcomes:
            if isinstance(outcome, SwipeError):
                raise outcome
            if isinstance(outcome, Exception):
                raise ImageError(f"{job.image} {_fault(outcome)}")
            done += 1
            yield Progress(STAGE, done, blocks)
    yield from iter_finish_large(work, predictor, source, target)
    return work.plan.output.shape


def _fault(error: Exception) -> str:
    """What to tell of a job that has no result, after its image's name."""
    if type(error).__name__ == "KilledWorker":
        return (
            "ended the process that worked on it, even alone: there may not be enough memory for it, or the "
            "file makes a library crash."
        )
    return f"could not be worked on in the cluster ({type(error).__name__}: {error})."


def _absolute(job: Job) -> Job:
    """The same for a process with another working directory."""
    return replace(job, order=job.order.absolute(), image=job.image.absolute())
