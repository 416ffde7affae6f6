"""The least that a work can take here: its multiply-adds at the rate of a large product of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swipe_core.networks.swipe.decoder import PointDecoder

SIZE = {"cpu": 2048, "cuda": 8192}  # of the matrices; a GPU is idle in between with smaller ones
QUICK_SIZE = {"cpu": 1024, "cuda": 4096}


def _added_product(added: Any, first: torch.Size, second: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of a product, from the shapes of what it is added to and of its factors."""
    return 2 * math.prod(first) * second[-1]


# Torch's own counter passes over products that are added in place.
IN_PLACE = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), _added_product)


class MatrixProduct:
    """Two large square matrices and the work of multiplying them.

    Attributes
    ----------
    multiply_adds
        Of one product.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, quick: bool = False) -> None:
        sizes = QUICK_SIZE if quick else SIZE
        size = sizes.get(device.type, sizes["cpu"])
        generator = torch.Generator().manual_seed(0)
        self._factors = [torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2)]
        self._result = torch.empty_like(self._factors[0])
        self.multiply_adds = size**3

    def __call__(self) -> Tensor:
        return torch.mm(*self._factors, out=self._result)


def counted(work: Callable[[], object]) -> int:
    """The multiply-adds of a work, in matrix products and convolutions."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        work()
    return counter.get_total_flops() // 2


def decoder_multiply_adds(decoder: PointDecoder) -> tuple[int, int]:
    """Multiply-adds at one point, by the definition and with the products that a patch shares made before.

    Parameters
    ----------
    decoder
        As `build_swipe` makes it.
    """
    layers = [layer for layer in [*decoder.layers, decoder.output] if isinstance(layer, nn.Linear)]
    plain = sum(layer.in_features * layer.out_features for layer in layers)
    return plain, plain - decoder.condition_width * sum(layer.out_features for layer in layers[:2])
