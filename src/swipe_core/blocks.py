"""Blocks of a raster: windows that are encoded, and parts that are read, rendered or written in turn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A part of a raster: its first voxel and its shape, in voxels."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the block lies in an array."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))

    def within(self, outer: Block) -> Block:
        """The same block, counted from the first voxel of another one."""
        return Block(tuple(a - b for a, b in zip(self.start, outer.start, strict=True)), self.shape)


def cut(shape: Sequence[int], size: Sequence[int]) -> Iterator[Block]:
    """Disjoint blocks of a size that cover a raster, in C order; the last along an axis may be shorter."""
    starts = itertools.product(*(range(0, n, s) for n, s in zip(shape, size, strict=True)))
    for start in starts:
        lengths = (min(s, n - a) for s, n, a in zip(size, shape, start, strict=True))
        yield Block(start, tuple(lengths))


def cut_blocks(shape: Sequence[int], voxels: int) -> list[Block]:
    """Disjoint blocks that cover a raster, each of at most about `voxels` voxels, in C order.

    The longest axis is halved until a block is small enough, so blocks stay compact.
    """
    size = list(shape)
    while math.prod(size) > voxels and max(size) > 1:
        axis = size.index(max(size))
        size[axis] = -(-size[axis] // 2)
    return list(cut(shape, size))


def cut_chunks(shape: Sequence[int], chunks: Sequence[int], voxels: int) -> Iterator[Block]:
    """Disjoint blocks of whole chunks that cover a raster in C order, so that each chunk is read once.

    `shape` and `chunks`: of the raster, and of the chunks that it is stored in.
    `voxels`: most of a block; a chunk that is larger is a block by itself.
    """
    size = [min(c, n) for c, n in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        room = max(1, voxels // math.prod(size))
        size[axis] = min(shape[axis], size[axis] * room)
        if size[axis] < shape[axis]:
            break
    return cut(shape, size)
