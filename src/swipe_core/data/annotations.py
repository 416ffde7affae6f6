"""How the numbers that people paint become classes, and whether there is enough of them to learn from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from swipe_core.errors import DataError
from swipe_core.pictures.overlays import default_colours

if TYPE_CHECKING:
    from swipe_core.data.labelled import LabelConfig

Unpainted = Literal["background", "ignored"]
"""What voxels are that nobody painted: of the background, or without an annotation."""

IGNORED = 255  # among classes: a voxel without an annotation
BACKGROUND = "background"
BACKGROUND_COLOUR = "#8c8c8c"  # where the background is painted too
MOST_CLASSES = 254
FEWEST = 50  # painted voxels of a class that it can be learned from

COLOUR = re.compile("#[0-9a-fA-F]{6}")
BLOCK = 2**22  # voxels counted at once

MANY_LABELS = 8  # above it, labels are numbers of objects rather than of classes
FEW_LABELS = 3  # up to it, they are classes even if each is a single object
STROKE = 12.0  # elongation above which something was drawn with a brush: an ellipse of 1 to 4, a disc has pi
PLACES = 4  # planes that are looked at, and windows of each
WINDOW = 512  # side of a window, in pixels


@dataclass(frozen=True)
class AnnotationScheme:
    """What the numbers of a painted layer mean.

    Attributes
    ----------
    class_names, class_colours
        Of the classes 1, 2, ...; ``"#rrggbb"`` for each.
    unpainted : {"background", "ignored"}
        With "background" a layer holds the classes themselves. With "ignored" what is not painted
        teaches nothing, so the background is painted as well: as 1, and class c as c + 1.
    instances
        Whether the numbers tell objects of a single class apart; with "background" only.

    Raises
    ------
    DataError
        When names are missing, empty or not unique, one is "background", the colours do not suit
        them, or objects are numbered in several classes or with "ignored".
    """

    class_names: tuple[str, ...]
    class_colours: tuple[str, ...]
    unpainted: Unpainted
    instances: bool = False

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
        foreign = [colour for colour in self.class_colours if not COLOUR.fullmatch(colour)]
        if foreign:
            raise DataError(f"A colour is written as #rrggbb, and {foreign[0]!r} came.")
        if self.instances and (len(names) > 1 or self.unpainted == "ignored"):
            raise DataError(
                "Labels can number single objects of one class only, with all else background: keep one "
                "class, and let what is not painted be background."
            )

    @property
    def painted(self) -> dict[int, str]:
        """The name of each number that can be painted; of numbered objects 1 stands for all."""
        return dict(enumerate(self._painted_names, start=1))

    @property
    def painted_colours(self) -> dict[int, str]:
        """The colour of each number that can be painted."""
        leading = (BACKGROUND_COLOUR,) * (self.unpainted == "ignored")
        return dict(enumerate((*leading, *self.class_colours), start=1))

    def to_classes(self, painted: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """The class of each voxel: 0 (background), 1, 2, ... or `IGNORED`.

        Raises
        ------
        DataError
            When the layer holds a number that is none of `painted`.
        """
        self._check_numbers(painted)
        if self.instances:
            return (painted > 0).astype(np.uint8)
        if self.unpainted == "background":
            return painted.astype(np.uint8)
        # One less of each, by which an unpainted 0 comes round to 255, which is IGNORED.
        return painted.astype(np.uint8) - np.uint8(1)

    def to_painted(self, classes: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """What a layer holds for the classes of its voxels: the inverse of `to_classes`.

        `IGNORED` is unpainted in every scheme; all objects are numbered 1.

        Raises
        ------
        DataError
            When there is a class that the scheme does not have.
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
        """Whether label files of another scheme mean the same in this one, but for names and colours."""
        return self.unpainted == other.unpainted and len(self.class_names) >= len(other.class_names)

    def follow_names(self, before: AnnotationScheme, now: AnnotationScheme) -> AnnotationScheme:
        """The same with the classes of one scheme called as in the one that it has become."""
        # Where there are fewer now, the last were taken away; else those at a place are the same.
        names = dict(zip(before.class_names, now.class_names, strict=False))
        known = tuple(names.get(name, name) for name in self.class_names)
        return replace(self, class_names=known) if len(set(known)) == len(known) else self

    def translated(
        self, classes: Integer[np.ndarray, "*shape"], written: AnnotationScheme
    ) -> Integer[np.ndarray, "*shape"]:
        """The classes of a label file that was written in another scheme.

        What was not painted is what this scheme takes it for, and classes go by their names.

        Raises
        ------
        DataError
            When there are voxels of a class that this scheme lacks.
        """
        if self.instances:
            return ((classes > 0) & (classes != IGNORED)).astype(np.uint8)
        result = classes.copy()
        for number, name in enumerate(written.class_names, start=1):
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
        """The same with further classes behind, where there is none of a name, in colours that are free.

        Raises
        ------
        DataError
            When there are too many classes then.
        """
        known = list(self.class_names)
        known += [name for name in dict.fromkeys(names) if name not in known]
        free = [each for each in default_colours(len(known)) if each not in self.class_colours]
        colours = (*self.class_colours, *free, *default_colours(len(known)))[: len(known)]
        return replace(self, class_names=tuple(known), class_colours=colours)

    def label_config(self) -> LabelConfig:
        """What label files of such classes mean to a training."""
        # Not with the module: it brings torch along, which takes seconds.
        from swipe_core.data.labelled import LabelConfig

        return LabelConfig(
            class_names=self.class_names,
            class_colours=self.class_colours,
            instances=self.instances,
            ignore_label=IGNORED if self.unpainted == "ignored" else None,
        )

    def counts(self, painted: Integer[np.ndarray, "*shape"]) -> dict[str, int]:
        """Voxels of each class and of the background, by name; with "ignored" only what is painted.

        Raises
        ------
        DataError
            As `to_classes`.
        """
        self._check_numbers(painted)
        if self.instances:
            objects = int(np.count_nonzero(painted))
            return {BACKGROUND: painted.size - objects, self.class_names[0]: objects}
        voxels = np.zeros(len(self._painted_names) + 1, np.int64)
        for block in _blocks(painted):
            voxels += np.bincount(block.ravel(), minlength=len(voxels))
        names = ("", *self._painted_names) if self.unpainted == "ignored" else (BACKGROUND, *self.class_names)
        return {name: int(count) for name, count in zip(names, voxels, strict=True) if name}

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


def guess_scheme(
    painted: Sequence[Integer[np.ndarray, "*_"]], names: Mapping[int, str] = MappingProxyType({})
) -> AnnotationScheme:
    """What was most likely meant by what is painted.

    Strokes of a brush are long and thin, so that most of the image has no annotation yet; filled objects
    are compact, and what surrounds them is background. Many numbers, or several of which each is one
    compact object, count objects. Only samples of large arrays are looked at.

    Parameters
    ----------
    painted
        The layers, of two axes or more; they may differ in shape.
    names
        Of numbers in the layers, where they have any: these are never numbers of objects, and one
        called "background" is painted only where the rest is ignored.
    """
    highest = max((int(array.max()) for array in painted if array.size), default=0)
    if highest <= 0:
        return _scheme("ignored", 1, names)
    traces = list(_traces([array for array in painted if array.size and array.any()]))
    is_named = any(label in names for label in range(1, highest + 1))
    if highest > MOST_CLASSES or (not is_named and _are_objects(traces, highest)):
        return AnnotationScheme(("object",), tuple(default_colours(1)), "background", instances=True)
    # Strokes come as two numbers at least, background and something; one alone may be a thin object.
    limit = STROKE if highest > 1 else 2 * STROKE
    if names.get(1, BACKGROUND) == BACKGROUND and (1 in names or _elongation(traces) > limit):
        return _scheme("ignored", max(1, min(highest - 1, MOST_CLASSES - 1)), names)
    return _scheme("background", highest, names)


def shortage(totals: Mapping[str, int], scheme: AnnotationScheme) -> list[str]:
    """What is too little to learn from, in sentences; none where all is well.

    Parameters
    ----------
    totals
        Painted voxels by name over all images, as sums of `AnnotationScheme.counts`.
    """
    painted = {name: totals.get(name, 0) for name in scheme.painted.values()}
    if not any(painted.values()):
        return [f"Nothing is painted yet: paint {FEWEST} voxels or more of {_listed(list(painted))}."]
    few = {name: count for name, count in painted.items() if count < FEWEST}
    return [
        f"Only {count} voxel{'s are' if count > 1 else ' is'} painted as {name}: paint {FEWEST} or more."
        if count
        else f"Nothing is painted as {name} yet: paint {FEWEST} voxels or more."
        for name, count in few.items()
    ]


@dataclass(frozen=True)
class _Trace:
    """What one number left in one window: its connected pieces.

    Attributes
    ----------
    areas, elongations : (pieces,)
        Pixels, and their number over the square of the largest half width.
    """

    label: int
    areas: Int[np.ndarray, " pieces"]
    elongations: np.ndarray


def _scheme(unpainted: Unpainted, classes: int, names: Mapping[int, str]) -> AnnotationScheme:
    first = 2 if unpainted == "ignored" else 1
    spare = ["foreground"] if classes == 1 else [f"class {number}" for number in range(1, classes + 1)]
    chosen: list[str] = []
    for label, other in enumerate(spare, start=first):
        name = names.get(label, "").strip()
        is_usable = name and name != BACKGROUND and name not in (*chosen, *spare)
        chosen.append(name if is_usable else other)
    return AnnotationScheme(tuple(chosen), tuple(default_colours(classes)), unpainted)


def _are_objects(traces: Sequence[_Trace], highest: int) -> bool:
    if highest > MANY_LABELS:
        return True
    labels = {trace.label for trace in traces}
    are_single = all(len(trace.areas) == 1 for trace in traces)
    return len(labels) > FEW_LABELS and are_single and _elongation(traces) <= STROKE


def _elongation(traces: Sequence[_Trace]) -> float:
    """Of the piece that half of the painted pixels lie below."""
    areas = np.concatenate([trace.areas for trace in traces])
    elongations = np.concatenate([trace.elongations for trace in traces])
    order = np.argsort(elongations)
    below = np.cumsum(areas[order])
    return float(elongations[order][np.searchsorted(below, below[-1] / 2)])


def _traces(painted: Sequence[Integer[np.ndarray, "*_"]]) -> Iterator[_Trace]:
    planes = [plane for array in _evenly(painted) for plane in _planes(array)]
    for plane in _evenly(planes):
        for window in _windows(plane):
            labels = np.unique(window[window > 0])[: MANY_LABELS + 1]
            yield from (_trace(int(label), window == label) for label in labels)


def _trace(label: int, mask: Bool[np.ndarray, "height width"]) -> _Trace:
    from scipy import ndimage

    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    padded = np.pad(mask[box], 1)  # the edge of the image ends what is painted
    pieces, count = ndimage.label(padded, np.ones((3, 3)))
    distance = ndimage.distance_transform_edt(padded)
    half_widths = ndimage.maximum(distance, pieces, range(1, count + 1)) - 0.5
    areas = np.bincount(pieces.ravel())[1:]
    return _Trace(label, areas, areas / half_widths**2)


def _planes(painted: Integer[np.ndarray, "*_"]) -> list[Integer[np.ndarray, "height width"]]:
    """Some painted planes, across the axes along which the fewest are: people paint in planes."""
    if painted.ndim == 2:
        return [painted]
    axes = range(painted.ndim)
    profiles = [np.flatnonzero((painted != 0).any(axis=tuple({*axes} - {axis}))) for axis in axes]
    axis = min(axes, key=lambda axis: len(profiles[axis]))
    stack = np.moveaxis(painted, axis, 0)
    found = [plane for index in _evenly(profiles[axis]) for plane in _planes(stack[index])]
    return _evenly(found)


def _windows(
    plane: Integer[np.ndarray, "height width"],
) -> Iterator[Integer[np.ndarray, "rows columns"]]:
    """All that is painted, or parts of a large plane about painted pixels."""
    rows, columns = (np.flatnonzero((plane != 0).any(axis=axis)) for axis in (1, 0))
    plane = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(plane.shape) <= WINDOW:
        yield plane
        return
    for row in _evenly(rows - rows[0]):
        found = np.flatnonzero(plane[row])
        corner = [max(0, int(at) - WINDOW // 2) for at in (row, found[len(found) // 2])]
        yield plane[corner[0] : corner[0] + WINDOW, corner[1] : corner[1] + WINDOW]


def _evenly(items: Sequence | np.ndarray) -> list:
    """At most `PLACES` of the items, spread over all of them."""
    chosen = np.linspace(0, len(items) - 1, min(PLACES, len(items))).round().astype(int)
    return [items[index] for index in chosen]


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of an array along its first axis, each small enough to be counted without much memory."""
    parts = min(len(array), math.ceil(array.size / BLOCK)) if array.ndim else 0
    edges = np.linspace(0, len(array), parts + 1).astype(int).tolist() if parts else []
    yield from (array[first:last] for first, last in pairwise(edges))


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
