"""What one training step works on: images with points, or with whole masks and their centres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

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


@dataclass(frozen=True, eq=False)
class Batch:
    """Images and, for each, points with the class that occupies them."""

    images: Float[Tensor, "batch channels *shape"]
    """(batch, channels, *shape)"""
    points_image: Float[Tensor, "batch points ndim"]
    points_source: Float[Tensor, "batch points ndim"]
    """`points_image` and `points_source`, (batch, points, ndim): the same points in the frame of the
    (augmented) crop and of the image it came from.
    """
    classes: Int[Tensor, "batch points"]
    """(batch, points)"""
    pairs_image: Float[Tensor, "batch pairs two ndim"]
    pairs_source: Float[Tensor, "batch pairs two ndim"]
    """`pairs_image` and `pairs_source`, (batch, pairs, 2, ndim): pairs of neighbouring points anywhere in the
    crop, without classes, in the same two frames.
    """
    names: tuple[str, ...]
    """Cases, for messages."""
    lattice: tuple[int, ...] | None = None
    """Of whole masks, the shape of the images: the points are the centres of all their voxels in C order, and
    classes may be -1, where a point is unlabelled or outside of the image that the crop was cut from. None
    where the points lie anywhere.
    """
    interior: Float[Tensor, "batch points"] | None = None
    """(batch, points): How deep inside its own object each point lies; None where that is not learned."""

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the same batch in page-locked memory, from which a GPU copies while it works."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Put batches of one kind one after the other; their images must have one size."""
        each = [batch._tensors() for batch in batches]
        joined: dict[str, Any] = {name: torch.cat([tensors[name] for tensors in each]) for name in each[0]}
        names = tuple(name for batch in batches for name in batch.names)
        return replace(batches[0], **joined, names=names)

    def split(self, parts: int) -> list[Batch]:
        """Return at most `parts` smaller batches, for accumulating gradients."""
        size = -(-len(self) // parts)
        return [self._rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def _rows(self, rows: slice) -> Batch:
        return replace(self._mapped(lambda tensor: tensor[rows]), names=self.names[rows])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self._tensors().items()}
        return replace(self, **changed)

    def _tensors(self) -> dict[str, Tensor]:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}
