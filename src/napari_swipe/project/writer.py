"""`PairWriter`: writes what is painted into a project, in a thread, and knows what could not be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal

from napari_swipe.annotate.layers import painted_of
from napari_swipe.annotate.pair import Pair, check_pair
from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.layers.source import LayerSource
from napari_swipe.project.snapshot import PairSnapshot, Unsaved, iter_write, unsaved_sentences
from napari_swipe.qt.task import Task
from swipe_core.errors import SwipeError

if TYPE_CHECKING:
    from swipe_core.data.annotations import AnnotationScheme
    from swipe_core.project import Project


class Corrections:
    """The corrected voxels of one annotation.

    Before the first model there is nothing to correct; from then on whatever is painted, or painted
    over, is a correction, until the annotation is taken anew.
    """

    def __init__(self) -> None:
        self._baseline: np.ndarray | None = None
        self._before: np.ndarray | None = None

    def begin(self, painted: np.ndarray, corrected: np.ndarray | None = None) -> None:
        """Begin anew, since a model was made or a prediction was taken over.

        `painted`: as it is now; a copy is kept.
        `corrected`: what is known as corrected already.
        """
        self._before = self.mask(painted) if corrected is None else corrected
        self._baseline = painted.copy()

    def mask(self, painted: np.ndarray) -> np.ndarray | None:
        """Return where an annotation was corrected; None before the first model, and where nothing was."""
        if self._baseline is None or self._baseline.shape != painted.shape:
            return None
        changed = painted != self._baseline
        if self._before is not None:
            changed |= self._before
        return changed if changed.any() else None


@dataclass
class PairState:
    """A pair of the project, and what is remembered of it between two writings."""

    pair: Pair
    """As the project knows it: files that a training reads stay in their split until its end."""
    corrections: Corrections = field(default_factory=Corrections)
    image: tuple[Any, ...] | None = None
    """What tells the image that was written from others."""


class PairWriter(QObject):
    """Writes pairs one lot after another, each as it is painted when its turn comes.

    `begun`: gives the project, and begins it where there is none yet.
    """

    failed = Signal(str)
    """Something went wrong; a sentence says what."""
    noticed = Signal(str)
    """There is something that the user should know, in a sentence."""
    unsaved_changed = Signal()
    """There is another list of what could not be saved."""
    written = Signal()
    """A lot is on the disk."""

    def __init__(
        self, annotated: AnnotatedPairs, begun: Callable[[], Project], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._annotated, self._begun = annotated, begun
        self.states: dict[str, PairState] = {}
        """By the names of the pairs that the project knows."""
        self.unsaved: dict[str, Unsaved] = {}
        """What is not on the disk as it is painted, by name."""
        self.held: AnnotationScheme | None = None
        """The scheme of a training that reads the project, as long as there is one."""
        self.is_paused = False  # while a training writes all of it
        self._waiting: set[str] = set()
        self._task: Task | None = None

    @property
    def is_writing(self) -> bool:
        """Whether something painted is not on the disk yet."""
        return self._task is not None or bool(self._waiting)

    @property
    def sentences(self) -> list[str]:
        """Which layers are not on the disk as they are painted, and why."""
        return unsaved_sentences(self.unsaved.values())

    # Snapshots

    def snapshots(self) -> tuple[PairSnapshot, ...]:
        """Return the pairs as they are now; what is painted is copied.

        An `ImageError` is raised when an image cannot be understood, or is no more that which was painted on.
        """
        scheme, ndim = self._annotated.scheme, self._annotated.ndim
        return tuple(self.snapshot(pair, scheme, ndim) for pair in self._annotated.pairs)

    def snapshot(self, pair: Pair, scheme: AnnotationScheme, ndim: Literal[2, 3]) -> PairSnapshot:
        """Return one pair as it is now; raises as `snapshots`."""
        source = check_pair(pair.image, pair.labels, ndim)
        painted = painted_of(pair.labels, scheme)
        state = self.states.get(pair.name) or PairState(pair)
        state.image = state.image or _identity(source)
        split = pair.split if self.held is None else state.pair.split
        keeps = split == "val" and self.held is not None and self.held != scheme
        return PairSnapshot(
            name=pair.name,
            split=split,
            source=source,
            labels_name=pair.labels.name,
            painted=painted,
            scheme=scheme,
            corrected=state.corrections.mask(painted),
            is_new_image=state.image != _identity(source),
            kept_scheme=self.held if keeps else None,
        )

    def begin_corrections(self, pairs: Sequence[PairSnapshot]) -> None:
        """A model was made from these: whatever is painted beyond them corrects it."""
        for pair in pairs:
            if pair.name in self.states:
                self.states[pair.name].corrections.begin(pair.painted, pair.corrected)

    def take_over(self, pair: Pair, painted: np.ndarray) -> None:
        """A prediction becomes an annotation: what is changed of it is a correction."""
        state = self.states.setdefault(pair.name, PairState(pair))
        state.corrections = Corrections()
        state.corrections.begin(painted)

    # Writing

    def write(self, *pairs: Pair) -> None:
        """Write what is painted, after what is being written."""
        self._waiting |= {pair.name for pair in pairs}
        self._write_next()

    def hold(self, is_paused: bool) -> None:
        """A training begins, which reads the files; one that writes first is alone until `resume`."""
        self.held, self.is_paused = self._annotated.scheme, is_paused
        if is_paused and self._task is not None:
            self._task.abandon()
            self._task = None

    def resume(self) -> None:
        """The training has written all; what was painted meanwhile follows."""
        self.is_paused = False
        self._write_next()

    def fail(self, pairs: Sequence[Pair], reason: str) -> None:
        """Note that pairs could not be written, all of them for one reason."""
        self._task = None
        if not pairs:
            self.failed.emit(reason)
        self._note([pair.name for pair in pairs], [_unsaved(pair, reason) for pair in pairs])
        self._write_next()

    def forget(self, name: str) -> None:
        """Let go of a pair that is no more in the project."""
        self.states.pop(name, None)
        self._note([name], [])

    def clear(self) -> None:
        """Let go of all pairs."""
        self._waiting.clear()
        self.states.clear()
        self.unsaved.clear()
        self.unsaved_changed.emit()

    def finish(self, leaving: Iterable[PairSnapshot]) -> list[Task]:
        """Write once more all that is painted, in place of what is being written, and pairs that are gone.

        Returns the threads that go on, also after the dock. Only what goes wrong in them is shown.
        """
        tasks = [] if self._task is None else [self._task]
        for task in tasks:
            task.abandon()
        self._task = None
        self._waiting.clear()
        snapshots, unsaved = self._possible(self._annotated.pairs)
        snapshots += leaving
        if not snapshots and not unsaved:
            return tasks
        try:
            last = Task(iter_write(self._begun(), snapshots, self.held is not None))
        except SwipeError as error:
            show_error(str(error))
            return tasks
        last.finished.connect(lambda more: _show_errors([*unsaved, *more]))
        last.failed.connect(lambda reason: _show_errors(unsaved, reason))
        last.start()
        return [*tasks, last]

    def _possible(self, pairs: Iterable[Pair]) -> tuple[list[PairSnapshot], list[Unsaved]]:
        """Return the pairs as they are now, and those that cannot be understood."""
        scheme, ndim = self._annotated.scheme, self._annotated.ndim
        found, unsaved = list[PairSnapshot](), list[Unsaved]()
        for pair in pairs:
            try:
                found.append(self.snapshot(pair, scheme, ndim))
            except SwipeError as error:
                unsaved.append(_unsaved(pair, str(error)))
        return found, unsaved

    def _write_next(self) -> None:
        if self._task is not None or self.is_paused or not self._waiting:
            return
        names, self._waiting = {*self._waiting, *self.unsaved}, set()
        pairs = [pair for pair in self._annotated.pairs if pair.name in names]
        snapshots, unsaved = self._possible(pairs)
        try:
            work = iter_write(self._begun(), snapshots, self.held is not None)
        except SwipeError as error:
            self.fail(pairs, str(error))
            return
        self._note([each.name for each in unsaved], unsaved)
        self._task = Task(work)
        self._task.finished.connect(lambda unsaved: self._on_written(snapshots, unsaved))
        self._task.failed.connect(lambda reason: self.fail(pairs, reason))
        self._task.start()

    def _on_written(self, pairs: Sequence[PairSnapshot], unsaved: Sequence[Unsaved]) -> None:
        self._task = None
        failed = {each.name for each in unsaved}
        for pair in pairs:
            if pair.name in self.states and pair.name not in failed:
                self.states[pair.name].image = _identity(pair.source)
        self._note([pair.name for pair in pairs], unsaved)
        self.written.emit()
        self._write_next()

    def _note(self, tried: Iterable[str], unsaved: Sequence[Unsaved]) -> None:
        """Remember which pairs could not be saved, and report what is new to the user."""
        before = self.unsaved
        kept = {name: each for name, each in before.items() if name not in tried}
        self.unsaved = kept | {each.name: each for each in unsaved}
        news = [each for each in unsaved if before.get(each.name) != each]
        for signal, waits in ((self.failed, False), (self.noticed, True)):
            for sentence in unsaved_sentences(each for each in news if each.waits == waits):
                signal.emit(sentence)
        if self.unsaved != before:
            self.unsaved_changed.emit()


def _unsaved(pair: Pair, reason: str) -> Unsaved:
    return Unsaved(pair.name, pair.labels.name, reason)


def _show_errors(unsaved: Sequence[Unsaved], *reasons: str) -> None:
    for sentence in (*unsaved_sentences(unsaved), *reasons):
        show_error(sentence)


def _identity(source: LayerSource) -> tuple[Any, ...]:
    """Return what changes when an image is another one, or lies elsewhere."""
    return id(source.array), source.matrix.tobytes(), source.axes, source.units
