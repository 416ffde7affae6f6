"""The temperature of a model's probabilities, and how far they are to be trusted, on labelled cases."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from swipe_core.checkpoints.file import Checkpoint
from swipe_core.data.cases import Case
from swipe_core.data.labelled import WHITE, LabelledImage, read_labelled
from swipe_core.images import LabelMap
from swipe_core.inference.field import OccupancyField
from swipe_core.measure.calibration import Reliability, fitted_temperature
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, with_progress

CASES = 40  # at most
PLACES = 4096  # in each case, drawn from all of its voxels, and as many at its boundaries at most
BAND = 0.9  # of the band in which a boundary is: probabilities from 0.05 to 0.95


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was found.

    Attributes
    ----------
    temperature
        By which logits are to be divided.
    before, after
        How probabilities came true, without it and with it.
    coverage
        The share of reference boundaries that lies in the band of 90 %, with it.
    cases
        How many were looked at.
    """

    temperature: float
    before: Reliability
    after: Reliability
    coverage: float
    cases: int

    @property
    def series(self) -> dict[str, list[tuple[float, float]]]:
        """The dots of a picture, without the temperature and with it, by what they are called there."""
        named = {"as trained": self.before}
        if self.temperature != 1:
            named[f"temperature {self.temperature:.2f}"] = self.after
        return {f"{name} (error {each.error:.4f})": each.dots for name, each in named.items()}

    def of(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint that keeps the temperature."""
        kept = round(self.temperature, 4)
        return replace(checkpoint, content=checkpoint.content.model_copy(update={"temperature": kept}))

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3g}, expected calibration error {self.before.error:.4f} before "
            f"and {self.after.error:.4f} after, {self.coverage:.1%} of the reference boundaries in the band "
            f"of {BAND:.0%} ({self.cases} cases)"
        )


def iter_calibration(
    predictor: Predictor, cases: Sequence[Case], temperature: float | None = None
) -> Generator[Progress | Notice, None, Calibration | None]:
    """Fit the temperature on labelled cases, or judge a given one; None where they hold no boundary.

    Cases beyond `CASES` are left out, evenly.
    """
    labels, ndim = predictor.content.labels, predictor.content.model.ndim
    spread = np.linspace(0, len(cases) - 1, min(CASES, len(cases))).astype(int)
    chosen = [cases[index] for index in spread]
    inner, outer = list[tuple[np.ndarray, np.ndarray]](), list[tuple[np.ndarray, np.ndarray]]()
    for done, case in enumerate(chosen):
        labelled = read_labelled(case, ndim, labels)
        at = Progress("Calibrating", done, len(chosen))
        field = yield from with_progress(predictor.iter_field(labelled.image), at)
        random = np.random.default_rng(done)
        for parts, (places, classes) in (
            (inner, _voxels(labelled, labels.ignore_label, random)),
            (outer, _boundary(labelled, labels.ignore_label, random)),
        ):
            if len(places):
                world = labelled.image.grid.affine.apply(places.astype(np.float64))
                parts.append((field.logits(world), classes))
    if not outer:
        return None
    logits, found = (np.concatenate(each) for each in zip(*inner, strict=True))
    fitted = temperature or fitted_temperature(logits, found)
    at_boundary, classes = (np.concatenate(each) for each in zip(*outer, strict=True))
    share = np.take_along_axis(softmax(at_boundary / fitted, axis=1), classes[:, None], axis=1)
    covered = np.abs(share - 0.5) <= BAND / 2
    before, after = (Reliability.of(logits, found, each) for each in (1.0, fitted))
    return Calibration(fitted, before, after, float(covered.mean()), len(chosen))


def judged(
    field: OccupancyField, reference: LabelMap, ignored: int | None = None
) -> tuple[Float[np.ndarray, "places classes"], Int[np.ndarray, " places"]] | None:
    """Return the logits of a field at voxels of a reference, and the classes there; None if there are none.

    Both are in one unit. Voxels outside of the field's image, and labels that it does not know, are left out;
    white in a mask of one class counts as the class.
    """
    random = np.random.default_rng(0)
    if len(field.class_names) == 1 and reference.array.max(initial=0) in WHITE and ignored is None:
        reference = replace(reference, array=(reference.array > 0).astype(np.uint8))
    kept = np.flatnonzero((reference.array != ignored) & (reference.array <= len(field.class_names)))
    drawn = random.choice(kept, min(PLACES * 4, len(kept)), replace=False)
    places = np.stack(np.unravel_index(drawn, reference.shape), axis=1)
    world = reference.affine.apply(places.astype(np.float64))
    at = field.image_grid.affine.inverse().apply(world)
    inside = ((at >= -0.5) & (at <= np.array(field.image_grid.shape) - 0.5)).all(axis=1)
    if not inside.any():
        return None
    return field.logits(world[inside]), reference.array.reshape(-1)[drawn[inside]].astype(np.int64)


def _voxels(
    labelled: LabelledImage, ignored: int | None, random: np.random.Generator
) -> tuple[Int[np.ndarray, "places ndim"], Int[np.ndarray, " places"]]:
    """Return voxels of a case, and their classes."""
    reference = labelled.labels.array
    kept = np.flatnonzero(reference != ignored)
    drawn = random.choice(kept, min(PLACES, len(kept)), replace=False)
    places = np.stack(np.unravel_index(drawn, reference.shape), axis=1)
    return places, reference.reshape(-1)[drawn].astype(np.int64)


def _boundary(
    labelled: LabelledImage, ignored: int | None, random: np.random.Generator
) -> tuple[Float[np.ndarray, "places ndim"], Int[np.ndarray, " places"]]:
    """Return the middles between neighbouring voxels of two classes, and the greater number of the two."""
    reference = labelled.labels.array
    places, classes = list[np.ndarray](), list[np.ndarray]()
    for axis in range(reference.ndim):
        low, high = (np.delete(reference, end, axis) for end in (-1, 0))
        is_met = (low != high) & (low != ignored) & (high != ignored)
        places.append(np.argwhere(is_met) + 0.5 * (np.arange(reference.ndim) == axis))
        classes.append(np.maximum(low, high)[is_met].astype(np.int64))
    every, numbers = np.concatenate(places), np.concatenate(classes)
    drawn = random.permutation(len(every))[:PLACES]
    return every[drawn], numbers[drawn]
