"""The work behind Segment: from a layer to its segmentation, and from a folder of images to one of labels."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QToolButton, QWidget
from superqt import QCollapsible

from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.levels import plan_levels
from napari_swipe.live.segmented import SegmentedLayer, SegmentJob
from napari_swipe.qt.layouts import beside
from swipe_core.errors import SwipeError
from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports, with_progress

if TYPE_CHECKING:
    from napari_swipe.viewer.state import PredictorCache
    from swipe_core.checkpoints.header import ModelDescription
    from swipe_core.inference.config import InferenceConfig
    from swipe_core.prediction.batch import BatchReport


COARSE_VOXELS = {2: 2**20, 3: 2**19}  # of the first picture, over all frames


def weighs_levels(segmented: SegmentedLayer) -> bool:
    """Whether the network says which of its levels decides; one without attention over them does not."""
    return segmented.field.first.windows[0].encoding.stage_weights is not None


def iter_segment(
    job: SegmentJob, cache: PredictorCache, tell_apart: bool = False
) -> Generator[Progress | Notice, None, SegmentedLayer]:
    """Encode every frame of a layer once, and make the first picture; yields progress.

    With `tell_apart` it shows single objects, where model or settings tell them apart.

    A `SwipeError` is raised when model and layer do not go together, or memory does not suffice.
    """
    job.source.axes.check(job.model.ndim, job.source.name)
    yield from other_pictures(job.source)
    yield Progress("Loading the model", 0, 1)
    predictor = cache.load(job.model.path, job.device, job.settings)
    frames = job.source.frames
    stack = yield from predictor.iter_stack(frames, job.source.image)
    field = LayerField(stack.fields, job.source)
    plan = plan_levels(field.image_grid, max(2**16, COARSE_VOXELS[job.model.ndim] // len(frames)))
    if tell_apart and field.first.tells_apart:
        field = yield from field.iter_tell_apart()
    return (yield from _iter_first_picture(job, field, plan, predictor.content.inference))


def other_pictures(source: LayerSource) -> list[Notice]:
    """Tell of pictures that the layer's file holds besides; napari's own readers open the first alone."""
    from swipe_core.images.finding import find_images

    if source.path is None or not source.path.is_file():
        return []
    try:
        count = len(find_images([source.path]).images)
    except SwipeError:
        return []
    name = source.path.name
    text = f"{name} holds {count} pictures, and this layer is one of them; Folder to folder segments all."
    return [Notice(text)] * (count > 1)


def iter_redecide(
    segmented: SegmentedLayer, config: InferenceConfig, tell_apart: bool = False
) -> Generator[Progress | Notice, None, SegmentedLayer]:
    """The same encoding under another threshold, confidence or smoothing; nothing is encoded again."""
    field = segmented.field.with_config(config)
    if tell_apart and segmented.can_tell_apart:
        field = yield from field.iter_tell_apart()
    return (yield from _iter_first_picture(segmented.job, field, segmented.plan, segmented.model_config))


def _iter_first_picture(
    job: SegmentJob, field: LayerField, plan: LevelPlan, model_config: InferenceConfig
) -> Generator[Progress | Notice, None, SegmentedLayer]:
    from swipe_core.inference.estimate import RenderCost

    start = time.perf_counter()
    maps = yield from field.iter_render(plan.base)
    seconds = (time.perf_counter() - start) / len(maps)
    # The frame with the longest boundary costs most.
    largest = max(maps, key=lambda labels: labels.evaluated_points)
    frame_field = list(field.fields.values())[maps.index(largest)]
    cost = RenderCost.measured(frame_field, largest, seconds)
    coarse = field.stacked([field.shown(*each) for each in zip(field.fields, maps, strict=True)])
    return SegmentedLayer(job, field, plan, coarse, cost, model_config)


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
