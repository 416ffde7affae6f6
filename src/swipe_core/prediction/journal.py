"""What lies finished in an output folder, so that a call that was broken off goes on where it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from swipe_core.images.finding import JOURNAL_NAME
from swipe_core.images.formats import named_format
from swipe_core.images.source import ImageSource
from swipe_core.prediction.jobs import Job, JobResult, failed


@dataclass(frozen=True)
class FileMark:
    """A mark that tells a file, or all files of a folder, from what it was before, without reading it."""

    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileMark | None:
        """The mark of a file or folder; None where there is none."""
        try:
            found = [file.stat() for file in _files_of(path)]
        except OSError:
            return None
        if not found:
            return None
        return cls(sum(file.st_size for file in found), max(file.st_mtime_ns for file in found))


class Entry(BaseModel):
    """A line of the journal: an image that is finished."""

    model_config = ConfigDict(frozen=True)

    image: str
    """Its name, as `ImageSource.name`."""
    mark: FileMark
    """Of the image, from before it was read."""
    asked: str
    """`Order.fingerprint`."""
    outputs: Mapping[str, FileMark]
    """Of each file that was written, by its name."""
    seconds: float = 0.0


class Journal:
    """The journal of an output folder: one line of JSON for each image that is finished.

    It is only ever added to, a whole line at a time; the last line of an image counts. A line that is
    half-written, since the process was killed or the disk full, counts for nothing. One process writes.

    `folder`: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_NAME
        self._entries = _read(self.path)
        self._marks: dict[ImageSource, FileMark | None] = {}

    def own_outputs(self) -> frozenset[Path]:
        """Files in the folder that are as they were written for an image."""
        folder = self.path.parent
        written = ((folder / name, mark) for e in self._entries.values() for name, mark in e.outputs.items())
        return frozenset(path for path, mark in written if mark == FileMark.of(path))

    def sorted_out(self, jobs: Sequence[Job], anew: bool = False) -> tuple[list[JobResult], list[Job]]:
        """Sort jobs into results that are finished already, and jobs that are to be done.

        An image is finished where it is as it was, the same was asked of it, and what was written is
        still there in its size; nothing is with `anew`. How an image is now is remembered for `recorded`.
        """
        kept, left = [], []
        fingerprints = {job.order: job.order.fingerprint for job in jobs}
        for job in jobs:
            mark = self._marks[job.image] = FileMark.of(job.image.path)
            entry = self._entries.get(job.image.name)
            if anew or not entry or not mark or not _is_finished(job, fingerprints[job.order], mark, entry):
                left.append(job)
            else:
                kept.append(JobResult(job, "kept", entry.seconds))
        return kept, left

    def recorded(self, result: JobResult) -> JobResult:
        """Write down that an image is finished, if it is; returns what is to be told of it.

        Outputs that another machine wrote and that are not here make it a failure. Where the journal
        cannot be written, a notice says so.
        """
        if result.state != "done":
            return result
        outputs: dict[str, FileMark] = {}
        for path in result.job.outputs.values():
            mark = FileMark.of(path)
            if mark is None:
                return failed(
                    result.job,
                    f"{path} was written and is not there: all workers need the same folder, and nobody may "
                    "take its files away meanwhile.",
                    result.seconds,
                )
            outputs[path.name] = mark
        try:
            self._add(result, outputs)
        except OSError as error:
            notice = f"{self.path} cannot be written ({error.strerror}): the next call begins anew."
            return replace(result, notices=(*result.notices, notice))
        return result

    def _add(self, result: JobResult, outputs: Mapping[str, FileMark]) -> None:
        job = result.job
        mark = self._marks.get(job.image)
        if mark is None:  # it was not there yet, or came through another road: it is not known as it was read
            return
        entry = Entry(
            image=job.image.name,
            mark=mark,
            asked=job.order.fingerprint,
            outputs=outputs,
            seconds=round(result.seconds, 3),
        )
        _append(self.path, entry.model_dump())
        self._entries[entry.image] = entry


def _is_finished(job: Job, fingerprint: str, mark: FileMark, entry: Entry) -> bool:
    if (entry.asked, entry.mark) != (fingerprint, mark):
        return False
    outputs = job.outputs.values()
    if {path.name for path in outputs} != set(entry.outputs):
        return False
    # Their size alone: a folder that is copied has other times.
    return all(_bytes(path) == entry.outputs[path.name].bytes for path in outputs)


def _files_of(path: Path) -> Iterable[Path]:
    """A file, all files of a folder, or a header with the files that may hold its voxels."""
    if path.is_dir():
        return (file for file in path.rglob("*") if file.is_file())
    kind = named_format(path)
    beside = (path.with_suffix(suffix) for suffix in (kind.voxel_suffixes if kind else ()))
    return [path, *(file for file in beside if file.is_file())]


def _bytes(path: Path) -> int | None:
    mark = FileMark.of(path)
    return None if mark is None else mark.bytes


def _read(path: Path) -> dict[str, Entry]:
    """The last line of each image; lines that are none of the journal's are passed over."""
    entries: dict[str, Entry] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            # Not pydantic's own parser, which refuses the escaped bytes of names that are no text.
            entry = Entry.model_validate(json.loads(line))
        except (ValueError, RecursionError):
            continue
        entries[entry.image] = entry
    return entries


def _append(path: Path, record: Mapping[str, Any]) -> None:
    # Bytes in a file's name that are no text are escaped by JSON, as all that is not ASCII.
    line = json.dumps(record).encode() + b"\n"
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # the end of a line that was broken off
                line = b"\n" + line
        file.write(line)
