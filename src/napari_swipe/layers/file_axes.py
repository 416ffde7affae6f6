"""What the file of a layer says of its axes, where the reader of the layer did not."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_swipe.layers.metadata import metadata_of
from swipe_core.errors import SwipeError
from swipe_core.images.formats import TIFF, named_format

if TYPE_CHECKING:
    from napari.layers import Image

NAMES = {"C": "channel", "S": "colour", "T": "time", "Z": "z", "Y": "y", "X": "x"}

Axes = tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]
"""Lengths and names of the axes, and names of the channels."""


def axis_labels(layer: Image) -> tuple[str, ...]:
    """Return the layer's own labels where somebody set them, else those of its file."""
    own = tuple(str(label) for label in layer.axis_labels)
    found = _found(layer)
    return own if found is None or not all(label.startswith("-") for label in own) else found[1]


def channel_names(layer: Image) -> tuple[str, ...]:
    """Return what the reader of the layer, or its file, calls the channels."""
    found = _found(layer)
    return tuple(metadata_of(layer).channels) or (found[2] if found else ())


def _found(layer: Image) -> Axes | None:
    path = Path(layer.source.path or "")
    is_colour = getattr(layer, "rgb", False)  # labels have no colours
    if is_colour or named_format(path) is not TIFF or not path.is_file():
        return None
    found = _of_file(path, path.stat().st_mtime_ns)
    return found if found is not None and found[0] == tuple(layer.data.shape) else None


@lru_cache(maxsize=64)
def _of_file(path: Path, changed: int) -> Axes | None:
    from swipe_core.images.tiff_series import tiff_axes

    try:
        letters, shape, kinds = tiff_axes(path)
    except SwipeError:  # whoever reads it will say so
        return None
    return shape, tuple(NAMES.get(letter, letter.lower()) for letter in letters), kinds.names
