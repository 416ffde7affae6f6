"""What all scripts have in common: how they end, and how they show long work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from swipe_core.errors import ConfigError, SwipeError
from swipe_core.progress import Notice, Progress, finish

Result = TypeVar("Result")

FAILED, INTERRUPTED = 2, 130


def exit_code(work: Callable[[], int], *, place: str, stopped: Callable[[], str]) -> int:
    """Run a script's work; what a user can mend becomes one sentence and the exit code 2.

    Parameters
    ----------
    work
        Returns the exit code of a script that came to its end.
    place
        The file or folder to name where the system does not say which one it refused.
    stopped
        What to say after Ctrl-C, which ends with 130 as the shell's own programs do.
    """
    try:
        return work()
    except SwipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        refused = error.filename or place
        print(f"error: {refused} cannot be read or written ({error.strerror or error}).", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"stopped; {stopped()}", file=sys.stderr)
        return INTERRUPTED


def prepare_file(path: Path, option: str) -> None:
    """See before the work that its result can be written to the file that an option names.

    Raises
    ------
    ConfigError
        When the path is a folder, or its own folder cannot be made.
    """
    if path.is_dir():
        raise ConfigError(f"{option} needs a file, and {path} is a folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {path.parent} cannot be written ({error.strerror}).") from error


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each as a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def finish_under_bar(
    work: Generator[Progress | Notice, None, Result], *, unit: str = "it", inner: bool = False
) -> Result:
    """`finish` under a progress bar in the terminal, which starts anew where a new stage does.

    Notices become lines above the bar, on the stream of errors.

    Parameters
    ----------
    unit
        What one piece is.
    inner
        A bar below another one: it vanishes at its end, and only a terminal shows it.
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
