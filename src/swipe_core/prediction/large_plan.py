"""How an image larger than memory is segmented: pieces of the result, and the windows that each needs."""

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from swipe_core.blocks import Block, cut, cut_blocks
from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.coordinates import Grid
from swipe_core.data.preprocessing import IntensityStatistics
from swipe_core.errors import CheckpointError, ConfigError
from swipe_core.images.orientation import oriented
from swipe_core.images.stored import StoredImage
from swipe_core.inference.config import SETTINGS, InferenceConfig
from swipe_core.inference.windows import place_windows
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.preparing import PartPreparation, iter_intensity_statistics
from swipe_core.prediction.request import Request
from swipe_core.progress import Progress

# Voxels of the encoded image along an edge of a block: many windows, of which few are its neighbour's too.
BLOCK_EDGE = {2: 2048, 3: 192}
# Of the result, in a piece at most: its windows are in memory together.
PIECE_VOXELS = 2**20
TOUCHING = 1e-3  # voxels within which windows are taken for touching, so that no rounding leaves one out


@dataclass(frozen=True)
class LargePlan:
    """The pieces in which labels are rendered, and the windows that each needs.

    The pieces are those in which `OccupancyField.iter_render` renders the whole result where
    `InferenceConfig.block_voxels` is `PIECE_VOXELS` or less, and the windows those that `place_windows`
    lays over the whole image. So the labels are those of the whole image, with MISE too, up to the order
    in which numbers of single precision are summed.
    """

    start: tuple[int, ...]
    """Voxel of the stored image at which what is segmented begins."""
    image: Grid
    """Lattice of what is segmented, as it is stored."""
    prepared: Grid
    """Its lattice after preprocessing, which the windows cover."""
    output: Grid
    """Lattice of the labels."""
    chunks: tuple[int, ...]
    """Shape of the pieces, which are the chunks in which labels are stored; the last may be shorter."""
    block: tuple[int, ...]
    """Shape of the blocks, of whole pieces: what one process does at a time."""
    window: tuple[int, ...]
    overlap: float
    """`window` and `overlap`: As `place_windows` takes them."""
    margin: float
    """Voxels of the prepared image that are decoded beyond a piece: along all axes for the smoothing."""
    stride: tuple[int, ...]
    """First MISE step along each axis, in voxels of the result."""
    statistics: IntensityStatistics
    """Of the intensities of all that is segmented."""

    @property
    def blocks(self) -> list[Block]:
        """All blocks of the result, in C order."""
        return list(cut(self.output.shape, self.block))

    def pieces(self, block: Block) -> list[Block]:
        """The pieces of a block, in C order."""
        return [
            Block(tuple(a + b for a, b in zip(block.start, piece.start, strict=True)), piece.shape)
            for piece in cut(block.shape, self.chunks)
        ]

    def windows_of(self, piece: Block) -> list[Block]:
        """The windows that hold a point at which a piece is asked, in the order of `place_windows`."""
        to_voxel = self.prepared.affine.inverse() @ self.output.affine
        # The lattice of MISE reaches beyond the last voxel by less than its step.
        axes = zip(piece.start, piece.shape, self.stride, strict=True)
        spans = [(a, a + n + step - 2) for a, n, step in axes]
        corners = to_voxel.apply(np.array(list(itertools.product(*spans)), float))
        low, high = corners.min(axis=0) - self.margin, corners.max(axis=0) + self.margin
        found: list[tuple[list[Block], list[int]]] = []
        for length, size, first, last in zip(self.prepared.shape, self.window, low, high, strict=True):
            placed = place_windows((length,), (size,), self.overlap)
            # Beyond the image its border answers.
            first, last = (min(max(p, -0.5), length - 0.5) for p in (first, last))
            meeting = [
                n
                for n, one in enumerate(placed)
                if one.start[0] - 0.5 - TOUCHING <= last
                and one.start[0] + one.shape[0] - 0.5 + TOUCHING >= first
            ]
            found.append((placed, meeting))
        shape = tuple(placed[0].shape[0] for placed, _ in found)
        starts = ([placed[n].start[0] for n in meeting] for placed, meeting in found)
        return [Block(start, shape) for start in itertools.product(*starts)]


def iter_plan_large(
    predictor: Predictor,
    source: StoredImage,
    request: Request,
    *,
    statistics: IntensityStatistics | None = None,
    block_edge: int | None = None,
) -> Generator[Progress, None, LargePlan]:
    """Plan the segmentation of an image that is read part by part; measures its intensities where needed.

    `statistics`: of the image's intensities, where they were measured before.
    `block_edge`: voxels of the encoded image along the edge of a block, about; by default 2048 in 2D, 192 in
    3D.
    """
    content, config = predictor.content, predictor.config
    check_large(content, config, request)
    start, shape = map(tuple, request.span_in(source.shape))
    part = source.window(start, shape)
    turned = oriented(part, content.preprocessing.orientation)
    preparation = PartPreparation(turned, content.preprocessing)
    preparation.check()
    if statistics is None:
        statistics = yield from iter_intensity_statistics(preparation)
    prepared, output = preparation.grid, request.grid_of(part.grid)
    field = predictor.empty_field(prepared, part.grid, part.unit, part.space)
    chunks = cut_blocks(output.shape, min(config.block_voxels, PIECE_VOXELS))[0].shape
    crop_size = content.preprocessing.crop_size
    assert crop_size is not None  # says `check_large`
    is_mise = (request.method or config.method) == "mise"
    return LargePlan(
        start=start,
        image=part.grid,
        prepared=prepared,
        output=output,
        chunks=chunks,
        block=_block_shape(prepared, output, chunks, block_edge or BLOCK_EDGE[output.ndim]),
        window=crop_size,
        overlap=config.overlap,
        margin=config.smoothing,
        stride=tuple(field.lattice_stride(output)) if is_mise else (1,) * output.ndim,
        statistics=statistics,
    )


def check_large(content: CheckpointContent, config: InferenceConfig, request: Request) -> None:
    """See that a model and a request can do without the whole image, before any of it is read.

    Raises `CheckpointError` when the model looks at whole images, and `ConfigError` when regions of high
    confidence, objects, maps or frames are requested.
    """
    request.check(content)
    if content.preprocessing.crop_size is None or content.preprocessing.size is not None:
        raise CheckpointError(
            f"{content.name} looks at whole images at once, and this one is read block by block: choose a "
            "model that was trained on crops (preprocessing.crop_size)."
        )
    for name, setting in SETTINGS.items():
        asked, default = getattr(config, name), setting.field.default
        if setting.needs_whole_image and asked != default:
            asked, default = (f"{each:g}" if isinstance(each, float) else each for each in (asked, default))
            raise ConfigError(
                f"{setting.option} {asked} needs the whole image, and this one is read block by block: set "
                f"{setting.option} {default}."
            )
    requested = {
        "--objects": request.objects,
        "--instances": request.instances and not getattr(content.model, "interior", False),
        "--probability": bool(request.probability),
        "--uncertainty": request.uncertainty,
        "--frames": request.frames,
    }
    refused = [option for option, is_requested in requested.items() if is_requested]
    if refused:
        raise ConfigError(
            f"An image that is read block by block becomes labels alone: leave out {' and '.join(refused)}."
        )


def _block_shape(prepared: Grid, output: Grid, chunks: Sequence[int], edge: int) -> tuple[int, ...]:
    """Return as many whole pieces along each axis as lie within `edge` voxels of the prepared image."""
    steps = (prepared.affine.inverse() @ output.affine).spacing  # in voxels of the prepared image
    return tuple(c * max(1, math.floor(edge / s / c + 1e-9)) for s, c in zip(steps, chunks, strict=True))
