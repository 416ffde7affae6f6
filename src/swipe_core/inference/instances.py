"""Touching objects apart: seeds deep inside of them, found once for a field, and watersheds from there.

The seeds are found on a lattice of the field's own. On whatever lattice it is rendered, objects are theirs:
as many, with the same numbers, and with boundaries as fine as that lattice.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from swipe_core.coordinates import Grid
from swipe_core.images import LabelMap
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.measure.objects import number_objects
from swipe_core.progress import Progress

# Times as fine as the encoded image is the lattice of the seeds: small objects are a few voxels wide.
FINER = {2: 2, 3: 1}


@dataclass(frozen=True, eq=False)
class FieldObjects:
    """The single objects of a field, numbered from 1 on: those with a seed first, in C order.

    Attributes
    ----------
    grid
        The lattice on which they were found.
    cores : (*shape)
        The number of the object to which a voxel and all about it belong, as far as they are in one; 0 where
        that is none, and between objects, where a finer lattice decides. A seed is always a core.
    deepest : (objects, ndim)
        The voxel of the lattice that is deepest inside of each.
    """

    grid: Grid
    cores: Int[np.ndarray, "*shape"]
    deepest: Int[np.ndarray, "objects ndim"]


def iter_objects(field: OccupancyField, segmentation: Segmentation) -> Generator[Progress, None, LabelMap]:
    """Give every object that a field was rendered with a number of its own.

    Touching ones are told apart where the model has learned it; else objects are connected parts of a class.

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
    if not field.model.has_interior:
        return number_objects(segmentation)
    found = yield from iter_field_objects(field)
    grid, inside = segmentation.grid, segmentation.array > 0
    markers = _markers(found, grid, inside)
    interior = yield from _iter_interior(field, grid, inside & (markers == 0))
    objects = _flooded(interior, markers, inside)
    return LabelMap(objects, segmentation.affine, segmentation.unit, space=segmentation.space)


def iter_field_objects(field: OccupancyField) -> Generator[Progress, None, FieldObjects]:
    """Find the objects of a field; yields progress.

    Each connected part of what is deeper inside than `InferenceConfig.seed_threshold` is the seed of one,
    and so is all of a connected part of a class in which no point is as deep. Those that stay smaller than
    `InferenceConfig.smallest_object` lose their seed.
    """
    grid = field.grid.scaled(FINER[field.ndim])
    classes = yield from field.iter_render(grid)
    inside = classes.array > 0
    interior = yield from _iter_interior(field, grid, inside)
    seeds = _seeds(interior, inside, field.config.seed_threshold)
    objects = _flooded(interior, seeds, inside)
    is_large = _are_large(np.bincount(objects.ravel()), field.config.smallest_object)
    if not is_large[1:].all():
        seeds = np.where(is_large, np.cumsum(is_large), 0)[seeds]
        objects = _flooded(interior, seeds, inside)
    numbers = np.arange(1, seeds.max(initial=0) + 1)
    deepest = ndimage.maximum_position(interior, seeds, numbers) if len(numbers) else []
    cores = np.where(seeds, seeds, _unambiguous(objects))
    return FieldObjects(grid, cores, np.array(deepest, dtype=np.int64).reshape(-1, grid.ndim))


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


def _are_large(sizes: Int[np.ndarray, " numbers"], share: float) -> Bool[np.ndarray, " numbers"]:
    """Which objects count, the first entry being the background, which does not.

    Half of all that is inside belongs to objects larger than a typical one: specks, be they many, do not
    change it.
    """
    objects = sizes[1:]
    order = np.sort(objects)
    total = np.cumsum(order)
    typical = order[np.searchsorted(total, total[-1] / 2)] if len(order) else 0
    return np.concatenate([[False], objects >= share * typical])


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


def _unambiguous(objects: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """The number of the only object that a voxel and those about it belong to; 0 for none or several."""
    highest = ndimage.maximum_filter(objects, 3, mode="nearest")
    none = np.iinfo(np.int32).max
    lowest = ndimage.minimum_filter(np.where(objects, objects, none), 3, mode="nearest")
    return np.where(lowest == highest, highest, 0)


def _markers(
    found: FieldObjects, grid: Grid, inside: Bool[np.ndarray, "*shape"]
) -> Int[np.ndarray, "*shape"]:
    """From where objects grow on another lattice: the cores at the nearest voxels of their own."""
    to_found = found.grid.affine.inverse() @ grid.affine
    nearest = np.rint(to_found.apply(np.argwhere(inside).astype(np.float64))).astype(np.int64)
    markers = np.zeros(grid.shape, np.int32)
    markers[inside] = found.cores[tuple(np.clip(nearest, 0, np.array(found.grid.shape) - 1).T)]
    # A small object may lie between the voxels of a coarse lattice.
    missing = np.setdiff1d(np.arange(1, len(found.deepest) + 1), markers)
    own = np.rint(to_found.inverse().apply(found.deepest[missing - 1].astype(np.float64))).astype(np.int64)
    for number, voxel in zip(missing.tolist(), map(tuple, own.tolist()), strict=True):
        if all(0 <= v < n for v, n in zip(voxel, grid.shape, strict=True)) and inside[voxel]:
            markers[voxel] = number
    return markers


def _parts(inside: Bool[np.ndarray, "*shape"]) -> tuple[Integer[np.ndarray, "*shape"], int]:
    """Number the connected parts, by faces, edges and corners; with their count."""
    return ndimage.label(inside, np.ones((3,) * inside.ndim))


def _flooded(
    interior: Float[np.ndarray, "*shape"],
    markers: Int[np.ndarray, "*shape"],
    inside: Bool[np.ndarray, "*shape"],
) -> Int[np.ndarray, "*shape"]:
    """Grow the markers over all that is inside, from the deepest points to the boundaries."""
    from skimage.segmentation import watershed

    return watershed(
        np.where(markers, -1, -interior), markers, connectivity=interior.ndim, mask=inside
    ).astype(np.int32)
