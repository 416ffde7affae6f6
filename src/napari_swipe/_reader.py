"""napari's ways to open NIfTI, NRRD and MetaImage, DICOM files and folders, and large labels on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from swipe_core.images.formats import (
    NIFTI,
    PICTURE,
    PNG,
    TIFF,
    holds_dicom_inside,
    is_dicom,
    named_format,
)

if TYPE_CHECKING:
    from napari_swipe.layers.data import LayerData
    from swipe_core.images.source import ImageSource

Reader = Callable[[str | list[str]], list["LayerData"]]

OPENED_BY_NAPARI = (TIFF, PNG, PICTURE)


def nifti_reader(path: str | list[str]) -> Reader | None:
    """Return the function that reads this path, or these, or None where one of them is not NIfTI."""
    if all(named_format(name) is NIFTI for name in as_list(path)):
        return read_layers
    return None


def medical_reader(path: str | list[str]) -> Reader | None:
    """Return the function that reads NRRD, MetaImage and DICOM, and folders with DICOM inside; else None.

    Files without one of these suffixes are DICOM by their content. Whether a folder holds DICOM is judged by
    a glance at some of its files.
    """
    for name in as_list(path):
        is_named = named_format(name) not in (None, NIFTI, *OPENED_BY_NAPARI)
        if not (is_named or is_dicom(Path(name)) or holds_dicom_inside(Path(name))):
            return None
    return read_layers


def label_store_reader(path: str | list[str]) -> Reader | None:
    """Return the function that reads zarr folders of labels that this program wrote; None for all others."""
    from swipe_core.images.formats import is_label_folder

    return read_label_stores if all(is_label_folder(Path(name)) for name in as_list(path)) else None


def read_label_stores(path: str | list[str]) -> list[LayerData]:
    """One labels layer per folder, of which only what is looked at is read.

    An `ImageError` is raised when a folder is damaged or not complete, or zarr is not installed.
    """
    from napari_swipe.layers.data import label_store_layer_data
    from swipe_core.images.label_store import LabelStore

    return [label_store_layer_data(LabelStore.open(Path(name))) for name in as_list(path)]


def read_layers(path: str | list[str]) -> list[LayerData]:
    """One layer per file, and per picture in a folder, placed in the world as the file says.

    A label map becomes a labels layer (`swipe_core.images.holds_labels` says which files are), all
    else an image layer. Colours are shown as such; channels, or points in time, are a leading axis
    with a slider.

    An `ImageError` is raised when a file is not there, or cannot be read.
    """
    paths = map(Path, as_list(path))
    return [layer for path in paths for layer in (_layers_of(path) if path.is_dir() else [_layer(path)])]


def _layers_of(folder: Path) -> list[LayerData]:
    """Return all pictures in a folder; a warning says what is left out or cannot be read."""
    from napari.utils.notifications import show_warning

    from swipe_core.errors import SwipeError
    from swipe_core.images.finding import find_images

    found = find_images([folder])
    if len(found.images) == 1:
        return [_layer(found.images[0])]
    layers, missing = [], [f"left out: {each}" for each in found.left_out]
    for image in found.images:
        try:
            layers.append(_layer(image))
        except SwipeError as error:
            missing.append(str(error))
    if missing:
        show_warning(f"{len(layers)} of {len(found.images)} images are open.\n" + "\n".join(missing))
    return layers


def _layer(image: Path | ImageSource) -> LayerData:
    # Imported when a file is opened: they bring torch, and napari's start is the user's time.
    from napari_swipe.layers.data import image_layer_data
    from swipe_core.images import holds_labels, read_image
    from swipe_core.images.source import ImageSource

    source = ImageSource.of(image)
    if source.part is None and holds_labels(source.path):
        return _label_layer(source.path)
    array, arguments, kind = image_layer_data(read_image(source))
    if source.part is not None:  # no path leads to one picture of several
        arguments["metadata"]["path"] = ""
    return array, arguments | {"name": source.name}, kind


def _label_layer(path: Path) -> LayerData:
    from napari_swipe.layers.data import label_layer_data
    from swipe_core.images import read_label_map
    from swipe_core.pictures import CLASS_COLOURS, default_colours

    label_map = read_label_map(path)
    largest = int(label_map.array.max())
    # Few labels are classes, and have the colours of classes; many are instances.
    colours = default_colours(largest) if largest <= len(CLASS_COLOURS) else []
    return label_layer_data(label_map, path.name, colours=colours)


def as_list(path: str | list[str]) -> list[str]:
    """Return what napari hands to a reader, one path or several, as several."""
    return [path] if isinstance(path, str) else list(path)
