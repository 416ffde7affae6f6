"""Labels layers that are painted on: how one is made, what its numbers look like and are called."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_swipe.annotate.counts import BLOCK
from napari_swipe.annotate.pair import labels_shape
from napari_swipe.layers.data import class_appearance
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.metadata import LayerMetadata, metadata_of
from swipe_core.blocks import cut_blocks
from swipe_core.data.labels import BACKGROUND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from pandas import DataFrame

    from napari_swipe.layers.source import LayerSource
    from swipe_core.data.annotations import AnnotationScheme

BRUSH = 5  # pixels
UNKNOWN_COLOUR = "#ffffff"  # of labels that belong to no class: what nobody sees nobody erases


def new_labels(viewer: Viewer, source: LayerSource, scheme: AnnotationScheme) -> Labels:
    """Make an empty labels layer over an image in a viewer, selected and ready to be painted on."""
    layer = viewer.add_labels(
        np.zeros(labels_shape(source), np.uint16 if scheme.instances else np.uint8),
        name=f"{source.name} annotation",
        metadata=LayerMetadata(is_annotation=True, space=source.space).entries,
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
    """Return the colours and names of a painted layer: none where unpainted, and white for unknown labels."""
    arguments = class_appearance(list(scheme.painted.values()), list(scheme.painted_colours.values()))
    colours = arguments["colormap"].color_dict | {None: UNKNOWN_COLOUR}
    if scheme.unpainted == "ignored":
        arguments["features"]["class"][0] = "not annotated"
    return arguments | {"colormap": type(arguments["colormap"])(color_dict=colours)}


def painted_of(labels: Labels, scheme: AnnotationScheme) -> np.ndarray:
    """Return a copy of what is painted; where every voxel is labelled, what was erased is background."""
    painted = np.asarray(labels.data).copy()
    if _is_whole(labels, scheme):
        painted[painted == 0] = label_of(scheme, BACKGROUND)
    return painted


def _is_whole(labels: Labels, scheme: AnnotationScheme) -> bool:
    return metadata_of(labels).is_whole and scheme.unpainted == "ignored"


def dress(labels: Labels, scheme: AnnotationScheme) -> None:
    """Give a layer that was made here the colours and names of a scheme; others look as their owner likes.

    Objects that are numbered have napari's own colours. Where every voxel is labelled, the background is
    not drawn: it would hide the image.
    """
    if not metadata_of(labels).is_annotation:
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
    """Return the scheme in the colours that a layer shows its classes in, as far as it shows them."""
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
    """Return a table of features with the names of the labels 0, 1, ...; what else stands in it stays.

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
    """Return the names of a layer's labels, from its table of features; rows of no label are left out."""
    import pandas

    features = labels.features
    if not {"index", "class"} <= set(features):
        return {}
    numbers = pandas.to_numeric(features["index"], errors="coerce")
    named = zip(numbers, features["class"], strict=True)
    return {int(label): name for label, name in named if label % 1 == 0 and isinstance(name, str)}


def label_of(scheme: AnnotationScheme, name: str | None) -> int:
    """Return the label that paints a name; the first one where there is none of it."""
    return next((label for label, known in scheme.painted.items() if known == name), 1)


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
        for number, block in enumerate(cut_blocks(labels.data.shape, BLOCK)):
            part = labels.data[block.slices]
            if not is_background_painted and part.any():
                strokes[number] = _without_background(part)
            elif is_background_painted and (part.any() or number in strokes):
                _with_background(part, strokes.pop(number, np.empty(0, np.int64)))
        _forget_history(labels)
        labels.data = labels.data

    def forget(self, labels: Labels) -> None:
        self._background.pop(labels.unique_id, None)


def _without_background(block: np.ndarray) -> np.ndarray:
    """Take one off each number; returns where 1 stood, in C order."""
    background = np.flatnonzero(block == 1)
    block -= (block != 0).astype(block.dtype)
    return background


def _with_background(block: np.ndarray, background: np.ndarray) -> None:
    """Add one to each number, and put 1 at places that nobody painted since."""
    # The largest number would come round to 0.
    block += ((block != 0) & (block != np.iinfo(block.dtype).max)).astype(block.dtype)
    block.flat[background[block.flat[background] == 0]] = 1


def _forget_history(labels: Labels) -> None:
    """Keep an undo from bringing numbers of the other meaning back."""
    mode, is_editable = labels.mode, labels.editable
    labels.editable = False
    labels.editable = is_editable
    labels.mode = mode
