"""Which images are segmented block by block, and which as a whole."""

from __future__ import annotations

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.data.preprocessing import target_grid
from swipe_core.errors import SwipeError
from swipe_core.images.formats import named_format
from swipe_core.images.source import ImageSource
from swipe_core.images.stored import open_stored_image
from swipe_core.images.zarr_folder import is_store
from swipe_core.prediction.jobs import Job, Order
from swipe_core.prediction.large_plan import check_large

# Voxels that are encoded at once at most, 4096 x 4096 or 256 x 256 x 256: with up to 270 bytes of embeddings
# for each, in windows that overlap by a half, they take 4.5 GB.
MOST_WHOLE = 2**24
SMALL_FILE = 2**22  # bytes; no smaller file is opened to see how large its image is


def job_of(order: Order, content: CheckpointContent, image: ImageSource, *, blocks: bool = False) -> Job:
    """The job of an image, which goes block by block where it is large.

    That is a zarr folder, and a TIFF of more than `MOST_WHOLE` voxels at the spacing of the model, unless
    what is asked for needs the whole image.

    Parameters
    ----------
    blocks
        Whether every TIFF does.
    """
    kind = named_format(image.path)
    in_parts = kind is not None and bool(kind.part_reader)
    return Job(
        order, image, is_store(image.path) or (in_parts and (blocks or _is_large(order, content, image)))
    )


def _is_large(order: Order, content: CheckpointContent, image: ImageSource) -> bool:
    try:
        if image.path.stat().st_size < SMALL_FILE:
            return False
        check_large(content, order.config, order.request)
        source = open_stored_image(image, order.ndim)
        part = source.window(*order.request.span_in(source.shape))
        return target_grid(part, content.preprocessing).voxels > MOST_WHOLE
    except (SwipeError, OSError):  # as a whole it may work, and otherwise says what is wrong with it
        return False
