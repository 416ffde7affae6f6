"""What OME-Zarr 0.5 wants to know of labels that are stored in levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swipe_core.coordinates import Grid
from swipe_core.images.units import METRES


def described(
    grid: Grid, unit: str, shapes: Sequence[Sequence[int]], classes: Mapping[str, str]
) -> dict[str, Any]:
    """The value of a group's attribute ``ome``: levels named 0, 1, ..., and what the labels mean.

    Parameters
    ----------
    grid, unit
        Of the first level. A rotation has no place there.
    shapes
        Of all levels.
    classes
        Names of the classes 1, 2, ... and their colours ("#rrggbb").
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
