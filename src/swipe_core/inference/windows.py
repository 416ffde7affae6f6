"""Sliding windows: where they lie, and how their logits are weighed into one continuous function."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.blocks import Block
from swipe_core.compute.memory import is_out_of_memory
from swipe_core.coordinates import Affine, voxel_centres, voxel_to_image
from swipe_core.networks.encoding import Encoding, EncodingBuffer, LogitMap

SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True, eq=False)
class EncodedWindow:
    """A window and what is kept of it (a batch of one)."""

    block: Block
    encoding: Encoding
    mirrored: tuple[int, ...] = ()
    """Axes along which the window was mirrored before it was encoded."""

    def to_image(self, points_voxel: Float[Tensor, "points ndim"]) -> Float[Tensor, "points ndim"]:
        """Bring voxels of the whole image to the image frame of the window as it was encoded."""
        start = torch.tensor(self.block.start, dtype=points_voxel.dtype, device=points_voxel.device)
        points_image = voxel_to_image(points_voxel - start, self.block.shape)
        if not self.mirrored:
            return points_image
        signs = torch.ones(points_image.shape[-1], device=points_image.device)
        signs[list(self.mirrored)] = -1
        return points_image * signs


def orientations(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every way to mirror an image along some of the axes, none of them first."""
    return [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]


def place_windows(shape: Sequence[int], size: Sequence[int] | None, overlap: float) -> list[Block]:
    """Return windows that cover an image, evenly spread, each inside it; one where `size` covers the image.

    `size`: shape of a window in voxels; axes shorter than it take the image's length. None: one window.
    `overlap`: least share of a window that its neighbour covers too, in [0, 1).
    """
    if size is None:
        return [Block((0,) * len(shape), tuple(shape))]
    window = tuple(min(n, s) for n, s in zip(shape, size, strict=True))
    starts = [_axis_starts(n, w, overlap) for n, w in zip(shape, window, strict=True)]
    return [Block(start, window) for start in itertools.product(*starts)]


def _axis_starts(length: int, window: int, overlap: float) -> list[int]:
    step = max(1, math.floor(window * (1 - overlap)))
    count = 1 + -(-(length - window) // step)
    return [round(i * (length - window) / max(count - 1, 1)) for i in range(count)]


def windows_intersecting(blocks: Sequence[Block], to_voxel: Affine, shape: Sequence[int]) -> list[Block]:
    """Return those of some windows that a lattice of points intersects; all where it intersects none.

    `to_voxel`: from indices of the lattice to voxels of the image.
    `shape`: of the lattice.
    """
    corners = to_voxel.apply(np.array(list(itertools.product(*((-0.5, n - 0.5) for n in shape)))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    found = [
        block
        for block in blocks
        if np.all(np.add(block.start, block.shape) - 0.5 >= low)
        and np.all(np.array(block.start) - 0.5 <= high)
    ]
    return found or list(blocks)


def blending_weight(points_image: Float[Tensor, "points ndim"]) -> Float[Tensor, " points"]:
    """Return the weight of a window's logits: 1 at its centre, falling smoothly towards its border.

    It is zero outside the window and leaps there by no more than `SMALLEST_WEIGHT` beside the
    neighbours' weights, so where windows overlap the blended field is continuous to that precision.
    """
    inside = (points_image.abs() <= 1).all(dim=-1)
    bell = torch.cos(0.5 * math.pi * points_image.clamp(-1, 1)).square()
    return torch.where(inside, bell.clamp(min=SMALLEST_WEIGHT).prod(dim=-1), 0.0)


CPU = torch.device("cpu")
Oriented = tuple[Block, tuple[int, ...]]
"""A window, and the axes along which it is mirrored before it is encoded."""


class WindowList:
    """Each window by itself, for all to be decoded together.

    `count`: number of the windows that are to come.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._windows: list[EncodedWindow] = []
        self._buffer = EncodingBuffer(count)
        self._on_cpu = device.type == "cpu"

    def put(self, windows: Sequence[Oriented], encoding: Encoding) -> None:
        """Keep a batch of windows."""
        # A GPU's memory has no gaps, and a buffer would only be one more thing that may not fit.
        kept = self._buffer.put(encoding) if self._on_cpu else encoding.apart()
        made = zip(kept, windows, strict=True)
        self._windows += [EncodedWindow(block, own, axes) for own, (block, axes) in made]

    def move_to_cpu(self, remaining: int) -> None:
        """Go on on the CPU, with what is kept already, where so many windows are still to come."""
        self._windows = [replace(window, encoding=window.encoding.to(CPU)) for window in self._windows]
        self._buffer, self._on_cpu = EncodingBuffer(remaining), True

    def kept(self) -> tuple[EncodedWindow, ...]:
        """Return the windows."""
        return tuple(self._windows)


class LogitMosaic:
    """One raster of logits, into which windows are blended at the centres of its voxels.

    For networks whose encodings are larger than that. Between the centres the blended logits are
    interpolated, and windows meet as those that are decoded by themselves do.

    `windows`: all that are to come.
    """

    def __init__(self, windows: Sequence[Oriented], outputs: int, device: torch.device) -> None:
        blocks = [block for block, _ in windows]
        start = np.min([block.start for block in blocks], axis=0)
        stop = np.max([np.add(block.start, block.shape) for block in blocks], axis=0)
        self._block = Block(tuple(start.tolist()), tuple((stop - start).tolist()))
        self._outputs = outputs
        try:
            self._logits, self._weights = self._allocated(device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._logits, self._weights = self._allocated(CPU)
        self._bells: dict[tuple[int, ...], Tensor] = {}

    def put(self, windows: Sequence[Oriented], encoding: Encoding) -> None:
        """Blend a batch of windows in, whose encoding is a `LogitMap`."""
        (logits_of_all,) = encoding.tensors
        for (block, axes), logits in zip(windows, logits_of_all, strict=True):
            upright = logits.flip([1 + axis for axis in axes])
            try:
                self._add(block, upright)
            except RuntimeError as error:
                if self._logits.device == CPU or not is_out_of_memory(error):
                    raise
                self.move_to_cpu(0)
                self._add(block, upright)

    def move_to_cpu(self, remaining: int) -> None:
        """Go on on the CPU, however many windows are still to come."""
        self._logits, self._weights = self._logits.to(CPU), self._weights.to(CPU)
        self._bells.clear()

    def kept(self) -> tuple[EncodedWindow, ...]:
        """Return the raster as the only window; no more can be put into it then."""
        # In place: there may not be room for a second raster.
        self._logits /= self._weights.clamp_(min=torch.finfo(torch.float32).tiny)
        return (EncodedWindow(self._block, LogitMap.of(self._logits[None])),)

    def _add(self, block: Block, logits: Float[Tensor, "outputs *shape"]) -> None:
        bell, inside = self._bell(block.shape), block.within(self._block).slices
        weighed = bell * logits.to(bell.device)
        self._logits[(slice(None), *inside)] += weighed
        self._weights[inside] += bell

    def _allocated(self, device: torch.device) -> tuple[Tensor, Tensor]:
        logits = torch.zeros(self._outputs, *self._block.shape, device=device)
        return logits, torch.zeros(self._block.shape, device=device)

    def _bell(self, shape: tuple[int, ...]) -> Float[Tensor, "*shape"]:
        """The weight of each voxel of a window."""
        if shape not in self._bells:
            centres = torch.tensor(voxel_to_image(voxel_centres(shape), shape), dtype=torch.float32)
            self._bells[shape] = blending_weight(centres).reshape(shape).to(self._logits.device)
        return self._bells[shape]
