"""EfficientNet-Lite0 as an encoder: small, fast on a CPU, and with weights learned on ImageNet to start from.

Tan & Le 2019; the lite variant has no squeeze-excitation, and ReLU6 for its activation. Written from the
published description of its stages; the weights that ship in `pretrained` are described in NOTICE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate
from operator import mul

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from swipe_core.networks.layers import ConvolutionBlock

COLOURS = 3  # channels of the images that the weights were learned from
WEIGHTS = resources.files("swipe_core.networks") / "pretrained" / "lite0.safetensors"


@dataclass(frozen=True)
class Stage:
    """A row of the network's table."""

    kernel: int
    stride: int
    expansion: int
    outputs: int
    blocks: int


STEM_OUTPUTS, STEM_STRIDE = 32, 2
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
# Stages whose maps are given, the last ones of their strides: four by the stride of the finest, and all.
FOUR = {2: (0, 1, 2, 4), 4: (1, 2, 4, 6)}
ALL = (0, 1, 2, 4, 6)


class Convolution(nn.Conv2d):
    """A convolution padded as in TensorFlow, lopsidedly where the stride is 2; sizes must be even there.

    On a CPU a depthwise one is computed in single precision, in which its gradient is twice as fast.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, groups: int) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        before = (kernel - stride) // 2
        self.lopsided = (before, kernel - stride - before) * 2 if stride > 1 else ()

    def forward(self, features: Tensor) -> Tensor:
        if self.lopsided:
            features = functional.pad(features, self.lopsided)
        if self.groups > 1 and features.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return super().forward(features.float())
        return super().forward(features)


class LiteConvolution(ConvolutionBlock):
    """Convolution, batch normalisation and, unless switched off, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        nn.Sequential.__init__(
            self,
            Convolution(inputs, outputs, kernel, stride=stride, groups=groups),
            nn.BatchNorm2d(outputs, eps=1e-3),
            *([nn.ReLU6(inplace=True)] if activation else []),
        )


class InvertedResidual(nn.Module):
    """A wide depthwise convolution between two narrow maps, which are added where they agree."""

    def __init__(self, stage: Stage, inputs: int, *, stride: int) -> None:
        super().__init__()
        width = inputs * stage.expansion
        self.expand = LiteConvolution(inputs, width) if stage.expansion > 1 else nn.Identity()
        self.depthwise = LiteConvolution(width, width, stage.kernel, stride=stride, groups=width)
        self.project = LiteConvolution(width, stage.outputs, activation=False)
        self.skips = stride == 1 and inputs == stage.outputs

    def forward(self, features: Tensor) -> Tensor:
        projected = self.project(self.depthwise(self.expand(features)))
        return features + projected if self.skips else projected


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its head, as a `swipe_core.networks.swipe.backbone.Backbone`.

    Freshly initialised; `load_pretrained` gives it its start.

    `given`: the stages whose maps are given, fine to coarse; what comes after the last is left out. `ALL`
    have strides of 2 to 32, and 16, 24, 40, 112 and 320 channels.
    """

    def __init__(self, channels: int, given: Sequence[int]) -> None:
        super().__init__()
        self.given = tuple(given)
        self.in_channels = channels
        self.channels = tuple(STAGES[stage].outputs for stage in self.given)
        strides = tuple(accumulate((stage.stride for stage in STAGES), mul, initial=STEM_STRIDE))[1:]
        self.strides = tuple(strides[stage] for stage in self.given)
        self.stem = LiteConvolution(channels, STEM_OUTPUTS, 3, stride=STEM_STRIDE)
        self.stages = nn.ModuleList()
        inputs = STEM_OUTPUTS
        for stage in STAGES[: self.given[-1] + 1]:
            blocks = []
            for block in range(stage.blocks):
                blocks.append(InvertedResidual(stage, inputs, stride=1 if block else stage.stride))
                inputs = stage.outputs
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        features, maps = self.stem(images), []
        for number, stage in enumerate(self.stages):
            features = stage(features)
            if number in self.given:
                maps.append(features)
        return maps

    @torch.no_grad()
    def load_pretrained(self, scale: float = 1.0) -> None:
        """Take over weights learned on ImageNet, from colour images of about [-1, 1].

        One channel is read as if it were red, green and blue alike. Of any other number each channel has the
        mean of the three colours' weights, so that all together count as much as they do.

        `scale`: what images are multiplied with to have that range.
        """
        weights = dict(_pretrained_weights())
        stem = weights["stem.0.weight"] * scale
        if self.in_channels != COLOURS:
            stem = stem.mean(dim=1, keepdim=True).expand(-1, self.in_channels, -1, -1)
            stem = stem * (COLOURS / self.in_channels)
        weights["stem.0.weight"] = stem
        own = self.state_dict()
        self.load_state_dict({name: weights.get(name, own[name]) for name in own})


class SliceEncoder(nn.Module):
    """A 2D encoder of the slices of a volume along its first axis, as a backbone.

    Maps are averaged over as many slices as their stride says; only the neck mixes along that axis.
    """

    def __init__(self, encoder: EfficientNetLite) -> None:
        super().__init__()
        self.encoder = encoder
        self.in_channels, self.channels = encoder.in_channels, encoder.channels
        self.strides = encoder.strides

    def forward(self, images: Float[Tensor, "batch channels depth height width"]) -> list[Tensor]:
        batch, slices = len(images), images.transpose(1, 2).flatten(0, 1)
        slices = slices.contiguous(memory_format=torch.channels_last)
        maps = [m.unflatten(0, (batch, -1)).transpose(1, 2) for m in self.encoder(slices)]
        return [
            functional.avg_pool3d(m, (stride, 1, 1)) for m, stride in zip(maps, self.strides, strict=True)
        ]


def lite_encoder(ndim: int, channels: int, given: Sequence[int]) -> EfficientNetLite | SliceEncoder:
    """Return a freshly initialised encoder of images, or of the slices of volumes."""
    encoder = EfficientNetLite(channels, given)
    return encoder if ndim == 2 else SliceEncoder(encoder)


def pretrained_encoder(model: nn.Module) -> EfficientNetLite | None:
    """Return the encoder of a network that there are pre-trained weights for, if it has one."""
    return next((part for part in model.modules() if isinstance(part, EfficientNetLite)), None)


@cache
def _pretrained_weights() -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in load(WEIGHTS.read_bytes()).items()}
