"""U-Net in 2D (Ronneberger et al. 2015) and 3D (Cicek et al. 2016), both with normalisation."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from swipe_core.networks.config import Kind, NetworkConfig
from swipe_core.networks.layers import Normalisation, convolution, double_convolution, resize
from swipe_core.networks.segmenter import RasterSegmenter

Upsampling = Literal["transposed", "linear"]
Widening = Literal["first", "second"]


class UNetConfig(NetworkConfig):
    """Everything that shapes the U-Net.

    The defaults have the sizes of Table 1 of Zhang et al. 2023, which does not say which U-Nets it means. In
    2D that is the network of 2015 with three poolings in place of four. In 3D it is the network of 2016,
    which has three, with linear upsampling in place of its up-convolutions: `upsampling` and `widening` have
    other defaults there.
    """

    volume_defaults: ClassVar[Mapping[str, Any]] = {"upsampling": "linear", "widening": "second"}

    network: Literal["unet"] = "unet"
    widths: tuple[PositiveInt, ...] = Field(
        (64, 128, 256, 512),
        min_length=2,
        max_length=8,
        description="channels at each scale, from fine to coarse; one pooling lies between two",
    )
    upsampling: Upsampling = Field(
        "transposed",
        description="transposed convolutions, which halve the channels (default in 2D), "
        "or linear, which keeps them (default in 3D)",
    )
    widening: Widening = Field(
        "first",
        description="which of the encoder's two convolutions at a scale reaches its width: "
        "first (default in 2D), or second, the first having half of it (default in 3D)",
    )
    norm: Normalisation = Field("batch", description="normalisation of the feature maps")


class UNetSegmenter(RasterSegmenter):
    """A U-Net with logits at every voxel."""

    class_layers: ClassVar[tuple[str, ...]] = ("output.",)

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config.ndim, config.channels, config.classes)
        ndim, widths, norm = config.ndim, config.widths, config.norm
        halves_first = config.widening == "second"
        self.down = nn.ModuleList(
            double_convolution(ndim, i, o, norm, middle=max(o // 2, 1) if halves_first else o)
            for i, o in zip((config.channels, *widths[:-1]), widths, strict=True)
        )
        self.pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[ndim](2)
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in zip(widths[:-1], widths[1:], strict=True):
            learned = config.upsampling == "transposed"
            enlarged = max(coarse // 2, 1) if learned else coarse
            self.enlarge.append(_doubling(ndim, coarse, enlarged) if learned else nn.Identity())
            self.up.append(double_convolution(ndim, enlarged + fine, fine, norm))
        self.output = convolution(ndim, widths[0], config.classes, bias=True)
        self.size_multiple = 2 ** len(self.up)

    def logit_maps(self, images: Float[Tensor, "batch channels *shape"]) -> Sequence[Tensor]:
        """Return the logits at every voxel."""
        skipped: list[Tensor] = []
        features = self.down[0](images)
        for block in self.down[1:]:
            skipped.append(features)
            features = block(self.pool(features))
        for enlarge, block, skip in zip(
            reversed(self.enlarge), reversed(self.up), reversed(skipped), strict=True
        ):
            enlarged = resize(enlarge(features), skip.shape[2:])
            features = block(torch.cat([skip, enlarged], dim=1))
        return [self.output(features)]


def _doubling(ndim: int, inputs: int, outputs: int) -> nn.Module:
    """A transposed convolution that doubles the size, each voxel by itself."""
    layers: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    return layers[ndim](inputs, outputs, 2, stride=2)


KIND = Kind(
    UNetConfig,
    UNetSegmenter,
    sizes={
        ("quick", 2): {"widths": [16, 32, 64, 128]},
        ("standard", 2): {"widths": [32, 64, 128, 256]},
        ("paper", 2): {},
        ("quick", 3): {"widths": [12, 24, 48, 96]},
        ("standard", 3): {"widths": [24, 48, 96, 192]},
        ("paper", 3): {},
    },
    rates={2: 7.5e-4, 3: 6e-4},
    batches={("paper", 3): 4},  # as the paper has it: many channels at the full resolution
)
