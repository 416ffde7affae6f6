"""From a folder of images to a folder of labels."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports, with_progress

if TYPE_CHECKING:
    from napari_swipe.viewer.state import PredictorCache
    from swipe_core.checkpoints.header import ModelDescription
    from swipe_core.prediction.batch import BatchReport


@dataclass(frozen=True)
class FolderJob:
    """A folder of images to segment: with which model, how, and where the labels go.

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


def iter_folder(job: FolderJob, cache: PredictorCache) -> Generator[Progress | Notice, None, BatchReport]:
    """Segment a folder, image by image, as the command does; one that fails does not keep the others.

    Images that are finished are kept, so that a folder that was cancelled goes on where it ended. In the end
    the table ``report.csv`` says what became of each.

    Raises
    ------
    SwipeError
        When there are no images, or labels would overwrite something.
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
