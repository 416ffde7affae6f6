"""Validation by real inference: the field is rendered on each label map's own grid and compared."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

import numpy as np

from swipe_core.checkpoints import CheckpointContent
from swipe_core.data.cases import Case
from swipe_core.data.labelled import read_labelled
from swipe_core.metrics import dice
from swipe_core.predictor import Predictor, iter_sampled, rendering_on
from swipe_core.progress import Notice, Progress, retold


def validate(
    predictor: Predictor, cases: Sequence[Case], content: CheckpointContent
) -> Generator[Progress | Notice, None, dict[str, float]]:
    """Mean Dice over the cases, by class name; yields progress.

    A class that neither the prediction nor the reference of a case holds counts as 1 there.
    """
    labels = content.labels
    scores = []
    for done, case in enumerate(cases, start=1):
        labelled = read_labelled(case, content.model.ndim, labels)
        # Told at every window, so that who wants to stop need not wait for a large image.
        at = Progress("Validating", done - 1, len(cases))
        field = yield from retold(predictor.iter_field(labelled.image), partial(_told, at))
        sampling = iter_sampled(field, rendering_on(labelled.image.grid))
        rendered = yield from retold(sampling, partial(_told, at))
        predicted = rendered.array
        kept = np.ones(predicted.shape, bool)
        if labels.ignore_label is not None:
            kept = labelled.labels.array != labels.ignore_label
        scores.append(
            [
                dice(predicted[kept] == klass, labelled.labels.array[kept] == klass)
                for klass in range(1, labels.classes)
            ]
        )
        yield Progress("Validating", done, len(cases))
    means = np.mean(scores, axis=0)
    return {name: float(score) for name, score in zip(labels.class_names, means, strict=True)}


def _told(at: Progress, report: Progress | Notice) -> Progress | Notice:
    """What the progress of a part says of the whole."""
    return report if isinstance(report, Notice) else at
