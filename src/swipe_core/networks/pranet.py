"""PraNet (Fan et al. 2020): a rough map of the whole image, refined where it sees background."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from swipe_core.networks.config import Kind
from swipe_core.networks.encoder import LARGER, SMALL, EncoderConfig, build_encoder
from swipe_core.networks.layers import ConvolutionBlock, Normalisation, convolution, resize
from swipe_core.networks.segmenter import RasterSegmenter

KERNELS = (1, 3, 5, 7)  # of the branches of a receptive field block

# Convolutions of the reverse attention at the second, third and fourth stage: how many, their kernel, and
# the kernel of its output.
REFINEMENTS = ((2, 3, 3), (2, 3, 3), (3, 5, 1))


class PraNetConfig(EncoderConfig):
    """Everything that shapes PraNet; the defaults are the paper's.

    Two things depart from it. The original has one sigmoid channel, this one the background and any number
    of classes by softmax. And its encoder starts from weights learned on ImageNet, of which there are none
    for Res2Net here, only for ``lite0``.
    """

    weightless_fields: ClassVar[tuple[str, ...]] = ("deep_supervision",)

    network: Literal["pranet"] = "pranet"
    context_width: int = Field(32, ge=1, description="channels after the receptive field blocks")
    reverse_widths: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (64, 64, 256), description="channels of the reverse attention at the three deepest stages"
    )
    deep_supervision: bool = Field(True, description="train the three rougher maps besides the last one")


class ContextBlock(nn.Module):
    """PraNet's receptive field block: branches of growing kernel and dilation (after Liu et al. 2018).

    Unlike RFB-Lite of SwIPE's neck, its dilated convolutions and the one that merges are full 3x3 ones.
    """

    def __init__(self, inputs: int, outputs: int, norm: Normalisation) -> None:
        super().__init__()
        self.branches = nn.ModuleList(self._branch(inputs, outputs, kernel, norm) for kernel in KERNELS)
        self.merge = ConvolutionBlock(2, len(KERNELS) * outputs, outputs, 3, norm=norm, activation=False)
        self.shortcut = ConvolutionBlock(2, inputs, outputs, norm=norm, activation=False)
        self.activation = nn.ReLU(inplace=True)

    @staticmethod
    def _branch(inputs: int, outputs: int, kernel: int, norm: Normalisation) -> nn.Sequential:
        layers = [ConvolutionBlock(2, inputs, outputs, norm=norm)]
        if kernel > 1:
            layers += [
                ConvolutionBlock(2, outputs, outputs, (1, kernel), norm=norm),
                ConvolutionBlock(2, outputs, outputs, (kernel, 1), norm=norm),
                ConvolutionBlock(2, outputs, outputs, 3, dilation=kernel, norm=norm),
            ]
        return nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        merged = self.merge(torch.cat([branch(features) for branch in self.branches], dim=1))
        return self.activation(merged + self.shortcut(features))


class PartialDecoder(nn.Module):
    """The parallel partial decoder: three maps of one width to the rough map of the whole (Wu et al. 2019).

    Every map is multiplied with each coarser one; then, from coarse to fine, they are concatenated.
    """

    def __init__(self, width: int, classes: int, norm: Normalisation) -> None:
        super().__init__()

        def convolved(channels: int) -> ConvolutionBlock:
            return ConvolutionBlock(2, channels, channels, 3, norm=norm, activation=False)

        self.third_by_fourth = convolved(width)
        self.second_by_third, self.second_by_fourth = convolved(width), convolved(width)
        self.carry_fourth, self.carry_third = convolved(width), convolved(2 * width)
        self.join_third, self.join_second = convolved(2 * width), convolved(3 * width)
        self.last = convolved(3 * width)
        self.output = convolution(2, 3 * width, classes, bias=True)

    def forward(self, second: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
        """Return logits on the lattice of the second stage, from maps of it and the two coarser ones."""
        fine, middle = second.shape[2:], third.shape[2:]
        coarser = self.second_by_third(resize(third, fine)) * self.second_by_fourth(resize(fourth, fine))
        second = second * coarser
        third = third * self.third_by_fourth(resize(fourth, middle))
        joined = self.join_third(torch.cat([third, self.carry_fourth(resize(fourth, middle))], dim=1))
        joined = self.join_second(torch.cat([second, self.carry_third(resize(joined, fine))], dim=1))
        return self.output(self.last(joined))


class ReverseAttention(nn.Module):
    """Corrects a coarser map by the features of a stage, as far as that map sees background.

    The paper's 1 - sigmoid of the only channel is, with several classes, the probability of the background.

    `count` and `kernel`: of the convolutions after the projection to `width`.
    `output_kernel`: of the convolution to logits.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        classes: int,
        *,
        count: int,
        kernel: int,
        output_kernel: int,
        norm: Normalisation,
    ) -> None:
        super().__init__()
        self.refine = nn.Sequential(
            ConvolutionBlock(2, inputs, width, norm=norm),
            *(ConvolutionBlock(2, width, width, kernel, norm=norm) for _ in range(count)),
        )
        self.output = convolution(2, width, classes, output_kernel, bias=True)

    def forward(self, features: Tensor, coarser: Tensor) -> Tensor:
        """Return logits on the lattice of the features."""
        coarser = resize(coarser, features.shape[2:])
        background = coarser.softmax(dim=1)[:, :1].to(features.dtype)
        return coarser + self.output(self.refine(background * features))


class PraNet(RasterSegmenter):
    """The parallel reverse attention network.

    `context` and `reverse` have a part for each of the encoder's three deepest stages, from fine to coarse;
    the map of the finest, enlarged linearly, is the last one. With `deep_supervision` the three maps before
    it are trained too, each on its own lattice.
    """

    class_layers: ClassVar[tuple[str, ...]] = (
        "rough.output.",
        *(f"reverse.{stage}.output." for stage in range(len(REFINEMENTS))),
    )

    def __init__(self, config: PraNetConfig) -> None:
        super().__init__(2, config.channels, config.classes)
        norm = config.norm
        self.encoder = build_encoder(config)
        self.size_multiple = self.encoder.strides[-1]
        self.deep_supervision = config.deep_supervision
        inputs = self.encoder.channels[-3:]
        # Made first, which decides what they start from, and the last to be registered.
        reverse = [
            ReverseAttention(
                i, width, config.classes, count=count, kernel=kernel, output_kernel=output_kernel, norm=norm
            )
            for i, width, (count, kernel, output_kernel) in zip(
                inputs, config.reverse_widths, REFINEMENTS, strict=True
            )
        ]
        self.context = nn.ModuleList(ContextBlock(i, config.context_width, norm) for i in inputs)
        self.rough = PartialDecoder(config.context_width, config.classes, norm)
        self.reverse = nn.ModuleList(reverse)

    def logit_maps(self, images: Float[Tensor, "batch channels *shape"]) -> Sequence[Tensor]:
        """Return the logits at every voxel, then, in training, of the rougher maps, the roughest last."""
        stages = self.encoder(images)[-3:]
        maps = [self.rough(*(block(m) for block, m in zip(self.context, stages, strict=True)))]
        for attention, features in zip(reversed(self.reverse), reversed(stages), strict=True):
            maps.append(attention(features, maps[-1]))
        *sides, last = maps
        trained = reversed(sides) if self.training and self.deep_supervision else ()
        return [resize(last, images.shape[2:]), *trained]


KIND = Kind(
    PraNetConfig,
    PraNet,
    # Its last map has a stride of 8, which is too coarse for small objects: half of that in small networks.
    sizes={
        ("quick", 2): SMALL | {"stem_stride": 2, "context_width": 16, "reverse_widths": [16, 16, 32]},
        ("standard", 2): LARGER | {"stem_stride": 2, "context_width": 24, "reverse_widths": [32, 32, 64]},
        ("paper", 2): {},
    },
    rates={2: 1e-3},
)
