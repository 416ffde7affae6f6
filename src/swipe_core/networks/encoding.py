"""What a network leaves of a batch of images, and where that of many images is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.coordinates import image_to_voxel, sample_each_at, voxel_to_image

if TYPE_CHECKING:
    from swipe_core.networks.segmenter import Segmenter


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoding:
    """All that is kept of a batch of images: tensors, the batch first, from which every point is decoded."""

    image_shape: tuple[int, ...]
    """Size of the images in voxels, before any padding: what the image frame refers to."""

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

    @property
    def stage_weights(self) -> Tensor | None:
        """The attention weights (batch, stages, *grid) of a network that weighs its stages, else None."""
        return None

    def stage_weights_at(self, points_image: Float[Tensor, "points ndim"]) -> Float[Tensor, "points stages"]:
        """Return the attention weights of the patch that holds each point, of a batch of one image."""
        raise ValueError("This encoding has no stages to weigh.")

    def decoded_by(
        self,
        model: Segmenter,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
    ) -> Float[Tensor, "batch points classes"]:
        """Return the logits at points, for which most encodings need the network that made them."""
        return model.decode(self, points_image, points_source)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Encoding:
        """Return the same with every tensor changed."""

        def of(value: object) -> object:
            if _is_sequence(value):
                return tuple(map(change, value))
            return change(value) if isinstance(value, Tensor) else value

        changed: dict[str, Any] = {f.name: of(getattr(self, f.name)) for f in fields(self)}
        return replace(self, **changed)

    def one(self, index: int) -> Encoding:
        """Return what is kept of one image of the batch, as a batch of one."""
        return self.mapped(lambda tensor: tensor[index : index + 1])

    def for_decoding(self) -> Encoding:
        """Return what decoding reads, without what is only looked at."""
        return self

    def apart(self) -> Sequence[Encoding]:
        """Return what is kept of each image of the batch, as batches of one."""
        return [self.one(index) for index in range(len(self.tensors[0]))]

    def to(self, device: torch.device | str) -> Encoding:
        """Return the same on another device."""
        return self.mapped(lambda tensor: tensor.to(device))


def _is_sequence(value: object) -> TypeGuard[tuple[Tensor, ...]]:
    return isinstance(value, tuple) and len(value) > 0 and isinstance(value[0], Tensor)


def read_maps(
    maps: Sequence[Tensor],
    points_image: Float[Tensor, "batch points ndim"],
    image_shape: Sequence[int],
    padded_shape: Sequence[int],
) -> list[Tensor]:
    """Return the features of maps at points, (batch, points, width) each, in single precision at least.

    They are linear between cell centres; beyond the outermost centres those of the border count.

    `maps` each (batch, width, *lattice): each spans the padded image, whatever its stride.
    `image_shape` and `padded_shape`: sizes of the images in voxels before and after padding at the far ends.
    """
    points = voxel_to_image(image_to_voxel(points_image, image_shape), padded_shape)
    exact = (m.to(torch.promote_types(m.dtype, torch.float32)) for m in maps)
    return [sample_each_at(m, points, "border").movedim(1, -1) for m in exact]


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureMaps(Encoding):
    """Maps over an image, which points between the voxels interpolate: for networks without patches."""

    maps: tuple[Tensor, ...]
    """each (batch, width, *lattice): Each spans the padded image, whatever its stride."""
    padded_shape: tuple[int, ...]
    """Size of the images in voxels after padding at the far ends."""

    def at(self, points_image: Float[Tensor, "batch points ndim"]) -> list[Tensor]:
        """Return the features of every map at points, (batch, points, width) each."""
        return read_maps(self.maps, points_image, self.image_shape, self.padded_shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitMap(FeatureMaps):
    """Logits at every voxel of an image, `maps[0]`: points between the voxels need no network any more."""

    @classmethod
    def of(cls, logits: Float[Tensor, "batch classes *shape"]) -> LogitMap:
        shape = tuple(logits.shape[2:])
        return cls(image_shape=shape, padded_shape=shape, maps=(logits,))

    def decoded_by(
        self,
        model: Segmenter,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
    ) -> Float[Tensor, "batch points classes"]:
        """Return the interpolated logits."""
        return self.at(points_image)[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectedMaps(FeatureMaps):
    """Maps over an image whose logits are corrected in places, by what is added to them."""

    correction: Float[Tensor, "batch classes *lattice"]
    """Added to the logits; it spans the image, whatever its stride, and is linear between cell centres."""

    def decoded_by(
        self,
        model: Segmenter,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
    ) -> Float[Tensor, "batch points classes"]:
        """Return the logits of the network, corrected."""
        logits = super().decoded_by(model, points_image, points_source)
        return logits + sample_each_at(self.correction, points_image, "border").movedim(1, -1)


class EncodingBuffer:
    """What is kept of many images of one shape, in one piece of memory.

    Kept one by one between the temporaries of encoding, which are much larger, they would leave gaps
    in the heap of a CPU that nothing else fits into, of twice their own size.

    `count`: number of the images that are to come.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._filled = 0
        self._all: Encoding | None = None

    def put(self, encoded: Encoding) -> Sequence[Encoding]:
        """Return copies of the images of a batch, each as a batch of one."""
        first, batch = self._filled, len(encoded.tensors[0])
        for index, one in enumerate(encoded.one(index) for index in range(batch)):
            if self._all is None:
                self._all = one.mapped(lambda tensor: tensor.new_empty(self._count, *tensor.shape[1:]))
            for kept, new in zip(self._all.tensors, one.tensors, strict=True):
                kept[first + index] = new[0]
        self._filled += batch
        return [] if self._all is None else self._all.apart()[first : first + batch]
