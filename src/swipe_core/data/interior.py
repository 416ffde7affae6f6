"""How deep inside its own object a point lies: what tells touching objects apart.

The distance to the object's own boundary, as a share of the greatest in the object (Schmidt et al. 2018
learn the same as an object's probability). It falls to 0 between neighbours, where the class does not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from torch import Tensor

from swipe_core.coordinates import image_to_voxel


def interior_at(
    points_image: Float[Tensor, "points ndim"],
    objects: Integer[np.ndarray, "*shape"],
    spacing: Sequence[float],
) -> Float[Tensor, " points"]:
    """Return how deep each point lies inside the object of the voxel that holds it.

    Parameters
    ----------
    points_image
        In the image frame of the objects.
    objects
        The number of the object at each voxel; 0 is the background.
    spacing
        Of the voxels.

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
