"""What one training step works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
