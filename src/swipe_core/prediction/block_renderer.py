"""`BlockRenderer`: the labels of any piece of a result, from the few windows that it needs."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from swipe_core.blocks import Block
from swipe_core.errors import ImageError
from swipe_core.images.orientation import oriented
from swipe_core.images.stored import StoredImage
from swipe_core.inference.aggregate import LogitMosaic
from swipe_core.inference.extraction import iter_extract
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.stack import iter_sampled
from swipe_core.inference.windows import EncodedWindow, orientations, place_windows
from swipe_core.networks.encoding import EncodingBuffer
from swipe_core.prediction.large_plan import LargePlan, bare_field
from swipe_core.prediction.predictor import Predictor, encode_windows
from swipe_core.prediction.preparing import PartPreparation
from swipe_core.progress import Notice, Progress, finish, map_reports

CACHE_BYTES = 2**28
STAGE = "Segmenting"
Encoded = tuple[EncodedWindow, ...]
"""A window in each of the orientations in which it is encoded."""


class WindowCache:
    """The last windows that were encoded, up to a number of bytes.

    Attributes
    ----------
    held, most_held
        Bytes now, and at most until now.
    encoded
        Windows that have been put in.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.held = self.most_held = self.encoded = 0
        self._windows: OrderedDict[Block, Encoded] = OrderedDict()

    def __contains__(self, block: Block) -> bool:
        return block in self._windows

    def take(self, block: Block) -> Encoded:
        """A window that is held, which is now the last to be forgotten."""
        self._windows.move_to_end(block)
        return self._windows[block]

    def put(self, block: Block, windows: Encoded) -> None:
        self._windows[block] = windows
        self.encoded += 1
        self.held += _bytes(windows)
        self.most_held = max(self.most_held, self.held)

    def shrink(self) -> None:
        """Forget what was not used for longest, until the limit is kept."""
        while self.held > self.limit:
            self.held -= _bytes(self._windows.popitem(last=False)[1])


class BlockRenderer:
    """Renders pieces of a plan, each from the part of the image that its windows cover.

    Memory holds the windows of one piece, and those of earlier ones up to `cache_bytes`; neither grows
    with the image. Pieces in C order share most windows with the ones before. Not for several threads at
    once.

    Parameters
    ----------
    source
        The image that was planned for, as a whole.
    """

    def __init__(
        self, predictor: Predictor, source: StoredImage, plan: LargePlan, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.predictor, self.plan = predictor, plan
        part = source.window(plan.start, plan.image.shape)
        preprocessing = predictor.content.preprocessing
        self.preparation = PartPreparation(oriented(part, preprocessing.orientation), preprocessing)
        self.cache = WindowCache(cache_bytes)
        model, self._device = predictor.model, predictor.device
        self._ways = orientations(predictor.config.mirrored_axes)
        windows = place_windows(plan.prepared.shape, plan.window, plan.overlap)
        self._apart = model.keeps_windows or len(windows) * len(self._ways) == 1
        # Between two voxels both decide, and both must have been blended of all windows that hold them.
        self._wanted = plan if self._apart else replace(plan, margin=plan.margin + 1)
        self._bare = bare_field(predictor, plan.prepared, part)

    def render(self, piece: Block) -> UInt8[np.ndarray, "*shape"]:
        """`iter_render` to its end."""
        return finish(self.iter_render(piece))

    def iter_render(self, piece: Block) -> Generator[Progress | Notice, None, UInt8[np.ndarray, "*shape"]]:
        """The labels of a piece: those of the whole field there.

        Yields progress, by windows and by calls of the decoder, and notices as `iter_sampled` does.

        Raises
        ------
        ImageError
            When the image is damaged there, or memory does not hold a single window.
        """
        windows = yield from self._iter_windows(self._wanted.windows_of(piece))
        model = self.predictor.model
        if not self._apart:
            places = [(window.block, window.mirrored) for window in windows]
            mosaic = LogitMosaic(places, model.classes, self._device)
            for place, window in zip(places, windows, strict=True):
                mosaic.put([place], window.encoding)
            windows = mosaic.kept()
        field = replace(self._bare, model=model, windows=windows)
        extraction = yield from iter_sampled(field, lambda f: self._iter_extract(f, piece))
        self.cache.shrink()
        return extraction

    def _iter_extract(
        self, field: OccupancyField, piece: Block
    ) -> Generator[Progress, None, UInt8[np.ndarray, "*shape"]]:
        to_voxel = self.plan.prepared.affine.inverse() @ self.plan.output.affine
        offset = np.asarray(piece.start, np.float64)

        def classify(points: np.ndarray) -> np.ndarray:
            return field.classify(to_voxel.apply(points + offset), frame="voxel")

        work = iter_extract(classify, piece.shape, self.plan.stride, points_per_call=field.chunk_points)
        extraction = yield from map_reports(
            work, lambda share: Progress("Rendering", round(1000 * share), 1000)
        )
        return extraction.labels

    def _iter_windows(self, wanted: Sequence[Block]) -> Generator[Progress, None, Encoded]:
        missing = [block for block in wanted if block not in self.cache]
        if missing:
            yield from self._iter_encode(missing)
        return tuple(itertools.chain.from_iterable(self.cache.take(block) for block in wanted))

    def _iter_encode(self, blocks: Sequence[Block]) -> Generator[Progress, None, None]:
        """Read what the windows cover, once, and encode them, batch by batch."""
        model, device, ways = self.predictor.model, self._device, self._ways
        read = _around(blocks)
        prepared = self.preparation.prepared(read, self.plan.statistics)
        size, done = max(1, self.predictor.windows_at_once(blocks[0]) // len(ways)), 0
        buffer = EncodingBuffer(len(blocks) * len(ways))
        while done < len(blocks):
            batch = blocks[done : done + size]
            asked = list(itertools.product(batch, ways))
            windows = [(b.within(read), axes) for b, axes in asked]
            encoded = encode_windows(model, device, prepared, windows, as_logits=not self._apart)
            if encoded is None and len(batch) > 1:
                size = len(batch) // 2
                continue
            if encoded is None:
                shape = " x ".join(map(str, batch[0].shape))
                raise ImageError(
                    f"{self.preparation.source.name} does not fit into memory, even in windows of {shape} "
                    "voxels one by one: close other programs, or use --device cpu."
                )
            kept = buffer.put(encoded)
            made = [EncodedWindow(b, own, axes) for own, (b, axes) in zip(kept, asked, strict=True)]
            for n, block in enumerate(batch):
                self.cache.put(block, tuple(made[n * len(ways) : (n + 1) * len(ways)]))
            done += len(batch)
            yield Progress("Encoding", done, len(blocks))


def render_block(
    predictor: Predictor, source: StoredImage, plan: LargePlan, block: Block
) -> UInt8[np.ndarray, "*shape"]:
    """The labels of a block of a plan; of several, a `BlockRenderer` encodes no window twice."""
    renderer = BlockRenderer(predictor, source, plan)
    labels = np.zeros(block.shape, np.uint8)
    for piece in plan.pieces(block):
        labels[piece.within(block).slices] = renderer.render(piece)
    return labels


def _around(blocks: Sequence[Block]) -> Block:
    """The least part that holds some windows."""
    start = np.min([block.start for block in blocks], axis=0)
    stop = np.max([np.add(block.start, block.shape) for block in blocks], axis=0)
    return Block(tuple(start.tolist()), tuple((stop - start).tolist()))


def _bytes(windows: Encoded) -> int:
    return sum(window.encoding.nbytes for window in windows)
