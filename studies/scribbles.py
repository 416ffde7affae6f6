"""Label map -> scribbles, as a person paints who has no time to outline everything.

Strokes run through the middle of objects or just inside of their boundaries, and across the background or
close by the objects. They replace a person where it is to be measured how few strokes a model can learn from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, UInt8
from scipy import ndimage
from skimage.graph import MCP_Geometric
from skimage.morphology import skeletonize

from swipe_core.errors import DataError

UNPAINTED = 255
STROKES = (2, 6)  # of a class: few in large objects, many in small ones, and more only where these are tiny
WIDTH = (2.0, 3.0)  # voxels
SLACK = 0.05  # of the voxels of a class: a rest that is not worth another stroke
MOST_TRIES = 60
PAINTED_AT_MOST = 0.4  # of what a class has in the planes that are painted in
TINY = 12  # voxels of a region that is passed over where there are larger ones
ALONG_BOUNDARY = (0.5, 0.35)  # share of such strokes in the background, in objects
BOUNDARY_DISTANCE = ((2.0, 6.0), (2.0, 4.0))  # of these strokes, in voxels
ROOM_ALONG = 6.0  # voxels from the boundary to the middle, without which there is only the middle
ROOM_BACKGROUND = 8.0  # the background has no middle to keep to: this far from objects is far enough
PLANES = 3  # of a volume for a class at least
PAINTED_OF_PLANE = 0.2  # of the class's voxels in an average plane; beyond that more planes are painted in
TOUCHING = np.ones((3, 3), bool)  # diagonal neighbours touch, too
POINTS_PER_STEP = 4  # of a path, so that no voxel under the brush is missed
TREMOR = 0.6  # voxels

Mask = Bool[np.ndarray, "rows columns"]
Line = Float[np.ndarray, "_ 2"]  # points, as rows and columns


@dataclass(frozen=True, eq=False)
class Stroke:
    """One line of the brush.

    Attributes
    ----------
    klass
        What was painted; 0 is the background.
    voxels : (voxels, ndim) int64
        Indices into the label map. They hang together, corner to corner at least, and all lie in one plane
        of a volume's first axis. Strokes of a class may cross.
    """

    klass: int
    voxels: Int[np.ndarray, "voxels ndim"]


def scribble(
    label_map: Integer[np.ndarray, "*shape"],
    classes: int,
    voxels_per_class: int,
    generator: torch.Generator,
    width: tuple[float, float] = WIDTH,
) -> UInt8[np.ndarray, "*shape"]:
    """A map of strokes: the class where one was painted, `UNPAINTED` elsewhere.

    The parameters are those of `draw_strokes`.
    """
    painted = np.full(label_map.shape, UNPAINTED, np.uint8)
    for stroke in draw_strokes(label_map, classes, voxels_per_class, generator, width):
        painted[tuple(stroke.voxels.T)] = stroke.klass
    return painted


def draw_strokes(
    label_map: Integer[np.ndarray, "*shape"],
    classes: int,
    voxels_per_class: int,
    generator: torch.Generator,
    width: tuple[float, float] = WIDTH,
) -> list[Stroke]:
    """Strokes of every class, each inside of its class.

    Parameters
    ----------
    label_map : (rows, columns) or (planes, rows, columns)
        Values in [0, `classes`), or `UNPAINTED` where the class is not known.
    classes : int
        Number of classes including the background.
    voxels_per_class : int
        So many voxels at most are painted of each class: nearly as many where it has room, and never more
        than two fifths of what it has in the planes that are painted in.
    generator : torch.Generator
        The only source of randomness; on the CPU.
    width : (least, greatest)
        Of the brush, in voxels; each stroke has its own.

    Raises
    ------
    DataError
        When the map has other than two or three axes, or holds any other value.
    """
    _check(label_map, classes)
    rng = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
    volume = label_map if label_map.ndim == 3 else label_map[None]
    planes = _choose_planes(volume, classes, voxels_per_class, rng)
    strokes = []
    for klass in range(classes):
        regions = [region for plane in planes for region in _regions(volume[plane], plane, klass)]
        for voxels in _paint(regions, voxels_per_class, width, rng):
            strokes.append(Stroke(klass, voxels[:, 3 - label_map.ndim :]))
    return strokes


def _check(label_map: Integer[np.ndarray, "*shape"], classes: int) -> None:
    if label_map.ndim not in (2, 3):
        raise DataError(
            f"Scribbles are painted in two or three dimensions; the labels have {label_map.ndim}."
        )
    foreign = (label_map != UNPAINTED) & ((label_map < 0) | (label_map >= classes))
    if classes > UNPAINTED or foreign.any():
        found = f"{classes} classes" if classes > UNPAINTED else f"the label {label_map[foreign][0]}"
        raise DataError(
            f"Scribbles are painted of up to {UNPAINTED} classes, whose labels are 0, 1, ... (here up to "
            f"{classes - 1}); got {found}: set the number of classes, or make one class of all objects."
        )


@dataclass(frozen=True, eq=False)
class _Region:
    """One object, or one coherent part of the background, in one plane.

    `inside` are its voxels, in a box that begins at `corner`, and `other` are those of other classes.
    """

    plane: int
    corner: tuple[int, int]
    is_background: bool
    inside: Mask
    other: Mask

    @cached_property
    def depth(self) -> Float[np.ndarray, "rows columns"]:
        """Voxels to the nearest one outside; what lies beyond the image is outside."""
        distance = ndimage.distance_transform_edt(np.pad(self.inside, 1))[1:-1, 1:-1]
        return np.minimum(distance, ROOM_BACKGROUND) if self.is_background else distance

    @cached_property
    def boundary(self) -> Float[np.ndarray, "rows columns"]:
        """Voxels to the nearest one of another class; there must be one."""
        return ndimage.distance_transform_edt(~self.other)

    @cached_property
    def middle(self) -> Mask:
        """Where a stroke through the region may begin and end: its skeleton and its core."""
        core = self.depth >= 0.4 * self.depth.max()
        if self.is_background:
            return core
        skeleton = skeletonize(self.inside) & (self.depth >= min(2.0, self.depth.max()))
        return core | skeleton

    @property
    def length(self) -> float:
        """Voxels from end to end, roughly."""
        return float(self.inside.sum() / (2 * self.depth.max()))

    @property
    def has_room_along(self) -> bool:
        return bool(self.other.any() and self.depth.max() >= ROOM_ALONG)


def _choose_planes(
    volume: Integer[np.ndarray, "planes rows columns"], classes: int, voxels: int, rng: np.random.Generator
) -> list[int]:
    """Some planes for each object class, spread over its extent; the background is painted in them, too."""
    planes: set[int] = set()
    for klass in [*range(1, classes), 0]:
        areas = (volume == klass).sum(axis=(1, 2))
        if areas.any() and (klass or not planes):
            count = max(PLANES, math.ceil(voxels / (PAINTED_OF_PLANE * areas[areas > 0].mean())))
            ranks = (np.arange(count) + rng.random(count)) / count * areas.sum()
            planes.update(np.searchsorted(areas.cumsum(), ranks, side="right").tolist())
    return sorted(planes)


def _regions(labels: Integer[np.ndarray, "rows columns"], plane: int, klass: int) -> list[_Region]:
    parts, _ = ndimage.label(labels == klass)
    regions = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        # With a margin of one voxel the nearest voxel of another class is in the box, too.
        box = tuple(slice(max(0, axis.start - 1), axis.stop + 1) for axis in box)
        other = (labels[box] != klass) & (labels[box] != UNPAINTED)
        corner = (box[0].start, box[1].start)
        regions.append(_Region(plane, corner, klass == 0, parts[box] == number, other))
    return regions


def _paint(
    regions: list[_Region], voxels: int, width: tuple[float, float], rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "voxels 3"]]:
    """Strokes in regions of one class, as indices of plane, row and column."""
    if not regions:
        return
    areas = np.array([region.inside.sum() for region in regions])
    left = most = min(voxels, math.ceil(PAINTED_AT_MOST * areas.sum()))
    painted = [np.zeros_like(region.inside) for region in regions]
    appeal = np.sqrt(areas) * (areas >= min(TINY, areas.max()))
    for _ in range(MOST_TRIES):
        if left <= SLACK * most:
            return
        chosen = rng.choice(len(regions), p=appeal / appeal.sum())
        appeal[chosen] /= 4  # who has painted in one object turns to another
        region, before, brush = regions[chosen], painted[chosen], rng.uniform(*width)
        natural = rng.uniform(0.5, 1) * region.length * brush
        wanted = np.clip(natural, most / STROKES[1], most / rng.uniform(*STROKES))
        stroke = _stroke(region, before, left if left < 1.5 * wanted else math.ceil(wanted), brush, rng)
        if stroke is None:
            continue
        left -= int((stroke & ~before).sum())
        before |= stroke
        rows_columns = np.argwhere(stroke) + region.corner
        yield np.column_stack([np.full(len(rows_columns), region.plane), rows_columns])


def _stroke(
    region: _Region, painted: Mask, voxels: int, width: float, rng: np.random.Generator
) -> Mask | None:
    """One stroke of at most so many voxels that are not painted yet; None where the try has failed."""
    width = width if voxels >= width**2 else 1.0  # a last dab
    is_along = region.has_room_along and rng.random() < ALONG_BOUNDARY[not region.is_background]
    ends, effort = _along(region, rng) if is_along else (region.middle, _through(region, rng))
    unpainted = ndimage.distance_transform_edt(~painted) > 2 * width if painted.any() else ~painted
    ends = ends & unpainted if (ends & unpainted).any() else ends
    effort = np.where(unpainted, effort, 4 * effort)
    path = _path(np.argwhere(ends), effort, region.inside, voxels / width, rng)
    if path is None:
        return None
    return _brush(_by_hand(path, region.inside, rng), region, painted, voxels, width)


def _along(region: _Region, rng: np.random.Generator) -> tuple[Mask, Float[np.ndarray, "rows columns"]]:
    """Where a stroke along the boundary may end, and the effort of each voxel on its way."""
    offset = rng.uniform(*BOUNDARY_DISTANCE[not region.is_background])
    away = np.abs(region.boundary - offset)
    # Beyond the image there is no boundary to follow, and nothing to paint on.
    band = region.inside & (away < 1) & (region.depth >= min(2.0, offset - 1))
    return band if band.any() else region.middle, 1 + 4 * np.minimum(away, 10) ** 2


def _through(region: _Region, rng: np.random.Generator) -> Float[np.ndarray, "rows columns"]:
    """The effort of each voxel on the way through a region: less in the middle, and less here and there."""
    shape = region.inside.shape
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma=8, mode="wrap")
    wandering = np.exp((noise - noise.mean()) / max(noise.std(), 1e-6))
    return wandering * (region.depth.max() / np.maximum(region.depth, 0.5)) ** rng.uniform(0.5, 2)


def _path(
    ends: Int[np.ndarray, "ends 2"],
    effort: Float[np.ndarray, "rows columns"],
    inside: Mask,
    length: float,
    rng: np.random.Generator,
) -> Line | None:
    """The way of least effort between two ends at most `length` apart; None where they are not connected."""
    start, end = _far_pair(ends, length, rng)
    low = np.maximum(np.minimum(start, end) - math.ceil(length), 0)
    window = tuple(
        slice(a, b + math.ceil(length) + 1) for a, b in zip(low, np.maximum(start, end), strict=True)
    )
    ways = MCP_Geometric(np.where(inside, effort, -1.0)[window])
    reached, _ = ways.find_costs([start - low], [end - low])
    if not np.isfinite(reached[tuple(end - low)]):
        return None
    return np.array(ways.traceback(end - low), dtype=np.float64) + low


def _far_pair(
    ends: Int[np.ndarray, "ends 2"], length: float, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "2"], Int[np.ndarray, "2"]]:
    """Of a few random pairs that are at most `length` apart the farthest."""
    pairs = []
    for start in ends[rng.integers(len(ends), size=6)]:
        within = ends[np.hypot(*(ends - start).T) <= length]
        pairs += [(start, end) for end in within[rng.integers(len(within), size=4)]]
    return max(pairs, key=lambda pair: np.hypot(*(pair[1] - pair[0])))


def _by_hand(path: Line, inside: Mask, rng: np.random.Generator) -> Line:
    """A path of voxels as a hand would draw it: round, not quite steady, and inside of the region."""
    steps = np.arange(len(path))
    sigma = min(4.0, len(path) / 6)
    tremor = ndimage.gaussian_filter1d(rng.standard_normal(path.shape), sigma=6, axis=0)
    tremor *= TREMOR / max(tremor.std(), TREMOR / 8)
    drawn = ndimage.gaussian_filter1d(path, sigma=sigma, axis=0, mode="nearest") + tremor
    fine = np.linspace(0, len(path) - 1, POINTS_PER_STEP * (len(path) - 1) + 1)
    for freedom in (1.0, 0.7, 0.4, 0.0):
        mixed = path + freedom * (drawn - path)
        points = np.column_stack([np.interp(fine, steps, axis) for axis in mixed.T])
        rows, columns = np.clip(np.rint(points).astype(int), 0, np.array(inside.shape) - 1).T
        if inside[rows, columns].all():
            break
    return points if freedom else path


def _brush(path: Line, region: _Region, painted: Mask, voxels: int, width: float) -> Mask | None:
    """What a round brush leaves that follows a path until so many new voxels are painted."""
    shape = np.array(region.inside.shape)
    reach = np.arange(-math.ceil(width / 2), math.ceil(width / 2) + 1)
    offsets = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    centres = np.clip(np.rint(path).astype(int), 0, shape - 1)
    under = centres[:, None] + offsets
    touched = (np.hypot(*np.moveaxis(under - path[:, None], -1, 0)) <= width / 2) | (offsets == 0).all(-1)
    touched &= ((under >= 0) & (under < shape)).all(-1)
    first = np.full(region.inside.shape, len(path))  # the point of the path that first touches a voxel
    when, _ = np.nonzero(touched)
    np.minimum.at(first, tuple(under[touched].T), when)
    first[~region.inside] = len(path)
    new = np.bincount(first[~painted], minlength=len(path) + 1)[:-1].cumsum()
    stroke = first < np.searchsorted(new, voxels, side="right")
    # Beside a notch of the region the brush may reach over to its other side.
    parts, _ = ndimage.label(stroke, structure=TOUCHING)
    stroke = (parts == parts[tuple(centres[0])]) & stroke
    return stroke if (stroke & ~painted).any() else None
