"""What became of all images of a call: one line, what failed, and a table."""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swipe_core.errors import ImageError
from swipe_core.files.atomic import draft_of
from swipe_core.images.finding import FoundImages
from swipe_core.images.source import LeftOut
from swipe_core.prediction.jobs import Job, JobResult, State

REPORT_NAME = "report.csv"
COLUMNS = ("image", "state", "seconds", "labels", "message")
ENCODING = "utf-8-sig"  # the mark at its beginning tells spreadsheets that it is UTF-8
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with these, a spreadsheet would take a text for a formula
MOST_LISTED = 20
STATES: dict[State, str] = {"done": "done", "kept": "kept", "failed": "failed", "open": "not reached"}


@dataclass(frozen=True)
class BatchReport:
    """What became of the images of a call, in their order.

    Attributes
    ----------
    seconds
        That the work took, all processes together.
    left_out
        What was found beside the images and is not segmented.
    others
        How many files are no images at all.
    """

    results: tuple[JobResult, ...]
    seconds: float
    left_out: tuple[LeftOut, ...] = ()
    others: int = 0

    @classmethod
    def of(
        cls,
        jobs: Sequence[Job],
        results: Iterable[JobResult],
        seconds: float,
        found: FoundImages | None = None,
    ) -> BatchReport:
        """Of results in any order; images without one were not reached."""
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
        """How many images came to what, and how fast, in one line."""
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
        """Write the table as CSV for a spreadsheet, at once or not at all.

        Raises
        ------
        OSError
            When the disk refuses; an older file stays as it was.
        """
        with (
            draft_of(path) as draft,
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

    Raises
    ------
    ImageError
        When it is anything else.
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
