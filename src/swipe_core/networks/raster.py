"""What all networks with logits at every voxel share: between the voxels these are interpolated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.networks.encoding import FeatureMaps, LogitMap
from swipe_core.networks.layers import padded_to, rounded_up
from swipe_core.networks.segmenter import Prediction, Segmenter


class RasterSegmenter(Segmenter[LogitMap]):
    """A network from images to logits on the same lattice of voxels."""

    size_multiple: int = 1
    """Images are padded to multiples of this many voxels: what one cell of the coarsest map spans."""

    def __init__(self, ndim: int, channels: int, classes: int) -> None:
        super().__init__()
        self.ndim, self.channels, self.classes = ndim, channels, classes

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the size that images are padded to, since the network takes only some sizes."""
        return rounded_up(shape, self.size_multiple)

    @abstractmethod
    def logit_maps(self, images: Float[Tensor, "batch channels *shape"]) -> Sequence[Tensor]:
        """Return logits (batch, classes, *shape) of images of a padded size, then side outputs.

        Side outputs are given in training mode only, and may be on coarser lattices.
        """

    def forward(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Return logits, and those of side outputs, interpolated at the points."""
        logits, sides = self._encoded(images)
        return Prediction(logits.at(points_image)[0], sides=tuple(sides.at(points_image)))

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> LogitMap:
        """Return the logits of images of any size."""
        return self._encoded(images)[0]

    def _encoded(self, images: Float[Tensor, "batch channels *shape"]) -> tuple[LogitMap, FeatureMaps]:
        """The logits without those of the padding, and the side outputs with it."""
        shape = tuple(images.shape[2:])
        padded = self.padded_shape(shape)
        logits, *sides = self.logit_maps(padded_to(images, padded))
        inside = (slice(None), slice(None), *(slice(n) for n in shape))
        return (
            LogitMap.of(logits[inside]),
            FeatureMaps(image_shape=shape, padded_shape=padded, maps=tuple(sides)),
        )

    def decode(
        self,
        encoding: LogitMap,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """Return logits interpolated at points; where these lie in the source makes no difference."""
        return encoding.at(points_image)[0]

    def decode_voxels(self, encoding: LogitMap) -> Float[Tensor, "batch classes *shape"]:
        """Return the logits themselves."""
        return encoding.maps[0]
