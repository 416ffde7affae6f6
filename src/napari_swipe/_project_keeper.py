"""Keeps a project up to date with what is painted, and opens one again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_swipe._annotate_panel import AnnotatePanel, Pair
from napari_swipe._cases import PairSnapshot, iter_write
from napari_swipe._corrections import Corrections
from napari_swipe._project_layers import RestoredPair, iter_restore
from napari_swipe._source import LayerSource
from napari_swipe._task import Task
from swipe_core.errors import SwipeError

if TYPE_CHECKING:
    from napari import Viewer

    from swipe_core.progress import Progress
    from swipe_core.project import Project


RunTask = Callable[[Generator[Any, None, Any], str, Callable[[Any], object]], object]


@dataclass(frozen=True, eq=False)
class Opened:
    """A project that was read, with what is to be shown of it."""

    project: Project
    pairs: tuple[RestoredPair, ...]


class ProjectKeeper(QObject):
    """The project of a dock: made with the first image, written as the user paints.

    Parameters
    ----------
    folder
        Where it will be.
    """

    changed = Signal()
    """There is another project, or it has begun."""
    said = Signal(str)
    """What the user should know, in a sentence."""

    def __init__(self, viewer: Viewer, panel: AnnotatePanel, folder: Path) -> None:
        super().__init__(panel)
        self._viewer, self._panel, self._folder = viewer, panel, folder
        self._project: Project | None = None
        self._corrections: dict[str, Corrections] = {}
        self._images: dict[str, tuple[Any, ...]] = {}  # what was written of each pair's image
        self._waiting: list[str] = []
        self._writing: Task | None = None
        self._is_restoring = False
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

    def propose(self, folder: Path) -> None:
        """Begin anew: the next project is to be in this folder."""
        self._project, self._folder = None, folder
        self._corrections.clear()
        self._images.clear()
        self._on_panel()
        self.changed.emit()

    def begun(self) -> Project:
        """The project, made where there is none yet.

        Raises
        ------
        ProjectError
            When the folder cannot be used.
        """
        from swipe_core.project import Project

        if self._project is None:
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
        painted = np.asarray(pair.labels.data).copy()
        corrected = self._corrections.setdefault(pair.name, Corrections()).mask(painted)
        is_new = self._images.setdefault(pair.name, _identity(source)) != _identity(source)
        return PairSnapshot(pair.name, pair.split, source, pair.labels.name, painted, corrected, is_new)

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
            project.remove_pair(name)
        for pair in panel.pairs:
            path = pair.image.source.path or pair.image.metadata.get("path")
            project.put_pair(
                PairRecord(
                    name=pair.name,
                    split=pair.split,
                    source=str(path) if path else pair.image.name,
                    labels=pair.labels.name,
                    axes=list(panel.axes(pair).roles),
                    frames=known[pair.name].frames if pair.name in known else [],
                )
            )

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
        pairs = [pair for pair in self._panel.pairs if pair.name in names]
        try:
            snapshots = self.snapshots(pairs)
            work = iter_write(self.begun(), self._panel.scheme, snapshots)
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
        run(_iter_open(folder), f"Opening {folder.name}", self._on_opened)

    def _on_opened(self, opened: Opened) -> None:
        self._is_restoring = True
        try:
            for pair in list(self._panel.pairs):
                self._panel.remove_pair(pair)
            self._project, self._folder = opened.project, opened.project.folder
            self._corrections.clear()
            self._images.clear()
            record = opened.project.record
            if record.scheme is not None:
                self._panel.set_scheme(record.scheme)
            if record.ndim is not None:
                self._panel.set_ndim(record.ndim)
            self._panel.set_folders([Path(found) for found in record.folders])
            for restored in opened.pairs:
                image, labels = restored.show(self._viewer)
                self._panel.add_pair(image, labels, restored.split, restored.name)
                if record.rounds:
                    painted = np.asarray(labels.data)
                    corrections = self._corrections[restored.name] = Corrections()
                    corrections.begin(painted, restored.corrected)
            if record.scheme is not None:
                self._panel.set_scheme(record.scheme)
        finally:
            self._is_restoring = False
        self.changed.emit()

    def close(self) -> None:
        """The dock is closed: write once more what is painted, in a thread that outlives it."""
        self._waiting.clear()
        if self._writing is not None:
            self._writing.finished.disconnect()
            self._writing.failed.disconnect()
        if self._project is not None and self._panel.pairs:
            Task(iter_write(self._project, self._panel.scheme, self.snapshots())).start()


def _identity(source: LayerSource) -> tuple[Any, ...]:
    """What changes when an image is another one, or lies elsewhere."""
    return id(source.array), source.matrix.tobytes(), source.axes, source.units


def _iter_open(folder: Path) -> Generator[Progress, None, Opened]:
    from swipe_core.project import Project

    project = Project.open(folder)
    pairs = yield from iter_restore(project)
    return Opened(project, pairs)
