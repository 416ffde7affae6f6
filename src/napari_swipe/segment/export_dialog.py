"""What is to be said before a boundary is exported: how exactly, which slices, and into which file."""

from pathlib import Path

from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_swipe.live.segmented import SegmentedLayer
from napari_swipe.qt.layouts import duration, short_unit
from napari_swipe.qt.number_box import NumberBox
from swipe_core.errors import readable_bytes
from swipe_core.export.formats import EXPORTS, ExportFormat


class ExportDialog(QDialog):
    """Asks for the kind of file, the tolerance and, of a volume, the slices; then for the file."""

    def __init__(
        self, name: str, segmented: SegmentedLayer, shown_slice: int, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Export the boundary in {name}")
        self.path: Path | None = None
        """The file that was chosen, or None."""
        self._stem, self._shown = Path(name).name.split(".")[0], shown_slice
        self._cost, grid = segmented.cost, segmented.field.image_grid
        self._kinds = [
            kind for kind in EXPORTS if (grid.ndim == 3 or not kind.needs_volume) and not kind.is_plain
        ]
        self.kind_box = QComboBox()
        self.kind_box.addItems([f"{kind.name} ({kind.suffix})" for kind in self._kinds])
        self.kind_box.currentIndexChanged.connect(lambda _: self._show_rows())
        self.tolerance_box = NumberBox()
        finest = min(grid.spacing)
        self.tolerance_box.setRange(finest / 1000, finest * 10)
        self.tolerance_box.setValue(finest / 10)
        self.tolerance_box.setSuffix(f" {short_unit(segmented.field.first.unit)}")
        self.tolerance_box.setToolTip(
            "How far the mesh or the contour may be from the boundary. It alone decides how many triangles "
            "or vertices there are."
        )
        self.slice_box = QComboBox()
        self.slice_box.addItems(["all slices", f"slice {shown_slice} alone"])
        form = QFormLayout()
        form.addRow("Kind of file", self.kind_box)
        self._tolerance_label = QLabel("Tolerance")
        form.addRow(self._tolerance_label, self.tolerance_box)
        self._slice_label = QLabel("Contours in")
        form.addRow(self._slice_label, self.slice_box)
        self.preview = QLabel()
        self.preview.setToolTip("Estimated from how large and how curved the boundary is.")
        form.addRow("", self.preview)
        self.tolerance_box.valueChanged.connect(lambda _: self._show_cost())
        self.slice_box.currentIndexChanged.connect(lambda _: self._show_cost())
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self._choose_file)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(buttons)
        self._slices = grid.shape[0] if grid.ndim == 3 else None
        self._show_rows()

    @property
    def kind(self) -> ExportFormat:
        return self._kinds[self.kind_box.currentIndex()]

    @property
    def tolerance(self) -> float:
        """In the unit of the image."""
        return float(self.tolerance_box.value())

    @property
    def slices(self) -> list[int] | None:
        """The slices of a volume along its first axis, or None for all of them."""
        is_one = self._has_slices and self.slice_box.currentIndex() == 1
        return [self._shown] if is_one else None

    @property
    def _has_slices(self) -> bool:
        return self._slices is not None and self.kind.content == "outlines"

    def _show_rows(self) -> None:
        is_drawn = self.kind.content not in ("labels", "field")
        self._tolerance_label.setVisible(is_drawn)
        self.tolerance_box.setVisible(is_drawn)
        self._slice_label.setVisible(self._has_slices)
        self.slice_box.setVisible(self._has_slices)
        self.preview.setVisible(is_drawn)
        self._show_cost()

    def _show_cost(self) -> None:
        """Show about how much there will be, and how long it takes."""
        slices = None
        if self._has_slices:
            slices = self._slices if self.slices is None else len(self.slices)
        estimate = self._cost.estimate_boundary(self.tolerance, slices)
        is_mesh = self._slices is not None and slices is None
        words = [f"about {estimate.elements:,} {'triangles' if is_mesh else 'vertices'}"]
        if self.kind.element_bytes:
            words.append(readable_bytes(estimate.elements * self.kind.element_bytes))
        self.preview.setText(", ".join([*words, duration(estimate.seconds)]))

    def _choose_file(self) -> None:
        kind = self.kind
        start, kinds = f"{self._stem}{kind.suffix}", f"{kind.name} (*{kind.suffix})"
        name, _ = QFileDialog.getSaveFileName(self, self.windowTitle(), start, kinds)
        if name:
            has_suffix = name.lower().endswith(kind.suffix)
            self.path = Path(name if has_suffix else name + kind.suffix)
            self.accept()
