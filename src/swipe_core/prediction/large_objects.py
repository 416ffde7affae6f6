"""Single objects of an image that is read part by part: the same in every part that holds them whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from functools import partial

import numpy as np
from jaxtyping import Int64, UInt8

from swipe_core.blocks import Block, cut
from swipe_core.images import LabelMap
from swipe_core.images.label_store import LabelStore
from swipe_core.inference.instances import iter_part_objects, numbered, object_lattice, typical_size
from swipe_core.inference.stack import iter_sampled
from swipe_core.prediction.block_renderer import BlockRenderer
from swipe_core.prediction.large_plan import LargePlan
from swipe_core.progress import Notice, Progress

# Voxels of the encoded image about a piece in which its objects must lie whole.
HALO = {2: 64, 3: 24}
EDGE = 4  # voxels at the rim of what is encoded for a piece, in which nothing is asked
SAMPLES = 8  # pieces, at most, that say how large a typical object is
ONE_OF = 4  # pieces, at most, is looked at for that


def iter_smallest(renderer: BlockRenderer) -> Generator[Progress | Notice, None, float]:
    """Return below how many voxels of the lattice of objects one is left out, from some of the pieces."""
    share = renderer.predictor.config.smallest_object
    if not share:
        return 0.0
    pieces = [piece for block in renderer.plan.blocks for piece in renderer.plan.pieces(block)]
    chosen = pieces[:: max(ONE_OF, math.ceil(len(pieces) / SAMPLES))]
    sizes = []
    for done, piece in enumerate(chosen):
        yield Progress("Looking at objects", done, len(chosen))
        field = yield from renderer.iter_field(piece)
        part = _part(renderer.plan, piece)
        found, _ = yield from iter_sampled(field, partial(iter_part_objects, part=part, smallest=0.0))
        sizes.append(np.bincount(found.objects.ravel())[1:])
        renderer.cache.shrink()
    return share * typical_size(np.concatenate(sizes))


def iter_identities(
    renderer: BlockRenderer, piece: Block, labels: UInt8[np.ndarray, "*shape"], smallest: float
) -> Generator[Progress | Notice, None, Int64[np.ndarray, "*shape"]]:
    """Return to which object each voxel of a piece belongs, as `iter_part_objects` identifies them.

    Parameters
    ----------
    labels
        Of the piece.
    smallest
        As `iter_smallest` returns it.
    """
    plan = renderer.plan
    around = _around(plan, piece)
    field = yield from renderer.iter_field(around)
    work = partial(iter_part_objects, part=_part(plan, around), smallest=smallest)
    found, identities = yield from iter_sampled(field, work)
    renderer.cache.shrink()
    grid = plan.output.window(piece.start, piece.shape)
    return identities[numbered(found, LabelMap(labels, grid.affine, field.unit)).array]


def iter_renumber(identities: LabelStore, numbers: LabelStore) -> Generator[Progress, None, None]:
    """Number the objects from 1 on, in the order of their deepest voxels.

    Parameters
    ----------
    numbers
        Is filled, as far as it has not been before.
    """
    pieces = list(cut(identities.shape, identities.chunks))
    known = np.zeros(1, np.int64)
    for done, piece in enumerate(pieces):
        known = np.union1d(known, identities.read(piece))
        yield Progress("Numbering objects", done, 2 * len(pieces))
    for done, piece in enumerate(pieces, start=len(pieces)):
        if not numbers.holds(piece):
            numbers.write(piece, np.searchsorted(known, identities.read(piece)).astype(numbers.dtype))
        yield Progress("Numbering objects", done + 1, 2 * len(pieces))


def _around(plan: LargePlan, piece: Block) -> Block:
    """A piece, and about it what holds its objects whole, as far as there is an image."""
    finer = (plan.output.affine.inverse() @ plan.prepared.affine).spacing
    halo = np.ceil(np.multiply(finer, HALO[plan.output.ndim])).astype(int)
    start = np.maximum(0, np.subtract(piece.start, halo))
    stop = np.minimum(plan.output.shape, np.add(piece.start, piece.shape) + halo)
    return Block(tuple(start.tolist()), tuple((stop - start).tolist()))


def _part(plan: LargePlan, around: Block) -> Block:
    """The voxels of the lattice of objects inside of a part of the result, but for a rim; all at a border."""
    lattice = object_lattice(plan.prepared)
    to_lattice = lattice.affine.inverse() @ plan.output.affine
    stop = np.add(around.start, around.shape)
    ends = [(a - 0.5, b - 0.5) for a, b in zip(around.start, stop.tolist(), strict=True)]
    corners = to_lattice.apply(np.array(list(itertools.product(*ends))))
    rim = np.multiply(EDGE, (lattice.affine.inverse() @ plan.prepared.affine).spacing)
    low, high = np.ceil(corners.min(axis=0) + rim), np.floor(corners.max(axis=0) - rim) + 1
    low = np.where(np.array(around.start) == 0, 0, low)
    high = np.where(stop == plan.output.shape, lattice.shape, high)
    shape = np.maximum(1, high - low)
    return Block(tuple(low.astype(int).tolist()), tuple(shape.astype(int).tolist()))
