"""The selection of the layer list, which layers that come and go by themselves leave as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari import Viewer


@contextmanager
def kept_selection(viewer: Viewer) -> Iterator[None]:
    """Add or remove layers without another one becoming active: who paints goes on painting.

    Meanwhile napari shows no values under the mouse. It would take them of each layer that becomes active
    on the way, and napari 0.9 fails at labels with features where the mouse rests on a canvas that was
    switched to 3D: adding the layer would end in an exception.
    """
    layers, is_over = viewer.layers, viewer.mouse_over_canvas
    selected, active = set(layers.selection), layers.selection.active
    viewer.mouse_over_canvas = False
    try:
        yield
        if active in layers:
            layers.selection.active = active
        elif active is None:
            layers.selection = selected & set(layers)
    finally:
        viewer.mouse_over_canvas = is_over
