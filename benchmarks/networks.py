"""The networks of the comparison, as MONAI has them, at about the paper's sizes and with random weights."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from swipe_core.data.preprocessing import PreprocessingConfig, preprocess
from swipe_core.images import read_image
from swipe_core.networks.layers import CHANNELS_LAST

NEEDED = {"U-Net": ("monai",), "UNETR": ("monai", "einops")}  # packages, by network
HOW_TO_GET = 'pip install -c constraints.txt -e ".[benchmark]"'

U_NET_WIDTH = {2: 64, 3: 54}  # 7.9 M and 16.4 M parameters, as the paper's 7.9 M and 16.3 M
SLAB = 8  # voxels along the first axis that are enlarged at once


def available(ndim: int) -> list[str]:
    """The networks of the comparison whose packages are installed; none is imported."""
    return [name for name in NETWORKS[ndim] if all(map(importlib.util.find_spec, NEEDED[name]))]


def left_out() -> str:
    """Which networks cannot be built here, and how they could; empty where all can."""
    missing = [name for name in NEEDED if name not in available(3)]
    if not missing:
        return ""
    return f"Left out, since MONAI or einops is not there: {' and '.join(missing)}. {HOW_TO_GET}"


def build_u_net(ndim: int, channels: int, classes: int, window: Sequence[int]) -> nn.Module:
    """MONAI's BasicUNet; `window` is for any."""
    width = U_NET_WIDTH[ndim]
    features = (width, width, 2 * width, 4 * width, 8 * width, width)
    nets = importlib.import_module("monai.networks.nets")
    network: nn.Module = nets.BasicUNet(ndim, channels, classes, features=features)
    return network


def build_unetr(ndim: int, channels: int, classes: int, window: Sequence[int]) -> nn.Module:
    """MONAI's UNETR with its defaults, which are the paper's 92.6 M parameters."""
    nets = importlib.import_module("monai.networks.nets")
    network: nn.Module = nets.UNETR(channels, classes, tuple(window), spatial_dims=ndim)
    return network


NETWORKS: dict[int, dict[str, Callable[[int, int, int, Sequence[int]], nn.Module]]] = {
    2: {"U-Net": build_u_net},
    3: {"U-Net": build_u_net, "UNETR": build_unetr},
}


@dataclass(frozen=True, eq=False)
class VoxelNetwork:
    """A network with one answer per voxel, used as `Predictor` is: from a file to labels.

    Attributes
    ----------
    preprocessing
        As SwIPE's, so that both see the same.
    """

    network: nn.Module
    preprocessing: PreprocessingConfig
    device: torch.device

    @classmethod
    def built(
        cls,
        name: str,
        preprocessing: PreprocessingConfig,
        classes: int,
        window: Sequence[int],
        device: torch.device,
    ) -> VoxelNetwork:
        """With random weights, in the memory format that convolutions are fastest with."""
        torch.manual_seed(0)
        build = NETWORKS[preprocessing.ndim][name]
        network = build(preprocessing.ndim, preprocessing.channels, classes, window).to(device).eval()
        network.to(memory_format=CHANNELS_LAST[preprocessing.ndim])  # type: ignore[call-overload]
        return cls(network, preprocessing, device)

    @torch.inference_mode()
    def labels(
        self, path: Path, factor: int = 1, window: Sequence[int] | None = None, overlap: float = 0.0
    ) -> UInt8[np.ndarray, "*shape"]:
        """The classes at the size that the network sees, or that many times finer along every axis.

        Parameters
        ----------
        window
            Slide a window of this shape; None: the whole image at once.
        """
        prepared = preprocess(read_image(path, ndim=self.preprocessing.ndim), self.preprocessing)
        images = prepared.tensor[None].to(self.device)
        images = images.contiguous(memory_format=CHANNELS_LAST[self.preprocessing.ndim])
        logits = self.network(images) if window is None else self._sliding(images, window, overlap)
        return enlarged_classes(logits[0], factor).cpu().numpy()

    def _sliding(self, images: Tensor, window: Sequence[int], overlap: float) -> Tensor:
        inferers: Any = importlib.import_module("monai.inferers")
        batch = 1 if self.device.type == "cpu" else 4  # as `Predictor` does
        slide = inferers.SlidingWindowInferer(tuple(window), batch, overlap, mode="gaussian")
        logits: Tensor = slide(images, self.network)
        return logits


def enlarged_classes(logits: Float[Tensor, "classes *shape"], factor: int) -> UInt8[Tensor, "*fine"]:
    """The greatest of linearly interpolated logits, a slab at a time: all at once may not fit into memory."""
    if factor == 1:
        return logits.argmax(dim=0).to(torch.uint8)
    mode = {2: "bilinear", 3: "trilinear"}[logits.ndim - 1]
    length = logits.shape[1]
    slabs = []
    for start in range(0, length, SLAB):
        stop = min(start + SLAB, length)
        rows = torch.arange(start - 1, stop + 1, device=logits.device).clamp(0, length - 1)
        around = functional.interpolate(
            logits[None, :, rows], scale_factor=factor, mode=mode, align_corners=False
        )
        slabs.append(around[0, :, factor:-factor].argmax(dim=0).to(torch.uint8))
    return torch.cat(slabs)
