"""The encoder of Res2UNet and PraNet, the fields that shape it, and its smaller sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt, model_validator

from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.layers import Normalisation
from swipe_core.networks.lite import ALL, EfficientNetLite, SliceEncoder, lite_encoder
from swipe_core.networks.swipe.backbone import Res2Net

if TYPE_CHECKING:
    from swipe_core.networks.swipe.build import SwipeConfig

FourStages = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]

SMALL = {
    "blocks": [1, 1, 1, 1],
    "planes": [24, 32, 48, 64],
    "expansion": 2,
    "stem_channels": 16,
    "stem_outputs": 32,
}
LARGER = SMALL | {"blocks": [2, 2, 2, 2], "planes": [40, 64, 96, 128]}


class EncoderConfig(NetworkConfig):
    """The fields of the encoder. The defaults are Res2Net-50 (26w x 4s) of Gao et al. 2019."""

    encoder: Literal["res2net", "lite0"] = Field(
        "res2net", description="lite0 can start from weights learned on ImageNet, and has one size"
    )
    blocks: FourStages = Field(
        (3, 4, 6, 3), description="blocks per stage; (2,2,2,2) is 28 layers, (3,4,6,3) is 50"
    )
    planes: FourStages = Field((64, 128, 256, 512), description="width of each stage")
    expansion: int = Field(4, ge=1, description="output channels of a stage = planes x expansion")
    base_width: int = Field(26, ge=1, description="Res2Net group width for 64 planes")
    scale: int = Field(4, ge=2, description="Res2Net groups per block")
    stem_channels: int = Field(32, ge=1, description="channels of the stem's first two convolutions")
    stem_outputs: int = Field(64, ge=1, description="channels of the stem's last convolution")
    stem_stride: Literal[2, 4] = Field(4, description="stride of the first stage")
    norm: Normalisation = Field("batch", description="normalisation of the feature maps")

    @model_validator(mode="after")
    def _wide_enough(self) -> EncoderConfig:
        if min(self.planes) * self.base_width < 64:
            raise ValueError(f"planes of {min(self.planes)} are too narrow for base_width {self.base_width}")
        return self

    def least_tensors(self) -> int:
        """Every block has one, and so has every group of one."""
        return 0 if self.encoder == "lite0" else max(sum(self.blocks), self.scale)


def build_encoder(config: EncoderConfig) -> Res2Net | EfficientNetLite | SliceEncoder:
    """Return a freshly initialised encoder; the last four of its maps are those of its stages."""
    if config.encoder == "lite0":
        return lite_encoder(config.ndim, config.channels, ALL)
    return build_res2net(config)


def build_res2net(config: EncoderConfig | SwipeConfig) -> Res2Net:
    """Return a freshly initialised Res2Net with the fields of a configuration."""
    return Res2Net(
        config.ndim,
        config.channels,
        blocks=config.blocks,
        planes=config.planes,
        expansion=config.expansion,
        base_width=config.base_width,
        scale=config.scale,
        stem_channels=config.stem_channels,
        stem_outputs=config.stem_outputs,
        stem_stride=config.stem_stride,
        norm=config.norm,
    )
