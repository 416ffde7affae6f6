"""What the plugin remembers of a viewer, for as long as the viewer lives."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_swipe.layers.watch import LayerWatch
from napari_swipe.live.layer import LiveLayer
from napari_swipe.live.segmented import SegmentedLayer

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image
    from napari.utils.events import Event

    from swipe_core.prediction.predictor import Predictor


LASTING = ("another shape", "other data")  # differences after which a segmentation is of no use any more


class PredictorCache:
    """The model that was used last, so that the next image need not load it again."""

    def __init__(self) -> None:
        self._key: tuple[Path, float, str] | None = None
        self._predictor: Predictor | None = None

    def load(self, path: Path, device: str, settings: Mapping[str, Any] | None = None) -> Predictor:
        """Return a predictor, read again only when its file or the device has changed.

        A `SwipeError` is raised when the file or the device cannot be used, or the model has no such axis.

        `settings`: fields of `InferenceConfig` that are to be other than the model has them.
        """
        from swipe_core.prediction.predictor import Predictor

        key = (path, path.stat().st_mtime if path.is_file() else 0.0, device)
        if self._predictor is None or key != self._key:
            self._predictor = Predictor.load(path, device=device)
            self._key = key
        if not settings:
            return self._predictor
        return self._predictor.with_config(self._predictor.config.model_copy(update=dict(settings)))


@dataclass
class Choices:
    """Choices that were made last in the docks of a viewer; None where nobody made one."""

    model: Path | None = None
    device: str | None = None
    factor: float | None = None
    """Resolution over that of the image."""
    project: Path | None = None
    """The folder of the project in the Train dock."""


class ViewerState:
    """The segmentations of a viewer's layers, and the live layers that show them.

    Docks come and go; this stays, so that a dock that is opened again finds everything as it was.
    """

    changed = Signal(object)
    """The image layer that has another segmentation now, or a live layer."""
    model_added = Signal(object)
    """The path of a checkpoint that was not among `models` before."""

    def __init__(self, viewer: Viewer) -> None:
        self.predictors = PredictorCache()
        self.choices = Choices()
        self.hidden: dict[object, tuple[int, ...]] = {}
        """Labels of the classes that are not shown, by the identity of the image."""
        self.wants_live = True
        """Whether images that are segmented get a live layer."""
        self.wants_apart = True
        """Whether they show single objects, where their model tells them apart."""
        self.models: list[Path] = []
        """Checkpoints that were made in this viewer, or belong to a project that was opened in it."""
        self._segmented: dict[object, SegmentedLayer] = {}
        self._put_away: dict[object, str] = {}
        self._live: dict[object, LiveLayer] = {}
        self._watch = LayerWatch()
        self._watch.changed.connect(self.check)
        self._watch.redrawn.connect(self.check)
        viewer.layers.events.removed.connect(self._forget)

    def add_model(self, path: Path) -> None:
        """Offer one more checkpoint in all docks."""
        if path not in self.models:
            self.models.append(path)
            self.model_added.emit(path)

    def segmented(self, layer: Image | None) -> SegmentedLayer | None:
        """Return the segmentation of an image layer, if it has one that belongs to it as it is now."""
        if layer is None or layer.unique_id in self._put_away:
            return None
        return self._segmented.get(layer.unique_id)

    def why_put_away(self, layer: Image | None) -> str | None:
        """A sentence, where an image has changed since it was segmented."""
        return None if layer is None else self._put_away.get(layer.unique_id)

    def keep(self, layer: Image, segmented: SegmentedLayer) -> None:
        """Remember a segmentation of the layer as it is now."""
        self._segmented[layer.unique_id] = segmented
        self._put_away.pop(layer.unique_id, None)
        self._watch.follow([*(known for known in self._watch.layers if known is not layer), layer])
        self.changed.emit(layer)

    def check(self, layer: Image) -> None:
        """Put a segmentation away that no longer belongs to its image; take it back where it does again.

        It comes back to an image that is put back into its place. With other data it is gone for good.
        """
        segmented, key = self._segmented.get(layer.unique_id), layer.unique_id
        if segmented is None:
            return
        difference = segmented.job.source.difference(layer)
        before = self._put_away.pop(key, None)
        if difference is not None:
            again = f"{layer.name} has {difference} than when it was segmented: press Segment again."
            self._put_away[key] = again
        if self._put_away.get(key) == before:
            return
        live = self._live.get(key)
        if difference in LASTING:
            del self._segmented[key]
            if live is not None:
                live.remove()
        elif live is not None:
            live.layer.visible = difference is None
        self.changed.emit(layer)

    def live(self, layer: Image | None) -> LiveLayer | None:
        """Return the live layer over an image layer, if there is one."""
        return None if layer is None else self._live.get(layer.unique_id)

    def show_live(self, layer: Image, live: LiveLayer) -> None:
        """Remember the live layer of an image, until it is removed."""
        self._live[layer.unique_id] = live
        live.removed.connect(lambda key=layer.unique_id: self._live.pop(key, None))
        live.follow_name(layer)
        self.changed.emit(layer)

    def _forget(self, event: Event) -> None:
        """Let go of what belongs to a removed image; its live layer goes on without it."""
        self._segmented.pop(event.value.unique_id, None)
        self._put_away.pop(event.value.unique_id, None)
        self._watch.follow(layer for layer in self._watch.layers if layer is not event.value)

    def close(self) -> None:
        """The viewer is gone: end what decodes for it."""
        for live in list(self._live.values()):
            live.close()
        self._watch.stop()
        self._live.clear()
        self._segmented.clear()


_states: dict[int, ViewerState] = {}


def unwrapped(viewer: Viewer) -> Viewer:
    """Return the viewer itself behind the proxy that napari hands to docks."""
    return getattr(viewer, "__wrapped__", viewer)


def state_of(viewer: Viewer) -> ViewerState:
    """Return the state of a viewer, made when it is first needed."""
    viewer = unwrapped(viewer)
    key = id(viewer)
    if key not in _states:
        _states[key] = ViewerState(viewer)
        weakref.finalize(viewer, _states.pop, key, None)
    return _states[key]
