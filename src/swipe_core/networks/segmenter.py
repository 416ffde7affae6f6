"""What every trainable network offers, so that one runner, one loss and one predictor serve them all."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from swipe_core.coordinates import voxel_centres, voxel_to_image
from swipe_core.networks.encoding import Encoding, FeatureMaps, LogitMap
from swipe_core.networks.layers import ConvolutionBlock, lay_channels_last, padded_to, rounded_up

if TYPE_CHECKING:
    from swipe_core.networks.config import NetworkConfig

Blending = Literal["nearest", "linear"]
E = TypeVar("E", bound=Encoding)

# Points of a whole image that are decoded at once: as many as keep a GPU busy, or, for each core of a CPU, as
# many as its cache holds the features of.
GPU_POINTS = 2**16
CPU_POINTS = 2**12


@dataclass(frozen=True, eq=False)
class Prediction:
    """The logits of a batch of training points, over background + C classes."""

    patch: Float[Tensor, "batch points classes"]
    """(batch, points, classes): The logits that count: of the patch decoder D^P for SwIPE, of the last layer
    of other networks.
    """
    image: Float[Tensor, "batch points classes"] | None = None
    """(batch, points, classes) or None: The image decoder D^I."""
    overreach: Float[Tensor, "batch points neighbours classes"] | None = None
    """(batch, points, neighbours, classes) or None: D^P through neighbouring patches (stochastic patch
    overreach).
    """
    embedding_norm: Float[Tensor, ""] | None = None
    """Mean squared norm of the patch embeddings plus that of the image embeddings."""
    sides: tuple[Tensor, ...] = ()
    """tuple of (batch, points, classes): Outputs of earlier layers that are trained besides (deep
    supervision), each as the last one is.
    """
    interior: Float[Tensor, "batch points answers"] | None = None
    """(batch, points, answers) or None: Logits of how deep inside its own object a point lies, of all patches
    that D^P is asked through.
    """

    def part(self, start: int, stop: int | None = None) -> Prediction:
        """Return the same at some of the points only."""
        return replace(
            self,
            patch=self.patch[:, start:stop],
            image=None if self.image is None else self.image[:, start:stop],
            overreach=None if self.overreach is None else self.overreach[:, start:stop],
            sides=tuple(side[:, start:stop] for side in self.sides),
            interior=None if self.interior is None else self.interior[:, start:stop],
        )


@dataclass(frozen=True, eq=False)
class WindowQuery(Generic[E]):
    """The points that are to be decoded from one encoded image, and how much its logits count there."""

    encoding: E
    """A batch of one image."""
    points: Int[Tensor, " seen"]
    """The numbers that the points have among all points of several queries."""
    weights: Float[Tensor, " seen"]
    """What the logits are multiplied with."""
    points_image: Float[Tensor, "seen ndim"]
    points_source: Float[Tensor, "seen ndim"]
    """`points_image` and `points_source`: where the points lie in the image frame and in the source frame."""


class Segmenter(nn.Module, ABC, Generic[E]):
    """A network that is trained and decoded at points: SwIPE, or one it is compared with.

    Attributes
    ----------
    ndim, channels, classes
        Axes of the images, their channels, and the logits: of the background and the foreground classes.
    class_layers
        Beginnings of the names of the tensors that have one row per class.
    decoder_parts
        The parts that decode an encoding: all others only make it.
    config
        What it was built from.
    keeps_windows
        Whether the encodings of all windows of an image are kept and decoded together. They are not where
        they are larger than the logits of every voxel, which are then kept in their place.
    stage_strides
        Strides of the stages that `Encoding.stage_weights` weighs, in voxels; none where it weighs none.
    has_interior
        Whether it learns, too, how deep inside its own object a point lies: the last of the outputs.
    """

    class_layers: ClassVar[tuple[str, ...]] = ()
    decoder_parts: ClassVar[tuple[str, ...]] = ()
    keeps_windows: ClassVar[bool] = False
    has_interior: bool = False

    ndim: int
    channels: int
    classes: int
    config: NetworkConfig

    @property
    def stage_strides(self) -> tuple[int, ...]:
        return ()

    @property
    def outputs(self) -> int:
        """Return how many logits a point has: those of the classes, and after them that of the interior."""
        return self.classes + self.has_interior

    @abstractmethod
    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> E:
        """Return all that is kept of images, which may have any size."""

    @abstractmethod
    def decode(
        self,
        encoding: E,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points outputs"]:
        """Return logits at points of the image frame.

        `points_source`: the same points in the frame of the uncropped image; the same numbers by default.
        """

    def decode_all(
        self, encoding: E, points_image: Float[Tensor, "1 points ndim"]
    ) -> Float[Tensor, "1 points outputs"]:
        """Return what `decode` does of one image, by a graph that is the same wherever the points lie."""
        return self.decode(encoding, points_image)

    def forward(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Return all that the loss needs: logits at points in the image frame and the source frame."""
        return Prediction(self.decode(self.encode(images), points_image, points_source))

    def decode_windows(
        self, queries: Sequence[WindowQuery[E]], count: int, blending: Blending | None = None
    ) -> Float[Tensor, "count outputs"]:
        """Return, for each of `count` points, the sum of its logits from all queries, each times its weight.

        `blending`: how patches share a point, in networks that have patches; None: as the model has it.
        """
        total = torch.zeros(count, self.outputs, device=queries[0].points_image.device)
        for query in queries:
            points_image, points_source = query.points_image[None], query.points_source[None]
            logits = query.encoding.decoded_by(self, points_image, points_source)[0]
            total.index_add_(0, query.points, logits.float() * query.weights[:, None])
        return total

    def decode_voxels(self, encoding: E) -> Float[Tensor, "batch outputs *shape"]:
        """Return logits at the centre of every voxel, the image being its own source."""
        shape = encoding.image_shape
        batch = len(encoding.tensors[0])
        centres = torch.tensor(voxel_to_image(voxel_centres(shape), shape), dtype=torch.float32)
        centres = centres.to(encoding.device).expand(batch, -1, -1)
        chunks = centres.split(points_at_once(encoding.device), dim=1)
        logits = [self.decode(encoding, chunk) for chunk in chunks]
        return torch.cat(logits, dim=1).movedim(-1, 1).unflatten(2, shape)

    def logit_map(self, encoding: E) -> LogitMap:
        """Return the logits at every voxel as an encoding of its own."""
        return LogitMap.of(self.decode_voxels(encoding).float())

    def for_inference(self) -> Segmenter[E]:
        """Return a copy in evaluation mode that does the same with less: normalisations are folded in.

        Its convolutions are laid out with the channels last, which they are fastest with.
        """
        model = copy.deepcopy(self).eval().requires_grad_(False)
        model.fold()
        lay_channels_last(model)
        return model.requires_grad_(False)

    def fold(self) -> None:
        """Make normalisations a part of the layers before them, for good: for inference only."""
        for block in self.modules():
            if isinstance(block, ConvolutionBlock):
                block.fold()


def points_at_once(device: torch.device) -> int:
    """Return how many points of a whole image are best decoded at once."""
    return CPU_POINTS * torch.get_num_threads() if device.type == "cpu" else GPU_POINTS


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
