"""Res2UNet: a U-Net whose encoder is Res2Net-50 (Gao et al. 2019) and whose decoder is light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from swipe_core.networks.encoder import EncoderConfig, FourStages, build_encoder
from swipe_core.networks.layers import ConvolutionBlock, Normalisation, convolution, resize
from swipe_core.networks.raster import RasterSegmenter
from swipe_core.networks.swipe.backbone import Res2Net


class Res2UNetConfig(EncoderConfig):
    """Everything that shapes Res2UNet.

    Zhang et al. 2023 name no paper for it but Res2Net's. The widths of the decoder are chosen so that the
    network has the sizes of their Table 1, in 2D and in 3D.
    """

    network: Literal["res2unet"] = "res2unet"
    decoder_widths: FourStages = Field(
        (24, 96, 96, 96),
        description="channels of the decoder beside the stem and the first three stages",
    )


class Res2UNet(RasterSegmenter):
    """A U-Net over the maps of a Res2Net: those of its stem before pooling, and of its four stages.

    Every map is projected to the decoder's width. From coarse to fine, what there is so far is enlarged,
    concatenated with the next map and convolved twice. The logits have the stride of the stem, 2, and are
    enlarged linearly.

    Parameters
    ----------
    stem_outputs
        Channels of the stem.
    widths
        Channels of the decoder beside the stem and the first three stages; the fourth is projected to the
        last of them.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("output.",)

    def __init__(
        self,
        ndim: int,
        encoder: Res2Net,
        stem_outputs: int,
        classes: int,
        *,
        widths: Sequence[int],
        norm: Normalisation,
    ) -> None:
        super().__init__(ndim, encoder.in_channels, classes)
        self.encoder = encoder
        enlarged = (*widths[1:], widths[-1])
        self.project = nn.ModuleList(
            ConvolutionBlock(ndim, i, o, norm=norm)
            for i, o in zip((stem_outputs, *encoder.channels), (*widths, widths[-1]), strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                ConvolutionBlock(ndim, own + coarse, own, 3, norm=norm),
                ConvolutionBlock(ndim, own, own, 3, norm=norm),
            )
            for own, coarse in zip(widths, enlarged, strict=True)
        )
        self.output = convolution(ndim, widths[0], classes, bias=True)

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Multiples of what one cell of the coarsest map spans."""
        cell = self.encoder.strides[-1]
        return tuple(math.ceil(n / cell) * cell for n in shape)

    def logit_maps(self, images: Float[Tensor, "batch channels *shape"]) -> Sequence[Tensor]:
        """Logits at every voxel."""
        *finer, features = [
            project(m) for project, m in zip(self.project, self._encoder_maps(images), strict=True)
        ]
        for block, fine in zip(reversed(self.up), reversed(finer), strict=True):
            enlarged = resize(features, fine.shape[2:])
            features = block(torch.cat([fine, enlarged], dim=1))
        return [resize(self.output(features), images.shape[2:])]

    def _encoder_maps(self, images: Tensor) -> list[Tensor]:
        """The stem's map before pooling, and those of the four stages."""
        *convolutions, pool = self.encoder.stem
        features = images
        for block in convolutions:
            features = block(features)
        maps = [features]
        features = pool(features)
        for stage in self.encoder.stages:
            features = stage(features)
            maps.append(features)
        return maps


def build_res2unet(config: Res2UNetConfig) -> Res2UNet:
    """A freshly initialised network. Seed torch before calling for a reproducible start."""
    return Res2UNet(
        config.ndim,
        build_encoder(config),
        config.stem_outputs,
        config.classes,
        widths=config.decoder_widths,
        norm=config.norm,
    )
