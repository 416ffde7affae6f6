"""`BlockRenderer`: the labels of any piece of a result, from the few windows that it needs."""

import itertools
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from swipe_core.blocks import Block
from swipe_core.errors import ImageError
from swipe_core.images.orientation import oriented
from swipe_core.images.stored import StoredImage
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.stack import iter_sampled
from swipe_core.inference.windows import EncodedWindow, LogitMosaic, WindowList, orientations, place_windows
from swipe_core.prediction.large_plan import LargePlan
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.preparing import PartPreparation
from swipe_core.progress import Notice, Progress, map_reports

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

    `source`: the image that was planned for, as a whole.
    """

    def __init__(
        self, predictor: Predictor, source: StoredImage, plan: LargePlan, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.predictor, self.plan = predictor, plan
        part = source.window(plan.start, plan.image.shape)
        preprocessing = predictor.content.preprocessing
        self.preparation = PartPreparation(oriented(part, preprocessing.orientation), preprocessing)
        self.cache = WindowCache(cache_bytes)
        self._ways = orientations(predictor.config.mirrored_axes)
        windows = place_windows(plan.prepared.shape, plan.window, plan.overlap)
        self._apart = predictor.model.keeps_windows or len(windows) * len(self._ways) == 1
        # Between two voxels both decide, and both must have been blended of all windows that hold them.
        self._wanted = plan if self._apart else replace(plan, margin=plan.margin + 1)
        self._empty = predictor.empty_field(plan.prepared, part.grid, part.unit, part.space)

    def iter_render(self, piece: Block) -> Generator[Progress | Notice, None, UInt8[np.ndarray, "*shape"]]:
        """Return the labels of a piece: those of the whole field there.

        Yields progress, by windows and by calls of the decoder, and notices as `iter_sampled` does.
        """
        field, plan = (yield from self.iter_field(piece)), self.plan
        extraction = yield from iter_sampled(
            field,
            lambda f: map_reports(f.iter_render_block(plan.output, piece, plan.stride), _as_progress),
        )
        self.cache.shrink()
        return extraction.labels

    def iter_field(self, part: Block) -> Generator[Progress | Notice, None, OccupancyField]:
        """The field of all, of which only a part of the result may be asked."""
        windows = yield from self._iter_windows(self._wanted.windows_of(part))
        model = self.predictor.model
        if not self._apart:
            places = [(window.block, window.mirrored) for window in windows]
            mosaic = LogitMosaic(places, model.outputs, self.predictor.device)
            for place, window in zip(places, windows, strict=True):
                mosaic.put([place], window.encoding)
            windows = mosaic.kept()
        return replace(self._empty, model=model, windows=windows)

    def _iter_windows(self, blocks: Sequence[Block]) -> Generator[Progress | Notice, None, Encoded]:
        missing = [block for block in blocks if block not in self.cache]
        if missing:
            yield from self._iter_encode(missing)
        return tuple(itertools.chain.from_iterable(self.cache.take(block) for block in blocks))

    def _iter_encode(self, blocks: Sequence[Block]) -> Generator[Progress | Notice, None, None]:
        """Read what the windows cover, once, and encode them, batch by batch."""
        read, ways = _around(blocks), self._ways
        prepared = self.preparation.prepared(read, self.plan.statistics)
        windows = [(block.within(read), axes) for block in blocks for axes in ways]
        encoded = _WindowsForCache(len(windows), self.predictor.device, prepared.name)
        yield from self.predictor.iter_windows(prepared, windows, encoded, as_logits=not self._apart)
        for number, block in enumerate(blocks):
            own = encoded.kept()[number * len(ways) : (number + 1) * len(ways)]
            self.cache.put(block, tuple(replace(window, block=block) for window in own))


class _WindowsForCache(WindowList):
    """Windows that are encoded beside those of earlier pieces."""

    def __init__(self, count: int, device: torch.device, name: str) -> None:
        super().__init__(count, device)
        self._name = name

    def move_to_cpu(self, remaining: int) -> None:
        # Those of earlier pieces are on the GPU, and would have to be encoded anew.
        raise ImageError(
            f"{self._name} does not fit into memory, even window by window: close other programs, or use "
            "--device cpu."
        )


def _as_progress(share: float) -> Progress:
    return Progress("Rendering", round(1000 * share), 1000)


def _around(blocks: Sequence[Block]) -> Block:
    """The least part that holds some windows."""
    start = np.min([block.start for block in blocks], axis=0)
    stop = np.max([np.add(block.start, block.shape) for block in blocks], axis=0)
    return Block(tuple(start.tolist()), tuple((stop - start).tolist()))


def _bytes(windows: Encoded) -> int:
    return sum(window.encoding.nbytes for window in windows)
