"""What every trainable network offers, so that one runner, one loss and one predictor serve them all."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from swipe_core.coordinates import voxel_centres, voxel_to_image
from swipe_core.networks.encoding import Encoding
from swipe_core.networks.layers import CHANNELS_LAST, ConvolutionBlock

Blending = Literal["nearest", "linear"]

# Of the points at which a whole image is asked: as many as keep a GPU busy, or, for each core of a CPU, as
# many as its cache holds the features of.
GPU_POINTS = 2**16
CPU_POINTS = 2**12


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of a batch of training points, as logits over background + C classes.

    Attributes
    ----------
    patch : (batch, points, classes)
        The answer that counts: the patch decoder D^P for SwIPE, the last output of other networks.
    image : (batch, points, classes) or None
        The image decoder D^I.
    overreach : (batch, points, neighbours, classes) or None
        D^P asked through neighbouring patches (stochastic patch overreach).
    embedding_norm : scalar or None
        Mean squared norm of the patch embeddings plus that of the image embeddings.
    sides : tuple of (batch, points, classes)
        Outputs of earlier layers that are trained besides (deep supervision), each as the last one is.
    """

    patch: Float[Tensor, "batch points classes"]
    image: Float[Tensor, "batch points classes"] | None = None
    overreach: Float[Tensor, "batch points neighbours classes"] | None = None
    embedding_norm: Float[Tensor, ""] | None = None
    sides: tuple[Tensor, ...] = ()

    def part(self, start: int, stop: int | None = None) -> Prediction:
        """The answers at some of the points only."""
        return replace(
            self,
            patch=self.patch[:, start:stop],
            image=None if self.image is None else self.image[:, start:stop],
            overreach=None if self.overreach is None else self.overreach[:, start:stop],
            sides=tuple(side[:, start:stop] for side in self.sides),
        )


@dataclass(frozen=True, eq=False)
class Asked:
    """What one encoded image is asked, and how much its answers count.

    Attributes
    ----------
    encoding
        Of a batch of one image.
    points
        The numbers that the points have among all that are asked.
    weights
        Of the answers.
    points_image, points_source
        Where the points lie in the image frame and in the source frame.
    """

    encoding: Encoding
    points: Int[Tensor, " seen"]
    weights: Float[Tensor, " seen"]
    points_image: Float[Tensor, "seen ndim"]
    points_source: Float[Tensor, "seen ndim"]


class Segmenter(nn.Module, ABC):
    """A network that is trained on points and answers at points: SwIPE, or one it is compared with.

    Attributes
    ----------
    ndim, channels, classes
        Axes of the images, their channels, and the answers: the background and the foreground classes.
    class_layers
        Beginnings of the names of the tensors that have one row per class.
    keeps_windows
        Whether the encodings of all windows of an image are kept and asked together. They are not where they
        are larger than an answer for every voxel, which is then kept in their place.
    """

    class_layers: ClassVar[tuple[str, ...]] = ()
    keeps_windows: ClassVar[bool] = False

    ndim: int
    channels: int
    classes: int

    @abstractmethod
    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> Encoding:
        """All that is kept of images, which may have any size."""

    @abstractmethod
    def decode(
        self,
        encoding: Encoding,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """Logits at points of the image frame.

        Parameters
        ----------
        points_source
            The same points in the frame of the uncropped image; the same numbers by default.
        """

    def forward(
        self,
        images: Float[Tensor, "batch channels *shape"],
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"],
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """All that the loss needs of a batch: logits at points in the image frame and the source frame."""
        return Prediction(self.decode(self.encode(images), points_image, points_source))

    def forward_plainly(
        self, images: Float[Tensor, "batch channels *shape"], points_image: Float[Tensor, "batch points ndim"]
    ) -> None:
        """The work of `forward` in training as its definition has it: what multiply-adds are counted of."""
        self(images, points_image, points_image)

    def answer(
        self, asked: Sequence[Asked], count: int, blending: Blending | None = None
    ) -> Float[Tensor, "count classes"]:
        """What is said about each of `count` points: the sum over all answers, each times its weight.

        Parameters
        ----------
        blending
            How patches share a point, in networks that have patches; None: as the model has it.
        """
        said = torch.zeros(count, self.classes, device=asked[0].points_image.device)
        for one in asked:
            logits = self.decode(one.encoding, one.points_image[None], one.points_source[None])[0]
            said.index_add_(0, one.points, logits.float() * one.weights[:, None])
        return said

    def answer_everywhere(self, encoding: Encoding) -> Float[Tensor, "batch classes *shape"]:
        """Logits at the centre of every voxel, the image being its own source."""
        shape = encoding.image_shape
        batch = len(encoding.tensors[0])
        centres = torch.tensor(voxel_to_image(voxel_centres(shape), shape), dtype=torch.float32)
        centres = centres.to(encoding.device).expand(batch, -1, -1)
        chunks = centres.split(points_at_once(encoding.device), dim=1)
        said = [self.decode(encoding, chunk) for chunk in chunks]
        return torch.cat(said, dim=1).movedim(-1, 1).unflatten(2, shape)

    def for_inference(self) -> Segmenter:
        """A copy in evaluation mode that does the same with less: normalisations are folded in.

        Its convolutions are laid out with the channels last, which they are fastest with.
        """
        model = copy.deepcopy(self).eval().requires_grad_(False)
        for block in model.modules():
            if isinstance(block, ConvolutionBlock):
                block.fold()
        model.to(memory_format=CHANNELS_LAST[self.ndim])  # type: ignore[call-overload]
        return model.requires_grad_(False)


def points_at_once(device: torch.device) -> int:
    """How many points a network is best asked about at once, where a whole image is asked."""
    return CPU_POINTS * torch.get_num_threads() if device.type == "cpu" else GPU_POINTS
