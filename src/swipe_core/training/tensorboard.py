"""The reports of a run as TensorBoard curves, for those who watch many runs at once."""

from __future__ import annotations

from pathlib import Path

from swipe_core.errors import ConfigError
from swipe_core.training.reports import StepReport, ValidationReport


class TensorBoardLog:
    """Writes the curves of one run into `folder`.

    Raises
    ------
    ConfigError
        When TensorBoard is not installed.
    """

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
