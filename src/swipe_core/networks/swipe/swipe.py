"""SwIPE: encode an image once into patch embeddings, then answer "which class is here?" anywhere."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from swipe_core.coordinates import image_to_voxel, voxel_to_local, voxel_to_patch
from swipe_core.networks.layers import padded_to, rounded_up
from swipe_core.networks.segmenter import Blending, Prediction, Segmenter, WindowQuery
from swipe_core.networks.swipe.backbone import Backbone
from swipe_core.networks.swipe.decoder import FourierFeatures, PatchQuery, PointDecoder
from swipe_core.networks.swipe.embeddings import Embeddings, FullEmbeddings
from swipe_core.networks.swipe.folded_decoder import folded
from swipe_core.networks.swipe.neck import Neck, NeckOutput
from swipe_core.networks.swipe.overreach import blending_weights, draw_neighbours, reach_of


class Swipe(Segmenter[Embeddings]):
    """The network of Zhang et al. 2023, in 2D or 3D, from parts that `build_swipe` puts together.

    `fourier`: features of the patch-local coordinate p^P.
    `image_decoder`: d^I, or None where it is switched off.
    `fine`: from the image to a map of the same size that D^P reads at every point, or None.
    `condition_on_image`: give z^I and p^I to D^P.
    `condition_on_source`: give p^S to D^P.
    `overreach` and `connectivity`: n_SPO and con: from how many neighbouring patches each training point is
    decoded, and which patches are neighbours.
    `blending`: how patches share a point: its own patch decides (``nearest``), or the patches whose centres
    surround it are averaged by distance (``linear``), which makes the field continuous. Only patches that
    overreach trains on such points count (see `blending_weights`); without it none does.
    `blending_width`: width of the zone about a patch border in which ``linear`` averages, in patches, in (0,
    1]. With 1 every point takes 2^ndim patches; with 0.5 it takes 2.25 in 2D and 3.4 in 3D on average (1 +
    ndim and 2 or 2.5 where neighbours share a face).
    """

    class_layers: ClassVar[tuple[str, ...]] = ("patch_decoder.output.", "image_decoder.output.")
    decoder_parts: ClassVar[tuple[str, ...]] = ("patch_decoder", "fourier")
    keeps_windows: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck,
        patch_decoder: PointDecoder,
        image_decoder: PointDecoder | None,
        fourier: FourierFeatures,
        fine: nn.Module | None = None,
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
        self.has_interior = patch_decoder.interior is not None
        self.backbone = backbone
        self.neck = neck
        self.patch_decoder = patch_decoder
        self.image_decoder = image_decoder
        self.fourier = fourier
        self.fine = fine
        self.patch_size = patch_size
        self.condition_on_image = condition_on_image
        self.condition_on_source = condition_on_source
        self.overreach = overreach
        self.connectivity = connectivity
        self.blending: Blending = blending
        self.blending_width = blending_width

    @property
    def stage_strides(self) -> tuple[int, ...]:
        return self.backbone.strides

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
        """Return all that the loss needs: D^P, D^I and, in training, overreaching D^P."""
        embeddings = self.encode(images)
        index = self._home_patch(embeddings, points_image)[:, :, None]
        if self.training and self.overreach:
            drawn = draw_neighbours(
                index[:, :, 0], embeddings.patch_grid, self.overreach, self.connectivity, generator
            )
            index = torch.cat([index, drawn], dim=2)
        projected = _gather(embeddings.projected, index, embeddings)
        features = embeddings.features_at(points_image)
        if features is not None:
            projected = projected + self.patch_decoder.project_features(features)[:, :, None]
        coordinates = self._coordinates(
            embeddings, points_image[:, :, None], points_source[:, :, None], index
        )
        decoded = self.patch_decoder(projected, coordinates)
        logits = decoded[..., : self.classes]
        return Prediction(
            patch=logits[:, :, 0],
            image=self.decode_image(embeddings, points_image) if self.image_decoder is not None else None,
            overreach=logits[:, :, 1:] if index.shape[2] > 1 else None,
            interior=decoded[..., self.classes] if self.has_interior else None,
            embedding_norm=_mean_squared_norm(embeddings.patch) + _mean_squared_norm(embeddings.image),
        )

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> FullEmbeddings:
        """Return the embeddings of images of any size, which are padded here."""
        shape = tuple(images.shape[2:])
        padded_shape = rounded_up(shape, self.size_multiple)
        padded = padded_to(images, padded_shape)
        of_image: NeckOutput = self.neck(
            self.backbone(padded),
            image_shape=shape,
            padded_shape=padded_shape,
            patch_size=self.patch_size,
        )
        point_maps = [] if of_image.point_map is None else [of_image.point_map]
        if self.fine is not None:
            point_maps.append(self.fine(padded))
        return FullEmbeddings(
            patch=of_image.patch,
            image=of_image.image,
            projected=self.patch_decoder.project(self._condition(of_image.patch, of_image.image)),
            attention=of_image.attention,
            image_shape=shape,
            patch_size=self.patch_size,
            patch_grid=tuple(of_image.patch.shape[2:]),
            point_maps=tuple(point_maps),
            padded_shape=padded_shape,
        )

    def decode(
        self,
        encoding: Embeddings,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
        *,
        blending: Blending | None = None,
    ) -> Float[Tensor, "batch points outputs"]:
        """Return logits of D^P at points of the image frame.

        `points_source`: the same points in the frame of the uncropped image; the same numbers by default.
        `blending`: overrides the model's own.
        """
        points_source = points_image if points_source is None else points_source
        query = self.patch_query(encoding, points_image, points_source, blending)
        count = points_image.shape[0] * points_image.shape[1]
        return self._decoded([query], count).unflatten(0, points_image.shape[:2])

    def decode_windows(
        self, queries: Sequence[WindowQuery[Embeddings]], count: int, blending: Blending | None = None
    ) -> Float[Tensor, "count outputs"]:
        """Decode all patches of all images in one go."""
        of_patches = []
        for query in queries:
            points_image, points_source = query.points_image[None], query.points_source[None]
            own = self.patch_query(query.encoding, points_image, points_source, blending)
            of_patches.append(own.renumbered(query.points, query.weights))
        return self._decoded(of_patches, count)

    def patch_query(
        self,
        embeddings: Embeddings,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        blending: Blending | None = None,
    ) -> PatchQuery:
        """Return what `decode` needs; the points of a batch are numbered image after image."""
        points_voxel = image_to_voxel(points_image, embeddings.image_shape).flatten(0, 1)
        if (blending or self.blending) == "nearest":
            index = voxel_to_patch(points_voxel, embeddings.patch_size, embeddings.patch_grid)
            point = torch.arange(len(index), device=index.device)
            weight = None
        else:
            index, point, weight = self._surrounding_patches(embeddings, points_voxel)
        own_image, own_source = (points.flatten(0, 1)[point] for points in (points_image, points_source))
        patches = _flat(index, embeddings.patch_grid)
        if len(points_image) > 1:
            patches = patches + math.prod(embeddings.patch_grid) * (point // points_image.shape[1])
        coordinates = self._coordinates(embeddings, own_image, own_source, index)
        features = embeddings.features_at(points_image)
        features = None if features is None else features.flatten(0, 1)
        projected = embeddings.projected.flatten(0, 1)
        return PatchQuery(projected, patches, coordinates, point, weight, features, rows=point)

    def _decoded(self, queries: Sequence[PatchQuery], count: int) -> Float[Tensor, "count outputs"]:
        logits = self.patch_decoder.at(queries)
        total = logits.new_zeros(count, logits.shape[1])
        parts = logits.split([len(query.patches) for query in queries])
        for query, part in zip(queries, parts, strict=True):
            query.add(part, total)
        return total

    def decode_all(
        self, embeddings: Embeddings, points_image: Float[Tensor, "1 points ndim"]
    ) -> Float[Tensor, "1 points outputs"]:
        """Decode patches without weight too, so that no shape depends on where the points lie."""
        points = points_image[0]
        points_voxel = image_to_voxel(points, embeddings.image_shape)
        if self.blending == "nearest":
            index = voxel_to_patch(points_voxel, embeddings.patch_size, embeddings.patch_grid)[None]
            weights = None
        else:
            lower, corners, weights = self._corners(embeddings, points_voxel)
            index = _clamped(lower + corners[:, None], embeddings.patch_grid)
        projected = embeddings.projected[0][_flat(index, embeddings.patch_grid)]
        features = embeddings.features_at(points_image)
        if features is not None:
            projected = projected + self.patch_decoder.project_features(features)
        logits = self.patch_decoder(projected, self._coordinates(embeddings, points, points, index))
        return logits.sum(dim=0)[None] if weights is None else (logits * weights[..., None]).sum(dim=0)[None]

    def decode_plain(
        self,
        embeddings: FullEmbeddings,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points outputs"]:
        """Return logits (nearest) by definition: every point multiplies its own copy of the embeddings."""
        points_source = points_image if points_source is None else points_source
        index = self._home_patch(embeddings, points_image)
        conditions = _gather(self._condition(embeddings.patch, embeddings.image), index, embeddings)
        coordinates = self._coordinates(embeddings, points_image, points_source, index)
        return self.patch_decoder.plain(conditions, coordinates, embeddings.features_at(points_image))

    def decode_image(
        self, embeddings: FullEmbeddings, points_image: Float[Tensor, "batch points ndim"]
    ) -> Float[Tensor, "batch points classes"]:
        """Return logits of D^I, from the image embedding alone."""
        if self.image_decoder is None:
            raise ValueError("This model was built without an image decoder.")
        return self.image_decoder(self.image_decoder.project(embeddings.image)[:, None], points_image)

    def fold(self) -> None:
        """Fold the normalisations of the decoders in, too."""
        super().fold()
        self.patch_decoder = folded(self.patch_decoder)
        if self.image_decoder is not None:
            self.image_decoder = folded(self.image_decoder)

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

    def _home_patch(self, embeddings: Embeddings, points_image: Tensor) -> Int[Tensor, "*points ndim"]:
        points_voxel = image_to_voxel(points_image, embeddings.image_shape)
        return voxel_to_patch(points_voxel, embeddings.patch_size, embeddings.patch_grid)

    def _surrounding_patches(
        self, embeddings: Embeddings, points_voxel: Float[Tensor, "points ndim"]
    ) -> tuple[Int[Tensor, "pairs ndim"], Int[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """Patches around each point that are trained on it, which point that is, and weights that sum to 1.

        Patches without weight are left out.
        """
        lower, corners, weights = self._corners(embeddings, points_voxel)
        corner, point = weights.nonzero(as_tuple=True)
        index = _clamped(lower[point] + corners[corner], embeddings.patch_grid)
        return index, point, weights[corner, point]

    def _corners(
        self, embeddings: Embeddings, points_voxel: Float[Tensor, "points ndim"]
    ) -> tuple[Int[Tensor, "points ndim"], Int[Tensor, "corners ndim"], Float[Tensor, "corners points"]]:
        """The lowest of the patches around each point, the offsets of all of them, and their weights."""
        position = (points_voxel + 0.5) / embeddings.patch_size - 0.5
        lower = torch.floor(position)
        # Beyond the blending zone about the border one patch has all the weight.
        upper_share = ((position - lower - 0.5) / self.blending_width + 0.5).clamp(0, 1)
        lower, last = lower.long(), torch.as_tensor(embeddings.patch_grid, device=position.device) - 1
        # Where there is a patch on one side only, it counts alone, and once.
        upper_share = upper_share.masked_fill(lower < 0, 1).masked_fill(lower >= last, 0)
        corners = torch.tensor(list(itertools.product((0, 1), repeat=self.ndim)), device=position.device)
        return lower, corners, blending_weights(upper_share, self.reach)


def _clamped(index: Int[Tensor, "*leading ndim"], patch_grid: Sequence[int]) -> Int[Tensor, "*leading ndim"]:
    """The nearest patches that there are."""
    return torch.minimum(index.clamp(min=0), torch.as_tensor(patch_grid, device=index.device) - 1)


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
