"""The most memory that each kind of work takes, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, runtime_checkable

import torch

from benchmarks import networks
from benchmarks.inference import HIPPOCAMPUS_WINDOW
from benchmarks.live import SCREEN, ZOOM, boundary_places, decode_screen, screen_at
from benchmarks.networks import VoxelNetwork
from benchmarks.plan import Plan, Subject, sample
from benchmarks.table import Ratio, Table, figure, times
from benchmarks.training import PRESET, RATE, overrides_of, training_batches
from swipe_core.coordinates import Grid
from swipe_core.inference.field import METHODS, Method, OccupancyField
from swipe_core.progress import Progress
from swipe_core.training.config import load_config
from swipe_core.training.learner import Learner

FACTORS, QUICK_FACTORS = (1.0, 4.0, 16.0), (1.0, 4.0)
LARGE, QUICK_LARGE = (16384, 16384), (2048, 2048)
LIMIT = 1024.0  # megabytes that rendering `LARGE` must stay under, with everything
MOST_DENSE, QUICK_MOST_DENSE = 2**23, 2**18  # voxels; more would take minutes and show nothing else


@dataclass(frozen=True)
class MemoryCost:
    """One kind of work.

    Attributes
    ----------
    process
        Peak of the whole process in megabytes; NaN where the system does not tell (Windows).
    device
        Peak on the GPU; None where none works.
    above
        Peak (of the GPU where one works) above that before the work: of loading and encoding. 0 where the
        work needs less than what came before.
    """

    work: str
    process: float
    device: float | None
    above: float


@dataclass(frozen=True)
class MemoryResult:
    """All kinds of work.

    Attributes
    ----------
    large
        The shape that the last work renders.
    """

    costs: tuple[MemoryCost, ...]
    large: tuple[int, ...]

    def table(self) -> Table:
        on_gpu = any(cost.device is not None for cost in self.costs)
        header = ("work", "process MB", *(["GPU MB"] * on_gpu), "above loading and encoding MB")
        rows = tuple(
            (
                cost.work,
                figure(cost.process),
                *([figure(cost.device)] * on_gpu),
                figure(cost.above),
            )
            for cost in self.costs
        )
        told = (
            "Each in a process of its own: peaks, with Python and torch in them. "
            f"{times(self.large)} has to stay under {LIMIT:,.0f} MB: {figure(self._of_limit)} of that."
        )
        return Table("Memory", header, rows, (told,))

    def ratios(self) -> tuple[Ratio, ...]:
        return (Ratio(f"rendering {times(self.large)}: whole process / {LIMIT:,.0f} MB", self._of_limit),)

    @property
    def _of_limit(self) -> float:
        return self.costs[-1].process / LIMIT


@runtime_checkable
class Job(Protocol):
    """Work that can be sent to another process."""

    @property
    def name(self) -> str: ...

    def prepare(self) -> Callable[[], object]:
        """What does not count, and then the work."""
        ...


@dataclass(frozen=True)
class RenderJob:
    """Rendering an encoded image on as many voxels."""

    subject: Subject
    device: str
    shape: tuple[int, ...]
    method: Method
    name: str

    def prepare(self) -> Callable[[], object]:
        field = _encoded(self.subject, self.device)
        grid = field.image_grid.resized(self.shape)
        return lambda: field.render(grid, method=self.method)


@dataclass(frozen=True)
class LiveJob:
    """Decoding a screen."""

    subject: Subject
    device: str
    name: str

    def prepare(self) -> Callable[[], object]:
        field = _encoded(self.subject, self.device)
        (place,) = boundary_places(field.render().array, 1)
        screen: Grid = screen_at(place, field.image_grid, ZOOM, SCREEN)
        return lambda: decode_screen(field, screen)


@dataclass(frozen=True)
class EncodeJob:
    """Loading a network and an image, and encoding it."""

    subject: Subject
    device: str
    name: str

    def prepare(self) -> Callable[[], object]:
        return lambda: _encoded(self.subject, self.device)


@dataclass(frozen=True)
class TrainingJob:
    """A step of training."""

    overrides: tuple[tuple[str, str], ...]
    device: str
    name: str

    def prepare(self) -> Callable[[], object]:
        config = load_config(PRESET, self.overrides)
        with TemporaryDirectory() as folder:
            _, batches = training_batches(config, Path(folder))
            batch = batches[0]
        learner = Learner(config, torch.device(self.device))
        return lambda: learner.learn(batch, 0, RATE)


@dataclass(frozen=True)
class NetworkJob:
    """Another network from the file of a sample to labels, as a whole or in windows."""

    network: str
    subject: Subject
    window: tuple[int, ...] | None
    factor: int
    device: str
    name: str

    def prepare(self) -> Callable[[], object]:
        device = torch.device(self.device)
        content = self.subject.predictor(torch.device("cpu")).content
        wanted = {"size": self.subject.shape, "crop_size": None}
        preprocessing = content.preprocessing.model_copy(update=wanted)
        window = self.window or self.subject.shape or ()
        classes = content.labels.classes
        network = VoxelNetwork.built(self.network, preprocessing, classes, window, device)
        return lambda: network.labels(self.subject.image_path, self.factor, self.window)


def measure_memory(plan: Plan) -> Generator[Progress, None, MemoryResult]:
    """Encode, render, zoom and train, each in a process of its own; the largest rendering comes last."""
    large = QUICK_LARGE if plan.quick else LARGE
    jobs = _jobs(plan, large)
    costs = []
    for number, job in enumerate(jobs, start=1):
        costs.append(measure_alone(job))
        yield Progress("Measuring memory", number, len(jobs))
    return MemoryResult(tuple(costs), large)


def _jobs(plan: Plan, large: tuple[int, ...]) -> list[Job]:
    device = str(plan.device)
    most_dense = QUICK_MOST_DENSE if plan.quick else MOST_DENSE
    jobs: list[Job] = []
    for subject in plan.subjects(sample("polyp", (384, 384)), sample("hippocampus")):
        ndim = subject.predictor(torch.device("cpu")).content.model.ndim
        grid = subject.image(ndim).grid
        jobs.append(EncodeJob(subject, device, f"{subject.name}: loading and encoding"))
        factors = plan.factors or (QUICK_FACTORS if plan.quick else FACTORS[: 5 - ndim])
        for factor in factors:
            fine = grid.scaled(factor)
            methods = METHODS if fine.voxels <= most_dense else ("mise",)
            jobs += [
                RenderJob(subject, device, fine.shape, method, f"{subject.name}: {method} {factor:g}x")
                for method in methods
            ]
        jobs.append(LiveJob(subject, device, f"{subject.name}: a screen at {ZOOM}x"))
    if plan.subject is None and not plan.quick:
        jobs += _network_jobs(device)
    jobs.append(TrainingJob(tuple(overrides_of(plan)), device, "a step of training"))
    jobs.append(RenderJob(sample("nuclei"), device, large, "mise", f"nuclei: MISE {times(large)}"))
    return jobs


def _network_jobs(device: str) -> list[Job]:
    """The networks of the comparison that can be built, on the same images."""
    polyp, hippocampus = sample("polyp", (384, 384)), sample("hippocampus")
    wanted = [
        NetworkJob("U-Net", polyp, None, 1, device, "polyp: U-Net"),
        NetworkJob("U-Net", polyp, None, 4, device, "polyp: U-Net, 4x"),
        NetworkJob("U-Net", hippocampus, None, 1, device, "hippocampus: U-Net"),
        NetworkJob("U-Net", hippocampus, None, 4, device, "hippocampus: U-Net, 4x"),
        NetworkJob("UNETR", hippocampus, HIPPOCAMPUS_WINDOW, 1, device, "hippocampus: UNETR, windows"),
    ]
    return [job for job in wanted if job.network in networks.available(3)]


def _encoded(subject: Subject, device: str) -> OccupancyField:
    """A field that has answered once: what the first call allocates for good is there."""
    predictor = subject.predictor(torch.device(device))
    field = predictor.field(subject.image(predictor.content.model.ndim))
    field.render(field.image_grid.window([0] * field.ndim, [1] * field.ndim))
    return field


def measure_alone(job: Job) -> MemoryCost:
    """What a work takes, in a new process with as many threads."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work_alone, args=(sender, job, torch.get_num_threads()), daemon=True)
    process.start()
    sender.close()
    try:
        cost = receiver.recv()
    finally:
        process.join()
    assert isinstance(cost, MemoryCost)
    return cost


def _work_alone(sender: Any, job: Job, threads: int) -> None:
    torch.set_num_threads(threads)
    work = job.prepare()
    before_process, before_device = _process_peak(), _device_peak()
    work()
    process, device = _process_peak(), _device_peak()
    above = process - before_process if device is None else device - (before_device or 0.0)
    sender.send(MemoryCost(job.name, process, device, above))


def _device_peak() -> float | None:
    """Megabytes that tensors took on the GPU at most so far; None where none works."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / 2**20


def _process_peak() -> float:
    """Megabytes that were resident at most so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: what getrusage tells there began with the parent process
        (line,) = [line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
