"""From a folder of images to a folder of labels: the work, and the section in which they are chosen."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QToolButton, QWidget
from superqt import QCollapsible

from napari_swipe.qt.layouts import beside
from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports, with_progress

if TYPE_CHECKING:
    from napari_swipe.viewer.state import PredictorCache
    from swipe_core.checkpoints.header import ModelDescription
    from swipe_core.prediction.batch import BatchReport


@dataclass(frozen=True)
class FolderJob:
    """A folder of images to segment: with which model, how, and where the labels go."""

    images: Path
    labels: Path
    model: ModelDescription
    device: str
    settings: dict[str, Any]
    """Fields of `swipe_core.inference.config.InferenceConfig` that differ from the model's own."""
    factor: float = 1.0
    """Times as many voxels as each image along each axis."""


def iter_folder(job: FolderJob, cache: PredictorCache) -> Generator[Progress | Notice, None, BatchReport]:
    """Segment a folder, image by image, as the command does; one that fails does not keep the others.

    Images that are finished are kept, so that a folder that was cancelled goes on where it ended. In the end
    the table ``report.csv`` says what became of each.

    A `SwipeError` is raised when there are no images, or labels would overwrite something.
    """
    from swipe_core.prediction.batch import Batch
    from swipe_core.prediction.jobs import Order, iter_job
    from swipe_core.prediction.request import Request

    yield Progress("Loading the model", 0, 1)
    predictor = cache.load(job.model.path, job.device, job.settings)
    request = Request(factor=None if job.factor == 1 else job.factor)
    order = Order.of(str(job.model.path), predictor, request, device=job.device, folder=job.labels)
    batch, each_once = Batch(order, predictor.content, [job.images]), EachNoticeOnce()
    try:
        for number, image_job in enumerate(batch.left):
            progress = Progress(image_job.image.name, batch.kept + number, len(batch.jobs))
            yield progress
            work = map_reports(iter_job(image_job, predictor), each_once)
            batch.add((yield from with_progress(work, progress)))
    finally:
        report = batch.finish()
    return report


class FolderPanel(QCollapsible):
    """A section to choose the folders of images and of labels; it is closed at first."""

    wanted = Signal(str, str)
    """Segment the images of one folder into another."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Folder to folder", parent)
        self.images = _path_row(
            "Every image in this folder, and in the folders inside, is segmented; of a file with several "
            "pictures each."
        )
        self.labels = _path_row("Labels are written here, named after their images; 2D ones with an overlay.")
        self.button = QPushButton("Segment folder")
        self.button.setToolTip(
            "With the model and device that are set, and with what is set under Result once an image has "
            "been segmented. Images that are finished are kept."
        )
        self.button.clicked.connect(lambda: self.wanted.emit(self.images.text(), self.labels.text()))
        inner = QWidget()
        form = QFormLayout(inner)
        form.addRow("Images", _with_browser(self.images))
        form.addRow("Labels", _with_browser(self.labels))
        form.addRow("", self.button)
        self.addWidget(inner)
        self.layout().setContentsMargins(0, 0, 0, 0)


def _path_row(tip: str) -> QLineEdit:
    row = QLineEdit()
    row.setToolTip(tip)
    return row


def _with_browser(line: QLineEdit) -> QHBoxLayout:
    button = QToolButton()
    button.setText("…")
    button.setToolTip("Choose a folder.")

    def ask() -> None:
        folder = QFileDialog.getExistingDirectory(line, "Choose a folder", line.text())
        if folder:
            line.setText(folder)

    button.clicked.connect(ask)
    row = beside(line, button)
    return row
