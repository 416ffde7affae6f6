"""SwIPE: encode an image once into patch embeddings, then answer "which class is here?" anywhere."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from swipe_core.coordinates import image_to_voxel, voxel_to_local, voxel_to_patch
from swipe_core.model.backbone import Backbone
from swipe_core.model.decoder import FourierFeatures, PointDecoder
from swipe_core.model.embeddings import Embeddings, FullEmbeddings
from swipe_core.model.neck import Neck
from swipe_core.model.overreach import draw_neighbours
from swipe_core.model.segmenter import Prediction

Blending = Literal["nearest", "linear"]


class Swipe(nn.Module):
    """The network of Zhang et al. 2023, in 2D or 3D, from parts that `build_swipe` puts together.

    Parameters
    ----------
    fourier
        Features of the patch-local coordinate p^P.
    image_decoder
        D^I, or None where it is switched off.
    condition_on_image
        Give z^I and p^I to D^P.
    condition_on_source
        Give p^S to D^P.
    overreach, connectivity
        N_SPO and con: how many neighbouring patches answer for each training point, and which
        patches are neighbours.
    blending
        How patches share a point: its own patch decides (``nearest``), or the patches whose centres
        surround it are averaged by distance (``linear``), which makes the field continuous.
    blending_width
        Width of the zone about a patch border in which ``linear`` averages, in patches, in (0, 1].
        With 1 every point asks 2^ndim patches; with 0.5 it asks 2.25 in 2D and 3.4 in 3D on average.
    """

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck,
        patch_decoder: PointDecoder,
        image_decoder: PointDecoder | None,
        fourier: FourierFeatures,
        *,
        patch_size: int,
        condition_on_image: bool,
        condition_on_source: bool,
        overreach: int,
        connectivity: int,
        blending: Blending,
        blending_width: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.patch_decoder = patch_decoder
        self.image_decoder = image_decoder
        self.fourier = fourier
        self.patch_size = patch_size
        self.condition_on_image = condition_on_image
        self.condition_on_source = condition_on_source
        self.overreach = overreach
        self.connectivity = connectivity
        self.blending: Blending = blending
        self.blending_width = blending_width

    @property
    def size_multiple(self) -> int:
        """Images are padded to multiples of this many voxels, so that all lattices coincide."""
        return math.lcm(self.backbone.strides[-1], self.neck.stride, self.patch_size)

    def forward(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """All that the loss needs of a batch: D^P, D^I and, in training, overreaching D^P."""
        embeddings = self.encode(images)
        index = self._home_patch(embeddings, points_image)[:, :, None]
        if self.training and self.overreach:
            drawn = draw_neighbours(
                index[:, :, 0], embeddings.patch_grid, self.overreach, self.connectivity, generator
            )
            index = torch.cat([index, drawn], dim=2)
        logits = self._decode_patches(embeddings, points_image[:, :, None], points_source[:, :, None], index)
        return Prediction(
            patch=logits[:, :, 0],
            image=self.decode_image(embeddings, points_image) if self.image_decoder is not None else None,
            overreach=logits[:, :, 1:] if index.shape[2] > 1 else None,
            embedding_norm=_mean_squared_norm(embeddings.patch) + _mean_squared_norm(embeddings.image),
        )

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> FullEmbeddings:
        """Embeddings of a batch of images of any size (padded here, and nobody else notices)."""
        shape = tuple(images.shape[2:])
        padded_shape = tuple(-(-n // self.size_multiple) * self.size_multiple for n in shape)
        padding = [p for n, m in zip(shape[::-1], padded_shape[::-1], strict=True) for p in (0, m - n)]
        padded = functional.pad(images, padding, mode="replicate") if any(padding) else images
        patch, image, attention = self.neck(
            self.backbone(padded),
            image_shape=shape,
            padded_shape=padded_shape,
            patch_size=self.patch_size,
        )
        projected = self.patch_decoder.project(self._condition(patch, image))
        return FullEmbeddings(
            patch=patch,
            image=image,
            projected=projected,
            attention=attention,
            image_shape=shape,
            patch_size=self.patch_size,
            patch_grid=tuple(patch.shape[2:]),
        )

    def decode(
        self,
        embeddings: Embeddings,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
        *,
        blending: Blending | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """Logits of D^P at points of the image frame.

        Parameters
        ----------
        points_source
            The same points in the frame of the uncropped image; the same numbers by default.
        blending
            Overrides the model's own.
        """
        points_source = points_image if points_source is None else points_source
        if (blending or self.blending) == "nearest":
            index = self._home_patch(embeddings, points_image)
            return self._decode_patches(embeddings, points_image, points_source, index)
        return self._decode_blended(embeddings, points_image, points_source)

    def decode_plain(
        self,
        embeddings: FullEmbeddings,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """`decode` (nearest) by its definition: every point multiplies its own copy of the embeddings."""
        points_source = points_image if points_source is None else points_source
        index = self._home_patch(embeddings, points_image)
        conditions = _gather(self._condition(embeddings.patch, embeddings.image), index, embeddings)
        coordinates = self._coordinates(embeddings, points_image, points_source, index)
        return self.patch_decoder.plain(conditions, coordinates)

    def decode_image(
        self, embeddings: FullEmbeddings, points_image: Float[Tensor, "batch points ndim"]
    ) -> Float[Tensor, "batch points classes"]:
        """Logits of D^I, from the image embedding alone."""
        if self.image_decoder is None:
            raise ValueError("This model was built without an image decoder.")
        return self.image_decoder(self.image_decoder.project(embeddings.image)[:, None], points_image)

    def for_inference(self) -> Swipe:
        """A copy in evaluation mode whose point decoders have their normalisation folded in."""
        model = copy.deepcopy(self).eval().requires_grad_(False)
        model.patch_decoder = model.patch_decoder.folded()
        if model.image_decoder is not None:
            model.image_decoder = model.image_decoder.folded()
        return model.requires_grad_(False)

    def _condition(self, patch: Tensor, image: Tensor) -> Float[Tensor, "batch patches condition"]:
        condition = patch.flatten(2).transpose(1, 2)
        if not self.condition_on_image:
            return condition
        return torch.cat([condition, image[:, None].expand(-1, condition.shape[1], -1)], dim=-1)

    def _coordinates(
        self, embeddings: Embeddings, points_image: Tensor, points_source: Tensor, index: Tensor
    ) -> Tensor:
        points_voxel = image_to_voxel(points_image, embeddings.image_shape)
        parts = [self.fourier(voxel_to_local(points_voxel, index, embeddings.patch_size))]
        leading = index.shape[:-1]
        if self.condition_on_image:
            parts.append(points_image.expand(*leading, -1))
        if self.condition_on_source:
            parts.append(points_source.expand(*leading, -1))
        return torch.cat(parts, dim=-1)

    def _decode_patches(
        self, embeddings: Embeddings, points_image: Tensor, points_source: Tensor, index: Tensor
    ) -> Tensor:
        projected = _gather(embeddings.projected, index, embeddings)
        return self.patch_decoder(
            projected, self._coordinates(embeddings, points_image, points_source, index)
        )

    def _decode_blended(
        self, embeddings: Embeddings, points_image: Tensor, points_source: Tensor
    ) -> Float[Tensor, "batch points classes"]:
        """The weighted mean of the surrounding patches' answers; patches without weight are not asked."""
        batch, points = points_image.shape[:2]
        total = points_image.new_zeros(batch, points, self.patch_decoder.output.out_features)
        for index, weight in self._surrounding_patches(embeddings, points_image):
            seen = (weight > 0).any(dim=0).nonzero()[:, 0]
            if len(seen):
                logits = self._decode_patches(
                    embeddings, points_image[:, seen], points_source[:, seen], index[:, seen]
                )
                total.index_add_(1, seen, weight[:, seen, None] * logits)
        return total

    def _home_patch(self, embeddings: Embeddings, points_image: Tensor) -> Int[Tensor, "*points ndim"]:
        points_voxel = image_to_voxel(points_image, embeddings.image_shape)
        return voxel_to_patch(points_voxel, embeddings.patch_size, embeddings.patch_grid)

    def _surrounding_patches(
        self, embeddings: Embeddings, points_image: Tensor
    ) -> Iterator[tuple[Int[Tensor, "*points ndim"], Float[Tensor, "*points"]]]:
        """The 2^ndim patches whose centres surround each point, with weights that sum to 1."""
        points_voxel = image_to_voxel(points_image, embeddings.image_shape)
        position = (points_voxel + 0.5) / embeddings.patch_size - 0.5
        lower = torch.floor(position)
        # Beyond the blending zone about the border one patch has all the weight.
        fraction = ((position - lower - 0.5) / self.blending_width + 0.5).clamp(0, 1)
        last = torch.as_tensor(embeddings.patch_grid, device=position.device) - 1
        for corner in itertools.product((0, 1), repeat=position.shape[-1]):
            step = torch.tensor(corner, device=position.device)
            index = torch.minimum((lower.long() + step).clamp(min=0), last)
            yield index, torch.where(step.bool(), fraction, 1 - fraction).prod(dim=-1)


def _gather(values: Tensor, index: Tensor, embeddings: Embeddings) -> Tensor:
    """Rows of (batch, patches, width) for patch indices of shape (batch, ..., ndim)."""
    flat = index[..., 0]
    for axis, size in enumerate(embeddings.patch_grid[1:], start=1):
        flat = flat * size + index[..., axis]
    batch, patches, width = values.shape
    offset = torch.arange(batch, device=flat.device).view(-1, *([1] * (flat.ndim - 1))) * patches
    return values.reshape(-1, width).index_select(0, (flat + offset).flatten()).view(*flat.shape, width)


def _mean_squared_norm(vectors: Float[Tensor, "batch d *positions"]) -> Float[Tensor, ""]:
    return vectors.float().square().sum(dim=1).mean()
