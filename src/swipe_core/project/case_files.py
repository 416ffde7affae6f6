"""The files of a project's cases: which belong to a pair, where they lie, and that none is half there."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Bool

from swipe_core.errors import ProjectError
from swipe_core.project.records import PairRecord, Split, case_name, frame_of, free_name

if TYPE_CHECKING:
    from swipe_core.images import LabelMap, MedicalImage

Kind = Literal["images", "labels", "corrections"]
Frame = tuple[int, ...]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
SUFFIXES = {2: ".tif", 3: ".nii.gz"}
# As `image_draft` names what is not finished yet; after an hour nobody is at it any more.
DRAFT = re.compile(r"\.[0-9a-f]{32}(\..+)?")
ABANDONED = 3600.0  # seconds


class CaseFiles:
    """``train/`` and ``val/`` with ``images/``, ``labels/`` and ``corrections/``; files go by their stems.

    There is a folder of a split only while something is in it, since an empty one is no data set. What
    writes or moves files raises `OSError` where the disk refuses.

    `data`: the folder of the splits.
    `removed`: where files are put that belong to no case any more. Nothing that was painted is deleted.
    """

    def __init__(self, data: Path, removed: Path) -> None:
        self.data, self.removed = data, removed

    def folder(self, split: Split, kind: Kind) -> Path:
        return self.data / split / kind

    def stems(self) -> set[str]:
        """Return the stems of all files, of whichever pair."""
        return {_stem(path) for split in SPLITS for kind in KINDS for path in self._files(split, kind)}

    def files(self, pair: PairRecord, split: Split, kind: Kind) -> dict[Frame, Path]:
        """Return the files of a pair, by frame."""
        framed = ((frame_of(pair.stem, _stem(path)), path) for path in self._files(split, kind))
        return {frame: path for frame, path in framed if frame is not None}

    def file(self, pair: PairRecord, frame: Frame, kind: Kind) -> Path | None:
        """Return one file of a pair, if it is there."""
        places = (self.place(pair, frame, kind, ndim) for ndim in SUFFIXES)
        return next((place for place in places if place.is_file()), None)

    def place(self, pair: PairRecord, frame: Frame, kind: Kind, ndim: int) -> Path:
        """Return where a file of an image of `ndim` axes belongs."""
        return self.folder(pair.split, kind) / (case_name(pair.stem, frame) + SUFFIXES[ndim])

    @staticmethod
    def ndim_of(path: Path) -> int:
        """Return the number of axes of what is in a file of the data set."""
        return next(ndim for ndim, suffix in SUFFIXES.items() if path.name.endswith(suffix))

    def label_files(self) -> list[Path]:
        """Return the label files of all pairs and splits."""
        found = [path for split in SPLITS for path in self._files(split, "labels")]
        return [path for path in found if path.name.endswith(tuple(SUFFIXES.values()))]

    def frames(self, pair: PairRecord) -> list[Frame]:
        """Return the frames of which image and labels are there, in order."""
        images, labels = (self.files(pair, pair.split, kind) for kind in ("images", "labels"))
        return sorted(images.keys() & labels.keys())

    def gather(self, pair: PairRecord) -> None:
        """Bring all files of a pair into its split, also those that were on their way when a process died.

        An image or corrections without labels are what an interrupted writing leaves: they are put away.
        Where the disk refuses, doing it again goes on where it ended.
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
        """Move all files of a pair out of the data set."""
        # The labels first: what is left without them is put away when the project is opened.
        kinds: tuple[Kind, ...] = ("labels", "corrections", "images")
        found = [(kind, self.files(pair, split, kind)) for kind in kinds for split in SPLITS]
        self._put_away(pair, [(kind, path) for kind, files in found for path in files.values()])
        self.prune()

    def delete(self, pair: PairRecord, frame: Frame) -> None:
        """Delete the files of a frame."""
        for kind in ("labels", "corrections", "images"):  # an image without labels is put away in time
            path = self.file(pair, frame, kind)
            if path is not None:
                path.unlink()
        self.prune()

    def write(
        self,
        pair: PairRecord,
        frame: Frame,
        image: MedicalImage | None,
        labels: LabelMap,
        corrected: Bool[np.ndarray, "*shape"] | None,
    ) -> None:
        """Write what `Project.write_case` is given; where that fails, the case is as it was before.

        Raises `ProjectError` when there is no image, or one of another number of axes, and `ImageError` when
        a file cannot hold the image, or the disk refuses.
        """
        _check_shapes(image, labels, corrected)
        former = self.file(pair, frame, "images")
        if image is None and former is None:
            raise ProjectError(
                f"The image of {pair.name} is not in {self.data} yet: write it with its labels."
            )
        if former is not None and former != self.place(pair, frame, "images", labels.ndim):
            raise ProjectError(f"{former} is no {labels.ndim}D image: remove {pair.name}, and add it again.")
        try:
            self._write(pair, frame, image, labels, corrected)
        except BaseException:  # also one that ends the program: an image alone is no case
            if self.file(pair, frame, "labels") is None:
                with suppress(OSError):
                    self.delete(pair, frame)
            raise

    def _write(
        self,
        pair: PairRecord,
        frame: Frame,
        image: MedicalImage | None,
        labels: LabelMap,
        corrected: Bool[np.ndarray, "*shape"] | None,
    ) -> None:
        from swipe_core.images import write_image, write_label_map

        places = {kind: self.place(pair, frame, kind, labels.ndim) for kind in KINDS}
        is_corrected = corrected is not None and corrected.any()
        for kind, place in places.items():
            if kind != "corrections" or is_corrected:
                place.parent.mkdir(parents=True, exist_ok=True)
        if image is not None:
            write_image(places["images"], _storable(image))
        # The labels last: with them the case begins to count.
        if corrected is not None and is_corrected:
            write_label_map(places["corrections"], replace(labels, array=corrected.astype(np.uint8)))
        write_label_map(places["labels"], labels)
        if not is_corrected and places["corrections"].is_file():
            places["corrections"].unlink()
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


def _check_shapes(
    image: MedicalImage | None, labels: LabelMap, corrected: Bool[np.ndarray, "*shape"] | None
) -> None:
    shapes = [part.shape for part in (image, corrected) if part is not None]
    if any(shape != labels.shape for shape in shapes):
        raise ValueError(f"Labels of shape {labels.shape} need an image and corrections of theirs: {shapes}.")


def _storable(image: MedicalImage) -> MedicalImage:
    """Return the image in numbers that its file can hold."""
    dtype = image.array.dtype
    target = dtype
    if dtype == np.bool_:
        target = np.dtype(np.uint8)
    elif dtype.kind == "f" and dtype.itemsize not in (4, 8):
        target = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    elif dtype.kind in "iu" and dtype.itemsize == 8 and image.ndim == 2:
        target = _of_32_bits(image.array)
    return replace(image, array=image.array.astype(target, copy=False))


def _of_32_bits(array: np.ndarray) -> np.dtype:
    """Return whole numbers where these hold all values; else real ones, which come near enough."""
    for candidate in (np.int32, np.uint32):
        limits = np.iinfo(candidate)
        if limits.min <= array.min() and array.max() <= limits.max:
            return np.dtype(candidate)
    return np.dtype(np.float64)


def _move(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path.replace(folder / path.name)


def _stem(path: Path) -> str:
    # The stems that projects give hold no dot.
    return path.name.partition(".")[0]
