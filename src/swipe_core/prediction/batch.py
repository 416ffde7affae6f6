"""The images of one call: which are finished, which are left, and what became of all."""

from __future__ import annotations

import csv
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.data.preprocessing import target_grid
from swipe_core.errors import ImageError, SwipeError
from swipe_core.files.atomic import atomic_write
from swipe_core.images.finding import FoundImages, find_images
from swipe_core.images.formats import named_format
from swipe_core.images.source import ImageSource, LeftOut
from swipe_core.images.stored import open_stored_image
from swipe_core.images.zarr_folder import is_store
from swipe_core.prediction.jobs import Job, JobResult, Order, State
from swipe_core.prediction.journal import Journal
from swipe_core.prediction.large_plan import check_large
from swipe_core.prediction.result import check_outputs

# Voxels that are encoded at once at most, 4096 x 4096 or 256 x 256 x 256: with up to 270 bytes of embeddings
# for each, in windows that overlap by a half, they take 4.5 GB.
MOST_WHOLE = 2**24
SMALL_FILE = 2**22  # bytes; no smaller file is opened to see how large its image is

REPORT_NAME = "report.csv"
COLUMNS = ("image", "state", "seconds", "labels", "message")
ENCODING = "utf-8-sig"  # the mark at its beginning tells spreadsheets that it is UTF-8
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with these, a spreadsheet would take a text for a formula
MOST_LISTED = 20
STATES: dict[State, str] = {"done": "done", "kept": "kept", "failed": "failed", "open": "not reached"}


class Batch:
    """Images that are segmented by one order: the one road of the command and of the dock.

    What is finished in the output folder already, by its journal, is kept. Every image that was found has a
    result in the end, and where there were several the folder gets a table of them, `REPORT_NAME`. Raises
    `ImageError` when there are no images, or something would be overwritten that is none of this program's.

    `content`: of the model of the order.
    `paths`: images, and folders of them.
    `blocks`: whether every TIFF is segmented block by block, and not only large ones.
    `anew`: segment again what is finished.

    Attributes
    ----------
    left
        The jobs that are to be done; whoever does them gives each result to `add`.
    kept
        How many images were finished before.
    """

    def __init__(
        self,
        order: Order,
        content: CheckpointContent,
        paths: Sequence[str | Path],
        *,
        blocks: bool = False,
        anew: bool = False,
    ) -> None:
        self.order, self._start = order, time.monotonic()
        self._journal = Journal(order.folder)
        own = self._journal.own_outputs()
        self.found = find_images(paths, ndim=order.ndim, stores=True, own=own, output=order.folder)
        check_outputs(self.found.images, order.folder, order.request, order.ndim, own)
        if self.has_report:
            check_report(order.folder / REPORT_NAME)
        order.folder.mkdir(parents=True, exist_ok=True)
        self.jobs = [_job_of(order, content, image, blocks) for image in self.found.images]
        self._results, self.left = self._journal.sorted_out(self.jobs, anew)
        self.kept = len(self._results)

    @property
    def has_report(self) -> bool:
        """Whether there is more to report than one image."""
        return len(self.found.images) > 1 or bool(self.found.left_out)

    def add(self, result: JobResult) -> JobResult:
        """Write down what became of an image; returns what is to be shown of it."""
        self._results.append(self._journal.recorded(result))
        return self._results[-1]

    def finish(self) -> BatchReport:
        """Report on all images, those that were not reached too, and write the table."""
        report = BatchReport.of(self.jobs, self._results, time.monotonic() - self._start, self.found)
        if self.has_report:
            report.write(self.order.folder / REPORT_NAME)
        return report


def _job_of(order: Order, content: CheckpointContent, image: ImageSource, blocks: bool) -> Job:
    """The job of an image, which goes block by block where it is large.

    That is a zarr folder, and a TIFF of more than `MOST_WHOLE` voxels at the spacing of the model, unless
    what is asked for needs the whole image.
    """
    kind = named_format(image.path)
    in_parts = kind is not None and bool(kind.part_reader)
    return Job(
        order, image, is_store(image.path) or (in_parts and (blocks or _is_large(order, content, image)))
    )


def _is_large(order: Order, content: CheckpointContent, image: ImageSource) -> bool:
    try:
        if image.path.stat().st_size < SMALL_FILE:
            return False
        check_large(content, order.config, order.request)
        source = open_stored_image(image, order.ndim)
        part = source.window(*order.request.span_in(source.shape))
        return target_grid(part, content.preprocessing).voxels > MOST_WHOLE
    except (SwipeError, OSError):  # as a whole it may work, and otherwise says what is wrong with it
        return False


@dataclass(frozen=True)
class BatchReport:
    """The results of all images of a call, in their order."""

    results: tuple[JobResult, ...]
    seconds: float
    """That the work took, all processes together."""
    left_out: tuple[LeftOut, ...] = ()
    """What was found beside the images and is not segmented."""
    others: int = 0
    """How many files are no images at all."""

    @classmethod
    def of(
        cls,
        jobs: Sequence[Job],
        results: Iterable[JobResult],
        seconds: float,
        found: FoundImages | None = None,
    ) -> BatchReport:
        """Report on results in any order; images without one were not reached."""
        known = {result.job: result for result in results}
        found = found or FoundImages()
        every = tuple(known.get(job) or JobResult(job, "open") for job in jobs)
        return cls(every, seconds, tuple(found.left_out), found.others)

    @property
    def failures(self) -> tuple[JobResult, ...]:
        return tuple(result for result in self.results if result.state == "failed")

    @property
    def is_complete(self) -> bool:
        """Whether nothing was left out that was surely meant to be segmented."""
        return not any(each.is_image for each in self.left_out)

    @property
    def summary(self) -> str:
        """One line on how many images came to what, and how fast."""
        counts = Counter(result.state for result in self.results)
        states = [
            f"{counts[state]} {word}" for state, word in STATES.items() if state != "open" or counts[state]
        ]
        states += [f"{len(self.left_out)} left out"] * bool(self.left_out)
        images = "1 image" if len(self.results) == 1 else f"{len(self.results)} images"
        line = f"{images}: {', '.join(states)}"
        if self.others:
            line += f" (files that are no images: {self.others})"
        done = [result.seconds for result in self.results if result.state == "done"]
        if not done or not self.seconds:
            return line
        rate = f"{len(done) / self.seconds:.3g} images per second"
        return f"{line}; {rate}, {statistics.median(done):.3g} seconds for an image in the median"

    @property
    def lines(self) -> list[str]:
        """The summary, and a line for each failure and for all left out, or for the first of very many."""
        failures = [result.message for result in self.failures]
        left_out = [f"left out: {each}" for each in self.left_out]
        return [self.summary, *_listed(failures), *_listed(left_out)]

    def write(self, path: Path) -> None:
        """Write the table as CSV for a spreadsheet, at once or not at all."""
        with (
            atomic_write(path) as draft,
            draft.open("w", newline="", encoding=ENCODING, errors="replace") as file,
        ):
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows(map(_row, self.results))
            table.writerows(_cells(str(each.path), "left out", "", "", each.reason) for each in self.left_out)


def _listed(sentences: Sequence[str]) -> list[str]:
    listed = [f"  {sentence}" for sentence in sentences[:MOST_LISTED]]
    if len(sentences) > MOST_LISTED:
        listed.append(f"  and {len(sentences) - MOST_LISTED} more, which are in {REPORT_NAME}")
    return listed


def check_report(path: Path) -> None:
    """See that what a report would replace is a report.

    Raises `ImageError` when it is anything else.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        begin = file.readline(200).decode(ENCODING, errors="replace").strip()
    if begin != ",".join(COLUMNS):
        raise ImageError(
            f"{path} is no report of this program, and would be replaced by one: move it away or choose "
            "another output folder."
        )


def _row(result: JobResult) -> list[str]:
    seconds = f"{result.seconds:.3f}" if result.seconds else ""
    labels = "" if result.labels is None else str(result.labels)
    return _cells(str(result.job.image), STATES[result.state], seconds, labels, result.message)


def _cells(*cells: str) -> list[str]:
    return [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]
