"""IOSNet: at every point a small MLP reads the features that an encoder has there at all of its scales.

Khan and Fang, "Implicit neural representations for medical imaging segmentation", MICCAI 2022, with the five
downsampling stages that Zhang et al. 2023 give it (Sec. 3.2). Their Table 1 states what it costs, no widths:
the widths are ours, chosen to cost the same.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from swipe_core.networks.config import Kind, NetworkConfig, in_2d_and_3d
from swipe_core.networks.encoding import FeatureMaps
from swipe_core.networks.layers import (
    ConvolutionBlock,
    CoordinateLayer,
    Normalisation,
    padded_to,
    rounded_up,
)
from swipe_core.networks.lite import ALL, lite_encoder
from swipe_core.networks.segmenter import Segmenter

SCALES = 6  # the full resolution and five halvings
WIDTHS = {2: (32, 48, 96, 160, 256, 384), 3: (32, 48, 96, 192, 192, 192)}  # by ndim

Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=SCALES, max_length=SCALES)]


class IOSNetConfig(NetworkConfig):
    """Everything that shapes IOSNet. The defaults cost what the paper says, in 2D and in 3D."""

    volume_defaults: ClassVar[Mapping[str, Any]] = {"widths": WIDTHS[3]}

    network: Literal["iosnet"] = "iosnet"
    encoder: Literal["own", "lite0"] = Field(
        "own",
        description="lite0 takes the place of all scales but the first, and can start from ImageNet",
    )
    widths: Widths = Field(WIDTHS[2], description="channels at every scale, from fine to coarse")
    convolutions: int = Field(2, ge=1, le=32, description="convolutions at every scale")
    norm: Normalisation = Field("batch", description="normalisation of the feature maps")
    hidden: tuple[PositiveInt, ...] = Field(
        (256, 256, 256), min_length=1, description="hidden layers of the decoder"
    )

    def least_tensors(self) -> int:
        """Every convolution and every hidden layer has one."""
        return SCALES * self.convolutions + len(self.hidden)


class IOSNet(Segmenter[FeatureMaps]):
    """The network of Khan and Fang 2022, in 2D or 3D.

    `scales` lead from a feature map to the next coarser one, the first from the image to one of the same
    size, which is the only one where `encoder` gives the others. `decoder` leads from the features of all
    scales and the coordinate to logits.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("decoder.output.",)
    decoder_parts: ClassVar[tuple[str, ...]] = ("decoder",)

    def __init__(self, config: IOSNetConfig) -> None:
        super().__init__()
        self.ndim, self.channels, self.classes = config.ndim, config.channels, config.classes
        ndim, norm = config.ndim, config.norm
        is_lite = config.encoder == "lite0"
        self.encoder = lite_encoder(ndim, config.channels, ALL) if is_lite else None
        widths = config.widths if self.encoder is None else (config.widths[0], *self.encoder.channels)
        # Disjoint cells of two voxels: each scale's cells then lie where points are looked up.
        pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[ndim](2)
        self.scales = nn.ModuleList()
        for number, (inputs, width) in enumerate(
            pairwise((config.channels, *(widths[:1] if is_lite else widths)))
        ):
            layers: list[nn.Module] = [pool] if number else []
            layers.append(ConvolutionBlock(ndim, inputs, width, 3, norm=norm))
            layers += [
                ConvolutionBlock(ndim, width, width, 3, norm=norm) for _ in range(1, config.convolutions)
            ]
            self.scales.append(nn.Sequential(*layers))
        self.decoder = CoordinateMLP(ndim, sum(widths), config.hidden, config.classes)

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> FeatureMaps:
        """Return the feature maps of all scales of images of any size."""
        shape = tuple(images.shape[2:])
        padded_shape = rounded_up(shape, 2 ** (SCALES - 1))
        features, maps = padded_to(images, padded_shape), list[Tensor]()
        coarser = [] if self.encoder is None else self.encoder(features)
        for scale in self.scales:
            features = scale(features)
            maps.append(features)
        maps += coarser
        return FeatureMaps(image_shape=shape, padded_shape=padded_shape, maps=tuple(maps))

    def decode(
        self,
        encoding: FeatureMaps,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """Return logits at points of the image frame; where these lie in the source makes no difference."""
        return self.decoder(torch.cat(encoding.at(points_image), dim=-1), points_image)


class CoordinateMLP(nn.Module):
    """An MLP over features and a coordinate.

    `inputs`: number of the features.
    `hidden`: widths of the hidden layers.
    """

    def __init__(self, ndim: int, inputs: int, hidden: Sequence[int], classes: int) -> None:
        super().__init__()
        self.coordinate = CoordinateLayer(ndim, hidden[0])
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise((inputs, *hidden)))
        self.output = nn.Linear(hidden[-1], classes)

    def forward(
        self, features: Float[Tensor, "batch points inputs"], points_image: Float[Tensor, "batch points ndim"]
    ) -> Float[Tensor, "batch points classes"]:
        first, *others = self.layers
        activations = functional.relu(first(features) + self.coordinate(points_image))
        for layer in others:
            activations = functional.relu(layer(activations))
        return self.output(activations)


KIND = Kind(
    IOSNetConfig,
    IOSNet,
    sizes=in_2d_and_3d(
        {"widths": [16, 24, 40, 64, 96, 128], "hidden": [128, 128, 128]},
        {"widths": [24, 32, 64, 96, 128, 192], "hidden": [192, 192, 192]},
    ),
    rates={2: 2e-4, 3: 1e-3},
)
