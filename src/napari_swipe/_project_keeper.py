"""Keeps a project up to date with what is painted, and opens one again."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, QTimer, Signal

from napari_swipe._annotate_panel import AnnotatePanel, Pair
from napari_swipe._annotation_layers import Split, painted_of
from napari_swipe._cases import PairSnapshot, iter_write
from napari_swipe._corrections import Corrections
from napari_swipe._project_layers import RestoredPair, iter_restore, mark, marked_layers
from napari_swipe._project_panel import proposed_folder
from napari_swipe._source import LayerSource
from napari_swipe._task import Task
from napari_swipe._training import records_of
from swipe_core.errors import SwipeError
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from swipe_core.annotations import AnnotationScheme
    from swipe_core.project import Project


RunTask = Callable[[Generator[Any, None, Any], str, Callable[[Any], object]], object]
FAREWELL = 300  # milliseconds in which a window can close, after its layers were deleted
POLL = 0.05  # seconds between two looks whether other threads are done


@dataclass(frozen=True, eq=False)
class Opened:
    """A project that was read, with what is to be shown of it."""

    project: Project
    pairs: tuple[RestoredPair, ...]
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
    """What the user should know, in a sentence."""

    def __init__(self, viewer: Viewer, panel: AnnotatePanel, folder: Path) -> None:
        super().__init__(panel)
        self._viewer, self._panel, self._folder = viewer, panel, folder
        self._project: Project | None = None
        self._is_own_choice = False
        self._log: Sequence[Mapping[str, Any]] = ()
        self._corrections: dict[str, Corrections] = {}
        self._images: dict[str, tuple[Any, ...]] = {}  # what was written of each pair's image
        self._waiting: list[str] = []
        self._writing: Task | None = None
        self._is_restoring = False
        self._held: AnnotationScheme | None = None  # while a training reads the project
        self._known: dict[str, Pair] = {}  # what the project was told of last
        self._leaving: dict[str, Pair] = {}  # off the list, and in the project still
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

    def propose(self, folder: Path) -> None:
        """Begin anew: the next project is to be in this folder."""
        self._turn_from()
        self._project, self._folder, self._is_own_choice = None, folder, True
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
        self._log = ()

    def begun(self) -> Project:
        """The project, made where there is none yet.

        Raises
        ------
        ProjectError
            When the folder cannot be used.
        """
        from swipe_core.project import Project

        if self._project is None:
            if not self._is_own_choice and self._folder.exists():
                self._folder = proposed_folder(self._folder.parent)  # another window was faster
            self._project = Project.create(self._folder, self._folder.name)
            self.changed.emit()
        return self._project

    # What is painted

    def snapshots(self, pairs: Sequence[Pair] | None = None) -> tuple[PairSnapshot, ...]:
        """The pairs as they are now; what is painted is copied.

        Raises
        ------
        ImageError
            When the axes of an image cannot be understood.
        """
        return tuple(self._snapshot(pair) for pair in (self._panel.pairs if pairs is None else pairs))

    def _snapshot(self, pair: Pair) -> PairSnapshot:
        source = LayerSource.from_layer(pair.image, self._panel.axes(pair))
        painted = painted_of(pair.labels, self._panel.scheme)
        corrected = self._corrections.setdefault(pair.name, Corrections()).mask(painted)
        is_new = self._images.setdefault(pair.name, _identity(source)) != _identity(source)
        return PairSnapshot(
            pair.name, self._split(pair), source, pair.labels.name, painted, corrected, is_new
        )

    def _split(self, pair: Pair) -> Split:
        """The use of a pair; files that a training reads stay where they are until its end."""
        known = self._known.get(pair.name)
        return pair.split if self._held is None or known is None else known.split

    def hold(self) -> None:
        """A training begins, which reads files of the project: none is moved or deleted until `release`.

        What is painted goes on being saved, but not in other classes where the training is judged by it.
        """
        self._take_out()
        self._held = self._panel.scheme

    def release(self) -> None:
        """The training is over: all that has waited for it is done."""
        if self._held is not None:
            self._held = None
            self._take_out()
            self._on_panel()

    def _must_wait(self, pair: Pair) -> bool:
        """Whether a training would stumble over what is painted now."""
        return self._held not in (None, self._panel.scheme) and self._split(pair) == "val"

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
            project = self.begun()
            self._record(project)
        except SwipeError as error:
            self.said.emit(str(error))
            return
        for pair in self._panel.pairs:
            self.write(pair)

    def _record(self, project: Project) -> None:
        from swipe_core.project import PairRecord

        panel = self._panel
        project.set_scheme(panel.scheme)
        project.set_ndim(panel.ndim)
        project.set_folders([str(folder) for folder in panel.folders])
        known = {record.name: record for record in project.record.pairs}
        for name in known.keys() - {pair.name for pair in panel.pairs}:
            self._leave(project, name)
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
        before = {} if self._held is None else self._known
        self._known = {pair.name: pair for pair in panel.pairs} | before

    def _leave(self, project: Project, name: str) -> None:
        """A pair is off the list. Layers are deleted, too, when a window closes: then it stays."""
        pair = self._known.get(name)
        is_deleted = pair is not None and not {pair.image, pair.labels} <= set(self._viewer.layers)
        if pair is not None and (is_deleted or self._held is not None):
            self._leaving[name] = pair
            self._farewell.start()
        else:
            self._forget(project, name)

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

    def write(self, pair: Pair) -> None:
        """Write what is painted, after what is being written."""
        if not self._is_restoring:
            if pair.name not in self._waiting:
                self._waiting.append(pair.name)
            self._write_next()

    def _write_next(self) -> None:
        if self._writing is not None or not self._waiting:
            return
        names, self._waiting = self._waiting, []
        pairs = [pair for pair in self._panel.pairs if pair.name in names and not self._must_wait(pair)]
        try:
            snapshots = self.snapshots(pairs)
            work = iter_write(self.begun(), self._panel.scheme, snapshots, self._held is not None)
        except SwipeError as error:
            self.said.emit(str(error))
            return
        self._writing = Task(work)
        self._writing.finished.connect(lambda _: self._on_written(snapshots))
        self._writing.failed.connect(self._on_unwritten)
        self._writing.start()

    def _on_written(self, pairs: Sequence[PairSnapshot]) -> None:
        self._writing = None
        self._images |= {pair.name: _identity(pair.source) for pair in pairs}
        self._write_next()

    def _on_unwritten(self, fault: str) -> None:
        self._writing = None
        self.said.emit(fault)
        self._write_next()

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
            for restored in opened.pairs:
                self._show(restored, is_corrected=bool(record.rounds))
            if record.scheme is not None:
                self._panel.set_scheme(record.scheme)
            self._known = {pair.name: pair for pair in self._panel.pairs}
        finally:
            self._is_restoring = False
        self.changed.emit()

    def _show(self, restored: RestoredPair, is_corrected: bool) -> None:
        layers = restored.show(self._viewer)
        if layers is None:
            return
        try:
            self._panel.add_pair(*layers, restored.split, restored.name)
        except SwipeError as error:  # somebody changed a layer while the dock was closed
            self.said.emit(str(error))
            return
        if is_corrected:
            corrections = self._corrections[restored.name] = Corrections()
            corrections.begin(np.asarray(layers[1].data), restored.corrected)

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
        """Write all that is painted, in place of what is being written, and tell nobody of it."""
        if self._writing is not None:
            self._writing.abandon()
            self.wait_for(self._writing)
            self._writing = None
        pairs = [*self._panel.pairs, *self._leaving.values()]
        if self._project is None or not pairs:
            return
        try:
            work = iter_write(
                self._project, self._panel.scheme, self.snapshots(pairs), self._held is not None
            )
        except SwipeError as error:
            show_error(str(error))
            return
        task = Task(work)
        task.failed.connect(show_error)
        task.start()
        self.wait_for(task)


def _identity(source: LayerSource) -> tuple[Any, ...]:
    """What changes when an image is another one, or lies elsewhere."""
    return id(source.array), source.matrix.tobytes(), source.axes, source.units


def _iter_open(folder: Path, present: Mapping[str, Image]) -> Generator[Progress, None, Opened]:
    from swipe_core.project import Project

    while any(task.has_thread for task, place in list(_ending.items()) if place == folder):
        yield Progress("Waiting until everything is saved", 0, 1)
        time.sleep(POLL)
    project = Project.open(folder)
    pairs = yield from iter_restore(project, present)
    runs = project.runs()
    return Opened(project, pairs, records_of(runs[-1]) if runs else ())


_keepers: WeakSet[ProjectKeeper] = WeakSet()
"""Of all docks that are open, in whichever window."""

_ending: WeakKeyDictionary[Task, Path] = WeakKeyDictionary()
"""What docks that were closed left behind in threads."""
