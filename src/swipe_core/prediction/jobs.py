"""One image as a job: small, the same in every process of a cluster, and never the end of the others."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from swipe_core.blocks import Block
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.compute.cluster import Cluster, ClusterLostError, DeviceChoice, failure_in_cluster, run_on
from swipe_core.compute.memory import failure_sentence
from swipe_core.errors import CheckpointError, ImageError, SwipeError
from swipe_core.images.source import ImageSource
from swipe_core.images.stored import open_stored_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.block_renderer import STAGE
from swipe_core.prediction.large import iter_begin_large, iter_finish_large, iter_segment_large, segment_block
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request
from swipe_core.prediction.result import iter_segment_file, output_files
from swipe_core.progress import Notice, Progress, finish

State = Literal["done", "kept", "failed", "open"]


@dataclass(frozen=True)
class Order:
    """A model, its settings and a request: all that is done to every image of a call."""

    checkpoint: str
    """A file, or the name of a model that ships with the package."""
    digest: str
    """Of that checkpoint, as `Checkpoint.digest`: whoever loads it sees that it is still the same."""
    config: InferenceConfig
    request: Request
    device: str
    """As `choose_device` takes it, on the machine that does the work."""
    folder: Path
    """For the outputs."""
    ndim: int
    """Spatial axes of the images."""

    @classmethod
    def of(cls, name: str, predictor: Predictor, request: Request, *, device: str, folder: Path) -> Order:
        """The order for a model that was loaded by its name or path, with its settings.

        Raises `ConfigError` or `CheckpointError` when the model cannot do what is requested.
        """
        request.check(predictor.content)
        ndim = request.image_ndim(predictor.content)
        return cls(name, predictor.digest, predictor.config, request, device, folder, ndim)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides what becomes of an image."""
        deciding = {
            "model": self.digest,
            "inference": self.config.model_dump(mode="json"),
            "request": asdict(self.request),
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def absolute(self) -> Order:
        """The same for a process with another working directory."""
        path = Path(self.checkpoint)
        checkpoint = os.path.abspath(path) if path.is_file() else self.checkpoint
        return replace(self, checkpoint=checkpoint, folder=Path(os.path.abspath(self.folder)))


@dataclass(frozen=True)
class Job:
    """One image to segment."""

    order: Order
    image: ImageSource
    blocks: bool = False
    """Whether it is read and segmented block by block, so that it need not fit into memory."""

    @property
    def outputs(self) -> dict[str, Path]:
        """The files to be written, by what they are."""
        return output_files(self.image, self.order.folder, self.order.request, self.order.ndim)


@dataclass(frozen=True)
class JobResult:
    """The result of a job."""

    job: Job
    state: State
    """``"kept"`` where its outputs were there before, ``"open"`` where the call ended too soon."""
    seconds: float = 0.0
    message: str = ""
    """Why it failed, in a sentence."""
    shape: tuple[int, ...] = ()
    objects: int | None = None
    """`shape` and `objects`: of the labels, and how many where that was asked; unknown of what was kept."""
    notices: tuple[str, ...] = ()
    """What the user should know; it is shown once, however many images have it."""

    @property
    def labels(self) -> Path | None:
        """The file of the labels, where there is one."""
        return self.job.outputs["labels"] if self.state in ("done", "kept") else None


def run_job(job: Job) -> JobResult:
    """Segment an image and write what was asked for; whatever goes wrong is in the result."""
    notices: dict[str, None] = {}

    def note(report: Progress | Notice) -> None:
        if isinstance(report, Notice):
            notices[report.message] = None

    return replace(finish(iter_job(job), note), notices=tuple(notices))


def iter_job(job: Job, predictor: Predictor | None = None) -> Generator[Progress | Notice, None, JobResult]:
    """`run_job`, with progress and notices on the way.

    `predictor`: of the job's order, where this process has it already; else it is loaded.
    """
    start = time.perf_counter()
    try:
        predictor = predictor or predictor_of(job.order)
        work = _iter_in_blocks(job, predictor) if job.blocks else _iter_whole(job, predictor)
        shape, objects = yield from work
    except Exception as error:  # this image's alone: the others are not to suffer from it
        return failed(job, sentence(job, error), time.perf_counter() - start)
    return JobResult(job, "done", time.perf_counter() - start, shape=shape, objects=objects)


def failed(job: Job, message: str, seconds: float = 0.0) -> JobResult:
    """The result of a job that has none."""
    return JobResult(job, "failed", seconds, message)


def predictor_of(order: Order) -> Predictor:
    """The predictor for an order; this process builds it once.

    Raises `CheckpointError` when the checkpoint cannot be used, or is another one by now, and `DeviceError`
    when this machine has no such device.
    """
    with _LOADING:
        return _load(order.checkpoint, order.digest, order.config, order.device)


_LOADING = threading.Lock()  # two threads that ask at once would load it twice


@lru_cache(maxsize=1)
def _load(name: str, digest: str, config: InferenceConfig, device: str) -> Predictor:
    checkpoint = load_checkpoint(find_checkpoint(name))
    if checkpoint.digest != digest:
        raise CheckpointError(
            f"{name} is not the checkpoint that this call began with: it was replaced meanwhile, or this "
            "machine has another version; call again."
        )
    return Predictor.load(checkpoint, device=device, config=config)


Made = tuple[tuple[int, ...], int | None]
"""Shape of the labels, and the number of objects where that was asked."""


def _iter_whole(job: Job, predictor: Predictor) -> Generator[Progress | Notice, None, Made]:
    work = iter_segment_file(predictor, job.image, job.order.request, job.order.folder)
    _, result = yield from work
    return result.segmentation.shape, None if result.measurements is None else len(result.measurements)


def _iter_in_blocks(job: Job, predictor: Predictor) -> Generator[Progress | Notice, None, Made]:
    request = job.order.request
    source = request.with_channels(open_stored_image(job.image, job.order.ndim))
    plan = yield from iter_segment_large(predictor, source, request, job.outputs["labels"])
    return plan.output.shape, None


def sentence(job: Job, error: Exception) -> str:
    """Say why an image failed."""
    if isinstance(error, SwipeError) and job.image.part is not None:
        return f"{job.image}: {error}"
    return failure_sentence(
        error,
        str(job.image),
        file=job.image.path,
        advice=job.order.request.advice,
        report="please report this, with the image if you may",
    )


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

    `predictor`: of the job's order, on any device, where this process has it already: it only plans.
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
