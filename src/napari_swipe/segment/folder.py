"""From a folder of images to a folder of labels."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swipe_core.errors import SwipeError
from swipe_core.progress import Notice, Progress, with_progress

if TYPE_CHECKING:
    from napari_swipe.viewer.predictor_cache import PredictorCache
    from swipe_core.checkpoints.header import ModelDescription


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
    """What came of a folder: the label files, and a sentence for each image that failed or was left out."""

    written: tuple[Path, ...]
    failures: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What is to be told in one line."""
        count = len(self.written) + len(self.failures)
        line = f"{len(self.written)} of {count} images are segmented"
        return f"{line}, {len(self.left_out)} left out." if self.left_out else f"{line}."


def iter_folder(job: FolderJob, cache: PredictorCache) -> Generator[Progress | Notice, None, FolderResult]:
    """Segment a folder, image by image; one that fails does not keep the others.

    Raises
    ------
    SwipeError
        When there are no images, or labels would overwrite something.
    """
    from swipe_core.images.finding import find_images
    from swipe_core.prediction.outputs import check_outputs, iter_segment_file
    from swipe_core.prediction.predictor import Predictor
    from swipe_core.prediction.request import Request

    yield Progress("Loading the model", 0, 1)
    loaded = cache.load(job.model.path, job.device)
    config = loaded.config.model_copy(update=job.settings)
    predictor = Predictor(loaded.model, loaded.content, device=loaded.device, config=config)
    request = Request(factor=job.factor)
    found = find_images([job.images], ndim=job.model.ndim, output=job.labels)
    images = found.images
    check_outputs(images, job.labels, request, job.model.ndim)
    job.labels.mkdir(parents=True, exist_ok=True)
    written, failures = [], []
    for number, image in enumerate(images):
        progress = Progress(image.name, number, len(images))
        yield progress
        work = iter_segment_file(predictor, image, request, job.labels)
        try:
            target, _ = yield from with_progress(work, progress)
            written.append(target)
        except SwipeError as error:
            failures.append(str(error))
    return FolderResult(tuple(written), tuple(failures), tuple(map(str, found.left_out)))
