"""What SwIPE's encoder leaves of an image: the numbers from which every point is decoded."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.coordinates import image_to_voxel, voxel_to_patch
from swipe_core.networks.encoding import Encoding, read_maps


@dataclass(frozen=True, eq=False, kw_only=True)
class Embeddings(Encoding):
    """What is kept of a batch of images; `Swipe.decode` needs nothing else."""

    projected: Float[Tensor, "batch patches projected"]
    """(batch, patches, projected): The share of D^P's first layers that does not vary inside a patch; patches
    in C order.
    """
    attention: Tensor | None
    """(batch, 4, *grid) or None: MEA weights W of the stages F_2 (finest) to F_5 (coarsest), which sum to 1.
    """
    patch_size: int
    """Edge length S of a patch, in voxels."""
    patch_grid: tuple[int, ...]
    """Number of patches along each axis; the last ones may reach beyond the image."""
    point_maps: tuple[Tensor, ...] = ()
    """each (batch, features, *lattice): What D^P also reads at the point itself; each spans the padded image.
    None in the paper.
    """
    padded_shape: tuple[int, ...] = ()
    """Size of the images in voxels after padding at the far ends."""

    @property
    def stage_weights(self) -> Tensor | None:
        return self.attention

    def features_at(
        self, points_image: Float[Tensor, "batch points ndim"]
    ) -> Float[Tensor, "batch points features"] | None:
        """Return what D^P reads at points, which is linear between the cell centres of the point maps."""
        if not self.point_maps:
            return None
        return torch.cat(
            read_maps(self.point_maps, points_image, self.image_shape, self.padded_shape), dim=-1
        )

    def stage_weights_at(self, points_image: Float[Tensor, "points ndim"]) -> Float[Tensor, "points stages"]:
        if self.attention is None:
            return super().stage_weights_at(points_image)
        points_voxel = image_to_voxel(points_image, self.image_shape)
        index = voxel_to_patch(points_voxel, self.patch_size, self.patch_grid)
        return self.attention[0].movedim(0, -1)[index.unbind(-1)]


@dataclass(frozen=True, eq=False, kw_only=True)
class FullEmbeddings(Embeddings):
    """What `Swipe.encode` returns: all that the loss looks at, which is twice what decoding needs."""

    patch: Tensor
    """(batch, d, *grid): Patch embeddings (Z^P)."""
    image: Float[Tensor, "batch d"]
    """(batch, d): Image embedding (z^I)."""

    def for_decoding(self) -> Embeddings:
        return replace(self.one(0), attention=None)

    def one(self, index: int) -> Embeddings:
        """Return what decoding needs of one image of the batch, as a batch of one."""
        part = slice(index, index + 1)
        return Embeddings(
            image_shape=self.image_shape,
            projected=self.projected[part],
            attention=None if self.attention is None else self.attention[part],
            patch_size=self.patch_size,
            patch_grid=self.patch_grid,
            point_maps=tuple(m[part] for m in self.point_maps),
            padded_shape=self.padded_shape,
        )
