"""The controls of a finished segmentation: resolution, decision, classes, and what to make of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_swipe.live.segmented import SegmentedLayer
from napari_swipe.qt.layouts import beside, duration, readable_factor, rest_timer, short_unit
from napari_swipe.qt.number_box import NumberBox
from napari_swipe.segment.job import weighs_levels
from napari_swipe.segment.outputs import lattice
from napari_swipe.segment.setting_controls import SettingSlider, setting_controls
from swipe_core.errors import readable_bytes
from swipe_core.inference.config import SETTINGS

if TYPE_CHECKING:
    from swipe_core.coordinates import Grid

HALF_OCTAVES = (-4, 8)  # the slider goes from 1/4x to 16x in steps of the square root of 2
DECISION_DELAY = 300  # milliseconds that a slider must rest
ROWS_OF_CLASSES = 5


class ResultPanel(QWidget):
    """Controls of one continuous segmentation: what they do needs no further encoding."""

    live_requested = Signal(bool)
    apart_requested = Signal(bool)
    """Whether single objects are to be shown in place of classes."""
    decided = Signal(object)
    """`decision`, once the sliders rest."""
    visibility_changed = Signal()
    render_requested = Signal()
    save_requested = Signal()
    objects_requested = Signal()
    probability_requested = Signal(int)
    uncertainty_requested = Signal()
    scale_requested = Signal()
    surface_requested = Signal()
    measured_requested = Signal()
    band_requested = Signal()
    half_width_requested = Signal()
    contours_requested = Signal()
    export_requested = Signal()
    command_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._segmented: SegmentedLayer | None = None
        self._chosen_factor = 1.0
        self._timer = rest_timer(self, DECISION_DELAY, self._decide)
        self.settings = setting_controls(advanced=False)
        for control in self.settings.values():
            control.chosen.connect(lambda *_: self._timer.start())
        self.live = QCheckBox("Live layer: boundaries sharp at any zoom")
        self.live.setToolTip("A labels layer that is decoded at the zoom of the screen. It cannot be edited.")
        self.live.setChecked(True)
        self.live.toggled.connect(self.live_requested)
        self.apart = QCheckBox("Single objects: touching ones apart, each in a colour")
        self.apart.setToolTip("The model tells touching objects apart. Untick to see the classes.")
        self.apart.toggled.connect(self.apart_requested)
        self._classes = _class_list()
        self._classes.itemChanged.connect(lambda item: self.visibility_changed.emit())
        self._build_resolution()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.live)
        layout.addWidget(self.apart)
        layout.addWidget(self._classes)
        layout.addLayout(self._form())
        layout.addLayout(self._buttons())
        self.show_result(None)

    def _build_resolution(self) -> None:
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(*HALF_OCTAVES)
        self._slider.setTickPosition(QSlider.TickPosition.TicksBelow)
        self._slider.setTickInterval(2)
        self._slider.setToolTip(
            "Resolution of labels that are rendered, from 1/4 to 16 times that of the image: "
            "all of them come from the same encoding."
        )
        self._slider.valueChanged.connect(self._on_slider)
        self._factor = _value()
        self._spacing = NumberBox()
        self._spacing.setKeyboardTracking(False)
        self._spacing.setToolTip("The same as a distance between voxels, along the finest axis.")
        self._spacing.valueChanged.connect(self._on_spacing)
        self._isotropic = QCheckBox("cubic voxels")
        self._isotropic.setToolTip("Cut thick slices finer, so that every plane has the same resolution.")
        self._isotropic.toggled.connect(self._show_cost)
        self._cost = QLabel()
        self._cost.setWordWrap(True)

    def _form(self) -> QFormLayout:
        form = QFormLayout()
        for name, control in self.settings.items():
            form.addRow(SETTINGS[name].title, control)
        form.addRow("Resolution", beside(self._slider, self._factor))
        form.addRow("Voxel size", beside(self._spacing, self._isotropic))
        form.addRow("", self._cost)
        return form

    def _buttons(self) -> QGridLayout:
        render = _button("Render labels", "Make a labels layer that can be edited.", self.render_requested)
        save = _button("Render to file…", "Write labels at this resolution to a file.", self.save_requested)
        objects = _button(
            "Objects", "Number connected objects, and list their sizes.", self.objects_requested
        )
        copy = _button(
            "Copy as command", "Put the command that does the same on the clipboard.", self.command_requested
        )
        export = _button(
            "Export boundary…",
            "Write the boundary itself, not a raster of it: meshes (STL, PLY, OBJ, GLB), contours (GeoJSON, "
            "SVG, COCO, ImageJ), measurements (CSV).",
            self.export_requested,
        )
        more = QPushButton("More layers")
        more.setToolTip(
            "Probability, uncertainty, how sure the boundary is, distances, contours to edit, surfaces in 3D."
        )
        self._menu = QMenu(more)
        self.grid_menu, self.distance_menu = QMenu("Labels on the grid of"), QMenu("Distance to")
        self.grid_menu.setToolTipsVisible(True)
        self._menu.setToolTipsVisible(True)
        more.setMenu(self._menu)
        self._actions = (render, save, objects, export, more)
        grid = QGridLayout()
        for place, button in enumerate(self._actions):
            grid.addWidget(button, place // 2, place % 2)
        grid.addWidget(copy, 2, 1)
        return grid

    # What is set

    @property
    def factor(self) -> float:
        """Times as many voxels as the image along its finest axis."""
        return self._chosen_factor

    @property
    def is_cubic(self) -> bool:
        """Whether voxels are as long along all axes."""
        return self._isotropic.isChecked()

    @property
    def decision(self) -> dict[str, Any]:
        """The settings that decide, as fields of `InferenceConfig`."""
        return {name: control.setting_value for name, control in self.settings.items()}

    @property
    def grid(self) -> Grid | None:
        """The lattice that is set, over the space of one frame."""
        if self._segmented is None:
            return None
        return lattice(self._segmented.field.image_grid, self.factor, self.is_cubic)

    @property
    def hidden_classes(self) -> list[int]:
        """Labels of the classes that are unticked."""
        rows = range(self._classes.count())
        return [row + 1 for row in rows if self._classes.item(row).checkState() == Qt.CheckState.Unchecked]

    def set_factor(self, factor: float) -> None:
        """Move the slider to the nearest step of a factor."""
        self._slider.setValue(round(2 * math.log2(factor)))

    # What is shown

    def set_busy(self, busy: bool) -> None:
        """Disable what makes something new while work runs; sliders stay, and count afterwards."""
        for button in self._actions:
            button.setEnabled(not busy)
        self.apart.setEnabled(not busy)

    def show_result(self, segmented: SegmentedLayer | None, hidden: Sequence[int] = ()) -> None:
        """Show another segmentation, or another state of it; None greys everything out.

        `hidden`: labels of the classes that are not shown.
        """
        self.setEnabled(segmented is not None)
        is_other = segmented is None or self._segmented is None or segmented.job != self._segmented.job
        self._segmented = segmented
        self.apart.setVisible(segmented is not None and segmented.can_tell_apart)
        if segmented is not None:
            with QSignalBlocker(self.apart):
                self.apart.setChecked(bool(segmented.field.objects))
            self._classes.setDisabled(bool(segmented.field.objects))
            if is_other:
                self._timer.stop()
                self._fill_classes(segmented.job.model.class_names, segmented.job.model.class_colours, hidden)
                self._fill_menu(segmented)
                self._prepare_resolution(segmented)
            self._show_config(segmented)
            self._show_cost()
        else:
            self._cost.setText("")

    def show_live(self, is_there: bool) -> None:
        """Show whether there is a live layer, which the user may have deleted."""
        with QSignalBlocker(self.live):
            self.live.setChecked(is_there)

    def _fill_classes(self, names: Sequence[str], colours: Sequence[str], hidden: Sequence[int]) -> None:
        with QSignalBlocker(self._classes):
            self._classes.clear()
            for label, (name, colour) in enumerate(zip(names, colours, strict=True), start=1):
                item = QListWidgetItem(_chip(colour), name)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                is_shown = label not in hidden
                item.setCheckState(Qt.CheckState.Checked if is_shown else Qt.CheckState.Unchecked)
                self._classes.addItem(item)
        rows = max(self._classes.sizeHintForRow(0), 1) * min(len(names), ROWS_OF_CLASSES)
        self._classes.setFixedHeight(rows + 2 * self._classes.frameWidth() + 2)

    def _fill_menu(self, segmented: SegmentedLayer) -> None:
        self._menu.clear()
        for index, name in enumerate(segmented.job.model.class_names, start=1):
            self._menu.addAction(f"Probability of {name}", lambda i=index: self.probability_requested.emit(i))
        self._menu.addAction("Uncertainty", self.uncertainty_requested.emit)
        level = self._menu.addAction("Which network level decides", self.scale_requested.emit)
        if not weighs_levels(segmented):
            level.setEnabled(False)
            title = segmented.job.model.network_title
            level.setToolTip(f"This {title} has no attention that weighs its levels against each other.")
        self._menu.addAction("Band of 90 %: where the boundary may lie", self.band_requested.emit)
        self._menu.addAction("How sure the boundary is, in its unit", self.half_width_requested.emit)
        self._menu.addMenu(self.distance_menu)
        self._menu.addSeparator()
        self._menu.addMenu(self.grid_menu)
        self._menu.addAction("Contours to edit", self.contours_requested.emit)
        if segmented.field.image_grid.ndim == 3:
            self._menu.addAction("3D surfaces", self.surface_requested.emit)
        self._menu.addAction("Measurements of the boundary", self.measured_requested.emit)

    def _prepare_resolution(self, segmented: SegmentedLayer) -> None:
        """Set range and unit of the voxel size; the factor that was set stays."""
        spacing = segmented.field.image_grid.spacing
        finest, anisotropic = min(spacing), max(spacing) / min(spacing) > 1.01
        with QSignalBlocker(self._spacing):
            self._spacing.setRange(finest / 2**7, finest * 2**5)
            self._spacing.setSuffix(f" {short_unit(segmented.job.source.unit)}")
        with QSignalBlocker(self._isotropic):
            self._isotropic.setVisible(anisotropic)
            self._isotropic.setChecked(anisotropic)
        self._show_factor()

    def _show_config(self, segmented: SegmentedLayer) -> None:
        """Set the sliders as the segmentation has them, unless they are being moved."""
        if self._timer.isActive():
            return
        for name, control in self.settings.items():
            if not (isinstance(control, SettingSlider) and control.isSliderDown()):
                with QSignalBlocker(control):
                    control.show_value(getattr(segmented.config, name))

    def _on_slider(self) -> None:
        self._chosen_factor = float(2 ** (self._slider.value() / 2))
        self._show_factor()
        self._show_cost()

    def _on_spacing(self, size: float) -> None:
        if self._segmented is not None:
            self._chosen_factor = min(self._segmented.field.image_grid.spacing) / size
            self._show_cost()

    def _show_factor(self) -> None:
        """Show the voxel size that goes with the factor; its rounding changes nothing."""
        if self._segmented is not None:
            with QSignalBlocker(self._spacing):
                self._spacing.setValue(min(self._segmented.field.image_grid.spacing) / self._chosen_factor)

    def _show_cost(self) -> None:
        grid, segmented = self.grid, self._segmented
        if grid is None or segmented is None:
            return
        self._factor.setText(readable_factor(self.factor))
        estimate = segmented.cost.estimate(grid)
        frames = len(segmented.field.fields)
        shape = " × ".join(map(str, segmented.field.axes.shape(grid.shape)))
        size = readable_bytes(estimate.label_bytes * frames)
        self._cost.setText(f"{shape}, {size}, about {duration(estimate.seconds * frames)}")

    def _decide(self) -> None:
        self.decided.emit(self.decision)


def _value() -> QLabel:
    """Return a label for the number beside a slider, wide enough for any."""
    label = QLabel()
    label.setMinimumWidth(label.fontMetrics().horizontalAdvance("00.0 px "))
    return label


def _class_list() -> QListWidget:
    classes = QListWidget()
    classes.setToolTip("The classes. Untick one to hide it; nothing is computed anew.")
    classes.setSelectionMode(QListWidget.SelectionMode.NoSelection)
    classes.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return classes


def _chip(colour: str) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)


def _button(text: str, tip: str, signal: object) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda: signal.emit())  # type: ignore[attr-defined]
    return button
