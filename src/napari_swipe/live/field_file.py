"""napari's way to open a field that was kept as a file: as a live layer, without image and model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe._reader import as_list
from napari_swipe.layers.axes import AxisRoles, Role
from napari_swipe.layers.data import class_appearance, image_layer_data, label_layer_data
from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.layer import LiveLayer
from napari_swipe.live.levels import plan_levels

if TYPE_CHECKING:
    from swipe_core.inference.field import OccupancyField

SUFFIX = ".swipe"
COARSE_VOXELS = 2**17  # of the first picture, for which the window waits

_OPEN = set[LiveLayer]()  # nobody else holds them


def field_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """Return the function that opens this path, or these, or None where one of them is no field."""
    return read_fields if all(name.lower().endswith(SUFFIX) for name in as_list(path)) else None


def read_fields(path: str | list[str]) -> list[Any]:
    """Show each field as a live layer of the present viewer; without one, return labels.

    An `ImageError` is raised when a file is damaged, or of another kind.
    """
    import napari

    from swipe_core.inference.field_file import open_field

    viewer, layers = napari.current_viewer(), list[Any]()
    for saved in map(open_field, as_list(path)):
        if viewer is None:
            labels = saved.field.render()
            data = label_layer_data(labels, saved.title, saved.field.class_names, saved.class_colours)
            layers.append(data)
            continue
        field = LayerField({(): saved.field}, _source(saved.field))
        plan = plan_levels(field.image_grid, COARSE_VOXELS)
        coarse = field.stacked([saved.field.render(plan.base).array])
        looks = class_appearance(saved.field.class_names, saved.class_colours)
        live = LiveLayer(viewer, field, plan, coarse, name=f"{saved.title} · live", **looks)
        viewer.layers.selection.active = live.layer
        _OPEN.add(live)
        live.removed.connect(lambda live=live: _OPEN.discard(live))
    return layers or [(None,)]  # npe2's word for: done, and there is nothing to add


def _source(field: OccupancyField) -> LayerSource:
    """A source of the field's shape and place, as if the image were there."""
    from napari.layers import Image

    from swipe_core.images import MedicalImage

    grid = field.image_grid
    nothing = np.broadcast_to(np.uint8(0), (*grid.shape, 1))
    data, arguments, _ = image_layer_data(MedicalImage(nothing, grid.affine, field.unit, space=field.space))
    space: Role = "space"
    return LayerSource.from_layer(Image(data, **arguments), AxisRoles((space,) * grid.ndim))
