"""The report counts every image once, lists what failed, and is a table that a spreadsheet opens safely."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from swipe_core.errors import ImageError
from swipe_core.images.source import ImageSource
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.batch import MOST_LISTED, REPORT_NAME, BatchReport, check_report
from swipe_core.prediction.jobs import Job, JobResult, Order, failed
from swipe_core.prediction.request import Request

ORDER = Order("model", "0" * 64, InferenceConfig(), Request(), "cpu", Path("labels"), 2)


def job(name: str) -> Job:
    return Job(ORDER, ImageSource(Path(name)))


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def test_images_stand_in_their_order_whenever_they_ended():
    jobs = [job(f"{name}.png") for name in "abcd"]
    results = [failed(jobs[3], "d.png is damaged.", 1.0), JobResult(jobs[1], "kept", 9.0)]
    results += [JobResult(jobs[0], "done", 2.0)]
    report = BatchReport.of(jobs, results, 4.0)
    assert [result.state for result in report.results] == ["done", "kept", "open", "failed"]
    assert report.summary == (
        "4 images: 1 done, 1 kept, 1 failed, 1 not reached; 0.25 images per second, 2 seconds for an image "
        "in the median"
    )
    assert report.lines[1:] == ["  d.png is damaged."]


def test_where_nothing_was_done_there_is_no_speed():
    jobs = [job("a.png"), job("b.png")]
    report = BatchReport.of(jobs, [JobResult(one, "kept", 3.0) for one in jobs], 0.1)
    assert report.lines == ["2 images: 0 done, 2 kept, 0 failed"]


def test_of_very_many_failures_the_first_are_listed():
    jobs = [job(f"{number}.png") for number in range(MOST_LISTED + 7)]
    report = BatchReport.of(jobs, [failed(one, f"{one.image} is damaged.") for one in jobs], 1.0)
    assert len(report.lines) == 1 + MOST_LISTED + 1
    assert report.lines[-1] == "  and 7 more, which are in report.csv"


def test_the_table_holds_every_image_in_any_script(tmp_path):
    jobs = [job("größe.png"), job("b.png")]
    report = BatchReport.of(
        jobs, [JobResult(jobs[0], "done", 1.5), failed(jobs[1], "b.png, of all, broke.")], 2.0
    )
    report.write(tmp_path / REPORT_NAME)
    assert rows(tmp_path / REPORT_NAME) == [
        ["image", "state", "seconds", "labels", "message"],
        ["größe.png", "done", "1.500", str(Path("labels") / "größe.png"), ""],
        ["b.png", "failed", "", "", "b.png, of all, broke."],
    ]
    check_report(tmp_path / REPORT_NAME)


@pytest.mark.parametrize("name", ["=1+1.png", "@sum.png", "+a.png", "-a.png"])
def test_no_name_of_a_file_is_a_formula(tmp_path, name):
    report = BatchReport.of([job(name)], [failed(job(name), f"{name} is damaged.")], 1.0)
    report.write(tmp_path / REPORT_NAME)
    _, row = rows(tmp_path / REPORT_NAME)
    assert row[0] == f"'{name}" and row[4] == f"'{name} is damaged."


def test_another_table_is_not_taken_for_a_report(tmp_path):
    check_report(tmp_path / REPORT_NAME)
    (tmp_path / REPORT_NAME).write_text("image,state\n", "utf-8")
    with pytest.raises(ImageError, match="is no report of this program"):
        check_report(tmp_path / REPORT_NAME)
