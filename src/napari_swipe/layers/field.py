"""`LayerField`: a segmented layer as one function of position, over the axes that its labels have."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.geometry import placement
from napari_swipe.layers.source import LayerSource
from swipe_core.inference.stack import Frame, StackField
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from typing import Self

    from swipe_core.coordinates import Grid
    from swipe_core.inference.config import InferenceConfig
    from swipe_core.inference.field import Segmentation
    from swipe_core.inference.instances import FieldObjects


@dataclass(frozen=True)
class OutputAxes:
    """The axes of a labels layer over a source: its frames and its space.

    A leading channel axis is left out, since napari aligns layers at their last axes. Another one
    stays as a single voxel that spans all channels, so that the labels show at each of them.
    """

    kept: tuple[int, ...]
    source: LayerSource

    @classmethod
    def of(cls, source: LayerSource) -> OutputAxes:
        axes = range(len(source.axes.roles))
        return cls(tuple(a for a in axes if not (a == 0 and source.axes.channel == 0)), source)

    @property
    def ndim(self) -> int:
        return len(self.kept)

    @property
    def space(self) -> tuple[int, ...]:
        """Positions of the spatial axes among the kept ones."""
        return tuple(self.kept.index(axis) for axis in self.source.axes.space)

    @property
    def frames(self) -> tuple[int, ...]:
        """Positions of the frame axes among the kept ones."""
        return tuple(self.kept.index(axis) for axis in self.source.axes.frames)

    def shape(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of labels whose space has the given shape."""
        size = dict(zip(self.space, spatial, strict=True))
        size |= dict(zip(self.frames, self.source.frame_shape, strict=True))
        return tuple(size.get(axis, 1) for axis in range(self.ndim))

    def matrix(self, grid: Grid | None = None) -> np.ndarray:
        """Voxels of labels on a spatial grid, else on the source's own, to the world, over all kept axes."""
        kept = [*self.kept, len(self.source.axes.roles)]
        matrix = self.source.matrix[np.ix_(kept, kept)].copy()
        space = list(self.space)
        if grid is not None:
            placed = self.source.to_one_unit[0].inverse() @ grid.affine
            matrix[np.ix_(space, space)] = placed.linear
            matrix[space, -1] = placed.origin
        channel = self.source.axes.channel
        if channel in self.kept:
            axis, count = self.kept.index(channel), self.source.array.shape[channel]
            matrix[axis, -1] += matrix[axis, axis] * (count - 1) / 2
            matrix[axis, axis] *= count
        return matrix

    def arguments(self, grid: Grid | None = None) -> dict[str, Any]:
        """Scale, affine, units and axis labels of such a layer."""
        return placement(self.matrix(grid)) | {
            "units": tuple(self.source.units[axis] for axis in self.kept),
            "axis_labels": tuple(self.source.axis_labels[axis] for axis in self.kept),
        }

    def points(self, spatial: np.ndarray) -> np.ndarray:
        """Return points of space over the kept axes; where there are others, at their first place."""
        points = np.zeros((len(spatial), self.ndim))
        points[:, list(self.space)] = spatial
        return points

    def part(self, frame: Frame) -> tuple[int | slice, ...]:
        """Return the index of one frame in an array over the kept axes, without the single channel voxel."""
        place: list[int | slice] = [0] * self.ndim
        for axis in self.space:
            place[axis] = slice(None)
        for axis, position in zip(self.frames, frame, strict=True):
            place[axis] = position
        return tuple(place)


@dataclass(frozen=True, eq=False)
class LayerField(StackField):
    """The continuous segmentation of a layer: one field for each frame."""

    source: LayerSource
    objects: Mapping[Frame, FieldObjects] = field(default_factory=dict)
    """The single objects of each frame; none where classes are shown."""

    @property
    def axes(self) -> OutputAxes:
        return OutputAxes.of(self.source)

    def with_config(self, config: InferenceConfig) -> Self:
        return replace(super().with_config(config), objects={})

    def iter_tell_apart(self) -> Generator[Progress | Notice, None, Self]:
        """Find the single objects of every frame, as `iter_field_objects`; yields progress."""
        from swipe_core.inference.instances import iter_field_objects

        found = yield from self.iter_sampled(iter_field_objects)
        return replace(self, objects=dict(zip(self.fields, found, strict=True)))

    def shown(self, frame: Frame, segmentation: Segmentation) -> np.ndarray:
        """What a layer shows where a frame was rendered: its classes, or the numbers of its `objects`."""
        from swipe_core.inference.instances import numbered

        found = self.objects.get(frame)
        return segmentation.array if found is None else numbered(found, segmentation).array

    def stacked(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """The arrays of all frames, each over space, as one over the axes of the labels."""
        whole = np.zeros(self.axes.shape(frames[0].shape), frames[0].dtype)
        for frame, array in zip(self.fields, frames, strict=True):
            whole[self.axes.part(frame)] = array
        return whole
