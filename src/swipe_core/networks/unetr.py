"""UNETR: a transformer over patches of 16^3 voxels, and a decoder of convolutions that its layers feed.

Hatamizadeh et al., "UNETR: Transformers for 3D medical image segmentation", WACV 2022, as MONAI has it
(Apache 2.0). With MONAI's defaults it has the size that Table 1 of Zhang et al. 2023 states.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from swipe_core.errors import ConfigError, ImageError
from swipe_core.networks.catalogue import hindrance
from swipe_core.networks.config import Kind, NetworkConfig
from swipe_core.networks.segmenter import RasterSegmenter

PATCH = 16  # edge of the patches that are the transformer's tokens, in voxels

Window = tuple[PositiveInt, PositiveInt, PositiveInt]


class UNETRConfig(NetworkConfig):
    """Everything that shapes UNETR. The defaults are the paper's network, for volumes only."""

    network: Literal["unetr"] = "unetr"
    ndim: Literal[2, 3] = Field(3, description="3: it is for volumes only")
    window: Window = Field(
        (96, 96, 96), description="voxels that it sees at once: volumes are padded to it, or cut"
    )
    feature_size: int = Field(16, ge=1, description="channels of the finest feature map")
    hidden_size: int = Field(768, ge=1, description="length of the transformer's tokens")
    mlp_dim: int = Field(3072, ge=1, description="width of the transformer's hidden layers")
    num_heads: int = Field(12, ge=1, description="attention heads; they divide hidden_size")

    @field_validator("window")
    @classmethod
    def _whole_patches(cls, window: Window) -> Window:
        if any(n % PATCH for n in window):
            raise ValueError(f"every size of the window must be a multiple of {PATCH}")
        return window

    @model_validator(mode="after")
    def _fits_together(self) -> UNETRConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size must be a multiple of num_heads, {self.num_heads}")
        return self

    @classmethod
    def fields_for_crop(cls, crop: Sequence[int]) -> Mapping[str, Any]:
        """Return the crop as the window."""
        return {"window": list(crop)}

    def fault_with_crop(self, crop_size: Sequence[int] | None) -> str | None:
        """Return why crops are larger than the window, as whole volumes could be; None where none is."""
        if crop_size is not None and all(n <= w for n, w in zip(crop_size, self.window, strict=True)):
            return None
        given = "whole volumes" if crop_size is None else f"crops of {_product(crop_size)}"
        return f"UNETR takes up to {_product(self.window)} voxels, and not {given}: {_remedy(self.window)}"


class UNETR(RasterSegmenter):
    """MONAI's UNETR as one of the networks that can be trained.

    Raises `ConfigError` when MONAI or einops is not installed.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("network.out.",)

    def __init__(self, config: UNETRConfig) -> None:
        super().__init__(config.ndim, config.channels, config.classes)
        self.window = tuple(config.window)
        self.network = _nets().UNETR(
            config.channels,
            config.classes,
            config.window,
            feature_size=config.feature_size,
            hidden_size=config.hidden_size,
            mlp_dim=config.mlp_dim,
            num_heads=config.num_heads,
            spatial_dims=config.ndim,
        )
        for block in self.network.vit.blocks:
            # MONAI makes it even where there is nothing to attend to: unused, and so without a gradient.
            block.norm_cross_attn = nn.Identity()

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the window.

        Raises `ImageError` where a volume is larger.
        """
        if any(n > w for n, w in zip(shape, self.window, strict=True)):
            raise ImageError(
                f"UNETR takes up to {_product(self.window)} voxels at once, and not {_product(shape)}: "
                f"{_remedy(self.window)}."
            )
        return self.window

    def logit_maps(self, images: Float[Tensor, "batch channels *shape"]) -> Sequence[Tensor]:
        """Return the logits alone: nothing else is trained besides."""
        return [self.network(images)]


def _nets() -> Any:
    """Import MONAI's networks."""
    fault = hindrance("unetr", 3)
    if fault is not None:
        raise ConfigError(fault)
    with torch.device("cpu"):  # networks are also made without memory, and this must not hold for constants
        return importlib.import_module("monai.networks.nets")


def _product(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _remedy(window: Sequence[int]) -> str:
    return f"set preprocessing.crop_size to [{', '.join(map(str, window))}] or less, or model.window to more"


KIND = Kind(
    UNETRConfig,
    UNETR,
    sizes={
        ("quick", 3): {"feature_size": 8, "hidden_size": 192, "mlp_dim": 384, "num_heads": 6},
        ("standard", 3): {"feature_size": 16, "hidden_size": 384, "mlp_dim": 1536, "num_heads": 6},
        ("paper", 3): {},
    },
    rates={3: 1e-3},
)
