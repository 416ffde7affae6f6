"""The lattices of a live layer: from one that is there at once to a thousandth of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from swipe_core.coordinates import Grid

FINEST = 10  # doublings from the image's own lattice to the finest level
TEXTURE_DOUBLINGS = 16  # a layer's zoom is in single precision on the graphics card
COARSEST_FACTOR = 2  # doublings by which the coarsest level may be finer than the image


@dataclass(frozen=True)
class LevelPlan:
    """The lattices of a pyramid; level 0 is the finest."""

    base: Grid
    """Of the coarsest level, over space."""
    doublings: int
    """From there to the finest level, and so the number of the coarsest."""

    @property
    def finest(self) -> Grid:
        return self.base.scaled(2**self.doublings)

    def factor(self, level: int) -> int:
        """Return the number of voxels of a level along one voxel of the coarsest."""
        return int(2 ** (self.doublings - level))

    def shape(self, level: int) -> tuple[int, ...]:
        """Return the shape of a level over space."""
        return tuple(n * self.factor(level) for n in self.base.shape)


def plan_levels(image: Grid, voxels: int = 2**20, finest: int = FINEST) -> LevelPlan:
    """Plan a coarsest level of about cubic voxels, as many as `voxels` allows, up to 4x the image.

    Every axis is that of the image times a power of two, so levels and image share their borders.
    """
    spacing = np.asarray(image.spacing)
    exponents = np.rint(np.log2(spacing / spacing.min())).astype(int)
    exponents = np.where(np.asarray(image.shape) > 1, exponents, 0)
    room = voxels / (image.voxels * 2.0 ** exponents.sum())
    shift = min(COARSEST_FACTOR, int(np.floor(np.log2(room) / image.ndim)))
    base = image.scaled((2.0 ** (exponents + shift)).tolist())
    return LevelPlan(base, min(TEXTURE_DOUBLINGS, max(1, finest - shift)))
