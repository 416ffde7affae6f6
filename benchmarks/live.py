"""What a user waits for while zooming: a screen about a boundary, decoded as the live layer does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from benchmarks.plan import Plan, Subject, sample
from benchmarks.stopwatch import timed
from benchmarks.table import Ratio, Table, figure, times
from swipe_core.coordinates import Affine, Grid
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.progress import Progress, finish

SCREEN = (600, 800)  # pixels
ZOOM = 64
FIRST_STEP = 16  # of MISE, in pixels, as the live layer has it
PLACES, QUICK_PLACES = 40, 8


@dataclass(frozen=True)
class LiveCost:
    """Screens of one image.

    Attributes
    ----------
    places
        How many screens there were, each about another place of the boundary.
    median, percentile_95
        Seconds per screen.
    points
        At which the field was asked for a screen, median.
    points_per_pixel
    """

    subject: str
    screen: tuple[int, ...]
    zoom: int
    places: int
    median: float
    percentile_95: float
    points: float
    points_per_pixel: float


@dataclass(frozen=True)
class LiveResult:
    """All images."""

    costs: tuple[LiveCost, ...]

    def table(self) -> Table:
        rows = tuple(
            (
                cost.subject,
                times(cost.screen[::-1]),
                f"{cost.zoom}x",
                str(cost.places),
                figure(1000 * cost.median),
                figure(1000 * cost.percentile_95),
                figure(cost.points),
                figure(cost.points_per_pixel),
            )
            for cost in self.costs
        )
        header = ("image", "pixels", "zoom", "places", "median ms", "95 % ms", "points", "per pixel")
        return Table("Live", header, rows, ("Of a volume the screen shows a slice.",))

    def ratios(self) -> tuple[Ratio, ...]:
        found = []
        for cost in self.costs:
            found.append(Ratio(f"{cost.subject}: points per pixel of a screen", cost.points_per_pixel))
            found.append(Ratio(f"{cost.subject}: slowest 5 % / median", cost.percentile_95 / cost.median))
        return tuple(found)


def measure_live(plan: Plan) -> Generator[Progress, None, LiveResult]:
    """Decode screens of the samples, or of what the plan says, at places all along the boundary."""
    costs = []
    for subject in plan.subjects(sample("polyp"), sample("nuclei"), sample("hippocampus")):
        costs.append((yield from _measure(plan, subject)))
    return LiveResult(tuple(costs))


def screen_at(place: Float[np.ndarray, " ndim"], grid: Grid, zoom: int, screen: Sequence[int]) -> Grid:
    """The pixels of a screen: across the last two axes, about a place in the voxel frame of a grid."""
    step = np.ones(grid.ndim)
    step[-2:] = 1 / zoom
    shape = (1,) * (grid.ndim - 2) + tuple(screen)
    corner = place - step * (np.asarray(shape) - 1) / 2
    return Grid(shape, grid.affine @ Affine.from_spacing(tuple(step), tuple(corner)))


def boundary_places(labels: np.ndarray, count: int) -> list[Float[np.ndarray, " ndim"]]:
    """Places between two voxels of different classes, neighbours along one of the last two axes."""
    found = []
    for axis in (labels.ndim - 2, labels.ndim - 1):
        between = np.argwhere(np.diff(labels.astype(np.int16), axis=axis)).astype(np.float64)
        between[:, axis] += 0.5
        found.append(between)
    places = np.concatenate(found)
    chosen = np.random.default_rng(0).permutation(len(places))[:count]
    return list(places[chosen])


def decode_screen(field: OccupancyField, grid: Grid) -> Segmentation:
    """As the live layer does: with a first step of MISE of at most `FIRST_STEP` pixels."""
    steps = (field.grid.affine.inverse() @ grid.affine).spacing
    step = min(s for s, n in zip(steps, grid.shape, strict=True) if n > 1)
    coarse = min(field.config.coarse_voxels, FIRST_STEP * step)
    quick = field.with_config(field.config.model_copy(update={"coarse_voxels": coarse}))
    return finish(iter_sampled(quick, rendering_on(grid)))


def _measure(plan: Plan, subject: Subject) -> Generator[Progress, None, LiveCost]:
    predictor = subject.predictor(plan.device)
    field = predictor.field(subject.image(predictor.content.model.ndim))
    places = boundary_places(field.render().array, QUICK_PLACES if plan.quick else PLACES)
    screens = [screen_at(place, field.image_grid, ZOOM, SCREEN) for place in places]
    decode_screen(field, screens[0])
    seconds = np.empty((plan.repeats, len(screens)))
    points = np.empty(len(screens))
    for turn in range(plan.repeats):
        for index, grid in enumerate(screens):
            seconds[turn, index], shown = timed(partial(decode_screen, field, grid), plan.device)
            points[index] = shown.evaluated_points
            done = turn * len(screens) + index + 1
            yield Progress(f"Live screens of {subject.name}", done, plan.repeats * len(screens))
    usual = np.median(seconds, axis=0)
    return LiveCost(
        subject=subject.name,
        screen=SCREEN,
        zoom=ZOOM,
        places=len(screens),
        median=float(np.median(usual)),
        percentile_95=float(np.percentile(usual, 95)),
        points=float(np.median(points)),
        points_per_pixel=float(np.median(points)) / float(np.prod(SCREEN)),
    )
