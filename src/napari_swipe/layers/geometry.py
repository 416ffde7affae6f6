"""Where a layer lies in the world, as one of the core's affines, and the way back to layer arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from swipe_core.errors import ImageError

if TYPE_CHECKING:
    from napari.layers import Layer

    from swipe_core.coordinates import Affine


def layer_matrix(layer: Layer) -> np.ndarray:
    """A layer's data (voxel) coordinates to its world, (ndim + 1, ndim + 1), over all its axes."""
    ndim = layer.ndim
    matrix = np.eye(ndim + 1)
    matrix[:-1, -1] = layer.data_to_world(np.zeros(ndim))
    for axis, unit in enumerate(np.eye(ndim)):
        matrix[:-1, axis] = np.asarray(layer.data_to_world(unit)) - matrix[:-1, -1]
    return matrix


def spatial_affine(matrix: np.ndarray, spatial: Sequence[int], name: str) -> Affine:
    """The part of a layer's matrix over its spatial axes.

    An `ImageError` is raised when the layer is turned or sheared between its spatial axes and others.
    """
    from swipe_core.coordinates import Affine

    check_unmixed(matrix, spatial, name)
    return Affine.from_parts(matrix[np.ix_(spatial, spatial)], matrix[spatial, -1])


def check_unmixed(matrix: np.ndarray, spatial: Sequence[int], name: str) -> None:
    """See that a layer has an extent along every axis, and that its spatial axes stand apart from others.

    An `ImageError` is raised when it has none, or is turned or sheared between them.
    """
    linear = matrix[:-1, :-1]
    lengths = np.linalg.norm(linear, axis=0)
    if not (
        np.isfinite(matrix).all() and (lengths > 0).all() and abs(np.linalg.det(linear / lengths)) > 1e-9
    ):
        raise ImageError(
            f"The layer {name} has no extent along some axis: set its scale to positive numbers, and its "
            "transform to one that can be inverted."
        )
    others = [axis for axis in range(len(matrix) - 1) if axis not in spatial]
    mixed = np.abs(matrix[np.ix_(spatial, others)]).sum() + np.abs(matrix[np.ix_(others, spatial)]).sum()
    # What is left by single precision, as in a NIfTI header, is no rotation.
    if mixed > 1e-4 * np.linalg.norm(matrix[:-1, :-1], axis=0).min():
        raise ImageError(
            f"The layer {name} is rotated or sheared between its spatial axes and its others: "
            "choose other spatial axes, or reset its transform."
        )


def placement(matrix: np.ndarray) -> dict[str, Any]:
    """The arguments `scale` and `affine` of a layer with this matrix; the spacing is the scale."""
    linear = matrix[:-1, :-1]
    spacing = np.linalg.norm(linear, axis=0)
    rest = np.eye(len(matrix))
    rest[:-1, :-1] = linear / spacing
    rest[:-1, -1] = matrix[:-1, -1]
    return {"scale": tuple(float(step) for step in spacing), "affine": rest}


def in_one_unit(affine: Affine, units: Sequence[str]) -> tuple[Affine, str]:
    """The same place with one unit for all axes: that of the last one.

    It is the pixel as soon as one axis has no unit of length.
    """
    from swipe_core.images.units import common_unit

    unit, factors = common_unit(units)
    return affine.from_spacing(factors) @ affine, unit
