"""What a field says beside its classes: probability, uncertainty and attention, voxel by voxel.

All are generators that yield progress after each chunk of points, so that stopping takes no time.
"""

from collections.abc import Callable, Generator

import numpy as np
from jaxtyping import Shaped

from swipe_core.blocks import cut_blocks
from swipe_core.coordinates import Grid
from swipe_core.errors import ConfigError
from swipe_core.images import ScalarMap
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.progress import Progress


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
