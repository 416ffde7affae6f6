"""Which slice of a viewer shows a segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari.components import Dims

    from napari_swipe.live.segmented import SegmentedLayer


def show_something(dims: Dims, segmented: SegmentedLayer) -> bool:
    """Move the sliders to the slice with most of the classes where the present one has none.

    Whether they were moved. Turned layers are left alone: their slices are not those of the array.
    """
    axes = segmented.field.axes
    offset = dims.ndim - axes.ndim
    sliced = [axis - offset for axis in dims.not_displayed if axis >= offset]
    matrix = axes.matrix(segmented.plan.base)
    if not sliced or not np.allclose(matrix[:-1, :-1], np.diag(np.diag(matrix[:-1, :-1]))):
        return False
    displayed = tuple(axis for axis in range(axes.ndim) if axis not in sliced)
    areas = np.count_nonzero(segmented.coarse, axis=displayed)
    steps, origin = np.diag(matrix)[:-1], matrix[:-1, -1]
    now = [round((dims.point[axis + offset] - origin[axis]) / steps[axis]) for axis in sliced]
    inside = tuple(int(np.clip(index, 0, n - 1)) for index, n in zip(now, areas.shape, strict=True))
    if areas[inside]:
        return False
    best = np.unravel_index(int(areas.argmax()), areas.shape)
    for axis, index in zip(sliced, best, strict=True):
        dims.set_point(axis + offset, origin[axis] + index * steps[axis])
    return True
