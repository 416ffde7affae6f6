"""From a `LabelStore` to a TIFF in tiles, of any size and in little memory."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from swipe_core.blocks import Block, cut, cut_chunks
from swipe_core.images.files import image_draft
from swipe_core.images.formats import image_suffix
from swipe_core.images.label_store import LabelStore
from swipe_core.images.tiff import ome_metadata, resolution
from swipe_core.progress import Progress

TILE = 512
# Labels that are read at once; a volume is read in slabs, since its tiles go plane by plane.
VOXELS_AT_ONCE = 2**26
LARGEST_CLASSIC = 2**31  # bytes of labels; a classic TIFF holds 2**32 with all that stands around them
SECONDS_BETWEEN_REPORTS = 0.1
Tile = Integer[np.ndarray, "_ _"]


def iter_write_tiff(path: Path, store: LabelStore) -> Generator[Progress, None, None]:
    """Write labels as an OME-TIFF in deflated tiles, with their spacing and unit.

    It is a BigTIFF where there are more than 2 GB of them. The file appears whole or not at all; one of the
    same name is replaced. A rotation and an origin are dropped, as `write_label_map` does. Raises
    `ImageError` when a chunk of the store is damaged, the folder is missing, or the disk refuses.
    """
    regions = list(cut_chunks(store.shape, _tile_shape(store.shape), VOXELS_AT_ONCE))
    begun, is_stopped = 0, False

    def tiles() -> Iterator[Tile]:
        """What tifffile, which writes without a break, takes in a thread of its own."""
        nonlocal begun
        for begun, region in enumerate(regions, 1):  # noqa: B007
            for tile in _tiles_of(store, region):
                if is_stopped:
                    raise InterruptedError
                yield tile

    with image_draft(path, image_suffix(path)) as draft, ThreadPoolExecutor(1) as thread:
        writing = thread.submit(_write, draft, store, tiles())
        try:
            while not writing.done():
                yield Progress("Writing the TIFF", max(0, begun - 1), len(regions))
                wait([writing], SECONDS_BETWEEN_REPORTS)
        finally:
            is_stopped = True
        writing.result()
        yield Progress("Writing the TIFF", len(regions), len(regions))


def _write(draft: Path, store: LabelStore, tiles: Iterable[Tile]) -> None:
    from tifffile import TiffWriter

    grid, size = store.grid, np.dtype(store.dtype).itemsize
    axes = "ZYX"[-grid.ndim :]
    spacing = dict(zip(axes, grid.spacing, strict=True))
    with TiffWriter(draft, bigtiff=size * grid.voxels > LARGEST_CLASSIC, ome=True) as tiff:
        tiff.write(
            iter(tiles),
            shape=grid.shape,
            dtype=store.dtype,
            tile=(TILE, TILE),
            photometric="minisblack",
            compression="zlib",
            resolution=resolution(spacing),
            metadata=ome_metadata(axes, spacing, store.unit),
        )


def _tile_shape(shape: Sequence[int]) -> tuple[int, ...]:
    return (1,) * (len(shape) - 2) + (TILE, TILE)


def _tiles_of(store: LabelStore, region: Block) -> Iterator[Tile]:
    """Read the tiles of a region in the order of the file, each filled up with background."""
    labels = store.read(region)
    for part in cut(region.shape, _tile_shape(region.shape)):
        tile = np.zeros((TILE, TILE), store.dtype)
        inside = labels[part.slices].reshape(part.shape[-2:])
        tile[: inside.shape[0], : inside.shape[1]] = inside
        yield tile
