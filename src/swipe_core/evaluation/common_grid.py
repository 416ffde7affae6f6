"""Labels of anything on the grid of a reference: label maps on other grids, and continuous segmentations."""

import itertools
import math
from collections.abc import Generator, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Integer
from scipy import ndimage

from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import DataError
from swipe_core.images import LabelMap
from swipe_core.images.units import conversion
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.instances import iter_objects
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.progress import Notice, Progress

Labels = Integer[np.ndarray, "*shape"]
Reports = Progress | Notice

SLAB_VOXELS = 2**22  # that are sampled between two reports
SLACK = 1e-3  # voxels by which an extent may be missed: headers are in single precision


def iter_resampled(labels: LabelMap, reference: LabelMap) -> Generator[Reports, None, Labels]:
    """The label at each voxel centre of a reference: that of the nearest voxel; yields progress.

    Both are placed by their affines, and where their units are lengths, these are converted. Outside of the
    label map there is background, and where the reference reaches there, a notice says so. Raises `DataError`
    when the two differ in dimension, or do not meet in the world.
    """
    if labels.ndim != reference.ndim:
        raise DataError(
            f"The prediction has {labels.ndim} axes and the reference {reference.ndim}: compare volumes with "
            "volumes, and images with images."
        )
    placed = Grid(labels.shape, _units(labels.ndim, labels.unit, reference.unit) @ labels.affine)
    yield from _iter_coverage(placed, reference.grid)
    return (yield from _iter_nearest(labels.array, placed, reference.grid))


def iter_rendered(
    field: OccupancyField, reference: LabelMap, *, as_objects: bool = False
) -> Generator[Reports, None, Labels]:
    """A field rendered on the grid of a reference, its classes or its single objects; yields progress.

    Beyond its image a field is a guess: there is background, and where the reference reaches there, a notice
    says so. Raises `DataError` when the two differ in dimension, or do not meet in the world.
    """
    if field.ndim != reference.ndim:
        raise DataError(
            f"The segmentation is {field.ndim}D and the reference {reference.ndim}D: compare volumes with "
            "volumes, and images with images."
        )
    world = _units(field.ndim, field.unit, reference.unit)
    image = Grid(field.image_grid.shape, world @ field.image_grid.affine)
    is_covered = yield from _iter_coverage(image, reference.grid)
    grid = Grid(reference.shape, world.inverse() @ reference.affine)
    classes = yield from iter_sampled(field, rendering_on(grid))
    rendered: LabelMap = classes
    if as_objects:
        rendered = yield from iter_sampled(field, partial(iter_objects, segmentation=classes))
    if is_covered:
        return rendered.array
    everywhere = np.ones(image.shape, rendered.array.dtype)
    return rendered.array * (yield from _iter_nearest(everywhere, image, reference.grid))


def _units(ndim: int, unit: str, target: str) -> Affine:
    return Affine.from_spacing([conversion(unit, target)] * ndim)


def _iter_coverage(prediction: Grid, reference: Grid) -> Generator[Notice, None, bool]:
    """Return whether every voxel centre of the reference lies in the prediction; a notice says if not.

    That none can is a `DataError`.
    """
    if not _meet(prediction, reference):
        raise DataError(
            "The prediction and the reference do not meet in the world: give them the same scale, units and "
            "position, which are those of the image that both are of."
        )
    is_covered = _holds(prediction, reference)
    if not is_covered:
        yield Notice("The prediction does not cover all of the reference: beyond it counts as background.")
    return is_covered


def _meet(grid: Grid, other: Grid) -> bool:
    """Whether the box of a grid reaches into another; for turned ones, whether the box around it does."""
    borders = (other.affine.inverse() @ grid.affine).apply(_corners(grid.shape, margin=0.5))
    high, last = borders.max(axis=0), np.asarray(other.shape) - 0.5
    return bool((high > -0.5).all() and (borders.min(axis=0) < last).all())


def _holds(grid: Grid, other: Grid) -> bool:
    """Whether all voxel centres of the other lie in the box of a grid."""
    centres = (grid.affine.inverse() @ other.affine).apply(_corners(other.shape))
    last = np.asarray(grid.shape) - 0.5 + SLACK
    return bool((centres >= -0.5 - SLACK).all() and (centres <= last).all())


def _corners(shape: Sequence[int], margin: float = 0.0) -> Float[np.ndarray, "corners ndim"]:
    return np.array(list(itertools.product(*((-margin, n - 1 + margin) for n in shape))), float)


def _iter_nearest(array: Labels, grid: Grid, target: Grid) -> Generator[Progress, None, Labels]:
    """The values of the nearest voxels, in slabs along the first axis; 0 outside of the grid."""
    to_voxel = grid.affine.inverse() @ target.affine
    if grid.shape == target.shape and np.allclose(to_voxel.matrix, np.eye(grid.ndim + 1), atol=1e-6):
        return array
    sampled = np.zeros(target.shape, array.dtype)
    rows = max(1, SLAB_VOXELS // math.prod(target.shape[1:]))
    for start in range(0, target.shape[0], rows):
        slab = sampled[start : start + rows]
        first = np.zeros(grid.ndim)
        first[0] = start
        # "grid-constant" takes a voxel as far as its border, "constant" only to its centre.
        ndimage.affine_transform(
            array, to_voxel.linear, to_voxel.apply(first), slab.shape, slab, order=0, mode="grid-constant"
        )
        yield Progress("Sampling the prediction", min(start + rows, len(sampled)), len(sampled))
    return sampled
