"""Previews of a training while it goes on: a part of an image, segmented with the weights of the moment."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from swipe_core.compute.memory import is_out_of_memory
from swipe_core.coordinates import Grid
from swipe_core.data.preprocessing import PreparedImage, PreprocessingConfig, preprocess
from swipe_core.errors import SwipeError
from swipe_core.images import MedicalImage
from swipe_core.inference.field import Segmentation
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.progress import Notice, Progress, finish
from swipe_core.training.runner import TRAINING, Report, Trainer

Result = TypeVar("Result")
LEAST_SECONDS = 3.0  # between two previews
REST = 20.0  # times what a preview took is learned before the next: with its drawing it costs some 5 %


@dataclass(frozen=True, eq=False)
class View:
    """The part of an image that is to be segmented."""

    image: MedicalImage
    """Compared by identity: what belongs to it is kept from one preview to the next."""
    grid: Grid
    """Where in the world, and how finely."""


@dataclass(frozen=True, eq=False)
class Preview:
    """Labels on the grid of a view, after `step` steps."""

    step: int
    labels: Segmentation


class Previewer:
    """Makes previews of a training, so seldom that they cost less than a tenth of the time.

    `view`: returns the view of the moment, or None; called in the thread of the training.
    `clock`: seconds that only grow.
    """

    def __init__(self, view: Callable[[], View | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._view, self._clock = view, clock
        self._next = clock()
        self._prepared: tuple[MedicalImage, PreprocessingConfig, PreparedImage] | None = None
        self._fault = ""

    def iter_run(
        self, trainer: Trainer, run: Generator[Report, None, Result]
    ) -> Generator[Report | Preview, None, Result]:
        """Pass on the reports and the result of a training's `run`, with previews in between."""
        with closing(run):
            while True:
                try:
                    report = next(run)
                except StopIteration as end:
                    return end.value
                yield report
                if isinstance(report, Progress) and report.stage == TRAINING:
                    preview = self.look(trainer)
                    if preview is not None:
                        yield preview

    def look(self, trainer: Trainer) -> Preview | Notice | None:
        """Return a preview if it is time for one and there is a view, or a notice of a fault that is new."""
        if self._clock() < self._next:
            return None
        begun = self._clock()
        try:
            view = self._view()
            return None if view is None else self._preview(trainer, view)
        except (SwipeError, MemoryError, RuntimeError) as error:
            if not isinstance(error, SwipeError) and not is_out_of_memory(error):
                raise
            return self._notice(str(error))
        finally:
            now = self._clock()
            self._next = now + max(LEAST_SECONDS, REST * (now - begun))

    def _notice(self, fault: str) -> Notice | None:
        if fault == self._fault:
            return None
        self._fault = fault
        return Notice(f"There is no preview ({fault.removesuffix('.')}): the training goes on without it.")

    def _preview(self, trainer: Trainer, view: View) -> Preview:
        config = trainer.config.inference.model_copy(
            update={"overlap": 0.0, "mirrored_axes": (), "confidence": 0.0}
        )
        predictor = trainer.predictor(config)
        prepared = self._prepare(view.image, trainer.config.preprocessing)
        field = finish(predictor.iter_encoded(prepared, view.image.grid, view.grid))
        return Preview(trainer.step, finish(iter_sampled(field, rendering_on(view.grid))))

    def _prepare(self, image: MedicalImage, config: PreprocessingConfig) -> PreparedImage:
        if self._prepared is None or self._prepared[0] is not image or self._prepared[1] != config:
            self._prepared = (image, config, preprocess(image, config))
        return self._prepared[2]
