"""napari's way to open NIfTI files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_swipe._layers import LayerData

SUFFIXES = (".nii", ".nii.gz")


def nifti_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """The function that reads this path, or these, or None where one of them is not NIfTI."""
    if all(name.lower().endswith(SUFFIXES) for name in _as_list(path)):
        return read_nifti_layers
    return None


def read_nifti_layers(path: str | list[str]) -> list[LayerData]:
    """One image layer per file, placed in the world as the file says.

    Raises
    ------
    swipe_core.errors.ImageError
        When a file is not there, or cannot be read.
    """
    # Imported when a file is opened: they bring torch, and napari's start is the user's time.
    from napari_swipe._layers import image_layer_data
    from swipe_core.images import read_image

    return [image_layer_data(read_image(Path(name))) for name in _as_list(path)]


def _as_list(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)
