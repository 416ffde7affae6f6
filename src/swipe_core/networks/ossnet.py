"""OSS-Net: one code for the whole image and a small patch of it about the point decide each point's class.

Reich et al., "OSS-Net: Memory efficient high resolution semantic segmentation of 3D medical data", BMVC 2021:
an occupancy network (Mescheder et al. 2019) that also sees the image about the point. Table 1 of Zhang et
al. 2023 states what it costs, no widths: the widths are ours, chosen to cost the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from swipe_core.coordinates import image_to_voxel, sample_each_at, voxel_centres, voxel_to_image
from swipe_core.networks.config import Kind, NetworkConfig, in_2d_and_3d
from swipe_core.networks.encoding import FeatureMaps
from swipe_core.networks.layers import ConvolutionBlock, CoordinateLayer, Normalisation
from swipe_core.networks.segmenter import Segmenter, points_at_once
from swipe_core.networks.swipe.decoder import PointBatchNorm

WIDTHS = {2: (32, 64, 64, 128, 256, 320), 3: (32, 64, 128, 128, 128, 256)}  # of the encoder, by ndim


class OSSNetConfig(NetworkConfig):
    """Everything that shapes OSS-Net. The defaults cost what the paper says, in 2D and in 3D."""

    volume_defaults: ClassVar[Mapping[str, Any]] = {"widths": WIDTHS[3]}

    network: Literal["ossnet"] = "ossnet"
    widths: tuple[PositiveInt, ...] = Field(
        WIDTHS[2], min_length=1, description="channels of the encoder's blocks; each but the first halves"
    )
    norm: Normalisation = Field("batch", description="normalisation of the feature maps")
    code_length: int = Field(256, ge=1, description="numbers that stand for the whole image")
    patch_widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64),
        min_length=1,
        max_length=16,
        description="channels of the 3-wide convolutions over a point's patch; three read 7 voxels per axis",
    )
    decoder_width: int = Field(256, ge=1, description="width of the decoder's blocks")
    decoder_blocks: int = Field(5, ge=1, description="residual blocks of the decoder")

    def least_tensors(self) -> int:
        """Every block and every convolution has one."""
        return len(self.widths) + len(self.patch_widths) + self.decoder_blocks


@dataclass(frozen=True, eq=False, kw_only=True)
class CodedImages(FeatureMaps):
    """Images themselves, as the only map, and what stands for each as a whole."""

    code: Float[Tensor, "batch length"]
    """(batch, length)"""


class OSSNet(Segmenter[CodedImages]):
    """The network of Reich et al. 2021, in 2D or 3D.

    `encoder` leads from images of any size to feature maps, and `code` from their average to the code.
    `patch_network` leads from a patch of `patch_size` voxels along each axis to the features of its centre;
    it has no other layers than convolutions without padding, and so may be given the patches of all voxels at
    once. `decoder` leads from these features, the coordinate and the code to logits.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("decoder.output.",)
    decoder_parts: ClassVar[tuple[str, ...]] = ("patch_network", "decoder")

    def __init__(self, config: OSSNetConfig) -> None:
        super().__init__()
        self.ndim, self.channels, self.classes = config.ndim, config.channels, config.classes
        ndim = config.ndim
        self.patch_size = 2 * len(config.patch_widths) + 1
        self.encoder = nn.Sequential(
            *(
                ResidualConvolution(ndim, inputs, width, stride=2 if number else 1, norm=config.norm)
                for number, (inputs, width) in enumerate(pairwise((config.channels, *config.widths)))
            )
        )
        # The patch network is made before the code's layer, which decides what both start from.
        layers: list[nn.Module] = []
        for inputs, width in pairwise((config.channels, *config.patch_widths)):
            layers += [{2: nn.Conv2d, 3: nn.Conv3d}[ndim](inputs, width, 3), nn.ReLU(inplace=True)]
        self.code = nn.Linear(config.widths[-1], config.code_length)
        self.patch_network = nn.Sequential(*layers)
        self.decoder = ConditionedDecoder(config)

    def encode(self, images: Float[Tensor, "batch channels *shape"]) -> CodedImages:
        """Return the images themselves and their codes."""
        shape = tuple(images.shape[2:])
        code = self.code(self.encoder(images).flatten(2).mean(dim=2))
        return CodedImages(image_shape=shape, padded_shape=shape, maps=(images,), code=code)

    def decode(
        self,
        encoding: CodedImages,
        points_image: Float[Tensor, "batch points ndim"],
        points_source: Float[Tensor, "batch points ndim"] | None = None,
    ) -> Float[Tensor, "batch points classes"]:
        """Return logits at points of the image frame; where these lie in the source makes no difference."""
        patches = patches_at(encoding, points_image, self.patch_size)
        features = self.patch_network(patches.flatten(0, 1)).flatten(1)
        features = features.unflatten(0, points_image.shape[:2])
        return self.decoder(features, points_image, encoding.code)

    def decode_voxels(self, encoding: CodedImages) -> Float[Tensor, "batch classes *shape"]:
        """Return logits at the centre of every voxel, whose patches share what they overlap in."""
        (images,), shape = encoding.maps, encoding.image_shape
        radius = self.patch_size // 2
        extended = functional.pad(images, (radius, radius) * self.ndim, mode="replicate")
        features = self.patch_network(extended).flatten(2).transpose(1, 2)
        centres = torch.tensor(voxel_to_image(voxel_centres(shape), shape), dtype=torch.float32)
        centres = centres.to(images.device).expand(len(images), -1, -1)
        count = points_at_once(images.device)
        pieces = (tensor.split(count, dim=1) for tensor in (features, centres))
        logits = [self.decoder(*piece, encoding.code) for piece in zip(*pieces, strict=True)]
        return torch.cat(logits, dim=1).movedim(-1, 1).unflatten(2, shape)


def patches_at(
    encoding: FeatureMaps, points_image: Float[Tensor, "batch points ndim"], size: int
) -> Float[Tensor, "batch points channels *patch"]:
    """Return the image about every point, `size` voxels wide: linear between voxels, repeated beyond."""
    batch, count, ndim = points_image.shape
    (images,), shape = encoding.maps, encoding.image_shape
    steps = torch.tensor(voxel_centres((size,) * ndim) - size // 2, dtype=torch.float32)
    points = image_to_voxel(points_image, shape)[:, :, None] + steps.to(points_image.device)
    values = sample_each_at(images.float(), voxel_to_image(points, shape).flatten(1, 2), "border")
    return values.unflatten(2, (count, *(size,) * ndim)).transpose(1, 2)


class ResidualConvolution(nn.Module):
    """Two 3-wide convolutions and a way around them; the first may halve the size, rounding up."""

    def __init__(self, ndim: int, inputs: int, outputs: int, *, stride: int, norm: Normalisation) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            ConvolutionBlock(ndim, inputs, outputs, 3, stride=stride, norm=norm),
            ConvolutionBlock(ndim, outputs, outputs, 3, norm=norm, activation=False),
        )
        self.shortcut = ConvolutionBlock(ndim, inputs, outputs, stride=stride, norm=norm, activation=False)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.convolutions(features) + self.shortcut(features))


class ConditionalNormalisation(nn.Module):
    """Batch normalisation over points whose scale and shift are linear in the code of the points' image.

    As every batch normalisation it keeps the images of a batch apart in evaluation mode.
    """

    def __init__(self, width: int, code_length: int) -> None:
        super().__init__()
        self.norm = PointBatchNorm(width, affine=False)
        self.scale, self.shift = (nn.Linear(code_length, width) for _ in range(2))
        nn.init.ones_(self.scale.bias)
        nn.init.zeros_(self.shift.bias)

    def forward(
        self, values: Float[Tensor, "batch points width"], code: Float[Tensor, "batch length"]
    ) -> Float[Tensor, "batch points width"]:
        scale, shift = self.scale(code), self.shift(code)
        if self.norm.training:
            values = self.norm(values)
        else:  # a part of scale and shift, which spares a pass over the points
            scale, shift = self._with_statistics(scale, shift)
        return torch.addcmul(shift[:, None], values, scale[:, None])

    def _with_statistics(self, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None and variance is not None
        scale = scale * torch.rsqrt(variance + self.norm.eps)
        return scale, shift - mean * scale


class ResidualPoints(nn.Module):
    """Two fully connected layers, each behind a normalisation by the code, and a way around them."""

    def __init__(self, width: int, code_length: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ConditionalNormalisation(width, code_length) for _ in range(2))
        # What a bias adds to every point, the normalisation behind takes away.
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))

    def forward(self, values: Tensor, code: Tensor) -> Tensor:
        activations = values
        for norm, layer in zip(self.norms, self.layers, strict=True):
            activations = layer(functional.relu(norm(activations, code)))
        return values + activations


class ConditionedDecoder(nn.Module):
    """The occupancy network: residual blocks over points, conditioned on the code of the points' image."""

    def __init__(self, config: OSSNetConfig) -> None:
        super().__init__()
        width, length = config.decoder_width, config.code_length
        self.coordinate = CoordinateLayer(config.ndim, width)
        self.patch = nn.Linear(config.patch_widths[-1], width, bias=False)
        self.blocks = nn.ModuleList(ResidualPoints(width, length) for _ in range(config.decoder_blocks))
        self.norm = ConditionalNormalisation(width, length)
        self.output = nn.Linear(width, config.classes)

    def forward(
        self,
        features: Float[Tensor, "batch points inputs"],
        points_image: Float[Tensor, "batch points ndim"],
        code: Float[Tensor, "batch length"],
    ) -> Float[Tensor, "batch points classes"]:
        values = self.patch(features) + self.coordinate(points_image)
        for block in self.blocks:
            values = block(values, code)
        return self.output(functional.relu(self.norm(values, code)))


KIND = Kind(
    OSSNetConfig,
    OSSNet,
    sizes=in_2d_and_3d(
        {
            "widths": [12, 16, 24, 32, 48, 64],
            "code_length": 128,
            "patch_widths": [12, 16, 32],
            "decoder_width": 128,
            "decoder_blocks": 3,
        },
        {
            "widths": [24, 32, 48, 64, 128, 192],
            "code_length": 192,
            "patch_widths": [16, 24, 48],
            "decoder_width": 192,
            "decoder_blocks": 4,
        },
    ),
    rates={2: 5e-4, 3: 1e-3},
)
