"""The few layers that all networks are made of, in 2D and 3D alike."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

Normalisation = Literal["batch", "group", "instance"]

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""The layout of feature maps, by their dimensions, in which convolutions run up to twice as fast."""


def lay_channels_last(model: nn.Module) -> None:
    """Lay all kernels of a network out with the channels last, of 2D and of 3D convolutions."""
    for parameter in model.parameters():
        if parameter.ndim - 2 in CHANNELS_LAST:
            parameter.data = parameter.data.to(memory_format=CHANNELS_LAST[parameter.ndim - 2])


def convolution(
    ndim: int,
    inputs: int,
    outputs: int,
    kernel: int | Sequence[int] = 1,
    *,
    stride: int = 1,
    dilation: int | Sequence[int] = 1,
    bias: bool = False,
) -> nn.Module:
    """A convolution without size change for odd kernels at stride 1; even kernels are not padded."""
    kernel = (kernel,) * ndim if isinstance(kernel, int) else tuple(kernel)
    dilation = (dilation,) * ndim if isinstance(dilation, int) else tuple(dilation)
    padding = tuple(d * (k // 2) * (k % 2) for k, d in zip(kernel, dilation, strict=True))
    layers: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
    return layers[ndim](inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias)


def normalisation(ndim: int, channels: int, kind: Normalisation) -> nn.Module:
    """Return the normalisation of a feature map."""
    if kind == "group":
        groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    layers: dict[tuple[str, int], type[nn.Module]] = {
        ("batch", 2): nn.BatchNorm2d,
        ("batch", 3): nn.BatchNorm3d,
        ("instance", 2): nn.InstanceNorm2d,
        ("instance", 3): nn.InstanceNorm3d,
    }
    return layers[kind, ndim](channels, affine=True)


class ConvolutionBlock(nn.Sequential):
    """Convolution, normalisation and, unless switched off, ReLU."""

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        kernel: int | Sequence[int] = 1,
        *,
        norm: Normalisation,
        stride: int = 1,
        dilation: int | Sequence[int] = 1,
        activation: bool = True,
    ) -> None:
        super().__init__(
            convolution(ndim, inputs, outputs, kernel, stride=stride, dilation=dilation),
            normalisation(ndim, outputs, norm),
            *([nn.ReLU(inplace=True)] if activation else []),
        )

    def fold(self) -> None:
        """Make batch normalisation a part of the convolution, for good: for inference only."""
        convolution, norm = self[0], self[1]
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            assert isinstance(convolution, nn.Conv2d | nn.Conv3d)
            self[0], self[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


def double_convolution(
    ndim: int, inputs: int, outputs: int, norm: Normalisation, *, middle: int | None = None
) -> nn.Sequential:
    """Return two 3-wide convolution blocks; `middle` is the width between them, by default the last one."""
    middle = outputs if middle is None else middle
    return nn.Sequential(
        ConvolutionBlock(ndim, inputs, middle, 3, norm=norm),
        ConvolutionBlock(ndim, middle, outputs, 3, norm=norm),
    )


class CoordinateLayer(nn.Linear):
    """A linear layer over coordinates of the image frame, exact under autocast too.

    Added to a layer over features it is the same as one layer over both. Half precision would move points
    by up to a voxel, so there is no matrix product here, which autocast would do in it.
    """

    def __init__(self, ndim: int, outputs: int) -> None:
        super().__init__(ndim, outputs, bias=False)

    def forward(
        self, points_image: Float[Tensor, "batch points ndim"]
    ) -> Float[Tensor, "batch points outputs"]:
        placed = points_image[..., :1] * self.weight[:, 0]
        for axis in range(1, self.in_features):
            placed = placed + points_image[..., axis : axis + 1] * self.weight[:, axis]
        return placed


def max_pool(ndim: int) -> nn.Module:
    """Halve the size by the maximum of overlapping 3-wide windows."""
    return {2: nn.MaxPool2d, 3: nn.MaxPool3d}[ndim](3, stride=2, padding=1)


def average_pool(ndim: int, stride: int) -> nn.Module:
    """Divide the size by `stride` by averaging disjoint cells."""
    return {2: nn.AvgPool2d, 3: nn.AvgPool3d}[ndim](stride)


def resize(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Cell-centred linear resizing; averages over areas where the map shrinks, so nothing is skipped."""
    shape = tuple(shape)
    if tuple(features.shape[2:]) == shape:
        return features
    ndim = len(shape)
    if all(new <= old for new, old in zip(shape, features.shape[2:], strict=True)):
        if ndim == 2:
            return functional.adaptive_avg_pool2d(features, (shape[0], shape[1]))
        return functional.adaptive_avg_pool3d(features, (shape[0], shape[1], shape[2]))
    mode = {2: "bilinear", 3: "trilinear"}[ndim]
    return functional.interpolate(features, size=shape, mode=mode, align_corners=False)


def rounded_up(shape: Sequence[int], multiple: int) -> tuple[int, ...]:
    """Return the next multiples of a number of voxels that hold a shape."""
    return tuple(-(-n // multiple) * multiple for n in shape)


def padded_to(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat the last voxels of images (batch, channels, *smaller) up to a size, at the far ends."""
    missing = [new - old for new, old in zip(shape, images.shape[2:], strict=True)]
    if not any(missing):
        return images
    return functional.pad(images, [p for m in reversed(missing) for p in (0, m)], mode="replicate")
