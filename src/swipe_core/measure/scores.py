"""The scores of a prediction: every metric of every class of two label maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from swipe_core.errors import DataError
from swipe_core.measure.metrics import METRICS, MaskPair, Spacing, cropped_to_union


@dataclass(frozen=True)
class ClassScores:
    """The agreement of two label maps about one class.

    Every one of the `METRICS` is an attribute, such as `dice`; nan where it is undefined or, as in files of
    older versions, unknown.
    """

    values: Mapping[str, float]
    """What was measured, by the metrics' keys."""
    in_reference: bool
    in_prediction: bool
    """`in_reference` and `in_prediction`: whether the map has a voxel of the class."""

    def __getattr__(self, key: str) -> float:
        if key not in METRICS:
            raise AttributeError(f"There is no metric {key!r}, only {', '.join(METRICS)}.")
        derive = METRICS[key].derive
        return self.values.get(key, math.nan) if derive is None else derive(self)

    @staticmethod
    def absent() -> ClassScores:
        """Return the scores of a class that neither map has."""
        nothing = np.zeros((1, 1), np.uint8)
        return score_label(nothing, nothing, (1.0, 1.0), label=1)

    def as_dict(self) -> dict[str, float]:
        """Return what was measured, for JSON."""
        return {**self.values, "in_reference": self.in_reference, "in_prediction": self.in_prediction}

    @property
    def is_held(self) -> bool:
        """Whether one of the maps has the class."""
        return self.in_reference or self.in_prediction

    @property
    def is_false_alarm(self) -> bool:
        """Whether the class was marked, and is not there."""
        return self.in_prediction and not self.in_reference

    @property
    def is_miss(self) -> bool:
        """Whether the class is there, and nothing of it was marked."""
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

    Raises `DataError` when the two maps differ in shape, or `spacing` has not one value per axis.

    `predicted` and `reference` (*shape): label maps on the same grid; 0 is the background.
    `spacing`: world distance between neighbouring voxels along each array axis; or the linear part of an
    affine, which counts for axes that are not perpendicular too.
    `classes`: number of classes including the background.
    `tolerance`: distance up to which surfaces count as the same in the surface Dice, in world units.
    `ignore_label`: voxels with this value in the reference are left out: they belong to no class in either
    map.
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
    pair = MaskPair(*cropped_to_union(*masks), spacing, tolerance)
    values = {key: metric.measure(pair) for key, metric in METRICS.items() if metric.measure is not None}
    return ClassScores(values, bool(pair.reference.any()), bool(pair.predicted.any()))


def check_comparable(
    predicted: Integer[np.ndarray, "*predicted_shape"],
    reference: Integer[np.ndarray, "*reference_shape"],
    spacing: Spacing,
) -> None:
    """See that two label maps can be compared voxel by voxel.

    Raises `DataError` when they differ in shape, or `spacing` has not one value per axis.
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
