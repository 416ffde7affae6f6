"""Jobs on several processes, of this machine or of many, with Dask.

Dask's processes send one another pickles: whoever can reach a scheduler or a worker can run any code as its
user. A local cluster listens on this machine alone; use one of many machines in a network where everybody is
trusted, or with the TLS of Dask's own configuration.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from swipe_core.errors import ConfigError, ImageError, SwipeError
from swipe_core.images.stored import open_stored_image
from swipe_core.prediction import interrupts, worker
from swipe_core.prediction.block_renderer import STAGE
from swipe_core.prediction.jobs import Job, JobResult, failed, predictor_of, sentence
from swipe_core.prediction.large import iter_begin_large, iter_finish_large
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")

# One that is worked on and one that waits for it: more would only share the blame where a worker dies.
PER_WORKER = 2
DEATHS = 0  # of workers that a job survives among others: then it is tried alone
CONNECTING = 20  # seconds
LOCAL_SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS,
    # A worker that is not back in 15 seconds, as it is by default, would never come back.
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # Dask's own 64 KB gives the memory of each tensor back to the system, and fetches it again.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


class ClusterLostError(ConfigError):
    """A cluster that was there and is not any more."""


@dataclass(frozen=True)
class Cluster:
    """Workers that are ready.

    Attributes
    ----------
    threads
        In which torch computes in a worker; None for as many as Dask gives it.
    is_remote
        Whether they may see other files than this process.
    """

    client: Client
    threads: int | None
    is_remote: bool


@contextmanager
def local_cluster(workers: int) -> Iterator[Cluster]:
    """So many processes on this machine, which share its cores, and end with the block.

    Raises
    ------
    ConfigError
        When Dask is not installed.
    """
    distributed = _distributed()
    import dask

    with ExitStack() as stack:
        stack.enter_context(dask.config.set(LOCAL_SETTINGS))
        started = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            preload=[interrupts.__name__],
            processes=True,
            memory_limit=None,  # a share for each would kill the worker of one large image
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # what is left of it takes any free port
            silence_logs=logging.CRITICAL,  # a worker that dies is told of in a result
        )
        client = stack.enter_context(distributed.Client(stack.enter_context(started)))
        yield Cluster(client, max(1, (os.cpu_count() or 1) // workers), is_remote=False)


@contextmanager
def remote_cluster(address: str) -> Iterator[Cluster]:
    """The workers of a scheduler that runs already; they go on after the block.

    Raises
    ------
    ConfigError
        When Dask is not installed, there is no scheduler, or a worker cannot import this package.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"There is no Dask scheduler at {address} ({error}): start one with `dask scheduler`, and give "
            "the address that it prints."
        ) from error
    with _silence(), client:
        _check_workers(client)
        yield Cluster(client, None, is_remote=True)


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
    source = open_stored_image(job.image, order.ndim)
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


def iter_outcomes(
    client: Client, run: Callable[[Item], Result], items: Iterable[Item]
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Each item with what `run` makes of it in a worker, in the order in which they end.

    Few are sent at once. Where a worker dies, what it had is given to others; an item in whose presence
    workers died again and again is tried once more alone when all others are done, since it may have been
    the other one's fault, or the memory's that both needed. Then it is its own, and its outcome an error.

    Raises
    ------
    ClusterLostError
        When the scheduler is gone.
    """
    from distributed import KilledWorker, as_completed

    waiting, suspects = iter(items), list[Item]()
    running: dict[Future, Item] = {}
    completed = as_completed(loop=client.loop)

    def send(item: Item) -> None:
        future = client.submit(run, item, key=f"segment-{uuid.uuid4().hex}", pure=False)
        running[future] = item
        completed.add(future)

    def send_more() -> None:
        wanted = PER_WORKER * max(1, len(client.nthreads()))
        for item in islice(waiting, max(0, wanted - len(running))):
            send(item)

    try:
        send_more()
        for future in completed:
            item, outcome = running.pop(future), _outcome(future)
            send_more()
            if isinstance(outcome, KilledWorker):
                suspects.append(item)
            else:
                yield item, outcome
        for item in suspects:
            send(item)
            for future in completed:
                yield running.pop(future), _outcome(future)
    finally:
        client.cancel(list(running))


def _outcome(future: Future) -> Any:
    """The result of a future that has ended, or its error."""
    if future.status in ("cancelled", "lost"):
        raise ClusterLostError(
            "The connection to the scheduler of the cluster is lost: what is finished is kept, and the same "
            "command goes on from there."
        )
    return future.exception() or future.result()


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
    return replace(job, order=job.order.absolute(), image=Path(os.path.abspath(job.image)))


def _check_workers(client: Client) -> None:
    """See that all workers that are there have this package, as it is here."""
    here = _version()
    for address, version in client.run(_version, on_error="return").items():
        if isinstance(version, BaseException):
            raise ConfigError(
                f"The worker {address} cannot use this program ({type(version).__name__}: {version}): "
                f"install version {here} there."
            )
        if version != here:
            raise ConfigError(f"The worker {address} has version {version} and this machine {here}.")


def _version() -> str:
    import swipe_core

    return swipe_core.__version__


@contextmanager
def _silence() -> Iterator[None]:
    """No log of a connection that is lost: a sentence tells of it."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _distributed() -> ModuleType:
    try:
        import distributed
    except ImportError as error:
        raise ConfigError(
            'Several processes need Dask, which is not installed; run: pip install "napari-swipe[scale]".'
        ) from error
    return distributed
