"""Plugins > SwIPE Segment > Segment: pick a model and an image, segment, look at any resolution."""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_swipe._folder_panel import FolderJob, FolderPanel, FolderResult, iter_folder
from napari_swipe._image_picker import ImagePicker
from napari_swipe._layers import class_appearance
from napari_swipe._live_layer import LiveLayer
from napari_swipe._model_picker import ModelPicker
from napari_swipe._result_actions import OF_IMAGE, Picked, ResultActions
from napari_swipe._result_panel import ResultPanel
from napari_swipe._segmenting import SegmentedLayer, SegmentJob, iter_redecide, iter_segment
from napari_swipe._settings import read_preferences
from napari_swipe._slices import show_something
from napari_swipe._state import state_of, unwrapped
from napari_swipe._task import Task
from napari_swipe._task_bar import TaskBar
from swipe_core.description import unsuitable
from swipe_core.errors import ImageError, SwipeError

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels

DEVICES = {"auto": "Automatic", "cpu": "CPU", "cuda": "NVIDIA GPU (CUDA)", "mps": "Apple GPU (MPS)"}
PRELOADED = (
    "torch",
    "safetensors.torch",
    "skimage.transform",
    "swipe_core.predictor",
    "swipe_core.inference.estimate",
)


class SegmentWidget(QScrollArea):
    """The dock that a user meets first.

    Parameters
    ----------
    napari_viewer
        napari fills it in by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._state = state_of(self._viewer)
        self._queue: list[tuple[Image, SegmentJob]] = []
        self._pending_decision: tuple[float, float] | None = None
        self._seen_image: Image | None = None
        self._preloading: Task | None = None
        preferences = read_preferences()
        self.models = ModelPicker(preferences.model_folder)
        self.images = ImagePicker(self._viewer)
        self.device = QComboBox()
        for name, text in DEVICES.items():
            self.device.addItem(text, name)
        self.device.setCurrentIndex(list(DEVICES).index(preferences.device))
        self.device.setToolTip("What computes. Automatic takes a GPU where there is one.")
        self.segment_button = QPushButton("Segment")
        self.segment_button.setToolTip("Encode the image once; everything below is then a matter of looking.")
        self.task_bar = TaskBar()
        self.result = ResultPanel()
        self.folder = FolderPanel()
        self.outputs = ResultActions(self._viewer, self.result, self.task_bar, self._picked)
        self._lay_out()
        self._connect()
        self._recall()
        self._on_image()
        # A first segmentation would wait for torch; it loads while the user looks around.
        QTimer.singleShot(0, self._preload)

    # Building

    def _lay_out(self) -> None:
        inner = QWidget()
        layout = QVBoxLayout(inner)
        self.images.add_row("Device", self.device)
        sections: list[QWidget] = [
            *(_heading("Model"), self.models),
            *(_heading("Image"), self.images),
            *(self.segment_button, self.task_bar),
            *(_heading("Result"), self.result),
            *(_heading("Many images"), self.folder),
        ]
        for section in sections:
            layout.addWidget(section)
        layout.addStretch(1)
        self.setWidget(inner)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        inner.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Keep the dock wide enough for what is in it, now that the picked image has other controls."""
        if event.type() == QEvent.Type.LayoutRequest and isinstance(watched, QWidget):
            bar = self.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(watched.minimumSizeHint().width() + bar)
        return bool(super().eventFilter(watched, event))

    def _connect(self) -> None:
        self.segment_button.clicked.connect(self.segment)
        self.models.changed.connect(self._on_model)
        self.models.refused.connect(show_error)
        self.images.changed.connect(self._on_image)
        self.task_bar.became_busy.connect(self._on_busy)
        self.folder.wanted.connect(self.segment_folder)
        result = self.result
        result.live_wanted.connect(self._on_live_wanted)
        result.decided.connect(self._on_decided)
        result.visibility_changed.connect(self._on_visibility)
        # The dock may be closed at any time: then nothing of it may stay behind.
        images, task_bar = self.images, self.task_bar
        self.destroyed.connect(lambda: images.disconnect_viewer())
        self.destroyed.connect(lambda: task_bar.abandon())

    def _recall(self) -> None:
        """Set the controls as they were when a dock of this viewer was last used."""
        choices = self._state.choices
        if isinstance(model := choices.get("model"), str):
            self.models.open_file(Path(model))
        if isinstance(device := choices.get("device"), str):
            self.device.setCurrentIndex(list(DEVICES).index(device))

    def _remember(self) -> None:
        if self.models.model is not None:
            self._state.choices["model"] = str(self.models.model.path)
        self._state.choices["device"] = self.device.currentData()

    def _preload(self) -> None:
        self._preloading = Task(_iter_preload())
        self._preloading.start()

    @property
    def is_preloading(self) -> bool:
        return self._preloading is None or self._preloading.is_running

    # Segmenting

    def segment(self) -> None:
        """Segment the picked layer, or all selected ones, in a thread."""
        if self.task_bar.is_busy:
            return
        try:
            self._queue = self._jobs()
        except SwipeError as error:
            show_error(str(error))
            return
        self._remember()
        self._segment_next()

    def _jobs(self) -> list[tuple[Image, SegmentJob]]:
        """What there is to do.

        Raises
        ------
        SwipeError
            When there is no image or model, or they do not go together.
        """
        model = self.models.model
        if model is None:
            raise ImageError("Pick a model first: open a checkpoint file with Open…")
        if not self.images.layers:
            raise ImageError("Open an image first: File > Open, or File > Open Sample > SwIPE Segment.")
        jobs = []
        for layer in self.images.layers:
            source = self.images.source(layer)
            source.axes.check(model.ndim, layer.name)
            reason = unsuitable(model, len(source.axes.space), source.channels)
            if reason is not None:
                raise ImageError(f"{layer.name}: {reason}")
            jobs.append((layer, SegmentJob(source, model, self.device.currentData())))
        return jobs

    def segment_folder(self, images: str, labels: str) -> None:
        """Segment all images of a folder into another one, with the settings of the dock."""
        model = self.models.model
        if model is None or not images.strip() or not labels.strip():
            show_error("Pick a model, a folder of images, and a folder for their labels.")
            return
        job = FolderJob(
            images=Path(images.strip()).expanduser(),
            labels=Path(labels.strip()).expanduser(),
            model=model,
            device=self.device.currentData(),
            settings={"threshold": self.result.threshold, "smoothing": self.result.smoothing},
            factor=self.result.factor,
        )
        self.outputs.run(iter_folder(job, self._state.predictors), "Segmenting the folder", self._on_folder)

    def _on_folder(self, result: FolderResult) -> None:
        count = len(result.written) + len(result.failures)
        self.task_bar.say(f"{len(result.written)} of {count} images are segmented.")
        if result.failures:
            show_warning(f"{len(result.failures)} of {count} images failed:\n" + "\n".join(result.failures))

    def _segment_next(self) -> None:
        if not self._queue:
            return
        layer, job = self._queue.pop(0)
        task = self.outputs.run(
            iter_segment(job, self._state.predictors),
            f"Segmenting {layer.name}",
            lambda segmented: self._on_segmented(layer, segmented),
        )
        if task is not None:
            task.cancelled.connect(self._queue.clear)

    def _on_segmented(self, layer: Image, segmented: SegmentedLayer) -> None:
        if layer in self._viewer.layers:
            self._state.keep(layer, segmented)
            self._show_live(layer, segmented)
            self.images.pick(layer)
            self._on_image()
            self._say_what_was_found(segmented)
        self._segment_next()

    def _say_what_was_found(self, segmented: SegmentedLayer) -> None:
        """In words; and where nothing of it is in view, go to the slice that shows most."""
        if not segmented.coarse.any():
            self.task_bar.say("Done: none of the classes was found in this image.")
            return
        moved = show_something(self._viewer.dims, segmented)
        self.task_bar.say("Done; moved to the slice that shows most." if moved else "Done.")

    def _on_decided(self, threshold: float, smoothing: float) -> None:
        """Show the same encoding under another threshold or smoothing."""
        picked = self._picked()
        if picked is None:
            return
        if self.task_bar.is_busy:
            self._pending_decision = (threshold, smoothing)
            return
        layer, segmented = picked
        config = segmented.config.model_copy(update={"threshold": threshold, "smoothing": smoothing})
        work = iter_redecide(segmented, config)
        self.outputs.run(work, "Deciding anew", lambda again: self._on_redecided(layer, again))

    def _on_redecided(self, layer: Image, segmented: SegmentedLayer) -> None:
        if layer not in self._viewer.layers:
            return
        self._state.keep(layer, segmented)
        live = self._state.live(layer)
        if live is not None:
            live.replace(segmented.field, segmented.coarse)
        self._on_image()

    # The live layer

    def _show_live(self, layer: Image, segmented: SegmentedLayer) -> None:
        old = self._state.live(layer)
        if old is not None and old.can_show(segmented.field, segmented.plan):
            old.replace(segmented.field, segmented.coarse)
            old.layer.colormap = self._class_appearance(segmented)["colormap"]
            return
        if old is not None:
            self._viewer.layers.remove(old.layer)
        if not self.result.live.isChecked():
            return
        live = LiveLayer(
            self._viewer,
            segmented.field,
            segmented.plan,
            segmented.coarse,
            name=f"{layer.name} · live",
            **self._class_appearance(segmented),
        )
        self._state.show_live(layer, live)
        self._viewer.layers.selection.active = layer

    def _on_live_wanted(self, wanted: bool) -> None:
        picked, live = self._picked(), self._state.live(self.images.layer)
        if wanted and live is None and picked is not None:
            self._show_live(*picked)
        elif not wanted and live is not None:
            self._viewer.layers.remove(live.layer)

    def _on_visibility(self) -> None:
        """Hidden classes become transparent in every layer of this image."""
        picked = self._picked()
        if picked is None:
            return
        layer, segmented = picked
        colormap = self._class_appearance(segmented)["colormap"]
        live = self._state.live(layer)
        shown: list[Labels] = [live.layer] if live else []
        shown += [found for found in self._viewer.layers if found.metadata.get(OF_IMAGE) == layer.unique_id]
        for labels in shown:
            labels.colormap = colormap

    def _class_appearance(self, segmented: SegmentedLayer) -> dict[str, Any]:
        model = segmented.job.model
        return class_appearance(model.class_names, model.class_colours, self.result.hidden_classes)

    # What is shown

    @property
    def _current(self) -> SegmentedLayer | None:
        return self._state.segmented(self.images.layer)

    def _picked(self) -> Picked | None:
        """The image that is picked, with its segmentation."""
        layer, segmented = self.images.layer, self._current
        return None if layer is None or segmented is None else (layer, segmented)

    def _on_model(self) -> None:
        self.images.set_model(self.models.model)

    def _on_image(self) -> None:
        layer = self.images.layer
        if layer is not None and layer is not self._seen_image:
            self._pick_suitable_model(layer)
        self._seen_image = layer
        self.images.set_model(self.models.model)
        self.result.show_result(self._current)

    def _pick_suitable_model(self, layer: Image) -> None:
        """A model for an image that is new here: as a sample asks for, else one that can take it."""
        segmented, wanted = self._current, layer.metadata.get("swipe_model")
        if segmented is not None:
            self.models.pick(str(segmented.job.model.path))
            return
        if isinstance(wanted, str) and self.models.pick(wanted):
            return
        picked = self.models.model
        if picked is not None and picked.ndim > layer.ndim:
            fitting = [model for model in self.models.models if model.ndim <= layer.ndim]
            if fitting:
                self.models.pick(str(fitting[0].path))

    def _on_busy(self, busy: bool) -> None:
        self.segment_button.setEnabled(not busy)
        self.folder.button.setEnabled(not busy)
        self.result.setEnabled(not busy and self._current is not None)
        if not busy and self._pending_decision is not None:
            decision, self._pending_decision = self._pending_decision, None
            QTimer.singleShot(0, lambda: self._on_decided(*decision))


def _heading(text: str) -> QLabel:
    label = QLabel(f"<b>{text}</b>")
    label.setContentsMargins(0, 8, 0, 0)
    return label


def _iter_preload() -> Generator[None, None, None]:
    # Each brings its own libraries; between them the window has its turn.
    for name in PRELOADED:
        import_module(name)
        yield
