"""napari's ways to open NIfTI, NRRD and MetaImage, DICOM files and folders, and large labels on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_swipe._layers import LayerData

Reader = Callable[[str | list[str]], list["LayerData"]]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")


def nifti_reader(path: str | list[str]) -> Reader | None:
    """The function that reads this path, or these, or None where one of them is not NIfTI."""
    if all(name.lower().endswith(NIFTI_SUFFIXES) for name in _as_list(path)):
        return read_layers
    return None


def medical_reader(path: str | list[str]) -> Reader | None:
    """The function that reads NRRD, MetaImage and DICOM, and folders of DICOM slices; else None.

    Whether a folder holds DICOM is judged by a glance at some of its files.
    """
    from swipe_core.dicom_files import holds_dicom

    if all(name.lower().endswith(ITK_SUFFIXES) or holds_dicom(Path(name)) for name in _as_list(path)):
        return read_layers
    return None


def label_store_reader(path: str | list[str]) -> Reader | None:
    """The function that reads zarr folders of labels that this program wrote; None for all others."""
    from swipe_core.label_folders import is_label_folder

    return read_label_stores if all(is_label_folder(Path(name)) for name in _as_list(path)) else None


def read_label_stores(path: str | list[str]) -> list[LayerData]:
    """One labels layer per folder, of which only what is looked at is read.

    Raises
    ------
    swipe_core.errors.ImageError
        When a folder is damaged or not complete, or zarr is not installed.
    """
    from napari_swipe._layers import label_store_layer_data
    from swipe_core.images.label_store import LabelStore

    return [label_store_layer_data(LabelStore.open(Path(name))) for name in _as_list(path)]


def read_layers(path: str | list[str]) -> list[LayerData]:
    """One layer per file, placed in the world as the file says.

    A label map becomes a labels layer (`swipe_core.images.holds_labels` tells how it is known), all
    else an image layer. The fourth axis of a NIfTI file is time by its standard, the parts of a
    voxel are channels; either is a leading axis with a slider.

    Raises
    ------
    swipe_core.errors.ImageError
        When a file is not there, or cannot be read.
    """
    return [_layer(Path(name)) for name in _as_list(path)]


def _layer(path: Path) -> LayerData:
    # Imported when a file is opened: they bring torch, and napari's start is the user's time.
    from napari_swipe._layers import image_layer_data
    from swipe_core.images import holds_labels, read_header, read_image

    if holds_labels(path):
        return _label_layer(path)
    return image_layer_data(read_image(path), read_header(path).channel_axis)


def _label_layer(path: Path) -> LayerData:
    from napari_swipe._layers import label_layer_data
    from swipe_core.images import read_label_map
    from swipe_core.pictures import CLASS_COLOURS, default_colours

    label_map = read_label_map(path)
    largest = int(label_map.array.max())
    # Few labels are classes, and have the colours of classes; many are instances.
    colours = default_colours(largest) if largest <= len(CLASS_COLOURS) else []
    return label_layer_data(label_map, path.name, colours=colours)


def _as_list(path: str | list[str]) -> list[str]:
    return [path] if isinstance(path, str) else list(path)
