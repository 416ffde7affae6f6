"""What the plugin remembers of a viewer, for as long as the viewer lives."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_swipe._live_layer import LiveLayer
from napari_swipe._predictor_cache import PredictorCache
from napari_swipe._segmenting import SegmentedLayer

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image
    from napari.utils.events import Event


class ViewerState:
    """The segmentations of a viewer's layers, and the live layers that show them.

    Docks come and go; this stays, so that a dock that is opened again finds everything as it was.

    Attributes
    ----------
    choices
        The model, the device and the resolution that were used last.
    hidden
        Labels of the classes that are not shown, by the identity of the image.
    wants_live
        Whether images that are segmented get a live layer.
    models
        Checkpoints that were made in this viewer, or belong to a project that was opened in it.
    """

    changed = Signal(object)
    """The image layer that has another segmentation now, or a live layer."""
    model_added = Signal(object)
    """The path of a checkpoint that was not among `models` before."""

    def __init__(self, viewer: Viewer) -> None:
        self.predictors = PredictorCache()
        self.choices: dict[str, object] = {}
        self.hidden: dict[object, tuple[int, ...]] = {}
        self.wants_live = True
        self.models: list[Path] = []
        self._segmented: dict[object, SegmentedLayer] = {}
        self._live: dict[object, LiveLayer] = {}
        viewer.layers.events.removed.connect(self._forget)

    def add_model(self, path: Path) -> None:
        """One more checkpoint for all docks to offer."""
        if path not in self.models:
            self.models.append(path)
            self.model_added.emit(path)

    def segmented(self, layer: Image | None) -> SegmentedLayer | None:
        """The segmentation of an image layer, if it has one."""
        return None if layer is None else self._segmented.get(layer.unique_id)

    def keep(self, layer: Image, segmented: SegmentedLayer) -> None:
        self._segmented[layer.unique_id] = segmented
        self.changed.emit(layer)

    def live(self, layer: Image | None) -> LiveLayer | None:
        """The live layer over an image layer, if there is one."""
        return None if layer is None else self._live.get(layer.unique_id)

    def show_live(self, layer: Image, live: LiveLayer) -> None:
        """Remember the live layer of an image, until it is removed."""
        self._live[layer.unique_id] = live
        live.removed.connect(lambda key=layer.unique_id: self._live.pop(key, None))
        self.changed.emit(layer)

    def _forget(self, event: Event) -> None:
        """Let go of what belongs to a removed image; its live layer goes on without it."""
        self._segmented.pop(event.value.unique_id, None)

    def close(self) -> None:
        """The viewer is gone: end what decodes for it."""
        for live in list(self._live.values()):
            live.close()
        self._live.clear()
        self._segmented.clear()


_states: dict[int, ViewerState] = {}


def unwrapped(viewer: Viewer) -> Viewer:
    """The viewer itself behind the proxy that napari hands to docks; events carry the layers themselves."""
    return getattr(viewer, "__wrapped__", viewer)


def state_of(viewer: Viewer) -> ViewerState:
    """The state of a viewer, made when it is first asked for."""
    viewer = unwrapped(viewer)
    key = id(viewer)
    if key not in _states:
        _states[key] = ViewerState(viewer)
        weakref.finalize(viewer, _states.pop, key, None)
    return _states[key]
