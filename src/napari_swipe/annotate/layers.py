"""An image and the labels layer that somebody paints over it: what fits, and how a new one is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image, Labels

from napari_swipe.annotate.scheme_edits import label_of
from napari_swipe.layers.axes import CHANNEL_NAMES, AxisRoles, guess_roles
from napari_swipe.layers.data import SPACE, class_appearance
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.geometry import check_unmixed
from napari_swipe.layers.source import LayerSource
from swipe_core.data.labels import BACKGROUND
from swipe_core.errors import ImageError
from swipe_core.images.channels import Channels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from pandas import DataFrame

    from swipe_core.data.annotations import AnnotationScheme

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
    return guess_roles(shape, image.axis_labels, bool(image.rgb), ndim, Channels(2 if has_channels else 1))


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
    shape = tuple(labels.data.shape)
    if shape != expected:
        raise ImageError(
            f"{labels.name} has the shape {_text(shape)} and {source.name} needs labels of "
            f"{_text(expected)}: pick labels of this image, or New annotation."
            f"{_turned(source) if shape == expected[::-1] else ''}"
        )


def _turned(source: LayerSource) -> str:
    """Why labels may lie the other way than their image."""
    from swipe_core.images.raster import is_turned_by_exif

    if source.path is None or not is_turned_by_exif(source.path):
        return ""
    return (
        " EXIF data turn this photograph by 90 degrees in viewers, and napari shows its pixels as they are "
        "stored: save it with its pixels turned, or turn the labels back."
    )


def check_pair(image: Image, labels: Labels, ndim: int) -> LayerSource:
    """The image of a pair as it is annotated, which somebody may have changed since it was added.

    Raises
    ------
    ImageError
        When the image can no longer be annotated, or has another shape than its labels.
    """
    source = source_of(image, ndim)
    expected, found = labels_shape(source), tuple(labels.data.shape)
    if found != expected:
        raise ImageError(
            f"{labels.name} has the shape {_text(found)}, and its image {image.name} is {_text(expected)}: "
            "undo what was done to one of them, do the same to the other, or remove the pair and add the "
            "image anew."
        )
    return source


def new_labels(viewer: Viewer, source: LayerSource, scheme: AnnotationScheme) -> Labels:
    """An empty labels layer over an image in a viewer, selected and ready to be painted on."""
    layer = viewer.add_labels(
        np.zeros(labels_shape(source), np.uint16 if scheme.instances else np.uint8),
        name=f"{source.name} annotation",
        metadata={IS_ANNOTATION: True, SPACE: source.space},
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
    """Give a layer that was made here the colours and names of a scheme; others look as their owner likes.

    Objects that are numbered have napari's own colours. Where every voxel is labelled, the background is
    not drawn: it would hide the image.
    """
    if not labels.metadata.get(IS_ANNOTATION):
        return
    if scheme.instances:
        from napari.utils.colormaps import label_colormap

        labels.colormap, labels.features = label_colormap(), with_classes(labels.features, [])
        return
    arguments = appearance(scheme)
    if _is_whole(labels, scheme):
        colours = arguments["colormap"].color_dict | {label_of(scheme, BACKGROUND): "transparent"}
        arguments["colormap"] = type(arguments["colormap"])(color_dict=colours)
    names = arguments["features"]["class"]
    labels.colormap, labels.features = arguments["colormap"], with_classes(labels.features, names)


def coloured_as(labels: Labels, scheme: AnnotationScheme) -> AnnotationScheme:
    """The scheme in the colours that a layer shows its classes in, as far as it shows them."""
    if scheme.instances:
        return scheme
    first = label_of(scheme, scheme.class_names[0])
    shown = (labels.colormap.map(label) for label in range(first, first + len(scheme.class_names)))
    colours = (
        "#" + bytes(int(round(255 * part)) for part in rgba[:3]).hex() if rgba[3] else default
        for rgba, default in zip(map(np.ravel, shown), scheme.class_colours, strict=True)
    )
    return replace(scheme, class_colours=tuple(colours))


def with_classes(features: DataFrame, names: Sequence[str]) -> DataFrame:
    """A table of features with the names of the labels 0, 1, ...; what else stands in it stays.

    A table whose rows belong to no numbers of labels stays as it is.
    """
    import pandas

    made = pandas.DataFrame({"index": range(len(names)), "class": list(names)})
    others = features.drop(columns="class", errors="ignore")
    if set(others.columns) <= {"index"}:
        return made
    if "index" not in others:  # napari takes the number of a row for that of a label
        others = others.assign(index=range(len(others)))
    if not pandas.api.types.is_integer_dtype(others["index"]):
        return features
    return others.merge(made, on="index", how="outer")


def label_names(labels: Labels) -> dict[int, str]:
    """The names of a layer's labels, as they are in its table of features; rows of no label count not."""
    import pandas

    features = labels.features
    if not {"index", "class"} <= set(features):
        return {}
    numbers = pandas.to_numeric(features["index"], errors="coerce")
    named = zip(numbers, features["class"], strict=True)
    return {int(label): name for label, name in named if label % 1 == 0 and isinstance(name, str)}


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
