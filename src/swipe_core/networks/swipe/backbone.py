"""Backbones E_b: an image to four feature maps F_2 .. F_5, each half the size of the one before.

Res2Net is the paper's choice (Sec. 2.1 of Zhang et al. 2023; Gao et al. 2019, written from that
paper); U-Net (Ronneberger et al. 2015) and CCT (Hassani et al. 2021) are its alternatives in Table 3.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swipe_core.networks.layers import (
    ConvolutionBlock,
    Normalisation,
    average_pool,
    double_convolution,
    max_pool,
    resize,
)

STAGES = 4


@runtime_checkable
class Backbone(Protocol):
    """Four feature maps; `channels` and `strides` describe them from fine to coarse."""

    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, images: Float[Tensor, "batch channels *shape"]) -> list[Tensor]:
        """Feature maps of an image whose every size is a multiple of the last stride."""
        ...


class Res2NetBlock(nn.Module):
    """A bottleneck whose middle convolution works on `scale` channel groups one after the other.

    Every group also sees the output of the group before it, so one block holds several receptive
    fields. At the start of a stage the groups are processed apart and the last one is pooled.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        planes: int,
        *,
        expansion: int,
        base_width: int,
        scale: int,
        stride: int,
        starts_stage: bool,
        norm: Normalisation,
    ) -> None:
        super().__init__()
        width, outputs = planes * base_width // 64, planes * expansion
        self.starts_stage = starts_stage
        self.reduce = ConvolutionBlock(ndim, inputs, width * scale, norm=norm)
        self.groups = nn.ModuleList(
            ConvolutionBlock(ndim, width, width, 3, stride=stride, norm=norm) for _ in range(scale - 1)
        )
        self.last_group = average_pool(ndim, stride) if starts_stage and stride > 1 else nn.Identity()
        self.expand = ConvolutionBlock(ndim, width * scale, outputs, norm=norm, activation=False)
        self.shortcut = (
            nn.Sequential(
                average_pool(ndim, stride) if stride > 1 else nn.Identity(),
                ConvolutionBlock(ndim, inputs, outputs, norm=norm, activation=False),
            )
            if starts_stage
            else nn.Identity()
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        *groups, last = self.reduce(features).chunk(len(self.groups) + 1, dim=1)
        processed: list[Tensor] = []
        for group, block in zip(groups, self.groups, strict=True):
            carried = group if self.starts_stage or not processed else group + processed[-1]
            processed.append(block(carried))
        joined = self.expand(torch.cat([*processed, self.last_group(last)], dim=1))
        return self.activation(joined + self.shortcut(features))


class Res2Net(nn.Module):
    """Res2Net of any depth and width, with a stem of three 3-wide convolutions.

    `blocks`: blocks per stage: (2, 2, 2, 2) is "28 layers", (1, 1, 1, 1) is "14", (3, 4, 6, 3) is "50".
    `planes`: base width of each stage; the stage puts out `planes * expansion` channels.
    `stem_channels`: channels of the stem's first two convolutions; its last has `stem_outputs`.
    `stem_stride`: 4: a strided convolution and max pooling, as in the paper, so F_2 .. F_5 have strides 4 ..
    32; 2: no pooling, strides 2 .. 16, for small volumes and small structures.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        *,
        blocks: Sequence[int],
        planes: Sequence[int],
        expansion: int,
        base_width: int,
        scale: int,
        stem_channels: int,
        stem_outputs: int,
        stem_stride: int,
        norm: Normalisation,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvolutionBlock(ndim, channels, stem_channels, 3, stride=2, norm=norm),
            ConvolutionBlock(ndim, stem_channels, stem_channels, 3, norm=norm),
            ConvolutionBlock(ndim, stem_channels, stem_outputs, 3, norm=norm),
            max_pool(ndim) if stem_stride == 4 else nn.Identity(),
        )
        self.in_channels = channels
        self.channels = tuple(p * expansion for p in planes)
        self.strides = tuple(stem_stride * 2**stage for stage in range(STAGES))
        self.stages = nn.ModuleList()
        inputs = stem_outputs
        for stage, (count, width) in enumerate(zip(blocks, planes, strict=True)):
            layers = []
            for block in range(count):
                layers.append(
                    Res2NetBlock(
                        ndim,
                        inputs,
                        width,
                        expansion=expansion,
                        base_width=base_width,
                        scale=scale,
                        stride=2 if block == 0 and stage > 0 else 1,
                        starts_stage=block == 0,
                        norm=norm,
                    )
                )
                inputs = width * expansion
            self.stages.append(nn.Sequential(*layers))

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.stem(images)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


class UNet(nn.Module):
    """A U-Net whose decoder maps at its four coarser scales are handed to the neck."""

    def __init__(
        self,
        ndim: int,
        channels: int,
        *,
        widths: Sequence[int],
        stem_channels: int,
        stem_stride: int,
        norm: Normalisation,
    ) -> None:
        super().__init__()
        self.in_channels = channels
        self.channels = tuple(widths)
        self.strides = tuple(stem_stride * 2**stage for stage in range(STAGES))
        self.stem = nn.Sequential(
            double_convolution(ndim, channels, stem_channels, norm),
            *(max_pool(ndim) for _ in range(stem_stride // 2)),
        )
        inputs = (stem_channels, *widths[:-1])
        self.down = nn.ModuleList(
            double_convolution(ndim, i, o, norm) for i, o in zip(inputs, widths, strict=True)
        )
        self.pool = max_pool(ndim)
        self.up = nn.ModuleList(
            double_convolution(ndim, coarse + fine, fine, norm)
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        features = self.stem(images)
        for stage, block in enumerate(self.down):
            features = block(features if stage == 0 else self.pool(features))
            maps.append(features)
        for stage in reversed(range(STAGES - 1)):
            enlarged = resize(maps[stage + 1], maps[stage].shape[2:])
            maps[stage] = self.up[stage](torch.cat([enlarged, maps[stage]], dim=1))
        return maps


class CompactTransformer(nn.Module):
    """CCT: a convolutional tokeniser, then a transformer encoder over tokens of the third stride.

    The tokens after each quarter of the encoder make one of the four maps. The position is given by
    a convolution over the token lattice, so that any image size is accepted.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        *,
        width: int,
        heads: int,
        layers_per_stage: int,
        stem_stride: int,
        norm: Normalisation,
    ) -> None:
        super().__init__()
        self.in_channels = channels
        self.channels = (width,) * STAGES
        self.strides = tuple(stem_stride * 2**stage for stage in range(STAGES))
        halvings = self.strides[2].bit_length() - 1
        widths = [max(width >> (halvings - step - 1), min(width, 16)) for step in range(halvings)]
        self.tokeniser = nn.Sequential(
            *(
                ConvolutionBlock(ndim, i, o, 3, stride=2, norm=norm)
                for i, o in zip((channels, *widths[:-1]), widths, strict=True)
            )
        )
        self.position = ConvolutionBlock(ndim, width, width, 3, norm=norm, activation=False)
        self.stages = nn.ModuleList(
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(
                    width, heads, 2 * width, dropout=0.1, batch_first=True, norm_first=True
                ),
                layers_per_stage,
                enable_nested_tensor=False,
            )
            for _ in range(STAGES)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.tokeniser(images)
        features = features + self.position(features)
        batch, width, *lattice = features.shape
        tokens = features.flatten(2).transpose(1, 2)
        maps = []
        for stage, stride in zip(self.stages, self.strides, strict=True):
            tokens = stage(tokens)
            features = tokens.transpose(1, 2).reshape(batch, width, *lattice)
            maps.append(resize(features, [n // stride for n in images.shape[2:]]))
        return maps
