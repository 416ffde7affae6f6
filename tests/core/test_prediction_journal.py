"""The journal knows what is finished, whenever the process was killed, and is believed of nothing else."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from swipe_core.images.source import ImageSource
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.jobs import Job, JobResult, Order
from swipe_core.prediction.journal import JOURNAL_NAME, FileMark, Journal
from swipe_core.prediction.request import Request


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    return folder


@pytest.fixture
def order(folder) -> Order:
    return Order("model.safetensors", "0" * 64, InferenceConfig(), Request(), "cpu", folder, 2)


@pytest.fixture
def jobs(order, tmp_path) -> list[Job]:
    """Three images that have never been segmented."""
    images = [tmp_path / f"{name}.png" for name in "abc"]
    for image in images:
        image.write_bytes(b"pixels of " + image.name.encode())
    return [Job(order, ImageSource(image)) for image in images]


def segment(journal: Journal, jobs: list[Job]) -> None:
    """Write something for each image, and down that it is finished."""
    _, left = journal.sorted_out(jobs)
    for job in left:
        for what, path in job.outputs.items():
            path.write_bytes(f"{what} of ".encode() + os.fsencode(job.image.name))
        journal.recorded(JobResult(job, "done", 0.25))


def left(jobs: list[Job]) -> list[str]:
    """What a new process would segment."""
    return [job.image.path.stem for job in Journal(jobs[0].order.folder).sorted_out(jobs)[1]]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL_NAME).read_text("utf-8").splitlines()]


def test_what_is_finished_is_kept_with_what_is_known_of_it(jobs, folder):
    assert left(jobs) == ["a", "b", "c"]
    segment(Journal(folder), jobs[:2])
    kept, rest = Journal(folder).sorted_out(jobs)
    assert rest == jobs[2:]
    assert kept == [JobResult(job, "kept", 0.25) for job in jobs[:2]]
    assert kept[0].labels == folder / "a.png"


def test_everything_is_left_where_it_is_wanted_anew(jobs, folder):
    segment(Journal(folder), jobs)
    assert Journal(folder).sorted_out(jobs, anew=True) == ([], jobs)


def test_an_image_that_is_not_as_it_was_is_segmented_anew(jobs, folder):
    segment(Journal(folder), jobs)
    jobs[0].image.path.write_bytes(b"other pixels")
    status = jobs[1].image.path.stat()
    os.utime(jobs[1].image.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert left(jobs) == ["a", "b"]


def test_an_image_that_changes_while_it_is_worked_on_is_segmented_anew(jobs, folder):
    journal = Journal(folder)
    journal.sorted_out(jobs[:1])
    jobs[0].image.path.write_bytes(b"pixels that nobody has seen")
    for path in jobs[0].outputs.values():
        path.write_text("labels of what was there before", "utf-8")
    journal.recorded(JobResult(jobs[0], "done"))
    assert left(jobs[:1]) == ["a"]


def test_an_image_may_move_to_another_folder(jobs, folder, tmp_path):
    segment(Journal(folder), jobs)
    (tmp_path / "moved").mkdir()
    moved = [
        Job(job.order, ImageSource(Path(shutil.move(job.image.path, tmp_path / "moved")))) for job in jobs
    ]
    assert left(moved) == []


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "1" * 64},
        {"config": InferenceConfig(threshold=0.4)},
        {"request": Request(factor=2.0)},
        {"request": Request(objects=True)},
        {"request": Request(region=((0, 4), (None, 5)))},
    ],
)
def test_of_which_something_else_is_asked_is_segmented_anew(jobs, folder, change):
    segment(Journal(folder), jobs)
    other = [replace(job, order=replace(job.order, **change)) for job in jobs]
    assert left(other) == ["a", "b", "c"]
    segment(Journal(folder), other)
    assert left(other) == [] and left(jobs) == ["a", "b", "c"]


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"checkpoint": "another/place.safetensors"}])
def test_where_the_model_lies_and_computes_changes_nothing(jobs, folder, change):
    segment(Journal(folder), jobs)
    assert left([replace(job, order=replace(job.order, **change)) for job in jobs]) == []


def test_labels_or_overlays_that_are_gone_or_of_another_size_are_made_anew(jobs, folder):
    segment(Journal(folder), jobs)
    (folder / "a_overlay.png").unlink()
    (folder / "b.png").write_text("cut", "utf-8")
    assert left(jobs) == ["a", "b"]


def test_a_line_that_was_broken_off_counts_for_nothing_and_spoils_no_other(jobs, folder):
    segment(Journal(folder), jobs[:2])
    journal = folder / JOURNAL_NAME
    whole = journal.read_bytes()
    for end in range(len(whole) - 20, len(whole) - 1):
        journal.write_bytes(whole[:end])
        assert left(jobs) == ["b", "c"]
    segment(Journal(folder), jobs[2:])
    assert left(jobs) == ["b"]
    segment(Journal(folder), jobs)
    assert left(jobs) == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"image": 3}',
        b"[" * 100_000,
        b'{"image": "a.png", "mark": 3}',
    ],
)
def test_what_is_no_line_of_a_journal_is_passed_over(jobs, folder, line):
    segment(Journal(folder), jobs)
    with (folder / JOURNAL_NAME).open("ab") as journal:
        journal.write(line + b"\n")
    assert left(jobs) == []


def test_it_is_only_added_to_a_line_for_each_image(jobs, folder):
    segment(Journal(folder), jobs[:1])
    before = (folder / JOURNAL_NAME).read_bytes()
    segment(Journal(folder), jobs)
    assert (folder / JOURNAL_NAME).read_bytes().startswith(before)
    assert [line["image"] for line in lines(folder)] == ["a.png", "b.png", "c.png"]
    assert {name: mark["bytes"] for name, mark in lines(folder)[0]["outputs"].items()} == {
        "a.png": 15,
        "a_overlay.png": 16,
    }


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="its names are always text")
def test_a_name_that_is_no_text_is_remembered(order, folder, tmp_path):
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    image.write_bytes(b"pixels")
    segment(Journal(folder), [Job(order, ImageSource(image))])
    assert left([Job(order, ImageSource(image))]) == []


def test_failures_are_not_written_down(jobs, folder):
    journal = Journal(folder)
    journal.sorted_out(jobs)
    result = JobResult(jobs[0], "failed", message="It is damaged.")
    assert journal.recorded(result) == result
    assert not (folder / JOURNAL_NAME).exists()


def test_outputs_that_another_machine_wrote_elsewhere_are_a_failure(jobs, folder):
    journal = Journal(folder)
    journal.sorted_out(jobs)
    result = journal.recorded(JobResult(jobs[0], "done", 0.5))
    assert result.state == "failed" and "all workers need the same folder" in result.message


def test_a_journal_that_cannot_be_written_is_told_of_and_no_more(jobs, folder):
    journal = Journal(folder)
    journal.sorted_out(jobs)
    (folder / JOURNAL_NAME).mkdir()
    for path in jobs[0].outputs.values():
        path.write_text("labels", "utf-8")
    result = journal.recorded(JobResult(jobs[0], "done"))
    assert result.state == "done" and "cannot be written" in result.notices[0]


def test_own_outputs_are_those_that_nobody_has_changed(jobs, folder):
    segment(Journal(folder), jobs[:2])
    (folder / "a.png").write_text("painted by hand", "utf-8")  # as many bytes as before
    (folder / "b_overlay.png").unlink()
    assert Journal(folder).own_outputs() == {folder / "a_overlay.png", folder / "b.png"}


def test_the_mark_of_a_folder_is_of_all_its_files(tmp_path):
    (tmp_path / "scan" / "0").mkdir(parents=True)
    assert FileMark.of(tmp_path / "scan") is None
    for name in ("1.dcm", "0/2.dcm"):
        (tmp_path / "scan" / name).write_text("slice", "utf-8")
    before = FileMark.of(tmp_path / "scan")
    assert before is not None and before.bytes == 10
    os.utime(tmp_path / "scan" / "0" / "2.dcm", ns=(0, before.modified_ns + 1))
    assert FileMark.of(tmp_path / "scan") != before


def test_the_mark_of_a_header_is_of_its_voxels_too(tmp_path):
    for name in ("scan.mhd", "scan.raw", "scan.txt"):
        (tmp_path / name).write_text("12345", "utf-8")
    before = FileMark.of(tmp_path / "scan.mhd")
    assert before is not None and before.bytes == 10
    (tmp_path / "scan.raw").write_text("123456", "utf-8")
    assert FileMark.of(tmp_path / "scan.mhd") != before
    assert FileMark.of(tmp_path / "none.mhd") is None
