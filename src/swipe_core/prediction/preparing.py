"""Preprocessing of an image part by part, such that the parts are those of the whole image, preprocessed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from swipe_core.blocks import Block, cut_chunks
from swipe_core.coordinates import Grid
from swipe_core.data.preprocessing import (
    IntensityStatistics,
    PreparedImage,
    PreprocessingConfig,
    channels_first,
    fitted_channels,
    scaled,
    target_grid,
)
from swipe_core.errors import ImageError
from swipe_core.images.stored import StoredImage

TRUNCATED = 4.0  # standard deviations at which scipy's Gaussian filter ends


@dataclass(frozen=True, eq=False)
class PartPreparation:
    """An image and how it is preprocessed, without its intensities' scale.

    Where the spacing stays as it is, parts have the very numbers of the whole image, preprocessed (grey
    that is made of colours but for the last bit). Where the image is resampled, a margin is read about each
    part; what is interpolated then differs from the whole image by the rounding of single precision, about
    a millionth of the range of intensities.
    """

    source: StoredImage
    config: PreprocessingConfig

    @property
    def grid(self) -> Grid:
        """Of the whole image, preprocessed."""
        return target_grid(self.source, self.config)

    @property
    def is_resampled(self) -> bool:
        return self.grid.shape != self.source.shape

    def check(self) -> None:
        """See that the network takes such images, before much of it is read.

        Raises
        ------
        ImageError
            When it has other axes or channels, or is damaged at its first voxel.
        """
        source, ndim = self.source, self.config.ndim
        if source.ndim != ndim:
            raise ImageError(f"{source.name} is {source.ndim}D, and this model is for {ndim}D images.")
        self._read(Block((0,) * ndim, (1,) * ndim))

    def parts(self, voxels: int) -> Iterator[Block]:
        """Parts of about so many voxels that cover the grid, in the order in which the image is stored."""
        shape = self.grid.shape
        sizes = zip(self.source.chunks, shape, self.source.shape, strict=True)
        return cut_chunks(shape, [max(1, round(c * m / n)) for c, m, n in sizes], voxels)

    def intensities(self, part: Block) -> Float32[np.ndarray, "*shape channels"]:
        """Of a part of the grid, in the channels and at the spacing of the network, not yet scaled.

        Raises
        ------
        ImageError
            When the image is damaged there, has NaN or infinite values, or no channels for this network.
        """
        if not self.is_resampled:
            return self._read(part)
        axes = list(map(_Axis.of, part.start, part.shape, self.grid.shape, self.source.shape))
        read = self._read(
            Block(tuple(axis.low for axis in axes), tuple(axis.high - axis.low for axis in axes))
        )
        return _interpolated(read, axes)

    def prepared(self, part: Block, statistics: IntensityStatistics) -> PreparedImage:
        """A part of the whole image, preprocessed; the statistics are the whole image's."""
        array = scaled(self.intensities(part), self.config, statistics)
        grid = self.grid.window(part.start, part.shape)
        source = self.source
        return PreparedImage(channels_first(array), grid.affine, source.unit, source.name, source.space)

    def _read(self, part: Block) -> Float32[np.ndarray, "*shape channels"]:
        return fitted_channels(self.source.read(part.start, part.shape), self.config.channel_kinds)


@dataclass(frozen=True)
class _Axis:
    """How an axis is resampled, in voxels of the source: a Gaussian if it becomes coarser, then linearly.

    Attributes
    ----------
    step
        Between the voxels of the part.
    low, high
        What is read: the first voxel, and the one behind the last.
    first
        Where the first voxel of the part lies, from `low` on.
    count
        Voxels of the part.
    """

    step: float
    low: int
    high: int
    first: float
    count: int

    @classmethod
    def of(cls, start: int, count: int, length: int, source_length: int) -> _Axis:
        step = source_length / length
        margin = 1 + round(TRUNCATED * _sigma(step) + 0.5)
        first, last = (start + 0.5) * step - 0.5, (start + count - 0.5) * step - 0.5
        low = max(0, math.floor(first) - margin)
        high = min(source_length, math.floor(last) + 2 + margin)
        return cls(step, low, high, first - low, count)


def _sigma(step: float) -> float:
    """Of the Gaussian that skimage takes against aliasing."""
    return max(0.0, (step - 1) / 2)


def _interpolated(
    array: Float32[np.ndarray, "*source channels"], axes: Sequence[_Axis]
) -> Float32[np.ndarray, "*shape channels"]:
    from scipy import ndimage

    sigmas = [*(_sigma(axis.step) for axis in axes), 0.0]
    smooth = ndimage.gaussian_filter(array, sigmas, mode="nearest", truncate=TRUNCATED)
    steps, offsets = [axis.step for axis in axes], [axis.first for axis in axes]
    shape = tuple(axis.count for axis in axes)
    channels = [
        ndimage.affine_transform(smooth[..., channel], steps, offsets, shape, order=1, mode="nearest")
        for channel in range(array.shape[-1])
    ]
    return np.stack(channels, axis=-1)
