"""`Renumbering`: painted layers whose numbers follow what unpainted voxels mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_swipe.annotate.counts import blocks

if TYPE_CHECKING:
    from napari.layers import Labels


class Renumbering:
    """Turns a layer's numbers from one meaning of unpainted voxels to the other, and back without loss.

    With "ignored" the background is painted as 1 and the classes follow; with "background" it is 0.
    """

    def __init__(self) -> None:
        self._background: dict[object, dict[int, np.ndarray]] = {}

    def apply(self, labels: Labels, is_background_painted: bool) -> None:
        """Make the background a label of its own, or let it be what is not painted."""
        strokes = self._background.setdefault(labels.unique_id, {})
        # Most of a large layer is not painted: what is only read costs little.
        for number, index in enumerate(blocks(labels.data.shape)):
            block = labels.data[index]
            if not is_background_painted and block.any():
                strokes[number] = _without_background(block)
            elif is_background_painted and (block.any() or number in strokes):
                _with_background(block, strokes.pop(number, np.empty(0, np.int64)))
        _forget_history(labels)
        labels.data = labels.data

    def forget(self, labels: Labels) -> None:
        self._background.pop(labels.unique_id, None)


def _without_background(block: np.ndarray) -> np.ndarray:
    """One less of each number; returns where 1 stood, in C order."""
    background = np.flatnonzero(block == 1)
    block -= (block != 0).astype(block.dtype)
    return background


def _with_background(block: np.ndarray, background: np.ndarray) -> None:
    """One more of each number, and 1 at places that nobody painted since."""
    # The largest number would come round to 0.
    block += ((block != 0) & (block != np.iinfo(block.dtype).max)).astype(block.dtype)
    block.flat[background[block.flat[background] == 0]] = 1


def _forget_history(labels: Labels) -> None:
    """An undo would bring numbers of the other meaning back."""
    mode, is_editable = labels.mode, labels.editable
    labels.editable = False
    labels.editable = is_editable
    labels.mode = mode
