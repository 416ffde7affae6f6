"""How the numbers that people paint become classes, and whether there is enough of them to learn from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Integer, UInt8

from swipe_core.data.labels import BACKGROUND, COLOUR, IGNORED, LabelConfig
from swipe_core.errors import DataError, listed
from swipe_core.pictures.overlays import default_colours

Unpainted = Literal["background", "ignored"]
"""What voxels are that nobody painted: of the background, or without an annotation."""

BACKGROUND_COLOUR = "#8c8c8c"  # where the background is painted too
MOST_CLASSES = 254
FEWEST = 50  # painted voxels of a class that it can be learned from


@dataclass(frozen=True)
class AnnotationScheme:
    """The meaning of the numbers of a painted layer.

    Raises `DataError` when names are missing, empty or not unique, one is "background", the colours do not
    suit them, or objects are numbered in several classes.
    """

    class_names: tuple[str, ...]
    class_colours: tuple[str, ...]
    """`class_names` and `class_colours`: of the classes 1, 2, ...; ``"#rrggbb"`` for each."""
    unpainted: Unpainted
    """With "background" a layer holds the classes themselves. With "ignored" what is not painted teaches
    nothing, so the background is painted as well: as 1, and class c as c + 1.
    """
    instances: bool = False
    """Whether the numbers tell objects of a single class apart; with "ignored" from 2 on."""

    def __post_init__(self) -> None:
        names = self.class_names
        if not 1 <= len(names) <= MOST_CLASSES:
            raise DataError(f"There can be 1 to {MOST_CLASSES} classes, and {len(names)} came.")
        if not all(name.strip() for name in names):
            raise DataError("Every class needs a name: write one for the class without.")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DataError(f"Every class needs a name of its own: rename one of those called {twice[0]}.")
        if BACKGROUND in names:
            raise DataError(f"'{BACKGROUND}' is what belongs to no class: give the class another name.")
        if len(self.class_colours) != len(names):
            raise DataError(f"{len(names)} classes need as many colours, and {len(self.class_colours)} came.")
        foreign = [colour for colour in self.class_colours if not re.fullmatch(COLOUR, colour)]
        if foreign:
            raise DataError(f"A colour is written as #rrggbb, and {foreign[0]!r} came.")
        if self.instances and len(names) > 1:
            raise DataError("Labels can number single objects of one class only: keep one class.")

    @property
    def painted(self) -> dict[int, str]:
        """The name of each number that can be painted; of numbered objects the first stands for all."""
        return dict(enumerate(self._painted_names, start=1))

    @property
    def painted_colours(self) -> dict[int, str]:
        """The colour of each number that can be painted."""
        leading = (BACKGROUND_COLOUR,) * (self.unpainted == "ignored")
        return dict(enumerate((*leading, *self.class_colours), start=1))

    def to_classes(self, painted: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """Return the class of each voxel: 0 (background), 1, 2, ... or `IGNORED`.

        Raises `DataError` when the layer holds a number that is none of `painted`.
        """
        self._check_numbers(painted)
        if self.instances:
            painted = np.minimum(painted, max(self.painted))
        if self.unpainted == "background":
            return painted.astype(np.uint8)
        # One less of each, by which an unpainted 0 comes round to 255, which is IGNORED.
        return painted.astype(np.uint8) - np.uint8(1)

    def to_painted(self, classes: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """Return what a layer holds for the classes of its voxels: the inverse of `to_classes`.

        `IGNORED` is unpainted in every scheme; all objects have the first number. Raises `DataError` when
        there is a class that the scheme does not have.
        """
        known = classes.astype(np.uint8)
        is_foreign = (classes != IGNORED) & ((classes < 0) | (classes > len(self.class_names)))
        if is_foreign.any():
            raise DataError(
                f"There are voxels of class {classes[is_foreign][0]}, and classes 1 to "
                f"{len(self.class_names)} are named: add the classes that are missing."
            )
        if self.unpainted == "ignored":
            return known + np.uint8(1)  # 255 comes round to 0
        return np.where(known == IGNORED, np.uint8(0), known)

    def reads(self, other: AnnotationScheme) -> bool:
        """Return whether label files of another scheme mean the same here, but for names and colours."""
        return self.unpainted == other.unpainted and len(self.class_names) >= len(other.class_names)

    def follow_names(self, before: AnnotationScheme, now: AnnotationScheme) -> AnnotationScheme:
        """Return the same with the classes of one scheme called as in the one that it has become."""
        # Where there are fewer now, the last were taken away; else those at a place are the same.
        names = dict(zip(before.class_names, now.class_names, strict=False))
        known = tuple(names.get(name, name) for name in self.class_names)
        return replace(self, class_names=known) if len(set(known)) == len(known) else self

    def translated(
        self, classes: Integer[np.ndarray, "*shape"], written: AnnotationScheme
    ) -> Integer[np.ndarray, "*shape"]:
        """Return the classes of a label file that was written in another scheme.

        What was not painted is what this scheme takes it for, and classes go by their names. Raises
        `DataError` when there are voxels of a class that this scheme lacks.
        """
        result = classes.copy()
        if self.instances:
            result = np.where(classes == IGNORED, IGNORED, classes > 0).astype(np.uint8)
        for number, name in enumerate(() if self.instances else written.class_names, start=1):
            if name in self.class_names:
                result[classes == number] = 1 + self.class_names.index(name)
            elif (classes == number).any():
                raise DataError(f"There are voxels of the class {name}, which is not named: add it again.")
        if self.unpainted == "background":
            result[classes == IGNORED] = 0
        elif written.unpainted == "background":
            result[classes == 0] = IGNORED
        return result

    def with_names(self, names: Iterable[str]) -> AnnotationScheme:
        """Return the same with further classes behind, where there is none of a name, in free colours.

        Raises `DataError` when there are too many classes then.
        """
        known = list(self.class_names)
        known += [name for name in dict.fromkeys(names) if name not in known]
        free = [each for each in default_colours(len(known)) if each not in self.class_colours]
        colours = (*self.class_colours, *free, *default_colours(len(known)))[: len(known)]
        return replace(self, class_names=tuple(known), class_colours=colours)

    def reaching(self, label: int, names: Mapping[int, str] = MappingProxyType({})) -> AnnotationScheme:
        """Return the scheme with as many further classes as it takes for a label to have one.

        `names`: of labels; a class whose label has none that is usable is called "class 2", "class 3", ...
        """
        scheme = self
        while max(scheme.painted) < label:
            known, name = scheme.class_names, names.get(max(scheme.painted) + 1, "").strip()
            if not name or name in (BACKGROUND, *known):
                numbered = (f"class {number}" for number in count(len(known) + 1))
                name = next(each for each in numbered if each not in known)
            scheme = scheme.with_names([name])
        return scheme

    def label_config(self) -> LabelConfig:
        """Return what label files of such classes mean to a training."""
        return LabelConfig(
            class_names=self.class_names,
            class_colours=self.class_colours,
            instances=self.instances,
            ignore_label=IGNORED if self.unpainted == "ignored" else None,
        )

    def counts(self, voxels: Mapping[int, int]) -> dict[str, int]:
        """Return the voxels of each class and of the background, by name; with "ignored" what is painted.

        `voxels`: by the number that is painted, with 0 for what is not. Numbers without a class are left out.
        """
        if self.instances:
            first = max(self.painted)
            objects = sum(number for label, number in voxels.items() if label >= first)
            return {BACKGROUND: voxels.get(first - 1, 0), self.class_names[0]: objects}
        counts = {name: voxels.get(label, 0) for label, name in self.painted.items()}
        return counts if self.unpainted == "ignored" else {BACKGROUND: voxels.get(0, 0)} | counts

    @property
    def _painted_names(self) -> tuple[str, ...]:
        return (BACKGROUND, *self.class_names) if self.unpainted == "ignored" else self.class_names

    def _check_numbers(self, painted: Integer[np.ndarray, "*shape"]) -> None:
        least, largest = (int(painted.min()), int(painted.max())) if painted.size else (0, 0)
        known = len(self._painted_names)
        if least < 0 or (largest > known and not self.instances):
            is_mask = known == 1 and least >= 0 and self.unpainted == "background"
            remedy = "have labels number single objects, " if is_mask else ""
            raise DataError(
                f"The label {least if least < 0 else largest} is painted, and only 1 to {known} have a "
                f"class: {remedy}add classes, or paint it over."
            )


def shortage(totals: Mapping[str, int], scheme: AnnotationScheme) -> list[str]:
    """Return sentences about what is too little to learn from; none where all is well.

    `totals`: painted voxels by name over all images, as sums of `AnnotationScheme.counts`.
    """
    painted = {name: totals.get(name, 0) for name in scheme.painted.values()}
    if not any(painted.values()):
        return [f"Nothing is painted yet: paint {FEWEST} voxels or more of {listed(painted)}."]
    few = {name: count for name, count in painted.items() if count < FEWEST}
    return [
        f"Only {count} voxel{'s are' if count > 1 else ' is'} painted as {name}: paint {FEWEST} or more."
        if count
        else f"Nothing is painted as {name} yet: paint {FEWEST} voxels or more."
        for name, count in few.items()
    ]
