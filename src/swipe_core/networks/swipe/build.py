"""SwIPE's configuration and sizes, and the one place where every number meets its part."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from swipe_core.networks.config import Kind, NetworkConfig, Sizes
from swipe_core.networks.encoder import FourStages, build_res2net
from swipe_core.networks.layers import ConvolutionBlock, Normalisation
from swipe_core.networks.lite import FOUR, lite_encoder
from swipe_core.networks.segmenter import Blending
from swipe_core.networks.swipe.backbone import Backbone, CompactTransformer, UNet
from swipe_core.networks.swipe.decoder import FourierFeatures, PointDecoder, PointNormalisation
from swipe_core.networks.swipe.neck import (
    Cascade,
    Fusion,
    Neck,
    Projection,
    ReceptiveFieldBlock,
    StageFusion,
    TopDown,
    TopDownPath,
)
from swipe_core.networks.swipe.swipe import Swipe

# RFB-Lite branches from the finest map to the coarsest, where wide dilations would leave the image.
RECEPTIVE_FIELD_KERNELS = ((1, 3, 5, 7), (1, 3, 5, 7), (1, 3, 5), (1, 3))

HEADS = 4  # of every attention over feature vectors


class SwipeConfig(NetworkConfig):
    """Everything that shapes SwIPE. The paper's symbols stand in parentheses.

    The defaults are the 2D ``sessile`` preset.
    """

    weightless_fields: ClassVar[tuple[str, ...]] = (
        "blending",
        "blending_width",
        "overreach",
        "connectivity",
    )

    network: Literal["swipe"] = "swipe"
    backbone: Literal["res2net", "unet", "cct", "lite0"] = Field(
        "res2net", description="feature extractor (E_b); lite0 can start from weights learned on ImageNet"
    )
    blocks: FourStages = Field(
        (2, 2, 2, 2), description="blocks per stage; (2,2,2,2) is 28 layers, (3,4,6,3) is 50"
    )
    planes: FourStages = Field((64, 80, 96, 128), description="width of each stage")
    expansion: int = Field(2, ge=1, description="output channels of a stage = planes x expansion")
    base_width: int = Field(26, ge=1, description="Res2Net group width for 64 planes")
    scale: int = Field(4, ge=2, description="Res2Net groups per block")
    stem_channels: int = Field(32, ge=1, description="channels of the stem's first two convolutions")
    stem_outputs: int = Field(64, ge=1, description="channels of the stem's last convolution")
    stem_stride: Literal[2, 4] = Field(4, description="stride of the finest feature map")
    norm: Normalisation = Field("batch", description="normalisation of the feature maps")

    receptive_field: bool = Field(True, description="RFB-Lite in the neck (E_n)")
    cascade: bool = Field(True, description="cascaded aggregation in the neck")
    fusion: Fusion = Field("attention", description="how four stages become one embedding; attention is MEA")
    neck_width: int = Field(64, ge=1, description="channels of the neck's feature maps")
    embedding_width: int = Field(256, ge=1, description="length of an embedding (d)")
    cascade_stride: int = Field(32, ge=1, description="stride of the lattice the cascade ends on")
    patch_size: int = Field(32, ge=1, description="edge of a patch in voxels (S)")

    patch_hidden: tuple[PositiveInt, ...] = Field(
        (256, 256, 256), min_length=2, description="hidden layers of the patch decoder (D^P)"
    )
    image_decoder: bool = Field(True, description="train an image decoder (D^I) besides")
    image_hidden: tuple[PositiveInt, ...] = Field(
        (256, 128), min_length=2, description="hidden layers of the image decoder"
    )
    condition_on_image: bool = Field(True, description="give z^I and p^I to the patch decoder")
    condition_on_source: bool = Field(True, description="give the source coordinate p^S to the patch decoder")
    fourier_frequencies: int = Field(6, ge=0, le=24, description="frequencies of the patch-local coordinate")
    decoder_norm: PointNormalisation = Field("layer", description="normalisation after each hidden layer")
    point_features: int = Field(
        0, ge=0, description="features that D^P also reads at the point itself; 0: none, as in the paper"
    )
    top_down: TopDownPath = Field(
        "fpn", description="how the map of point_features is made: maps are added (fpn) or joined (unet)"
    )
    fine_features: int = Field(
        0, ge=0, description="the same of a map at full resolution; 0: none, as in the paper"
    )

    interior: bool = Field(
        False,
        description="learn, beside the classes, how deep inside its own object a point lies, by which "
        "touching objects are told apart",
    )

    overreach: int = Field(8, ge=0, description="neighbouring patches asked per training point (N_SPO)")
    connectivity: int = Field(8, description="which patches are neighbours (con): 4, 8; 6, 18, 26 in 3D")
    blending: Blending = Field("linear", description="how patches share a point at inference")
    blending_width: float = Field(
        0.5, gt=0, le=1, description="zone about a patch border in which they do, in patches"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> SwipeConfig:
        allowed = {2: (4, 8), 3: (6, 18, 26)}[self.ndim]
        if self.connectivity not in allowed:
            raise ValueError(
                f"connectivity must be one of {allowed} in {self.ndim}D, not {self.connectivity}"
            )
        if self.backbone == "res2net" and min(self.planes) * self.base_width < 64:
            raise ValueError(f"planes of {min(self.planes)} are too narrow for base_width {self.base_width}")
        if self.fusion == "self_attention" and self.embedding_width % HEADS:
            raise ValueError(f"embedding_width must be a multiple of {HEADS} for self_attention")
        if self.backbone == "cct" and self.planes[-1] * self.expansion % HEADS:
            raise ValueError(f"the last of planes, times expansion, must be a multiple of {HEADS} for cct")
        if self.cascade_stride & (self.cascade_stride - 1):
            raise ValueError(f"cascade_stride must be a power of two, not {self.cascade_stride}")
        return self

    @property
    def answers_per_point(self) -> int:
        """Once by the point's own patch, and once by each that reaches over to it."""
        return 1 + self.overreach

    def least_tensors(self) -> int:
        """Every block and every hidden layer has one."""
        blocks = sum(self.blocks) if self.backbone == "res2net" else 0
        return max(blocks + len(self.patch_hidden) + len(self.image_hidden), self.scale)


def build_swipe(config: SwipeConfig) -> Swipe:
    """Return a freshly initialised network. Seed torch before calling for a reproducible start."""
    backbone = _build_backbone(config)
    fourier = FourierFeatures(config.ndim, config.fourier_frequencies)
    conditions = 2 if config.condition_on_image else 1
    frames = int(config.condition_on_image) + int(config.condition_on_source)
    patch_decoder = PointDecoder(
        conditions * config.embedding_width,
        fourier.outputs + frames * config.ndim,
        config.patch_hidden,
        config.classes,
        norm=config.decoder_norm,
        feature_width=config.point_features + config.fine_features,
        has_interior=config.interior,
    )
    image_decoder = PointDecoder(
        config.embedding_width, config.ndim, config.image_hidden, config.classes, norm=config.decoder_norm
    )
    return Swipe(
        backbone,
        _build_neck(config, backbone),
        patch_decoder,
        image_decoder if config.image_decoder else None,
        fourier,
        ConvolutionBlock(config.ndim, config.channels, config.fine_features, 3, norm=config.norm)
        if config.fine_features
        else None,
        patch_size=config.patch_size,
        condition_on_image=config.condition_on_image,
        condition_on_source=config.condition_on_source,
        overreach=config.overreach,
        connectivity=config.connectivity,
        blending=config.blending,
        blending_width=config.blending_width,
    )


def _build_backbone(config: SwipeConfig) -> Backbone:
    if config.backbone == "lite0":
        return lite_encoder(config.ndim, config.channels, FOUR[config.stem_stride])
    outputs = tuple(p * config.expansion for p in config.planes)
    if config.backbone == "unet":
        return UNet(
            config.ndim,
            config.channels,
            widths=outputs,
            stem_channels=config.stem_channels,
            stem_stride=config.stem_stride,
            norm=config.norm,
        )
    if config.backbone == "cct":
        return CompactTransformer(
            config.ndim,
            config.channels,
            width=outputs[-1],
            heads=HEADS,
            layers_per_stage=1,
            stem_stride=config.stem_stride,
            norm=config.norm,
        )
    return build_res2net(config)


def _build_neck(config: SwipeConfig, backbone: Backbone) -> Neck:
    ndim, width, norm = config.ndim, config.neck_width, config.norm
    context = [
        ReceptiveFieldBlock(ndim, channels, width, kernels=kernels, norm=norm)
        if config.receptive_field
        else ConvolutionBlock(ndim, channels, width, norm=norm)
        for channels, kernels in zip(backbone.channels, RECEPTIVE_FIELD_KERNELS, strict=True)
    ]
    aggregation = (
        Cascade(
            ndim,
            width,
            config.embedding_width,
            strides=backbone.strides,
            stride=config.cascade_stride,
            norm=norm,
        )
        if config.cascade
        else Projection(ndim, width, config.embedding_width)
    )
    fusion = StageFusion(ndim, config.embedding_width, kind=config.fusion, heads=HEADS)
    top_down = (
        TopDown(ndim, width, config.point_features, kind=config.top_down, norm=norm)
        if config.point_features
        else None
    )
    return Neck(context, aggregation, fusion, top_down, stride=config.cascade_stride)


# Each was trained for real, but for the larger ones of "standard". In 2D the encoder can start from weights
# learned on ImageNet; in 3D convolutions as dilated as those of RFB-Lite cost half of all time on a CPU.
SMALL = {
    "stem_stride": 2,
    "neck_width": 32,
    "embedding_width": 128,
    "cascade_stride": 4,
    "patch_size": 4,
    "patch_hidden": [128, 128, 128],
    "image_hidden": [128, 64],
    "point_features": 32,
    "fine_features": 8,
}
LARGER = SMALL | {"neck_width": 48, "embedding_width": 192, "patch_hidden": [192, 192, 192]}
FLAT = {"backbone": "lite0", "top_down": "unet", "fourier_frequencies": 2, "overreach": 4}
THIN = {"expansion": 1, "connectivity": 6}  # in 3D
VOLUME = THIN | {"receptive_field": False, "fourier_frequencies": 3, "fine_features": 16, "stem_channels": 16}

SIZES: Sizes = {
    ("quick", 2): SMALL | FLAT,
    ("standard", 2): LARGER | FLAT | {"stem_stride": 4, "fine_features": 16},
    ("paper", 2): {},
    ("quick", 3): SMALL
    | VOLUME
    | {"stem_outputs": 32, "blocks": [1, 1, 1, 1], "planes": [32, 48, 64, 96], "overreach": 2},
    ("standard", 3): LARGER
    | VOLUME
    | {"stem_outputs": 48, "blocks": [2, 2, 2, 2], "planes": [48, 64, 96, 128], "overreach": 4},
    ("paper", 3): THIN
    | {
        "blocks": [3, 4, 6, 3],
        "neck_width": 32,
        "embedding_width": 512,
        "patch_size": 8,
        "cascade_stride": 8,
        "patch_hidden": [256, 256, 256, 256],
        "image_hidden": [256, 256, 128],
    },
}

KIND = Kind(SwipeConfig, build_swipe, sizes=SIZES, rates={2: 5e-4, 3: 5e-4})
