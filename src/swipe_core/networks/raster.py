"""What all networks with one answer per voxel share: between the voxels their logits are interpolated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.networks.encoding import Encoding
from swipe_core.networks.feature_maps import FeatureMaps
from swipe_core.networks.layers import padded_to
from swipe_core.networks.segmenter import Prediction, Segmenter


class Interpolation(Segmenter):
    """No network: logits that are there already, on a lattice of voxels, at any point."""

    def __init__(self, ndim: int, channels: int, classes: int) -> None:
        super().__init__()
        self.ndim, self.channels, self.classes = ndim, channels, classes

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> FeatureMaps:
        """Never asked for: there is nothing to learn from an image."""
        raise NotImplementedError

    def decode(
        self,
        encoding: Encoding,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """Logits interpolated at points; where these lie in the source makes no difference."""
        assert isinstance(encoding, FeatureMaps)
        return encoding.at(points_image)[0]

    def answer_everywhere(self, encoding: Encoding) -> Float[Tensor, "batch classes *shape"]:
        """The logits themselves."""
        assert isinstance(encoding, FeatureMaps)
        return encoding.maps[0]


class RasterSegmenter(Interpolation):
    """A network from images to logits on the same lattice of voxels."""

    @abstractmethod
    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The size that images are padded to, since the network takes only some sizes."""

    @abstractmethod
    def logit_maps(self, images: Float[Tensor, "batch channels *shape"]) -> Sequence[Tensor]:
        """Logits (batch, classes, *shape) for images of a padded size: those that count, then side outputs.

        Side outputs are given in training mode only, and may be on coarser lattices.
        """

    def forward(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Logits, and those of side outputs, interpolated at the points."""
        padded = self._encoded(images)
        sides = replace(padded, maps=padded.maps[1:]).at(points_image)
        return Prediction(self.decode(_cropped(padded), points_image), sides=tuple(sides))

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> FeatureMaps:
        """The logits of images of any size."""
        return _cropped(self._encoded(images))

    def _encoded(self, images: Float[Tensor, "batch channels *shape"]) -> FeatureMaps:
        shape = tuple(images.shape[2:])
        padded = self.padded_shape(shape)
        maps = self.logit_maps(padded_to(images, padded))
        return FeatureMaps(image_shape=shape, padded_shape=padded, maps=tuple(maps))


def _cropped(padded: FeatureMaps) -> FeatureMaps:
    """The logits that count, without those of the padding."""
    shape = padded.image_shape
    inside = (slice(None), slice(None), *(slice(n) for n in shape))
    return FeatureMaps(image_shape=shape, padded_shape=shape, maps=(padded.maps[0][inside],))
