"""What an encoder leaves of an image: the numbers from which every point is answered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Embeddings:
    """What is kept of a batch of images; `Swipe.decode` needs nothing else.

    Attributes
    ----------
    projected : (batch, patches, projected)
        The share of D^P's first layers that does not vary inside a patch; patches in C order.
    attention : (batch, 4, *grid) or None
        MEA weights W of the stages F_2 (finest) to F_5 (coarsest), which sum to 1.
    image_shape
        Size of the images in voxels, before any padding: what the image frame refers to.
    patch_size
        Edge length S of a patch, in voxels.
    patch_grid
        Number of patches along each axis; the last ones may reach beyond the image.
    """

    projected: Float[Tensor, "batch patches projected"]
    attention: Tensor | None
    image_shape: tuple[int, ...]
    patch_size: int
    patch_grid: tuple[int, ...]

    def one(self, index: int) -> Embeddings:
        """One image of the batch, as a batch of one."""
        part = slice(index, index + 1)
        return Embeddings(
            projected=self.projected[part],
            attention=None if self.attention is None else self.attention[part],
            image_shape=self.image_shape,
            patch_size=self.patch_size,
            patch_grid=self.patch_grid,
        )

    def apart(self) -> list[Embeddings]:
        """Each image of the batch as a batch of one."""
        return [self.one(index) for index in range(len(self.projected))]

    def to(self, device: torch.device | str) -> Embeddings:
        """The same on another device."""
        attention = None if self.attention is None else self.attention.to(device)
        return replace(self, projected=self.projected.to(device), attention=attention)


@dataclass(frozen=True, eq=False, kw_only=True)
class FullEmbeddings(Embeddings):
    """What `Swipe.encode` returns: all that the loss looks at, which is twice what decoding needs.

    Attributes
    ----------
    patch : (batch, d, *grid)
        Patch embeddings (Z^P).
    image : (batch, d)
        Image embedding (z^I).
    """

    patch: Tensor
    image: Float[Tensor, "batch d"]


class EmbeddingShelf:
    """What is kept of many images of one shape, in one piece of memory.

    Kept one by one between the temporaries of encoding, which are much larger, they would leave gaps
    in the heap of a CPU that nothing else fits into, of twice their own size.

    Parameters
    ----------
    count
        Of the images that are to come.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._filled = 0
        self._all: Embeddings | None = None

    def put(self, encoded: Embeddings) -> list[Embeddings]:
        """Copies of the images of a batch, each as a batch of one."""
        if self._all is None:
            attention = encoded.attention
            self._all = replace(
                encoded.one(0),
                projected=encoded.projected.new_empty(self._count, *encoded.projected.shape[1:]),
                attention=None
                if attention is None
                else attention.new_empty(self._count, *attention.shape[1:]),
            )
        own = slice(self._filled, self._filled + len(encoded.projected))
        self._all.projected[own] = encoded.projected
        if self._all.attention is not None and encoded.attention is not None:
            self._all.attention[own] = encoded.attention
        self._filled = own.stop
        return self._all.apart()[own]

    def _room_for(self, batch: Tensor) -> Tensor:
        return batch.new_empty(self._count, *batch.shape[1:])
