"""The data set of a project: which files belong to a pair, and where they lie."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from swipe_core.project.names import case_name, frame_of, free_name
from swipe_core.project.records import PairRecord, Split

Kind = Literal["images", "labels", "corrections"]
Frame = tuple[int, ...]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
SUFFIXES = {2: ".tif", 3: ".nii.gz"}
# As `image_draft` names what is not finished yet; after an hour nobody is at it any more.
DRAFT = re.compile(r"\.[0-9a-f]{32}(\..+)?")
ABANDONED = 3600.0  # seconds


class CaseStore:
    """``train/`` and ``val/`` with ``images/``, ``labels/`` and ``corrections/``; files go by their stems.

    There is a folder of a split only while something is in it, since an empty one is no data set.

    Parameters
    ----------
    data
        The folder of the splits.
    removed
        Where files are put that belong to no case any more. Nothing that was painted is deleted.
    """

    def __init__(self, data: Path, removed: Path) -> None:
        self.data, self.removed = data, removed

    def folder(self, split: Split, kind: Kind) -> Path:
        return self.data / split / kind

    def stems(self) -> set[str]:
        """Of all files, of whichever pair."""
        return {_stem(path) for split in SPLITS for kind in KINDS for path in self._files(split, kind)}

    def files(self, pair: PairRecord, split: Split, kind: Kind) -> dict[Frame, Path]:
        """The files of a pair, by frame."""
        framed = ((frame_of(pair.stem, _stem(path)), path) for path in self._files(split, kind))
        return {frame: path for frame, path in framed if frame is not None}

    def file(self, pair: PairRecord, frame: Frame, kind: Kind) -> Path | None:
        """One file of a pair, if it is there."""
        places = (self.place(pair, frame, kind, ndim) for ndim in SUFFIXES)
        return next((place for place in places if place.is_file()), None)

    def place(self, pair: PairRecord, frame: Frame, kind: Kind, ndim: int) -> Path:
        """Where a file of an image of `ndim` axes belongs."""
        return self.folder(pair.split, kind) / (case_name(pair.stem, frame) + SUFFIXES[ndim])

    @staticmethod
    def ndim_of(path: Path) -> int:
        """The number of axes of what is in a file of the data set."""
        return next(ndim for ndim, suffix in SUFFIXES.items() if path.name.endswith(suffix))

    def label_files(self) -> list[Path]:
        """Of all pairs and splits."""
        found = [path for split in SPLITS for path in self._files(split, "labels")]
        return [path for path in found if path.name.endswith(tuple(SUFFIXES.values()))]

    def prepared(self, pair: PairRecord, frame: Frame, kind: Kind, ndim: int) -> Path:
        """The same, with its folder made.

        Raises
        ------
        OSError
            When the disk refuses.
        """
        place = self.place(pair, frame, kind, ndim)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def frames(self, pair: PairRecord) -> list[Frame]:
        """Those of which image and labels are there, in order."""
        images, labels = (self.files(pair, pair.split, kind) for kind in ("images", "labels"))
        return sorted(images.keys() & labels.keys())

    def gather(self, pair: PairRecord) -> None:
        """Bring all files of a pair into its split, also those that were on their way when a process died.

        An image or corrections without labels are what an interrupted writing leaves: they are put away.

        Raises
        ------
        OSError
            When the disk refuses; doing it again goes on where it ended.
        """
        for other in SPLITS:
            for kind in KINDS if other != pair.split else ():
                for frame, path in self.files(pair, other, kind).items():
                    if self.file(pair, frame, kind) is None:
                        _move(path, self.folder(pair.split, kind))
                    else:
                        self._put_away(pair, [(kind, path)])
        labels = self.files(pair, pair.split, "labels")
        kinds: tuple[Kind, ...] = ("corrections", "images")
        self._put_away(
            pair,
            [
                (kind, path)
                for kind in kinds
                for frame, path in self.files(pair, pair.split, kind).items()
                if frame not in labels
            ],
        )
        self.prune()

    def remove(self, pair: PairRecord) -> None:
        """Move all files of a pair out of the data set.

        Raises
        ------
        OSError
            When the disk refuses.
        """
        # The labels first: what is left without them is put away when the project is opened.
        kinds: tuple[Kind, ...] = ("labels", "corrections", "images")
        found = [(kind, self.files(pair, split, kind)) for kind in kinds for split in SPLITS]
        self._put_away(pair, [(kind, path) for kind, files in found for path in files.values()])
        self.prune()

    def delete(self, pair: PairRecord, frame: Frame) -> None:
        """Delete the files of a frame.

        Raises
        ------
        OSError
            When the disk refuses.
        """
        for kind in ("labels", "corrections", "images"):  # an image without labels is put away in time
            path = self.file(pair, frame, kind)
            if path is not None:
                path.unlink()
        self.prune()

    def prune(self) -> None:
        """Remove the folders of splits, and of corrections, without files, as far as the system lets us."""
        for split in SPLITS:
            for folder in (self.folder(split, "corrections"), self.data / split):
                visible = (path for path in folder.rglob("[!.]*") if path.is_file())
                if folder.is_dir() and not any(visible):
                    shutil.rmtree(folder, ignore_errors=True)

    def remove_drafts(self) -> None:
        """Remove what killed processes left half written."""
        for path in self.data.rglob(".*"):
            with suppress(OSError):
                is_old = path.stat().st_mtime < time.time() - ABANDONED
                if DRAFT.fullmatch(path.name) and is_old and path.is_file():
                    path.unlink()

    def _files(self, split: Split, kind: Kind) -> list[Path]:
        folder = self.folder(split, kind)
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:  # which knows files from folders without asking for each
            return [Path(entry.path) for entry in entries if entry.is_file() and entry.name[0] != "."]

    def _put_away(self, pair: PairRecord, files: Sequence[tuple[Kind, Path]]) -> None:
        if not files:
            return
        taken = [path.name for path in self.removed.iterdir()] if self.removed.is_dir() else []
        target = self.removed / free_name(pair.stem, taken)
        for kind, path in files:
            _move(path, target / kind)


def _move(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path.replace(folder / path.name)


def _stem(path: Path) -> str:
    # The stems that projects give hold no dot.
    return path.name.partition(".")[0]
