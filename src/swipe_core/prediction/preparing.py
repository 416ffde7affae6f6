"""Preprocessing of an image part by part, such that the parts are those of the whole image, preprocessed.

The intensities of the whole image, which decide how they are scaled, are measured part by part too.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from swipe_core.blocks import Block, cut_chunks
from swipe_core.coordinates import Grid
from swipe_core.data.preprocessing import (
    OUTLIER_PERCENTILES,
    RANKED,
    IntensityStatistics,
    PreparedImage,
    PreprocessingConfig,
    channels_first,
    fitted_channels,
    full_range,
    scaled,
    target_grid,
)
from swipe_core.errors import ImageError
from swipe_core.images.stored import StoredImage
from swipe_core.progress import Progress

TRUNCATED = 4.0  # standard deviations at which scipy's Gaussian filter ends
VOXELS_AT_ONCE = 2**22
MOST_RANKED = 2**31  # voxels of which percentiles are found exactly: 2 % of them are kept at most, 172 MB


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
        """The lattice of the whole image, preprocessed."""
        return target_grid(self.source, self.config)

    @property
    def is_resampled(self) -> bool:
        return self.grid.shape != self.source.shape

    def check(self) -> None:
        """See that the network takes such images, before much of it is read.

        Raises `ImageError` when it has other axes or channels, or is damaged at its first voxel.
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
        """Read a part of the grid, in the channels and at the spacing of the network, not yet scaled."""
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
    """The resampling of an axis, in voxels of the source: a Gaussian if it becomes coarser, then linearly."""

    step: float
    """Between the voxels of the part."""
    low: int
    high: int
    """`low` and `high`: what is read: the first voxel, and the one behind the last."""
    first: float
    """Where the first voxel of the part lies, from `low` on."""
    count: int
    """Voxels of the part."""

    @classmethod
    def of(cls, start: int, count: int, length: int, source_length: int) -> _Axis:
        step = source_length / length
        margin = 1 + round(TRUNCATED * _sigma(step) + 0.5)
        first, last = (start + 0.5) * step - 0.5, (start + count - 0.5) * step - 0.5
        low = max(0, math.floor(first) - margin)
        high = min(source_length, math.floor(last) + 2 + margin)
        return cls(step, low, high, first - low, count)


def _sigma(step: float) -> float:
    """The deviation of the Gaussian that skimage takes against aliasing."""
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


def iter_intensity_statistics(preparation: PartPreparation) -> Generator[Progress, None, IntensityStatistics]:
    """`preprocessing.intensity_statistics` of a whole image, which is read once at most.

    8-bit images with ``"unit"``, and all with ``"window"``, are not looked at. Least, greatest and
    percentiles are exactly those of the preprocessed image in single precision; of images of more than
    `MOST_RANKED` voxels the percentiles are those of every second voxel, every third, and so on. Mean and
    deviation are sums in double precision in another order: they agree to about 12 digits, and so as a rule
    to the last bit of single precision, in which they are used.
    """
    config = preparation.config
    if config.window is not None:
        return IntensityStatistics()
    is_ranked = config.intensity in RANKED
    full = None if is_ranked else full_range(preparation.source.dtype)
    if full is not None:
        return IntensityStatistics(full[:1], full[1:])
    parts = list(preparation.parts(VOXELS_AT_ONCE))
    step = -(-preparation.grid.voxels // MOST_RANKED)
    total = sum(-(-math.prod(part.shape) // step) for part in parts)
    channels = [_ClippedMoments(total) for _ in range(config.channels)]
    low, high = np.inf, -np.inf
    for done, part in enumerate(parts, start=1):
        array = preparation.intensities(part)
        if is_ranked:
            for channel, moments in enumerate(channels):
                moments.add(array[..., channel].reshape(-1)[::step])
        else:
            low, high = min(low, float(array.min())), max(high, float(array.max()))
        yield Progress("Measuring intensities", done, len(parts))
    if not is_ranked:
        return IntensityStatistics((low,), (high,))
    found = list(zip(*(moments.summary() for moments in channels), strict=True))
    return IntensityStatistics(*(found[:2] if config.intensity == "range" else found))


class _ClippedMoments:
    """Percentiles of numbers that come in parts, and mean and deviation of all when clipped to these.

    The least and the greatest numbers, among which the percentiles lie, are kept. All between them go into
    the sums at once: they lie between those of any larger set too, and are never clipped.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        positions = np.array(OUTLIER_PERCENTILES) / 100 * (total - 1)
        below = np.floor(positions).astype(np.int64)
        self._shares = positions - below
        # Between which two numbers, in ascending order, each percentile lies.
        self._ranks = np.stack([below, np.minimum(below + 1, total - 1)], axis=1)
        self._ends = max(int(self._ranks[0, 1]) + 1, total - int(self._ranks[1, 0]))  # kept at either end
        self._kept = np.empty(0, np.float32)
        self._inner = np.inf, -np.inf  # the innermost of both ends
        self._origin = math.nan
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, values: Float32[np.ndarray, " values"]) -> None:
        if math.isnan(self._origin):  # differences from it have squares that do not drown their sum
            self._origin = float(np.median(values))
        is_between = (values > self._inner[0]) & (values < self._inner[1])
        self._count_in(values[is_between])
        self._kept = np.concatenate([self._kept, values[~is_between]])
        ends = self._ends
        if self._kept.size > 4 * ends:
            self._kept.partition([ends - 1, self._kept.size - ends])
            self._count_in(self._kept[ends:-ends])
            self._inner = float(self._kept[ends - 1]), float(self._kept[-ends])
            self._kept = np.concatenate([self._kept[:ends], self._kept[-ends:]])

    def _count_in(self, values: Float32[np.ndarray, " values"]) -> None:
        apart = values.astype(np.float64) - self._origin
        self._count += apart.size
        self._sum += float(apart.sum())
        self._squares += float(apart @ apart)

    def summary(self) -> tuple[float, float, float, float]:
        """Both percentiles, mean and deviation."""
        kept = np.sort(self._kept)
        # What is not kept lies before the upper end.
        ranks = self._ranks - [[0], [self.total - kept.size]]
        # As numpy does it, which interpolates in the precision of the numbers.
        low, high = (
            float(np.quantile(kept[pair], share)) for pair, share in zip(ranks, self._shares, strict=True)
        )
        clipped = np.clip(kept, np.float32(low), np.float32(high)).astype(np.float64)
        mean = (self._sum + self._count * self._origin + float(clipped.sum())) / self.total
        shift = mean - self._origin
        squares = self._squares - 2 * shift * self._sum + self._count * shift**2
        squares += float(((clipped - mean) ** 2).sum())
        return low, high, mean, float(np.sqrt(max(0.0, squares) / self.total))
