"""The neck E_n: four feature maps to patch embeddings Z^P and the image embedding z^I (Sec. 2.1).

RFB-Lite widens the receptive field, the cascade carries fine detail into coarse maps and brings
all four to one shape, and multi-stage embedding attention (MEA) weighs them at every patch. Beside the
paper, `TopDown` makes a fine map of the same four that the decoder reads at every point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swipe_core.networks.layers import (
    ConvolutionBlock,
    Normalisation,
    convolution,
    double_convolution,
    resize,
)
from swipe_core.networks.swipe.backbone import STAGES

Fusion = Literal["attention", "addition", "concatenation", "self_attention", "last"]
TopDownPath = Literal["fpn", "unet"]


class ReceptiveFieldBlock(nn.Module):
    """RFB-Lite: parallel branches of growing kernel and dilation, all convolutions asymmetric.

    After Liu et al. 2018; a k-wide kernel is a chain of 1D kernels, one along each axis, followed by
    a 3-wide one of dilation k.

    `kernels`: one branch each; 1 is a plain projection.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        *,
        kernels: Sequence[int],
        norm: Normalisation,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(self._branch(ndim, inputs, outputs, k, norm) for k in kernels)
        self.merge = ConvolutionBlock(ndim, len(kernels) * outputs, outputs, norm=norm, activation=False)
        self.shortcut = ConvolutionBlock(ndim, inputs, outputs, norm=norm, activation=False)
        self.activation = nn.ReLU(inplace=True)

    @staticmethod
    def _branch(ndim: int, inputs: int, outputs: int, kernel: int, norm: Normalisation) -> nn.Sequential:
        layers: list[nn.Module] = [ConvolutionBlock(ndim, inputs, outputs, norm=norm)]
        if kernel > 1:
            layers += [_along(ndim, outputs, axis, kernel, 1, norm) for axis in range(ndim)]
            layers += [_along(ndim, outputs, axis, 3, kernel, norm) for axis in range(ndim)]
        return nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        merged = self.merge(torch.cat([branch(features) for branch in self.branches], dim=1))
        return self.activation(merged + self.shortcut(features))


def _along(
    ndim: int, channels: int, axis: int, size: int, dilation: int, norm: Normalisation
) -> ConvolutionBlock:
    kernel = tuple(size if a == axis else 1 for a in range(ndim))
    dilations = tuple(dilation if a == axis else 1 for a in range(ndim))
    return ConvolutionBlock(ndim, channels, channels, kernel, dilation=dilations, norm=norm)


class Cascade(nn.Module):
    """Aggregate from fine to coarse, then bring every stage to the shape of the embedding lattice.

    Stage n receives stage n - 1 through a strided convolution and merges it; the merged map is
    brought to `stride` by merging 2-wide cells, or enlarged where it is coarser already.
    """

    def __init__(
        self,
        ndim: int,
        width: int,
        outputs: int,
        *,
        strides: Sequence[int],
        stride: int,
        norm: Normalisation,
    ) -> None:
        super().__init__()
        self.carry = nn.ModuleList(
            ConvolutionBlock(ndim, width, width, 3, stride=2, norm=norm) for _ in strides[1:]
        )
        self.merge = nn.ModuleList(
            nn.Sequential(
                ConvolutionBlock(ndim, 2 * width, width, norm=norm),
                *(_along(ndim, width, axis, 3, 1, norm) for axis in range(ndim)),
            )
            for _ in strides[1:]
        )
        self.reduce = nn.ModuleList(
            nn.Sequential(
                *(
                    ConvolutionBlock(ndim, width, width, 2, stride=2, norm=norm)
                    for _ in range(max(stride // s, 1).bit_length() - 1)
                )
            )
            for s in strides
        )
        self.project = nn.ModuleList(convolution(ndim, width, outputs, bias=True) for _ in strides)

    def forward(self, maps: Sequence[Tensor], lattice: Sequence[int]) -> list[Tensor]:
        aggregated = [maps[0]]
        for finer, coarser in zip(range(len(self.carry)), maps[1:], strict=True):
            carried = self.carry[finer](aggregated[-1])
            aggregated.append(self.merge[finer](torch.cat([carried, coarser], dim=1)))
        return [
            resize(project(reduce(features)), lattice)
            for features, reduce, project in zip(aggregated, self.reduce, self.project, strict=True)
        ]


class Projection(nn.Module):
    """What stands in for the cascade when it is switched off: one 1-wide convolution per stage."""

    def __init__(self, ndim: int, width: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(convolution(ndim, width, outputs, bias=True) for _ in range(STAGES))

    def forward(self, maps: Sequence[Tensor], lattice: Sequence[int]) -> list[Tensor]:
        return [
            resize(project(features), lattice) for features, project in zip(maps, self.project, strict=True)
        ]


class StageFusion(nn.Module):
    """Fuse the four embeddings e_2 .. e_5 of every patch into one, as the chosen `kind` does.

    ``attention`` is the paper's MEA: W = Softmax(MLP_1(cat_n MLP_0(e_n))) and
    z^P = MLP_2(sum_n e_n + sum_n w_n e_n). The others are the rows of Table 3: plain ``addition``,
    ``concatenation`` with a 1-wide convolution, ``self_attention`` among the four embeddings, and
    ``last``, which reads the coarsest stage only (MEA switched off).
    """

    def __init__(self, ndim: int, width: int, *, kind: Fusion, heads: int = 4, hidden: int = 64) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.describe = nn.Sequential(convolution(ndim, width, hidden, bias=True), nn.ReLU(inplace=True))
            self.weigh = convolution(ndim, STAGES * hidden, STAGES, bias=True)
        elif kind == "concatenation":
            self.join = convolution(ndim, STAGES * width, width, bias=True)
        elif kind == "self_attention":
            self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.output = convolution(ndim, width, width, bias=True)

    def forward(self, stages: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Fused embeddings (batch, d, *grid) and, for MEA, the weights W (batch, 4, *grid)."""
        if self.kind == "attention":
            described = torch.cat([self.describe(stage) for stage in stages], dim=1)
            weights = self.weigh(described).softmax(dim=1)
            fused = sum((1 + weights[:, n : n + 1]) * stage for n, stage in enumerate(stages))
            return self.output(fused), weights
        return self.output(self._fuse(stages)), None

    def _fuse(self, stages: Sequence[Tensor]) -> Tensor:
        if self.kind == "concatenation":
            return self.join(torch.cat(list(stages), dim=1))
        if self.kind == "addition":
            return torch.stack(list(stages)).sum(dim=0)
        if self.kind == "last":
            return stages[-1]
        stacked = torch.stack(list(stages), dim=-1).movedim(1, -1)  # (batch, *grid, 4, d)
        tokens = stacked.flatten(0, -3)
        attended, _ = self.attend(tokens, tokens, tokens, need_weights=False)
        return (tokens + attended).sum(dim=1).unflatten(0, stacked.shape[:-2]).movedim(-1, 1)


class TopDown(nn.Module):
    """From the coarsest map to the finest: each is enlarged and meets the next finer one.

    ``fpn``: they are added and convolved once (Lin et al. 2017). ``unet``: they are concatenated and
    convolved twice (Ronneberger et al. 2015).
    """

    def __init__(
        self, ndim: int, width: int, outputs: int, *, kind: TopDownPath, norm: Normalisation
    ) -> None:
        super().__init__()
        self.joins = kind == "unet"
        self.blocks = nn.ModuleList(
            double_convolution(ndim, 2 * width, width, norm)
            if self.joins
            else ConvolutionBlock(ndim, width, width, 3, norm=norm)
            for _ in range(STAGES - 1)
        )
        self.project = convolution(ndim, width, outputs, bias=True)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *finer, features = maps
        for block, fine in zip(self.blocks, reversed(finer), strict=True):
            enlarged = resize(features, fine.shape[2:])
            features = block(torch.cat([fine, enlarged], dim=1) if self.joins else enlarged + fine)
        return self.project(features)


@dataclass(frozen=True, eq=False)
class NeckOutput:
    """What the neck makes of an image."""

    patch: Float[Tensor, "batch d *grid"]
    """Patch embeddings (Z^P)."""
    image: Float[Tensor, "batch d"]
    """The image embedding (z^I)."""
    attention: Tensor | None
    """MEA weights of the four stages, where there are any."""
    point_map: Tensor | None
    """What is read at every point, over the padded image, where it is."""


class Neck(nn.Module):
    """E_n, put together from its parts."""

    def __init__(
        self,
        context: Sequence[nn.Module],
        aggregation: nn.Module,
        fusion: StageFusion,
        top_down: TopDown | None = None,
        *,
        stride: int,
    ) -> None:
        super().__init__()
        self.context = nn.ModuleList(context)
        self.aggregation = aggregation
        self.fusion = fusion
        self.top_down = top_down
        self.stride = stride

    def forward(
        self,
        maps: Sequence[Tensor],
        *,
        image_shape: Sequence[int],
        padded_shape: Sequence[int],
        patch_size: int,
    ) -> NeckOutput:
        lattice = [n // self.stride for n in padded_shape]
        context = [block(features) for block, features in zip(self.context, maps, strict=True)]
        stages = self.aggregation(context, lattice)
        # Resized over the extent they cover, padding included: patches that lie in it are cut off after.
        padded_grid = [n // patch_size for n in padded_shape]
        grid = [-(-n // patch_size) for n in image_shape]
        patch, attention = self.fusion([_leading(resize(stage, padded_grid), grid) for stage in stages])
        # The image embedding averages F'_5 over cells of the image, not over its padding.
        inside = [-(-n // self.stride) for n in image_shape]
        image = _leading(stages[-1], inside).flatten(2).mean(dim=2)
        point_map = None if self.top_down is None else self.top_down(context)
        return NeckOutput(patch, image, attention, point_map)


def _leading(features: Tensor, shape: Sequence[int]) -> Tensor:
    """The first `shape` cells of a map along its spatial axes."""
    for axis, length in enumerate(shape, start=2):
        features = features.narrow(axis, 0, length)
    return features
