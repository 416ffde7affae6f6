"""What networks without patches leave of an image: maps, which points between the voxels interpolate."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from swipe_core.coordinates import image_to_voxel, sample_each_at, voxel_to_image
from swipe_core.networks.encoding import Encoding


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureMaps(Encoding):
    """Maps over an image, and perhaps a code for the whole of it.

    Attributes
    ----------
    maps : each (batch, width, *lattice)
        Each spans the padded image, whatever its stride.
    code : (batch, length) or None
        Of the whole image.
    padded_shape
        Size of the images in voxels after padding at the far ends.
    """

    maps: tuple[Tensor, ...]
    padded_shape: tuple[int, ...]
    code: Float[Tensor, "batch length"] | None = None

    def at(self, points_image: Float[Tensor, "batch points ndim"]) -> list[Tensor]:
        """The features of every map at points, (batch, points, width) each: linear between cell centres.

        Beyond the outermost centres those of the border count.
        """
        points = self.in_padded(points_image)
        return [sample_each_at(m.float(), points, "border").movedim(1, -1) for m in self.maps]

    def in_padded(
        self, points_image: Float[Tensor, "batch points ndim"]
    ) -> Float[Tensor, "batch points ndim"]:
        """Points of the image frame in that of the padded image."""
        return voxel_to_image(image_to_voxel(points_image, self.image_shape), self.padded_shape)
