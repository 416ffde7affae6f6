"""What one training step works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Images and, for each, points with the class that occupies them.

    Attributes
    ----------
    images : (batch, channels, *shape)
    points_image, points_source : (batch, points, ndim)
        The same points in the frame of the (augmented) crop and of the image it came from.
    classes : (batch, points)
    pairs_image, pairs_source : (batch, pairs, 2, ndim)
        Pairs of neighbouring points anywhere in the crop, without classes, in the same two frames.
    names
        Cases, for messages.
    """

    images: Float[Tensor, "batch channels *shape"]
    points_image: Float[Tensor, "batch points ndim"]
    points_source: Float[Tensor, "batch points ndim"]
    classes: Int[Tensor, "batch points"]
    pairs_image: Float[Tensor, "batch pairs two ndim"]
    pairs_source: Float[Tensor, "batch pairs two ndim"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=True)
            for f in fields(self)
            if f.name != "names"
        }
        return Batch(**moved, names=self.names)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies while it works."""
        pinned = {f.name: getattr(self, f.name).pin_memory() for f in fields(self) if f.name != "names"}
        return Batch(**pinned, names=self.names)

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Batches one after the other; their images must have one size."""
        joined = {
            f.name: torch.cat([getattr(batch, f.name) for batch in batches])
            for f in fields(cls)
            if f.name != "names"
        }
        return cls(**joined, names=tuple(name for batch in batches for name in batch.names))

    def split(self, parts: int) -> list[Batch]:
        """At most `parts` smaller batches, for accumulating gradients."""
        size = -(-len(self) // parts)
        return [
            Batch(**{f.name: getattr(self, f.name)[start : start + size] for f in fields(self)})
            for start in range(0, len(self), size)
        ]
