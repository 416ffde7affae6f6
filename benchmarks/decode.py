"""Points per second: the decoder by its definition, with shared products, and as a user asks the field."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from benchmarks.floor import MatrixProduct, decoder_multiply_adds
from benchmarks.plan import Plan, untrained
from benchmarks.stopwatch import Timings, Work, take_turns
from benchmarks.table import Ratio, Table, figure, percent, times
from swipe_core.coordinates import voxel_to_image
from swipe_core.data.preprocessing import preprocess
from swipe_core.images import MedicalImage
from swipe_core.inference.field import OccupancyField
from swipe_core.networks.swipe.swipe import Swipe
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Progress

PRESETS = {"sessile": (384, 384), "bcv": (96, 96, 96)}
QUICK_SHAPES = {"sessile": (192, 192), "bcv": (48, 48, 48)}
FINENESS = {2: 4, 3: 2}  # points per voxel and axis about a boundary
BAND = 3  # of these points, on either side of it
POINTS = {"cpu": 2**16, "cuda": 2**22}
QUICK_POINTS = {"cpu": 2**14, "cuda": 2**20}
PLAIN, CACHED, ASKED, BLENDED = "plain", "cached", "field, nearest", "field, linear"
PRODUCT = "matrix product"
ONE_PATCH = (PLAIN, CACHED, ASKED)


@dataclass(frozen=True)
class DecodeCost:
    """A decoder at one set of points.

    Attributes
    ----------
    kind
        ``"boundary"`` for points as refinement asks them, in order, about a sphere; or ``"random"``.
    chunk
        Points decoded at once.
    multiply_adds
        At one point, by way.
    product_rate
        Multiply-adds per second of a large product of matrices of the same numbers.
    points_per_second, shares
        By way; a share is of what the decoder's multiply-adds would take at that rate, those of the cached
        one but for `PLAIN`.
    cached_to_plain
        How many times as many points a second.
    """

    preset: str
    shape: tuple[int, ...]
    kind: str
    points: int
    chunk: int
    multiply_adds: dict[str, int]
    product_rate: float
    points_per_second: dict[str, float]
    shares: dict[str, float]
    cached_to_plain: float


@dataclass(frozen=True)
class DecodeResult:
    """All decoders at all sets of points."""

    costs: tuple[DecodeCost, ...]

    def table(self) -> Table:
        header: tuple[str, ...] = (
            "preset",
            "points",
            "product GMAC/s",
            "plain Mpt/s",
            "cached Mpt/s",
            "ratio",
        )
        header += ("field nearest Mpt/s", "field linear Mpt/s", "floor: plain", "cached", "field nearest")
        return Table(
            "Decoding",
            header,
            tuple(self._row(cost) for cost in self.costs),
            (
                "Plain: the network as it comes from training, where every point multiplies its own "
                "embeddings. Cached: products that a patch shares are made once, normalisations are folded. "
                "Field: `OccupancyField.logits`, coordinates included. Floor: the share of the "
                "rate of a large product of matrices. Random weights. " + self._multiply_adds(),
            ),
        )

    def ratios(self) -> tuple[Ratio, ...]:
        found = []
        for cost in self.costs:
            what = f"{cost.preset}, {cost.kind} points"
            found += [
                Ratio(f"{what}: cached / plain, points per second", cost.cached_to_plain),
                Ratio(f"{what}: plain, share of its floor", cost.shares[PLAIN]),
                Ratio(f"{what}: cached, share of its floor", cost.shares[CACHED]),
                Ratio(f"{what}: field, share of the cached floor", cost.shares[ASKED]),
            ]
        return tuple(found)

    def _row(self, cost: DecodeCost) -> tuple[str, ...]:
        speed = {way: figure(rate / 1e6) for way, rate in cost.points_per_second.items()}
        return (
            f"{cost.preset} {times(cost.shape)}",
            cost.kind,
            figure(cost.product_rate / 1e9),
            speed[PLAIN],
            speed[CACHED],
            figure(cost.cached_to_plain),
            speed[ASKED],
            speed[BLENDED],
            *(percent(cost.shares[way]) for way in ONE_PATCH),
        )

    def _multiply_adds(self) -> str:
        counts = {cost.preset: cost.multiply_adds for cost in self.costs}
        told = [f"{name} {ways[PLAIN]:,} and {ways[CACHED]:,}" for name, ways in counts.items()]
        return f"Multiply-adds per point, plain and cached: {', '.join(told)}."


def measure_decoding(plan: Plan) -> Generator[Progress, None, DecodeResult]:
    """Time the decoders of a 2D and a 3D preset with random weights."""
    costs = []
    shapes = QUICK_SHAPES if plan.quick else PRESETS
    for preset, shape in shapes.items():
        random = untrained(preset, shape)
        predictor = random.predictor(plan.device)
        counts = decoder_multiply_adds(random.model.patch_decoder)
        multiply_adds = dict(zip((PLAIN, CACHED), counts, strict=True))
        count = (QUICK_POINTS if plan.quick else POINTS).get(plan.device.type, QUICK_POINTS["cpu"])
        for kind, points_voxel in point_sets(shape, count).items():
            works = _works(predictor, random.model.eval(), random.image, points_voxel)
            dtype = next(predictor.model.parameters()).dtype
            product = MatrixProduct(plan.device, dtype, quick=plan.quick)
            stage = f"Decoding {preset}, {kind} points"
            timings = yield from take_turns(works | {PRODUCT: product}, plan.repeats, plan.device, stage)
            chunk = predictor.field(random.image).chunk_points
            costs.append(_cost(preset, shape, kind, count, chunk, multiply_adds, product, timings))
    return DecodeResult(tuple(costs))


def point_sets(shape: Sequence[int], count: int) -> dict[str, Float[np.ndarray, "points ndim"]]:
    """Points in the voxel frame: about a sphere in the order of a raster, and anywhere."""
    fineness = FINENESS[len(shape)]
    fine = [n * fineness for n in shape]
    axes = np.ogrid[tuple(slice(n) for n in fine)]
    distance = np.sqrt(sum((axis - (n - 1) / 2) ** 2 for axis, n in zip(axes, fine, strict=True)))
    band = np.argwhere(np.abs(distance - 0.3 * min(fine)) <= BAND)
    about = np.resize(band, (count, len(shape)))  # repeated where there are fewer
    return {
        "boundary": (about + 0.5) / fineness - 0.5,
        "random": np.random.default_rng(0).uniform(-0.5, np.asarray(shape) - 0.5, (count, len(shape))),
    }


def _works(
    predictor: Predictor, trained: Swipe, image: MedicalImage, points_voxel: Float[np.ndarray, "points ndim"]
) -> dict[str, Work]:
    """The ways to decode the points; the plain one is that of the network as it comes from training."""
    model, field = predictor.model, predictor.field(image)
    assert isinstance(model, Swipe)
    prepared = preprocess(image, predictor.content.preprocessing)
    trained.to(predictor.device)
    with torch.inference_mode():
        tensor = prepared.tensor[None].to(predictor.device)
        embeddings, own = model.encode(tensor), trained.encode(tensor)
    points = torch.tensor(voxel_to_image(points_voxel, prepared.shape), dtype=torch.float32)
    chunks = points[None].to(predictor.device).split(field.chunk_points, dim=1)
    points_world = field.grid.affine.apply(points_voxel)

    @torch.inference_mode()
    def plain() -> None:
        for chunk in chunks:
            trained.decode_plain(own, chunk)

    @torch.inference_mode()
    def cached() -> None:
        for chunk in chunks:
            model.decode(embeddings, chunk, blending="nearest")

    nearest, linear = (_blended(field, way) for way in ("nearest", "linear"))
    return {
        PLAIN: plain,
        CACHED: cached,
        ASKED: lambda: nearest.logits(points_world),
        BLENDED: lambda: linear.logits(points_world),
    }


def _blended(field: OccupancyField, blending: str) -> OccupancyField:
    return field.with_config(field.config.model_copy(update={"blending": blending}))


def _cost(
    preset: str,
    shape: Sequence[int],
    kind: str,
    points: int,
    chunk: int,
    multiply_adds: dict[str, int],
    product: MatrixProduct,
    timings: Timings,
) -> DecodeCost:
    work = {way: points * multiply_adds[PLAIN if way == PLAIN else CACHED] for way in ONE_PATCH}
    return DecodeCost(
        preset=preset,
        shape=tuple(shape),
        kind=kind,
        points=points,
        chunk=chunk,
        multiply_adds=multiply_adds,
        product_rate=product.multiply_adds / timings.median(PRODUCT),
        points_per_second={way: points / timings.median(way) for way in (*ONE_PATCH, BLENDED)},
        shares={way: work[way] / product.multiply_adds * timings.ratio(PRODUCT, way) for way in ONE_PATCH},
        cached_to_plain=timings.ratio(PLAIN, CACHED),
    )
