"""Blocks of an array: windows that are encoded, and parts of a raster that are rendered in turn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A part of an array: its first voxel and its shape, in voxels."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the block lies in an array."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))


def cut_blocks(shape: Sequence[int], voxels: int) -> list[Block]:
    """Disjoint blocks that cover a raster, each of at most about `voxels` voxels, in C order.

    The longest axis is halved until a block is small enough, so blocks stay compact.
    """
    size = list(shape)
    while math.prod(size) > voxels and max(size) > 1:
        axis = size.index(max(size))
        size[axis] = -(-size[axis] // 2)
    starts = itertools.product(*(range(0, n, s) for n, s in zip(shape, size, strict=True)))
    return [
        Block(start, tuple(min(s, n - a) for s, n, a in zip(size, shape, start, strict=True)))
        for start in starts
    ]
