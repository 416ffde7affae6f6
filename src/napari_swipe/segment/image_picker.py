"""Pick the layer to segment: its axes, its spacing, and which part of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Shapes
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QWidget

from napari_swipe.layers.axes import ROLES, AxisRoles, Role, axis_labels, guess_roles
from napari_swipe.layers.choice import ImageChoice
from napari_swipe.layers.source import LayerSource, Region
from napari_swipe.layers.watch import LayerWatch
from napari_swipe.qt.layouts import Row, short_unit
from napari_swipe.qt.number_box import NumberBox, narrowed
from napari_swipe.segment.image_rows import AnatomicalViews, ChannelBoxes, is_anatomical, show_plane
from swipe_core.errors import ImageError
from swipe_core.images.channels import Channels

if TYPE_CHECKING:
    from napari import Viewer

    from swipe_core.checkpoints.header import ModelDescription

USUAL_UNITS = ("pixel", "millimeter", "micrometer", "nanometer")
LEAST_SPACING, GREATEST_SPACING = 1e-15, 1e15  # in any unit
ROLE_TEXTS: dict[Role, str] = {"space": "space", "channel": "channel", "frame": "frames"}
WHOLE, VISIBLE, RECTANGLE = "Whole image", "Visible region", "Shapes rectangle"


class ImagePicker(QWidget):
    """The image layers of a viewer, and how the picked one is to be understood by a model."""

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._model: ModelDescription | None = None
        self._roles: list[QComboBox] = []
        self._steps: list[NumberBox] = []
        self._watch = LayerWatch(self)
        self._watch.changed.connect(self._on_changed)
        # What the axes, and the spacing, are shown of; what the user chose for each of the former.
        self._shown: tuple[object, ...] = ()
        self._spaced: tuple[object, ...] | None = None
        self._chosen_roles: dict[tuple[object, ...], tuple[Role, ...]] = {}
        self._chosen_channels: dict[tuple[object, ...], tuple[int, ...] | None] = {}
        self._box = ImageChoice(viewer, "The image layer to segment.")
        self._box.changed.connect(self._on_layer)
        self._axes, self._spacing = Row(), Row()
        self._channels = ChannelBoxes()
        self._channels.changed.connect(self._on_channels)
        self._region = QComboBox()
        self._region.addItems([WHOLE, VISIBLE, RECTANGLE])
        self._region.setToolTip(
            "Segment everything, only what is in view, or only inside a rectangle that you drew "
            "in a Shapes layer (the last one, or the one that is selected)."
        )
        self.views = AnatomicalViews()
        self.views.plane_chosen.connect(lambda plane: show_plane(viewer, plane))
        self.all_selected = QCheckBox("All selected image layers")
        self.all_selected.setToolTip("Segment every image layer that is selected in the layer list, in turn.")
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        for label, control in (
            ("Layer", self._box),
            ("Axes", self._axes),
            ("Channel", self._channels),
            ("Spacing", self._spacing),
            ("Region", self._region),
            ("View", self.views),
            ("", self.all_selected),
        ):
            self._form.addRow(label, control)
        viewer.layers.selection.events.active.connect(self._follow)
        self._on_layer()

    def disconnect_viewer(self) -> None:
        """Let go of the viewer, whose events would else reach a widget that is gone."""
        self._box.disconnect_viewer()
        self._watch.stop()
        self._viewer.layers.selection.events.active.disconnect(self._follow)

    def add_row(self, label: str, control: QWidget) -> None:
        """One more row of the form."""
        self._form.addRow(label, control)

    # What is picked

    @property
    def layer(self) -> Image | None:
        return self._box.image

    @property
    def layers(self) -> list[Image]:
        """The layers that Segment works on: the picked one, or all selected ones."""
        if self.all_selected.isChecked():
            return [layer for layer in self._box.images if layer in self._viewer.layers.selection]
        return [] if self.layer is None else [self.layer]

    @property
    def axes(self) -> AxisRoles | None:
        """The roles as they are set for the picked layer."""
        if self.layer is None:
            return None
        return AxisRoles(tuple(ROLES[box.currentIndex()] for box in self._roles), bool(self.layer.rgb))

    def pick(self, layer: Image) -> None:
        self._box.pick(layer)

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

        An `ImageError` is raised when the region is not there, or does not meet the image.
        """
        if layer is self.layer and (axes := self.axes) is not None:
            source = replace(LayerSource.from_layer(layer, axes), chosen=self._channels_chosen)
        else:
            source = LayerSource.from_layer(layer, self.guessed_axes(layer))
        return source.cropped(self._region_of(layer, source))

    @property
    def _channels_chosen(self) -> tuple[int, ...] | None:
        return self._chosen_channels.get(self._shown)

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
        drawn = active if active in shapes else shapes[-1]
        vertices = np.asarray(drawn.data[max(drawn.selected_data, default=-1)])
        world = np.array([drawn.data_to_world(vertex) for vertex in vertices])
        missing = max(0, layer.ndim - world.shape[1])
        world = np.hstack([np.zeros((len(world), missing)), world])
        return np.array([layer.world_to_data(point[-layer.ndim :]) for point in world])

    # What is shown

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
        layer, model = self.layer, self._model
        what = None if layer is None else (layer.unique_id, layer.data.shape, layer.rgb, layer.axis_labels)
        shown = (what, model and (model.ndim, model.channel_kinds))
        if shown == self._shown and self._roles:
            return
        self._shown, self._roles = shown, []
        # The roles need a look only where the layer has other axes than the model.
        matters = layer is not None and model is not None and layer.ndim != model.ndim
        self._form.setRowVisible(self._axes, matters)
        self._form.setRowVisible(self._channels, False)
        if layer is None:
            self._axes.replace([])
            return
        for axis, role in enumerate(self._chosen_roles.get(shown, self.guessed_axes(layer).roles)):
            box = QComboBox()
            box.addItems([ROLE_TEXTS[name] for name in ROLES])
            box.setCurrentIndex(ROLES.index(role))
            box.setToolTip(
                f"Axis {layer.axis_labels[axis]}, {layer.data.shape[axis]} long: part of space, the "
                "channels, or frames that are segmented one by one."
            )
            box.currentIndexChanged.connect(self._on_role)
            self._roles.append(box)
        names = map(QLabel, axis_labels(layer))
        self._axes.replace([each for pair in zip(names, self._roles, strict=False) for each in pair])
        self._show_channels()

    def _on_role(self) -> None:
        axes, takes_one = self.axes, self._model is not None and self._model.channels == 1
        if axes is not None:
            self._chosen_roles[self._shown] = axes.roles
            self._chosen_channels[self._shown] = (0,) if axes.channel is not None and takes_one else None
        self._show_channels()
        self.changed.emit()

    @property
    def _channel_axis(self) -> int | None:
        """The axis of the picked layer that is, or may be, its channels."""
        layer, axes = self.layer, self.axes
        return None if layer is None or axes is None else axes.channel_like(axis_labels(layer))

    def _show_channels(self) -> None:
        """Offer a choice of channels where the model does not take all of them as they are."""
        layer, axes, axis = self.layer, self.axes, self._channel_axis
        if layer is None or axes is None or axis is None or self._model is None:
            self._form.setRowVisible(self._channels, False)
            return
        given = LayerSource.from_layer(layer, axes.with_role(axis, "channel")).all_channels
        taken = self._model.channel_kinds
        self._channels.show_choice(given, taken, self._channels_chosen)
        self._form.setRowVisible(self._channels, given.count >= taken.count and not given.fits(taken))

    def _on_channels(self) -> None:
        """A model of one channel is given the chosen one, or each of them by itself."""
        chosen, axis = self._channels.chosen, self._channel_axis
        if axis is not None and self._model is not None and self._model.channels == 1:
            with QSignalBlocker(self._roles[axis]):
                self._roles[axis].setCurrentIndex(ROLES.index("frame" if chosen is None else "channel"))
            if self.axes is not None:
                self._chosen_roles[self._shown] = self.axes.roles
        self._chosen_channels[self._shown] = chosen
        self.changed.emit()

    def _show_spacing(self) -> None:
        """Boxes for the last axes; those that are there stay, with the cursor in them, where they fit."""
        layer = self.layer
        what = None if layer is None else (layer.unique_id, layer.ndim, layer.axis_labels, layer.units)
        if what != self._spaced:
            self._spaced = what
            self._steps = (
                []
                if layer is None
                else [self._step_box(layer, axis) for axis in range(max(0, layer.ndim - 3), layer.ndim)]
            )
            unit = [] if layer is None else [self._unit_box(str(layer.units[-1]))]
            self._spacing.replace([*self._steps, *unit])
        if layer is not None:
            for box, step in zip(self._steps, layer.scale[-len(self._steps) :], strict=True):
                with QSignalBlocker(box):
                    box.setValue(abs(float(step)))

    def _step_box(self, layer: Image, axis: int) -> NumberBox:
        box = NumberBox(LEAST_SPACING, GREATEST_SPACING)
        narrowed(box)
        box.setKeyboardTracking(False)
        box.setToolTip(
            f"Distance between voxels along {layer.axis_labels[axis]}, in {layer.units[axis]}: the "
            "layer's scale. A change here changes the layer."
        )
        box.valueChanged.connect(lambda value: self._set_spacing(axis, value))
        return box

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
