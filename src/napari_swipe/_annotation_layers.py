"""An image and the labels layer that somebody paints over it: what fits, and how a new one is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image, Labels

from napari_swipe._axes import CHANNEL_NAMES, AxisRoles, guess_roles
from napari_swipe._geometry import check_unmixed
from napari_swipe._layer_field import OutputAxes
from napari_swipe._layers import class_appearance
from napari_swipe._scheme_edits import label_of
from napari_swipe._source import LayerSource
from swipe_core.annotations import BACKGROUND
from swipe_core.errors import ImageError

if TYPE_CHECKING:
    from napari import Viewer

    from swipe_core.annotations import AnnotationScheme

Split = Literal["train", "val"]

IS_WHOLE = "swipe_whole"  # metadata of layers in which every voxel is labelled: what is erased is background
IS_ANNOTATION = "swipe_annotation"  # metadata of layers whose numbers follow the scheme of the panel
BRUSH = 5  # pixels
DEPTH_NAMES = ("z", "depth", "slice", "slices", "plane", "planes")
TIME_NAMES = ("t", "time", "frame", "frames")
UNKNOWN_COLOUR = "#ffffff"  # of labels that belong to no class: what nobody sees nobody erases


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its annotation.

    Attributes
    ----------
    name
        What the pair is called for as long as it lives, even if its layers get other names.
    split
        Whether it is learned from, or only measured by.
    """

    name: str
    image: Image
    labels: Labels
    split: Split


def could_be_volume(image: Image) -> bool:
    """Whether there are three axes that might be space: neither channels nor, by their names, time."""
    axes = _other_axes(image)
    return len(axes) > 2 and axes[-3] not in TIME_NAMES


def likely_ndim(image: Image) -> Literal[2, 3]:
    """3 where the third last axis is called z; a stack without names is one of pictures."""
    return 3 if could_be_volume(image) and _other_axes(image)[-3] in DEPTH_NAMES else 2


def likely_axes(image: Image, ndim: int) -> AxisRoles:
    """The roles of an image's axes; an axis of channels is known by its name."""
    shape = (image.data[0] if image.multiscale else image.data).shape[: image.ndim]
    has_channels = any(name.lower() in CHANNEL_NAMES for name in image.axis_labels)
    # With two wanted, an axis of two would be taken for channels whatever its name.
    return guess_roles(shape, image.axis_labels, bool(image.rgb), ndim, 2 if has_channels else 1)


def source_of(image: Image, ndim: int) -> LayerSource:
    """An image as it is annotated.

    Raises
    ------
    ImageError
        When it has not as many spatial axes, or its transform mixes them with others.
    """
    source = LayerSource.from_layer(image, likely_axes(image, ndim))
    if len(source.axes.space) != ndim:
        raise ImageError(
            f"{image.name} has {len(source.axes.space)} spatial axes and volumes need {ndim}: switch to 2D, "
            "or pick a volume."
        )
    source.axes.check(ndim, image.name)
    check_unmixed(source.matrix, source.axes.space, image.name)
    return source


def labels_shape(source: LayerSource) -> tuple[int, ...]:
    """The shape of labels over an image, at its finest level and without colours or channels."""
    return OutputAxes.of(source).shape(source.spatial_shape)


def check_labels(labels: Labels, source: LayerSource) -> None:
    """See that a labels layer lies voxel on voxel over an image.

    Raises
    ------
    ImageError
        When it has several levels, or another shape.
    """
    if labels.multiscale:
        raise ImageError(
            f"{labels.name} has several levels and cannot be painted: render it to plain labels first, or "
            "pick another layer."
        )
    expected = labels_shape(source)
    if tuple(labels.data.shape) != expected:
        raise ImageError(
            f"{labels.name} has the shape {_text(labels.data.shape)} and {source.name} needs labels of "
            f"{_text(expected)}: pick labels of this image, or New annotation."
        )


def new_labels(viewer: Viewer, source: LayerSource, scheme: AnnotationScheme) -> Labels:
    """An empty labels layer over an image in a viewer, selected and ready to be painted on."""
    layer = viewer.add_labels(
        np.zeros(labels_shape(source), np.uint16 if scheme.instances else np.uint8),
        name=f"{source.name} annotation",
        metadata={IS_ANNOTATION: True},
        **OutputAxes.of(source).arguments(),
        **appearance(scheme),
    )
    layer.brush_size = BRUSH
    paint_with(viewer, layer, 1)
    return layer


def paint_with(viewer: Viewer, layer: Labels, label: int) -> None:
    """Make a layer the one that the brush paints on, with a label."""
    viewer.layers.selection.active = layer
    layer.visible = True
    layer.selected_label = label
    if layer.editable:
        layer.mode = "paint"


def appearance(scheme: AnnotationScheme) -> dict[str, Any]:
    """The colours and names of a painted layer: none for unpainted voxels, and white for labels unknown."""
    arguments = class_appearance(list(scheme.painted.values()), list(scheme.painted_colours.values()))
    colours = arguments["colormap"].color_dict | {None: UNKNOWN_COLOUR}
    if scheme.unpainted == "ignored":
        arguments["features"]["class"][0] = "not annotated"
    return arguments | {"colormap": type(arguments["colormap"])(color_dict=colours)}


def painted_of(labels: Labels, scheme: AnnotationScheme) -> np.ndarray:
    """A copy of what is painted; where every voxel is labelled, what was erased is background."""
    painted = np.asarray(labels.data).copy()
    if _is_whole(labels, scheme):
        painted[painted == 0] = label_of(scheme, BACKGROUND)
    return painted


def _is_whole(labels: Labels, scheme: AnnotationScheme) -> bool:
    return bool(labels.metadata.get(IS_WHOLE)) and scheme.unpainted == "ignored"


def dress(labels: Labels, scheme: AnnotationScheme) -> None:
    """Give a layer the colours and names of a scheme; objects that are numbered have napari's own.

    Where every voxel is labelled, the background is not drawn: it would hide the image.
    """
    if scheme.instances:
        from napari.utils.colormaps import label_colormap

        labels.colormap = label_colormap()
        labels.features = {}
        return
    arguments = appearance(scheme)
    if _is_whole(labels, scheme):
        colours = arguments["colormap"].color_dict | {label_of(scheme, BACKGROUND): "transparent"}
        arguments["colormap"] = type(arguments["colormap"])(color_dict=colours)
    labels.colormap, labels.features = arguments["colormap"], arguments["features"]


def label_names(labels: Labels) -> dict[int, str]:
    """The names that a layer has for its labels already, as they are in its table of features."""
    features = labels.features
    if not {"index", "class"} <= set(features):
        return {}
    return {int(label): str(name) for label, name in zip(features["index"], features["class"], strict=True)}


def described(source: LayerSource) -> str:
    """What an image is taken for: "30 frames of 512 × 512, RGB"."""
    size = _text(source.spatial_shape)
    kinds = source.channel_kinds
    colours = ", RGB" if source.axes.rgb else f", {kinds}" if kinds.count > 1 else ""
    frames = int(np.prod(source.frame_shape))
    what = "" if frames == 1 else f"{frames} frames of "
    return f"{what}{size}{colours}"


def _other_axes(image: Image) -> list[str]:
    """The names of the axes that are not channels."""
    return [name.lower() for name in image.axis_labels if name.lower() not in CHANNEL_NAMES]


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
