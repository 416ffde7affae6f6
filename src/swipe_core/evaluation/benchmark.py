"""What rendering costs: seconds and memory, dense against MISE, at growing resolution."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swipe_core.images import read_image
from swipe_core.inference.field import METHODS, Method, Segmentation
from swipe_core.metrics import dice
from swipe_core.predictor import Predictor
from swipe_core.progress import Progress


@dataclass(frozen=True)
class RenderCost:
    """One way to render one image.

    Attributes
    ----------
    seconds
        Median over the repeats.
    points
        Decoder evaluations.
    megabytes
        Peak memory of rendering above the peak of loading the model and encoding the image, so 0
        where rendering needs less than encoding did; NaN where the system does not tell (Windows).
    """

    factor: float
    method: Method
    seconds: float
    points: int
    megabytes: float


@dataclass(frozen=True)
class RenderBenchmark:
    """All ways to render one image from one encoding.

    Attributes
    ----------
    agreement
        Dice between the foregrounds that MISE and dense rendering give, by factor.
    """

    shape: tuple[int, ...]
    encode_seconds: float
    threads: int
    device: str
    costs: tuple[RenderCost, ...]
    agreement: dict[float, float]


def benchmark_rendering(
    checkpoint: Path, image: Path, *, factors: Sequence[float], repeats: int, device: str
) -> Generator[Progress, None, RenderBenchmark]:
    """Measure; all times in one process and interleaved, each memory figure in a process of its own."""
    predictor = Predictor.load(checkpoint, device=device)
    loaded = read_image(image, ndim=predictor.content.model.ndim)
    jobs = [(factor, method) for factor in factors for method in METHODS]
    seconds: dict[tuple[float, Method] | str, list[float]] = {job: [] for job in jobs} | {"encode": []}
    results: dict[tuple[float, Method], Segmentation] = {}
    total = repeats * len(jobs) + len(jobs)
    for repeat in range(repeats):
        start = time.perf_counter()
        field = predictor.field(loaded)
        field.logits([[0.0] * field.ndim])  # waits for the device
        seconds["encode"].append(time.perf_counter() - start)
        for index, (factor, method) in enumerate(jobs, start=1):
            start = time.perf_counter()
            results[factor, method] = field.render(factor=factor, method=method)
            seconds[factor, method].append(time.perf_counter() - start)
            yield Progress("Timing", repeat * len(jobs) + index, total)
    costs = []
    for index, (factor, method) in enumerate(jobs, start=1):
        megabytes = _peak_memory(checkpoint, image, factor, method, device)
        median = statistics.median(seconds[factor, method])
        points = results[factor, method].evaluated_points
        costs.append(RenderCost(factor, method, median, points, megabytes))
        yield Progress("Measuring memory", repeats * len(jobs) + index, total)
    agreement = {
        factor: dice(results[factor, "mise"].array > 0, results[factor, "dense"].array > 0)
        for factor in factors
    }
    return RenderBenchmark(
        loaded.shape,
        statistics.median(seconds["encode"]),
        torch.get_num_threads(),
        str(predictor.device),
        tuple(costs),
        agreement,
    )


def _peak_memory(checkpoint: Path, image: Path, factor: float, method: Method, device: str) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_render_alone, args=(sender, checkpoint, image, factor, method, device), daemon=True
    )
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    finally:
        process.join()


def _render_alone(
    sender: Any, checkpoint: Path, image: Path, factor: float, method: Method, device: str
) -> None:
    predictor = Predictor.load(checkpoint, device=device)
    field = predictor.field(read_image(image, ndim=predictor.content.model.ndim))
    corner = field.image_grid.window([0] * field.ndim, [1] * field.ndim)
    field.render(corner)  # what the first call allocates for good
    before = _peak_megabytes(predictor.device)
    field.render(factor=factor, method=method)
    sender.send(_peak_megabytes(predictor.device) - before)


def _peak_megabytes(device: torch.device) -> float:
    """Largest memory so far: of the GPU where one works, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # Linux: what getrusage tells there began with the parent process
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
