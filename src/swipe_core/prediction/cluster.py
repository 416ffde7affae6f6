"""Images on several processes, of this machine or of many."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from swipe_core.blocks import Block
from swipe_core.compute.cluster import Cluster, ClusterLostError, DeviceChoice, failure_in_cluster, run_on
from swipe_core.errors import ImageError
from swipe_core.images.stored import open_stored_image
from swipe_core.prediction.block_renderer import STAGE
from swipe_core.prediction.jobs import Job, JobResult, failed, predictor_of, run_job, sentence
from swipe_core.prediction.large import iter_begin_large, iter_finish_large, segment_block
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress


def iter_on_cluster(cluster: Cluster, jobs: Iterable[Job]) -> Generator[JobResult, None, None]:
    """The results of jobs, in the order in which they end; closing it cancels what has not begun."""
    sent = {_absolute(job): job for job in jobs}
    for there, outcome in run_on(cluster, sent, _run_job, _needed):
        job = sent[there]
        if isinstance(outcome, Exception):
            yield failed(job, failure_in_cluster(outcome, str(job.image)))
        else:  # named as it was given
            yield replace(outcome, job=job)


def iter_in_blocks(
    cluster: Cluster, job: Job, predictor: Predictor | None = None
) -> Generator[Progress | Notice, None, JobResult]:
    """The result of a job of an image whose blocks the workers share; stopped, it goes on the next time.

    Parameters
    ----------
    predictor
        Of the job's order, on any device, where this process has it already: it only plans.
    """
    start = time.perf_counter()
    try:
        predictor = predictor or predictor_of(replace(job.order, device="cpu"))
        shape = yield from _iter_blocks(cluster, job, predictor)
    except ClusterLostError:
        raise
    except Exception as error:  # this image's alone: the others are not to suffer from it
        return failed(job, sentence(job, error), time.perf_counter() - start)
    return JobResult(job, "done", time.perf_counter() - start, shape=shape)


def _iter_blocks(
    cluster: Cluster, job: Job, predictor: Predictor
) -> Generator[Progress | Notice, None, tuple[int, ...]]:
    order, target = job.order, job.outputs["labels"]
    source = order.request.with_channels(open_stored_image(job.image, order.ndim))
    work = yield from iter_begin_large(predictor, source, order.request, target)
    blocks, unfinished = len(work.plan.blocks), work.unfinished
    done = blocks - len(unfinished)
    yield Progress(STAGE, done, blocks)
    there, store = _absolute(job), Path(os.path.abspath(work.store.path))
    run_block = partial(_run_block, job=there, store=store)
    with closing(run_on(cluster, unfinished, run_block, lambda _: _needed(there))) as outcomes:
        for _, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise ImageError(failure_in_cluster(outcome, str(job.image)))
            done += 1
            yield Progress(STAGE, done, blocks)
    yield from iter_finish_large(work, source, target)
    return work.plan.output.shape


def _run_job(job: Job, device: DeviceChoice) -> JobResult:
    return run_job(replace(job, order=replace(job.order, device=device(job.order.device))))


def _run_block(block: Block, device: DeviceChoice, job: Job, store: Path) -> int:
    predictor = predictor_of(replace(job.order, device=device(job.order.device)))
    return segment_block(predictor, job.image, job.order.request, store, block)


def _needed(job: Job) -> list[Path]:
    checkpoint = Path(job.order.checkpoint)
    return [job.image.path, job.order.folder, *([checkpoint] if checkpoint.is_absolute() else [])]


def _absolute(job: Job) -> Job:
    """The same for a process with another working directory."""
    return replace(job, order=job.order.absolute(), image=job.image.absolute())
