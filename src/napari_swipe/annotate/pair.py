"""An image and the labels layer that somebody paints over it: what fits, and where the labels lie."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from napari.layers import Image, Labels

from napari_swipe.layers.axes import CHANNEL_NAMES, DEPTH_NAMES, TIME_NAMES, AxisRoles, guess_roles
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.geometry import check_unmixed, layer_matrix
from napari_swipe.layers.source import LayerSource
from napari_swipe.layers.watch import PLACING
from swipe_core.errors import ImageError
from swipe_core.images.channels import Channels

Split = Literal["train", "val"]


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its annotation."""

    name: str
    """What the pair is called for as long as it lives, even if its layers get other names."""
    image: Image
    labels: Labels
    split: Split
    """Whether it is learned from, or only measured by."""


def could_be_volume(image: Image) -> bool:
    """Return whether three axes might be space: neither channels nor, by their names, time."""
    axes = _other_axes(image)
    return len(axes) > 2 and axes[-3] not in TIME_NAMES


def likely_ndim(image: Image) -> Literal[2, 3]:
    """Return 3 where the third last axis is called z; a stack without names is one of pictures."""
    return 3 if could_be_volume(image) and _other_axes(image)[-3] in DEPTH_NAMES else 2


def likely_axes(image: Image, ndim: int) -> AxisRoles:
    """Return the roles of an image's axes; an axis of channels is known by its name."""
    shape = (image.data[0] if image.multiscale else image.data).shape[: image.ndim]
    has_channels = any(name.lower() in CHANNEL_NAMES for name in image.axis_labels)
    # With two channels, an axis of two would be taken for channels whatever its name.
    return guess_roles(shape, image.axis_labels, bool(image.rgb), ndim, Channels(2 if has_channels else 1))


def source_of(image: Image, ndim: int) -> LayerSource:
    """Return an image as it is annotated.

    An `ImageError` is raised when it has not as many spatial axes, or its transform mixes them with others.
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
    """Return the shape of labels over an image, at its finest level and without colours or channels."""
    return OutputAxes.of(source).shape(source.spatial_shape)


def check_labels(labels: Labels, source: LayerSource) -> None:
    """See that a labels layer lies voxel on voxel over an image.

    An `ImageError` is raised when it has several levels, or another shape.
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
    """Return why labels may lie the other way than their image."""
    from swipe_core.images.raster import is_turned_by_exif

    if source.path is None or not is_turned_by_exif(source.path):
        return ""
    return (
        " EXIF data turn this photograph by 90 degrees in viewers, and napari shows its pixels as they are "
        "stored: save it with its pixels turned, or turn the labels back."
    )


def check_pair(image: Image, labels: Labels, ndim: int) -> LayerSource:
    """Return the image of a pair as it is annotated, which somebody may have changed since it was added.

    An `ImageError` is raised when the image can no longer be annotated, or has another shape than its labels.
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


def described(source: LayerSource) -> str:
    """Return what an image is taken for: "30 frames of 512 × 512, RGB"."""
    size = _text(source.spatial_shape)
    kinds = source.channel_kinds
    colours = ", RGB" if source.axes.rgb else f", {kinds}" if kinds.count > 1 else ""
    frames = int(np.prod(source.frame_shape))
    what = "" if frames == 1 else f"{frames} frames of "
    return f"{what}{size}{colours}"


class SamePlace:
    """Keeps labels over their image, when somebody sets the image's spacing or place later.

    Labels that lay elsewhere to begin with stay where they are.
    """

    def __init__(self, image: Image, labels: Labels, ndim: int) -> None:
        self._image, self._labels, self._ndim = image, labels, ndim
        expected = self._output().matrix()
        self.is_kept = np.allclose(layer_matrix(labels), expected, rtol=1e-5, atol=1e-9)
        for name in PLACING:
            getattr(image.events, name).connect(self._follow)

    def disconnect_layers(self) -> None:
        for name in PLACING:
            getattr(self._image.events, name).disconnect(self._follow)

    def _output(self) -> OutputAxes:
        return OutputAxes.of(LayerSource.from_layer(self._image, likely_axes(self._image, self._ndim)))

    def _follow(self) -> None:
        if not self.is_kept:
            return
        labels, place = self._labels, self._output().arguments()
        if len(place["scale"]) != labels.ndim:  # other data, which the pair says does not suit
            return
        labels.translate, labels.rotate = (0.0,) * labels.ndim, np.eye(labels.ndim)
        labels.shear = np.zeros(labels.ndim * (labels.ndim - 1) // 2)
        labels.scale, labels.affine = place["scale"], place["affine"]
        labels.units, labels.axis_labels = place["units"], place["axis_labels"]


def _other_axes(image: Image) -> list[str]:
    """Return the names of the axes that are not channels."""
    return [name.lower() for name in image.axis_labels if name.lower() not in CHANNEL_NAMES]


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
