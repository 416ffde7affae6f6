"""Scores of a class that tests make up."""

from __future__ import annotations

from swipe_core.measure.metrics import agreement_metrics
from swipe_core.measure.scores import ClassScores


def class_scores(
    dice: float,
    iou: float,
    hausdorff_95: float,
    surface_dice: float,
    in_reference: bool = True,
    in_prediction: bool = True,
    **volumes: float,
) -> ClassScores:
    """Scores of a class, of unknown volume where none is given."""
    values = {"dice": dice, "iou": iou, "hausdorff_95": hausdorff_95, "surface_dice": surface_dice}
    return ClassScores(values | volumes, in_reference, in_prediction)


def agreement_of(scores: ClassScores) -> tuple[float, ...]:
    """The scores of a class without its volumes, which are no agreement."""
    return (*(getattr(scores, key) for key in agreement_metrics()), scores.in_reference, scores.in_prediction)
