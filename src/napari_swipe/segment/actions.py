"""From the button Segment to what is seen: jobs one after the other, decisions, and live layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QTimer, Signal

from napari_swipe.layers.data import class_appearance, hide_classes
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.live.layer import LiveLayer
from napari_swipe.live.segmented import SegmentedLayer, SegmentJob, show_something
from napari_swipe.qt.task import TaskBar
from napari_swipe.segment.job import FolderJob, iter_folder, iter_redecide, iter_segment
from napari_swipe.segment.result_actions import Picked
from napari_swipe.segment.result_panel import ResultPanel
from napari_swipe.viewer.state import ViewerState

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels

    from swipe_core.inference.config import InferenceConfig
    from swipe_core.prediction.batch import BatchReport


@dataclass(frozen=True)
class Decision:
    """Settings of `InferenceConfig`, such as a threshold, for one image."""

    layer: Image
    settings: Mapping[str, Any]


class SegmentActions(QObject):
    """Segments layers and folders, decides anew, and keeps the live layers as they should be.

    `picked`: gives the image that is picked and its segmentation, or None.
    """

    segmented = Signal(object)
    """The image layer that has been segmented."""
    changed = Signal()
    """Some image has another segmentation, or its live layer came or went."""

    def __init__(
        self,
        viewer: Viewer,
        state: ViewerState,
        panel: ResultPanel,
        task_bar: TaskBar,
        picked: Callable[[], Picked | None],
    ) -> None:
        super().__init__(panel)
        self._viewer, self._state, self._panel = viewer, state, panel
        self._task_bar, self._picked = task_bar, picked
        self._queue: list[tuple[Image, SegmentJob]] = []
        self._failed: list[str] = []
        self._waiting: Decision | None = None
        panel.decided.connect(self.decide)
        panel.live_requested.connect(self._on_live_requested)
        panel.apart_requested.connect(self.tell_apart)
        panel.visibility_changed.connect(self._on_visibility)
        task_bar.became_busy.connect(self._on_busy)

    # Segment

    def segment(self, jobs: list[tuple[Image, SegmentJob]]) -> None:
        """Segment layers in turn; one that fails does not keep the others."""
        self._queue, self._failed = list(jobs), []
        self._segment_next()

    def _segment_next(self) -> None:
        if not self._queue:
            if len(self._failed) > 1:
                show_warning("These were not segmented: " + ", ".join(self._failed))
            return
        layer, job = self._queue.pop(0)
        task = self._task_bar.run(
            iter_segment(job, self._state.predictors, self._state.wants_apart),
            f"Segmenting {layer.name}",
            lambda segmented: self._on_segmented(layer, segmented),
        )
        if task is not None:
            task.cancelled.connect(self._queue.clear)
            task.failed.connect(lambda reason: self._on_failed(layer))

    def _on_segmented(self, layer: Image, segmented: SegmentedLayer) -> None:
        difference = segmented.job.source.difference(layer)
        if difference is not None:
            show_warning(f"{layer.name} got {difference} while it was segmented: press Segment again.")
        elif layer in self._viewer.layers:
            self._state.keep(layer, segmented)
            if self._state.wants_live or self._state.live(layer) is not None:
                self.show_live(layer, segmented)
            self.segmented.emit(layer)
            self.changed.emit()
            self._say_what_was_found(segmented)
        self._segment_next()

    def _on_failed(self, layer: Image) -> None:
        self._failed.append(layer.name)
        self._segment_next()

    def _say_what_was_found(self, segmented: SegmentedLayer) -> None:
        """Say whether something was found, and go to the slice that shows most where none is in view."""
        if not segmented.coarse.any():
            self._task_bar.say("Done: none of the classes was found in this image.")
            return
        moved = show_something(self._viewer.dims, segmented)
        self._task_bar.say("Done; moved to the slice that shows most." if moved else "Done.")

    def segment_folder(self, job: FolderJob) -> None:
        """Segment all images of a folder into another one."""
        self._task_bar.run(iter_folder(job, self._state.predictors), "Segmenting the folder", self._on_folder)

    def _on_folder(self, report: BatchReport) -> None:
        summary, *unsegmented = report.lines
        self._task_bar.say(summary)
        if unsegmented:
            show_warning("\n".join(report.lines))

    # Decide

    def decide(self, settings: Mapping[str, Any]) -> None:
        """Show the same encoding under another threshold or the like, after what is running."""
        picked = self._picked()
        if picked is not None:
            self._waiting = Decision(picked[0], settings)
            self._decide_next()

    def _decide_next(self) -> None:
        if self._waiting is None or self._task_bar.is_busy:
            return
        decision, self._waiting = self._waiting, None
        layer, segmented = decision.layer, self._state.segmented(decision.layer)
        if segmented is None:
            return
        config = segmented.config.model_copy(update=dict(decision.settings))
        self._redecide(layer, segmented, config, bool(segmented.field.objects))

    def tell_apart(self, wanted: bool) -> None:
        """Show single objects in place of classes, or classes again."""
        picked = self._picked()
        if picked is not None:
            self._state.wants_apart = wanted
            self._redecide(*picked, picked[1].config, wanted)

    def _redecide(
        self, layer: Image, segmented: SegmentedLayer, config: InferenceConfig, tell_apart: bool
    ) -> None:
        work = iter_redecide(segmented, config, tell_apart)
        task = self._task_bar.run(work, "Updating outlines", lambda again: self._on_decided(layer, again))
        if task is not None:
            # The sliders then go back to what is shown.
            task.cancelled.connect(self.changed)
            task.failed.connect(lambda reason: self.changed.emit())

    def _on_decided(self, layer: Image, segmented: SegmentedLayer) -> None:
        self._state.check(layer)
        if self._state.segmented(layer) is None:
            return
        self._state.keep(layer, segmented)
        if self._state.live(layer) is not None:
            self.show_live(layer, segmented)
        self.changed.emit()

    def _on_busy(self, busy: bool) -> None:
        if not busy:
            # Later, because another image of a batch goes first.
            QTimer.singleShot(0, self._decide_next)

    # Live layers

    def show_live(self, layer: Image, segmented: SegmentedLayer) -> None:
        """Bring the live layer of an image up to date, or make it."""
        old, field, plan = self._state.live(layer), segmented.field, segmented.plan
        looks = self._appearance(layer, segmented) | {"name": f"{layer.name} · live"}
        live = LiveLayer.shown(self._viewer, old, field, plan, segmented.coarse, **looks)
        if live is old:
            self._hide_classes(live.layer, layer, segmented)
            live.layer.visible = True
            return
        self._state.show_live(layer, live)
        live.removed.connect(self.changed)

    def _on_live_requested(self, wanted: bool) -> None:
        picked = self._picked()
        if picked is None:
            return
        self._state.wants_live = wanted
        live = self._state.live(picked[0])
        if wanted and live is None:
            self.show_live(*picked)
        elif not wanted and live is not None:
            live.remove()

    def _on_visibility(self) -> None:
        """Hidden classes become transparent in every labels layer of this image."""
        picked = self._picked()
        if picked is None:
            return
        layer, segmented = picked
        self._state.hidden[layer.unique_id] = tuple(self._panel.hidden_classes)
        live = self._state.live(layer)
        shown: list[Labels] = [live.layer] if live else []
        shown += [found for found in self._viewer.layers if metadata_of(found).of_image == layer.unique_id]
        for labels in shown:
            self._hide_classes(labels, layer, segmented)

    def _hide_classes(self, labels: Labels, layer: Image, segmented: SegmentedLayer) -> None:
        hidden = self._state.hidden.get(layer.unique_id, ())
        hide_classes(labels, segmented.job.model.class_colours, hidden)

    def _appearance(self, layer: Image, segmented: SegmentedLayer) -> dict[str, Any]:
        model = segmented.job.model
        if segmented.field.objects:
            return {}  # a colour of napari's own for each
        hidden = self._state.hidden.get(layer.unique_id, ())
        return class_appearance(model.class_names, model.class_colours, hidden)
