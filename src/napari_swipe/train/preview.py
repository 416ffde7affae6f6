"""The preview of a training: which image is looked at, what of it is in view, and the layer over it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QPushButton, QWidget

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.choice import ImageChoice, kept_selection
from napari_swipe.layers.data import LayerData
from napari_swipe.layers.field import LayerField, OutputAxes
from napari_swipe.layers.geometry import placement
from napari_swipe.layers.metadata import LayerMetadata
from napari_swipe.layers.source import LayerSource, Region
from swipe_core.data.annotations import AnnotationScheme
from swipe_core.inference.stack import Frame
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels

    from napari_swipe.viewer.state import PredictorCache
    from swipe_core.images import MedicalImage
    from swipe_core.training.preview import Preview, View

LOOK_EVERY = 300  # milliseconds
MOST_VOXELS = 2**18  # of a preview
FINEST = 4.0  # times the resolution of the image


class CorrectPanel(QWidget):
    """The image that is previewed, and the button that turns a prediction into labels to correct."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.images = ImageChoice(
            viewer, "The image that the preview and the prediction are of. Any image, annotated or not."
        )
        self.live = QCheckBox("Preview while it learns")
        self.live.setChecked(True)
        self.live.setToolTip(
            "Every few seconds what is in view is segmented with the weights of the moment, in a layer of "
            "its own. It takes less than a tenth of the time."
        )
        self.predict = QPushButton("Prediction as labels")
        self.predict.setToolTip(
            "Segment this image with the model of the last round, or before the first one by the answer to "
            "your strokes, into a new labels layer that you can edit. It takes the place of the image's "
            "annotation, whose layer stays: all of it then counts as right, and what you change counts most."
        )
        hint = QLabel(
            "Or paint only where the preview is wrong: what you paint after a round weighs more in the next."
        )
        hint.setWordWrap(True)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Image", self.images)
        form.addRow("", self.live)
        form.addRow("", self.predict)
        form.addRow(hint)


@dataclass(frozen=True, eq=False)
class Sight:
    """The part of a layer that is in view: a box of one frame, and the resolution that it is worth."""

    image: Image
    source: LayerSource
    frame: Frame
    region: Region
    factors: tuple[float, ...]


class PreviewLayer(QObject):
    """A labels layer over the image that is chosen, brought up to date whenever a preview arrives.

    `axes`: gives the roles of the axes of an image layer.
    """

    def __init__(self, viewer: Viewer, axes: Callable[[Image], AxisRoles]) -> None:
        super().__init__()
        self._viewer, self._axes = viewer, axes
        self._image: Image | None = None
        self._layer: Labels | None = None
        self._of: Image | None = None  # the image that the layer lies over
        self._sight: Sight | None = None
        self._source: LayerSource | None = None
        self._read: tuple[LayerSource, Frame, MedicalImage] | None = None
        self._shown: Sight | None = None
        self._matrix: np.ndarray | None = None
        self._looks = ""  # names and colours, as they were set last
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_EVERY)
        self._timer.timeout.connect(self.look)

    @property
    def layer(self) -> Labels | None:
        """The layer, as long as the user leaves it."""
        return self._layer if self._layer in self._viewer.layers else None

    def follow(self, image: Image | None) -> None:
        """Preview another image from now on, or none."""
        self._image = image
        if image is None:
            self._sight = None
            self._timer.stop()
        else:
            self.look()
            self._timer.start()

    def look(self) -> None:
        """Note what is in view; the training reads it by `view` when it likes."""
        image = self._image
        if image is None or image not in self._viewer.layers:
            self._sight = None
            return
        axes, source = self._axes(image), self._source
        if source is None or source.axes != axes or source.difference(image) is not None:
            self._source = source = LayerSource.from_layer(image, axes)
        self._sight = _sight(self._viewer, image, source)

    def view(self) -> View | None:
        """Return what to segment now; called in the thread of the training, which reads the image there."""
        from swipe_core.training.preview import View

        sight = self._sight
        if sight is None:
            return None
        if self._read is None or self._read[0] is not sight.source or self._read[1] != sight.frame:
            self._read = (sight.source, sight.frame, sight.source.image(sight.frame))
        image = self._read[2]
        part = image.grid.window(sight.region.start, sight.region.shape)
        self._shown = sight
        return View(image, part.scaled(sight.factors))

    def show(self, preview: Preview, appearance: dict[str, Any]) -> None:
        """Bring the layer up to date, or make it."""
        sight, image = self._shown, self._image
        if sight is None or sight.image is not image or image not in self._viewer.layers:
            return
        if self._of is not image:
            self.remove()
        axes = OutputAxes.of(sight.source)
        grid = preview.labels.grid
        shape = axes.shape(grid.shape)
        data = preview.labels.array.astype(np.uint8, copy=False).reshape(
            [1 if axis in axes.frames else n for axis, n in enumerate(shape)]
        )
        matrix = axes.matrix(grid)
        for axis, index in zip(axes.frames, sight.frame, strict=True):
            matrix[axis, -1] += matrix[axis, axis] * index
        place, layer = placement(matrix), self.layer
        if layer is None:
            self._make(image, data, axes.arguments(grid) | place | appearance)
        else:
            layer.data = data
            if self._matrix is None or not np.array_equal(matrix, self._matrix):
                layer.scale, layer.affine = place["scale"], place["affine"]
            if self._looks != _looks(appearance):
                layer.colormap, layer.features = appearance["colormap"], appearance["features"]
        self._matrix, self._looks = matrix, _looks(appearance)

    def _make(self, image: Image, data: np.ndarray, arguments: dict[str, Any]) -> None:
        with kept_selection(self._viewer):
            self._layer = self._viewer.add_labels(
                data,
                name=f"{image.name} · preview",
                opacity=0.5,
                metadata=LayerMetadata(is_map=True).entries,
                **arguments,
            )
        self._of = image
        self._layer.editable = False

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.layer is not None:
            with kept_selection(self._viewer):
                self._viewer.layers.remove(self.layer)

    def close(self) -> None:
        """Look no more; the layer stays."""
        self._timer.stop()
        self._image = self._sight = None


def _looks(appearance: dict[str, Any]) -> str:
    return f"{appearance['features']} {appearance['colormap'].color_dict}"


def _sight(viewer: Viewer, image: Image, source: LayerSource) -> Sight:
    """The visible box of an image, with the slices that are shown along the other axes."""
    dims, offset = viewer.dims, viewer.dims.ndim - image.ndim
    shape = source.array.shape[: image.ndim]
    position = np.asarray(image.world_to_data(np.asarray(dims.point)[offset:]))
    index = np.clip(np.rint(position), 0, np.array(shape) - 1).astype(int)
    shown = [axis - offset for axis in dims.displayed if axis >= offset]
    # The last pixel that is in view belongs to it.
    corners = np.asarray(image.corner_pixels, float) + [[0], [1]]
    if image.multiscale:
        corners = corners * image.downsample_factors[image.data_level]
    start, size = [], []
    for axis in source.axes.space:
        if axis in shown and dims.ndisplay == 2:
            low = int(np.clip(np.floor(corners[0, axis]), 0, shape[axis] - 1))
            high = int(np.clip(np.ceil(corners[1, axis]), low + 1, shape[axis]))
        elif axis in shown:
            low, high = 0, shape[axis]
        else:
            low, high = int(index[axis]), int(index[axis]) + 1
        start.append(low)
        size.append(high - low)
    wide = [n for n in size if n > 1]
    factor = min(FINEST, (MOST_VOXELS / np.prod(wide, dtype=float)) ** (1 / max(1, len(wide))))
    factors = tuple(factor if n > 1 else 1.0 for n in size)
    stop = tuple(a + n for a, n in zip(start, size, strict=True))
    frame = tuple(int(index[axis]) for axis in source.axes.frames)
    return Sight(image, source, frame, Region(tuple(start), stop), factors)


def iter_prediction(
    source: LayerSource, model: Path, scheme: AnnotationScheme, device: str, cache: PredictorCache
) -> Generator[Progress | Notice, None, LayerData]:
    """Segment a layer with a model, into painted labels on the image's own voxels; yields progress.

    Classes go by their names; those that the scheme does not have become background.

    A `SwipeError` is raised when the model cannot be used, or not for this layer.
    """
    yield Progress("Loading the model", 0, 1)
    predictor = cache.load(model, device)
    stack = yield from predictor.iter_stack(source.frames, source.image)
    return (yield from iter_editable(LayerField(stack.fields, source), scheme))


def iter_editable(
    field: LayerField, scheme: AnnotationScheme
) -> Generator[Progress | Notice, None, LayerData]:
    """Turn a segmentation into painted labels on the image's own voxels, as `iter_prediction`."""
    maps = yield from field.iter_render(field.image_grid)
    names = field.class_names
    known = [scheme.class_names.index(name) + 1 if name in scheme.class_names else 0 for name in names]
    table = np.array([0, *known], np.uint8)
    painted = [scheme.to_painted(table[found.array]) for found in maps]
    return field.stacked(painted), field.axes.arguments(field.image_grid), "labels"
