"""Distances from points to the boundary of something that is sampled: below 0 inside, above 0 outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from swipe_core.coordinates import Affine

Points = Float[np.ndarray, "points ndim"]
Distances = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class DistanceSummary:
    """The distances of a boundary to another one, without their signs."""

    mean: float
    percentile_95: float
    largest: float

    @classmethod
    def of(cls, distances: Distances) -> DistanceSummary:
        size = np.abs(distances)
        return cls(float(size.mean()), float(np.percentile(size, 95)), float(size.max()))


def signed_distances(points: Points, mask: Bool[np.ndarray, "*shape"], affine: Affine) -> Distances:
    """Return how far points lie from the boundary of a mask, halfway between voxels inside and outside of it.

    Where the boundary is flat for a voxel or two around the nearest place of it, the distance is that to the
    plane, and else that to the place.

    Raises
    ------
    ValueError
        When the mask is empty.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    placed = affine @ Affine.from_spacing([1.0] * mask.ndim, [-1.0] * mask.ndim)
    places, normals, reach = _elements(padded, placed)
    nearest = KDTree(places).query(points)[1]
    away = points - places[nearest]
    length = np.linalg.norm(away, axis=1)
    across = np.abs((away * normals[nearest]).sum(axis=1))
    beside = np.sqrt(np.maximum(length**2 - across**2, 0))
    size = np.where(beside <= reach, across, length)
    inside = map_coordinates(padded, placed.inverse().apply(points).T, order=1) > 0.5
    return np.where(inside, -size, size)


def _elements(padded: Float[np.ndarray, "*shape"], affine: Affine) -> tuple[Points, Points, float]:
    """The middles of the pieces of a boundary, their normals, and how far a piece reaches, in the world."""
    if not padded.any():
        raise ValueError("There is no boundary to measure a distance from: the mask is empty.")
    if padded.ndim == 2:
        from skimage.measure import find_contours

        lines = [affine.apply(line) for line in find_contours(padded, 0.5)]
        first = np.concatenate([line[:-1] for line in lines])
        last = np.concatenate([line[1:] for line in lines])
        corners, side = np.stack([first, last], axis=1), last - first
        normals = np.stack([-side[:, 1], side[:, 0]], axis=1)
    else:
        from skimage.measure import marching_cubes

        vertices, faces, *_ = marching_cubes(padded, 0.5)
        corners = affine.apply(vertices.astype(np.float64))[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    kept = length > 0
    middles = corners[kept].mean(axis=1)
    reach = np.linalg.norm(corners[kept] - middles[:, None], axis=2).max()
    return middles, normals[kept] / length[kept, None], float(reach)
