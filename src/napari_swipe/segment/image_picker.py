"""Pick the layer to segment: its axes, its spacing, and which part of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QWidget,
)

from napari_swipe.layers.axes import ROLES, AxisRoles, Role, guess_roles
from napari_swipe.layers.file_axes import axis_labels
from napari_swipe.layers.source import LayerSource, Region
from napari_swipe.layers.watch import LayerWatch
from napari_swipe.qt.number_box import NumberBox, narrowed
from napari_swipe.qt.units import short_unit
from napari_swipe.segment.anatomical_view import AnatomicalViews, is_anatomical, show_plane
from napari_swipe.segment.channel_boxes import ChannelBoxes
from swipe_core.errors import ImageError
from swipe_core.images.channels import Channels

if TYPE_CHECKING:
    from napari import Viewer

    from swipe_core.checkpoints.header import ModelDescription

IS_MAP = "swipe_map"  # metadata of images that are made of a segmentation, and are not to be segmented
USUAL_UNITS = ("pixel", "millimeter", "micrometer", "nanometer")
LEAST_SPACING, GREATEST_SPACING = 1e-15, 1e15  # in any unit
WHOLE, VISIBLE, RECTANGLE = "Whole image", "Visible region", "Shapes rectangle"


class ImagePicker(QWidget):
    """The image layers of a viewer, and how the picked one is to be understood by a model."""

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Image] = []
        self._model: ModelDescription | None = None
        self._roles: list[QComboBox] = []
        self._steps: list[NumberBox] = []
        self._watch = LayerWatch(self)
        self._watch.changed.connect(self._on_changed)
        self._asked: tuple[object, ...] = ()
        self._spaced: tuple[object, ...] | None = None
        self._chosen: dict[tuple[object, ...], tuple[Role, ...]] = {}
        self._of_layer: dict[tuple[object, ...], tuple[int, ...] | None] = {}
        self._channels = ChannelBoxes()
        self._channels.changed.connect(self._on_channels)
        self._box = QComboBox()
        self._box.setToolTip("The image layer to segment.")
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(14)
        self._box.currentIndexChanged.connect(self._on_layer)
        self._axes_row, self._axes = _row()
        self._spacing_row, self._spacing = _row()
        self._region = QComboBox()
        self._region.addItems([WHOLE, VISIBLE, RECTANGLE])
        self._region.setToolTip(
            "Segment everything, only what is in view, or only inside a rectangle that you drew "
            "in a Shapes layer (the last one, or the one that is selected)."
        )
        self.views = AnatomicalViews()
        self.views.wanted.connect(lambda plane: show_plane(viewer, plane))
        self.all_selected = QCheckBox("All selected image layers")
        self.all_selected.setToolTip("Segment every image layer that is selected in the layer list, in turn.")
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Layer", self._box)
        self._form.addRow("Axes", self._axes_row)
        self._form.addRow("Channel", self._channels)
        self._form.addRow("Spacing", self._spacing_row)
        self._form.addRow("Region", self._region)
        self._form.addRow("View", self.views)
        self._form.addRow("", self.all_selected)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self._refresh)
        viewer.layers.selection.events.active.connect(self._follow)
        self._refresh()

    def disconnect_viewer(self) -> None:
        """Let go of the viewer, whose events would else reach a widget that is gone."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.disconnect(self._refresh)
        self._watch.stop()
        self._viewer.layers.selection.events.active.disconnect(self._follow)

    def add_row(self, label: str, control: QWidget) -> None:
        """One more row of the form."""
        self._form.addRow(label, control)

    # What is picked

    @property
    def layer(self) -> Image | None:
        index = self._box.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @property
    def layers(self) -> list[Image]:
        """What Segment works on: the picked layer, or all selected ones."""
        if self.all_selected.isChecked():
            selected = [layer for layer in self._viewer.layers if layer in self._viewer.layers.selection]
            return [layer for layer in selected if layer in self._layers]
        return [] if self.layer is None else [self.layer]

    @property
    def axes(self) -> AxisRoles | None:
        """The roles as they are set for the picked layer."""
        if self.layer is None:
            return None
        return AxisRoles(tuple(ROLES[box.currentIndex()] for box in self._roles), bool(self.layer.rgb))

    def pick(self, layer: Image) -> None:
        if layer in self._layers:
            self._box.setCurrentIndex(self._layers.index(layer))

    def set_model(self, model: ModelDescription | None) -> None:
        """Guess the axes anew for another model."""
        self._model = model
        self._show_axes()

    def guessed_axes(self, layer: Image) -> AxisRoles:
        """The likely roles of a layer's axes for the model that is picked."""
        ndim, channels = (self._model.ndim, self._model.channel_kinds) if self._model else (2, Channels(1))
        shape = (layer.data[0] if layer.multiscale else layer.data).shape[: layer.ndim]
        return guess_roles(shape, axis_labels(layer), bool(layer.rgb), ndim, channels)

    def source(self, layer: Image) -> LayerSource:
        """A layer as it is to be segmented, with the region that is set.

        Raises
        ------
        ImageError
            When the region is not there, or does not meet the image.
        """
        if layer is self.layer and (axes := self.axes) is not None:
            source = replace(LayerSource.from_layer(layer, axes), chosen=self._chosen_channels)
        else:
            source = LayerSource.from_layer(layer, self.guessed_axes(layer))
        return source.cropped(self._region_of(layer, source))

    @property
    def _chosen_channels(self) -> tuple[int, ...] | None:
        return self._of_layer.get(self._asked)

    def _region_of(self, layer: Image, source: LayerSource) -> Region | None:
        kind = self._region.currentText()
        if kind == WHOLE:
            return None
        if self._viewer.dims.ndisplay != 2:
            raise ImageError("A region is taken from a plane: show the image in 2D, or segment all of it.")
        shape = source.spatial_shape
        points = self._visible_points(layer) if kind == VISIBLE else self._rectangle_points(layer)
        displayed = [axis - (self._viewer.dims.ndim - layer.ndim) for axis in self._viewer.dims.displayed]
        space = source.axes.space
        # Along an axis that is not displayed the region has no limits.
        low = [points[:, axis].min() if axis in displayed else 0 for axis in space]
        last = [n - 1 for n in shape]
        high = [points[:, a].max() if a in displayed else n for a, n in zip(space, last, strict=True)]
        return Region.around(np.array([low, high], float), shape)

    def _visible_points(self, layer: Image) -> np.ndarray:
        corners = np.asarray(layer.corner_pixels, float)
        if layer.multiscale:
            corners = corners * layer.downsample_factors[layer.data_level]
        return corners

    def _rectangle_points(self, layer: Image) -> np.ndarray:
        shapes = [s for s in self._viewer.layers if isinstance(s, Shapes) and len(s.data)]
        active = self._viewer.layers.selection.active
        if not shapes:
            raise ImageError("There is no rectangle: add a Shapes layer and draw one on the image.")
        chosen = active if active in shapes else shapes[-1]
        picked = sorted(chosen.selected_data)
        vertices = np.asarray(chosen.data[picked[-1] if picked else -1])
        missing = layer.ndim - vertices.shape[1]
        world = np.array([chosen.data_to_world(vertex) for vertex in vertices])
        if missing > 0:
            world = np.hstack([np.zeros((len(world), missing)), world])
        return np.array([layer.world_to_data(point[-layer.ndim :]) for point in world])

    # What is shown

    def _refresh(self) -> None:
        """Take the layers as they are now, and stay with the one that was picked."""
        before = self.layer
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        self._layers = [layer for layer in images if not layer.metadata.get(IS_MAP)]
        self._box.blockSignals(True)
        self._box.clear()
        self._box.addItems([layer.name for layer in self._layers])
        if self._layers:
            kept = self._layers.index(before) if before in self._layers else len(self._layers) - 1
            self._box.setCurrentIndex(kept)
        self._box.blockSignals(False)
        if self.layer is not before or not self._layers:
            self._on_layer()

    def _follow(self) -> None:
        """The image that is made active in the layer list is the one to segment."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Image):
            self.pick(active)

    def _on_layer(self) -> None:
        self._watch.follow([] if self.layer is None else [self.layer])
        self._on_changed()

    def _on_changed(self) -> None:
        """Another layer is picked, or the picked one has other data or another place."""
        self._show_axes()
        self._show_spacing()
        self._form.setRowVisible(self.views, is_anatomical(self.layer))
        self.changed.emit()

    def _show_axes(self) -> None:
        """The roles of the axes; those that the user set for this layer and kind of model, if any."""
        layer = self.layer
        what = None if layer is None else (layer.unique_id, layer.data.shape, layer.rgb, layer.axis_labels)
        asked = (what, self._model and (self._model.ndim, self._model.channel_kinds))
        if asked == self._asked and self._roles:
            return
        self._asked = asked
        _clear(self._axes)
        self._roles = []
        # The roles need a look only where the layer has other axes than the model.
        matters = layer is not None and self._model is not None and layer.ndim != self._model.ndim
        self._form.setRowVisible(self._axes_row, matters)
        self._form.setRowVisible(self._channels, False)
        if layer is None:
            return
        for axis, role in enumerate(self._chosen.get(asked, self.guessed_axes(layer).roles)):
            box = QComboBox()
            box.addItems([_axis_text(name) for name in ROLES])
            box.setCurrentIndex(ROLES.index(role))
            box.setToolTip(
                f"Axis {layer.axis_labels[axis]}, {layer.data.shape[axis]} long: part of space, the "
                "channels, or frames that are segmented one by one."
            )
            box.currentIndexChanged.connect(self._on_role)
            self._axes.addWidget(QLabel(axis_labels(layer)[axis]))
            self._axes.addWidget(box)
            self._roles.append(box)
        self._show_channels()

    def _on_role(self) -> None:
        axes = self.axes
        self._keep_roles()
        if axes is not None:
            self._of_layer[self._asked] = None
            if axes.channel is not None and self._model is not None and self._model.channels == 1:
                self._of_layer[self._asked] = (0,)
        self._show_channels()
        self.changed.emit()

    def _show_channels(self) -> None:
        """Offer a choice of channels where the model does not take all of them as they are."""
        layer, axes, model = self.layer, self.axes, self._model
        axis = None if layer is None or axes is None else axes.channel_like(axis_labels(layer))
        if layer is None or axes is None or model is None or axis is None:
            self._form.setRowVisible(self._channels, False)
            return
        given = LayerSource.from_layer(layer, axes.with_role(axis, "channel")).all_channels
        wanted = model.channel_kinds
        self._channels.show_choice(given, wanted, self._chosen_channels)
        self._form.setRowVisible(self._channels, given.count >= wanted.count and not given.fits(wanted))

    def _on_channels(self) -> None:
        """A model of one channel is given the chosen one, or each of them by itself."""
        layer, axes = self.layer, self.axes
        chosen = self._channels.chosen
        axis = None if layer is None or axes is None else axes.channel_like(axis_labels(layer))
        if axis is not None and self._model is not None and self._model.channels == 1:
            self._roles[axis].blockSignals(True)
            self._roles[axis].setCurrentIndex(ROLES.index("frame" if chosen is None else "channel"))
            self._roles[axis].blockSignals(False)
            self._keep_roles()
        self._of_layer[self._asked] = chosen
        self.changed.emit()

    def _keep_roles(self) -> None:
        if self.axes is not None:
            self._chosen[self._asked] = self.axes.roles

    def _show_spacing(self) -> None:
        """Boxes for the last axes; those that are there stay, with the cursor in them, where they fit."""
        layer = self.layer
        what = None if layer is None else (layer.unique_id, layer.ndim, layer.axis_labels, layer.units)
        if what != self._spaced:
            self._spaced = what
            self._build_spacing()
        if layer is not None:
            for box, step in zip(self._steps, layer.scale[-len(self._steps) :], strict=True):
                box.blockSignals(True)
                box.setValue(abs(float(step)))
                box.blockSignals(False)

    def _build_spacing(self) -> None:
        _clear(self._spacing)
        self._steps = []
        layer = self.layer
        if layer is None:
            return
        spatial = range(max(0, layer.ndim - 3), layer.ndim)
        for axis in spatial:
            box = NumberBox(LEAST_SPACING, GREATEST_SPACING)
            narrowed(box)
            box.setKeyboardTracking(False)
            box.setToolTip(
                f"Distance between voxels along {layer.axis_labels[axis]}, in {layer.units[axis]}: the "
                "layer's scale. A change here changes the layer."
            )
            box.valueChanged.connect(lambda value, axis=axis: self._set_spacing(axis, value))
            self._spacing.addWidget(box)
            self._steps.append(box)
        self._spacing.addWidget(self._unit_box(str(layer.units[-1])))

    def _unit_box(self, unit: str) -> QComboBox:
        """The unit of the spacing: that of the layer, or another one that it is to have."""
        box, units = QComboBox(), list(dict.fromkeys([*USUAL_UNITS, unit]))
        box.addItems([short_unit(name) for name in units])
        box.setCurrentIndex(units.index(unit))
        box.setToolTip("The unit of these numbers; a layer in pixels does not say how large anything is.")
        box.activated.connect(lambda index: self._set_unit(units[index]))
        return box

    def _set_unit(self, unit: str) -> None:
        layer = self.layer
        if layer is not None:
            others = [str(each) for each in layer.units[: -len(self._steps)]]
            layer.units = [*others, *[unit] * len(self._steps)]

    def _set_spacing(self, axis: int, value: float) -> None:
        layer = self.layer
        if layer is not None:
            scale = np.array(layer.scale, float)
            scale[axis] = np.copysign(value, scale[axis])
            layer.scale = scale


def _axis_text(role: str) -> str:
    return {"space": "space", "channel": "channel", "frame": "frames"}[role]


def _row() -> tuple[QWidget, QHBoxLayout]:
    widget = QWidget()
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    return widget, layout


def _clear(layout: QHBoxLayout) -> None:
    while layout.count():
        widget = layout.takeAt(0).widget()
        widget.hide()
        widget.deleteLater()
