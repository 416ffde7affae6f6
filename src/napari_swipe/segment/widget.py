"""Plugins > SwIPE Segment > Segment: pick a model and an image, segment, look at any resolution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QMainWindow, QPushButton, QWidget

from napari_swipe._settings import read_preferences
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.live.segmented import SegmentedLayer, SegmentJob
from napari_swipe.qt.layouts import spacing_text
from napari_swipe.qt.number_box import DEVICES, device_box
from napari_swipe.qt.task import TaskBar
from napari_swipe.segment.actions import SegmentActions
from napari_swipe.segment.image_picker import ImagePicker
from napari_swipe.segment.job import FolderJob, FolderPanel
from napari_swipe.segment.model_picker import ModelPicker
from napari_swipe.segment.other_layers import OtherLayers
from napari_swipe.segment.result_actions import Picked, ResultActions
from napari_swipe.segment.result_panel import ResultPanel
from napari_swipe.segment.setting_controls import AdvancedPanel
from napari_swipe.viewer.dock import SEGMENTING, Dock, heading
from swipe_core.checkpoints.header import unsuitable
from swipe_core.errors import ImageError, SwipeError

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image


class SegmentWidget(Dock):
    """The dock that a user meets first.

    `napari_viewer`: napari fills it in by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._seen_image: Image | None = None
        self._put_away: str | None = None  # why the result of the picked image is not shown
        preferences = read_preferences()
        self.models = ModelPicker(preferences.model_folder)
        self.images = ImagePicker(self._viewer)
        self.device = device_box(preferences.device)
        self.segment_button = QPushButton("Segment")
        self.segment_button.setToolTip("Encode the image once; everything below is then a matter of looking.")
        self.task_bar = TaskBar()
        self.result = ResultPanel()
        self.advanced = AdvancedPanel()
        self.folder = FolderPanel()
        self.outputs = ResultActions(self._viewer, self.result, self.task_bar, self._picked)
        self.others = OtherLayers(self._viewer, self._state, self.result, self.outputs)
        self.segmenting = SegmentActions(self._viewer, self._state, self.result, self.task_bar, self._picked)
        self._lay_out()
        self._connect()
        self._recall()
        self._on_model()
        self._on_image()
        # A first segmentation would wait for torch; it loads while the user looks around.
        QTimer.singleShot(0, self._settle_in)

    # Building

    def _lay_out(self) -> None:
        self.images.add_row("Device", self.device)
        sections: list[QWidget] = [
            *(heading("Model"), self.models),
            *(heading("Image"), self.images),
            *(self.segment_button, self.task_bar),
            *(heading("Result"), self.result, self.advanced),
            *(heading("Many images"), self.folder),
        ]
        self.lay_out(sections)

    def _connect(self) -> None:
        self.segment_button.clicked.connect(self.segment)
        self.models.changed.connect(self._on_model)
        self.models.refused.connect(show_error)
        self.images.changed.connect(self._on_image)
        self.task_bar.became_busy.connect(self._on_busy)
        self.folder.wanted.connect(self.segment_folder)
        self.segmenting.segmented.connect(self.images.pick)
        self.segmenting.changed.connect(self._on_image)
        for path in self._state.models:
            self.models.offer(path)
        self._state.model_added.connect(self.models.offer)
        self._state.changed.connect(self._on_state)

    def let_go(self) -> None:
        """End the work, and leave nothing behind. What is in the viewer stays."""
        self._remember()
        self.task_bar.abandon()
        self.images.disconnect_viewer()
        self._state.model_added.disconnect(self.models.offer)
        self._state.changed.disconnect(self._on_state)

    def _recall(self) -> None:
        """Set the controls as they were when a dock of this viewer was last used."""
        choices = self._state.choices
        if choices.model is not None:
            self.models.open_file(choices.model)
        if choices.device is not None:
            self.device.setCurrentIndex(list(DEVICES).index(choices.device))
        if choices.factor is not None:
            self.result.set_factor(choices.factor)

    def _remember(self) -> None:
        if self.models.model is not None:
            self._state.choices.model = self.models.model.path
        self._state.choices.device = self.device.currentData()
        self._state.choices.factor = self.result.factor

    def _settle_in(self) -> None:
        """Do what waits until the dock has its place in the window."""
        window = self.window()
        if isinstance(window, QMainWindow):
            # A window that is closed keeps its layers; what decodes for them must end with it.
            window.destroyed.connect(self._state.close)
        self.preload(SEGMENTING)

    # Segmenting

    def segment(self) -> None:
        """Segment the picked layer, or all selected ones, in a thread."""
        if self.task_bar.is_busy:
            return
        try:
            jobs = self._jobs()
        except SwipeError as error:
            show_error(str(error))
            return
        self._remember()
        self.segmenting.segment(jobs)

    def _jobs(self) -> list[tuple[Image, SegmentJob]]:
        """Return what to segment.

        A `SwipeError` is raised when there is no image or model, or they do not go together.
        """
        model = self.models.model
        if model is None:
            raise ImageError("Pick a model first: open a checkpoint file with Open…")
        if not self.images.layers:
            raise ImageError("Open an image first: File > Open, or File > Open Sample > SwIPE Segment.")
        jobs = []
        for layer in self.images.layers:
            source = self.images.source(layer).sealed()
            source.check(model.ndim)
            reason = unsuitable(model, len(source.axes.space), source.channel_kinds)
            if reason is not None:
                choice = " Choose them under Channel." if source.channel_kinds.count >= model.channels else ""
                raise ImageError(f"{layer.name}: {reason}{choice}")
            if model.needs_size and source.unit == "pixel":
                raise ImageError(
                    f"{layer.name} is in pixels, and {model.name} works at a spacing of "
                    f"{spacing_text(model)}: set the spacing of the layer and its unit under Spacing."
                )
            jobs.append((layer, SegmentJob(source, model, self.device.currentData(), self.advanced.changes)))
        return jobs

    def segment_folder(self, images: str, labels: str) -> None:
        """Segment all images of a folder into another one; the sliders count once they can be set."""
        model = self.models.model
        if model is None or not images.strip() or not labels.strip():
            show_error("Pick a model, a folder of images, and a folder for their labels.")
            return
        is_set = self.result.isEnabled()
        job = FolderJob(
            images=Path(images.strip()).expanduser(),
            labels=Path(labels.strip()).expanduser(),
            model=model,
            device=self.device.currentData(),
            settings=self.advanced.changes | (self.result.decision if is_set else {}),
            factor=self.result.factor if is_set else 1.0,
        )
        self.segmenting.segment_folder(job)

    # What is shown

    @property
    def _current(self) -> SegmentedLayer | None:
        """The segmentation of the picked image, as long as it belongs to it."""
        return self._state.segmented(self.images.layer)

    def _picked(self) -> Picked | None:
        """The image that is picked, with its segmentation."""
        layer = self.images.layer
        if layer is not None:
            self._state.check(layer)
        segmented = self._current
        return None if layer is None or segmented is None else (layer, segmented)

    def _on_state(self, layer: Image) -> None:
        if layer is self.images.layer:
            self._on_image()

    def _on_model(self) -> None:
        model = self.models.model
        self.images.set_model(model)
        if model is not None:
            self.advanced.show_model(model.inference, model.ndim)

    def _on_image(self) -> None:
        layer = self.images.layer
        if layer is not None and layer is not self._seen_image:
            self._pick_suitable_model(layer)
        self._seen_image = layer
        self.images.set_model(self.models.model)
        current = self._current
        reason, before = self._state.why_put_away(layer), self._put_away
        self._put_away = reason
        if reason is not None:
            self.task_bar.say(reason)
        elif before is not None and not self.task_bar.is_busy:
            self.task_bar.say("")
        hidden = self._state.hidden.get(layer.unique_id, ()) if layer is not None else ()
        self.result.show_result(current, hidden)
        has_live = self._state.live(layer) is not None
        self.result.show_live(has_live if current is not None else self._state.wants_live)

    def _pick_suitable_model(self, layer: Image) -> None:
        """Pick a model for an image that is new here: the one its sample names, else one that can take it."""
        segmented, named = self._current, metadata_of(layer).model
        if segmented is not None:
            self.models.pick(str(segmented.job.model.path))
            return
        if isinstance(named, str) and self.models.pick(named):
            return
        picked = self.models.model
        if picked is None:
            return
        is_unlike = picked.channel_kinds.is_colour != layer.rgb and not self.models.is_chosen
        fitting = [model for model in self.models.models if model.ndim <= layer.ndim]
        if fitting and (picked.ndim > layer.ndim or is_unlike):
            # Colour for colour and grey for grey, where there is a choice.
            self.models.pick(str(min(fitting, key=lambda m: m.channel_kinds.is_colour != layer.rgb).path))

    def _on_busy(self, busy: bool) -> None:
        self.segment_button.setEnabled(not busy)
        self.folder.button.setEnabled(not busy)
        self.result.set_busy(busy)
