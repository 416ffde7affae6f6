"""A picture of an image larger than memory, with its labels."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
from jaxtyping import Float32

from swipe_core.blocks import Block, cut
from swipe_core.images.label_store import LabelStore
from swipe_core.images.levels import level_shapes
from swipe_core.images.stored import StoredImage
from swipe_core.pictures import RGB, fitted_shape, overlay
from swipe_core.progress import Progress

OVERVIEW_SIZE = 2048  # pixels along the longer side, at most
PIXELS_AT_ONCE = 2**22


def iter_overview(
    source: StoredImage, store: LabelStore, colours: Sequence[str]
) -> Generator[Progress, None, RGB]:
    """The labels of a finished store over their 2D image, at most 2048 pixels long, from a coarse level."""
    image = yield from _iter_coarse(source, math.ceil(max(source.shape) / OVERVIEW_SIZE))
    shapes = level_shapes(store.shape)
    level = next((n for n, shape in enumerate(shapes) if max(shape) <= OVERVIEW_SIZE), len(shapes) - 1)
    labels = store.read(Block((0, 0), shapes[level]), level)
    image = np.rint(image) if source.dtype.kind in "iu" else image
    shape = fitted_shape(store.shape, min(OVERVIEW_SIZE, max(store.shape)))
    return overlay(image.astype(source.dtype), labels, colours, shape=shape)


def _iter_coarse(
    source: StoredImage, factor: int
) -> Generator[Progress, None, Float32[np.ndarray, "height width channels"]]:
    """The means of squares of `factor` x `factor` pixels; at the border of what is left of them."""
    shape = tuple(-(-n // factor) for n in source.shape)
    coarse = np.zeros((*shape, source.channels), np.float32)
    edges = [max(factor, c // factor * factor) for c in source.chunks]
    rows = max(1, PIXELS_AT_ONCE // math.prod(edges))
    parts = list(cut(source.shape, [edges[0], min(edges[1] * rows, -(-source.shape[1] // factor) * factor)]))
    for done, part in enumerate(parts):
        array = source.read(part.start, part.shape).array.astype(np.float32)
        sums = array
        for axis, n in enumerate(part.shape):
            sums = np.add.reduceat(sums, np.arange(0, n, factor), axis=axis)
        counts = [np.diff([*range(0, n, factor), n]) for n in part.shape]
        start = [a // factor for a in part.start]
        where = tuple(slice(a, a + n) for a, n in zip(start, sums.shape[:2], strict=True))
        coarse[where] = sums / (counts[0][:, None, None] * counts[1][None, :, None])
        yield Progress("Drawing an overview", done + 1, len(parts))
    return coarse
