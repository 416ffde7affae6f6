"""A step of training: how many images a second, how far from the floor, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.floor import MatrixProduct, counted
from benchmarks.plan import Plan
from benchmarks.stopwatch import Timings, Work, synchronise, take_turns, timed
from benchmarks.table import Ratio, Table, figure, percent, times
from swipe_core.compute.devices import computes_in_bfloat16
from swipe_core.coordinates import Affine, voxel_centres
from swipe_core.data.batch import Batch
from swipe_core.data.cases import find_cases
from swipe_core.data.dataset import TrainingSet
from swipe_core.images import LabelMap, MedicalImage, write_image, write_label_map
from swipe_core.networks.registry import build_network
from swipe_core.progress import Progress
from swipe_core.training.config import ExperimentConfig, load_config
from swipe_core.training.learner import Learner

PRESET = "sessile"
QUICK = [("batch.size", "2"), ("batch.points", "250"), ("preprocessing.size", "[96, 96]")]
BACKWARD = 2  # times the multiply-adds of the forward pass: gradients of inputs, and of weights
RATE = 1e-5
PARTS = ("data", "encoder", "decoder", "loss", "backward", "optimiser", "rest")
STEP, TRACED, DATA, PRODUCT = "step", "traced step", "data", "matrix product"


@dataclass(frozen=True)
class TrainingCost:
    """Training at one precision.

    Attributes
    ----------
    multiply_adds
        Of the forward pass of one image, its points and their overreach, as they are computed.
    product_rate
        Multiply-adds per second of a large product of matrices at this precision.
    step_seconds
        Of a batch that is there.
    images_per_second
        With the batch made by the same process just before.
    floor_share
        What forward and backward pass would take at `product_rate`, over `step_seconds`.
    shares
        Of the time for batch and step, by `PARTS`. The loss's own gradient counts as loss; data is
        augmentation and the choice of points.
    """

    precision: str
    multiply_adds: int
    product_rate: float
    step_seconds: float
    data_seconds: float
    images_per_second: float
    floor_share: float
    shares: dict[str, float]


@dataclass(frozen=True)
class TrainingCosts:
    """Training of the preset.

    Attributes
    ----------
    reading_seconds
        For one image: its files are read, preprocessed, and its pool of points is sampled, once in a run.
    """

    preset: str
    batch: int
    shape: tuple[int, ...]
    points: int
    overreach: int
    reading_seconds: float
    costs: tuple[TrainingCost, ...]

    def table(self) -> Table:
        header = ("precision", "product GMAC/s", "images / s", "step s", "data s", "floor", *PARTS)
        rows = tuple(
            (
                cost.precision,
                figure(cost.product_rate / 1e9),
                figure(cost.images_per_second),
                figure(cost.step_seconds),
                figure(cost.data_seconds),
                percent(cost.floor_share),
                *(percent(cost.shares[part]) for part in PARTS),
            )
            for cost in self.costs
        )
        told = (
            f"{self.preset}, {self.batch} images of {times(self.shape)} a step, {self.points} points and "
            f"{self.overreach} neighbours for each; {self.costs[0].multiply_adds / 1e9:.1f} G multiply-adds "
            "forward for an image, counted three times for a step. Floor: the share of the rate of a large "
            f"product of matrices at the same precision. Reading takes {figure(self.reading_seconds)} s an "
            "image, once in a run; in a training on a GPU other processes make the data meanwhile."
        )
        return Table("Training", header, rows, (told,))

    def ratios(self) -> tuple[Ratio, ...]:
        found = []
        for cost in self.costs:
            found.append(Ratio(f"{cost.precision}: step, share of its floor", cost.floor_share))
            for part in PARTS:
                found.append(Ratio(f"{cost.precision}: {part}, share of the time", cost.shares[part]))
        if len(self.costs) == 2:
            single, half = self.costs
            ratio = half.step_seconds / single.step_seconds
            found.append(Ratio("bfloat16 / float32, seconds of a step", ratio))
        return tuple(found)


def measure_training(plan: Plan) -> Generator[Progress, None, TrainingCosts]:
    """Train the `sessile` preset on pictures of discs, in float32 and, where the device has it, bfloat16."""
    overrides = overrides_of(plan)
    precisions = ["float32"] + ["bfloat16"] * computes_in_bfloat16(plan.device)
    config = load_config(PRESET, overrides)
    multiply_adds = forward_multiply_adds(config)
    with TemporaryDirectory() as folder:
        reading, batches = training_batches(config, Path(folder))
        learners = {p: _learner(overrides, p, plan.device) for p in precisions}
        works: dict[str, Work] = {DATA: lambda: batches[0]}
        traces: dict[str, list[dict[str, float]]] = {p: [] for p in precisions}
        products = {p: MatrixProduct(plan.device, getattr(torch, p), quick=plan.quick) for p in precisions}
        batch = batches[0]
        for precision, learner in learners.items():
            works |= {
                f"{PRODUCT} {precision}": products[precision],
                f"{STEP} {precision}": _step(learner, batch),
                f"{TRACED} {precision}": _traced_step(learner, batch, traces[precision]),
            }
        timings = yield from take_turns(works, plan.repeats, plan.device, "Training")
    costs = [
        _cost(p, config, multiply_adds, products[p], timings, traces[p][-plan.repeats :]) for p in precisions
    ]
    assert config.preprocessing.size is not None
    return TrainingCosts(
        preset=PRESET,
        batch=config.batch.size,
        shape=config.preprocessing.size,
        points=config.batch.points,
        overreach=config.model.answers_per_point - 1,
        reading_seconds=reading,
        costs=tuple(costs),
    )


def overrides_of(plan: Plan) -> list[tuple[str, str]]:
    """Where the plan departs from the preset."""
    return list(QUICK * plan.quick) + [("batch.size", str(plan.batch))] * (plan.batch is not None)


def forward_multiply_adds(config: ExperimentConfig) -> int:
    """Of one training image, its points and their overreach; nothing is computed."""
    assert config.preprocessing.size is not None
    with torch.device("meta"):
        model = build_network(config.model).train()
        images = torch.zeros(2, config.model.channels, *config.preprocessing.size)
        points = torch.zeros(2, config.batch.points, config.model.ndim)
        return counted(lambda: model(images, points, points)) // 2


def write_discs(folder: Path, shape: tuple[int, ...], count: int) -> None:
    """Pictures of a bright disc in noise, and their label maps."""
    rng = np.random.default_rng(0)
    affine = Affine.identity(len(shape))
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(count):
        centre = rng.uniform(0.3, 0.7, len(shape)) * shape
        position = voxel_centres(shape) - centre
        inside = (np.linalg.norm(position, axis=-1) < 0.2 * min(shape)).reshape(shape)
        picture = rng.normal(80, 20, (*shape, 3)) + 80 * inside[..., None]
        bytes_of_colour = picture.clip(0, 255).astype(np.uint8)
        image = MedicalImage(bytes_of_colour, affine, "pixel", channel_axis="colour")
        write_image(folder / "images" / f"{number}.png", image)
        labels = LabelMap(inside.astype(np.uint8), affine, "pixel")
        write_label_map(folder / "labels" / f"{number}.png", labels)


def training_batches(config: ExperimentConfig, folder: Path) -> tuple[float, TrainingSet]:
    """Seconds to read one picture of a disc, and a data set of as many as a batch has, in memory."""
    assert config.preprocessing.size is not None
    write_discs(folder, config.preprocessing.size, config.batch.size)
    cases = find_cases(folder)
    batches = TrainingSet(
        cases,
        preprocessing=config.preprocessing,
        labels=config.labels,
        sampling=config.sampling,
        augmentation=config.augmentation,
        batch=config.batch,
        seed=config.training.seed,
    )

    def read() -> None:
        for _ in batches.load():
            pass

    return timed(read, torch.device("cpu"))[0] / len(cases), batches


def _learner(overrides: list[tuple[str, str]], precision: str, device: torch.device) -> Learner:
    return Learner(load_config(PRESET, [*overrides, ("training.precision", precision)]), device)


def _step(learner: Learner, batch: Batch) -> Work:
    return lambda: learner.learn(batch, 0, RATE)


def _traced_step(learner: Learner, batch: Batch, traces: list[dict[str, float]]) -> Work:
    def work() -> None:
        trace = StepTrace(learner.device)
        with trace.watching(learner):
            learner.learn(batch, 0, RATE)
        traces.append(trace.seconds())

    return work


class StepTrace:
    """When the parts of one step of a learner begin, as its own modules tell."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.moments: dict[str, float] = {}

    def mark(self, name: str) -> None:
        synchronise(self.device)
        self.moments.setdefault(name, time.perf_counter())

    @contextmanager
    def watching(self, learner: Learner) -> Iterator[None]:
        model, optimiser = learner.model, learner.optimiser
        encode = model.encode

        def encode_watched(*arguments: Any, **named: Any) -> Any:
            embeddings = encode(*arguments, **named)
            self.mark("encoded")
            return embeddings

        def answered(module: Any, arguments: Any, prediction: Any) -> None:
            self.mark("decoded")
            # The gradient arrives here once that of the loss itself is known.
            prediction.patch.register_hook(lambda gradient: self.mark("lost"))

        handles = [
            model.register_forward_pre_hook(lambda *_: self.mark("asked")),
            model.register_forward_hook(answered),
            optimiser.register_step_pre_hook(lambda *_: self.mark("gradients")),
            optimiser.register_step_post_hook(lambda *_: self.mark("updated")),
        ]
        model.encode = encode_watched  # type: ignore[method-assign]
        self.mark("start")
        try:
            yield
        finally:
            self.mark("end")
            del model.encode
            for handle in handles:
                handle.remove()

    def seconds(self) -> dict[str, float]:
        """Seconds of each part but for the data; the rest is what lies before and after."""
        order = ("asked", "encoded", "decoded", "lost", "gradients", "updated")
        ends = [self.moments[name] for name in order]
        took = [end - begin for begin, end in zip(ends, ends[1:], strict=False)]
        parts = dict(zip(PARTS[1:6], took, strict=True))
        return parts | {"rest": self.moments["end"] - self.moments["start"] - sum(took)}


def _cost(
    precision: str,
    config: ExperimentConfig,
    multiply_adds: int,
    product: MatrixProduct,
    timings: Timings,
    traces: list[dict[str, float]],
) -> TrainingCost:
    work = (1 + BACKWARD) * multiply_adds * config.batch.size
    step, data = timings.median(f"{STEP} {precision}"), timings.median(DATA)
    parts = {DATA: data} | {part: float(np.median([t[part] for t in traces])) for part in PARTS[1:]}
    relative = timings.ratio(f"{PRODUCT} {precision}", f"{STEP} {precision}")
    return TrainingCost(
        precision=precision,
        multiply_adds=multiply_adds,
        product_rate=product.multiply_adds / timings.median(f"{PRODUCT} {precision}"),
        step_seconds=step,
        data_seconds=data,
        images_per_second=config.batch.size / (step + data),
        floor_share=work / product.multiply_adds * relative,
        shares={part: seconds / sum(parts.values()) for part, seconds in parts.items()},
    )
