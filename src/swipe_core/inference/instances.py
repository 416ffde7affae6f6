"""Touching objects apart: seeds deep inside of them, found once for a field, and watersheds from there.

They are found on a lattice of the field's own. Whatever part of a field is rendered, and however finely, its
objects are those: with the same numbers, and parted along the same lines, which run between voxels.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from swipe_core.blocks import Block
from swipe_core.coordinates import Grid
from swipe_core.images import LabelMap
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.measure.objects import number_objects
from swipe_core.progress import Progress

# Times as fine as the encoded image is the lattice of the seeds: small objects are a few voxels wide.
FINER = {2: 2, 3: 1}
AT_ONCE = 2**20  # points
APART = 2  # voxels


@dataclass(frozen=True, eq=False)
class FieldObjects:
    """The single objects of a field, numbered from 1 on: those with a seed first, in C order."""

    grid: Grid
    """The lattice on which they were found."""
    objects: Int[np.ndarray, "*shape"]
    """(*shape) int32: The number of the object at each voxel; 0 is the background, and what is left out."""

    @property
    def count(self) -> int:
        return int(self.objects.max(initial=0))

    def at(self, points_voxel: Float[np.ndarray, "points ndim"]) -> Int[np.ndarray, " points"]:
        """Return the object that has most of each point, as the numbers of the voxels about it interpolate.

        Parameters
        ----------
        points_voxel
            In the voxel frame of `grid`, inside of a class.

        Returns
        -------
        (points,) int32
            0 only where all voxels about a point are outside, or left out.
        """
        last = np.array(self.grid.shape) - 1
        points = np.clip(points_voxel, 0, last)
        low = np.minimum(points.astype(np.int64), np.maximum(last - 1, 0))
        share = points - low
        corners = list(itertools.product((0, 1), repeat=self.grid.ndim))
        numbers = np.stack([self.objects[tuple(np.minimum(low + c, last).T)] for c in corners], axis=1)
        result, is_clear = numbers[:, 0].copy(), (numbers == numbers[:, :1]).all(axis=1)
        parted, share = numbers[~is_clear], share[~is_clear]
        weights = np.stack([np.prod(np.where(c, share, 1 - share), axis=1) for c in corners], axis=1)
        votes = np.where(parted, 0.0, -1.0)
        for weight, number in zip(weights.T, parted.T, strict=True):
            votes += weight[:, None] * ((parted == number[:, None]) & (parted > 0))
        result[~is_clear] = parted[np.arange(len(parted)), votes.argmax(axis=1)]
        return result

    def colours(self) -> Int[np.ndarray, " numbers"]:
        """Return a small number for each object, from 1 on, that no object near it has; 0 for the background.

        Objects of one colour are at least `APART` voxels from each other.
        """
        shape, pairs = self.objects.shape, list[np.ndarray]()
        for offset in itertools.product(range(-APART, APART + 1), repeat=self.grid.ndim):
            if offset > (0,) * self.grid.ndim:
                first, last = (
                    self.objects[
                        tuple(
                            slice(max(0, s * o), n + min(0, s * o))
                            for o, n in zip(offset, shape, strict=True)
                        )
                    ]
                    for s in (1, -1)
                )
                is_met = (first != last) & (first > 0) & (last > 0)
                pairs.append(np.unique(np.stack([first[is_met], last[is_met]], axis=1), axis=0))
        beside: list[set[int]] = [set() for _ in range(self.count + 1)]
        for one, other in np.concatenate(pairs).tolist():
            beside[one].add(other)
            beside[other].add(one)
        colours = [0] * (self.count + 1)
        for number in range(1, self.count + 1):
            taken = {colours[other] for other in beside[number]}
            colours[number] = next(colour for colour in itertools.count(1) if colour not in taken)
        return np.array(colours, np.int32)


def iter_objects(field: OccupancyField, segmentation: Segmentation) -> Generator[Progress, None, LabelMap]:
    """Give every object that a field was rendered with a number of its own.

    Touching ones are told apart where the model has learned it, or where `InferenceConfig.touching` says so;
    else objects are connected parts of a class.

    Parameters
    ----------
    segmentation
        The field, rendered on any lattice.

    Returns
    -------
    LabelMap
        int32. Of objects that are told apart, numbers are the same whatever the lattice; one without a
        voxel there, since it lies elsewhere or is smaller than one, is missing.
    """
    if not field.tells_apart:
        return number_objects(segmentation)
    found = yield from iter_field_objects(field)
    return numbered(found, segmentation)


def numbered(found: FieldObjects, segmentation: LabelMap) -> LabelMap:
    """Give what a field was rendered with the numbers of its objects, which were found before.

    `segmentation`: the field, rendered on any lattice, also of a small part of it.
    """
    objects = np.zeros(segmentation.shape, np.int32)
    to_found = found.grid.affine.inverse() @ segmentation.affine
    slices = max(1, AT_ONCE * len(objects) // max(1, objects.size))
    for start in range(0, len(objects), slices):
        where = np.argwhere(segmentation.array[start : start + slices]) + np.eye(1, objects.ndim) * start
        objects[tuple(where.astype(np.int64).T)] = found.at(to_found.apply(where))
    return LabelMap(objects, segmentation.affine, segmentation.unit, space=segmentation.space)


def object_lattice(encoded: Grid) -> Grid:
    """The lattice on which the objects of a field are found, from that of the encoded image."""
    return encoded.scaled(FINER[encoded.ndim])


def iter_field_objects(field: OccupancyField) -> Generator[Progress, None, FieldObjects]:
    """Find the objects of a field; yields progress.

    Each connected part of what is deeper inside than `InferenceConfig.seed_threshold` is the seed of one,
    and so is all of a connected part of a class in which no point is as deep. Those that stay smaller than
    `InferenceConfig.smallest_object` lose their seed. By distance, the places farthest inside a class are
    the seeds, of which two are one object where the neck between them is too wide.
    """
    found, _ = yield from _iter_found(field, object_lattice(field.grid))
    return found


def iter_part_objects(
    field: OccupancyField, part: Block, smallest: float | None = None
) -> Generator[Progress, None, tuple[FieldObjects, Integer[np.ndarray, " numbers"]]]:
    """Find the objects of a part of a field, as `iter_field_objects`, and who they are in the whole.

    Parameters
    ----------
    part
        Of `object_lattice`.
    smallest
        Voxels below which objects are left out; by default a share of what is typical of the part.

    Returns
    -------
    FieldObjects
        Of the part, numbered from 1 on.
    (numbers,) int64
        For each number, and for 0, one that an object has in all parts that hold it whole: where in the
        whole lattice its deepest voxel lies, plus 1; 0 for the background.
    """
    whole = object_lattice(field.grid)
    found, interior = yield from _iter_found(field, whole.window(part.start, part.shape), smallest)
    numbers = np.arange(1, found.count + 1)
    deepest = ndimage.maximum_position(interior, found.objects, numbers) if len(numbers) else []
    places = np.array(deepest, dtype=np.int64).reshape(-1, whole.ndim) + part.start
    identities = 1 + np.ravel_multi_index(tuple(places.T), whole.shape)
    return found, np.concatenate([[0], identities]).astype(np.int64)


def _iter_found(
    field: OccupancyField, grid: Grid, smallest: float | None = None
) -> Generator[Progress, None, tuple[FieldObjects, Float[np.ndarray, "*shape"]]]:
    """The objects on a lattice, and how deep inside of them each voxel lies."""
    classes = yield from field.iter_render(grid)
    if field.config.touching == "distance":
        inside = classes.array
        interior = _depth(inside, grid.affine.spacing)
        seeds = _peaks(interior, field.config.seed_threshold)
    else:
        inside = classes.array > 0
        interior = yield from _iter_interior(field, grid, inside)
        seeds = _seeds(interior, inside, field.config.seed_threshold)
    objects = _flooded(interior, seeds, inside)
    sizes = np.bincount(objects.ravel())
    if smallest is None:
        smallest = field.config.smallest_object * typical_size(sizes[1:])
    is_large = sizes >= smallest
    is_large[0] = False
    if not is_large[1:].all():
        seeds = np.where(is_large, np.cumsum(is_large), 0)[seeds]
        objects = _flooded(interior, seeds, inside)
    return FieldObjects(grid, objects), interior


def typical_size(sizes: Integer[np.ndarray, " objects"]) -> float:
    """The size above which half of all that is inside lies: specks, be they many, do not change it."""
    ordered = np.sort(sizes)
    total = np.cumsum(ordered)
    return float(ordered[np.searchsorted(total, total[-1] / 2)]) if len(ordered) else 0.0


def _seeds(
    interior: Float[np.ndarray, "*shape"], inside: Bool[np.ndarray, "*shape"], threshold: float
) -> Int[np.ndarray, "*shape"]:
    """Number the deep parts of a class, and then its connected parts that are nowhere deep."""
    seeds, count = ndimage.label(interior > threshold)
    parts, number = _parts(inside)
    is_shallow = np.ones(number + 1, bool)
    is_shallow[0] = False
    is_shallow[parts[seeds > 0]] = False
    alone = is_shallow[parts]
    seeds[alone] = count + np.cumsum(is_shallow)[parts[alone]]
    return seeds


def _depth(classes: Integer[np.ndarray, "*shape"], spacing: Sequence[float]) -> Float[np.ndarray, "*shape"]:
    """How far inside its class each voxel lies, in units of the world; 0 in the background."""
    depth = np.zeros(classes.shape)
    for number in np.unique(classes[classes > 0]):
        own = classes == number
        if own.all():  # no boundary is in sight
            return own.astype(np.float64)
        depth[own] = ndimage.distance_transform_edt(own, spacing)[own]
    return depth


def _peaks(depth: Float[np.ndarray, "*shape"], neck: float) -> Int[np.ndarray, "*shape"]:
    """Number the deepest places, less those from which a way to deeper ones keeps `neck` of their depth."""
    from skimage.morphology import local_maxima, reconstruction

    around = np.ones((3,) * depth.ndim, bool)
    filled = reconstruction(neck * depth, depth, footprint=around)
    is_peak = local_maxima(np.pad(filled, 1), connectivity=depth.ndim)[(slice(1, -1),) * depth.ndim]
    return ndimage.label(is_peak & (depth > 0), around)[0]


def _iter_interior(
    field: OccupancyField, grid: Grid, where: Bool[np.ndarray, "*shape"]
) -> Generator[Progress, None, Float[np.ndarray, "*shape"]]:
    """Sample how deep inside its object each voxel lies, where that matters; 0 elsewhere."""
    interior = np.zeros(grid.shape, np.float32)
    to_voxel, points = field.grid.affine.inverse() @ grid.affine, np.argwhere(where)
    for start in range(0, len(points), field.chunk_points):
        part = points[start : start + field.chunk_points]
        interior[tuple(part.T)] = field.interior(to_voxel.apply(part.astype(np.float64)), frame="voxel")
        yield Progress("Telling objects apart", start + len(part), len(points))
    return interior


def _parts(inside: Bool[np.ndarray, "*shape"]) -> tuple[Integer[np.ndarray, "*shape"], int]:
    """Number the connected parts, by faces, edges and corners; with their count."""
    return ndimage.label(inside, np.ones((3,) * inside.ndim))


def _flooded(
    interior: Float[np.ndarray, "*shape"],
    seeds: Int[np.ndarray, "*shape"],
    inside: Bool[np.ndarray, "*shape"] | Integer[np.ndarray, "*shape"],
) -> Int[np.ndarray, "*shape"]:
    """Grow the seeds over all that is inside, from the deepest points to the boundaries, and no further than
    their own classes where `inside` has several.
    """
    from skimage.segmentation import watershed

    objects, relief = np.zeros(inside.shape, np.int32), np.where(seeds, -np.inf, -interior)
    for part in np.unique(inside[inside > 0]):
        own = inside == part
        objects += watershed(relief, np.where(own, seeds, 0), connectivity=interior.ndim, mask=own)
    return objects
