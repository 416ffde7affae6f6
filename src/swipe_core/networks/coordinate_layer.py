"""The layer by which a network without patches reads where in the image a point lies."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class CoordinateLayer(nn.Linear):
    """A linear layer over coordinates of the image frame, exact under autocast too.

    Added to a layer over features it is the same as one layer over both. Half precision would move points
    by up to a voxel, so there is no matrix product here, which autocast would do in it.
    """

    def __init__(self, ndim: int, outputs: int) -> None:
        super().__init__(ndim, outputs, bias=False)

    def forward(
        self, points_image: Float[Tensor, "batch points ndim"]
    ) -> Float[Tensor, "batch points outputs"]:
        placed = points_image[..., :1] * self.weight[:, 0]
        for axis in range(1, self.in_features):
            placed = placed + points_image[..., axis : axis + 1] * self.weight[:, axis]
        return placed
