"""What the buttons under a result do: labels, files, objects, maps, surfaces, and the command line."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QObject
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog

from napari_swipe.layers.choice import kept_selection
from napari_swipe.layers.data import LayerData
from napari_swipe.layers.geometry import layer_matrix
from napari_swipe.layers.metadata import LayerMetadata, metadata_of
from napari_swipe.live.segmented import SegmentedLayer
from napari_swipe.qt.layouts import readable_factor
from napari_swipe.qt.task import TaskBar
from napari_swipe.segment import boundary_outputs as _boundary
from napari_swipe.segment import outputs as _outputs
from napari_swipe.segment.boundary_outputs import AlongBoundary
from napari_swipe.segment.boundary_table import BoundaryTable
from napari_swipe.segment.command import Command, iter_command
from napari_swipe.segment.export_dialog import ExportDialog
from napari_swipe.segment.object_table import ObjectTable
from napari_swipe.segment.outputs import Appearance, Objects
from napari_swipe.segment.result_panel import ResultPanel
from swipe_core.compute.memory import free_memory
from swipe_core.errors import SwipeError, readable_bytes
from swipe_core.images.formats import suffixes_with
from swipe_core.progress import finish

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels

    from swipe_core.coordinates import Grid
    from swipe_core.export.formats import ExportFormat
    from swipe_core.export.outlines import Scene

READ_AT_ONCE = 2**26  # bytes of an image that are compared with their file while the window waits
MEMORY_SHARE = 0.5  # of what is free, that one output may take

Picked = tuple["Image", SegmentedLayer]


class ResultActions(QObject):
    """Makes layers and files from the segmentation that is picked, one at a time, in a thread.

    `panel`: whose buttons are served, and whose resolution counts.
    `picked`: gives the image that is picked and its segmentation, or None.
    """

    def __init__(
        self, viewer: Viewer, panel: ResultPanel, task_bar: TaskBar, picked: Callable[[], Picked | None]
    ) -> None:
        super().__init__(panel)
        self._viewer, self._panel, self._task_bar, self._picked = viewer, panel, task_bar, picked
        panel.render_requested.connect(self.render_labels)
        panel.save_requested.connect(self._ask_and_save)
        panel.objects_requested.connect(self.find_objects)
        panel.probability_requested.connect(self.show_probability)
        panel.uncertainty_requested.connect(self.show_uncertainty)
        panel.scale_requested.connect(self.show_deciding_scale)
        panel.surface_requested.connect(self.show_surfaces)
        panel.contours_requested.connect(self.show_contours)
        panel.measured_requested.connect(self.measure_boundary)
        panel.band_requested.connect(self.show_band)
        panel.half_width_requested.connect(self.show_half_widths)
        panel.export_requested.connect(self._ask_and_export)
        panel.command_requested.connect(self.copy_command)

    @property
    def image(self) -> Image | None:
        """The image whose segmentation is picked."""
        picked = self._picked()
        return None if picked is None else picked[0]

    def render_labels(self) -> None:
        """Add an ordinary labels layer at the resolution that is set."""
        what = f"labels {readable_factor(self._panel.factor)}"
        self.make(_outputs.iter_labels, what, self.add_labels)

    def save_labels(self, path: str | Path) -> None:
        """Write labels at the resolution that is set to a file, without a layer."""
        self.make(
            lambda field, grid, look: _outputs.iter_file(field, grid, Path(path)),
            "file",
            lambda image, written: show_info(f"The labels are in {written}."),
        )

    def find_objects(self) -> None:
        """Number the connected objects, and show a table of them."""
        self.make(
            _outputs.iter_objects,
            "objects",
            self._add_objects,
            bytes_per_voxel=13,  # classes, and numbers while they are counted
        )

    def show_probability(self, class_index: int) -> None:
        """Add the probability of a class as an image."""
        picked = self._picked()
        if picked is not None:
            name = picked[1].job.model.class_names[class_index - 1]
            self.make(
                lambda field, grid, look: _outputs.iter_probability(field, grid, class_index, look),
                f"probability of {name}",
                self._add_map,
                bytes_per_voxel=4,
            )

    def show_uncertainty(self) -> None:
        """Add the uncertainty, how near each place is to a boundary, as an image."""
        self.make(_outputs.iter_uncertainty, "uncertainty", self._add_map, bytes_per_voxel=4)

    def show_deciding_scale(self) -> None:
        """Add as labels which stage of the network decided."""
        self.make(_outputs.iter_deciding_scale, "deciding level", self._add_map)

    def show_surfaces(self) -> None:
        """Add a mesh for each class, and turn the viewer to 3D."""
        self.make(_boundary.iter_surfaces, "surface", self._add_surfaces)

    def show_contours(self) -> None:
        """Add the outlines of all objects as shapes, which can be edited."""
        self.make(
            _boundary.iter_contours, "contours", lambda image, layers: self._add(layers, LayerMetadata())
        )

    def show_band(self) -> None:
        """Add as labels where the boundary of each class lies with a probability of 90 %."""
        self.make(_outputs.iter_band, "band of 90 %", self._add_map)

    def show_half_widths(self) -> None:
        """Add the boundary in colours for how sure it is."""
        self.make(_boundary.iter_half_widths, "how sure", self.add_along_boundary)

    def measure_boundary(self) -> None:
        """Show a table of what is measured from the boundary, each number with its error."""
        self.make(_boundary.iter_measured, "measurements", self._add_measurements)

    def export_boundary(
        self,
        path: Path,
        tolerance: float,
        slices: Sequence[int] | None = None,
        kind: ExportFormat | None = None,
    ) -> None:
        """Write meshes, contours or measurements to a file, within a tolerance in the unit of the image."""
        self.make(
            lambda field, grid, look: _boundary.iter_export(field, path, tolerance, slices, kind, look),
            "export",
            lambda image, exported: self._task_bar.say(
                "\n".join([*exported.lines, *(f"written: {each}" for each in exported.paths)])
            ),
        )

    def _ask_and_export(self) -> None:
        picked = self._picked()
        if picked is None:
            return
        image, segmented = picked
        dialog = ExportDialog(image.name, segmented, self._shown_slice(image, segmented), self._panel)
        if dialog.exec() and dialog.path is not None:
            self.export_boundary(dialog.path, dialog.tolerance, dialog.slices, dialog.kind)

    def _shown_slice(self, image: Image, segmented: SegmentedLayer) -> int:
        """Return the slice along the first axis of a volume that is in view."""
        if segmented.field.image_grid.ndim != 3:
            return 0
        place = image.world_to_data(self._viewer.dims.point)
        first = round(float(place[segmented.job.source.axes.space[0]]))
        return int(np.clip(first, 0, segmented.field.image_grid.shape[0] - 1))

    def copy_command(self) -> None:
        """Put the command that does the same on the clipboard, or a sentence on why there is none."""
        picked = self._picked()
        if picked is None:
            return
        work = iter_command(picked[1], self._panel.factor, self._panel.is_cubic)
        if getattr(picked[1].job.source.array, "nbytes", 0) > READ_AT_ONCE:
            self._task_bar.run(work, "Comparing the layer with its file", self._on_command)
            return
        try:
            self._on_command(finish(work))
        except SwipeError as error:
            # What was copied before would else be taken for the command.
            QGuiApplication.clipboard().setText(f"# {error}")
            show_error(str(error))

    def _on_command(self, command: Command) -> None:
        QGuiApplication.clipboard().setText(command.line)
        self._task_bar.say(f"Copied: {command.line}")
        if command.caveat is not None:
            show_warning(
                f"{command.caveat}: save the layer to a file, and write its name in place of IMAGE in the "
                "command that was copied."
            )

    def make(
        self,
        making: Callable[[Any, Any, Appearance], Generator[Any, None, Any]],
        what: str,
        on_done: Callable[[Image, Any], object],
        bytes_per_voxel: int = 1,
    ) -> None:
        """Make an output of what is picked, and hand it over with its image."""
        picked, grid = self._picked(), self._panel.grid
        if picked is None or grid is None or not self._fits(picked[1], grid, bytes_per_voxel):
            return
        image, segmented = picked
        hidden = tuple(self._panel.hidden_classes)
        look = Appearance(f"{image.name} · {what}", segmented.job.model.class_colours, hidden)
        self._task_bar.run(
            making(segmented.field, grid, look), what.capitalize(), lambda made: on_done(image, made)
        )

    def _fits(self, segmented: SegmentedLayer, grid: Grid, bytes_per_voxel: int) -> bool:
        """Return whether an output fits into free memory; shows what to do where it does not."""
        needed = grid.voxels * len(segmented.field.fields) * bytes_per_voxel
        free = free_memory()
        if free is None or needed <= MEMORY_SHARE * free:
            return True
        show_error(
            f"This resolution needs {readable_bytes(needed)} and {readable_bytes(free)} are free: choose a "
            "coarser one, or segment a smaller region."
        )
        return False

    def _ask_and_save(self) -> None:
        picked = self._picked()
        if picked is None:
            return
        image, segmented = picked
        suffix = ".nii.gz" if segmented.field.image_grid.ndim == 3 else ".tif"
        start = f"{Path(image.name).name.split('.')[0]}_labels{suffix}"
        kinds = f"Labels ({' '.join(f'*{each}' for each in suffixes_with('label_writer'))})"
        path, _ = QFileDialog.getSaveFileName(self._panel, "Render labels to a file", start, kinds)
        if path:
            self.save_labels(path)

    # Into the viewer

    def _add(self, layers: list[LayerData], metadata: LayerMetadata) -> list[Any]:
        """Add layers, and leave the active layer as it was: the image stays picked."""
        with kept_selection(self._viewer):
            return [
                getattr(self._viewer, f"add_{kind}")(data, metadata=metadata.entries, **arguments)
                for data, arguments, kind in layers
            ]

    def add_labels(self, image: Image, layers: list[LayerData]) -> None:
        """Add labels that were made of an image, and say so."""
        (labels,) = self._add(layers, LayerMetadata(space=metadata_of(image).space, of_image=image.unique_id))
        self._task_bar.say(f"The layer {labels.name} was added.")

    def _add_map(self, image: Image, layers: list[LayerData]) -> None:
        """Add a map, and hide those that were shown before: two at once show neither."""
        for layer in self._viewer.layers:
            if metadata_of(layer).is_map:
                layer.visible = False
        self._add(layers, LayerMetadata(is_map=True))

    def add_along_boundary(self, image: Image, made: AlongBoundary) -> None:
        """Add a quantity along the boundary, and say what it is like."""
        self._add_map(image, made.layers)
        if made.layers and made.layers[0][2] == "surface":
            self._show_alone(made.layers)
        self._task_bar.say("\n".join(made.lines))

    def _add_measurements(self, image: Image, scene: Scene) -> None:
        table = BoundaryTable(scene)
        name = f"{image.name} · measurements"
        self._viewer.window.add_dock_widget(table, name=name, area="bottom", tabify=True)

    def _add_objects(self, image: Image, objects: Objects) -> None:
        (labels,) = self._add([objects.layer], LayerMetadata(space=metadata_of(image).space))
        table = ObjectTable(objects)
        table.follow(labels)
        if table.editor is not None:
            table.editor.started.connect(lambda: self._viewer.layers.selection.select_only(labels))
        table.chosen.connect(lambda number, place: self._go_to(labels, number, place))
        self._viewer.window.add_dock_widget(table, name=labels.name, area="bottom", tabify=True)

    def _go_to(self, labels: Labels, number: int, place: tuple[float, ...]) -> None:
        """Bring an object to the middle of the canvas, and select its label."""
        if labels not in self._viewer.layers:
            return
        dims, matrix = self._viewer.dims, layer_matrix(labels)
        offset = dims.ndim - labels.ndim
        voxel = np.linalg.solve(matrix[:-1, :-1], np.asarray(place) - matrix[:-1, -1])

        def shown_at(axes: Sequence[int]) -> np.ndarray:
            """Where napari draws the voxel: it leaves out what a turned layer has of other axes."""
            own = [axis - offset for axis in axes]
            return matrix[np.ix_(own, own)] @ voxel[own] + matrix[own, -1]

        sliced = [axis for axis in dims.not_displayed if axis >= offset]
        for axis, position in zip(sliced, shown_at(sliced), strict=True):
            dims.set_point(axis, float(position))
        if all(axis >= offset for axis in dims.displayed):
            self._viewer.scene.camera.center = tuple(float(c) for c in shown_at(dims.displayed))
        labels.selected_label = number

    def _add_surfaces(self, image: Image, layers: list[LayerData]) -> None:
        self._add(layers, LayerMetadata())
        self._show_alone(layers)

    def _show_alone(self, layers: list[LayerData]) -> None:
        """Show the surfaces that were added last in 3D."""
        added = self._viewer.layers[-len(layers) :]
        for layer in self._viewer.layers:
            # A volume of labels, older surfaces, or the image itself, would cover them.
            layer.visible = layer in added
        self._viewer.dims.ndisplay = 3
