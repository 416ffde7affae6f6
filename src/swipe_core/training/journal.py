"""What a run writes of itself: the log with a record of each session, and curves for people."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import swipe_core
from swipe_core.errors import ConfigError
from swipe_core.progress import Notice
from swipe_core.training.config import ExperimentConfig, dump_config
from swipe_core.training.folder import RunFolder
from swipe_core.training.reports import StepReport, ValidationReport, as_record

PACKAGE = Path(swipe_core.__file__).parent


def session_record(config: ExperimentConfig, device: torch.device, step: int) -> dict[str, Any]:
    """Return the line of log.jsonl on a session that begins at `step`."""
    return {
        "kind": "session",
        "step": step,
        "versions": versions() | {"numpy": np.__version__},
        "revision": source_revision(),
        "system": platform.platform(),
        "device": device_name(device),
        "seed": config.training.seed,
        "command": command_line(sys.argv),
        "config_digest": config_digest(config),
    }


def versions() -> dict[str, str]:
    """Return the versions of this project, torch and Python."""
    return {
        "napari-swipe": swipe_core.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def config_digest(config: ExperimentConfig) -> str:
    """Return a digest that equal configurations share, and no others."""
    return hashlib.sha256(dump_config(config).encode()).hexdigest()[:16]


def command_line(words: Sequence[str]) -> str:
    """Return words as they are typed into the shell of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def device_name(device: torch.device) -> str:
    """Return a device as its maker calls it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()}, {torch.get_num_threads()} threads)"


def source_revision() -> str | None:
    """Return the git commit of the sources; None for an installed package, and where there is no git."""
    try:
        lines = subprocess.run(
            ["git", "rev-parse", "HEAD", "--show-toplevel"],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            timeout=3,
            check=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    # An environment may lie inside of some other project's repository.
    is_ours = len(lines) == 2 and Path(lines[1]).resolve() == PACKAGE.parents[1].resolve()
    return lines[0] if is_ours else None


class Journal:
    """The log of a run in its folder, with TensorBoard's files and the picture of the curves.

    Raises `ConfigError` when TensorBoard is to be written and not installed.
    """

    def __init__(self, folder: RunFolder, config: ExperimentConfig, device: torch.device) -> None:
        self._folder, self._config, self._device = folder, config, device
        self._tensorboard = TensorBoardLog(folder.path) if config.training.tensorboard else None
        self._session_from: int | None = None
        self._failing: set[str] = set()

    def begin_session(self, step: int) -> None:
        """Begin a session after so many steps."""
        self._session_from = step

    def write(self, report: StepReport | ValidationReport) -> None:
        """Write a report into the log; the first one of a session comes after what the session runs on."""
        if self._session_from is not None:
            self._folder.log_record(session_record(self._config, self._device, self._session_from))
            self._session_from = None
        self._folder.log_record(as_record(report))

    def show(self, report: StepReport | ValidationReport) -> Iterator[Notice]:
        """Give TensorBoard a report that is in the log."""
        if self._tensorboard is not None:
            board = self._tensorboard
            yield from self._attempted("The TensorBoard file", lambda: board.add(report))

    def draw(self) -> Iterator[Notice]:
        """Draw the curves of the log."""
        yield from self._attempted("The picture of the curves", self._folder.draw_curves)

    def _attempted(self, what: str, draw: Callable[[], None]) -> Iterator[Notice]:
        """Draw what only shows the run: where that fails, one notice says so, and the run goes on."""
        try:
            draw()
        except Exception as error:  # whatever it is, it is no reason to lose a training
            if what not in self._failing:
                self._failing.add(what)
                yield Notice(f"{what} cannot be written ({error}): the training goes on without it.")


class TensorBoardLog:
    """The curves of one run, for those who watch many runs at once."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                'training.tensorboard needs TensorBoard: pip install "napari-swipe[tensorboard]", '
                "or leave the field out."
            ) from error
        self._folder = folder
        self._writer_of = SummaryWriter
        self._writer: SummaryWriter | None = None

    def add(self, report: StepReport | ValidationReport) -> None:
        """Add the numbers of one report to their curves; the first one makes the file."""
        self._writer = self._writer or self._writer_of(self._folder)
        if isinstance(report, StepReport):
            values = {f"loss/{name}": value for name, value in report.losses.items()}
            values |= {"learning_rate": report.learning_rate, "images_per_second": report.images_per_second}
        else:
            values = {f"dice/{name}": value for name, value in report.dice.items()}
            values["dice/mean"] = report.mean_dice
        for name, value in values.items():
            self._writer.add_scalar(name, value, report.step)
        self._writer.flush()
