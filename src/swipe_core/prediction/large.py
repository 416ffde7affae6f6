"""One image larger than memory, block by block: by any number of processes, resumed after any end."""

import math
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from swipe_core.blocks import Block, cut
from swipe_core.data.preprocessing import IntensityStatistics
from swipe_core.errors import ImageError
from swipe_core.images.formats import TIFF
from swipe_core.images.label_store import LabelStore
from swipe_core.images.label_tiff import iter_write_tiff
from swipe_core.images.levels import level_shapes
from swipe_core.images.source import ImageSource
from swipe_core.images.stored import StoredImage, open_stored_image
from swipe_core.images.zarr_folder import ZARR_SUFFIXES
from swipe_core.inference.config import SETTINGS
from swipe_core.pictures import RGB, default_colours, fitted_shape, overlay, write_png
from swipe_core.prediction.block_renderer import CACHE_BYTES, STAGE, BlockRenderer
from swipe_core.prediction.large_objects import iter_identities, iter_renumber, iter_smallest
from swipe_core.prediction.large_plan import LargePlan, check_large, iter_plan_large
from swipe_core.prediction.predictor import Predictor, notices_of_channels, space_notices
from swipe_core.prediction.request import Request
from swipe_core.progress import Notice, Progress, finish, with_progress

TARGETS = (*ZARR_SUFFIXES, *TIFF.suffixes)  # what labels can be written to block by block
OVERVIEW_SIZE = 2048  # pixels along the longer side of a picture, at most
PIXELS_AT_ONCE = 2**22
# What makes no difference to the labels.
INDIFFERENT = {"chunk_points", "window_batch"} | {s.name for s in SETTINGS.values() if s.needs_whole_image}
DIFFERENCES = {
    "image": "another image",
    "model": "another model",
    "request": "another request",
    "settings": "other settings",
}


@dataclass(frozen=True, eq=False)
class LargeWork:
    """A segmentation that has been begun, maybe before."""

    plan: LargePlan
    store: LabelStore
    """Where its labels are written; its path is all that another process needs to know."""
    objects: LabelStore | None = None
    """Where the identities of single objects are written, where those are wanted; beside `store`."""

    @property
    def unfinished(self) -> list[Block]:
        """Blocks of which something is still to be segmented, in C order."""
        return [block for block in self.plan.blocks if not self.holds(block)]

    def holds(self, part: Block) -> bool:
        """Whether all of a part has been written."""
        return self.store.holds(part) and (self.objects is None or self.objects.holds(part))


def iter_segment_large(
    predictor: Predictor,
    source: StoredImage,
    request: Request,
    target: Path,
    *,
    block_edge: int | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Generator[Progress | Notice, None, LargePlan]:
    """Segment an image block by block and write its labels; returns the plan that was followed.

    The labels grow in a hidden folder ``.NAME.partial.zarr`` beside `target`. Stopped or killed at any
    moment, the same call goes on with the pieces that are missing. An image in 2D gets a picture
    ``NAME_overlay.png`` besides. Raises `SwipeError` when the image cannot be segmented block by block with
    this model and request, is damaged, or the labels cannot be written.

    `target`: ``.ome.zarr``, ``.zarr``, or a TIFF in tiles: ``.tif``, ``.tiff``, ``.ome.tif``, ``.ome.tiff``.
    What this program wrote under this name is replaced, and other folders are refused. A zarr folder that
    holds these labels already stays as it is.
    `block_edge`: as `iter_plan_large` takes it.
    `cache_bytes`: of the embeddings that are kept for neighbouring blocks.
    """
    work = yield from iter_begin_large(predictor, source, request, target, block_edge=block_edge)
    renderer = BlockRenderer(predictor, source, work.plan, cache_bytes)
    blocks, unfinished = work.plan.blocks, work.unfinished
    done = len(blocks) - len(unfinished)
    yield Progress(STAGE, done, len(blocks))
    for block in unfinished:
        yield from with_progress(_iter_block(renderer, work, block), Progress(STAGE, done, len(blocks)))
        done += 1
        yield Progress(STAGE, done, len(blocks))
    yield from iter_finish_large(work, source, target)
    return work.plan


def iter_begin_large(
    predictor: Predictor,
    source: StoredImage,
    request: Request,
    target: Path,
    *,
    block_edge: int | None = None,
) -> Generator[Progress | Notice, None, LargeWork]:
    """The first of three steps of `iter_segment_large`: plan, and make or find the folder of the labels.

    The second is `segment_block` for each block of `LargeWork.unfinished`, in any order and process; the
    third is `iter_finish_large`.
    """
    check_large(predictor.content, predictor.config, request)
    yield from space_notices(predictor.content, source.space)
    yield from notices_of_channels(source.channel_kinds, predictor.content)
    record = _record(predictor, source, request)
    found = _found(target, record)
    statistics = None if found is None else _statistics(found.notes)
    plan = yield from iter_plan_large(
        predictor, source, request, statistics=statistics, block_edge=block_edge
    )
    if found is None:
        names = predictor.content.labels.class_names
        colours = predictor.content.labels.class_colours or default_colours(len(names))
        found = LabelStore.create(
            working_store(target),
            plan.output,
            source.unit,
            plan.chunks,
            classes=dict(zip(names, colours, strict=True)),
            record=record,
            notes={"statistics": asdict(plan.statistics)},
        )
    if not request.instances or found.path == target:
        return LargeWork(plan, found)
    return LargeWork(plan, found, (yield from _iter_begin_objects(predictor, source, plan, found)))


def _iter_begin_objects(
    predictor: Predictor, source: StoredImage, plan: LargePlan, labels: LabelStore
) -> Generator[Progress | Notice, None, LabelStore]:
    """Make or find the folder of the identities of objects beside that of the labels."""
    path = _identities_of(labels.path)
    begun = _begun(path, labels.record)
    if begun is not None:
        return begun
    smallest = yield from iter_smallest(BlockRenderer(predictor, source, plan))
    return _like(labels, path, "int64", {"smallest": smallest})


def iter_finish_large(work: LargeWork, source: StoredImage, target: Path) -> Generator[Progress, None, None]:
    """The last of three steps: numbers of objects, coarser levels, the overlay, and labels in their place."""
    if work.objects is not None:
        yield from _iter_finish_objects(work.objects, objects_path(target))
    if work.store.path == target and (source.ndim == 3 or overlay_path(target).is_file()):
        return
    store = yield from work.store.iter_finish()
    if source.ndim == 2:
        part = source.window(work.plan.start, work.plan.image.shape)
        picture = yield from _iter_overview(part, store, list(store.classes.values()))
        write_png(overlay_path(target), picture)
    if store.path != target and is_zarr_target(target):
        store.move(target)
    elif store.path != target:
        yield from iter_write_tiff(target, store)
        store.remove()
    if work.objects is not None:
        work.objects.remove()


def _iter_finish_objects(identities: LabelStore, target: Path) -> Generator[Progress, None, None]:
    path = working_store(target)
    numbers = _begun(path, identities.record) or _like(identities, path, "uint32")
    yield from iter_renumber(identities, numbers)
    if is_zarr_target(target):
        finished = yield from numbers.iter_finish()
        finished.move(target)
    else:
        yield from iter_write_tiff(target, numbers)
        numbers.remove()


def segment_block(
    predictor: Predictor, image: ImageSource, request: Request, store_path: Path, block: Block
) -> int:
    """Segment a block in this process, and write it; returns how many of its pieces were missing.

    The process keeps the plan and the last windows for the next block of the same work, and takes one block
    at a time. Raises `SwipeError` when the model, the image or the request is another one than the work began
    with, something is damaged, or the labels cannot be written.

    `store_path`: of the `LabelStore` that `iter_begin_large` made.
    `block`: any of `LargePlan.blocks`.
    """
    with _ONE_AT_A_TIME:
        renderer, work = _opened(predictor, image, request, store_path)
        return finish(_iter_block(renderer, work, block))


_ONE_AT_A_TIME = threading.Lock()


@lru_cache(maxsize=1)
def _opened(
    predictor: Predictor, source: ImageSource, request: Request, store: Path
) -> tuple[BlockRenderer, LargeWork]:
    image = request.with_channels(open_stored_image(source, request.image_ndim(predictor.content)))
    labels = LabelStore.open(store)
    differing = [DIFFERENCES.get(key, key) for key in labels.differences(_record(predictor, image, request))]
    if differing:
        raise ImageError(f"{labels.path} was begun with {' and '.join(differing)}: call again.")
    plan = finish(iter_plan_large(predictor, image, request, statistics=_statistics(labels.notes)))
    objects = LabelStore.open(_identities_of(store)) if request.instances else None
    return BlockRenderer(predictor, image, plan), LargeWork(plan, labels, objects)


def _iter_block(
    renderer: BlockRenderer, work: LargeWork, block: Block
) -> Generator[Progress | Notice, None, int]:
    missing = [piece for piece in work.plan.pieces(block) if not work.holds(piece)]
    for piece in missing:
        labels = yield from renderer.iter_render(piece)
        if work.objects is not None:
            smallest = work.objects.notes["smallest"]
            work.objects.write(piece, (yield from iter_identities(renderer, piece, labels, smallest)))
        work.store.write(piece, labels)
    return len(missing)


def working_store(target: Path) -> Path:
    """The folder in which labels grow."""
    return target.with_name(f".{target.name}.partial.zarr")


def overlay_path(target: Path) -> Path:
    """The picture beside the labels."""
    return target.with_name(f"{target.name.removesuffix(_suffix(target))}_overlay.png")


def objects_path(target: Path) -> Path:
    """The numbers of objects beside the labels."""
    suffix = _suffix(target)
    return target.with_name(f"{target.name.removesuffix(suffix)}_objects{suffix}")


def _identities_of(labels: Path) -> Path:
    """Where the identities of objects grow beside labels."""
    return labels.with_name(f"{labels.name.removesuffix('.partial.zarr')}.objects.zarr")


def is_zarr_target(target: Path) -> bool:
    """Whether labels are to be written as OME-Zarr."""
    return target.name.lower().endswith(ZARR_SUFFIXES)


def _suffix(target: Path) -> str:
    length = max((len(suffix) for suffix in TARGETS if target.name.lower().endswith(suffix)), default=0)
    return target.name[len(target.name) - length :]


def _found(target: Path, record: Mapping[str, Any]) -> LabelStore | None:
    """Labels of the same that are finished or begun, if there are any; others that were begun are removed."""
    if is_zarr_target(target) and target.exists():
        store = LabelStore.open(target)
        if not store.differences(record):  # what is finished of something else stays until it is replaced
            return store
    return _begun(working_store(target), record)


def _begun(path: Path, record: Mapping[str, Any]) -> LabelStore | None:
    """What was begun of the same, if it was; of something else it is removed."""
    if not path.exists():
        return None
    store = LabelStore.open(path)
    if not store.differences(record):
        return store
    store.remove()
    return None


def _like(store: LabelStore, path: Path, dtype: str, notes: Mapping[str, Any] | None = None) -> LabelStore:
    """A store of numbers in the place of classes, on the lattice and in the chunks of another one."""
    return LabelStore.create(
        path, store.grid, store.unit, store.chunks, classes={}, record=store.record, notes=notes, dtype=dtype
    )


def _record(predictor: Predictor, source: StoredImage, request: Request) -> dict[str, Any]:
    """A record of what decides labels: the same image, model and settings make the same labels."""
    return {
        "image": source.identity,
        "model": predictor.digest,
        "request": asdict(request),
        "settings": predictor.config.model_dump(mode="json", exclude=INDIFFERENT),
    }


def _statistics(notes: Mapping[str, Any]) -> IntensityStatistics:
    return IntensityStatistics(**{name: tuple(values) for name, values in notes["statistics"].items()})


def _iter_overview(
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
