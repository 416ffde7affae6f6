"""The levels of a label map that is stored in several: their shapes, their labels, and what OME-Zarr says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from swipe_core.blocks import Block
from swipe_core.coordinates import Grid
from swipe_core.images.units import METRES

COARSEST = 512  # voxels along the longest axis of the last level, at most
SHORT = 64  # an axis of no more voxels is not halved


def level_shapes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes of all levels, itself first: each half of the one before along its long axes."""
    shapes = [tuple(shape)]
    while max(shapes[-1]) > COARSEST:
        shapes.append(tuple(-(-n // 2) if n > SHORT else n for n in shapes[-1]))
    return shapes


def doubled(part: Block, finer: Sequence[int], coarser: Sequence[int]) -> Block:
    """Return the part of the finer level that a part of the next one stands for."""
    factors = [1 if n == m else 2 for n, m in zip(finer, coarser, strict=True)]
    start = tuple(a * f for a, f in zip(part.start, factors, strict=True))
    lengths = zip(part.shape, factors, finer, start, strict=True)
    return Block(start, tuple(min(m * f, n - a) for m, f, n, a in lengths))


def most_frequent(
    labels: Integer[np.ndarray, "*fine"], shape: Sequence[int]
) -> Integer[np.ndarray, "*shape"]:
    """Reduce labels to a lattice of half as many voxels along each axis that is longer than `shape`.

    Each voxel has the most frequent label of the two, four or eight it stands for; of several the
    greatest, so that a structure does not vanish where it covers half of them.
    """
    factors = [1 if n == m else 2 for n, m in zip(labels.shape, shape, strict=True)]
    size = [m * f for m, f in zip(shape, factors, strict=True)]
    padded = np.pad(labels, [(0, w - n) for w, n in zip(size, labels.shape, strict=True)], mode="edge")
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


def ome_attribute(
    grid: Grid, unit: str, shapes: Sequence[Sequence[int]], classes: Mapping[str, str]
) -> dict[str, Any]:
    """Return the attribute ``ome`` of a group, as in OME-Zarr 0.5: levels 0, 1, ..., and what labels mean.

    `grid` and `unit`: of the first level. A rotation has no place there.
    `shapes`: of all levels.
    `classes`: names of the classes 1, 2, ... and their colours ("#rrggbb").
    """
    axes = [{"name": axis, "type": "space"} | ({"unit": unit} if unit in METRES else {}) for axis in "zyx"]
    multiscale = {
        "name": "labels",
        "axes": axes[-grid.ndim :],
        "datasets": [_dataset(grid, number, factors) for number, factors in enumerate(_factors(shapes))],
        "type": "mode",
    }
    return {"version": "0.5", "multiscales": [multiscale], "image-label": _meaning(classes)}


def _factors(shapes: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """How many voxels of the first level one of each level spans along each axis."""
    factors = [(1,) * len(shapes[0])]
    for finer, coarser in zip(shapes, shapes[1:], strict=False):
        steps = zip(factors[-1], finer, coarser, strict=True)
        factors.append(tuple(f if n == m else 2 * f for f, n, m in steps))
    return factors


def _dataset(grid: Grid, level: int, factors: Sequence[int]) -> dict[str, Any]:
    scale = np.multiply(factors, grid.spacing)
    first = grid.affine.origin + (scale - grid.spacing) / 2
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": scale.tolist()},
            {"type": "translation", "translation": first.tolist()},
        ],
    }


def _meaning(classes: Mapping[str, str]) -> dict[str, Any]:
    numbered = list(enumerate(classes.items(), start=1))
    return {
        "colors": [
            {"label-value": value, "rgba": [*bytes.fromhex(colour.removeprefix("#")), 255]}
            for value, (_, colour) in numbered
        ],
        "properties": [{"label-value": value, "class": name} for value, (name, _) in numbered],
    }
