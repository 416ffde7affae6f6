"""Label map -> points with occupancies, the only form in which training sees a label.

Sec. 2.3 and 3.1 of Zhang et al. 2023: Latin Hypercube sampling, the same number of points for every
foreground class, half of them within 10 voxels of the class's boundary, and background points besides.
Voxels that the user corrected after a look at a prediction give a share of the points of their class.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from torch import Tensor

from swipe_core.coordinates import image_to_voxel, voxel_to_image
from swipe_core.errors import DataError

# Where less of a class's bounding box than this is admissible, its voxels are listed instead.
LOWEST_ACCEPTANCE = 0.05
MOST_POINTS_PER_CORRECTION = 10  # drawn from each corrected voxel

Propose = Callable[[int], Float[np.ndarray, "candidates ndim"]]


class SamplingConfig(BaseModel):
    """How many points are drawn from one label map, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    foreground_points: int = Field(2000, ge=0, description="Points of each foreground class.")
    background_points: int = Field(4000, ge=0, description="Points of the background.")
    boundary_share: float = Field(
        0.5, ge=0, le=1, description="Share of each foreground class's points drawn near its boundary."
    )
    background_boundary_share: float = Field(
        0.0, ge=0, le=1, description="The same for the background; the paper asks for none."
    )
    boundary_width: float = Field(
        10.0, ge=1, description="What 'near' means: voxels to the closest voxel of another class."
    )
    corrected_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the points of each class drawn from corrected voxels, if there are enough.",
    )


@dataclass(frozen=True, eq=False)
class PointPool:
    """The points sampled from one label map, grouped by class."""

    points_image: Float[Tensor, "points ndim"]
    """(points, ndim) float32: Continuous positions in the image frame of the label map."""
    classes: Int[Tensor, " points"]
    """(points,) int64: The class that occupies each point; 0 is the background."""
    corrected: Bool[Tensor, " points"]
    """(points,) bool: Which points make up the share that is drawn from corrected voxels."""
    interior: Float[Tensor, " points"] | None = None
    """(points,) float32, optional: How deep inside its own object each point lies, as `interior_at` has it.
    """

    def __len__(self) -> int:
        return len(self.classes)


def sample_points(
    label_map: Integer[np.ndarray, "*shape"],
    classes: int,
    config: SamplingConfig,
    generator: torch.Generator,
    ignore_label: int | None = None,
    corrected: Bool[np.ndarray, "*shape"] | None = None,
) -> PointPool:
    """Draw points of every class in a label map, each with the label of the voxel that it lies in.

    Of a class that has corrected voxels, the corrected share is drawn from these, and the boundary share is
    one of the other points. The points outside the boundary share are drawn from the whole class, band
    included. A class without voxels has no points; one without a neighbouring class has no band, and all of
    its points come from the whole class. The border of the array and the border to unlabelled voxels are not
    boundaries of a class. Raises `DataError` when the map has no voxel of any class, or no points are to be
    drawn of those it has.

    `label_map` (*shape): values in [0, `classes`) or `ignore_label`.
    `classes`: number of classes including the background.
    `generator`: the only source of randomness; on the CPU.
    `ignore_label`: value of unlabelled voxels, which are never sampled, corrected or not.
    `corrected` (*shape) bool, optional: the voxels whose labels the user corrected. Where there is none, the
    points are the same, bit by bit, as without the argument.
    """
    codes = label_map.astype(np.int32) + 1  # 0 where unlabelled, as `ndimage.find_objects` wants it
    if ignore_label is not None:
        codes[label_map == ignore_label] = 0
    if corrected is None:
        corrected = np.zeros(label_map.shape, bool)
    pools = [
        _sample_class(codes, corrected, klass, box, config, generator)
        for klass, box in enumerate(ndimage.find_objects(codes, max_label=classes))
        if box is not None
    ]
    if not sum(map(len, pools)):
        raise DataError(
            "A label map needs a class to draw points of; give sampling.foreground_points or "
            "sampling.background_points for the classes it holds."
        )
    return PointPool(
        points_image=torch.cat([pool.points_image for pool in pools]),
        classes=torch.cat([pool.classes for pool in pools]),
        corrected=torch.cat([pool.corrected for pool in pools]),
    )


def draw_points(
    available: Int[Tensor, " available"], count: int, generator: torch.Generator
) -> Int[Tensor, " count"]:
    """Draw `count` of the given indices of a pool; none is repeated before all have been taken.

    Classes keep the proportions that they have among the available points, and so those of
    `SamplingConfig` where the whole pool is available. There must be one available point at least.
    """
    rounds = max(1, math.ceil(count / len(available)))
    order = [torch.randperm(len(available), generator=generator) for _ in range(rounds)]
    return available[torch.cat(order)[:count]]


def latin_hypercube(count: int, ndim: int, generator: torch.Generator) -> Float[np.ndarray, "count ndim"]:
    """Draw points in [0, 1)^ndim such that each of `count` equal intervals of each axis holds exactly one."""
    strata = torch.stack([torch.randperm(count, generator=generator) for _ in range(ndim)], dim=-1)
    within = torch.rand(count, ndim, dtype=torch.float64, generator=generator)
    return ((strata + within) / count).numpy()


def _sample_class(
    codes: Int[np.ndarray, "*shape"],
    corrected: Bool[np.ndarray, "*shape"],
    klass: int,
    box: tuple[slice, ...],
    config: SamplingConfig,
    generator: torch.Generator,
) -> PointPool:
    """The points of one class, those of its boundary first and those of its corrected voxels last."""
    count = config.foreground_points if klass else config.background_points
    share = config.boundary_share if klass else config.background_boundary_share
    # One voxel of margin holds the nearest voxel of another class, unless unlabelled ones lie between.
    margin = math.ceil(config.boundary_width) if (codes == 0).any() else 1
    start = np.array([max(0, axis.start - margin) for axis in box])
    reach = tuple(slice(s, axis.stop + margin) for s, axis in zip(start, box, strict=True))
    crop = codes[reach]
    inside = crop == klass + 1
    again = inside & corrected[reach]
    # A slip of the brush must not take half of all points.
    most = MOST_POINTS_PER_CORRECTION * int(np.count_nonzero(again))
    again_count = min(round(config.corrected_share * count), most)
    near_count = round(share * (count - again_count))
    near = _boundary_band(crop, inside, config.boundary_width) if near_count else inside
    parts = [
        (near if near.any() else inside, near_count),
        (inside, count - near_count - again_count),
        (again, again_count),
    ]
    points = [_sample_mask(part, start, box, codes.shape, number, generator) for part, number in parts]
    return PointPool(
        points_image=torch.from_numpy(np.concatenate(points)),
        classes=torch.full((count,), klass),
        corrected=torch.arange(count) >= count - again_count,
    )


def _boundary_band(
    crop: Int[np.ndarray, "*crop"], inside: Bool[np.ndarray, "*crop"], width: float
) -> Bool[np.ndarray, "*crop"]:
    """Voxels of the class with the centre of a voxel of another class at most `width` voxels away."""
    other = (crop != 0) & ~inside
    if not other.any():
        return np.zeros_like(inside)
    return inside & (ndimage.distance_transform_edt(~other) <= width)


def _sample_mask(
    admissible: Bool[np.ndarray, "*crop"],
    start: Int[np.ndarray, " ndim"],
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    count: int,
    generator: torch.Generator,
) -> Float[np.ndarray, "count ndim"]:
    """`count` image-frame points in the admissible voxels of a crop that begins at voxel `start`.

    Candidates are drawn until enough of them have fallen into an admissible voxel. They are tested
    after rounding to float32, so that the rounding cannot carry a point across a voxel border.
    """
    low = np.array([axis.start for axis in box])
    size = np.array([axis.stop - axis.start for axis in box])
    acceptance = admissible.sum() / size.prod()
    if acceptance < LOWEST_ACCEPTANCE:
        propose, acceptance = _voxel_proposal(np.argwhere(admissible) + start, generator), 1.0
    else:
        propose = _box_proposal(low, size, generator)
    accepted, missing = [np.empty((0, len(shape)), np.float32)], count
    while missing:
        candidates = voxel_to_image(propose(math.ceil(missing / acceptance)), shape).astype(np.float32)
        voxels = np.floor(image_to_voxel(candidates.astype(np.float64), shape) + 0.5).astype(np.int64) - start
        voxels = np.clip(voxels, 0, np.array(admissible.shape) - 1)
        accepted.append(candidates[admissible[tuple(voxels.T)]][:missing])
        missing -= len(accepted[-1])
    return np.concatenate(accepted)


def _box_proposal(
    low: Int[np.ndarray, " ndim"], size: Int[np.ndarray, " ndim"], generator: torch.Generator
) -> Propose:
    """Latin Hypercube over a box of voxels; positions in the voxel frame."""
    return lambda count: low - 0.5 + size * latin_hypercube(count, len(low), generator)


def _voxel_proposal(voxels: Int[np.ndarray, "voxels ndim"], generator: torch.Generator) -> Propose:
    """Even steps through a list of voxels, and a uniform position inside each voxel met."""

    def propose(count: int) -> Float[np.ndarray, "count ndim"]:
        ranks = latin_hypercube(count, 1, generator)[:, 0] * len(voxels)
        jitter = torch.rand(count, voxels.shape[1], dtype=torch.float64, generator=generator).numpy()
        return voxels[ranks.astype(np.int64)] + jitter - 0.5

    return propose


def interior_at(
    points_image: Float[Tensor, "points ndim"],
    objects: Integer[np.ndarray, "*shape"],
    spacing: Sequence[float],
) -> Float[Tensor, " points"]:
    """Return how deep each point lies inside the object of the voxel that holds it.

    `points_image`: in the image frame of the objects.
    `objects`: the number of the object at each voxel; 0 is the background.
    `spacing`: of the voxels.

    Returns
    -------
    (points,) float32
        1 at the deepest voxel of an object, 0 at its boundary and in the background. The border of the array
        is no boundary: an object that is cut there goes on.
    """
    points_voxel = image_to_voxel(points_image.double(), objects.shape).numpy()
    last = np.array(objects.shape) - 1
    voxels = np.clip(np.floor(points_voxel + 0.5), 0, last).astype(np.intp)
    _, numbers = np.unique(objects, return_inverse=True)  # numbers of objects may be of any size
    numbers = numbers.reshape(objects.shape) + (0 if (objects == 0).any() else 1)
    own = numbers[tuple(voxels.T)]
    interior = np.zeros(len(own), np.float32)
    boxes = ndimage.find_objects(numbers)
    order = np.argsort(own, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(own[order])) + 1):
        number = own[rows[0]] if len(rows) else 0
        if number:
            box = tuple(slice(max(0, axis.start - 1), axis.stop + 1) for axis in boxes[number - 1])
            depth = _depth(numbers[box] == number, spacing)
            start = [axis.start for axis in box]
            at = ndimage.map_coordinates(depth, (points_voxel[rows] - start).T, order=1, mode="nearest")
            interior[rows] = at.clip(0, 1)
    return torch.from_numpy(interior)


def _depth(mask: Bool[np.ndarray, "*box"], spacing: Sequence[float]) -> Float[np.ndarray, "*box"]:
    """The signed distance to the boundary, half way between voxels, as a share of the greatest inside."""
    if mask.all():  # an array of one object alone
        return np.ones(mask.shape)
    inside = ndimage.distance_transform_edt(mask, spacing)
    return (inside - ndimage.distance_transform_edt(~mask, spacing)) / inside.max()
