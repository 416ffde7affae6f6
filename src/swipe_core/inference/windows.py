"""Sliding windows: where they lie, and how their logits are weighed into one continuous function."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.blocks import Block
from swipe_core.coordinates import Affine, voxel_to_image
from swipe_core.networks.encoding import Encoding

SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True, eq=False)
class EncodedWindow:
    """A window and what is kept of it (a batch of one)."""

    block: Block
    encoding: Encoding
    mirrored: tuple[int, ...] = ()
    """Axes along which the window was mirrored before it was encoded."""

    def to_image(self, points_voxel: Float[Tensor, "points ndim"]) -> Float[Tensor, "points ndim"]:
        """Bring voxels of the whole image to the image frame of the window as it was encoded."""
        start = torch.tensor(self.block.start, dtype=points_voxel.dtype, device=points_voxel.device)
        points_image = voxel_to_image(points_voxel - start, self.block.shape)
        if not self.mirrored:
            return points_image
        signs = torch.ones(points_image.shape[-1], device=points_image.device)
        signs[list(self.mirrored)] = -1
        return points_image * signs


def orientations(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every way to mirror an image along some of the axes, none of them first."""
    return [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]


def place_windows(shape: Sequence[int], size: Sequence[int] | None, overlap: float) -> list[Block]:
    """Return windows that cover an image, evenly spread, each inside it; one where `size` covers the image.

    Parameters
    ----------
    size
        Shape of a window in voxels; axes shorter than it take the image's length. None: one window.
    overlap
        Least share of a window that its neighbour covers too, in [0, 1).
    """
    if size is None:
        return [Block((0,) * len(shape), tuple(shape))]
    window = tuple(min(n, s) for n, s in zip(shape, size, strict=True))
    starts = [_axis_starts(n, w, overlap) for n, w in zip(shape, window, strict=True)]
    return [Block(start, window) for start in itertools.product(*starts)]


def _axis_starts(length: int, window: int, overlap: float) -> list[int]:
    step = max(1, math.floor(window * (1 - overlap)))
    count = 1 + -(-(length - window) // step)
    return [round(i * (length - window) / max(count - 1, 1)) for i in range(count)]


def windows_intersecting(blocks: Sequence[Block], to_voxel: Affine, shape: Sequence[int]) -> list[Block]:
    """Return those of some windows that a lattice of points intersects; all where it intersects none.

    Parameters
    ----------
    to_voxel
        From indices of the lattice to voxels of the image.
    shape
        Of the lattice.
    """
    corners = to_voxel.apply(np.array(list(itertools.product(*((-0.5, n - 0.5) for n in shape)))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    found = [
        block
        for block in blocks
        if np.all(np.add(block.start, block.shape) - 0.5 >= low)
        and np.all(np.array(block.start) - 0.5 <= high)
    ]
    return found or list(blocks)


def blending_weight(points_image: Float[Tensor, "points ndim"]) -> Float[Tensor, " points"]:
    """Return the weight of a window's logits: 1 at its centre, falling smoothly towards its border.

    It is zero outside the window and leaps there by no more than `SMALLEST_WEIGHT` beside the
    neighbours' weights, so where windows overlap the blended field is continuous to that precision.
    """
    inside = (points_image.abs() <= 1).all(dim=-1)
    bell = torch.cos(0.5 * math.pi * points_image.clamp(-1, 1)).square()
    return torch.where(inside, bell.clamp(min=SMALLEST_WEIGHT).prod(dim=-1), 0.0)
