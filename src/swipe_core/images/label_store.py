"""`LabelStore`: labels that any number of processes write block by block, and that survive them all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

from swipe_core.blocks import Block, cut
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError
from swipe_core.images.decoding import decoding
from swipe_core.images.files import check_folder
from swipe_core.images.formats import LABEL_STORE
from swipe_core.images.levels import doubled, level_shapes, most_frequent, ome_attribute
from swipe_core.images.zarr_folder import open_zarr, zarr_module
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from zarr import Array

VERSION = 1
KEY = "swipe"  # of our own attributes
COMPRESSION = 5  # of zstd


@dataclass(frozen=True, eq=False)
class LabelStore:
    """Labels on disk, as an OME-Zarr 0.5 label image whose levels are zarr arrays.

    A chunk is written to a file of another name that is then renamed, so it is there as a whole or not
    at all, whoever is killed when: which parts are finished is what files there are. Two processes
    must not write different parts of one chunk; writing the same twice does no harm. Where zarr is missing,
    the folder is damaged or none of ours, or the disk refuses, all methods raise an `ImageError`.
    """

    path: Path
    """The folder."""
    grid: Grid
    """Lattice of the labels in the world."""
    unit: str
    """Of the world."""
    chunks: tuple[int, ...]
    """Shape of the pieces in voxels; parts that are written begin and end with them."""
    classes: Mapping[str, str]
    """Names of the classes 1, 2, ... and their colours ("#rrggbb")."""
    record: Mapping[str, Any]
    """What the labels are of, in plain values: a store is only gone on with where it is the same."""
    notes: Mapping[str, Any]
    """What else is to be known for going on, in plain values."""
    is_finished: bool
    """Whether all is there, coarser levels too."""
    dtype: str = "uint8"
    """Of the labels: "uint8" for classes, a wider type for numbers of objects."""

    @classmethod
    def create(
        cls,
        path: Path,
        grid: Grid,
        unit: str,
        chunks: Sequence[int],
        *,
        classes: Mapping[str, str],
        record: Mapping[str, Any],
        notes: Mapping[str, Any] | None = None,
        dtype: str = "uint8",
    ) -> LabelStore:
        """Make a store without labels, which appears whole or not at all.

        `grid`, `unit`, `chunks`, `classes`, `record`, `notes` and `dtype`: as the attributes are.
        """
        check_folder(path)
        zarr = zarr_module(path)
        if path.exists():
            raise ImageError(f"{path} exists already: choose another name, or remove it.")
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.draft")
        about = {
            "format": LABEL_STORE,
            "version": VERSION,
            "affine": grid.affine.matrix.tolist(),
            "unit": unit,
            "classes": dict(classes),
            "record": dict(record),
            "notes": dict(notes or {}),
            "is_finished": False,
        }
        try:
            group = zarr.open_group(zarr.storage.LocalStore(draft), mode="w-", zarr_format=3)
            group.attrs.put({"ome": ome_attribute(grid, unit, [grid.shape], classes), KEY: about})
            _create_level(group, 0, grid.shape, chunks, dtype)
            os.replace(draft, path)
        except OSError as error:
            raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> LabelStore:
        """Open a store that was begun before."""
        group: Any = open_zarr(path)
        about: Any = dict(group.attrs).get(KEY)
        if not isinstance(about, Mapping) or about.get("format") != LABEL_STORE:
            raise ImageError(f"{path} is no folder of labels that this program wrote; choose another name.")
        if about.get("version") != VERSION:
            raise ImageError(f"{path} was written by a newer version of this program; update it.")
        with decoding(path, "label"):
            array = group["0"]
            return cls(
                path=path,
                grid=Grid(array.shape, Affine(np.array(about["affine"], dtype=np.float64))),
                unit=str(about["unit"]),
                chunks=tuple(int(n) for n in array.chunks),
                classes=dict(about["classes"]),
                record=dict(about["record"]),
                notes=dict(about["notes"]),
                is_finished=bool(about["is_finished"]),
                dtype=str(array.dtype),
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def levels(self) -> list[Array]:
        """The labels and their coarser levels as zarr arrays, of which only what is looked at is read."""
        if not self.is_finished:
            raise ImageError(f"{self.path} is not complete: call again what was to write it.")
        return [self._array(level) for level in range(len(level_shapes(self.shape)))]

    def differences(self, record: Mapping[str, Any]) -> list[str]:
        """Return the keys under which another record says something else."""
        one, other = _plain(self.record), _plain(record)
        return [key for key in {**one, **other} if one.get(key) != other.get(key)]

    def holds(self, part: Block, level: int = 0) -> bool:
        """Whether every chunk of a part has been written."""
        return all(_is_written(self._chunk_file(level, chunk)) for chunk in self._chunks_of(part))

    def write(self, part: Block, labels: Integer[np.ndarray, "*shape"], level: int = 0) -> None:
        """Write a part of whole chunks.

        A part that cuts a chunk, or labels of another shape, raise a `ValueError`.
        """
        array = self._array(level, writable=True)
        for first, count, chunk, length in zip(part.start, part.shape, self.chunks, array.shape, strict=True):
            if first % chunk or ((first + count) % chunk and first + count != length):
                raise ValueError(f"{part} does not consist of whole chunks of {self.chunks}.")
        if labels.shape != part.shape:
            raise ValueError(f"{part} cannot hold labels of shape {labels.shape}.")
        try:
            array[part.slices] = labels
        except OSError as error:
            raise ImageError(
                f"{self.path} cannot be written ({error.strerror or error}): free some space, and go on."
            ) from error

    def read(self, part: Block, level: int = 0) -> Integer[np.ndarray, "*shape"]:
        """Return the labels of a part; 0 where nothing has been written."""
        array = self._array(level)
        with decoding(self.path, "label"):
            return np.asarray(array[part.slices])

    def iter_finish(self) -> Generator[Progress, None, LabelStore]:
        """Add the coarser levels, in which a voxel has the most frequent label of those it stands for.

        Returns the finished store; one that was interrupted goes on where it stopped.
        """
        if self.is_finished:
            return self
        if not all(self.holds(part) for part in cut(self.shape, self.chunks)):
            raise ImageError(f"{self.path} is not complete: segment the rest first.")
        shapes = level_shapes(self.shape)
        todo = [(level, part) for level in range(1, len(shapes)) for part in cut(shapes[level], self.chunks)]
        group: Any = open_zarr(self.path, mode="r+")
        for level in range(1, len(shapes)):
            if str(level) not in group:
                _create_level(group, level, shapes[level], self.chunks, self.dtype)
        for done, (level, part) in enumerate(todo):
            if not self.holds(part, level):
                finer = doubled(part, shapes[level - 1], shapes[level])
                self.write(part, most_frequent(self.read(finer, level - 1), part.shape), level)
            yield Progress("Adding coarser levels", done + 1, len(todo))
        for left in self.path.rglob("*.partial"):  # of processes that were killed while they wrote
            left.unlink(missing_ok=True)
        about: Any = dict(group.attrs)[KEY]
        ome = ome_attribute(self.grid, self.unit, shapes, self.classes)
        group.attrs.put({"ome": ome, KEY: {**about, "is_finished": True}})
        return LabelStore.open(self.path)

    def move(self, path: Path) -> LabelStore:
        """Give it another name in the same folder, in the place of a store of ours, if there is one."""
        if path.exists():
            LabelStore.open(path).remove()
        try:
            os.replace(self.path, path)
        except OSError as error:
            raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error
        return LabelStore.open(path)

    def remove(self) -> None:
        """Delete the folder; what is left of it after a kill is hidden and is no store any more."""
        doomed = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.removed")
        try:
            os.replace(self.path, doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise ImageError(f"{self.path} cannot be removed: {error.strerror or error}.") from error

    def _chunks_of(self, part: Block) -> list[tuple[int, ...]]:
        ends = [a + n for a, n in zip(part.start, part.shape, strict=True)]
        first = [a // c for a, c in zip(part.start, self.chunks, strict=True)]
        counts = [-(-end // c) - i for end, c, i in zip(ends, self.chunks, first, strict=True)]
        return [tuple(np.add(first, index).tolist()) for index in np.ndindex(*counts)]

    def _chunk_file(self, level: int, chunk: Sequence[int]) -> Path:
        """Return where zarr keeps a chunk by default in its format 3."""
        return self.path.joinpath(str(level), "c", *map(str, chunk))

    def _array(self, level: int, writable: bool = False) -> Array:
        group: Any = open_zarr(self.path, mode="r+" if writable else "r")
        with decoding(self.path, "label"):
            # A chunk of background is written like any other, since what is missing is not finished.
            return group[str(level)].with_config({"write_empty_chunks": True})


def _create_level(group: Any, level: int, shape: Sequence[int], chunks: Sequence[int], dtype: str) -> None:
    from zarr.codecs import ZstdCodec

    group.create_array(
        str(level),
        shape=tuple(shape),
        chunks=tuple(chunks),
        dtype=dtype,
        fill_value=0,
        compressors=[ZstdCodec(level=COMPRESSION)],
        dimension_names=list("zyx"[-len(shape) :]),
        overwrite=True,  # what a process that was killed may have left half made
    )


def _is_written(file: Path) -> bool:
    """Whether it is there, and not one of the empty ones that a failing disk leaves."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as JSON gives it back."""
    return json.loads(json.dumps(dict(record)))
