"""How commands and scripts end, and how they show long work."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

from swipe_core.errors import ConfigError, SwipeError
from swipe_core.progress import Notice, Progress, finish

Result = TypeVar("Result")

FAILED, INCOMPLETE, INTERRUPTED, UNREAD = 2, 3, 130, 141
# Ctrl-C, a polite kill, and Ctrl-Break or the closing of the window on Windows.
STOPPING = ("SIGINT", "SIGTERM", "SIGBREAK")


class SecondSignal(KeyboardInterrupt):
    """A second signal: the program is to end at once."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StopSignals:
    """Signals that end a program stop its work instead, while this context is entered.

    The first one calls `stop` and prints `message`; a second one raises `SecondSignal` wherever the program
    is. What was in place before is put back at the end. Signals that the caller of the program had
    ignored stay so, and so do all of them outside of the main thread, which alone may receive them.

    `stop`: must return at once.
    """

    def __init__(self, stop: Callable[[], None], message: str) -> None:
        self.stop = stop
        self.message = message
        self.number: int | None = None
        """Of the signal that came first, or None."""
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as in a shell; 0 without a signal."""
        return 0 if self.number is None else 128 + self.number

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in [int(getattr(signal, name)) for name in STOPPING if hasattr(signal, name)]:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker ends by itself
            if number != signal.SIGINT:
                os._exit(128 + number)
            return
        if self.number is not None:
            raise SecondSignal(number)
        self.number = number
        self.stop()
        with contextlib.suppress(OSError):  # print is not for signal handlers: it may be interrupted itself
            os.write(2, f"\n{self.message}\n".encode())


def exit_code(work: Callable[[], int], *, place: str, stopped: Callable[[], str]) -> int:
    """Run the work of a command; what a user can mend becomes one sentence and the exit code 2.

    `work`: returns the exit code of a command that came to its end.
    `place`: the file or folder to name where the system does not say which one it refused.
    `stopped`: returns what to print after Ctrl-C, which ends with 130 as in a shell, or another signal.
    """
    try:
        return work()
    except SwipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        raise  # for `until_unread`
    except OSError as error:
        refused = error.filename or place
        print(f"error: {refused} cannot be read or written ({error.strerror or error}).", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interrupt:
        print(f"stopped; {stopped()}", file=sys.stderr)
        return 128 + interrupt.number if isinstance(interrupt, SecondSignal) else INTERRUPTED


def until_unread(main: Callable[[], int]) -> int:
    """Return the exit code of a program, which ends quietly once nobody reads its output, as in ``| head``.

    The code is then that of a program which a closed pipe ended, 141.
    """
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def prepare_file(path: Path, option: str) -> None:
    """Check before the work that its result can be written to the file that an option names.

    Raises `ConfigError` when the path is a folder, or its own folder cannot be made.
    """
    if path.is_dir():
        raise ConfigError(f"{option} needs a file, and {path} is a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {path.parent} cannot be written ({error.strerror}).") from error


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of as many cells each as a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def finish_under_bar(
    work: Generator[Progress | Notice, None, Result], *, unit: str = "it", inner: bool = False
) -> Result:
    """`finish` under a progress bar in the terminal, which starts anew where a new stage does.

    Notices become lines above the bar, on the stream of errors.

    `unit`: what one piece is.
    `inner`: a bar below another one: it vanishes at its end, and only a terminal shows it.
    """
    from tqdm import tqdm

    with tqdm(unit=unit, dynamic_ncols=True, leave=not inner, disable=None if inner else False) as bar:

        def show(report: Progress | Notice) -> None:
            if isinstance(report, Notice):
                bar.write(report.message, file=sys.stderr)
                return
            if report.total != bar.total or report.done < bar.n:
                bar.reset(report.total)
            bar.set_description(report.stage, refresh=False)
            bar.update(report.done - bar.n)
            bar.refresh()

        return finish(work, show)
