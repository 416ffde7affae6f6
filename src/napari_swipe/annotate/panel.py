"""Which images are annotated, with which classes and brush, and how far the painting has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_swipe.annotate.class_table import ClassTable, PolicySwitch
from napari_swipe.annotate.layers import paint_with
from napari_swipe.annotate.pair import Pair, described
from napari_swipe.annotate.pair_table import DataFolders, PairPicker, PairTable
from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.qt.layouts import column, ink_of, sentence
from napari_swipe.viewer.state import unwrapped
from swipe_core.data.annotations import FEWEST, AnnotationScheme
from swipe_core.errors import SwipeError

if TYPE_CHECKING:
    from napari import Viewer

    from swipe_core.data.annotations import Unpainted


class Brush(QObject):
    """The pair and the label that napari's brush works on."""

    changed = Signal()
    """Another layer or another label is painted with."""

    def __init__(self, viewer: Viewer, model: AnnotatedPairs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._model = viewer, model
        self._last = ""  # the name of the pair that was active last
        self._followed: list[Labels] = []
        viewer.layers.selection.events.active.connect(self._on_active)
        model.changed.connect(self._on_pairs)

    def disconnect_viewer(self) -> None:
        """Let go of the viewer and of all layers."""
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self._model.changed.disconnect(self._on_pairs)
        self._follow([])

    @property
    def pair(self) -> Pair | None:
        """The pair whose image or labels are active in the viewer, or were when one of them last was."""
        pairs = self._model.pairs
        last = [pair for pair in pairs if pair.name == self._last]
        return self._active() or next(iter(last or pairs[-1:]), None)

    @property
    def label(self) -> int | None:
        """The label that is painted with."""
        return self.pair.labels.selected_label if self.pair else None

    def choose_pair(self, name: str) -> None:
        """Paint on a pair from now on; the layers of the others are hidden, which may lie over it."""
        for pair in self._model.pairs:
            pair.image.visible = pair.labels.visible = pair.name == name
        chosen = next(pair for pair in self._model.pairs if pair.name == name)
        selected = chosen.labels.selected_label
        is_known = selected in self._model.scheme.painted or self._model.scheme.instances
        paint_with(self._viewer, chosen.labels, selected if is_known else 1)

    def choose_label(self, label: int) -> None:
        """Paint with a label; where objects are numbered, with the next number."""
        pair = self.pair
        if pair is None:
            return
        if self._model.scheme.instances and label == max(self._model.scheme.painted):
            largest = int(np.iinfo(pair.labels.data.dtype).max)
            label = min(max(self._model.highest_label(pair.name) + 1, label), largest)
        paint_with(self._viewer, pair.labels, label)

    def _active(self) -> Pair | None:
        active = self._viewer.layers.selection.active
        found = (pair for pair in self._model.pairs if active is pair.image or active is pair.labels)
        return next(found, None)

    def _on_active(self) -> None:
        self._remember()
        self.changed.emit()

    def _on_pairs(self) -> None:
        self._follow([pair.labels for pair in self._model.pairs])
        self._remember()

    def _remember(self) -> None:
        active = self._active()
        self._last = active.name if active else self._last

    def _follow(self, layers: list[Labels]) -> None:
        for layer in self._followed:
            layer.events.selected_label.disconnect(self._on_active)
        for layer in layers:
            layer.events.selected_label.connect(self._on_active)
        self._followed = layers


EMPTY = "Pick an image and press Add. Then paint on it, a few strokes in each class."
KINDS: dict[Literal[2, 3], str] = {2: "2D: every slice or frame by itself", 3: "3D: whole volumes"}


class AnnotatePanel(QWidget):
    """Shows what there is to learn from, and takes what the user changes of it.

    `viewer`: its images and labels are what can be paired.
    `model`: the pairs, folders and classes that are shown.
    """

    def __init__(self, viewer: Viewer, model: AnnotatedPairs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = unwrapped(viewer)
        self._parked: AnnotationScheme | None = None
        self.model = model
        self.brush = Brush(self._viewer, model, self)
        self.picker, self.pair_table, self.class_table = PairPicker(self._viewer), PairTable(), ClassTable()
        self.policy, self.data_folders = PolicySwitch(), DataFolders()
        self.kind = QComboBox()
        self.kind.addItems(list(KINDS.values()))
        self.kind.setToolTip(
            "Whether the third axis is part of space, or frames that are learned one by one."
        )
        self._what, self._shortage, self._faults = (sentence() for _ in range(3))
        annotation = (self.picker, self.pair_table, self._what, self.kind, self.data_folders)
        meaning = (self.policy, self.class_table, self._faults, self._shortage)
        column(self, *annotation, *meaning).addStretch(1)
        self._connect()
        self._show()

    def _connect(self) -> None:
        model, classes = self.model, self.class_table
        self._viewer.layers.events.renamed.connect(self.pair_table.show_names)
        self.picker.chosen.connect(self._on_add)
        self.kind.activated.connect(lambda index: self._attempt(lambda: model.set_ndim(list(KINDS)[index])))
        model.changed.connect(self._show)
        model.painted.connect(self._on_painted)
        self.brush.changed.connect(self._show_chosen)
        self.data_folders.addition_requested.connect(
            lambda folder: self._attempt(lambda: model.add_folder(folder))
        )
        self.data_folders.removal_requested.connect(
            lambda folder: model.set_folders([other for other in model.folders if other != folder])
        )
        self.pair_table.chosen.connect(self.brush.choose_pair)
        self.pair_table.split_chosen.connect(model.set_split)
        self.pair_table.removal_requested.connect(model.remove)
        self.policy.chosen.connect(self._on_policy)
        self.policy.instances_chosen.connect(self._on_instances)
        classes.chosen.connect(self.brush.choose_label)
        classes.renamed.connect(lambda label, name: self._attempt(lambda: self._rename(label, name)))
        classes.recoloured.connect(self._recolour)
        classes.addition_requested.connect(self._add_class)
        classes.removal_requested.connect(self._remove_class)

    def disconnect_viewer(self) -> None:
        """Let go of the viewer, whose events would else reach a widget that is gone."""
        self._viewer.layers.events.renamed.disconnect(self.pair_table.show_names)
        self.picker.disconnect_viewer()
        self.brush.disconnect_viewer()
        self.model.changed.disconnect(self._show)
        self.model.painted.disconnect(self._on_painted)

    # What the user does

    def _attempt(self, act: Callable[[], object]) -> None:
        """Do something; what cannot be done is reported, and everything is shown as it is."""
        try:
            act()
        except SwipeError as error:
            show_error(str(error))
            self._show()

    def _use(self, scheme: AnnotationScheme) -> None:
        self.model.set_scheme(scheme, renumber=True)

    def _on_add(self, image: Image | None, labels: Labels | None) -> None:
        if image is not None:
            self._attempt(lambda: self.model.add(image, labels))

    def _on_policy(self, unpainted: Unpainted) -> None:
        self._use(replace(self.model.scheme, unpainted=unpainted))

    def _on_instances(self, is_chosen: bool) -> None:
        """Take one class of objects; the classes that it stands for come back when it is unticked."""
        scheme, parked = self.model.scheme, self._parked
        self._parked = scheme if is_chosen else None
        if is_chosen:
            names, colours = scheme.class_names[:1], scheme.class_colours[:1]
            self._use(replace(scheme, class_names=names, class_colours=colours, instances=True))
        else:
            self._use(replace(parked or scheme, unpainted=scheme.unpainted, instances=False))

    def _rename(self, label: int, name: str) -> None:
        scheme = self.model.scheme
        names = [name if known == label else old for known, old in scheme.painted.items()]
        self._use(replace(scheme, class_names=tuple(names[-len(scheme.class_names) :])))

    def _recolour(self, label: int, colour: str) -> None:
        scheme = self.model.scheme
        colours = [colour if known == label else old for known, old in scheme.painted_colours.items()]
        self._use(replace(scheme, class_colours=tuple(colours[-len(scheme.class_names) :])))

    def _add_class(self) -> None:
        label = max(self.model.scheme.painted) + 1
        self._attempt(lambda: self._use(self.model.scheme.reaching(label)))
        self.brush.choose_label(max(self.model.scheme.painted))

    def _remove_class(self) -> None:
        scheme = self.model.scheme
        name = scheme.class_names[-1]
        count = self.model.totals().get(name, 0)
        if count:
            show_error(f"{name} is painted on {count:,} voxels: erase these first, or rename the class.")
        else:
            names, colours = scheme.class_names[:-1], scheme.class_colours[:-1]
            self._attempt(lambda: self._use(replace(scheme, class_names=names, class_colours=colours)))

    # What is shown

    def _show(self) -> None:
        """Show everything anew."""
        model = self.model
        self.picker.set_taken(model.pairs)
        self.pair_table.show_pairs(model.pairs)
        self.data_folders.show_folders(model.folders)
        self.policy.show_scheme(model.scheme)
        self.class_table.show_scheme(model.scheme)
        self.kind.setVisible(model.could_be_volumes)
        self.kind.setCurrentIndex(list(KINDS).index(model.ndim))
        for pair in model.pairs:
            self._show_painted(pair)
        self._show_totals()
        self._show_chosen()

    def _on_painted(self, pair: Pair) -> None:
        self._show_painted(pair)
        self._show_totals()

    def _show_painted(self, pair: Pair) -> None:
        scheme = self.model.scheme
        colours = {scheme.painted[label]: colour for label, colour in scheme.painted_colours.items()}
        self.pair_table.show_painted(pair.name, self.model.counts(pair.name), colours)

    def _show_totals(self) -> None:
        model, few = self.model, list[str]()
        if model.pairs and not model.folders and not model.is_counting:
            learned = model.totals("train")
            few = [name for name in model.scheme.painted.values() if learned.get(name, 0) < FEWEST]
        self.class_table.show_totals(model.totals(), few)
        _show_sentences(self._faults, model.faults, ink_of(self).fault)
        shortage = model.shortage if model.pairs else []
        _show_sentences(self._shortage, shortage[:1], ink_of(self).text)
        self._shortage.setToolTip("\n".join(shortage))

    def _show_chosen(self) -> None:
        """Mark the rows of what is painted on, and with."""
        active = self.brush.pair
        self.pair_table.show_chosen(active.name if active else None)
        self.class_table.show_chosen(self.brush.label)
        what = EMPTY if active is None else self._described(active)
        _show_sentences(self._what, [what], ink_of(self).faint)

    def _described(self, pair: Pair) -> str:
        try:
            return f"{pair.image.name}: {described(self.model.source(pair))}"
        except SwipeError as error:
            return str(error)


def _show_sentences(label: QLabel, sentences: Sequence[str], colour: QColor) -> None:
    """Show sentences below one another; nothing is there without any."""
    label.setText("\n".join(sentences))
    label.setVisible(bool(sentences))
    label.setStyleSheet(f"color: {colour.name()}")
