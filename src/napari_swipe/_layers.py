"""Between the core's nouns and napari's layers: the only module that knows both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from swipe_core.coordinates import Affine
    from swipe_core.images import MedicalImage

LayerData = tuple[np.ndarray, dict[str, Any], str]

SPATIAL_LABELS = ("z", "y", "x")


def image_layer_data(image: MedicalImage) -> LayerData:
    """An image as napari takes it from a reader: data, the arguments of `add_image`, "image".

    The layer's `scale` is the voxel spacing, and its `affine` the rest of the way to the world:
    direction (rotation, mirroring, shear) and origin. Three channels of bytes are shown as colour;
    other channels, or points in time, become a leading axis with a slider.
    """
    is_colour = image.channels == 3 and image.array.dtype == np.uint8
    leading = 0 if is_colour or image.channels == 1 else 1
    arguments = {
        "name": image.path.name if image.path else "image",
        "scale": (1.0,) * leading + image.spacing,
        "affine": _placement(image.affine, leading),
        "units": ("pixel",) * leading + (image.unit,) * image.ndim,
        "axis_labels": ("channel",) * leading + SPATIAL_LABELS[-image.ndim :],
        "rgb": is_colour,
    }
    return _channels_as_napari(image.array, is_colour), arguments, "image"


def _channels_as_napari(array: np.ndarray, is_colour: bool) -> np.ndarray:
    if is_colour:
        return array
    return array[..., 0] if array.shape[-1] == 1 else np.moveaxis(array, -1, 0)


def _placement(affine: Affine, leading: int) -> np.ndarray:
    """What remains of an affine once the spacing is taken out, with `leading` axes left as they are."""
    matrix = np.eye(leading + affine.ndim + 1)
    matrix[leading:-1, leading:-1] = affine.direction
    matrix[leading:-1, -1] = affine.origin
    return matrix
