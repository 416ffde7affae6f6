"""Images and label maps of the core as napari takes them: data, arguments, and the type of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swipe.layers.geometry import placement
from napari_swipe.layers.metadata import LayerMetadata

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    from swipe_core.coordinates import Grid
    from swipe_core.images import LabelMap, MedicalImage
    from swipe_core.images.label_store import LabelStore

LayerData = tuple[Any, dict[str, Any], str]

SPATIAL_LABELS = ("z", "y", "x")
BACKGROUND = "background"
SOFT_TISSUE = (-160.0, 240.0)  # Hounsfield units: a window of 400 around 40
PERCENTILES = (0.5, 99.5)
LOOKED_AT = 2**20  # values
AIR, DENSEST = -500.0, 3100.0  # what lies between the percentiles of a CT: much air, and no phase or velocity


def image_layer_data(image: MedicalImage) -> LayerData:
    """Return an image as napari takes it from a reader: data, the arguments of `add_image`, "image".

    The layer's `scale` is the voxel spacing, and its `affine` the rest of the way to the world:
    direction (rotation, mirroring, shear) and origin. Colours of bytes are shown as such; all
    other channels become a leading axis with a slider, which is called what it counts. `metadata`
    holds the file's path, and the names of the channels.
    """
    is_colour = image.channel_kinds.is_colour and image.array.dtype == np.uint8
    leading = 0 if is_colour or image.channels == 1 else 1
    arguments = {
        "name": image.path.name if image.path else "image",
        **_placed(image.grid, image.unit, leading, image.channel_axis),
        "rgb": is_colour,
        "metadata": _metadata(image, tuple(image.channel_names)),
    }
    contrast = opening_contrast(image)
    if contrast is not None:
        arguments["contrast_limits"] = contrast
    return _channels_as_napari(image.array, is_colour), arguments, "image"


def opening_contrast(image: MedicalImage) -> tuple[float, float] | None:
    """Return black and white of an image as it opens; None where napari's own are right (bytes, constants).

    A volume of a patient that holds the values of air in Hounsfield units is a CT, and opens in the window
    of soft tissue. Of others the darkest and the brightest few voxels are left out.
    """
    array = image.array
    if array.dtype.itemsize == 1:
        return None
    values = array.reshape(-1)[:: max(1, array.size // LOOKED_AT)]
    low, high = (float(value) for value in np.percentile(values.astype(np.float64), PERCENTILES))
    if image.space.is_anatomical and image.ndim == 3 and low < AIR and 0 < high < DENSEST:
        return SOFT_TISSUE
    if not low < high:
        low, high = float(array.min()), float(array.max())
    return (low, high) if low < high else None


def label_layer_data(
    label_map: LabelMap, name: str, class_names: Sequence[str] = (), colours: Sequence[str] = ()
) -> LayerData:
    """Return a label map at its place in the world: data, the arguments of `add_labels`, "labels".

    `name`: of the layer.
    `class_names`: of the labels 1, 2, ...: the status bar shows the one under the cursor.
    `colours`: ``"#rrggbb"`` of the labels 1, 2, ...; the background, and labels beyond, are transparent.
    Without any, every label has a colour of napari's own, as instances need it.
    """
    arguments = {"name": name, **_placed(label_map.grid, label_map.unit), "metadata": _metadata(label_map)}
    if class_names:
        names = [BACKGROUND, *class_names]
        arguments["features"] = {"index": list(range(len(names))), "class": names}
    if colours:
        arguments["colormap"] = class_colormap(colours)
    return label_map.array, arguments, "labels"


def label_store_layer_data(store: LabelStore) -> LayerData:
    """Return labels on disk as `label_layer_data` does, in the colours of their classes and read when seen.

    An `ImageError` is raised when they are not complete.
    """
    levels = store.levels
    looks = class_appearance(list(store.classes), list(store.classes.values())) if store.classes else {}
    arguments = {
        "name": store.path.name,
        **_placed(store.grid, store.unit),
        **looks,  # objects, which have no classes, have colours of napari's own
        "metadata": {"path": str(store.path)},
        "multiscale": len(levels) > 1,
    }
    return (levels if len(levels) > 1 else levels[0]), arguments, "labels"


def class_colormap(colours: Sequence[str]) -> DirectLabelColormap:
    """Return the colours of the labels 1, 2, ...; the background, and labels beyond, are transparent."""
    from napari.utils.colormaps import DirectLabelColormap

    known: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    return DirectLabelColormap(color_dict=known | dict(enumerate(colours, start=1)))


def _placed(grid: Grid, unit: str, leading: int = 0, leading_label: str = "") -> dict[str, Any]:
    """Return scale, affine, units and axis labels; `leading` axes are left as they are."""
    matrix = np.eye(leading + grid.ndim + 1)
    matrix[leading:, leading:] = grid.affine.matrix
    return placement(matrix) | {
        "units": ("pixel",) * leading + (unit,) * grid.ndim,
        "axis_labels": (leading_label,) * leading + SPATIAL_LABELS[-grid.ndim :],
    }


def _metadata(image: MedicalImage | LabelMap, channels: tuple[str, ...] = ()) -> dict[str, Any]:
    path = {"path": str(image.path)} if image.path else {}
    return path | LayerMetadata(space=image.space, channels=channels).entries


def _channels_as_napari(array: np.ndarray, is_colour: bool) -> np.ndarray:
    if is_colour:
        return array
    return array[..., 0] if array.shape[-1] == 1 else np.moveaxis(array, -1, 0)


def class_appearance(
    class_names: Sequence[str], colours: Sequence[str], hidden: Sequence[int] = ()
) -> dict[str, Any]:
    """Return the arguments of a labels layer that colour its classes and name them in the status bar.

    `hidden`: labels that are not shown.
    """
    shown = ["transparent" if label in hidden else c for label, c in enumerate(colours, start=1)]
    names = [BACKGROUND, *class_names]
    return {
        "colormap": class_colormap(shown),
        "features": {"index": list(range(len(names))), "class": names},
    }


def hide_classes(labels: Labels, colours: Sequence[str], hidden: Sequence[int]) -> None:
    """Make classes transparent in a layer, and others visible again, in the colours that it has.

    A class that is shown again has its own of `colours`. What the user gave a colormap without classes
    stays as it is.
    """
    from napari.utils.colormaps import DirectLabelColormap

    if not isinstance(labels.colormap, DirectLabelColormap):
        return
    shown: dict[int | None, Any] = dict(labels.colormap.color_dict)
    for label, colour in enumerate(colours, start=1):
        if label in hidden:
            shown[label] = "transparent"
        elif label not in shown or shown[label][-1] == 0:
            shown[label] = colour
    labels.colormap = DirectLabelColormap(color_dict=shown)
