"""The classes that the label maps of a training hold: what none of them holds is named before it starts."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer

from swipe_core.data.cases import Case
from swipe_core.data.labelled import mask_notice, read_classes
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import DataError
from swipe_core.progress import Notice, Progress


@dataclass
class LabelCensus:
    """The classes that were found in the label maps so far."""

    labels: LabelConfig
    found: set[int] = field(default_factory=set)
    """Of the classes 1, 2, ..., those that have a voxel."""
    white: int | None = None
    """The number that stands for the class in masks of black and white; None where there was none."""
    holds_ignored: bool = False
    """Whether there was a voxel of the ignore label."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the classes of which no voxel was found."""
        names = enumerate(self.labels.class_names, start=1)
        return tuple(name for label, name in names if label not in self.found)

    def add(self, array: Integer[np.ndarray, "*shape"], white: int | None) -> bool:
        """Take in a label map as `read_classes` gives it, and return whether a voxel of it is labelled."""
        values = set(np.unique(array).tolist())
        labelled = values - {self.labels.ignore_label}
        self.holds_ignored = self.holds_ignored or len(labelled) < len(values)
        self.found |= labelled - {0}
        self.white = white if self.white is None else self.white
        return bool(labelled)

    def notices(self, cases: int) -> Iterator[Notice]:
        """Yield the notices about the label maps of so many cases.

        Raises `DataError` when none of them holds a voxel of any class: there is nothing to learn.
        """
        lacking = f"No training case of {cases} holds a voxel of {' or '.join(self.missing)}"
        if not self.found:
            raise DataError(f"{lacking}: {self._remedy()}.")
        if self.white is not None:
            yield mask_notice(self.labels, self.white)
        if self.missing:
            yield Notice(
                f"{lacking}, which cannot be learned and counts in no mean: correct the label "
                "files, or leave out what is not meant."
            )

    def _remedy(self) -> str:
        if not self.holds_ignored:
            return "mark what is to be learned, or give other label files"
        ignored = self.labels.ignore_label
        return (
            f"but for the background they hold only {ignored}, which is the ignore label; leave "
            f"labels.ignore_label out if {ignored} marks what is to be learned"
        )


def iter_census(
    cases: Sequence[Case], ndim: int, labels: LabelConfig
) -> Generator[Progress | Notice, None, None]:
    """Read label maps until each class was found in one, and report which are in none.

    Raises `SwipeError` when a label map cannot be read, holds other numbers, or no case has a voxel of any
    class.
    """
    census = LabelCensus(labels)
    for done, case in enumerate(cases, start=1):
        label_map, white = read_classes(case, ndim, labels)
        census.add(label_map.array, white)
        yield Progress("Reading label maps", done, len(cases))
        if not census.missing:
            break
    yield from census.notices(len(cases))
