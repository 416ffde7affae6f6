"""The live layer: a `LabelPyramid` in a viewer, from its first picture until it is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Qt, Signal

from napari_swipe.layers.choice import kept_selection
from napari_swipe.layers.geometry import layer_matrix
from napari_swipe.layers.metadata import LayerMetadata
from napari_swipe.live.levels import LevelPlan
from napari_swipe.live.pyramid import LabelPyramid

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels
    from napari.utils.events import Event

    from napari_swipe.layers.field import LayerField

SLIDER_STEPS = 8  # between two voxels of the image


class LiveLayer(QObject):
    """A labels layer that is decoded at the zoom of the screen.

    It belongs to the viewer, not to the dock that made it: it goes on when the dock is closed, and ends
    with its layer or its viewer.

    `coarse`: what is shown on `plan.base` over the axes of the labels: the first picture.
    `arguments`: further arguments of the layer, such as its name and colours.
    """

    decoded = Signal()
    removed = Signal()

    def __init__(
        self, viewer: Viewer, field: LayerField, plan: LevelPlan, coarse: np.ndarray, **arguments: Any
    ) -> None:
        super().__init__()
        self._reported: Exception | None = None
        self._image: Image | None = None
        self._name = ""
        self._viewer = viewer
        self._spacing = field.image_grid.spacing
        # Queued, because it is emitted in the pyramid's thread.
        self.decoded.connect(self._show, Qt.ConnectionType.QueuedConnection)
        self.pyramid = LabelPyramid(field, plan, coarse, self.decoded.emit, self._positions)
        self._layer: Labels | None = None  # napari reads the levels before it has a layer to give
        with kept_selection(viewer):
            self._layer = viewer.add_labels(
                self.pyramid.levels,
                multiscale=True,
                metadata=LayerMetadata(
                    space=field.source.space, base_level=self._image_level(field, plan)
                ).entries,
                **(field.axes.arguments(plan.finest) | arguments),
            )
        viewer.layers.events.removed.connect(self._on_removed)
        # Whatever changes the extent of any layer makes napari take the finest level's step again.
        viewer.dims.events.range.connect(self._set_slider_steps)
        self._set_slider_steps()

    @classmethod
    def shown(
        cls,
        viewer: Viewer,
        old: LiveLayer | None,
        field: LayerField,
        plan: LevelPlan,
        coarse: np.ndarray,
        **arguments: Any,
    ) -> LiveLayer:
        """Return the layer that shows a field: the old one, brought up to date, or another in its place."""
        if old is not None and old.can_show(field, plan):
            old.replace(field, coarse)
            return old
        if old is not None:
            old.remove()
        return cls(viewer, field, plan, coarse, **arguments)

    @property
    def layer(self) -> Labels:
        return self._layer

    @staticmethod
    def _image_level(field: LayerField, plan: LevelPlan) -> int:
        """The level that is nearest to the image's own resolution: what saving writes."""
        target = field.image_grid.voxels
        voxels = [plan.base.voxels * 2.0 ** (plan.base.ndim * up) for up in range(plan.doublings + 1)]
        up = int(np.argmin(np.abs(np.log(np.asarray(voxels) / target))))
        return plan.doublings - up

    def can_show(self, field: LayerField, plan: LevelPlan) -> bool:
        """Whether another field shows the same kind on the same lattices, so that the layer can stay."""
        old, new = self.pyramid.axes.source, field.source
        return (
            plan == self.pyramid.plan
            and bool(field.objects) == bool(self.pyramid.field.objects)
            and field.class_names == self.pyramid.field.class_names
            and np.array_equal(new.matrix, old.matrix)
            and (new.axes, new.units, new.frame_shape) == (old.axes, old.units, old.frame_shape)
        )

    def replace(self, field: LayerField, coarse: np.ndarray) -> None:
        """Show the same source with other settings."""
        self.pyramid.replace(field, coarse)
        self.layer.data = self.pyramid.levels  # napari keeps a copy of a 2D layer's coarsest level

    def follow_name(self, image: Image) -> None:
        """Name the layer after an image, until somebody gives it a name of its own."""
        self._image, self._name = image, self.layer.name
        image.events.name.connect(self._on_name)

    def _on_name(self, event: Event) -> None:
        if self.layer.name == self._name:
            self.layer.name = f"{event.source.name} · live"
            self._name = self.layer.name

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.layer in self._viewer.layers:
            with kept_selection(self._viewer):
                self._viewer.layers.remove(self.layer)

    def close(self) -> None:
        """Let go of the viewer; the layer stays if it is still there, and shows what it has."""
        if self.pyramid.is_closed:
            return
        self.pyramid.close()
        if self._image is not None:
            self._image.events.name.disconnect(self._on_name)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.range.disconnect(self._set_slider_steps)

    def _show(self) -> None:
        if self.pyramid.failure is not None:
            # Not drawn again: napari would only ask for the same once more.
            if self.pyramid.failure is not self._reported:
                self._reported = self.pyramid.failure
                show_warning(
                    f"The live layer cannot be made sharper ({self._reported}): segment the image again."
                )
            return
        self.layer.refresh(extent=False, thumbnail=False)

    def _on_removed(self, event: Event) -> None:
        if event.value is self.layer:
            self.close()
            self.removed.emit()

    def _positions(self) -> list[float | None]:
        """Return where the viewer slices each axis of the layer, in indices of the finest level."""
        ndim = self.pyramid.axes.ndim
        if self._layer is None:
            return [None] * ndim
        dims = self._viewer.dims
        offset = dims.ndim - ndim
        sliced = [axis - offset for axis in dims.not_displayed if axis >= offset]
        to_world = layer_matrix(self.layer)
        point = np.asarray(dims.point)[offset:]
        # As napari slices: the axes that are not displayed, by themselves.
        part = np.ix_(sliced, sliced)
        inner = np.linalg.solve(to_world[part], point[sliced] - to_world[sliced, -1])
        positions: list[float | None] = [None] * ndim
        for axis, position in zip(sliced, inner, strict=True):
            positions[axis] = float(position)
        return positions

    def _set_slider_steps(self, event: Event | None = None) -> None:
        """Sliders go in fractions of the image's voxels, and not in the finest level's."""
        dims = self._viewer.dims
        offset = dims.ndim - self.layer.ndim
        if offset < 0 or self.layer not in self._viewer.layers:
            return
        point, ranges = dims.point, list(dims.range)
        for axis, spacing in zip(self.pyramid.axes.space, self._spacing, strict=True):
            start, stop, step = ranges[axis + offset]
            finest = spacing / SLIDER_STEPS
            # Only the finest level's own step is too small; that of another layer may be meant so.
            if step < finest and np.isclose(step, self.layer.scale[axis], rtol=1e-3):
                ranges[axis + offset] = (start, stop, finest)
        if ranges == list(dims.range):
            return
        dims.range = ranges
        dims.point = point  # the sliders, with fewer steps now, pushed it to their ends
