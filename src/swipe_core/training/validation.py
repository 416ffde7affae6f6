"""Validation by real inference: the field is rendered on each label map's own grid and compared."""

from collections.abc import Generator, Sequence

import numpy as np

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.data.cases import Case
from swipe_core.data.labelled import read_labelled
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.measure.metrics import dice
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, with_progress


def validate(
    predictor: Predictor, cases: Sequence[Case], content: CheckpointContent
) -> Generator[Progress | Notice, None, dict[str, float]]:
    """Return the mean Dice by class name, of each over the cases whose prediction or reference holds it.

    A class that no reference holds has none. Yields progress, and a notice of such classes.
    """
    labels = content.labels
    scores, found = list[list[float]](), set[int]()
    for done, case in enumerate(cases, start=1):
        labelled = read_labelled(case, content.model.ndim, labels)
        # Told at every window, so that who wants to stop need not wait for a large image.
        at = Progress("Validating", done - 1, len(cases))
        field = yield from with_progress(predictor.iter_field(labelled.image), at)
        sampling = iter_sampled(field, rendering_on(labelled.image.grid))
        rendered = yield from with_progress(sampling, at)
        reference = labelled.labels.array
        kept = reference != labels.ignore_label
        found |= set(np.unique(reference[kept]).tolist()) - {0}
        scores.append(_dice_by_class(rendered.array[kept], reference[kept], labels.classes))
        yield Progress("Validating", done, len(cases))
    referenced = sorted(found)
    missing = [name for label, name in enumerate(labels.class_names, start=1) if label not in found]
    if missing:
        lacking = f"No validation case of {len(cases)} holds a voxel of {', '.join(missing)}"
        outcome = "which has no part in the choice of the best weights"
        if not referenced:
            outcome = "so that no weights can be judged, and the last are kept"
        yield Notice(f"{lacking}, {outcome}.")
    means = np.nanmean(np.array(scores)[:, [label - 1 for label in referenced]], axis=0)
    names = [labels.class_names[label - 1] for label in referenced]
    return {name: float(score) for name, score in zip(names, means, strict=True)}


def _dice_by_class(predicted: np.ndarray, reference: np.ndarray, classes: int) -> list[float]:
    """Return the Dice of the classes 1, 2, ...; nan for one that neither map holds."""
    maps = [(predicted == label, reference == label) for label in range(1, classes)]
    return [dice(*pair) if pair[0].any() or pair[1].any() else np.nan for pair in maps]
