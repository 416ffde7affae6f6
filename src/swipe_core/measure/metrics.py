"""How far two label maps agree: overlap, surface metrics and volumes per class, in world units.

The definitions are MONAI's (`compute_dice`, `compute_iou`, `compute_hausdorff_distance` and
`compute_surface_dice` with their defaults), and tests compare the numbers. The surface of a mask is
the set of its voxels with a face neighbour outside the mask or outside the array; each counts
once, whatever its area. Where a class is missing we return one fixed value instead of MONAI's mixture:

=============================  ====  ===  ============  ============
the class is                   dice  iou  surface dice  hausdorff 95
=============================  ====  ===  ============  ============
in neither map                 1     1    1             0
in only one of the two         0     0    0             nan
=============================  ====  ===  ============  ============

A Hausdorff distance of nan stays out of means; the Dice of 0 beside it tells the miss. The volume of
a class is that of a voxel, times their count; in 2D it is an area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.spatial import KDTree

from swipe_core.errors import DataError

Mask = Bool[np.ndarray, "*shape"]
Crop = Bool[np.ndarray, "*crop"]
Distances = Float[np.ndarray, " _"]
Spacing = Sequence[float] | Float[np.ndarray, "ndim ndim"]


@dataclass(frozen=True)
class ClassScores:
    """The agreement of two label maps about one class.

    Attributes
    ----------
    dice, iou, surface_dice
        From 0 (nothing in common) to 1 (the same).
    hausdorff_95
        World units; 0 for the same surface, nan where only one map has the class.
    in_reference, in_prediction
        Whether the map has a voxel of the class.
    volume_prediction, volume_reference
        World units to the power of the dimension; nan where unknown, as in scores of older versions.
    """

    dice: float
    iou: float
    hausdorff_95: float
    surface_dice: float
    in_reference: bool
    in_prediction: bool
    # Sizes are no agreement; and nan, which equals nothing, would make scores differ from themselves.
    volume_prediction: float = field(default=float("nan"), compare=False)
    volume_reference: float = field(default=float("nan"), compare=False)

    @property
    def volume_difference(self) -> float:
        """How much larger the prediction is than the reference; negative where it is smaller."""
        return self.volume_prediction - self.volume_reference

    @property
    def relative_volume_difference(self) -> float:
        """`volume_difference` as a share of the reference; without a reference 0 for nothing, else nan."""
        if not self.volume_reference:
            return 0.0 if not self.volume_prediction else float("nan")
        return self.volume_difference / self.volume_reference

    @property
    def is_false_alarm(self) -> bool:
        """The class was marked, and is not there."""
        return self.in_prediction and not self.in_reference

    @property
    def is_miss(self) -> bool:
        """The class is there, and nothing of it was marked."""
        return self.in_reference and not self.in_prediction


def score_labels(
    predicted: Integer[np.ndarray, "*predicted_shape"],
    reference: Integer[np.ndarray, "*reference_shape"],
    spacing: Spacing,
    classes: int,
    tolerance: float = 1.0,
    ignore_label: int | None = None,
) -> tuple[ClassScores, ...]:
    """Scores of the foreground classes 1, 2, ... of a prediction.

    Parameters
    ----------
    predicted, reference : (*shape)
        Label maps on the same grid; 0 is the background.
    spacing
        World distance between neighbouring voxels along each array axis; or the linear part of an affine,
        which counts for axes that are not perpendicular too.
    classes
        Number of classes including the background.
    tolerance
        Distance up to which surfaces count as the same in the surface Dice, in world units.
    ignore_label
        Voxels with this value in the reference are left out: they belong to no class in either map.

    Raises
    ------
    DataError
        When the two maps differ in shape, or `spacing` has not one value per axis.
    """
    check_comparable(predicted, reference, spacing)
    return tuple(
        score_label(predicted, reference, spacing, label, tolerance, ignore_label)
        for label in range(1, classes)
    )


def score_label(
    predicted: Integer[np.ndarray, "*shape"],
    reference: Integer[np.ndarray, "*shape"],
    spacing: Spacing,
    label: int,
    tolerance: float = 1.0,
    ignore_label: int | None = None,
) -> ClassScores:
    """Scores of the voxels that carry one label, as in `score_labels`."""
    masks = [predicted == label, reference == label]
    if ignore_label is not None:
        masks = [mask & (reference != ignore_label) for mask in masks]
    return _score_class(masks[0], masks[1], spacing, tolerance)


def check_comparable(
    predicted: Integer[np.ndarray, "*predicted_shape"],
    reference: Integer[np.ndarray, "*reference_shape"],
    spacing: Spacing,
) -> None:
    """See that two label maps can be compared voxel by voxel.

    Raises
    ------
    DataError
        When they differ in shape, or `spacing` has not one value per axis.
    """
    if predicted.shape != reference.shape:
        raise DataError(
            "Two label maps must have the same shape to be compared; got a prediction of shape "
            f"{predicted.shape} and a reference of {reference.shape}. Bring them to the same grid first."
        )
    if len(spacing) != reference.ndim:
        raise DataError(
            f"Spacing needs one number for each of the {reference.ndim} axes of a label map; got {spacing}."
        )


def dice(predicted: Mask, reference: Mask) -> float:
    """Twice the overlap over the sum of the sizes: 2 |A and B| / (|A| + |B|)."""
    size = np.count_nonzero(predicted) + np.count_nonzero(reference)
    return 2 * np.count_nonzero(predicted & reference) / size if size else 1.0


def intersection_over_union(predicted: Mask, reference: Mask) -> float:
    """|A and B| / |A or B|."""
    union = np.count_nonzero(predicted | reference)
    return np.count_nonzero(predicted & reference) / union if union else 1.0


def hausdorff_95(predicted: Mask, reference: Mask, spacing: Spacing) -> float:
    """95th percentile of the distances between the surfaces: the larger of the two directions."""
    return _hausdorff_95(*surface_distances(predicted, reference, spacing))


def surface_dice(predicted: Mask, reference: Mask, spacing: Spacing, tolerance: float) -> float:
    """Share of both surfaces that lies within `tolerance` of the other (Nikolov et al. 2018)."""
    return _surface_dice(*surface_distances(predicted, reference, spacing), tolerance)


def surface_distances(predicted: Mask, reference: Mask, spacing: Spacing) -> tuple[Distances, Distances]:
    """World distance from each surface voxel of one mask to the other's surface, and the reverse.

    Distances to an empty mask are infinite, and an empty mask has none of its own.
    """
    steps = _steps(spacing)
    surfaces = [_surface_voxels(mask) @ steps.T for mask in _crop_to_union(predicted, reference)]
    return _nearest(surfaces[0], surfaces[1]), _nearest(surfaces[1], surfaces[0])


def _steps(spacing: Spacing) -> Float[np.ndarray, "ndim ndim"]:
    """The step of each array axis in the world, as columns."""
    steps = np.asarray(spacing, dtype=np.float64)
    return np.diag(steps) if steps.ndim == 1 else steps


def _score_class(predicted: Mask, reference: Mask, spacing: Spacing, tolerance: float) -> ClassScores:
    predicted, reference = _crop_to_union(predicted, reference)
    voxel = float(abs(np.linalg.det(_steps(spacing))))
    distances = surface_distances(predicted, reference, spacing)
    return ClassScores(
        dice=dice(predicted, reference),
        iou=intersection_over_union(predicted, reference),
        hausdorff_95=_hausdorff_95(*distances),
        surface_dice=_surface_dice(*distances, tolerance),
        in_reference=bool(reference.any()),
        in_prediction=bool(predicted.any()),
        volume_prediction=voxel * np.count_nonzero(predicted),
        volume_reference=voxel * np.count_nonzero(reference),
    )


def _hausdorff_95(outward: Distances, back: Distances) -> float:
    if not outward.size and not back.size:
        return 0.0
    if not outward.size or not back.size:
        return float("nan")
    return float(max(np.percentile(outward, 95), np.percentile(back, 95)))


def _surface_dice(outward: Distances, back: Distances, tolerance: float) -> float:
    distances = np.concatenate([outward, back])
    # Sums of spacings miss a tolerance that they equal by a rounding error.
    return float(np.mean(distances <= tolerance * (1 + 1e-6))) if distances.size else 1.0


def _crop_to_union(predicted: Mask, reference: Mask) -> tuple[Crop, Crop]:
    """Both masks inside the box that holds them; outside of it there is no surface."""
    boxes = ndimage.find_objects((predicted | reference).astype(np.uint8))
    return (predicted[boxes[0]], reference[boxes[0]]) if boxes else (predicted, reference)


def _surface_voxels(mask: Mask) -> Integer[np.ndarray, "surface ndim"]:
    """Indices of the voxels that an erosion by one face neighbour takes away."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def _nearest(
    points: Float[np.ndarray, "surface ndim"], others: Float[np.ndarray, "others ndim"]
) -> Distances:
    """Distance of each point to the nearest of the others.

    Surfaces are sparse: a tree over their voxels is 3 times as fast as a distance transform of the box.
    """
    if not len(others):
        return np.full(len(points), np.inf)
    return KDTree(others).query(points)[0]
