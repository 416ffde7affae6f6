"""Res2UNet: a U-Net whose encoder is Res2Net-50 (Gao et al. 2019) and whose decoder is light."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from swipe_core.networks.config import Kind, in_2d_and_3d
from swipe_core.networks.encoder import LARGER, SMALL, EncoderConfig, FourStages, build_encoder
from swipe_core.networks.layers import ConvolutionBlock, convolution, double_convolution, resize
from swipe_core.networks.segmenter import RasterSegmenter
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
    """

    class_layers: ClassVar[tuple[str, ...]] = ("output.",)

    def __init__(self, config: Res2UNetConfig) -> None:
        super().__init__(config.ndim, config.channels, config.classes)
        ndim, widths, norm = config.ndim, config.decoder_widths, config.norm
        self.encoder = build_encoder(config)
        self.size_multiple = self.encoder.strides[-1]
        self.project = nn.ModuleList(
            ConvolutionBlock(ndim, i, o, norm=norm)
            for i, o in zip(self._channels(config.stem_outputs), (*widths, widths[-1]), strict=True)
        )
        self.up = nn.ModuleList(
            double_convolution(ndim, own + coarse, own, norm)
            for own, coarse in zip(widths, (*widths[1:], widths[-1]), strict=True)
        )
        self.output = convolution(ndim, widths[0], config.classes, bias=True)

    def logit_maps(self, images: Float[Tensor, "batch channels *shape"]) -> Sequence[Tensor]:
        """Return the logits at every voxel."""
        *finer, features = [
            project(m) for project, m in zip(self.project, self._encoder_maps(images), strict=True)
        ]
        for block, fine in zip(reversed(self.up), reversed(finer), strict=True):
            enlarged = resize(features, fine.shape[2:])
            features = block(torch.cat([fine, enlarged], dim=1))
        return [resize(self.output(features), images.shape[2:])]

    def _channels(self, stem_outputs: int) -> tuple[int, ...]:
        own = self.encoder.channels
        return (stem_outputs, *own) if isinstance(self.encoder, Res2Net) else own

    def _encoder_maps(self, images: Tensor) -> list[Tensor]:
        """A map of stride 2, the stem's before pooling, and those of the four stages."""
        if not isinstance(self.encoder, Res2Net):
            return self.encoder(images)
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


KIND = Kind(
    Res2UNetConfig,
    Res2UNet,
    sizes=in_2d_and_3d(
        SMALL | {"decoder_widths": [16, 32, 32, 32]}, LARGER | {"decoder_widths": [16, 64, 64, 64]}
    ),
    rates={2: 1e-3, 3: 1e-3},
)
