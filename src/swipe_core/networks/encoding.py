"""What a network leaves of a batch of images, and where that of many images is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoding:
    """All that is kept of a batch of images: tensors, the batch first, from which every point is answered.

    Attributes
    ----------
    image_shape
        Size of the images in voxels, before any padding: what the image frame refers to.
    """

    image_shape: tuple[int, ...]

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors there are, in the order of the fields."""
        found: list[Tensor] = []
        for f in fields(self):
            value = getattr(self, f.name)
            found += value if _is_sequence(value) else [value] if isinstance(value, Tensor) else []
        return found

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    @property
    def nbytes(self) -> int:
        """Memory of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Encoding:
        """The same with every tensor changed."""

        def of(value: object) -> object:
            if _is_sequence(value):
                return tuple(map(change, value))
            return change(value) if isinstance(value, Tensor) else value

        changed: dict[str, Any] = {f.name: of(getattr(self, f.name)) for f in fields(self)}
        return replace(self, **changed)

    def one(self, index: int) -> Encoding:
        """What is kept of one image of the batch, as a batch of one."""
        return self.mapped(lambda tensor: tensor[index : index + 1])

    def apart(self) -> Sequence[Encoding]:
        """What is kept of each image of the batch, as batches of one."""
        return [self.one(index) for index in range(len(self.tensors[0]))]

    def to(self, device: torch.device | str) -> Encoding:
        """The same on another device."""
        return self.mapped(lambda tensor: tensor.to(device))


def _is_sequence(value: object) -> TypeGuard[tuple[Tensor, ...]]:
    return isinstance(value, tuple) and len(value) > 0 and isinstance(value[0], Tensor)


class EncodingShelf:
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
        self._all: Encoding | None = None

    def put(self, encoded: Encoding) -> Sequence[Encoding]:
        """Copies of the images of a batch, each as a batch of one."""
        batch = len(encoded.tensors[0])
        own = slice(self._filled, self._filled + batch)
        for index in range(batch):
            one = encoded.one(index)
            if self._all is None:
                self._all = one.mapped(lambda tensor: tensor.new_empty(self._count, *tensor.shape[1:]))
            for kept, new in zip(self._all.tensors, one.tensors, strict=True):
                kept[self._filled + index] = new[0]
        self._filled = own.stop
        assert self._all is not None
        return self._all.apart()[own]
