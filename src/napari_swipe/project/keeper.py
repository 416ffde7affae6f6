"""Keeps a project up to date with what is annotated, and opens one again."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject, QSignalBlocker, Signal

from napari_swipe.annotate.pair import likely_axes
from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.project.panel import proposed_folder
from napari_swipe.project.restore import Opened, RestoredPair, iter_open, mark, marked_layers
from napari_swipe.project.snapshot import PairSnapshot
from napari_swipe.project.writer import PairState, PairWriter
from napari_swipe.qt.layouts import rest_timer
from napari_swipe.qt.task import Task
from swipe_core.errors import SwipeError
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from swipe_core.project import Project

RunTask = Callable[[Generator[Any, None, Any], str, Callable[[Any], object]], object]
FAREWELL = 300  # milliseconds in which a window can close, after its layers were deleted
POLL = 0.05  # seconds between two looks whether other threads are done


class ProjectKeeper(QObject):
    """The project of a dock: made with the first image, and up to date with the pairs, classes and folders.

    `folder`: where it will be, unless there is something by then.
    """

    changed = Signal()
    """There is another project, or it has begun."""
    failed = Signal(str)
    """Something went wrong; a sentence says what."""

    def __init__(
        self, viewer: Viewer, annotated: AnnotatedPairs, folder: Path, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.project: Project | None = None
        """None until it has begun."""
        self.log: Sequence[Mapping[str, Any]] = ()
        """The lines of the log of the last round, as it was when the project was opened."""
        self.writer = PairWriter(annotated, self.begun, self)
        """Writes what is painted."""
        self._viewer, self._annotated, self._folder = viewer, annotated, folder
        self._is_proposed = True  # by us, not chosen by the user
        self._is_restoring = False
        # Off the list, and in the project still; None where they cannot be read.
        self._leaving: dict[str, PairSnapshot | None] = {}
        self._replaced: set[str] = set()  # of which each frame has become a pair of its own
        self._farewell = rest_timer(self, FAREWELL, self._take_out)
        self.writer.failed.connect(self.failed)
        self.writer.written.connect(self._drop_replaced)
        annotated.changed.connect(self._on_changed)
        annotated.painted.connect(self.writer.write)

    @property
    def folder(self) -> Path:
        """Where the project is, or will be."""
        return self._folder if self.project is None else self.project.folder

    def propose(self, folder: Path) -> None:
        """Begin anew in this folder, at the latest with the first image.

        Where it cannot be used, the present project stays, and `failed` says why.
        """
        from swipe_core.project import Project

        project = None
        try:
            if self._annotated.pairs or self._annotated.folders:
                project = Project.create(folder, folder.name)
            else:
                Project.check_place(folder)
        except SwipeError as error:
            self.failed.emit(str(error))
            return
        self._leave_project()
        self._folder, self._is_proposed = folder, False
        self._take(project)
        self._on_changed()
        self.changed.emit()

    def begun(self) -> Project:
        """Return the project, made where there is none yet.

        A `ProjectError` is raised when the folder cannot be used.
        """
        from swipe_core.project import Project

        if self.project is None:
            if self._is_proposed and self._folder.exists():
                self._folder = proposed_folder(self._folder.parent)  # another window was faster
            self._take(Project.create(self._folder, self._folder.name))
            self.changed.emit()
        assert self.project is not None
        return self.project

    def _take(self, project: Project | None) -> None:
        self.project = project
        _folders_in_use.pop(self, None)
        if project is not None:
            _folders_in_use[self] = project.folder

    def _leave_project(self) -> None:
        """Have all of the present project on the disk, and forget it."""
        self._take_out()
        self._write_last()
        self.writer.clear()
        self._replaced.clear()
        self._annotated.reserved = frozenset()
        self.log = ()

    # Up to date

    def hold(self, is_writing: bool = False) -> None:
        """A training begins, which reads files of the project: none is moved or deleted until `release`.

        What is painted goes on being saved, in the classes of now where the training is judged by it.

        `is_writing`: whether the training first writes all that is painted: until it has, nobody else does.
        """
        self._take_out()
        self.writer.hold(is_paused=is_writing)

    def release(self) -> None:
        """The training is over: all that has waited for it is done."""
        if self.writer.held is not None:
            self.writer.held, self.writer.is_paused = None, False
            self._take_out()
            self._on_changed()

    def _on_changed(self) -> None:
        """Pairs, classes or folders are others: the project says so, and has what is painted."""
        annotated = self._annotated
        if self._is_restoring or not (annotated.pairs or annotated.folders or self.project):
            return
        try:
            self._record(self.begun())
        except SwipeError as error:
            self.writer.fail(annotated.pairs, str(error))
            return
        self.writer.write(*annotated.pairs)

    def _record(self, project: Project) -> None:
        annotated, writer, record = self._annotated, self.writer, project.record
        here = {pair.name for pair in annotated.pairs}
        for name in {pair.name for pair in record.pairs} & (writer.states.keys() - here):
            self._leave(project, name)
        if writer.held is not None and record.scheme is not None:
            writer.held = writer.held.follow_names(record.scheme, annotated.scheme)
        # An empty list forgets what was guessed; those that have just left it may yet stay.
        if annotated.pairs or annotated.is_settled or record.scheme is None:
            project.set_scheme(annotated.scheme)
        if annotated.pairs or record.ndim is None:
            project.set_ndim(annotated.ndim)
        project.set_folders(annotated.folders)
        for pair in annotated.pairs:
            self._leaving.pop(pair.name, None)
            mark(pair.image, pair.labels, project.folder, pair.name)
            state = writer.states.setdefault(pair.name, PairState(pair))
            state.pair = pair if writer.held is None else replace(pair, split=state.pair.split)
            project.put_pair(
                pair.name,
                state.pair.split,
                source=str(pair.image.source.path or pair.image.metadata.get("path") or pair.image.name),
                labels=pair.labels.name,
                axes=likely_axes(pair.image, annotated.ndim).roles,
            )

    def _leave(self, project: Project, name: str) -> None:
        """A pair is off the list. Layers are deleted, too, when a window closes: then it stays."""
        pair, record = self.writer.states[name].pair, project.record
        is_deleted = not {pair.image, pair.labels} <= set(self._viewer.layers)
        if not is_deleted and self.writer.held is None:
            self._forget(project, name)
        elif name not in self._leaving:
            # As it is now, and was meant until now.
            scheme, ndim = record.scheme or self._annotated.scheme, record.ndim or self._annotated.ndim
            try:
                self._leaving[name] = self.writer.snapshot(pair, scheme, ndim)
            except SwipeError:
                self._leaving[name] = None  # of which the user knows: it was so before
            self._farewell.start()

    def _take_out(self) -> None:
        """Take out of the project what has left the list."""
        if self.writer.held is not None or self.project is None:
            return
        self._farewell.stop()
        leaving, self._leaving = list(self._leaving), {}
        for name in leaving:
            try:
                self._forget(self.project, name)
            except SwipeError as error:
                self.failed.emit(str(error))

    def _forget(self, project: Project, name: str) -> None:
        project.remove_pair(name)
        self.writer.forget(name)

    def _drop_replaced(self) -> None:
        """Take stacks out of the project whose frames have become pairs of their own, and are saved."""
        writer = self.writer
        if self.project is None or writer.held is not None or writer.is_writing or writer.unsaved:
            return
        replaced, self._replaced = self._replaced, set()
        for name in replaced & {pair.name for pair in self.project.record.pairs}:
            self._forget(self.project, name)

    # Opening

    def open(self, folder: Path, run: RunTask) -> None:
        """Read a project in a thread, then show its images with what is painted on them.

        `run`: runs a generator with a title, and calls back with its result.
        """
        folder = folder.absolute()
        users = [user for user, place in list(_folders_in_use.items()) if place == folder]
        if any(isinstance(user, ProjectKeeper) for user in users):
            self.failed.emit(
                f"The project {folder.name} is open already: go on where it is, or close it there."
            )
            return
        images, labels = (marked_layers(self._viewer, folder, kind) for kind in ("image", "labels"))
        present = {name: image for name, image in images.items() if name in labels}
        run(_iter_open_when_saved(folder, present), f"Opening {folder.name}", self._on_opened)

    def _on_opened(self, opened: Opened) -> None:
        record, annotated = opened.project.record, self._annotated
        self._is_restoring = True
        try:
            self._leave_project()
            for pair in annotated.pairs:
                annotated.remove(pair.name)
            self._take(opened.project)
            self._folder, self.log = opened.project.folder, opened.log
            if record.scheme is not None:
                annotated.set_scheme(record.scheme)
            if record.ndim is not None:
                annotated.set_ndim(record.ndim)
            annotated.set_folders([Path(found) for found in record.folders])
            faults = dict(opened.faults)
            for restored in opened.pairs:
                faults |= self._show(restored, is_corrected=bool(record.rounds))
            if record.scheme is not None:
                annotated.set_scheme(record.scheme)
            here = {pair.name for pair in annotated.pairs}
            self._replaced = {each.record for each in opened.pairs if each.name in here} - here
            annotated.reserved = frozenset({pair.name for pair in record.pairs} - self._replaced - here)
        finally:
            self._is_restoring = False
        if self._replaced:
            self._on_changed()
        for name, fault in faults.items():
            self.failed.emit(f"{name} stays in the project and cannot be shown: {fault}")
        self.changed.emit()

    def _show(self, restored: RestoredPair, is_corrected: bool) -> dict[str, str]:
        """Show a pair; returns why it cannot be shown, by the name that the project has for it."""
        layers = restored.show(self._viewer)
        if layers is None:
            return {}
        try:
            pair = self._annotated.add(*layers, restored.split, restored.name)
        except SwipeError as error:  # somebody changed a layer while the dock was closed
            return {restored.record: str(error)}
        state = self.writer.states[pair.name] = PairState(pair)
        if is_corrected:
            state.corrections.begin(np.asarray(pair.labels.data), restored.corrected)
        return {}

    # The end

    def close(self) -> None:
        """The dock is closed: write once more what is painted, in a thread that outlives it."""
        self._farewell.stop()
        with QSignalBlocker(self):
            self._write_last()
        _folders_in_use.pop(self, None)

    def wait_for(self, task: Task) -> None:
        """Work on the project goes on in a thread after the dock: who opens the project waits for it."""
        _folders_in_use[task] = self.folder

    def _write_last(self) -> None:
        leaving = [snapshot for snapshot in self._leaving.values() if snapshot is not None]
        for task in self.writer.finish(leaving):
            self.wait_for(task)


def _iter_open_when_saved(
    folder: Path, present: Mapping[str, Image]
) -> Generator[Progress | Notice, None, Opened]:
    """Read a project, after the threads that write in it still."""
    while any(
        isinstance(user, Task) and user.has_thread and place == folder
        for user, place in list(_folders_in_use.items())
    ):
        yield Progress("Waiting until everything is saved", 0, 1)
        time.sleep(POLL)
    return (yield from iter_open(folder, present))


_folders_in_use: WeakKeyDictionary[ProjectKeeper | Task, Path] = WeakKeyDictionary()
"""Of all docks that are open, in whichever window, and of threads that closed docks left behind."""
