"""`SegmentedLayer`: what segmenting a layer leaves, from which all is shown, measured and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.levels import LevelPlan

if TYPE_CHECKING:
    from napari.components import Dims

    from swipe_core.checkpoints.header import ModelDescription
    from swipe_core.inference.config import InferenceConfig
    from swipe_core.inference.estimate import RenderCost


@dataclass(frozen=True)
class SegmentJob:
    """A layer to segment, the model and the settings."""

    source: LayerSource
    model: ModelDescription
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `InferenceConfig` that are to be other than the model has them."""


@dataclass(frozen=True, eq=False)
class SegmentedLayer:
    """A layer's continuous segmentation, and its first picture."""

    job: SegmentJob
    field: LayerField
    plan: LevelPlan
    coarse: np.ndarray
    """`plan` and `coarse`: the lattices of a live layer, and on the coarsest of them the classes, or the
    numbers of the objects where those are told apart.
    """
    cost: RenderCost
    """What rendering takes on this machine, measured at the first picture."""
    model_config: InferenceConfig
    """The settings that the model came with."""

    @property
    def can_tell_apart(self) -> bool:
        """Whether touching objects are told apart."""
        return self.field.first.tells_apart

    @property
    def config(self) -> InferenceConfig:
        return self.field.config


def show_something(dims: Dims, segmented: SegmentedLayer) -> bool:
    """Move the sliders to the slice with most of the classes where the present one has none.

    Returns whether they were moved. Turned layers are left alone: their slices are not those of the array.
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
