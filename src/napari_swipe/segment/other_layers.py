"""What a segmentation and another layer give together: labels on its grid, and distances to its boundary."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QMenu

from napari_swipe.layers.axes import guess_roles
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.layers.source import LayerSource
from napari_swipe.segment import boundary_outputs, outputs
from napari_swipe.segment.result_actions import ResultActions
from swipe_core.errors import ImageError, SwipeError
from swipe_core.images.channels import Channels

if TYPE_CHECKING:
    from napari import Viewer

    from napari_swipe.layers.field import LayerField
    from napari_swipe.segment.result_panel import ResultPanel
    from napari_swipe.viewer.state import ViewerState
    from swipe_core.images import LabelMap

FINER = 2  # times as fine as its image is a segmentation sampled to which distances are measured


class OtherLayers(QObject):
    """Offers the other layers of a viewer in two menus, and makes what is chosen there.

    `panel`: whose menus these are.
    `actions`: makes layers of the segmentation that is picked.
    """

    def __init__(
        self, viewer: Viewer, state: ViewerState, panel: ResultPanel, actions: ResultActions
    ) -> None:
        super().__init__(panel)
        self._viewer, self._state, self._actions = viewer, state, actions
        for menu, act in ((panel.grid_menu, self.match_grid), (panel.distance_menu, self.show_distances)):
            menu.aboutToShow.connect(lambda menu=menu, act=act: self._fill(menu, act))

    def match_grid(self, other: Layer) -> None:
        """Add labels on the grid of another layer."""
        self._make(
            lambda field, grid, look: outputs.iter_matched(field, _source(other, grid.ndim), look),
            f"labels on the grid of {other.name}",
            self._actions.add_labels,
        )

    def show_distances(self, other: Layer) -> None:
        """Add the boundary in colours for how far it is from that of labels or of another segmentation."""
        self._make(
            lambda field, grid, look: boundary_outputs.iter_distances(
                field, grid, look, lambda: self._iter_labels(other, field)
            ),
            f"distance to {other.name}",
            self._actions.add_along_boundary,
        )

    def _make(self, making: Callable[..., Any], what: str, on_done: Callable[..., object]) -> None:
        try:
            self._actions.make(making, what, on_done)
        except SwipeError as error:
            show_error(str(error))

    def _iter_labels(self, other: Layer, field: LayerField) -> Generator[Any, None, LabelMap]:
        """The labels of a layer, or those that its segmentation gives, in the unit of a field."""
        from swipe_core.coordinates import Affine
        from swipe_core.images import LabelMap
        from swipe_core.images.units import conversion

        segmented = self._state.segmented(other) if isinstance(other, Image) else None
        if segmented is not None:
            only = outputs.only_field(segmented.field)
            labels: LabelMap = yield from only.iter_render(only.image_grid.scaled(FINER))
        else:
            image = _source(other, field.image_grid.ndim).image()
            labels = LabelMap(image.array[..., 0].astype(np.int64), image.affine, image.unit)
        if labels.ndim != field.image_grid.ndim:
            raise ImageError(f"{other.name} has {labels.ndim} axes of space: compare volumes with volumes.")
        factor = conversion(labels.unit, field.first.unit)
        return replace(labels, affine=Affine.from_spacing([factor] * labels.ndim) @ labels.affine)

    def _fill(self, menu: QMenu, act: Callable[[Layer], None]) -> None:
        """List the layers that an action can be about."""
        menu.clear()
        image = self._actions.image
        for layer in self._viewer.layers:
            is_raster = isinstance(layer, Labels) or (isinstance(layer, Image) and act == self.match_grid)
            is_segmented = isinstance(layer, Image) and self._state.segmented(layer) is not None
            if layer is not image and metadata_of(layer).base_level is None and (is_raster or is_segmented):
                menu.addAction(layer.name, lambda layer=layer: act(layer))
        if menu.isEmpty():
            menu.addAction("no other layer").setEnabled(False)


def _source(layer: Image | Labels, ndim: int) -> LayerSource:
    """A layer as one image of so many axes; an `ImageError` is raised when it is not one."""
    data, rgb = (layer.data[0] if layer.multiscale else layer.data), bool(getattr(layer, "rgb", False))
    shape = data.shape[:-1] if rgb else data.shape
    source = LayerSource.from_layer(layer, guess_roles(shape, layer.axis_labels, rgb, ndim, Channels(1)))
    if len(source.axes.space) != ndim or len(source.frames) > 1:
        raise ImageError(
            f"{layer.name} is not one {'volume' if ndim == 3 else 'image'}: pick a layer that has "
            f"{ndim} axes of space and no others."
        )
    return source
