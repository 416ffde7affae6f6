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

A Hausdorff distance of nan stays out of means; the Dice of 0 beside it shows the miss. The volume of
a class is that of a voxel, times their count; in 2D it is an area.

`METRICS` is the one table of them all: an entry there is computed for every class, and stands in the JSON
and CSV files, in what the command prints, and in the dock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.spatial import KDTree

from swipe_core.images.units import symbol_of
from swipe_core.measure import Quantity, heading

if TYPE_CHECKING:
    from swipe_core.measure.scores import ClassScores

Mask = Bool[np.ndarray, "*shape"]
Crop = Bool[np.ndarray, "*crop"]
Distances = Float[np.ndarray, " _"]
Spacing = Sequence[float] | Float[np.ndarray, "ndim ndim"]
NONE = "–"  # in tables, for what is undefined


@dataclass(frozen=True, eq=False)
class MaskPair:
    """The voxels of one class in a prediction and in a reference, which metrics compare."""

    predicted: Mask
    reference: Mask
    """`predicted` and `reference`: (*shape), on the same lattice."""
    spacing: Spacing
    """World distance between neighbouring voxels along each array axis; or the linear part of an affine,
    which counts for axes that are not perpendicular too.
    """
    tolerance: float = 1.0
    """Distance up to which surfaces count as the same, in world units."""

    @cached_property
    def distances(self) -> tuple[Distances, Distances]:
        """The `surface_distances` from the prediction to the reference, and the reverse."""
        return surface_distances(self.predicted, self.reference, self.spacing)

    def size_of(self, mask: Mask) -> float:
        """Return the area or volume of one of the masks in world units."""
        return float(abs(np.linalg.det(_steps(self.spacing)))) * np.count_nonzero(mask)


@dataclass(frozen=True)
class Metric:
    """One number about a class, and all that its tables need to know."""

    key: str
    """Names it in JSON files, and as an attribute of `scores.ClassScores`."""
    title: str
    """Heading in tables for people, without the unit."""
    meaning: str
    """A sentence or two. Here and in the headings, "{size}" becomes "area" or "volume", and "{tolerance}"
    that of the comparison.
    """
    measure: Callable[[MaskPair], float] | None = None
    """Computes it from the masks, one or both of which may be empty; nan where it is undefined. None where it
    is derived.
    """
    derive: Callable[[ClassScores], float] | None = None
    """Computes it from the other numbers."""
    quantity: Quantity = "number"
    better: Literal["higher", "lower"] | None = "higher"
    """Which of two values is the better one; None for sizes. These have no mean over classes: too much of one
    would make up for too little of another.
    """
    column: str = ""
    """Heading in CSV files; the key if it is not given."""
    is_signed: bool = False
    """A plus stands before values above 0."""

    def heading(self, unit: str, ndim: int, tolerance: float, *, is_plain: bool = False) -> str:
        """Return its heading with the unit: for people, or in ASCII for a CSV file if `is_plain`."""
        text = (self.column or self.key) if is_plain else self.title
        return heading(_filled(text, unit, tolerance, is_plain), self.quantity, unit, ndim, is_plain=is_plain)

    def explanation(self, unit: str, ndim: int, tolerance: float) -> str:
        """Return what it means, and which value is the better one."""
        text = heading(_filled(self.meaning, unit, tolerance), "number", unit, ndim)
        return text[0].upper() + text[1:] + (f" {self.better.capitalize()} is better." if self.better else "")

    def text(self, value: float) -> str:
        """Return a value with as many figures as matter to the eye."""
        if not math.isfinite(value):
            return NONE
        value, sign = value * self._scale, "+" if self.is_signed and value else ""
        if self.quantity == "number":
            return f"{value:{sign}.3f}"
        if self.quantity == "percent":
            return f"{value:{sign}.1f}"
        return f"{value:{sign}.0f}" if 1000 <= abs(value) < 1e7 else f"{value:{sign}.3g}"

    def cell(self, value: float, digits: int = 8) -> str:
        """Return a value for a file or a spreadsheet; empty where it is undefined."""
        return f"{value * self._scale:.{digits}g}" if math.isfinite(value) else ""

    @property
    def _scale(self) -> float:
        return 100.0 if self.quantity == "percent" else 1.0


def _filled(text: str, unit: str, tolerance: float, is_plain: bool = False) -> str:
    digits = 6 if is_plain else 4
    return text.replace("{tolerance}", f"{tolerance:.{digits}g} {symbol_of(unit, is_plain=is_plain)}")


def dice(predicted: Mask, reference: Mask) -> float:
    """Twice the overlap over the sum of the sizes: 2 |A and B| / (|A| + |B|)."""
    size = np.count_nonzero(predicted) + np.count_nonzero(reference)
    return 2 * np.count_nonzero(predicted & reference) / size if size else 1.0


def intersection_over_union(predicted: Mask, reference: Mask) -> float:
    """|A and B| / |A or B|."""
    union = np.count_nonzero(predicted | reference)
    return np.count_nonzero(predicted & reference) / union if union else 1.0


def hausdorff_95(pair: MaskPair) -> float:
    """95th percentile of the distances between the surfaces: the larger of the two directions."""
    outward, back = pair.distances
    if not outward.size and not back.size:
        return 0.0
    if not outward.size or not back.size:
        return math.nan
    return float(max(np.percentile(outward, 95), np.percentile(back, 95)))


def surface_dice(pair: MaskPair) -> float:
    """Share of both surfaces that lies within the tolerance of the other (Nikolov et al. 2018)."""
    distances = np.concatenate(pair.distances)
    # Sums of spacings miss a tolerance that they equal by a rounding error.
    return float(np.mean(distances <= pair.tolerance * (1 + 1e-6))) if distances.size else 1.0


def surface_distances(predicted: Mask, reference: Mask, spacing: Spacing) -> tuple[Distances, Distances]:
    """World distance from each surface voxel of one mask to the other's surface, and the reverse.

    Distances to an empty mask are infinite, and an empty mask has none of its own.
    """
    steps = _steps(spacing)
    surfaces = [_surface_voxels(mask) @ steps.T for mask in cropped_to_union(predicted, reference)]
    return _nearest(surfaces[0], surfaces[1]), _nearest(surfaces[1], surfaces[0])


def _steps(spacing: Spacing) -> Float[np.ndarray, "ndim ndim"]:
    """The step of each array axis in the world, as columns."""
    steps = np.asarray(spacing, dtype=np.float64)
    return np.diag(steps) if steps.ndim == 1 else steps


def cropped_to_union(predicted: Mask, reference: Mask) -> tuple[Crop, Crop]:
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


def _relative_difference(scores: ClassScores) -> float:
    if not scores.volume_reference:
        return math.nan if scores.volume_prediction else 0.0
    return scores.volume_difference / scores.volume_reference


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric(
            "dice",
            "Dice",
            "Twice the overlap over the sum of the sizes: 1 is the same, 0 nothing in common.",
            lambda pair: dice(pair.predicted, pair.reference),
        ),
        Metric(
            "iou",
            "IoU",
            "The overlap over the union: 1 is the same, 0 nothing in common.",
            lambda pair: intersection_over_union(pair.predicted, pair.reference),
        ),
        Metric(
            "hausdorff_95",
            "HD95",
            "Hausdorff distance: 95 % of both outlines lie nearer to each other than this. None where only "
            "one of the two has the class.",
            hausdorff_95,
            quantity="length",
            better="lower",
            column="hausdorff 95",
        ),
        Metric(
            "surface_dice",
            "Surface Dice ({tolerance})",
            "The share of both outlines that lies within {tolerance} of the other.",
            surface_dice,
            column="surface dice at {tolerance}",
        ),
        Metric(
            "volume_prediction",
            "Predicted",
            "{size} in the prediction.",
            lambda pair: pair.size_of(pair.predicted),
            quantity="size",
            better=None,
            column="{size} of prediction",
        ),
        Metric(
            "volume_reference",
            "Reference",
            "{size} in the reference.",
            lambda pair: pair.size_of(pair.reference),
            quantity="size",
            better=None,
            column="{size} of reference",
        ),
        Metric(
            "volume_difference",
            "Difference",
            "Prediction minus reference.",
            derive=lambda scores: scores.volume_prediction - scores.volume_reference,
            quantity="size",
            better=None,
            column="{size} difference",
            is_signed=True,
        ),
        Metric(
            "relative_volume_difference",
            "Difference",
            "Prediction minus reference, of the reference.",
            derive=_relative_difference,
            quantity="percent",
            better=None,
            column="{size} difference",
            is_signed=True,
        ),
    )
}
"""All metrics by their keys, in the order of the tables."""


def agreement_metrics() -> tuple[str, ...]:
    """Return the keys of the metrics that tell agreement: those that have a mean over classes."""
    return tuple(key for key, metric in METRICS.items() if metric.better is not None)
