"""Rendering one image finer and finer: dense against MISE, and how either grows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.plan import Plan, Subject, sample
from benchmarks.stopwatch import Timings, Work, take_turns, timed
from benchmarks.table import Ratio, Table, figure, times
from swipe_core.blocks import Block, cut_blocks
from swipe_core.coordinates import Grid
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.measure.metrics import dice
from swipe_core.progress import Progress

FACTORS = {2: (1, 2, 4, 8, 16), 3: (1, 2, 4)}
QUICK_FACTORS = {2: (1, 2, 4), 3: (1, 2)}
LONGEST, QUICK_LONGEST = 60.0, 5.0  # seconds that a dense rendering may take before it is cut short
PART = 8  # then one of so many blocks is rendered in all,
BLOCKS = 256  # of about so many, drawn at random: others in every turn
MISE, DENSE = "MISE", "dense"


@dataclass(frozen=True)
class RenderCost:
    """One image at one resolution, both ways.

    Attributes
    ----------
    shape
        Voxels of the result.
    boundary
        Pairs of neighbouring voxels of different classes.
    mise_points, dense_points
        At which the field was asked.
    dense_part
        Share of the voxels that dense rendering was measured on; `dense_seconds` and `dense_to_mise` are
        scaled up to all of them.
    dense_to_mise
        Seconds over seconds.
    growth_seconds, growth_points
        Of MISE per doubling of the resolution, since the factor before; None at the first.
    dice
        Between the foregrounds of both, where dense rendering was measured.
    """

    factor: float
    shape: tuple[int, ...]
    boundary: int
    mise_seconds: float
    mise_points: int
    dense_seconds: float
    dense_points: int
    dense_part: float
    dense_to_mise: float
    growth_seconds: float | None
    growth_points: float | None
    dice: float


@dataclass(frozen=True)
class SubjectCosts:
    """An image at all resolutions.

    Attributes
    ----------
    encoded_shape
        What the network saw.
    first_seconds
        Of the first rendering, which searches for the regions of `InferenceConfig.confidence` if that is set.
    """

    subject: str
    shape: tuple[int, ...]
    encoded_shape: tuple[int, ...]
    first_seconds: float
    costs: tuple[RenderCost, ...]


@dataclass(frozen=True)
class RenderResult:
    """All images."""

    subjects: tuple[SubjectCosts, ...]

    def table(self) -> Table:
        header: tuple[str, ...] = ("image", "factor", "boundary", "MISE s", "growth", "MISE points", "growth")
        header += ("points / boundary", "dense s", "dense points", "dense / MISE s", "points", "Dice")
        rows = [_row(each.subject, cost) for each in self.subjects for cost in each.costs]
        partial = any(cost.dense_part < 1 for each in self.subjects for cost in each.costs)
        told = (
            "Each image is encoded once ("
            + "; ".join(f"{s.subject} {times(s.shape)} at {times(s.encoded_shape)}" for s in self.subjects)
            + "). Growth is that per doubling of the resolution; boundary counts pairs of neighbouring "
            "voxels of different classes."
        )
        marked = (
            f"~: measured on 1/{PART} of the blocks, drawn at random, and scaled up; Dice is that of these."
        )
        return Table("Rendering", header, tuple(rows), (told, marked) if partial else (told,))

    def ratios(self) -> tuple[Ratio, ...]:
        found = []
        for each in self.subjects:
            for cost in each.costs:
                what = f"{each.subject}, {cost.factor:g}x"
                found.append(Ratio(f"{what}: dense / MISE, seconds", cost.dense_to_mise))
                found.append(Ratio(f"{what}: dense / MISE, points", cost.dense_points / cost.mise_points))
                if cost.growth_seconds is not None and cost.growth_points is not None:
                    found.append(Ratio(f"{what}: growth of MISE seconds per doubling", cost.growth_seconds))
                    found.append(Ratio(f"{what}: growth of MISE points per doubling", cost.growth_points))
                found.append(Ratio(f"{what}: Dice, MISE against dense", cost.dice, 5))
        return tuple(found)


def measure_rendering(plan: Plan) -> Generator[Progress, None, RenderResult]:
    """Render the polyp at 384 x 384 and the hippocampus, or what the plan says, from one encoding each."""
    results = []
    for subject in plan.subjects(sample("polyp", (384, 384)), sample("hippocampus")):
        results.append((yield from _measure(plan, subject)))
    return RenderResult(tuple(results))


def _measure(plan: Plan, subject: Subject) -> Generator[Progress, None, SubjectCosts]:
    predictor = subject.predictor(plan.device)
    image = subject.image(predictor.content.model.ndim)
    field = predictor.field(image)
    usual = QUICK_FACTORS if plan.quick else FACTORS
    factors = plan.factors or tuple(float(factor) for factor in usual[field.ndim])
    first, _ = timed(field.render, plan.device)
    rate = _dense_rate(field, plan.device)
    renderings = [
        _Rendering.planned(field, factor, rate, QUICK_LONGEST if plan.quick else LONGEST, plan.repeats)
        for factor in factors
    ]
    works: dict[str, Work] = {}
    for each in renderings:
        works |= {each.name(MISE): each.render_mise, each.name(DENSE): each.render_dense}
    stage = f"Rendering {subject.name}"
    timings = yield from take_turns(works, plan.repeats, plan.device, stage, warm_up=False)
    before = [None, *renderings[:-1]]
    costs = tuple(each.cost(timings, last) for each, last in zip(renderings, before, strict=True))
    return SubjectCosts(subject.name, image.shape, field.grid.shape, first, costs)


class _Rendering:
    """One resolution: both ways to render it, and what came of them.

    Attributes
    ----------
    hands
        What dense rendering renders in each turn.
    """

    def __init__(self, field: OccupancyField, factor: float, hands: Sequence[Sequence[Block]]) -> None:
        self.field, self.factor, self.hands = field, factor, hands
        self.grid: Grid = field.image_grid.scaled(factor)
        self.mise: Segmentation | None = None
        self.dense: list[list[Segmentation]] = []

    @classmethod
    def planned(
        cls, field: OccupancyField, factor: float, rate: float, longest: float, turns: int
    ) -> _Rendering:
        """With all of the raster to be rendered densely, or a part where that would take too long."""
        grid = field.image_grid.scaled(factor)
        if grid.voxels / rate <= longest:
            return cls(field, factor, [[Block((0,) * grid.ndim, grid.shape)]] * turns)
        blocks = cut_blocks(grid.shape, max(1, grid.voxels // BLOCKS))
        drawn = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0)).tolist()
        each = max(1, len(blocks) // PART // turns)
        return cls(
            field, factor, [[blocks[i] for i in drawn[t * each : (t + 1) * each]] for t in range(turns)]
        )

    def name(self, method: str) -> str:
        return f"{method} {self.factor:g}x"

    def render_mise(self) -> None:
        self.mise = self.field.render(self.grid, method="mise")

    def render_dense(self) -> None:
        windows = [self.grid.window(block.start, block.shape) for block in self.hands[len(self.dense)]]
        self.dense.append([self.field.render(window, method="dense") for window in windows])

    def cost(self, timings: Timings, before: _Rendering | None) -> RenderCost:
        assert self.mise is not None
        parts = [sum(each.array.size for each in hand) / self.grid.voxels for hand in self.dense]
        mise, dense = timings.seconds[self.name(MISE)], timings.seconds[self.name(DENSE)]
        whole = [seconds / part for seconds, part in zip(dense, parts, strict=True)]
        return RenderCost(
            factor=self.factor,
            shape=self.grid.shape,
            boundary=boundary_length(self.mise.array),
            mise_seconds=statistics.median(mise),
            mise_points=self.mise.evaluated_points,
            dense_seconds=statistics.median(whole),
            dense_points=round(sum(each.evaluated_points for each in self.dense[0]) / parts[0]),
            dense_part=min(1.0, sum(parts)),
            dense_to_mise=statistics.median(d / m for d, m in zip(whole, mise, strict=True)),
            growth_seconds=self._growth(before, lambda last: self._seconds_over(last, timings)),
            growth_points=self._growth(before, self._points_over),
            dice=self._dice(self.mise.array),
        )

    def _seconds_over(self, before: _Rendering, timings: Timings) -> float:
        return timings.ratio(self.name(MISE), before.name(MISE))

    def _points_over(self, before: _Rendering) -> float:
        assert self.mise is not None and before.mise is not None
        return self.mise.evaluated_points / before.mise.evaluated_points

    def _growth(self, before: _Rendering | None, over: Callable[[_Rendering], float]) -> float | None:
        """A ratio to the rendering before, as if the factor had doubled since."""
        if before is None:
            return None
        return float(over(before) ** (1 / np.log2(self.factor / before.factor)))

    def _dice(self, labels: np.ndarray) -> float:
        pairs = [
            (labels[block.slices].ravel(), part.array.ravel())
            for blocks, parts in zip(self.hands, self.dense, strict=True)
            for block, part in zip(blocks, parts, strict=True)
        ]
        refined, dense = (np.concatenate(each) for each in zip(*pairs, strict=True))
        return dice(refined > 0, dense > 0)


def boundary_length(labels: np.ndarray) -> int:
    """Pairs of neighbouring voxels of different classes."""
    return sum(int(np.count_nonzero(np.diff(labels.astype(np.int16), axis=a))) for a in range(labels.ndim))


def _dense_rate(field: OccupancyField, device: torch.device) -> float:
    """Points per second of dense rendering, about: to know what it will take."""
    some = field.image_grid.window([0] * field.ndim, [min(n, 64) for n in field.image_grid.shape])
    return some.voxels / statistics.median(
        timed(lambda: field.render(some, method="dense"), device)[0] for _ in range(3)
    )


def _row(subject: str, cost: RenderCost) -> tuple[str, ...]:
    mark = "~" if cost.dense_part < 1 else ""
    return (
        subject,
        f"{cost.factor:g}x",
        f"{cost.boundary:,}",
        figure(cost.mise_seconds),
        figure(cost.growth_seconds),
        f"{cost.mise_points:,}",
        figure(cost.growth_points),
        figure(cost.mise_points / cost.boundary if cost.boundary else None),
        mark + figure(cost.dense_seconds),
        f"{mark}{cost.dense_points:,}",
        mark + figure(cost.dense_to_mise),
        figure(cost.dense_points / cost.mise_points),
        f"{cost.dice:.5f}",
    )
