"""`AnnotatedPairs`: images with labels that are painted over them, what these mean, how much there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Signal

from napari_swipe.annotate.counts import COUNTED_AT_ONCE, LabelCounts, unknown_labels
from napari_swipe.annotate.layers import (
    Renumbering,
    coloured_as,
    dress,
    label_names,
    label_of,
    new_labels,
)
from napari_swipe.annotate.pair import (
    Pair,
    SamePlace,
    Split,
    check_labels,
    check_pair,
    could_be_volume,
    likely_ndim,
    source_of,
)
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.qt.task import Task
from swipe_core.data.annotations import AnnotationScheme, shortage
from swipe_core.data.guess import MANY_LABELS, guess_scheme
from swipe_core.errors import DataError, ImageError

if TYPE_CHECKING:
    from napari import Viewer
    from napari.utils.events import Event

DATA_SET_PARTS = (".", "train", "val", "test")  # where a data set may have its images/ and labels/


@dataclass(frozen=True, eq=False)
class _Held:
    pair: Pair
    counts: LabelCounts
    place: SamePlace


class AnnotatedPairs(QObject):
    """All that is learned from: images with the labels that are painted over them, classes, folders."""

    changed = Signal()
    """There are other pairs, folders or classes, another use of a pair, or another meaning of unpainted."""
    painted = Signal(object)
    """The paint of a `Pair` is another one, and is counted: the brush has come to rest."""
    noticed = Signal(str)
    """Something happened to a pair without the user asking for it; a sentence says what."""

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.scheme = guess_scheme([])
        """What the numbers of all painted layers mean. It is guessed from the first layer that holds paint,
        until `is_settled`.
        """
        self.is_settled = False
        """Whether somebody chose what the scheme says."""
        self.folders: tuple[Path, ...] = ()
        """Data sets on disk that are learned from as well."""
        self.reserved: frozenset[str] = frozenset()
        """Names that no new pair is given."""
        self._viewer = viewer
        self._ndim: Literal[2, 3] | None = None
        self._held: dict[str, _Held] = {}
        self._renumbering = Renumbering()
        self._guess: Task | None = None
        viewer.layers.events.removed.connect(self._on_layer_removed)

    def disconnect_viewer(self) -> None:
        """Let go of the viewer and of all layers, which stay as they are."""
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self._stop_guessing()
        for name in list(self._held):
            self._drop(name)

    # The pairs

    @property
    def pairs(self) -> list[Pair]:
        """The pairs in the order in which they were added."""
        return [held.pair for held in self._held.values()]

    def add(
        self, image: Image, labels: Labels | None = None, split: Split = "train", name: str | None = None
    ) -> Pair:
        """Annotate an image.

        An `ImageError` is raised when a layer is in a pair already, or the two do not go together.

        `labels`: as they exist; None: an empty layer is added, selected and ready to be painted on.
        `name`: what the pair is called; by default as the layer of the image.
        """
        self._check_new(image, labels)
        if not self._held and self._ndim is None:
            self._ndim = likely_ndim(image)
        source = source_of(image, self.ndim)
        if labels is not None:
            check_labels(labels, source)
        painted_before = any(self._is_painted(held) for held in self._held.values())
        layer = new_labels(self._viewer, source, self.scheme) if labels is None else labels
        pair = Pair(self._free_name(name or image.name), image, layer, split)
        names = label_names(layer)
        self._hold(pair)
        if labels is not None:
            labels.visible = True
            self._viewer.layers.selection.active = labels
            self._take_in(pair, names, is_first=not painted_before)
        self.changed.emit()
        if not self._held[pair.name].place.is_kept:
            self.noticed.emit(
                f"{layer.name} lies at another place than {image.name}, or has another spacing: its voxels "
                "are taken for those of the image one by one."
            )
        return pair

    def remove(self, name: str) -> None:
        """Take a pair off the list; its layers stay in the viewer."""
        self._drop(name)
        if not self._held:
            self._ndim = None
            self._stop_guessing()
            self.scheme = self.scheme if self.is_settled else guess_scheme([])
        self.changed.emit()

    def set_split(self, name: str, split: Split) -> None:
        """Learn from a pair, or only measure by it."""
        self._held[name] = replace(self._held[name], pair=replace(self._held[name].pair, split=split))
        self.changed.emit()

    def _check_new(self, image: Image, labels: Labels | None) -> None:
        for pair in self.pairs:
            if pair.image is image:
                raise ImageError(
                    f"{image.name} is in the list already: pick another image, or remove it first."
                )
            if labels is not None and pair.labels is labels:
                raise ImageError(
                    f"{pair.labels.name} is the annotation of {pair.image.name} already: pick other "
                    "labels, or New annotation."
                )

    def _free_name(self, name: str) -> str:
        free, number = name, 2
        while free in self._held or free in self.reserved:
            free, number = f"{name} {number}", number + 1
        return free

    def _hold(self, pair: Pair) -> None:
        counts = LabelCounts(pair.labels, self)
        self._held[pair.name] = _Held(pair, counts, SamePlace(pair.image, pair.labels, self.ndim))
        counts.changed.connect(lambda: self._on_counted(pair.name))
        for layer in (pair.image, pair.labels):
            layer.events.data.connect(self._on_data)

    def _drop(self, name: str) -> None:
        held = self._held.pop(name)
        held.counts.disconnect_layer()
        held.counts.deleteLater()
        held.place.disconnect_layers()
        for layer in (held.pair.image, held.pair.labels):
            layer.events.data.disconnect(self._on_data)
        self._renumbering.forget(held.pair.labels)

    # Folders

    def set_folders(self, folders: Sequence[Path]) -> None:
        """Learn from other data sets on disk, besides the pairs."""
        self.folders = tuple(folders)
        self.changed.emit()

    def add_folder(self, folder: Path) -> None:
        """Learn from one more data set on disk.

        A `DataError` is raised when it is none, or stands in the list already.
        """
        if folder in self.folders:
            raise DataError(f"{folder} is in the list already: choose another folder.")
        parts = [folder / part for part in DATA_SET_PARTS]
        if not any((part / "images").is_dir() and (part / "labels").is_dir() for part in parts):
            raise DataError(
                f"{folder} is no data set: choose a folder that holds images/ and labels/, or train/ and "
                "val/ with these inside."
            )
        self.set_folders((*self.folders, folder))

    # Two or three dimensions

    @property
    def ndim(self) -> Literal[2, 3]:
        """Spatial axes of what is annotated: frames of 2, or volumes."""
        return self._ndim or 2

    @property
    def could_be_volumes(self) -> bool:
        return bool(self._held) and all(could_be_volume(pair.image) for pair in self.pairs)

    def source(self, pair: Pair) -> LayerSource:
        """Return the image of a pair as it is annotated."""
        return source_of(pair.image, self.ndim)

    def set_ndim(self, ndim: Literal[2, 3]) -> None:
        """Take stacks for frames, or for volumes.

        An `ImageError` is raised when there is an image that is no volume.
        """
        for pair in self.pairs:
            source_of(pair.image, ndim)
        self._ndim = ndim
        self.changed.emit()

    # What the labels mean

    def set_scheme(self, scheme: AnnotationScheme, renumber: bool = False) -> None:
        """Use other classes, colours, or another meaning of unpainted voxels; nothing is guessed afterwards.

        `renumber`: layers that were made here follow with their numbers, where the meaning of unpainted
        voxels changes; others keep them, and mean something else.
        """
        self.is_settled = True
        self._stop_guessing()
        self._use(scheme, renumber)
        self.changed.emit()

    def _use(self, scheme: AnnotationScheme, renumber: bool = False) -> None:
        before, self.scheme = self.scheme, scheme
        is_shifted = renumber and before.unpainted != scheme.unpainted
        for held in list(self._held.values()):
            labels = held.pair.labels
            name = before.painted.get(labels.selected_label)
            if is_shifted and metadata_of(labels).is_annotation and isinstance(labels.data, np.ndarray):
                self._renumbering.apply(labels, scheme.unpainted == "ignored")
            dress(labels, scheme)
            if name is not None and not scheme.instances:
                labels.selected_label = label_of(scheme, name)

    def _take_in(self, pair: Pair, names: Mapping[int, str], is_first: bool) -> None:
        """Understand a layer that was painted elsewhere."""
        if self.is_settled or not is_first:
            self._extend(pair, names)
            dress(pair.labels, self.scheme)
            return
        data = pair.labels.data
        if isinstance(data, np.ndarray) and data.size <= COUNTED_AT_ONCE:
            self._use(coloured_as(pair.labels, guess_scheme([data], names)))
            return
        self._stop_guessing()
        self._guess = Task(_iter_guess(data, names))
        self._guess.finished.connect(lambda scheme: self._on_guessed(coloured_as(pair.labels, scheme)))
        self._guess.start()

    def _on_guessed(self, scheme: AnnotationScheme) -> None:
        self._guess = None
        self._use(scheme)
        self.changed.emit()

    def _stop_guessing(self) -> None:
        if self._guess is not None:
            self._guess.abandon()
            self._guess = None

    def _extend(self, pair: Pair, names: Mapping[int, str]) -> None:
        """Classes for the labels of another layer, as long as these are few."""
        histogram = self._held[pair.name].counts.histogram or Counter()
        unknown = unknown_labels(histogram, self.scheme)
        if unknown and unknown[0] > 0 and unknown[-1] <= MANY_LABELS:
            self._use(self.scheme.reaching(unknown[-1], names))

    # What is painted

    def counts(self, name: str) -> dict[str, int] | None:
        """Return the voxels of a pair by class, as `AnnotationScheme.counts`; None while they are counted."""
        histogram = self._held[name].counts.histogram
        return None if histogram is None else self.scheme.counts(histogram)

    def totals(self, split: Split | None = None) -> dict[str, int]:
        """Return the voxels by class over all pairs, or over those of one use."""
        total: Counter[str] = Counter()
        for pair in self.pairs:
            if split in (None, pair.split):
                total.update(self.counts(pair.name) or {})
        return dict(total)

    def highest_label(self, name: str) -> int:
        """Return the largest number that is painted in a pair, as far as it is counted."""
        return max(self._held[name].counts.histogram or (0,))

    @property
    def is_counting(self) -> bool:
        """Whether a large layer is counted for the first time."""
        return any(held.counts.histogram is None for held in self._held.values())

    @property
    def is_pending(self) -> bool:
        """Whether something may have been painted that is not counted yet."""
        return any(held.counts.is_pending for held in self._held.values())

    @property
    def shortage(self) -> list[str]:
        """Sentences on classes that are painted too little to learn from; folders are taken to suffice."""
        if self.folders or self.is_counting:
            return []
        return shortage(self.totals("train"), self.scheme)

    @property
    def faults(self) -> list[str]:
        """Labels without a class or of another shape than their image, in a sentence for each layer."""
        sentences = list(self._misfits)
        for held in self._held.values():
            unknown = unknown_labels(held.counts.histogram or {}, self.scheme)
            if unknown:
                which = ", ".join(map(str, unknown[:3])) + (", …" if len(unknown) > 3 else "")
                sentences.append(
                    f"{held.pair.labels.name} is painted with {which}, which is no class: add a class, or "
                    "paint it over."
                )
        return sentences

    @property
    def _misfits(self) -> list[str]:
        """Sentences on what no longer goes together, since somebody changed a layer."""
        sentences = []
        for pair in self.pairs:
            try:
                check_pair(pair.image, pair.labels, self.ndim)
            except ImageError as error:
                sentences.append(str(error))
        return sentences

    def _on_data(self) -> None:
        """Tell at once of an image that no longer suits its labels, since one of them has other data."""
        for sentence in self._misfits:
            self.noticed.emit(sentence)
        self.changed.emit()

    def _is_painted(self, held: _Held) -> bool:
        """Return whether there is paint, as far as is known."""
        histogram = held.counts.histogram
        return histogram is None or any(label != 0 for label in histogram)

    def _on_counted(self, name: str) -> None:
        if name in self._held:
            self.painted.emit(self._held[name].pair)

    def _on_layer_removed(self, event: Event) -> None:
        for pair in self.pairs:
            if event.value in (pair.image, pair.labels):
                self.remove(pair.name)
                self.noticed.emit(f"{pair.name} left the list: its layer {event.value.name} was deleted.")


def _iter_guess(data: Any, names: Mapping[int, str]) -> Generator[None, None, AnnotationScheme]:
    """`guess_scheme` for a thread."""
    yield
    return guess_scheme([np.asarray(data)], names)
