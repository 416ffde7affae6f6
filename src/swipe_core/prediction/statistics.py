"""The intensities of an image in its order statistics and moments, without ever holding the image."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt32

from swipe_core.data.preprocessing import OUTLIER_PERCENTILES, IntensityStatistics, full_range
from swipe_core.prediction.preparing import PartPreparation
from swipe_core.progress import Progress

VOXELS_AT_ONCE = 2**22
BINS = 2**16  # as many as 16-bit numbers, or as halves of the bits of one in single precision
STAGE = "Measuring intensities"


def iter_intensity_statistics(
    preparation: PartPreparation,
) -> Generator[Progress, None, IntensityStatistics]:
    """`preprocessing.intensity_statistics` of a whole image, part by part.

    8-bit images with ``"unit"``, and all with ``"window"``, are not looked at. For ``"unit"`` all others
    are read once; for ``"standardise"`` those of up to 16 bits once, and all others twice. Least, greatest
    and percentiles are exactly those of the preprocessed image in single precision, whatever the type of
    its numbers. Mean and deviation are sums in double precision in another order: they agree to about 12
    digits, and so as a rule to the last bit of single precision, in which they are used.

    Raises
    ------
    ImageError
        When the image is damaged, has NaN or infinite values, or no channels for this network.
    """
    config = preparation.config
    if config.window is not None:
        return IntensityStatistics()
    if config.intensity == "standardise":
        return (yield from _iter_standardise(preparation))
    full = full_range(preparation.source.dtype)
    return IntensityStatistics(full[:1], full[1:]) if full else (yield from _iter_range(preparation))


def _iter_range(preparation: PartPreparation) -> Generator[Progress, None, IntensityStatistics]:
    low, high = np.inf, -np.inf
    parts = list(preparation.parts(VOXELS_AT_ONCE))
    for done, part in enumerate(parts):
        array = preparation.intensities(part)
        low, high = min(low, float(array.min())), max(high, float(array.max()))
        yield Progress(STAGE, done + 1, len(parts))
    return IntensityStatistics((low,), (high,))


def _iter_standardise(preparation: PartPreparation) -> Generator[Progress, None, IntensityStatistics]:
    """Percentiles by counting: the upper half of each number's bits, then the lower half where it matters.

    Numbers of up to 16 bits are counted as they are, in one pass.
    """
    parts = list(preparation.parts(VOXELS_AT_ONCE))
    least = _least(preparation)
    passes = 1 if least is not None else 2
    counts = np.zeros((preparation.config.channels, BINS), np.int64)
    for done, part in enumerate(parts):
        for channel, values in enumerate(_channels(preparation.intensities(part))):
            counts[channel] += _counted(
                values - np.float32(least) if least is not None else _keys(values) >> 16
            )
        yield Progress(STAGE, done + 1, passes * len(parts))
    if least is not None:
        numbers = np.arange(BINS, dtype=np.float64) + least
        return _joined([_Ranked(own).summary(numbers, own) for own in counts])
    details = [_Detail(_Ranked(own)) for own in counts]
    for done, part in enumerate(parts):
        for channel, values in enumerate(_channels(preparation.intensities(part))):
            details[channel].add(values)
        yield Progress(STAGE, len(parts) + done + 1, passes * len(parts))
    return _joined([detail.summary() for detail in details])


def _least(preparation: PartPreparation) -> int | None:
    """The least number of the image's type, if there are at most as many as bins; None otherwise."""
    source = preparation.source
    is_counted = source.dtype.kind in "iu" and source.dtype.itemsize <= 2
    is_own = not preparation.is_resampled and source.channels == preparation.config.channels
    return int(np.iinfo(source.dtype).min) if is_counted and is_own else None


class _Ranked:
    """Where the percentiles of a channel lie among its numbers, in order, and in which bins."""

    def __init__(self, counts: Int64[np.ndarray, " bins"]) -> None:
        self.cumulated = np.cumsum(counts)
        self.total = int(self.cumulated[-1])
        positions = np.array(OUTLIER_PERCENTILES) / 100 * (self.total - 1)
        below = np.floor(positions).astype(np.int64)
        self.shares = positions - below
        # Between which two numbers each of them lies.
        self.ranks = np.stack([below, np.minimum(below + 1, self.total - 1)], axis=1)
        self.bins = np.searchsorted(self.cumulated, self.ranks, side="right")

    def summary(
        self,
        numbers: Float64[np.ndarray, " numbers"],
        counts: Int64[np.ndarray, " numbers"],
        before: Int64[np.ndarray, " numbers"] | None = None,
        inner: tuple[int, float, float] = (0, 0.0, 0.0),
    ) -> tuple[float, float, float, float]:
        """Percentiles, and mean and deviation of all numbers when clipped to them.

        Parameters
        ----------
        numbers, counts
            In ascending order, how often each occurs.
        before
            How many numbers are less than each, where these are not all.
        inner
            Count, mean and sum of squared differences from it, of further numbers between the percentiles;
            what is left of the total lies beyond them.
        """
        before = np.cumsum(counts) - counts if before is None else before
        at = np.searchsorted(before + counts, self.ranks, side="right")
        pairs = numbers[at].astype(np.float32)
        # As numpy does it, which interpolates in the precision of the numbers.
        low, high = (float(np.quantile(pair, share)) for pair, share in zip(pairs, self.shares, strict=True))
        clipped = np.clip(numbers, np.float32(low), np.float32(high))
        beyond = int(before[0])
        above = self.total - beyond - int(counts.sum()) - inner[0]
        values = np.array([np.float32(low), np.float32(high), inner[1], *clipped], np.float64)
        weights = np.array([beyond, above, inner[0], *counts], np.float64)
        mean = float(weights @ values / self.total)
        squares = float(weights @ (values - mean) ** 2) + inner[2]
        return low, high, mean, float(np.sqrt(squares / self.total))


class _Detail:
    """A second look at a channel: which numbers are in the bins of the percentiles, and what lies between."""

    def __init__(self, ranked: _Ranked) -> None:
        self.ranked = ranked
        self.bins = np.unique(ranked.bins)
        self.counts = {int(b): np.zeros(BINS, np.int64) for b in self.bins}
        middle = np.searchsorted(ranked.cumulated, ranked.total // 2, side="right")
        # Differences from a number in the middle, whose squares do not drown their sum.
        self.origin = float(_numbers(np.array([middle << 16], np.uint32))[0])
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, values: Float32[np.ndarray, " values"]) -> None:
        keys = _keys(values)
        bins = keys >> 16
        for one, counts in self.counts.items():
            counts += _counted(keys[bins == one] & (BINS - 1))
        inside = (bins > self.bins[0]) & (bins < self.bins[-1]) & ~np.isin(bins, self.bins)
        apart = values[inside].astype(np.float64) - self.origin
        self.count += apart.size
        self.sum += float(apart.sum())
        self.squares += float(apart @ apart)

    def summary(self) -> tuple[float, float, float, float]:
        """As `_Ranked.summary` says."""
        keys = np.concatenate([(one << 16) + np.arange(BINS, dtype=np.uint32) for one in self.counts])
        counts = np.concatenate(list(self.counts.values()))
        ahead = np.concatenate([[0], self.ranked.cumulated])[self.bins]
        before = np.concatenate(
            [first + np.cumsum(own) - own for first, own in zip(ahead, self.counts.values(), strict=True)]
        )
        occurs = counts > 0
        mean = self.sum / max(1, self.count)
        inner = (self.count, self.origin + mean, max(0.0, self.squares - self.sum * mean))
        return self.ranked.summary(_numbers(keys[occurs]), counts[occurs], before[occurs], inner)


def _channels(array: Float32[np.ndarray, "*shape channels"]) -> Iterator[Float32[np.ndarray, " values"]]:
    for channel in range(array.shape[-1]):
        yield np.ascontiguousarray(array[..., channel]).reshape(-1)


def _keys(values: Float32[np.ndarray, " values"]) -> UInt32[np.ndarray, " values"]:
    """Whole numbers in the order of the values: their bits, with those of negative ones inverted."""
    bits = values.view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _numbers(keys: UInt32[np.ndarray, " keys"]) -> Float64[np.ndarray, " keys"]:
    """The values that have these keys."""
    bits = np.where(keys >> 31, keys & np.uint32(2**31 - 1), ~keys)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def _counted(bins: np.ndarray) -> Int64[np.ndarray, " bins"]:
    return np.bincount(bins.astype(np.intp), minlength=BINS)


def _joined(summaries: list[tuple[float, float, float, float]]) -> IntensityStatistics:
    low, high, mean, deviation = zip(*summaries, strict=True)
    return IntensityStatistics(low, high, mean, deviation)
