"""Plugins > SwIPE Segment > Evaluate: how far labels, or a segmentation, agree with reference labels."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_swipe.annotate.layers import label_names
from napari_swipe.evaluate.job import ScoringJob, iter_reliability, iter_score, label_source
from napari_swipe.evaluate.reliability_plot import ReliabilityPlot
from napari_swipe.evaluate.score_table import ScoreTable
from napari_swipe.layers.axes import FRAME_NAMES
from napari_swipe.layers.choice import LayerChoice
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.layers.source import LayerSource
from napari_swipe.layers.watch import LayerWatch
from napari_swipe.qt.layouts import sentence, short_unit
from napari_swipe.qt.task import TaskBar
from napari_swipe.viewer.dock import Dock
from swipe_core.errors import DataError, SwipeError

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_swipe.live.segmented import SegmentedLayer
    from swipe_core.evaluation.agreement import Agreement
    from swipe_core.measure.calibration import Reliability

    Compared = tuple[Layer, LayerSource | SegmentedLayer]

GREATEST_LABEL = 2**31 - 1
GREATEST_TOLERANCE = 1e9
DECIMALS = 12
NOT_YET = (
    "To compare, there must be a reference, and labels or a segmented image: open, paint or segment them."
)


class EvaluateWidget(Dock):
    """Two layers, and the scores of one against the other.

    `napari_viewer`: napari fills it in by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.prediction = LayerChoice("What is to be judged: labels, or the segmentation of an image.")
        self.reference = LayerChoice("The labels that are right.")
        self._build_options()
        self.evaluate_button = QPushButton("Evaluate")
        self.evaluate_button.setToolTip("Compare the two on the grid of the reference.")
        self.task_bar = TaskBar()
        self.table: ScoreTable | None = None
        self.plot: ReliabilityPlot | None = None
        self._shown: tuple[object, ...] = ()
        self._unit: Any = None
        self._compared: list[Compared] = []
        self._watch = LayerWatch(self)
        self._lay_out()
        self._connect()
        self._refresh()

    # Building

    def _build_options(self) -> None:
        self.space = QComboBox()
        self.space.addItem("one volume", 3)
        self.space.addItem("2D images, one by one", 2)
        self.space.setToolTip(
            "Whether the last three axes are space, or the last two, and the others frames."
        )
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setRange(0.0, GREATEST_TOLERANCE)
        self.tolerance.setSpecialValueText("one voxel")
        self.tolerance.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.tolerance.setToolTip(
            "How far apart outlines may lie and still count as the same in the surface Dice. At 0: one voxel "
            "of the reference, along its finest axis."
        )
        self.ignored = QSpinBox()
        self.ignored.setRange(-1, GREATEST_LABEL)
        self.ignored.setValue(-1)
        self.ignored.setSpecialValueText("none")
        self.ignored.setToolTip("Voxels that have this label in the reference are left out.")
        self.as_objects = QCheckBox("Labels number single objects")
        self.as_objects.setToolTip(
            "Labels are no classes but numbers of objects: compare all of them as one class."
        )

    def _lay_out(self) -> None:
        layers, self._result = QWidget(), QWidget()
        self._form = QFormLayout(layers)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.addRow("Prediction", self.prediction)
        self._form.addRow("Reference", self.reference)
        self._form.addRow("Compare", self.space)
        self._form.addRow("Tolerance", self.tolerance)
        self._form.addRow("Ignored label", self.ignored)
        self._form.addRow("", self.as_objects)
        self._results = QVBoxLayout(self._result)
        for part in (self._form, self._results):
            part.setContentsMargins(0, 0, 0, 0)
        self._hint = sentence(NOT_YET)
        self.lay_out([layers, self._hint, self.evaluate_button, self.task_bar, self._result])

    def _connect(self) -> None:
        self.evaluate_button.clicked.connect(self.evaluate)
        self.prediction.changed.connect(self._refresh)
        self.reference.changed.connect(self._refresh)
        self.task_bar.became_busy.connect(self._show_what_is_possible)
        self._state.changed.connect(self._refresh)
        self._watch.changed.connect(self._refresh)
        self._watch.redrawn.connect(self._check_scores)
        for event in self._events():
            event.connect(self._refresh)

    def _events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.reordered, events.renamed]

    def let_go(self) -> None:
        """End the work, and let go of the viewer, whose events would else reach a widget that is gone."""
        self.task_bar.abandon()
        self._watch.stop()
        self._state.changed.disconnect(self._refresh)
        for event in self._events():
            event.disconnect(self._refresh)

    # What can be picked

    def _refresh(self, event: object = None) -> None:
        """Take the layers as they are now, and stay with those that were chosen."""
        labels = {layer: layer.name for layer in self._viewer.layers if _is_ordinary(layer)}
        segmented = [layer for layer in self._viewer.layers if self._segmented(layer) is not None]
        # Labels that were not made of a segmentation are the truth, and a segmentation what one judges.
        order = sorted(labels, key=lambda layer: metadata_of(layer).of_image is not None)
        self.reference.offer(labels, [layer for layer in order if layer is not self.prediction.chosen])
        others = [layer for layer in reversed(order) if layer is not self.reference.layer]
        names = {layer: self._name_of_segmentation(layer) for layer in segmented}
        self.prediction.offer(names | labels, [*reversed(segmented), *others])
        self._show_options()
        self._show_what_is_possible()
        picked = [layer for layer in (self.prediction.layer, self.reference.layer) if layer is not None]
        self._watch.follow({*picked, *(layer for layer, _ in self._compared)})
        self._check_scores()

    def _segmented(self, layer: Layer | None) -> SegmentedLayer | None:
        return self._state.segmented(layer) if isinstance(layer, Image) else None

    def _name_of_segmentation(self, layer: Image) -> str:
        live = self._state.live(layer)
        if live is None or live.layer not in self._viewer.layers:
            return f"{layer.name} · segmentation"
        return str(live.layer.name)

    def _show_options(self) -> None:
        """What the picked layers leave open, in the units of the reference."""
        reference = self.reference.layer
        is_flat = reference is None or reference.ndim < 3
        is_open = not is_flat and self._segmented(self.prediction.layer) is None
        self._form.setRowVisible(self.space, is_open)
        if reference is None:
            return
        shown = (reference, reference.ndim, reference.axis_labels)
        if shown != self._shown:
            self._shown = shown
            is_stack = any(label.lower() in FRAME_NAMES for label in reference.axis_labels[-3:])
            self.space.setCurrentIndex(self.space.findData(2 if is_stack else 3))
        self._show_tolerance(reference)

    def _show_tolerance(self, reference: Labels) -> None:
        """The same length in the unit of the reference; one voxel where that unit is of another kind."""
        before, self._unit = self._unit, reference.units[-1]
        value = self.tolerance.value()
        if value and before != self._unit:
            fits = self._unit.is_compatible_with(before)
            value = float((value * before).to(self._unit).magnitude) if fits else 0.0
        self.tolerance.setSuffix(f" {short_unit(str(self._unit))}")
        finest = max(float(np.abs(reference.scale).min()), 10.0**-DECIMALS)
        self.tolerance.setDecimals(min(DECIMALS, max(2, 2 - math.floor(math.log10(finest)))))
        self.tolerance.setValue(value)

    def _show_what_is_possible(self) -> None:
        is_possible = None not in (self.prediction.layer, self.reference.layer)
        self._hint.setVisible(not is_possible)
        self.evaluate_button.setEnabled(is_possible and not self.task_bar.is_busy)

    # Evaluating

    def evaluate(self) -> None:
        """Compare what is picked, in a thread, and show the scores."""
        if self.task_bar.is_busy:
            return
        try:
            job = self._job()
        except SwipeError as error:
            show_error(str(error))
            return
        compared = [(self.prediction.layer, job.prediction), (self.reference.layer, job.reference)]
        self.task_bar.run(
            _iter_judged(job), "Evaluating", lambda found: self._show(found[0], found[1], compared)
        )

    def _job(self) -> ScoringJob:
        """Return what there is to compare; nothing, or other axes, are a `SwipeError`."""
        prediction, reference = self.prediction.layer, self.reference.layer
        if prediction is None or reference is None:
            raise DataError(NOT_YET)
        if prediction is reference:
            raise DataError("Pick two layers: one that is judged, and one that is right.")
        if isinstance(prediction, Image):
            self._state.check(prediction)
        segmented = self._segmented(prediction)
        judged: LayerSource | SegmentedLayer
        if segmented is None:
            ndim, names = min(reference.ndim, self.space.currentData()), label_names(prediction)
            judged, truth = label_source(prediction, ndim).sealed(), label_source(reference, ndim)
        else:
            judged, field = segmented, segmented.field
            truth = label_source(reference, field.image_grid.ndim, field.axes)
            names = dict(enumerate(field.class_names, start=1))
        return ScoringJob(
            judged,
            truth.sealed(),
            names=(self.prediction.currentText(), self.reference.currentText()),
            tolerance=self.tolerance.value() or None,
            ignore_label=None if self.ignored.value() < 0 else self.ignored.value(),
            as_objects=self.as_objects.isChecked(),
            class_names=names | label_names(reference),
        )

    def _show(self, agreement: Agreement, reliability: Reliability | None, compared: list[Compared]) -> None:
        self._put_away()
        self.table, self._compared = ScoreTable(agreement), compared
        self._results.addWidget(self.table)
        if reliability is not None:
            self.plot = ReliabilityPlot(reliability)
            self._results.addWidget(self.plot)
        self._refresh()

    def _put_away(self) -> None:
        for widget in (self.table, self.plot):
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self.table, self.plot, self._compared = None, None, []

    def _check_scores(self, layer: object = None) -> None:
        """Put scores away that are not those of the layers any more."""
        change = next((words for words in map(self._change, self._compared) if words), None)
        if change is not None:
            self._put_away()
            self.task_bar.say(f"{change} since it was compared: press Evaluate again.")

    def _change(self, compared: Compared) -> str | None:
        """What has become of a layer since it was compared."""
        layer, what = compared
        if layer not in self._viewer.layers:
            return f"{layer.name} was removed"
        if isinstance(what, LayerSource):
            difference = what.difference(layer)
            return None if difference is None else f"{layer.name} has {difference}"
        return None if self._segmented(layer) is what else f"{layer.name} has another segmentation or none"


def _iter_judged(job: ScoringJob) -> Generator[Any, None, tuple[Agreement, Reliability | None]]:
    """The scores and, of a segmentation, how far its probabilities can be trusted."""
    agreement = yield from iter_score(job)
    return agreement, (yield from iter_reliability(job))


def _is_ordinary(layer: Layer) -> bool:
    """Labels that are there, and not decoded at the zoom of the screen."""
    return isinstance(layer, Labels) and metadata_of(layer).base_level is None
