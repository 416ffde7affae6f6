"""From a folder of images to a folder of labels."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QToolButton, QWidget
from superqt import QCollapsible

from swipe_core.errors import SwipeError
from swipe_core.progress import Notice, Progress, retold

if TYPE_CHECKING:
    from napari_swipe._segmenting import PredictorCache
    from swipe_core.description import ModelDescription


class FolderPanel(QCollapsible):
    """Where the images are, and where their labels go; closed at first."""

    wanted = Signal(str, str)
    """Segment the images of one folder into another."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Folder to folder", parent)
        self.images = _path_row("Every image in this folder is segmented.")
        self.labels = _path_row("Labels are written here, named after their images; 2D ones with an overlay.")
        self.button = QPushButton("Segment folder")
        self.button.setToolTip("With the model, device, threshold, smoothing and resolution that are set.")
        self.button.clicked.connect(lambda: self.wanted.emit(self.images.text(), self.labels.text()))
        inner = QWidget()
        form = QFormLayout(inner)
        form.addRow("Images", _with_browser(self.images))
        form.addRow("Labels", _with_browser(self.labels))
        form.addRow("", self.button)
        self.addWidget(inner)
        self.layout().setContentsMargins(0, 0, 0, 0)


@dataclass(frozen=True)
class FolderJob:
    """What to segment, with what, and how.

    Attributes
    ----------
    settings
        Fields of `swipe_core.inference.config.InferenceConfig` that differ from the model's own.
    factor
        Times as many voxels as each image along each axis.
    """

    images: Path
    labels: Path
    model: ModelDescription
    device: str
    settings: dict[str, Any]
    factor: float = 1.0


@dataclass(frozen=True)
class FolderResult:
    """What came of a folder: the label files, and a sentence for each image that failed."""

    written: tuple[Path, ...]
    failures: tuple[str, ...]


def iter_folder(job: FolderJob, cache: PredictorCache) -> Generator[Progress | Notice, None, FolderResult]:
    """Segment a folder, image by image; one that fails does not keep the others.

    Raises
    ------
    SwipeError
        When there are no images, or labels would overwrite something.
    """
    from swipe_core.outputs import check_outputs, find_images, iter_segment_file
    from swipe_core.predictor import Predictor
    from swipe_core.request import Request

    yield Progress("Loading the model", 0, 1)
    loaded = cache.load(job.model.path, job.device)
    config = loaded.config.model_copy(update=job.settings)
    predictor = Predictor(loaded.model, loaded.content, device=loaded.device, config=config)
    request = Request(factor=job.factor)
    images = find_images([job.images])
    check_outputs(images, job.labels, request, job.model.ndim)
    job.labels.mkdir(parents=True, exist_ok=True)
    written, failures = [], []
    for number, path in enumerate(images):
        progress = Progress(path.name, number, len(images))
        yield progress
        work = iter_segment_file(predictor, path, request, job.labels)
        try:
            target, _ = yield from retold(work, _of_folder(progress))
            written.append(target)
        except SwipeError as error:
            failures.append(str(error))
    return FolderResult(tuple(written), tuple(failures))


def _of_folder(progress: Progress) -> Callable[[Progress | Notice], Progress | Notice]:
    """What is told while one image is worked on: how far the folder is, so that it can be stopped often."""
    return lambda report: report if isinstance(report, Notice) else progress


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
    row = QHBoxLayout()
    row.addWidget(line, 1)
    row.addWidget(button)
    return row
