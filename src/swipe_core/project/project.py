"""A project: a folder with what the user painted, as a data set, and with all that came of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from swipe_core.data.annotations import AnnotationScheme
from swipe_core.data.labels import IGNORED
from swipe_core.errors import DataError, ProjectError, SwipeError
from swipe_core.project.case_files import SPLITS, CaseFiles, Frame
from swipe_core.project.project_file import FILE, ProjectFile, read_record, writing
from swipe_core.project.records import (
    FormerLabels,
    PairRecord,
    ProjectRecord,
    Split,
    case_name,
    file_name,
    free_name,
)

# torch comes with these, and a dock that shows a project shall not wait for it.
if TYPE_CHECKING:
    from swipe_core.data.cases import Case
    from swipe_core.data.labelled import LabelledImage
    from swipe_core.images import LabelMap, MedicalImage


class Project(ProjectFile):
    """What is painted, trained and kept in one folder; `create` and `open` make one.

    ``data/`` is an ordinary data set, ``runs/`` holds run folders, ``models/`` what the user kept,
    ``config.yaml`` the configuration of the next round, and ``removed/`` the files of pairs that were taken
    out. The folder can be moved.
    """

    def __init__(self, folder: Path, record: ProjectRecord) -> None:
        super().__init__(folder, record)
        self._files = CaseFiles(self.data, folder / "removed")
        self._adapted: dict[str, None] = {}  # pairs whose labels were brought to the scheme, in order
        self._files_lock = threading.RLock()  # taken before that of the record where both are

    @classmethod
    def create(cls, folder: Path, name: str = "") -> Project:
        """Begin a project in a new or empty folder.

        Raises `ProjectError` when there is something in the folder, or it cannot be made.

        `name`: what the user calls it; by default as the folder.
        """
        folder = folder.absolute()
        _make_unused(folder)
        project = cls(folder, ProjectRecord(name=name.strip() or folder.name))
        project._change()
        return project

    @staticmethod
    def check_place(folder: Path) -> None:
        """See that a project could begin in a folder, which is left as it is; raises as `create`."""
        folder = folder.absolute()
        is_new = not folder.exists()
        _make_unused(folder)
        with writing(folder):
            with TemporaryFile(dir=folder):
                pass
            if is_new:
                folder.rmdir()

    @classmethod
    def open(cls, folder: Path) -> Project:
        """Go on with a project; what a killed program left half done in it is put in order: see `notice`.

        Raises `ProjectError` when there is none, or its ``project.yaml`` is damaged or of a newer version.
        """
        folder = folder.absolute()
        project = cls(folder, read_record(folder / FILE))
        with suppress(OSError, SwipeError):  # one that is read only can be looked at as it is
            project._put_in_order()
        return project

    @property
    def data(self) -> Path:
        """The data set of what is painted, with ``train/`` and ``val/``; there once there is a case."""
        return self.folder / "data"

    @property
    def notice(self) -> str:
        """What opening put in order, in a sentence; empty where nothing was."""
        if not self._adapted:
            return ""
        return (
            f"The labels of {', '.join(self._adapted)} were saved before the classes or the meaning of "
            "unpainted voxels were changed: they follow now."
        )

    def set_scheme(self, scheme: AnnotationScheme) -> None:
        """Remember what the painted numbers mean, and what they meant in label files written before."""
        with self._lock:
            before = self._record.scheme
            if before is None or scheme == before:
                self._change(scheme=scheme)
                return
            former = list(self._record.former) if scheme.reads(before) else self._schemes_of_files(before)
            # The same files, whose classes are called as they are called now.
            renamed = [
                each.model_copy(update={"scheme": each.scheme.follow_names(before, scheme)})
                for each in former
            ]
            self._change(scheme=scheme, former=renamed)

    # Pairs

    def pair(self, name: str) -> PairRecord:
        """Return what is known of a pair.

        Raises `ProjectError` when there is none of this name.
        """
        found = self._record.pair(name)
        if found is None:
            raise ProjectError(f"The project {self.name} has no image called {name}: add it again.")
        return found

    def put_pair(
        self,
        name: str,
        split: Split = "train",
        source: str = "",
        labels: str = "",
        axes: Sequence[str] | None = None,
    ) -> PairRecord:
        """Add an image, or change what is known of the one of this name; see `PairRecord`."""
        fields = {"split": split, "source": source, "labels": labels, "axes": axes and list(axes)}
        with self._lock:
            if self._record.pair(name) is None:
                taken = {old.stem for old in self._record.pairs} | self._files.stems()
                stem = free_name(name, taken)
                pair = PairRecord.model_validate({"name": name, "stem": stem, **fields})
                self._change(pairs=[*self._record.pairs, pair])
                return pair
        return self.update_pair(name, **fields)

    def update_pair(self, name: str, **changes: Any) -> PairRecord:
        """Change fields of a pair. In another split, its files are moved there."""
        with self._lock:
            pair = PairRecord.model_validate({**self.pair(name).model_dump(), **changes})
            self._change(pairs=[pair if old.name == name else old for old in self._record.pairs])
        # They come after what the record says: where a program was killed in between, opening goes on.
        # While another thread writes cases nothing waits: it is the next case of the pair that moves them.
        if self._files_lock.acquire(blocking=False):
            try:
                with writing(self.data):
                    self._files.gather(pair)
            finally:
                self._files_lock.release()
        return pair

    def remove_pair(self, name: str) -> None:
        """Take a pair out; its files are put into ``removed/``, since painting them took somebody hours."""
        with self._files_lock:
            pair = self.pair(name)
            with writing(self._files.removed):
                self._files.remove(pair)
            with self._lock:
                self._change(pairs=[old for old in self._record.pairs if old.name != name])

    # Cases

    def case_name(self, pair: str, frame: Frame = ()) -> str:
        """Return what a frame of a pair is called in the data set: ``"cells"``, or ``"movie_0007"``."""
        known = self._record.pair(pair)
        return case_name(known.stem if known else file_name(pair), frame)

    def written_frames(self, pair: str) -> list[Frame]:
        """Return the frames of a pair that are in the data set."""
        return [tuple(frame) for frame in self.pair(pair).frames]

    def has_image(self, pair: str, frame: Frame = ()) -> bool:
        """Return whether the image of a frame was written."""
        return self._files.file(self.pair(pair), frame, "images") is not None

    def write_case(
        self,
        pair: str,
        frame: Frame,
        split: Split,
        image: MedicalImage | None,
        labels: LabelMap,
        corrected: Bool[np.ndarray, "*shape"] | None = None,
        scheme: AnnotationScheme | None = None,
    ) -> None:
        """Write a frame of a pair into the data set.

        Raises `ProjectError` when the folder of the project or the pair is not there, the image was never
        written, or images of another number of axes are in the data set already; when the folder cannot be
        written; `ImageError` when a file cannot hold the image, or the disk refuses: older files stay whole.

        `pair` and `frame`: of a pair that was added; the frame is ``()`` where it has no such axes.
        `split`: another one than the pair's moves all its files.
        `image`: None where it was written and is the same still. Truth values are written as 0 and 1, and
        numbers that TIFF does not know in the nearest type that it does.
        `labels`: classes and `swipe_core.data.labels.IGNORED`, on the lattice of the image.
        `corrected`: which labels the user corrected, of the same shape; None or nowhere true where none was.
        `scheme`: what the classes of `labels` mean, where the project may have come to another scheme
        meanwhile.
        """
        if not self.folder.is_dir():
            raise ProjectError(
                f"The folder {self.folder} is gone: bring it back, or begin another project with New in…."
            )
        with self._files_lock:
            known = self.update_pair(pair, split=split)
            self._check_ndim(known, labels.ndim)
            with writing(self.data):
                self._files.write(known, frame, image, labels, corrected)
            self._note_frames(pair, sorted({*map(tuple, known.frames), frame}), ndim=labels.ndim)
            with self._lock:
                now = self._record.scheme
                if scheme is not None and now is not None and not _is_written_so(scheme, now):
                    path = self._files.place(known, frame, "labels", labels.ndim)
                    entry = FormerLabels(scheme=scheme, digests={path.name: _digest(path)})
                    self._change(former=[*self._record.former, entry])

    def remove_case(self, pair: str, frame: Frame = ()) -> None:
        """Delete a frame of a pair from the data set, as one in which nothing is painted any more."""
        with self._files_lock:
            known = self.pair(pair)
            with writing(self.data):
                self._files.delete(known, frame)
            self._note_frames(pair, [tuple(old) for old in known.frames if tuple(old) != frame])

    def read_case(self, pair: str, frame: Frame = ()) -> LabelledImage:
        """Return a frame of a pair as it was written.

        Raises `ProjectError` when it was not, and `ImageError` or `DataError` when its files are damaged, do
        not fit together, or hold classes that the scheme lacks.
        """
        from swipe_core.data.cases import Case
        from swipe_core.data.labelled import read_labelled
        from swipe_core.images import read_label_map

        known, scheme = self.pair(pair), self._record.scheme
        image, labels = (self._files.file(known, frame, kind) for kind in ("images", "labels"))
        if image is None or labels is None or scheme is None:
            raise ProjectError(f"{self.folder} holds no {self.case_name(pair, frame)}: write it first.")
        corrections = self._files.file(known, frame, "corrections")
        case = Case(self.case_name(pair, frame), image, labels, corrections)
        written = self._written(labels)
        found = read_labelled(case, self._files.ndim_of(labels), (written or scheme).label_config())
        if written is not None:
            classes = scheme.translated(found.labels.array, written)
            return replace(found, labels=replace(found.labels, array=classes))
        # Elsewhere 255 may be white, or the number of an object; here it is never painted.
        is_read = found.white is not None or (scheme.instances and scheme.unpainted == "background")
        if is_read and (read_label_map(labels).array == IGNORED).any():
            raise DataError(f"{labels} holds voxels that are not annotated: open the project in the dock.")
        return found

    def adapt_labels(self, pair: str, frame: Frame = (), written: AnnotationScheme | None = None) -> None:
        """Bring the label file of a frame to the scheme, which gets the classes in it that it lacks.

        Raises `ProjectError` or `ImageError` when a file cannot be read or written, and `DataError` when
        there are more classes in it than a scheme can have.

        `written`: the scheme that the file was written in; by default the present one, perhaps of more
        classes.
        """
        from swipe_core.images import read_label_map, write_label_map

        with self._files_lock:
            path, scheme = self._files.file(self.pair(pair), frame, "labels"), self._record.scheme
            if path is None or scheme is None:
                return
            labels = read_label_map(path, ndim=self._files.ndim_of(path))
            written = written or scheme
            if not scheme.instances:
                present = [int(label) for label in np.unique(labels.array) if label not in (0, IGNORED)]
                written = written.reaching(max(present, default=0) + (written.unpainted == "ignored"))
                scheme = scheme.with_names(written.class_names[label - 1] for label in present)
            classes = scheme.translated(labels.array, written)
            if scheme != self._record.scheme or (classes != labels.array).any():
                # The names first: no file holds a class that has none.
                self._change(scheme=scheme)
                write_label_map(path, replace(labels, array=classes))
                self._adapted[pair] = None

    def data_sets(self) -> list[Path]:
        """Return the own data set, once there is a case, and the folders that were named."""
        has_own = any((self.data / split).is_dir() for split in SPLITS)
        return [*([self.data] if has_own else []), *map(Path, self._record.folders)]

    def cases(self, split: Split, seed: int = 0) -> list[Case]:
        """Return the cases of a split, of all data sets; none where no data set has the split.

        Raises `DataError` when a folder is gone, files lack their partners, or two data sets share the name
        of a case.

        `seed`: of the division of a folder without ``train/`` and ``val/``.
        """
        from swipe_core.data.cases import find_cases, has_split

        data_sets = self.data_sets()
        is_whole = all(folder.is_dir() for folder in data_sets)
        if not data_sets or (is_whole and not has_split(data_sets, split, seed)):
            return []
        return find_cases(data_sets, split, seed)

    # Inside

    def _check_ndim(self, pair: PairRecord, ndim: int) -> None:
        others = {old.name for old in self._record.pairs if old.frames}
        if others - {pair.name} and self._record.ndim not in (None, ndim):
            raise ProjectError(
                f"The images of a project are all 2D or all 3D: those of {self.name} are "
                f"{self._record.ndim}D, and {pair.name} would be {ndim}D; begin another project for it."
            )

    def _schemes_of_files(self, scheme: AnnotationScheme) -> list[FormerLabels]:
        """Return what the numbers in all label files mean: that of `scheme` where nothing else is noted."""
        found: dict[AnnotationScheme, dict[str, str]] = {}
        with writing(self.data):
            for path in self._files.label_files():
                found.setdefault(self._written(path) or scheme, {})[path.name] = _digest(path)
        return [FormerLabels(scheme=each, digests=digests) for each, digests in found.items()]

    def _written(self, path: Path) -> AnnotationScheme | None:
        """Return the scheme that a label file was written in, where it is noted to be another one."""
        noted = [former for former in self._record.former if path.name in former.digests]
        digest = _digest(path) if noted else ""
        return next((each.scheme for each in reversed(noted) if each.digests[path.name] == digest), None)

    def _note_frames(self, name: str, frames: Sequence[Frame], **fields: int) -> None:
        with self._lock:
            noted = self.pair(name).model_copy(update={"frames": [list(frame) for frame in frames]})
            pairs = [noted if old.name == name else old for old in self._record.pairs]
            self._change(pairs=pairs, **fields)

    def _put_in_order(self) -> None:
        """Finish what a killed program began, and note what is there."""
        from swipe_core.training.lock import RunLock

        with self._files_lock:
            self._files.remove_drafts()
            for pair in self._record.pairs:
                self._files.gather(pair)
                frames = self._files.frames(pair)
                if frames != self.written_frames(pair.name):
                    self._note_frames(pair.name, frames)
            # The user may have chosen another number of axes just now.
            found = {self._files.ndim_of(path) for path in self._files.label_files()}
            if found and self._record.ndim not in found:
                self._change(ndim=min(found))
            self._adapt_former()
        for record in self._record.rounds:
            lock = RunLock(self.folder / record.folder / "run.lock")
            if record.state == "running" and not lock.is_held:
                self.update_round(record.folder, state="stopped")

    def _adapt_former(self) -> None:
        """Bring label files to the scheme that were written in another one."""
        if self._record.former:
            for pair in self._record.pairs:
                for frame in self.written_frames(pair.name):
                    path = self._files.file(pair, frame, "labels")
                    written = None if path is None else self._written(path)
                    if written is not None:
                        self.adapt_labels(pair.name, frame, written)
            self._change(former=[])


def _make_unused(folder: Path) -> None:
    """See that a folder is there, and nothing in it."""
    if (folder / FILE).exists():
        raise ProjectError(f"{folder} already holds a project: open it, or choose another folder.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        is_used = any(not path.name.startswith(".") for path in folder.iterdir())
    if is_used:
        raise ProjectError(f"{folder} holds files that are no project: choose a new or an empty folder.")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_written_so(scheme: AnnotationScheme, now: AnnotationScheme) -> bool:
    """Return whether labels in a scheme are those in another one, too."""
    names = scheme.class_names
    return now.reads(scheme) and now.class_names[: len(names)] == names
