"""Whole masks: the class at every voxel of a crop, looked up in the label map and never interpolated."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from swipe_core.coordinates import Affine, voxel_centres, voxel_to_image
from swipe_core.data.augmentation import SpatialTransform
from swipe_core.data.labels import LabelConfig

UNLABELLED = -1  # the class of points that no label says anything of
TIE = 1e-6  # voxels


def class_map_of(labels: Integer[np.ndarray, "*labels"], config: LabelConfig) -> Int[Tensor, "*labels"]:
    """Return the class of every voxel of a label map, -1 where unlabelled, in as few bytes as it needs."""
    dtype = np.int8 if config.classes <= 128 else np.int16
    classes = labels.astype(dtype)
    if config.ignore_label is not None:
        classes[labels == config.ignore_label] = UNLABELLED
    return torch.from_numpy(classes)


@lru_cache(maxsize=1)
def centres_image(shape: tuple[int, ...]) -> Float[Tensor, "voxels ndim"]:
    """Return all voxel centres in the image frame, in C order; the same for all crops of a size."""
    return torch.from_numpy(voxel_to_image(voxel_centres(shape), shape)).float()


def classes_at_voxels(spatial: SpatialTransform, class_map: Int[Tensor, "*labels"]) -> Int[Tensor, " voxels"]:
    """Return the class of the label voxel at the centre of each voxel of a crop, in C order; -1 outside.

    Nothing is interpolated. In double precision, and where a centre lies between two label voxels, as
    where every other voxel was kept, the further one is taken: rounding must not choose for each anew.
    """
    source_image = Affine.image_from_voxel(spatial.source_shape) @ spatial.affine
    to_label = Affine.image_from_voxel(class_map.shape).inverse() @ source_image
    flat, inside = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool)
    for size, steps, origin in zip(class_map.shape, to_label.linear, to_label.origin, strict=True):
        position = torch.tensor(float(origin) + 0.5 + TIE, dtype=torch.float64)
        for axis, (count, step) in enumerate(zip(spatial.output_shape, steps, strict=True)):
            if step:  # without rotation each of the small sums runs along one axis alone
                along = torch.arange(count, dtype=torch.float64) * float(step)
                position = position + along.reshape(-1, *[1] * (len(spatial.output_shape) - axis - 1))
        index = position.floor().long()
        inside = inside & (index >= 0) & (index < size)
        flat = flat * size + index
    found = class_map.take(flat.where(inside, 0)).long()
    return found.where(inside, UNLABELLED).flatten()
