"""A pixel classifier: an image is described once at every point, and a small MLP tells the classes apart.

The way of ilastik (Sommer et al. 2011), whose Gaussian scale space is joined by the first maps of an encoder
that was trained on ImageNet, and read between the pixels: the answer is a continuous function of position.
Whoever trains the decoder alone waits for seconds (`swipe_core.training.strokes`). In volumes all features
are those of the slices along the first axis, at the full number of slices.
"""

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from swipe_core.networks.config import Kind, NetworkConfig, in_2d_and_3d
from swipe_core.networks.encoding import FeatureMaps
from swipe_core.networks.layers import padded_to, rounded_up
from swipe_core.networks.lite import ALL, EfficientNetLite
from swipe_core.networks.segmenter import Segmenter
from swipe_core.progress import Progress, finish

FEATURES = 4  # of a channel at a scale: blurred, slope, and the two curvatures
TAPS = (0.0044, 0.0540, 0.2420, 0.3992, 0.2420, 0.0540, 0.0044)  # of a Gaussian with a deviation of 1
MOST_DEVIATIONS = 5.0  # that a feature may be from the mean: beyond them nothing is known
LEAST_DEVIATION = 1e-3  # of a feature, which is divided by its own
POSITION_DEVIATION = 0.25  # of positions in [-1, 1], which are few beside the other features
VOXELS_AT_ONCE = 2**18  # of slices that are encoded together


class PixelClassifierConfig(NetworkConfig):
    """Everything that shapes the pixel classifier."""

    network: Literal["pixel_classifier"] = "pixel_classifier"
    stages: int = Field(
        2, ge=1, le=len(ALL), description="maps of the encoder that are read: of strides 2, 4, 8, 16, 32"
    )
    octaves: int = Field(4, ge=1, le=6, description="scales of the Gaussian features: 1, 2, 4, 8 voxels")
    position: bool = Field(
        False, description="read where in the image a point lies, too: for volumes of one anatomy"
    )
    hidden: tuple[PositiveInt, ...] = Field(
        (128, 128), min_length=1, description="hidden layers of the decoder"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="share of hidden units that is left out in training")

    def least_tensors(self) -> int:
        """Every hidden layer has one."""
        return len(self.hidden)


class PixelClassifier(Segmenter[FeatureMaps]):
    """The encoder and the scale space of slices, and the decoder of the features at a point."""

    class_layers: ClassVar[tuple[str, ...]] = ("decoder.output.",)
    decoder_parts: ClassVar[tuple[str, ...]] = ("decoder",)

    def __init__(self, config: PixelClassifierConfig) -> None:
        super().__init__()
        self.ndim, self.channels, self.classes = config.ndim, config.channels, config.classes
        self.encoder = EfficientNetLite(config.channels, ALL[: config.stages])
        self.scale_space = ScaleSpace(config.channels, config.octaves)
        self.size_multiple = max(self.encoder.strides[-1], 2 ** (config.octaves - 1))
        widths = (*self.scale_space.widths, *self.encoder.channels)
        self.position = config.position
        inputs = sum(widths) + config.ndim * config.position
        self.decoder = FeatureMLP(inputs, config.hidden, config.classes, config.dropout)

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> FeatureMaps:
        """Return the features of images of any size, finest first."""
        return finish(self.iter_encode(images))

    def iter_encode(
        self, images: Float[Tensor, "batch channels *shape"]
    ) -> Generator[Progress, None, FeatureMaps]:
        """`encode`, some slices of a volume at a time: yields progress."""
        shape = tuple(images.shape[2:])
        padded_shape = (*shape[:-2], *rounded_up(shape[-2:], self.size_multiple))
        padded = padded_to(images, padded_shape)
        if self.ndim == 2:
            maps = self._maps(padded)
        else:
            slices = padded.transpose(1, 2).flatten(0, 1)
            # Normalisations in training want all slices at once.
            most = len(slices) if self.training else max(1, VOXELS_AT_ONCE // slices[0, 0].numel())
            parts = []
            for part in slices.split(most):
                parts.append(self._maps(part))
                yield Progress("Encoding", min(len(slices), most * len(parts)), len(slices))
            together = [torch.cat(each) for each in zip(*parts, strict=True)]
            maps = [m.unflatten(0, (len(images), -1)).transpose(1, 2) for m in together]
        return FeatureMaps(image_shape=shape, padded_shape=padded_shape, maps=tuple(maps))

    def _maps(self, images: Float[Tensor, "batch channels rows columns"]) -> list[Tensor]:
        return [
            *self.scale_space(images),
            *self.encoder(images.contiguous(memory_format=torch.channels_last)),
        ]

    def decode(
        self,
        encoding: FeatureMaps,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """Return logits at points; where these lie in the source counts with `position` alone."""
        return self.decoder(self.features(encoding, points_image, points_source))

    def features(
        self,
        encoding: FeatureMaps,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points features"]:
        """Return all that the decoder reads of points; the position comes last."""
        source = points_image if points_source is None else points_source
        position = [source.clamp(-1, 1)] if self.position else []
        return torch.cat([*encoding.at(points_image), *position], dim=-1)

    def standardise(self, features: Float[Tensor, "points features"]) -> None:
        """Scale features to those at some points, but positions by a constant: they may lie in one plane."""
        self.decoder.standardise(features[:, : self.decoder.inputs - self.ndim * self.position])


class ScaleSpace(nn.Module):
    """Gaussian features of images, an octave apart: maps of strides 1, 2, 4, ..., without any parameter.

    Of every channel the blurred image, the length of its gradient, and the greater and the lesser eigenvalue
    of its Hessian, in voxels of the map; the first map has the image itself besides.
    """

    def __init__(self, channels: int, octaves: int) -> None:
        super().__init__()
        self.octaves = octaves
        self.widths = tuple(channels * (FEATURES + (octave == 0)) for octave in range(octaves))

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> list[Tensor]:
        maps, blurred = [], images.float()
        for octave in range(self.octaves):
            blurred = _blurred(functional.avg_pool2d(blurred, 2) if octave else blurred)
            features = [blurred, *_slope_and_curvatures(blurred)]
            maps.append(torch.cat([images, *features] if octave == 0 else features, dim=1))
        return maps


def _blurred(images: Tensor) -> Tensor:
    """Images after a Gaussian filter, whose deviation is one voxel; in their own precision under autocast."""
    radius = len(TAPS) // 2
    rows, columns = images.shape[-2:]
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    across = torch.stack([tap * padded[..., n : n + columns] for n, tap in enumerate(TAPS)]).sum(0)
    return torch.stack([tap * across[..., n : n + rows, :] for n, tap in enumerate(TAPS)]).sum(0)


def _slope_and_curvatures(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The length of the gradient, and the eigenvalues of the Hessian, the greater one first."""
    padded = functional.pad(images, (1,) * 4, mode="replicate")
    middle = padded[..., 1:-1, 1:-1]
    up, down = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    slope = (0.25 * ((down - up) ** 2 + (right - left) ** 2)).sqrt()
    rows, columns = up + down - 2 * middle, left + right - 2 * middle
    mixed = 0.25 * (padded[..., 2:, 2:] + padded[..., :-2, :-2] - padded[..., 2:, :-2] - padded[..., :-2, 2:])
    mean = 0.5 * (rows + columns)
    apart = (0.25 * (rows - columns) ** 2 + mixed**2).sqrt()
    return slope, mean + apart, mean - apart


class FeatureMLP(nn.Module):
    """An MLP over features that are standardised first.

    Attributes
    ----------
    mean, deviation : (inputs,)
        Of the features; 0 and 1 until `standardise` has seen some.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, hidden: Sequence[int], classes: int, dropout: float) -> None:
        super().__init__()
        self.inputs = inputs
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise((inputs, *hidden)))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden[-1], classes)

    def forward(self, features: Float[Tensor, "*points inputs"]) -> Float[Tensor, "*points classes"]:
        activations = ((features - self.mean) / self.deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        for layer in self.layers:
            activations = self.dropout(functional.relu(layer(activations)))
        return self.output(activations)

    @torch.no_grad()
    def standardise(self, features: Float[Tensor, "points first"]) -> None:
        """Take mean and deviation of the first features from those at some points; the rest are positions."""
        count = features.shape[1]
        deviation, mean = torch.std_mean(features, dim=0, correction=0)
        self.mean[:count], self.deviation[:count] = mean, deviation + LEAST_DEVIATION
        self.deviation[count:] = POSITION_DEVIATION


KIND = Kind(
    PixelClassifierConfig,
    PixelClassifier,
    sizes=in_2d_and_3d({"hidden": [128, 128]}, {"hidden": [192, 192]}),
    rates={2: 5e-4, 3: 5e-4},
)
