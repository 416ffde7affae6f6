"""What a field says beside its classes: probability, uncertainty, attention, and where boundaries may lie.

All are generators that yield progress after each chunk of points, so that stopping takes no time.
"""

from collections.abc import Callable, Generator

import numpy as np
from jaxtyping import Float, Shaped

from swipe_core.blocks import cut_blocks
from swipe_core.coordinates import Grid
from swipe_core.errors import ConfigError
from swipe_core.images import ScalarMap
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.progress import Progress

OUTSIDE = 0.05  # probability beyond which the band of 90 % ends
STEP = 0.25  # of the finest spacing, over which slopes are taken


def iter_probability(
    field: OccupancyField, grid: Grid, class_index: int
) -> Generator[Progress, None, ScalarMap]:
    """Return the probability of a class, in [0, 1]; `InferenceConfig.threshold` makes no difference to it.

    Parameters
    ----------
    grid
        Any lattice in the world.
    class_index
        0 for the background, 1, 2, ... for the classes.
    """
    name = class_name(field, class_index)
    sampled = yield from _iter_values(
        field, grid, lambda points: field.probabilities(points)[:, class_index], "Mapping probability"
    )
    return ScalarMap(sampled, grid.affine, field.unit, f"probability of {name}", space=field.space)


def iter_uncertainty(field: OccupancyField, grid: Grid) -> Generator[Progress, None, ScalarMap]:
    """1 - (largest - second largest probability), in [0, 1].

    It is 1 where two classes are equally probable, which a threshold of 0.5 makes the boundary, and
    0 where one class is certain.
    """

    def doubt(points: np.ndarray) -> np.ndarray:
        ordered = np.sort(field.probabilities(points), axis=1)
        return 1 - (ordered[:, -1] - ordered[:, -2])

    sampled = yield from _iter_values(field, grid, doubt, "Mapping uncertainty")
    return ScalarMap(sampled, grid.affine, field.unit, "uncertainty", space=field.space)


def iter_deciding_scale(field: OccupancyField, grid: Grid) -> Generator[Progress, None, Segmentation]:
    """Map the stage that has the largest attention weight: 1 for F_2 (finest) to 4 for F_5.

    The classes are called after the stages and their strides in voxels of the encoded image.
    """
    sampled = yield from _iter_values(
        field, grid, lambda points: 1 + field.attention(points).argmax(axis=1), "Mapping the scale", np.uint8
    )
    strides = enumerate(field.model.stage_strides, start=2)
    names = tuple(f"F_{stage} (stride {stride})" for stage, stride in strides)
    return Segmentation(sampled, grid.affine, field.unit, space=field.space, class_names=names)


def iter_band(field: OccupancyField, grid: Grid) -> Generator[Progress, None, Segmentation]:
    """Map where the boundary of each class lies with a probability of 90 %: where its own is 0.05 to 0.95.

    Where the bands of several classes overlap, the class counts whose probability is nearest to 0.5.
    """

    def band(points: np.ndarray) -> np.ndarray:
        probability = field.probabilities(points)[:, 1:]
        doubt = 0.5 - np.abs(probability - 0.5)
        best = doubt.argmax(axis=1)
        return np.where(doubt.max(axis=1) > OUTSIDE, 1 + best, 0)

    sampled = yield from _iter_values(field, grid, band, "Mapping the band", np.uint8)
    return Segmentation(sampled, grid.affine, field.unit, space=field.space, class_names=field.class_names)


def iter_half_widths(
    field: OccupancyField, points: Float[np.ndarray, "points ndim"], class_index: int
) -> Generator[Progress, None, Float[np.ndarray, " points"]]:
    """Return half the width of the band of 90 % at points on a boundary, in units of the world.

    It is the way along the normal on which the probability goes from 0.5 to 0.95, if its log odds go on as
    steeply as they are at the boundary. Where they are flat it is not a number.
    """
    step, odds = STEP * min(field.grid.spacing), np.log((1 - OUTSIDE) / OUTSIDE)
    slopes = np.empty(points.shape)
    for axis, along in enumerate(np.eye(field.ndim) * step):
        for start in range(0, len(points), field.chunk_points):
            part = slice(start, start + field.chunk_points)
            ahead, behind = (_log_odds(field, points[part] + s * along, class_index) for s in (1, -1))
            slopes[part, axis] = (ahead - behind) / (2 * step)
            yield Progress("Looking how sure it is", axis * len(points) + start, field.ndim * len(points))
    steepness = np.linalg.norm(slopes, axis=1)
    return np.divide(odds, steepness, out=np.full(len(points), np.nan), where=steepness > 0)


def _log_odds(field: OccupancyField, points: np.ndarray, class_index: int) -> np.ndarray:
    inside = np.clip(field.probabilities(points)[:, class_index].astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(inside / (1 - inside))


def class_name(field: OccupancyField, class_index: int) -> str:
    """The name of a class of a field; 0 is the background.

    Raises `ConfigError` when the field has no such class.
    """
    names = ("background", *field.class_names)
    if not 0 <= class_index < len(names):
        known = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
        raise ConfigError(f"This model has no class {class_index}; choose one of {known}.")
    return names[class_index]


def _iter_values(
    field: OccupancyField,
    grid: Grid,
    values: Callable[[np.ndarray], np.ndarray],
    stage: str,
    dtype: type = np.float32,
) -> Generator[Progress, None, Shaped[np.ndarray, "*shape"]]:
    """The values at all voxel centres, evaluated in the world, chunk by chunk."""
    sampled: np.ndarray = np.empty(grid.shape, dtype)
    blocks = cut_blocks(grid.shape, field.chunk_points)
    for done, block in enumerate(blocks, start=1):
        points = grid.window(block.start, block.shape).centres_world()
        sampled[block.slices] = values(points).reshape(block.shape)
        yield Progress(stage, done, len(blocks))
    return sampled
