"""Long work under a bar: its result comes back, each stage has its own count, and a stop closes it."""

from __future__ import annotations

import pytest

from swipe_core.progress import Progress, finish, finish_under_bar


def work(closed=None):
    try:
        for stage, total in (("Encoding", 2), ("Rendering", 3)):
            for done in range(1, total + 1):
                yield Progress(stage, done, total)
    finally:
        if closed is not None:
            closed.append(True)
    return "result"


def test_the_result_comes_back_and_the_bar_ends_full(capsys):
    assert finish_under_bar(work(), unit="block") == "result"
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert last.startswith("Rendering: 100%") and "3/3" in last


def test_an_inner_bar_keeps_out_of_files(capsys):
    assert finish_under_bar(work(), inner=True) == "result"
    assert capsys.readouterr().err == ""


def test_what_stops_the_showing_closes_the_work_at_once():
    def stop(report):
        raise KeyboardInterrupt

    closed: list[bool] = []
    with pytest.raises(KeyboardInterrupt) as kept:
        finish(work(closed), stop)
    assert kept and closed == [True]
