"""Coarser levels of a label map: their shapes, and which label stands for those of several voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from swipe_core.blocks import Block

COARSEST = 512  # voxels along the longest axis of the last level, at most
SHORT = 64  # an axis of no more voxels is not halved


def level_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Of all levels of a label map, itself first: each half of the one before along its long axes."""
    shapes = [tuple(shape)]
    while max(shapes[-1]) > COARSEST:
        shapes.append(tuple(-(-n // 2) if n > SHORT else n for n in shapes[-1]))
    return shapes


def doubled(part: Block, finer: Sequence[int], coarser: Sequence[int]) -> Block:
    """The part of the finer level that a part of the next one stands for."""
    factors = [1 if n == m else 2 for n, m in zip(finer, coarser, strict=True)]
    start = tuple(a * f for a, f in zip(part.start, factors, strict=True))
    lengths = zip(part.shape, factors, finer, start, strict=True)
    return Block(start, tuple(min(m * f, n - a) for m, f, n, a in lengths))


def most_frequent(labels: UInt8[np.ndarray, "*fine"], shape: Sequence[int]) -> UInt8[np.ndarray, "*shape"]:
    """Labels on a lattice of half as many voxels along each axis that is longer than `shape`.

    Each voxel has the most frequent label of the two, four or eight it stands for; of several the
    greatest, so that a structure does not vanish where it covers half of them.
    """
    factors = [1 if n == m else 2 for n, m in zip(labels.shape, shape, strict=True)]
    wanted = [m * f for m, f in zip(shape, factors, strict=True)]
    padded = np.pad(labels, [(0, w - n) for w, n in zip(wanted, labels.shape, strict=True)], mode="edge")
    corners = [
        padded[tuple(slice(first, None, factor) for first, factor in zip(corner, factors, strict=True))]
        for corner in np.ndindex(*factors)
    ]
    best, most = corners[0].copy(), np.zeros(tuple(shape), np.uint8)
    for one in corners:
        count = sum((one == other).astype(np.uint8) for other in corners)
        better = (count > most) | ((count == most) & (one > best))
        best[better], most[better] = one[better], count[better]
    return best
