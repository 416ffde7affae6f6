"""Keeps a project up to date with what is painted, and opens one again."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer, Signal

from napari_swipe.annotate.layers import Split, check_pair, painted_of
from napari_swipe.annotate.panel import AnnotatePanel, Pair
from napari_swipe.layers.source import LayerSource
from napari_swipe.project.corrections import Corrections
from napari_swipe.project.panel import proposed_folder
from napari_swipe.project.restore import RestoredPair, iter_restore, mark, marked_layers
from napari_swipe.project.snapshot import PairSnapshot, Unsaved, iter_write, unsaved_sentences
from napari_swipe.qt.task import Task
from swipe_core.errors import SwipeError
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from swipe_core.data.annotations import AnnotationScheme
    from swipe_core.project import Project


RunTask = Callable[[Generator[Any, None, Any], str, Callable[[Any], object]], object]
FAREWELL = 300  # milliseconds in which a window can close, after its layers were deleted
POLL = 0.05  # seconds between two looks whether other threads are done


@dataclass(frozen=True, eq=False)
class Opened:
    """A project that was read, with what is to be shown of it.

    Attributes
    ----------
    faults
        Why pairs cannot be shown, by their names.
    """

    project: Project
    pairs: tuple[RestoredPair, ...]
    faults: Mapping[str, str]
    log: Sequence[Mapping[str, Any]] = ()


class ProjectKeeper(QObject):
    """The project of a dock: made with the first image, written as the user paints.

    Parameters
    ----------
    folder
        Where it will be, unless there is something by then.
    """

    changed = Signal()
    """There is another project, or it has begun."""
    said = Signal(str)
    """What went wrong, in a sentence."""
    noted = Signal(str)
    """What the user should know, in a sentence."""
    saved = Signal()
    """There is another list of what could not be saved."""

    def __init__(self, viewer: Viewer, panel: AnnotatePanel, folder: Path) -> None:
        super().__init__(panel)
        self._viewer, self._panel, self._folder = viewer, panel, folder
        self._project: Project | None = None
        self._is_proposed = True  # by us, not chosen by the user
        self._log: Sequence[Mapping[str, Any]] = ()
        self._corrections: dict[str, Corrections] = {}
        self._images: dict[str, tuple[Any, ...]] = {}  # what was written of each pair's image
        self._waiting: list[str] = []
        self._writing: Task | None = None
        self._is_paused = False  # while somebody else writes all of it
        self._unsaved: dict[str, Unsaved] = {}
        self._is_restoring = False
        self._held: AnnotationScheme | None = None  # while a training reads the project
        self._known: dict[str, Pair] = {}  # what the project was told of last
        # Off the list, and in the project still; None where they cannot be read.
        self._leaving: dict[str, PairSnapshot | None] = {}
        self._replaced: set[str] = set()  # of which each frame has become a pair of its own
        self._farewell = QTimer(self)
        self._farewell.setSingleShot(True)
        self._farewell.setInterval(FAREWELL)
        self._farewell.timeout.connect(self._take_out)
        _keepers.add(self)
        panel.changed.connect(self._on_panel)
        panel.painted.connect(self.write)

    @property
    def project(self) -> Project | None:
        """The project, once it has begun."""
        return self._project

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        return self._folder if self._project is None else self._project.folder

    @property
    def is_writing(self) -> bool:
        """Whether something painted is not on the disk yet."""
        return self._writing is not None or bool(self._waiting)

    @property
    def log(self) -> Sequence[Mapping[str, Any]]:
        """The lines of the log of the last round, as it was when the project was opened."""
        return self._log

    @property
    def unsaved(self) -> list[str]:
        """Which layers are not on the disk as they are painted, and why, in sentences."""
        return unsaved_sentences(self._unsaved.values())

    def propose(self, folder: Path) -> None:
        """Begin anew in this folder, at the latest with the first image.

        Where it cannot be used, the present project stays, and the user is told.
        """
        from swipe_core.project import Project

        project = None
        try:
            if self._panel.pairs or self._panel.folders:
                project = Project.create(folder, folder.name)
            else:
                Project.check_place(folder)
        except SwipeError as error:
            self.said.emit(str(error))
            return
        self._turn_from()
        self._project, self._folder, self._is_proposed = project, folder, False
        self._on_panel()
        self.changed.emit()

    def _turn_from(self) -> None:
        """Have all of the present project on the disk, and forget it."""
        self._take_out()
        self._write_last()
        self._waiting.clear()
        self._corrections.clear()
        self._images.clear()
        self._known.clear()
        self._replaced.clear()
        self._unsaved.clear()
        self._panel.model.reserved = frozenset()
        self._log = ()
        self.saved.emit()

    def begun(self) -> Project:
        """The project, made where there is none yet.

        Raises
        ------
        ProjectError
            When the folder cannot be used.
        """
        if self._project is None:
            self._project = self._created()
            self.changed.emit()
        return self._project

    def _created(self) -> Project:
        from swipe_core.project import Project

        if self._is_proposed and self._folder.exists():
            self._folder = proposed_folder(self._folder.parent)  # another window was faster
        return Project.create(self._folder, self._folder.name)

    # What is painted

    def snapshots(self) -> tuple[PairSnapshot, ...]:
        """The pairs as they are now; what is painted is copied.

        Raises
        ------
        ImageError
            When an image cannot be understood, or is no more that which was painted on.
        """
        return tuple(self._snapshot(pair, self._panel.scheme, self._panel.ndim) for pair in self._panel.pairs)

    def _snapshot(self, pair: Pair, scheme: AnnotationScheme, ndim: Literal[2, 3]) -> PairSnapshot:
        source = check_pair(pair.image, pair.labels, ndim)
        painted = painted_of(pair.labels, scheme)
        corrected = self._corrections.setdefault(pair.name, Corrections()).mask(painted)
        is_new = self._images.setdefault(pair.name, _identity(source)) != _identity(source)
        split = self._split(pair)
        keeps = split == "val" and self._held is not None and self._held != scheme
        return PairSnapshot(
            name=pair.name,
            split=split,
            source=source,
            labels_name=pair.labels.name,
            painted=painted,
            scheme=scheme,
            corrected=corrected,
            is_new_image=is_new,
            kept_scheme=self._held if keeps else None,
        )

    def _possible(self, pairs: Iterable[Pair]) -> tuple[list[PairSnapshot], list[Unsaved]]:
        """The pairs as they are now, and those that cannot be understood."""
        found, unsaved = [], []
        for pair in pairs:
            try:
                found.append(self._snapshot(pair, self._panel.scheme, self._panel.ndim))
            except SwipeError as error:
                unsaved.append(Unsaved(pair.name, pair.labels.name, str(error)))
        return found, unsaved

    def _split(self, pair: Pair) -> Split:
        """The use of a pair; files that a training reads stay where they are until its end."""
        known = self._known.get(pair.name)
        return pair.split if self._held is None or known is None else known.split

    def hold(self, is_writing: bool = False) -> None:
        """A training begins, which reads files of the project: none is moved or deleted until `release`.

        What is painted goes on being saved, in the classes of now where the training is judged by it.

        Parameters
        ----------
        is_writing
            Whether the training first writes all that is painted: until `resume`, nobody else does.
        """
        self._take_out()
        self._held, self._is_paused = self._panel.scheme, is_writing
        if is_writing and self._writing is not None:
            self._writing.abandon()
            self._writing = None

    def resume(self) -> None:
        """The training has written all; what was painted meanwhile follows."""
        self._is_paused = False
        self._write_next()

    def release(self) -> None:
        """The training is over: all that has waited for it is done."""
        if self._held is not None:
            self._held, self._is_paused = None, False
            self._take_out()
            self._on_panel()

    def begin_corrections(self, pairs: Sequence[PairSnapshot]) -> None:
        """A model was made from these: whatever is painted beyond them corrects it."""
        for pair in pairs:
            self._corrections.setdefault(pair.name, Corrections()).begin(pair.painted, pair.corrected)

    def take_over(self, name: str, painted: np.ndarray) -> None:
        """A prediction becomes an annotation: what is changed of it is a correction."""
        corrections = self._corrections[name] = Corrections()
        corrections.begin(painted)

    # Writing

    def _on_panel(self) -> None:
        """Pairs, classes or folders are others: the project says so, and has what is painted."""
        if self._is_restoring or not (self._panel.pairs or self._panel.folders or self._project):
            return
        try:
            self._record(self.begun())
        except SwipeError as error:
            self._on_unwritten(self._panel.pairs, str(error))
            return
        for pair in self._panel.pairs:
            self.write(pair)

    def _record(self, project: Project) -> None:
        from swipe_core.project import PairRecord

        panel, record = self._panel, project.record
        known = {pair.name: pair for pair in record.pairs}
        for name in known.keys() & (self._known.keys() - {pair.name for pair in panel.pairs}):
            self._leave(project, name)
        if self._held is not None and record.scheme is not None:
            self._held = self._held.follow_names(record.scheme, panel.scheme)
        # An empty list forgets what was guessed; those that have just left it may yet stay.
        if panel.pairs or panel.model.is_settled or record.scheme is None:
            project.set_scheme(panel.scheme)
        if panel.pairs or record.ndim is None:
            project.set_ndim(panel.ndim)
        project.set_folders([str(folder) for folder in panel.folders])
        for pair in panel.pairs:
            self._leaving.pop(pair.name, None)
            mark(pair.image, pair.labels, project.folder, pair.name)
            path = pair.image.source.path or pair.image.metadata.get("path")
            project.put_pair(
                PairRecord(
                    name=pair.name,
                    split=self._split(pair),
                    source=str(path) if path else pair.image.name,
                    labels=pair.labels.name,
                    axes=list(panel.axes(pair).roles),
                    frames=known[pair.name].frames if pair.name in known else [],
                )
            )
        former = {} if self._held is None else self._known
        self._known = {pair.name: pair for pair in panel.pairs} | former

    def _leave(self, project: Project, name: str) -> None:
        """A pair is off the list. Layers are deleted, too, when a window closes: then it stays."""
        pair, record = self._known[name], project.record
        is_deleted = not {pair.image, pair.labels} <= set(self._viewer.layers)
        if not is_deleted and self._held is None:
            self._forget(project, name)
        elif name not in self._leaving:
            # As it is now, and was meant until now.
            scheme, ndim = record.scheme or self._panel.scheme, record.ndim or self._panel.ndim
            try:
                self._leaving[name] = self._snapshot(pair, scheme, ndim)
            except SwipeError:
                self._leaving[name] = None  # of which the user knows: it was so before
            self._farewell.start()

    def _take_out(self) -> None:
        """Take out of the project what has left the list."""
        if self._held is not None or self._project is None:
            return
        self._farewell.stop()
        leaving, self._leaving = list(self._leaving), {}
        for name in leaving:
            try:
                self._forget(self._project, name)
            except SwipeError as error:
                self.said.emit(str(error))

    def _forget(self, project: Project, name: str) -> None:
        self._corrections.pop(name, None)
        self._images.pop(name, None)
        project.remove_pair(name)
        self._known.pop(name, None)
        self._note([name], [])

    def write(self, pair: Pair) -> None:
        """Write what is painted, after what is being written."""
        if not self._is_restoring:
            if pair.name not in self._waiting:
                self._waiting.append(pair.name)
            self._write_next()

    def _write_next(self) -> None:
        if self._writing is not None or self._is_paused or not self._waiting:
            return
        names, self._waiting = {*self._waiting, *self._unsaved}, []
        pairs = [pair for pair in self._panel.pairs if pair.name in names]
        snapshots, unsaved = self._possible(pairs)
        try:
            work = iter_write(self.begun(), snapshots, self._held is not None)
        except SwipeError as error:
            self._on_unwritten(pairs, str(error))
            return
        self._note([each.name for each in unsaved], unsaved)
        self._writing = Task(work)
        self._writing.finished.connect(lambda unsaved: self._on_written(snapshots, unsaved))
        self._writing.failed.connect(lambda fault: self._on_unwritten(pairs, fault))
        self._writing.start()

    def _on_written(self, pairs: Sequence[PairSnapshot], unsaved: Sequence[Unsaved]) -> None:
        self._writing = None
        failed = {each.name for each in unsaved}
        self._images |= {pair.name: _identity(pair.source) for pair in pairs if pair.name not in failed}
        self._note([pair.name for pair in pairs], unsaved)
        self._drop_replaced()
        self._write_next()

    def _on_unwritten(self, pairs: Sequence[Pair], fault: str) -> None:
        self._writing = None
        if not pairs:
            self.said.emit(fault)
        self._note(
            [pair.name for pair in pairs], [Unsaved(pair.name, pair.labels.name, fault) for pair in pairs]
        )
        self._write_next()

    def _note(self, tried: Iterable[str], unsaved: Sequence[Unsaved]) -> None:
        """Remember which pairs could not be saved, and tell what the user has not been told yet."""
        before = self._unsaved
        kept = {name: each for name, each in before.items() if name not in tried}
        self._unsaved = kept | {each.name: each for each in unsaved}
        news = [each for each in unsaved if before.get(each.name) != each]
        for signal, waits in ((self.said, False), (self.noted, True)):
            for sentence in unsaved_sentences(each for each in news if each.waits == waits):
                signal.emit(sentence)
        if self._unsaved != before:
            self.saved.emit()

    def _drop_replaced(self) -> None:
        """Take stacks out of the project whose frames have become pairs of their own, and are saved."""
        if self._project is not None and self._held is None and not self._waiting and not self._unsaved:
            replaced, self._replaced = self._replaced, set()
            for name in replaced & {pair.name for pair in self._project.record.pairs}:
                self._forget(self._project, name)

    # Opening

    def open(self, folder: Path, run: RunTask) -> None:
        """Read a project in a thread, then show its images with what is painted on them.

        Parameters
        ----------
        run
            Runs a generator with a title, and calls back with its result.
        """
        folder = folder.absolute()
        if any(keeper.project is not None and keeper.folder == folder for keeper in _keepers):
            self.said.emit(
                f"The project {folder.name} is open already: go on where it is, or close it there."
            )
            return
        images, labels = (marked_layers(self._viewer, folder, kind) for kind in ("image", "labels"))
        present = {name: image for name, image in images.items() if name in labels}
        run(_iter_open(folder, present), f"Opening {folder.name}", self._on_opened)

    def _on_opened(self, opened: Opened) -> None:
        self._is_restoring = True
        try:
            self._turn_from()
            for pair in list(self._panel.pairs):
                self._panel.remove_pair(pair)
            self._project, self._folder = opened.project, opened.project.folder
            self._log = opened.log
            record = opened.project.record
            if record.scheme is not None:
                self._panel.set_scheme(record.scheme)
            if record.ndim is not None:
                self._panel.set_ndim(record.ndim)
            self._panel.set_folders([Path(found) for found in record.folders])
            faults = dict(opened.faults)
            for restored in opened.pairs:
                faults |= self._show(restored, is_corrected=bool(record.rounds))
            if record.scheme is not None:
                self._panel.set_scheme(record.scheme)
            self._known = {pair.name: pair for pair in self._panel.pairs}
            shown = {each.record for each in opened.pairs if each.name in self._known}
            self._replaced = shown - self._known.keys()
            kept = {pair.name for pair in record.pairs} - self._replaced - self._known.keys()
            self._panel.model.reserved = frozenset(kept)
        finally:
            self._is_restoring = False
        for name, fault in faults.items():
            self.said.emit(f"{name} stays in the project and cannot be shown: {fault}")
        self.changed.emit()

    def _show(self, restored: RestoredPair, is_corrected: bool) -> dict[str, str]:
        """Show a pair; why it cannot be, by the name that the project has for it."""
        layers = restored.show(self._viewer)
        if layers is None:
            return {}
        try:
            self._panel.add_pair(*layers, restored.split, restored.name)
        except SwipeError as error:  # somebody changed a layer while the dock was closed
            return {restored.record: str(error)}
        if is_corrected:
            corrections = self._corrections[restored.name] = Corrections()
            corrections.begin(np.asarray(layers[1].data), restored.corrected)
        return {}

    def close(self) -> None:
        """The dock is closed: write once more what is painted, in a thread that outlives it."""
        _keepers.discard(self)
        self._farewell.stop()
        self._waiting.clear()
        self._write_last()

    def wait_for(self, task: Task) -> None:
        """Work on the project goes on in a thread after the dock: who opens the project waits for it."""
        _ending[task] = self.folder

    def _write_last(self) -> None:
        """Write all that is painted, in place of what is being written; only faults are told."""
        if self._writing is not None:
            self._writing.abandon()
            self.wait_for(self._writing)
            self._writing = None
        snapshots, unsaved = self._possible(self._panel.pairs)
        snapshots += [snapshot for snapshot in self._leaving.values() if snapshot is not None]
        if not snapshots and not unsaved:
            return
        try:
            work = iter_write(self._project or self._created(), snapshots, self._held is not None)
        except SwipeError as error:
            show_error(str(error))
            return
        task = Task(work)
        task.finished.connect(lambda more: _tell([*unsaved, *more]))
        task.failed.connect(lambda fault: _tell(unsaved, fault))
        task.start()
        self.wait_for(task)


def _tell(unsaved: Sequence[Unsaved], *faults: str) -> None:
    for sentence in (*unsaved_sentences(unsaved), *faults):
        show_error(sentence)


def _identity(source: LayerSource) -> tuple[Any, ...]:
    """What changes when an image is another one, or lies elsewhere."""
    return id(source.array), source.matrix.tobytes(), source.axes, source.units


def _iter_open(folder: Path, present: Mapping[str, Image]) -> Generator[Progress | Notice, None, Opened]:
    from swipe_core.project import Project
    from swipe_core.training.folder import RunFolder

    while any(task.has_thread for task, place in list(_ending.items()) if place == folder):
        yield Progress("Waiting until everything is saved", 0, 1)
        time.sleep(POLL)
    project = Project.open(folder)
    pairs, faults = yield from iter_restore(project, present)
    if project.notice:
        yield Notice(project.notice)
    runs = project.runs()
    return Opened(project, pairs, faults, RunFolder(runs[-1]).records() if runs else ())


_keepers: WeakSet[ProjectKeeper] = WeakSet()
"""Of all docks that are open, in whichever window."""

_ending: WeakKeyDictionary[Task, Path] = WeakKeyDictionary()
"""What docks that were closed left behind in threads."""
