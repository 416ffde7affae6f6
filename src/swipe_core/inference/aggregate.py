"""What is kept of an image's windows while they are encoded: each by itself, or one raster of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from swipe_core.blocks import Block
from swipe_core.compute.memory import is_out_of_memory
from swipe_core.coordinates import voxel_centres, voxel_to_image
from swipe_core.inference.windows import EncodedWindow, blending_weight
from swipe_core.networks.encoding import Encoding, EncodingBuffer, LogitMap

CPU = torch.device("cpu")
Oriented = tuple[Block, tuple[int, ...]]
"""A window, and the axes along which it is mirrored before it is encoded."""


class WindowList:
    """Each window by itself, for all to be decoded together.

    Parameters
    ----------
    count
        Number of the windows that are to come.
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

    Parameters
    ----------
    windows
        All that are to come.
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
