"""What a run writes down of itself: the log, which counts, and pictures of it, which only show."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from swipe_core.progress import Notice
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.folder import RunFolder
from swipe_core.training.reports import StepReport, ValidationReport
from swipe_core.training.session import session_record
from swipe_core.training.tensorboard import TensorBoardLog


class Journal:
    """The log of a run in its folder, with TensorBoard's files and the picture of the curves."""

    def __init__(self, folder: RunFolder, config: ExperimentConfig, device: torch.device) -> None:
        self._folder, self._config, self._device = folder, config, device
        self._tensorboard = TensorBoardLog(folder.path) if config.training.tensorboard else None
        self._session_from: int | None = None
        self._failing: set[str] = set()

    def begin_session(self, step: int) -> None:
        """What comes next is of a session that begins after so many steps."""
        self._session_from = step

    def write(self, report: StepReport | ValidationReport) -> None:
        """Write a report into the log; the first one of a session comes after what the session runs on.

        Raises
        ------
        TrainingError
            When the log cannot be written.
        """
        if self._session_from is not None:
            self._folder.log_record(session_record(self._config, self._device, self._session_from))
            self._session_from = None
        self._folder.log(report)

    def show(self, report: StepReport | ValidationReport) -> Iterator[Notice]:
        """Give TensorBoard a report that is in the log."""
        if self._tensorboard is not None:
            board = self._tensorboard
            yield from self._attempted("The TensorBoard file", lambda: board.add(report))

    def draw(self) -> Iterator[Notice]:
        """Draw the curves of the log."""
        yield from self._attempted("The picture of the curves", self._folder.draw_curves)

    def _attempted(self, what: str, draw: Callable[[], None]) -> Iterator[Notice]:
        """Do what only shows the run: where that fails, one notice says so, and the run goes on."""
        try:
            draw()
        except Exception as error:  # whatever it is, it is no reason to lose a training
            if what not in self._failing:
                self._failing.add(what)
                yield Notice(f"{what} cannot be written ({error}): the training goes on without it.")
