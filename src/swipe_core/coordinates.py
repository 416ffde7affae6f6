"""Every frame of reference, and the only conversions between them.

Components are always in array-axis order: (y, x) in 2D, (z, y, x) in 3D.

=========  ==================================================================================
frame      meaning
=========  ==================================================================================
voxel      array index; integers are voxel centres, voxel i covers [i - 0.5, i + 0.5]
image      [-1, 1] over the array's extent, cell centres: voxel i of n sits at (2i + 1)/n - 1
patch      index of the patch that holds a point; patch k covers voxels [kS, (k + 1)S)
local      [-1, 1] across one patch about its centre; beyond that range in its neighbours
source     the image frame of the uncropped image that a crop or window was taken from
world      millimetres, or the unit of the image, by an `Affine` from the voxel frame
=========  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Points = TypeVar("Points", Tensor, np.ndarray)


def voxel_to_image(points_voxel: Points, shape: Sequence[int]) -> Points:
    """Voxel frame to image frame, on the last axis, for an array of the given shape."""
    return (2 * points_voxel + 1) / _like(shape, points_voxel) - 1


def image_to_voxel(points_image: Points, shape: Sequence[int]) -> Points:
    """Image frame to voxel frame: the inverse of `voxel_to_image`."""
    return ((points_image + 1) * _like(shape, points_image) - 1) / 2


def voxel_to_patch(
    points_voxel: Float[Tensor, "*points ndim"], patch_size: int, patch_grid: Sequence[int]
) -> Int[Tensor, "*points ndim"]:
    """Index of the patch that holds each point; points outside belong to the nearest patch."""
    index = torch.floor((points_voxel + 0.5) / patch_size).long()
    last = torch.as_tensor(patch_grid, device=index.device) - 1
    return torch.minimum(index.clamp(min=0), last)


def voxel_to_local(
    points_voxel: Float[Tensor, "*#points ndim"],
    patch_index: Int[Tensor, "*#points ndim"],
    patch_size: int,
) -> Float[Tensor, "*#points ndim"]:
    """Local coordinates about the centre of the given patch, in [-1, 1] inside that patch."""
    return 2 * ((points_voxel + 0.5) / patch_size - patch_index) - 1


def voxel_centres(shape: Sequence[int]) -> Float[np.ndarray, "voxels ndim"]:
    """All voxel centres of an array in the voxel frame, in C order."""
    axes = [np.arange(n, dtype=np.float64) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))


def sample_at(
    image: Float[Tensor, "channels *shape"],
    points_image: Float[Tensor, "*points ndim"],
    padding: str = "zeros",
) -> Float[Tensor, "channels *points"]:
    """Linear interpolation of an image at points of its image frame.

    `points_image` (*points, ndim): one or more leading axes; components in array-axis order.
    `padding` {"zeros", "border", "reflection"}: what lies outside the image.
    """
    points = points_image.reshape(1, -1, points_image.shape[-1])
    return sample_each_at(image[None], points, padding).reshape(image.shape[0], *points_image.shape[:-1])


def sample_each_at(
    images: Float[Tensor, "batch channels *shape"],
    points_image: Float[Tensor, "batch points ndim"],
    padding: str = "zeros",
) -> Float[Tensor, "batch channels points"]:
    """`sample_at` of each image of a batch at points of its own."""
    batch, _, ndim = points_image.shape
    # grid_sample wants (x, y, z) component order and exactly ndim lattice axes.
    lattice = points_image.flip(-1).reshape(batch, *([1] * (ndim - 1)), -1, ndim)
    values = torch.nn.functional.grid_sample(
        images, lattice.to(images.dtype), mode="bilinear", padding_mode=padding, align_corners=False
    )
    return values.flatten(2)


def _like(shape: Sequence[int], points: Points) -> Points:
    if isinstance(points, Tensor):
        return torch.as_tensor(tuple(shape), dtype=points.dtype, device=points.device)
    return np.asarray(tuple(shape), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Affine:
    """A map between two frames of n dimensions, as a homogeneous (n + 1) x (n + 1) matrix.

    Most often from the voxel frame of an array to the world.
    """

    matrix: Float[np.ndarray, "rows rows"]

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and np.array_equal(self.matrix, other.matrix)

    @classmethod
    def identity(cls, ndim: int) -> Affine:
        return cls(np.eye(ndim + 1))

    @classmethod
    def from_parts(
        cls, linear: Float[np.ndarray, "ndim ndim"], origin: Sequence[float] | np.ndarray
    ) -> Affine:
        """From a linear part (columns: the step of each axis) and the image of the zero point."""
        matrix = np.eye(len(origin) + 1)
        matrix[:-1, :-1] = linear
        matrix[:-1, -1] = origin
        return cls(matrix)

    @classmethod
    def from_spacing(cls, spacing: Sequence[float], origin: Sequence[float] | None = None) -> Affine:
        """Axis-aligned: voxel 0 at `origin` (default 0), `spacing` world units between voxels."""
        return cls.from_parts(np.diag(spacing), origin if origin is not None else [0.0] * len(spacing))

    @classmethod
    def image_from_voxel(cls, shape: Sequence[int]) -> Affine:
        """`voxel_to_image` as a matrix."""
        size = np.asarray(shape, dtype=np.float64)
        return cls.from_parts(np.diag(2 / size), 1 / size - 1)

    @property
    def ndim(self) -> int:
        return self.matrix.shape[0] - 1

    @property
    def linear(self) -> Float[np.ndarray, "ndim ndim"]:
        return self.matrix[:-1, :-1]

    @property
    def origin(self) -> Float[np.ndarray, " ndim"]:
        """World position of voxel 0."""
        return self.matrix[:-1, -1]

    @property
    def spacing(self) -> tuple[float, ...]:
        """World distance between neighbouring voxels along each array axis."""
        return tuple(float(s) for s in np.linalg.norm(self.linear, axis=0))

    @property
    def direction(self) -> Float[np.ndarray, "ndim ndim"]:
        """Unit world vectors of the array axes, as columns."""
        return self.linear / np.asarray(self.spacing)

    def inverse(self) -> Affine:
        """The map back. Raises `numpy.linalg.LinAlgError` when the matrix is singular."""
        return Affine(np.linalg.inv(self.matrix))

    def __matmul__(self, inner: Affine) -> Affine:
        """The map that applies `inner` first."""
        return Affine(self.matrix @ inner.matrix)

    def apply(self, points: Points) -> Points:
        """Map points on the last axis; the result keeps their type, dtype and device."""
        linear, origin = self.linear, self.origin
        if isinstance(points, Tensor):
            linear_t = torch.tensor(linear).to(points)
            return points @ linear_t.T + torch.tensor(origin).to(points)
        return points @ linear.T + origin


@dataclass(frozen=True)
class Grid:
    """A lattice of sample positions: a shape, and where its voxels lie in the world."""

    shape: tuple[int, ...]
    affine: Affine

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if len(self.shape) != self.affine.ndim or min(self.shape, default=0) < 1:
            raise ValueError(
                f"A grid needs one positive size per axis of its {self.affine.ndim}D affine; "
                f"got shape {self.shape}."
            )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        return self.affine.spacing

    @property
    def voxels(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def resized(self, shape: Sequence[int]) -> Grid:
        """The same extent cut into another number of voxels; cell borders stay, centres move."""
        old, new = np.asarray(self.shape, float), np.asarray(shape, float)
        step = old / new
        inner = Affine.from_parts(np.diag(step), 0.5 * step - 0.5)
        return Grid(tuple(int(n) for n in shape), self.affine @ inner)

    def scaled(self, factor: float | Sequence[float]) -> Grid:
        """The same extent with `factor` times as many voxels along each axis, at least one."""
        factors = np.broadcast_to(np.asarray(factor, float), (self.ndim,))
        return self.resized([max(1, round(n * f)) for n, f in zip(self.shape, factors, strict=True)])

    def respaced(self, spacing: Sequence[float]) -> Grid:
        """The same extent at about the given world spacing: the count of voxels is a whole number."""
        extent = np.asarray(self.shape) * np.asarray(self.spacing)
        return self.resized([max(1, round(e / s)) for e, s in zip(extent, spacing, strict=True)])

    def window(self, start: Sequence[int], shape: Sequence[int]) -> Grid:
        """A part of the lattice: the voxels from `start`, `shape` of them along each axis."""
        shift = Affine.from_parts(np.eye(self.ndim), np.asarray(start, float))
        return Grid(tuple(int(n) for n in shape), self.affine @ shift)

    def centres_world(self) -> Float[np.ndarray, "voxels ndim"]:
        """All voxel centres in the world, in C order."""
        return self.affine.apply(voxel_centres(self.shape))
