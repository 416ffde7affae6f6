"""What a run writes of itself: the log, which it resumes from, and curves for people."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from swipe_core.errors import ConfigError
from swipe_core.progress import Notice
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.folder import RunFolder
from swipe_core.training.reports import StepReport, ValidationReport, as_record
from swipe_core.training.session import session_record


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
