"""The images inside a layer: one, or one for each frame, with their place in the world."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.axes import AxisRoles, channel_names
from napari_swipe.layers.geometry import in_one_unit, layer_matrix, spatial_affine
from napari_swipe.layers.metadata import metadata_of
from swipe_core.errors import ImageError
from swipe_core.images.channels import Channels
from swipe_core.inference.stack import Frame

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from swipe_core.coordinates import Affine, Grid
    from swipe_core.images import MedicalImage, Space

DIGESTED = 2**25  # bytes that a digest looks at


def content_digest(array: Any) -> int | None:
    """A number that is another one as soon as the numbers in an array are: a checksum.

    Of a large array it looks at a regular part. Arrays that are not in memory have none.
    """
    if type(array) is not np.ndarray:
        return None
    step = math.ceil((array.nbytes / DIGESTED) ** (1 / max(array.ndim, 1)))
    part = array[(slice(None, None, max(step, 1)),) * array.ndim]
    return zlib.crc32(np.ascontiguousarray(part).view(np.uint8).reshape(-1).data)


@dataclass(frozen=True)
class Region:
    """A box of voxels along the spatial axes: from `start` up to, and without, `stop`."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @classmethod
    def around(cls, points_voxel: np.ndarray, shape: Sequence[int]) -> Region:
        """The voxels whose cells meet the bounding box of points, as far as they lie in an array.

        An `ImageError` is raised when none does.
        """
        low = np.clip(np.floor(points_voxel.min(axis=0) + 0.5), 0, shape).astype(int)
        high = np.clip(np.ceil(points_voxel.max(axis=0) + 0.5), 0, shape).astype(int)
        if (high <= low).any():
            raise ImageError("The region does not meet the image: draw it on the image, or move the view.")
        return cls(tuple(low.tolist()), tuple(high.tolist()))


@dataclass(frozen=True, eq=False)
class LayerSource:
    """The part of a layer that is to be segmented, apart from the layer itself, which may change or go.

    Attributes
    ----------
    array
        The layer's data, at full resolution; any array type, read frame by frame.
    matrix
        Data coordinates to world over all axes of `axes`.
    unit
        Of the world along the spatial axes.
    region
        Only this box, or everything.
    space
        What the layer's reader knows of the world; None of layers of other origin.
    digest
        Of the numbers in `array`, where somebody will ask for the `difference` later: see `sealed`.
    channel_names
        Of all channels, as far as the layer's reader knows them.
    chosen
        Which channels are segmented, in this order; None for all.
    """

    array: np.ndarray
    axes: AxisRoles
    matrix: np.ndarray
    axis_labels: tuple[str, ...]
    units: tuple[str, ...]
    name: str
    path: Path | None = None
    region: Region | None = None
    space: Space | None = None
    digest: int | None = None
    channel_names: tuple[str, ...] = ()
    chosen: tuple[int, ...] | None = None

    @classmethod
    def from_layer(cls, layer: Image, axes: AxisRoles) -> LayerSource:
        """The layer as it is now."""
        data = layer.data[0] if layer.multiscale else layer.data
        path = layer.metadata.get("path", layer.source.path)
        return cls(
            array=data,
            axes=axes,
            matrix=layer_matrix(layer),
            axis_labels=tuple(layer.axis_labels),
            units=tuple(str(unit) for unit in layer.units),
            name=layer.name,
            path=Path(path) if path else None,
            space=metadata_of(layer).space,
            channel_names=channel_names(layer),
        )

    def check(self, ndim: int) -> None:
        """See that it can be given to a model of `ndim` axes, before any work.

        An `ImageError` is raised when the axes do not suit, or the transform mixes spatial and other axes.
        """
        self.axes.check(ndim, self.name)
        spatial_affine(self.matrix, self.axes.space, self.name)

    def sealed(self) -> LayerSource:
        """The same, with a digest of its numbers: `difference` then finds what is written over them."""
        return replace(self, digest=content_digest(self.array))

    def difference(self, layer: Layer) -> str | None:
        """Return what a layer has now that this has not, such as "other data", or None."""
        data = layer.data[0] if layer.multiscale else layer.data
        if (
            tuple(data.shape) != tuple(self.array.shape)
            or bool(getattr(layer, "rgb", False)) != self.axes.rgb
        ):
            return "another shape"
        if data is not self.array or (self.digest is not None and content_digest(data) != self.digest):
            return "other data"
        if tuple(str(unit) for unit in layer.units) != self.units:
            return "other units"
        if tuple(layer.axis_labels) != self.axis_labels:
            return "other names of axes"
        finest = np.linalg.norm(self.matrix[:-1, :-1], axis=0).min()
        is_there = np.allclose(layer_matrix(layer), self.matrix, rtol=1e-6, atol=1e-6 * finest)
        return None if is_there else "another place or spacing"

    def cropped(self, region: Region | None) -> LayerSource:
        """Only a box of it."""
        return replace(self, region=region)

    @property
    def unit(self) -> str:
        """The unit of the images inside: one for all axes of space, whatever units these have."""
        return self.to_one_unit[1]

    @property
    def to_one_unit(self) -> tuple[Affine, str]:
        """The way from the layer's world, along its axes of space, to the images' own, and its unit."""
        from swipe_core.coordinates import Affine

        space = self.axes.space
        return in_one_unit(Affine.identity(len(space)), [self.units[axis] for axis in space])

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The shape of the region, or of the whole along the axes of space."""
        return self.region.shape if self.region else tuple(self.array.shape[a] for a in self.axes.space)

    @property
    def grid(self) -> Grid:
        """The lattice of one frame, in the world of the images.

        An `ImageError` is raised when the layer's transform mixes spatial and other axes.
        """
        from swipe_core.coordinates import Grid

        affine = self.to_one_unit[0] @ spatial_affine(self.matrix, self.axes.space, self.name)
        return Grid(self.spatial_shape, self._moved(affine))

    @property
    def all_channels(self) -> Channels:
        """The channels of one image, without an alpha channel; colours are those of an RGB layer."""
        if self.axes.rgb:
            return Channels(min(int(self.array.shape[-1]), 3), "colour")
        if self.axes.channel is None:
            return Channels(1)
        count, label = int(self.array.shape[self.axes.channel]), self.axis_labels[self.axes.channel]
        names = self.channel_names if len(self.channel_names) == count else ()
        return Channels(count, "colour" if label == "colour" else "channel", names)

    @property
    def channel_kinds(self) -> Channels:
        """Those that are segmented."""
        return self.all_channels if self.chosen is None else self.all_channels.chosen(self.chosen)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape[axis] for axis in self.axes.frames)

    @property
    def frames(self) -> list[Frame]:
        """The index of every frame; one empty index where there are no frame axes."""
        return list(itertools.product(*(range(n) for n in self.frame_shape)))

    def image(self, frame: Frame = ()) -> MedicalImage:
        """One frame as an image of the core; only this frame is read.

        An `ImageError` is raised when the layer's transform mixes spatial and other axes.
        """
        from swipe_core.images import MedicalImage, Space

        array = np.asarray(self.array[self._index(frame)])
        channels, space = self._channels_last(array), self.space or Space()
        if self.chosen is not None:
            channels = channels[..., list(self.chosen)]
        kinds = self.channel_kinds
        affine = self.grid.affine
        return MedicalImage(channels, affine, self.unit, self.path, space, kinds.axis, kinds.names)

    def _index(self, frame: Frame) -> tuple[int | slice, ...]:
        index: list[int | slice] = [slice(None)] * len(self.axes.roles)
        for axis, position in zip(self.axes.frames, frame, strict=True):
            index[axis] = position
        if self.region:
            for axis, start, stop in zip(self.axes.space, self.region.start, self.region.stop, strict=True):
                index[axis] = slice(start, stop)
        return tuple(index)

    def _channels_last(self, array: np.ndarray) -> np.ndarray:
        if self.axes.rgb:
            return array[..., :3]
        if self.axes.channel is None:
            return array[..., None]
        left = [axis for axis in range(len(self.axes.roles)) if axis not in self.axes.frames]
        return np.moveaxis(array, left.index(self.axes.channel), -1)

    def _moved(self, affine: Affine) -> Affine:
        from swipe_core.coordinates import Affine

        if self.region is None:
            return affine
        return affine @ Affine.from_parts(np.eye(affine.ndim), np.asarray(self.region.start, float))
