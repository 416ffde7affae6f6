"""Work on several processes, of this machine or of many, with Dask.

Dask's processes send one another pickles: whoever can reach a scheduler or a worker can run any code as its
user. A local cluster listens on this machine alone; use one of many machines in a network where everybody is
trusted, or with the TLS of Dask's own configuration.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from swipe_core.compute import interrupts
from swipe_core.errors import ConfigError, SwipeError

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")
DeviceChoice = Callable[[str], str]

# One that is worked on and one that waits for it: more would only share the blame where a worker dies.
PER_WORKER = 2
DEATHS = 0  # of workers that a job survives among others: then it is tried alone
CONNECTING = 20  # seconds
_ONE_AT_A_TIME = threading.Lock()  # a worker of several threads: they are torch's, for one job
LOCAL_SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS,
    # A worker that is not back in 15 seconds, as it is by default, would never come back.
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # Its processes may have some of their own: those that prepare batches on a GPU's machine.
    "distributed.worker.daemon": False,
    # Dask's own 64 KB gives the memory of each tensor back to the system, and fetches it again.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


class ClusterLostError(ConfigError):
    """A cluster that was there and is not any more."""


@dataclass(frozen=True)
class Cluster:
    """Workers that are ready."""

    client: Client
    threads: int | None
    """In which torch computes in a worker; None for as many as Dask gives it."""
    is_remote: bool
    """Whether they may see other files than this process."""


@contextmanager
def local_cluster(workers: int) -> Iterator[Cluster]:
    """So many processes on this machine, which share its cores, and end with the block.

    Raises `ConfigError` when Dask is not installed.
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

    Raises `ConfigError` when Dask is not installed, there is no scheduler, or a worker cannot import this
    package.
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


def iter_outcomes(
    client: Client, run: Callable[[Item], Result], items: Iterable[Item], per_worker: int = PER_WORKER
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Each item with what `run` makes of it in a worker, in the order in which they end.

    Few are sent at once. Where a worker dies, what it had is given to others; an item in whose presence
    workers died again and again is tried once more alone when all others are done, since it may have been
    the other one's fault, or the memory's that both needed. Then it is its own, and its outcome an error.

    `per_worker`: items that a worker has at once: the one that it works on, and those that wait for it.
    """
    from distributed import KilledWorker, as_completed

    waiting, suspects = iter(items), list[Item]()
    running: dict[Future, Item] = {}
    completed = as_completed(loop=client.loop)

    def send(item: Item) -> None:
        future = client.submit(run, item, key=f"swipe-{uuid.uuid4().hex}", pure=False)
        running[future] = item
        completed.add(future)

    def send_more() -> None:
        wanted = per_worker * max(1, len(client.nthreads()))
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
    """The result of a future that has ended, or its error.

    Where its worker died before the result was fetched, it waits until another one has computed it anew.
    """
    try:
        return future.result()
    except Exception as error:
        if future.status == "cancelled":
            raise ClusterLostError(
                "The connection to the scheduler of the cluster is lost: what is finished is kept, and the "
                "same command goes on from there."
            ) from error
        return error


def run_on(
    cluster: Cluster,
    items: Iterable[Item],
    work: Callable[[Item, DeviceChoice], Result],
    needed: Callable[[Item], Iterable[Path]],
    per_worker: int = PER_WORKER,
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Each item with what `work` makes of it in a worker, as `iter_outcomes` gives them.

    `items`: with absolute paths: a worker may have another working directory.
    `work`: takes an item, and a function that gives the worker's own device for the one that is asked for.
    `needed`: the paths of an item that must be there on the worker's machine; it is an error where one is
    not.
    `per_worker`: as `iter_outcomes` takes it.
    """
    there = partial(
        _run_there, work=work, needed=needed, threads=cluster.threads, is_remote=cluster.is_remote
    )
    yield from iter_outcomes(cluster.client, there, items, per_worker)


def _run_there(
    item: Item,
    work: Callable[[Item, DeviceChoice], Result],
    needed: Callable[[Item], Iterable[Path]],
    threads: int | None,
    is_remote: bool,
) -> Result:
    """Work on an item in a worker, whose own threads come one at a time: they are torch's."""
    import torch
    from distributed import get_worker

    worker = get_worker()
    own = partial(shared_device, worker=worker.name)
    with _ONE_AT_A_TIME:
        torch.set_num_threads(threads or worker.state.nthreads)
        missing = next((path for path in needed(item) if is_remote and not path.exists()), None)
        if missing is not None:
            raise ConfigError(
                f"{missing} is not there on {socket.gethostname()}, where a worker runs: give the cluster "
                "the same folders."
            )
        return work(item, (lambda device: device) if is_remote else own)


def shared_device(device: str, worker: object, gpus: int | None = None) -> str:
    """The device of a worker by its number: of several GPUs, each takes the next one."""
    import torch

    gpus = torch.cuda.device_count() if gpus is None else gpus
    is_open = device in ("auto", "cuda") and gpus > 1 and isinstance(worker, int)
    return f"cuda:{int(str(worker)) % gpus}" if is_open else device


def failure_in_cluster(error: Exception, subject: str) -> str:
    """A sentence on an item, called `subject` at its beginning, whose outcome is an error."""
    if isinstance(error, SwipeError):
        return str(error)
    if type(error).__name__ == "KilledWorker":
        return (
            f"{subject} ended the process that worked on it, even alone: there may not be enough memory for "
            "it, or a file makes a library crash."
        )
    return f"{subject} could not be worked on in the cluster ({type(error).__name__}: {error})."


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
