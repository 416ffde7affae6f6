"""Scripts end in one sentence; long work under a bar gives its result, and a stop closes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from swipe_core.cli.shared import SecondSignal, StopSignals, exit_code, finish_under_bar
from swipe_core.errors import ImageError
from swipe_core.progress import Progress, finish


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


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (ImageError("There is no file."), 2, "error: There is no file.\n"),
        (PermissionError(13, "Permission denied", "here"), 2, "error: here cannot be read or written"),
        (OSError(28, "No space left"), 2, "error: the place cannot be read or written (No space left).\n"),
        (KeyboardInterrupt(), 130, "stopped; half is done\n"),
        (SecondSignal(15), 143, "stopped; half is done\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_an_exit_code(capsys, fault, code, said):
    def work() -> int:
        raise fault

    assert exit_code(work, place="the place", stopped=lambda: "half is done") == code
    message = capsys.readouterr().err
    assert message.startswith(said) and message.count("\n") == 1


def test_signals_ask_first_and_insist_then(capfd):
    before = signal.getsignal(signal.SIGTERM)
    asked: list[bool] = []
    with StopSignals(lambda: asked.append(True), "ending soon") as signals:
        assert signals.exit_code == 0
        signal.raise_signal(signal.SIGTERM)
        assert asked == [True] and signals.exit_code == 143
        with pytest.raises(SecondSignal) as second:
            signal.raise_signal(signal.SIGINT)
    assert (second.value.number, asked) == (signal.SIGINT, [True])
    assert signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr().err.strip() == "ending soon"


def test_a_signal_that_was_ignored_before_stays_ignored(capfd):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals(lambda: None, "ending soon") as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals.number is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopSignals(lambda: None, ""):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_fault_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0, place="", stopped=str)


@pytest.mark.parametrize(
    "moment", ["print('x' * 100_000, flush=True)", "print('x')", "print('x'); sys.exit(0)"]
)
def test_a_script_ends_quietly_once_nobody_reads_what_it_prints(moment):
    script = (
        "import os, sys\n"
        "from swipe_core.cli.shared import exit_code, until_unread\n"
        f"def work():\n    {moment}\n    return 0\n"
        "main = lambda: exit_code(work, place='here', stopped=lambda: 'stopped')\n"
        "raise SystemExit(until_unread(main))\n"
    )
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does once it has its lines
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
