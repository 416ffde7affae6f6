"""SwIPE: encode an image once into patch embeddings, then answer "which class is here?" anywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from swipe_core.coordinates import image_to_voxel, voxel_to_local, voxel_to_patch
from swipe_core.networks.encoding import Encoding
from swipe_core.networks.layers import padded_to
from swipe_core.networks.segmenter import Asked, Blending, Prediction, Segmenter
from swipe_core.networks.swipe.backbone import Backbone
from swipe_core.networks.swipe.decoder import FourierFeatures, PointDecoder
from swipe_core.networks.swipe.embeddings import Embeddings, FullEmbeddings
from swipe_core.networks.swipe.folded_decoder import folded
from swipe_core.networks.swipe.neck import Neck
from swipe_core.networks.swipe.overreach import blending_weights, draw_neighbours, reach_of
from swipe_core.networks.swipe.queries import PatchQueries


class Swipe(Segmenter):
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
        surround it are averaged by distance (``linear``), which makes the field continuous. Only patches
        that overreach trains on such points are asked (see `blending_weights`); without it none is.
    blending_width
        Width of the zone about a patch border in which ``linear`` averages, in patches, in (0, 1].
        With 1 every point asks 2^ndim patches; with 0.5 it asks 2.25 in 2D and 3.4 in 3D on average (1 + ndim
        and 2 or 2.5 where neighbours share a face).
    """

    class_layers: ClassVar[tuple[str, ...]] = ("patch_decoder.output.", "image_decoder.output.")
    keeps_windows: ClassVar[bool] = True

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
        self.ndim = fourier.ndim
        self.channels = backbone.in_channels
        self.classes = patch_decoder.output.out_features
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
    def reach(self) -> int:
        """Along how many axes at once a patch lies apart from the points that it is trained on, at most."""
        return reach_of(self.ndim, self.connectivity) if self.overreach else 0

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

    def forward_plainly(
        self, images: Float[Tensor, "batch channels *shape"], points_image: Float[Tensor, "batch points ndim"]
    ) -> None:
        """`forward` without the economy of products that are shared within a patch."""
        embeddings = self.encode(images)
        self.decode_plain(embeddings, points_image.repeat(1, 1 + self.overreach, 1))
        if self.image_decoder is not None:
            self.decode_image(embeddings, points_image)

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> FullEmbeddings:
        """Embeddings of a batch of images of any size (padded here, and nobody else notices)."""
        shape = tuple(images.shape[2:])
        padded_shape = tuple(-(-n // self.size_multiple) * self.size_multiple for n in shape)
        patch, image, attention = self.neck(
            self.backbone(padded_to(images, padded_shape)),
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
        encoding: Encoding,
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
        assert isinstance(encoding, Embeddings)
        queries = self.queries(encoding, points_image, points_source, blending)
        count = points_image.shape[0] * points_image.shape[1]
        return self._answer([(encoding, queries)], count).unflatten(0, points_image.shape[:2])

    def answer(
        self, asked: Sequence[Asked], count: int, blending: Blending | None = None
    ) -> Float[Tensor, "count classes"]:
        """All patches of all images in one go."""
        queries = []
        for one in asked:
            assert isinstance(one.encoding, Embeddings)
            own = self.queries(one.encoding, one.points_image[None], one.points_source[None], blending)
            queries.append((one.encoding, own.seen(one.points, one.weights)))
        return self._answer(queries, count)

    def queries(
        self,
        embeddings: Embeddings,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        blending: Blending | None = None,
    ) -> PatchQueries:
        """What is to be asked for `decode`; the points of a batch are numbered image after image."""
        points_voxel = image_to_voxel(points_image, embeddings.image_shape).flatten(0, 1)
        if (blending or self.blending) == "nearest":
            index = voxel_to_patch(points_voxel, embeddings.patch_size, embeddings.patch_grid)
            point = torch.arange(len(index), device=index.device)
            weight = None
        else:
            index, point, weight = self._surrounding_patches(embeddings, points_voxel)
        asked_image, asked_source = (points.flatten(0, 1)[point] for points in (points_image, points_source))
        patches = _flat(index, embeddings.patch_grid)
        if len(points_image) > 1:
            patches = patches + math.prod(embeddings.patch_grid) * (point // points_image.shape[1])
        coordinates = self._coordinates(embeddings, asked_image, asked_source, index)
        return PatchQueries(patches, coordinates, point, weight)

    def _answer(
        self, asked: Sequence[tuple[Embeddings, PatchQueries]], count: int
    ) -> Float[Tensor, "count classes"]:
        answers = self.patch_decoder.at(
            [(own.projected.flatten(0, 1), queries.patches, queries.coordinates) for own, queries in asked]
        )
        said = answers.new_zeros(count, answers.shape[1])
        parts = answers.split([len(queries.patches) for _, queries in asked])
        for (_, queries), part in zip(asked, parts, strict=True):
            queries.add(part, said)
        return said

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
        """A copy for inference, whose decoders have their normalisations folded in too."""
        model = super().for_inference()
        assert isinstance(model, Swipe)
        model.patch_decoder = folded(model.patch_decoder)
        if model.image_decoder is not None:
            model.image_decoder = folded(model.image_decoder)
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

    def _home_patch(self, embeddings: Embeddings, points_image: Tensor) -> Int[Tensor, "*points ndim"]:
        points_voxel = image_to_voxel(points_image, embeddings.image_shape)
        return voxel_to_patch(points_voxel, embeddings.patch_size, embeddings.patch_grid)

    def _surrounding_patches(
        self, embeddings: Embeddings, points_voxel: Float[Tensor, "points ndim"]
    ) -> tuple[Int[Tensor, "asked ndim"], Int[Tensor, " asked"], Float[Tensor, " asked"]]:
        """Patches around each point that are trained on it, which point that is, and weights that sum to 1.

        Patches without weight are not asked.
        """
        position = (points_voxel + 0.5) / embeddings.patch_size - 0.5
        lower = torch.floor(position)
        # Beyond the blending zone about the border one patch has all the weight.
        upper_share = ((position - lower - 0.5) / self.blending_width + 0.5).clamp(0, 1)
        lower, last = lower.long(), torch.as_tensor(embeddings.patch_grid, device=position.device) - 1
        # Where there is a patch on one side only, it answers alone, and is asked once.
        upper_share = upper_share.masked_fill(lower < 0, 1).masked_fill(lower >= last, 0)
        weights = blending_weights(upper_share, self.reach)
        corners = torch.tensor(list(itertools.product((0, 1), repeat=self.ndim)), device=position.device)
        corner, point = weights.nonzero(as_tuple=True)
        index = torch.minimum((lower[point] + corners[corner]).clamp(min=0), last)
        return index, point, weights[corner, point]


def _gather(values: Tensor, index: Tensor, embeddings: Embeddings) -> Tensor:
    """Rows of (batch, patches, width) for patch indices of shape (batch, ..., ndim)."""
    flat = _flat(index, embeddings.patch_grid)
    batch, patches, width = values.shape
    offset = torch.arange(batch, device=flat.device).view(-1, *([1] * (flat.ndim - 1))) * patches
    return values.reshape(-1, width).index_select(0, (flat + offset).flatten()).view(*flat.shape, width)


def _flat(index: Int[Tensor, "*leading ndim"], patch_grid: Sequence[int]) -> Int[Tensor, "*leading"]:
    """The number of each patch in C order."""
    flat = index[..., 0]
    for axis, size in enumerate(patch_grid[1:], start=1):
        flat = flat * size + index[..., axis]
    return flat


def _mean_squared_norm(vectors: Float[Tensor, "batch d *positions"]) -> Float[Tensor, ""]:
    return vectors.float().square().sum(dim=1).mean()
