"""An image in memory in the place of one that is read part by part."""

from __future__ import annotations

import hashlib

import numpy as np

from swipe_core.images import MedicalImage
from swipe_core.images.stored import StoredImage


def stored_in_memory(image: MedicalImage) -> StoredImage:
    return StoredImage(
        shape=image.shape,
        channels=image.channels,
        dtype=image.array.dtype,
        affine=image.affine,
        unit=image.unit,
        chunks=image.shape,
        identity=hashlib.sha256(np.ascontiguousarray(image.array).data).hexdigest(),
        path=image.path,
        voxels=lambda slices: image.array[slices],
        first=(0,) * image.ndim,
        space=image.space,
        channel_axis=image.channel_axis,
        channel_names=image.channel_names,
    )
