"""Whether single objects were found: average precision, panoptic quality and the error of their count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(9))
"""Of the overlap from which an object counts as found: those of the 2018 Data Science Bowl, up to 0.9."""


@dataclass(frozen=True)
class InstanceScores:
    """How well the objects of an image were found."""

    precisions: tuple[float, ...]
    """For each of `THRESHOLDS` TP / (TP + FP + FN), where pairs of objects that overlap by more, in their
    intersection over union, are true positives (Caicedo et al. 2019); 1 where there is no object at all.
    """
    panoptic_quality: float
    """The sum of the overlaps above 0.5, over TP + FP / 2 + FN / 2 (Kirillov et al. 2019)."""
    count_error: float
    """How far the number of objects is off, as a share of the right one; of 1 where there is none."""

    @property
    def ap_50(self) -> float:
        return self.precisions[0]

    @property
    def ap_mean(self) -> float:
        return float(np.mean(self.precisions))


INSTANCE_METRICS = {
    "ap_50": "AP at 0.5",
    "ap_mean": "AP, mean of 0.5 to 0.9",
    "panoptic_quality": "panoptic quality",
    "count_error": "count error",
}
"""The headings of the scores in reports, by their names."""


def score_instances(
    predicted: Integer[np.ndarray, "*shape"], reference: Integer[np.ndarray, "*shape"]
) -> InstanceScores:
    """Compare two maps of numbered objects; 0 is the background, and what numbers they have is no matter."""
    overlaps, found, right = _overlaps(predicted, reference)
    counts = found + right

    def precision(threshold: float) -> float:
        hits = int((overlaps > threshold).sum())
        return hits / (counts - hits) if counts else 1.0

    matched = overlaps[overlaps > THRESHOLDS[0]]
    return InstanceScores(
        precisions=tuple(map(precision, THRESHOLDS)),
        panoptic_quality=2 * float(matched.sum()) / counts if counts else 1.0,
        count_error=abs(found - right) / max(right, 1),
    )


def mean_instances(scores: Sequence[InstanceScores]) -> dict[str, float]:
    """Return the means over images, by their names in `INSTANCE_METRICS`."""
    return {name: float(np.mean([getattr(one, name) for one in scores])) for name in INSTANCE_METRICS}


def _overlaps(predicted: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The intersection over union of all pairs that meet, and the numbers of objects of both.

    Above a half, an object is in one pair at most.
    """
    columns, of_predicted, own_sizes = np.unique(predicted, return_inverse=True, return_counts=True)
    rows, of_reference, right_sizes = np.unique(reference, return_inverse=True, return_counts=True)
    pairs = of_predicted.ravel() * len(rows) + of_reference.ravel()
    meeting, shared = np.unique(pairs, return_counts=True)
    own, right = np.divmod(meeting, len(rows))
    overlaps = shared / (own_sizes[own] + right_sizes[right] - shared)
    is_object = (columns[own] != 0) & (rows[right] != 0)
    return overlaps[is_object], int((columns != 0).sum()), int((rows != 0).sum())
