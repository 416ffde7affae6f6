"""From a `LabelStore` to a TIFF in tiles, of any size and in little memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Full, Queue

import numpy as np
from jaxtyping import UInt8

from swipe_core.blocks import Block, cut, cut_chunks
from swipe_core.coordinates import Grid
from swipe_core.images.files import check_folder, image_draft
from swipe_core.images.formats import image_suffix
from swipe_core.images.label_store import LabelStore
from swipe_core.images.tiff import ome_metadata, resolution
from swipe_core.progress import Progress

TILE = 512
# Labels that are read at once; a volume is read in slabs, since its tiles go plane by plane.
VOXELS_AT_ONCE = 2**26
LARGEST_CLASSIC = 2**31  # bytes of labels; a classic TIFF holds 2**32 with all that stands around them
TILES_WAITING = 64  # for the thread that deflates and writes
SECONDS_BETWEEN_LOOKS = 0.1
STOPPED = None
Tile = UInt8[np.ndarray, "_ _"]


def iter_write_tiff(path: Path, store: LabelStore) -> Generator[Progress, None, None]:
    """Write labels as an OME-TIFF in deflated tiles, with their spacing and unit.

    It is a BigTIFF where there are more than 2 GB of them. The file appears whole or not at all; one of
    the same name is replaced. A rotation and an origin are dropped, as `write_label_map` does.

    Raises
    ------
    ImageError
        When a chunk of the store is damaged, the folder is missing, or the disk refuses.
    """
    check_folder(path)
    regions = list(cut_chunks(store.shape, _tile_of(store.shape), VOXELS_AT_ONCE))
    with image_draft(path, image_suffix(path)) as draft, ThreadPoolExecutor(1) as thread:
        tiles = _Tiles()
        writing = thread.submit(_write, draft, store.grid, store.unit, tiles)
        try:
            for done, region in enumerate(regions):
                for tile in _tiles_of(store, region):
                    tiles.give(tile, writing)
                yield Progress("Writing the TIFF", done + 1, len(regions))
        except BaseException:
            tiles.give(STOPPED, writing)
            raise
        writing.result()


class _Tiles:
    """Hands tiles to tifffile, which takes them from an iterator and gives the word back at the end only."""

    def __init__(self) -> None:
        self._waiting: Queue[Tile | None] = Queue(TILES_WAITING)

    def give(self, tile: Tile | None, writing: Future[None]) -> None:
        """Once there is room; of a writer that failed, its error."""
        while True:
            if writing.done() and tile is not STOPPED:
                return writing.result()
            if writing.done():
                return None
            try:
                return self._waiting.put(tile, timeout=SECONDS_BETWEEN_LOOKS)
            except Full:
                continue

    def __iter__(self) -> Iterator[Tile]:
        while (tile := self._waiting.get()) is not STOPPED:
            yield tile
        raise _StoppedError


class _StoppedError(Exception):
    """Ends the writing of a file that is not wanted any more."""


def _write(draft: Path, grid: Grid, unit: str, tiles: Iterable[Tile]) -> None:
    from tifffile import TiffWriter

    axes = "ZYX"[-grid.ndim :]
    spacing = dict(zip(axes, grid.spacing, strict=True))
    with TiffWriter(draft, bigtiff=grid.voxels > LARGEST_CLASSIC, ome=True) as tiff:
        tiff.write(
            iter(tiles),
            shape=grid.shape,
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="minisblack",
            compression="zlib",
            resolution=resolution(spacing),
            metadata=ome_metadata(axes, spacing, unit),
        )


def _tile_of(shape: Sequence[int]) -> tuple[int, ...]:
    return (1,) * (len(shape) - 2) + (TILE, TILE)


def _tiles_of(store: LabelStore, region: Block) -> Iterator[Tile]:
    """The tiles of a region in the order of the file, each filled up with background."""
    labels = store.read(region)
    for part in cut(region.shape, _tile_of(region.shape)):
        tile = np.zeros((TILE, TILE), np.uint8)
        inside = labels[part.slices].reshape(part.shape[-2:])
        tile[: inside.shape[0], : inside.shape[1]] = inside
        yield tile
