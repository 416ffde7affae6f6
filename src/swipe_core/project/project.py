"""A project: a folder with what the user painted, as a data set, and with all that came of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from swipe_core.data.annotations import AnnotationScheme
from swipe_core.data.labels import IGNORED
from swipe_core.errors import DataError, ProjectError, SwipeError
from swipe_core.files.atomic import atomic_write
from swipe_core.project.case_files import write_case_files
from swipe_core.project.names import case_name, file_name, free_name
from swipe_core.project.records import (
    FormerLabels,
    PairRecord,
    ProjectRecord,
    RoundRecord,
    Split,
    read_record,
    write_record,
)
from swipe_core.project.store import SPLITS, CaseStore, Frame

# torch comes with these, and a dock that shows a project shall not wait for it.
if TYPE_CHECKING:
    from swipe_core.data.cases import Case
    from swipe_core.data.labelled import LabelledImage
    from swipe_core.images import LabelMap, MedicalImage

FILE = "project.yaml"
RUN_DIGITS = 2


class Project:
    """What is painted, trained and kept in one folder; `create` and `open` make one.

    ``data/`` is an ordinary data set, ``runs/`` holds run folders, ``models/`` what the user kept,
    ``config.yaml`` the configuration of the next round, and ``removed/`` the files of pairs that were taken
    out. ``project.yaml`` is the `record`, written anew with each change. The folder can be moved. All
    methods may be called from several threads.
    """

    def __init__(self, folder: Path, record: ProjectRecord) -> None:
        self.folder = folder
        self._record = record
        self._store = CaseStore(self.data, folder / "removed")
        self._adapted: dict[str, None] = {}  # pairs whose labels were brought to the scheme, in order
        self._record_lock = threading.RLock()
        self._files_lock = threading.RLock()  # taken before the other one where both are

    @classmethod
    def create(cls, folder: Path, name: str = "") -> Project:
        """Begin a project in a new or empty folder.

        Parameters
        ----------
        name
            What the user calls it; by default as the folder.

        Raises
        ------
        ProjectError
            When there is something in the folder, or it cannot be made.
        """
        folder = folder.absolute()
        _make_unused(folder)
        project = cls(folder, ProjectRecord(name=name.strip() or folder.name))
        project._write(project._record)
        return project

    @staticmethod
    def check_place(folder: Path) -> None:
        """See that a project could begin in a folder, which is left as it is.

        Raises
        ------
        ProjectError
            As `create`.
        """
        folder = folder.absolute()
        is_new = not folder.exists()
        _make_unused(folder)
        with _writing(folder):
            with TemporaryFile(dir=folder):
                pass
            if is_new:
                folder.rmdir()

    @classmethod
    def open(cls, folder: Path) -> Project:
        """Go on with a project; what a killed program left half done in it is put in order: see `notice`.

        Raises
        ------
        ProjectError
            When there is none, or its ``project.yaml`` is damaged or of a newer version.
        """
        folder = folder.absolute()
        project = cls(folder, read_record(folder / FILE))
        with suppress(OSError, SwipeError):  # one that is read only can be looked at as it is
            project._put_in_order()
        return project

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._record.name

    @property
    def record(self) -> ProjectRecord:
        """What ``project.yaml`` says; every change makes another one."""
        return self._record

    @property
    def data(self) -> Path:
        """The data set of what is painted, with ``train/`` and ``val/``; there once there is a case."""
        return self.folder / "data"

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    # What the user chose

    def set_scheme(self, scheme: AnnotationScheme) -> None:
        """What the painted numbers mean; of label files that were written before it is noted what theirs do.

        Raises
        ------
        ProjectError
            As all methods that change something: when the folder cannot be written. The project then is
            what it was before.
        """
        with self._record_lock:
            before = self._record.scheme
            if before is None or scheme == before:
                self._change(scheme=scheme)
                return
            former = list(self._record.former) if scheme.reads(before) else self._schemes_of_files(before)
            self._change(scheme=scheme, former=[_renamed(each, before, scheme) for each in former])

    def set_ndim(self, ndim: int) -> None:
        """How many spatial axes the images have that are trained on, 2 or 3."""
        self._change(ndim=ndim)

    def set_settings(self, **settings: Any) -> None:
        """Remember what widgets show: scalars and lists of them; others stay."""
        with self._record_lock:
            self._change(settings=self._record.settings | settings)

    def set_folders(self, folders: Sequence[str | Path]) -> None:
        """The data sets that are trained on beside the own one."""
        self._change(folders=[str(Path(folder).absolute()) for folder in folders])

    def write_config(self, text: str) -> None:
        """Write the configuration of the next round."""
        with _writing(self.config_file), atomic_write(self.config_file) as draft:
            draft.write_text(text, encoding="utf-8")

    # Pairs

    def pair(self, name: str) -> PairRecord:
        """What is known of a pair.

        Raises
        ------
        ProjectError
            When there is none of this name.
        """
        found = next((pair for pair in self._record.pairs if pair.name == name), None)
        if found is None:
            raise ProjectError(f"The project {self.name} has no image called {name}: add it again.")
        return found

    def add_pair(
        self,
        name: str,
        split: Split = "train",
        source: str = "",
        labels: str = "",
        axes: Sequence[str] | None = None,
    ) -> PairRecord:
        """Add an image; a name that is taken gets a number, which the pair that is returned has."""
        fields = {"split": split, "source": source, "labels": labels, "axes": axes and list(axes)}
        with self._record_lock:
            taken = {pair.name for pair in self._record.pairs}
            numbered = (f"{name} {number}" for number in count(2))
            unique = next(each for each in chain([name], numbered) if each not in taken)
            return self.put_pair(PairRecord.model_validate({"name": unique, **fields}))

    def put_pair(self, pair: PairRecord) -> PairRecord:
        """Add a pair, or change the one of this name; its frames and its stem stay what they are.

        In another split, its files are moved there.
        """
        with self._record_lock:
            if all(old.name != pair.name for old in self._record.pairs):
                taken = {old.stem for old in self._record.pairs} | self._store.stems()
                pair = pair.model_copy(update={"stem": free_name(pair.name, taken), "frames": []})
                self._change_pairs(lambda pairs: [*pairs, pair])
                return pair
        return self.update_pair(pair.name, **pair.model_dump(exclude={"name", "frames", "stem"}))

    def update_pair(self, name: str, **changes: Any) -> PairRecord:
        """Change fields of a pair. In another split, its files are moved there."""
        with self._record_lock:
            pair = PairRecord.model_validate({**self.pair(name).model_dump(), **changes})
            self._change_pairs(lambda pairs: [pair if old.name == name else old for old in pairs])
        # They come after what the record says: where a program was killed in between, opening goes on.
        # While another thread writes cases nothing waits: it is the next case of the pair that moves them.
        if self._files_lock.acquire(blocking=False):
            try:
                with _writing(self.data):
                    self._store.gather(pair)
            finally:
                self._files_lock.release()
        return pair

    def remove_pair(self, name: str) -> None:
        """Take a pair out; its files are put into ``removed/``, since painting them took somebody hours."""
        with self._files_lock:
            pair = self.pair(name)
            with _writing(self._store.removed):
                self._store.remove(pair)
            self._change_pairs(lambda pairs: [old for old in pairs if old.name != name])

    # Cases

    def case_name(self, pair: str, frame: Frame = ()) -> str:
        """What a frame of a pair is called in the data set: ``"cells"``, or ``"movie_0007"``."""
        known = next((old for old in self._record.pairs if old.name == pair), None)
        return case_name(known.stem if known else file_name(pair), frame)

    def written_frames(self, pair: str) -> list[Frame]:
        """The frames of a pair that are in the data set."""
        return [tuple(frame) for frame in self.pair(pair).frames]

    def has_image(self, pair: str, frame: Frame = ()) -> bool:
        """Whether the image of a frame was written."""
        return self._store.file(self.pair(pair), frame, "images") is not None

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

        Parameters
        ----------
        pair, frame
            Of a pair that was added; the frame is ``()`` where it has no such axes.
        split
            Another one than the pair's moves all its files.
        image
            None where it was written and is the same still. Truth values are written as 0 and 1, and
            numbers that TIFF does not know in the nearest type that it does.
        labels
            Classes and `swipe_core.data.labels.IGNORED`, on the lattice of the image.
        corrected
            Which labels the user corrected, of the same shape; None or nowhere true where none was.
        scheme
            What the classes of `labels` mean, where the project may have come to another scheme meanwhile.

        Raises
        ------
        ProjectError
            When the folder of the project or the pair is not there, the image was never written, or images
            of another number of axes are in the data set already; when the folder cannot be written.
        ImageError
            When a file cannot hold the image, or the disk refuses: older files stay whole.
        """
        if not self.folder.is_dir():
            raise ProjectError(
                f"The folder {self.folder} is gone: bring it back, or begin another project with New in…."
            )
        with self._files_lock:
            known = self.update_pair(pair, split=split)
            self._check_ndim(known, labels.ndim)
            with _writing(self.data):
                write_case_files(self._store, known, frame, image, labels, corrected)
            frames = sorted({*map(tuple, known.frames), frame})
            self._note_frames(pair, frames, labels.ndim)
            with self._record_lock:
                now = self._record.scheme
                if scheme is not None and now is not None and not _is_written_so(scheme, now):
                    path = self._store.place(known, frame, "labels", labels.ndim)
                    entry = FormerLabels(scheme=scheme, digests={path.name: _digest(path)})
                    self._change(former=[*self._record.former, entry])

    def remove_case(self, pair: str, frame: Frame = ()) -> None:
        """Delete a frame of a pair from the data set, as one in which nothing is painted any more."""
        with self._files_lock:
            known = self.pair(pair)
            with _writing(self.data):
                self._store.delete(known, frame)
            self._note_frames(pair, [tuple(old) for old in known.frames if tuple(old) != frame])

    def read_case(self, pair: str, frame: Frame = ()) -> LabelledImage:
        """A frame of a pair as it was written.

        Raises
        ------
        ProjectError
            When it was not.
        ImageError, DataError
            When its files are damaged, do not fit together, or hold classes that the scheme lacks.
        """
        from swipe_core.data.cases import Case
        from swipe_core.data.labelled import read_labelled
        from swipe_core.images import read_label_map

        known, scheme = self.pair(pair), self._record.scheme
        image, labels = (self._store.file(known, frame, kind) for kind in ("images", "labels"))
        if image is None or labels is None or scheme is None:
            raise ProjectError(f"{self.folder} holds no {self.case_name(pair, frame)}: write it first.")
        corrections = self._store.file(known, frame, "corrections")
        case = Case(self.case_name(pair, frame), image, labels, corrections)
        written = self._written(labels)
        found = read_labelled(case, self._store.ndim_of(labels), (written or scheme).label_config())
        if written is not None:
            classes = scheme.translated(found.labels.array, written)
            return replace(found, labels=replace(found.labels, array=classes))
        # Elsewhere 255 may be white, or the number of an object; here it is never painted.
        is_read = found.white is not None or scheme.instances
        if is_read and (read_label_map(labels).array == IGNORED).any():
            raise DataError(f"{labels} holds voxels that are not annotated: open the project in the dock.")
        return found

    def adapt_labels(self, pair: str, frame: Frame = (), written: AnnotationScheme | None = None) -> None:
        """Bring the label file of a frame to the scheme, which gets the classes in it that it lacks.

        Parameters
        ----------
        written
            The scheme that the file was written in; by default the present one, perhaps of more classes.

        Raises
        ------
        ProjectError, ImageError
            When a file cannot be read or written.
        DataError
            When there are more classes in it than a scheme can have.
        """
        from swipe_core.images import read_label_map, write_label_map

        with self._files_lock:
            path, scheme = self._store.file(self.pair(pair), frame, "labels"), self._record.scheme
            if path is None or scheme is None:
                return
            labels = read_label_map(path, ndim=self._store.ndim_of(path))
            written = written or scheme
            if not scheme.instances:
                present = [int(label) for label in np.unique(labels.array) if label not in (0, IGNORED)]
                written = _reaching(written, max(present, default=0))
                scheme = scheme.with_names(written.class_names[label - 1] for label in present)
            classes = scheme.translated(labels.array, written)
            if scheme != self._record.scheme or (classes != labels.array).any():
                # The names first: no file holds a class that has none.
                self._change(scheme=scheme)
                write_label_map(path, replace(labels, array=classes))
                self._adapted[pair] = None

    @property
    def notice(self) -> str:
        """What opening put in order, in a sentence; empty where nothing was."""
        if not self._adapted:
            return ""
        return (
            f"The labels of {', '.join(self._adapted)} were saved before the classes or the meaning of "
            "unpainted voxels were changed: they follow now."
        )

    def data_sets(self) -> list[Path]:
        """The own data set, once there is a case, and the folders that were named."""
        has_own = any((self.data / split).is_dir() for split in SPLITS)
        return [*([self.data] if has_own else []), *map(Path, self._record.folders)]

    def cases(self, split: Split, seed: int = 0) -> list[Case]:
        """The cases of a split, of all data sets; none where no data set has the split.

        Parameters
        ----------
        seed
            Of the division of a folder without ``train/`` and ``val/``.

        Raises
        ------
        DataError
            When a folder is gone, files lack their partners, or two data sets share the name of a case.
        """
        from swipe_core.data.cases import find_cases, has_split

        data_sets = self.data_sets()
        is_whole = all(folder.is_dir() for folder in data_sets)
        if not data_sets or (is_whole and not has_split(data_sets, split, seed)):
            return []
        return find_cases(data_sets, split, seed)

    # Rounds and models

    def runs(self) -> list[Path]:
        """The folders of the rounds, in order."""
        folder = self.folder / "runs"
        found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        return sorted((path for path in found if path.name.isdecimal()), key=lambda path: int(path.name))

    def next_run(self) -> Path:
        """The folder of the next round: ``runs/01``, ``runs/02``, ...; it is not made."""
        noted = [Path(record.folder) for record in self._record.rounds]
        last = max((int(path.name) for path in (*self.runs(), *noted)), default=0)
        return self.folder / "runs" / f"{last + 1:0{RUN_DIGITS}d}"

    def latest_model(self) -> Path | None:
        """The best model of the last round that left one, or its last where nothing was validated."""
        files = (run / f"{kind}.safetensors" for run in reversed(self.runs()) for kind in ("best", "last"))
        return next((path for path in files if path.is_file()), None)

    def add_round(self, record: RoundRecord) -> None:
        """Note a round."""
        with self._record_lock:
            self._change(rounds=[*self._record.rounds, record])

    def update_round(self, folder: str, **changes: Any) -> None:
        """Change fields of the round in a folder, as ``"runs/01"``."""
        with self._record_lock:
            self._change(
                rounds=[
                    RoundRecord.model_validate({**old.model_dump(), **changes})
                    if old.folder == folder
                    else old
                    for old in self._record.rounds
                ]
            )

    def add_kept(self, model: str | Path) -> None:
        """Note a model that the user kept, by its file."""
        with self._record_lock:
            kept = [*self._record.kept, str(model)]
            self._change(kept=list(dict.fromkeys(kept)))

    # Inside

    def _check_ndim(self, pair: PairRecord, ndim: int) -> None:
        others = {old.name for old in self._record.pairs if old.frames}
        if others - {pair.name} and self._record.ndim not in (None, ndim):
            raise ProjectError(
                f"The images of a project are all 2D or all 3D: those of {self.name} are "
                f"{self._record.ndim}D, and {pair.name} would be {ndim}D; begin another project for it."
            )

    def _schemes_of_files(self, scheme: AnnotationScheme) -> list[FormerLabels]:
        """What the numbers in all label files mean: that of `scheme` where nothing else is noted."""
        found: dict[AnnotationScheme, dict[str, str]] = {}
        with _writing(self.data):
            for path in self._store.label_files():
                found.setdefault(self._written(path) or scheme, {})[path.name] = _digest(path)
        return [FormerLabels(scheme=each, digests=digests) for each, digests in found.items()]

    def _written(self, path: Path) -> AnnotationScheme | None:
        """The scheme that a label file was written in, where it is noted to be another one."""
        noted = [former for former in self._record.former if path.name in former.digests]
        digest = _digest(path) if noted else ""
        return next((each.scheme for each in reversed(noted) if each.digests[path.name] == digest), None)

    def _note_frames(self, name: str, frames: Sequence[Frame], ndim: int | None = None) -> None:
        listed = [list(frame) for frame in frames]
        self._change_pairs(
            lambda pairs: [
                old.model_copy(update={"frames": listed}) if old.name == name else old for old in pairs
            ],
            **({} if ndim is None else {"ndim": ndim}),
        )

    def _put_in_order(self) -> None:
        """Finish what a killed program began, and note what is there."""
        from swipe_core.training.lock import RunLock

        with self._files_lock:
            self._store.remove_drafts()
            for pair in self._record.pairs:
                self._store.gather(pair)
                frames = self._store.frames(pair)
                if frames != self.written_frames(pair.name):
                    self._note_frames(pair.name, frames)
            self._note_ndim()
            self._adapt_former()
        for record in self._record.rounds:
            lock = RunLock(self.folder / record.folder / "run.lock")
            if record.state == "running" and not lock.is_held:
                self.update_round(record.folder, state="stopped")

    def _note_ndim(self) -> None:
        """The number of axes that the files have; the user may have chosen another one just now."""
        found = {self._store.ndim_of(path) for path in self._store.label_files()}
        if found and self._record.ndim not in found:
            self._change(ndim=min(found))

    def _adapt_former(self) -> None:
        """Bring label files to the scheme that were written in another one."""
        if self._record.former:
            for pair in self._record.pairs:
                for frame in self.written_frames(pair.name):
                    path = self._store.file(pair, frame, "labels")
                    written = None if path is None else self._written(path)
                    if written is not None:
                        self.adapt_labels(pair.name, frame, written)
            self._change(former=[])

    def _change_pairs(self, change: Callable[[list[PairRecord]], list[PairRecord]], **fields: Any) -> None:
        with self._record_lock:
            self._change(pairs=change(self._record.pairs), **fields)

    def _change(self, **fields: Any) -> None:
        """Another record, once it is on the disk."""
        with self._record_lock:
            record = ProjectRecord.model_validate({**dict(self._record), **fields})
            if record != self._record or not (self.folder / FILE).exists():
                self._write(record)
                self._record = record

    def _write(self, record: ProjectRecord) -> None:
        path = self.folder / FILE
        with _writing(path):
            write_record(path, record)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be written ({error.strerror or error}): free some space, or choose a folder that "
            "can be written."
        ) from error


def _make_unused(folder: Path) -> None:
    """See that a folder is there, and nothing in it."""
    if (folder / FILE).exists():
        raise ProjectError(f"{folder} already holds a project: open it, or choose another folder.")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        is_used = any(not path.name.startswith(".") for path in folder.iterdir())
    if is_used:
        raise ProjectError(f"{folder} holds files that are no project: choose a new or an empty folder.")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _renamed(former: FormerLabels, before: AnnotationScheme, now: AnnotationScheme) -> FormerLabels:
    """The same files, whose classes are called as they are called now."""
    return former.model_copy(update={"scheme": former.scheme.follow_names(before, now)})


def _reaching(scheme: AnnotationScheme, highest: int) -> AnnotationScheme:
    """At least so many classes."""
    while len(scheme.class_names) < highest:
        numbered = (f"class {number}" for number in count(len(scheme.class_names) + 1))
        scheme = scheme.with_names([next(name for name in numbered if name not in scheme.class_names)])
    return scheme


def _is_written_so(scheme: AnnotationScheme, now: AnnotationScheme) -> bool:
    """Whether labels in a scheme are those in another one, too."""
    names = scheme.class_names
    return now.reads(scheme) and now.class_names[: len(names)] == names
