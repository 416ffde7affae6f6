"""Which images are annotated, with which classes, and how far the painting has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari.layers import Image, Labels
from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtGui import QCloseEvent, QColor
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_swipe.annotate import scheme_edits as edits
from napari_swipe.annotate.brush import Brush
from napari_swipe.annotate.class_table import ClassTable
from napari_swipe.annotate.data_folders import DataFolders
from napari_swipe.annotate.layers import Pair, Split, described, likely_axes
from napari_swipe.annotate.pair_picker import PairPicker
from napari_swipe.annotate.pair_table import PairTable
from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.annotate.policy_switch import PolicySwitch
from napari_swipe.qt.theme import ink_of
from napari_swipe.viewer.state import unwrapped
from swipe_core.data.annotations import FEWEST, AnnotationScheme, shortage
from swipe_core.errors import SwipeError

if TYPE_CHECKING:
    from napari import Viewer

    from napari_swipe.layers.axes import AxisRoles
    from swipe_core.data.annotations import Unpainted

__all__ = ["AnnotatePanel", "Pair"]

EMPTY = "Pick an image and press Add. Then paint on it, a few strokes in each class."
KINDS: dict[Literal[2, 3], str] = {2: "2D: every slice or frame by itself", 3: "3D: whole volumes"}


class AnnotatePanel(QWidget):
    """What there is to learn from: images with painted labels, folders, classes.

    Parameters
    ----------
    viewer
        Its images and labels are what can be paired.
    """

    changed = Signal()
    """Other pairs, folders or classes, another use of a pair, or another meaning of unpainted voxels."""
    painted = Signal(object)
    """The `Pair` whose paint changed, once the brush has come to rest."""
    said = Signal(str)
    """What happened without the user asking for it, in a sentence."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = unwrapped(viewer)
        self._parked: AnnotationScheme | None = None
        self._is_connected = True
        self.model = AnnotatedPairs(self._viewer, self)
        self.brush = Brush(self._viewer, self.model, self)
        self.picker, self.pair_table, self.class_table = PairPicker(self._viewer), PairTable(), ClassTable()
        self.policy, self.data_folders = PolicySwitch(), DataFolders()
        self.kind = QComboBox()
        self.kind.addItems(list(KINDS.values()))
        self.kind.setToolTip(
            "Whether the third axis is part of space, or frames that are learned one by one."
        )
        self._what, self._shortage, self._faults = _words(), _words(), _words()
        self._lay_out()
        self._connect()
        self._show()

    # What others read and set

    @property
    def pairs(self) -> list[Pair]:
        """In the order in which they were added."""
        return self.model.pairs

    @property
    def folders(self) -> list[Path]:
        """Data sets on disk."""
        return list(self.data_folders.folders)

    @property
    def scheme(self) -> AnnotationScheme:
        """What the numbers of all painted layers mean."""
        return self.model.scheme

    @property
    def ndim(self) -> Literal[2, 3]:
        """Spatial axes of what is learned from."""
        return self.model.ndim

    @property
    def faults(self) -> list[str]:
        """Sentences on labels that are painted and belong to no class."""
        return self.model.faults

    @property
    def shortage(self) -> list[str]:
        """Sentences on classes that are painted too little to learn from; folders are taken to suffice."""
        if self.folders or self.model.is_counting:
            return []
        return shortage(self.totals, self.scheme)

    def counts(self, pair: Pair) -> dict[str, int] | None:
        """Voxels of a pair by class name, as `AnnotationScheme.counts`; None while they are counted."""
        return self.model.counts(pair.name)

    @property
    def totals(self) -> dict[str, int]:
        """Voxels by class name over the pairs that are learned from, as far as they are counted."""
        return self.model.totals("train")

    def axes(self, pair: Pair) -> AxisRoles:
        """What the axes of a pair's image are, given `ndim`."""
        return likely_axes(pair.image, self.ndim)

    def add_pair(
        self, image: Image, labels: Labels | None = None, split: Split = "train", name: str | None = None
    ) -> Pair:
        """Annotate an image.

        Parameters
        ----------
        labels
            As they exist; None: an empty layer is added, selected and ready to be painted on.
        name
            What the pair is called; the name of the image's layer where not given.

        Raises
        ------
        ImageError
            When a layer is in a pair already, or the two do not go together.
        """
        return self.model.add(image, labels, split, name)

    def remove_pair(self, pair: Pair) -> None:
        """Take a pair off the list; its layers stay in the viewer."""
        self.model.remove(pair.name)

    def set_scheme(self, scheme: AnnotationScheme) -> None:
        """Other classes, or another meaning of unpainted voxels; the numbers in layers stay as they are."""
        self.model.set_scheme(scheme)

    def set_ndim(self, ndim: Literal[2, 3]) -> None:
        """Learn from frames or from volumes.

        Raises
        ------
        ImageError
            When there is an image that is no volume.
        """
        self.model.set_ndim(ndim)

    def set_folders(self, folders: Sequence[Path]) -> None:
        """Other data sets on disk."""
        self.data_folders.set_folders(folders)
        self._on_changed()

    def disconnect_viewer(self) -> None:
        """Let go of the viewer, whose events would else reach a widget that is gone."""
        if self._is_connected:
            self._is_connected = False
            self._viewer.layers.events.renamed.disconnect(self.pair_table.show_names)
            self.picker.disconnect_viewer()
            self.brush.disconnect_viewer()
            self.model.disconnect_viewer()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        self.disconnect_viewer()
        super().closeEvent(event)

    # Building

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.picker, self.pair_table, self._what, self.kind, self.data_folders):
            layout.addWidget(widget)
        for widget in (self.policy, self.class_table, self._faults, self._shortage):
            layout.addWidget(widget)
        layout.addStretch(1)

    def _connect(self) -> None:
        self._viewer.layers.events.renamed.connect(self.pair_table.show_names)
        self.picker.wanted.connect(self._on_add)
        self.kind.activated.connect(lambda index: self._attempt(lambda: self.set_ndim(list(KINDS)[index])))
        self.model.changed.connect(self._on_changed)
        self.model.counted.connect(self._on_counted)
        self.model.painted.connect(self.painted)
        self.model.said.connect(self.said)
        self.brush.changed.connect(self._show_chosen)
        self.data_folders.changed.connect(self._on_changed)
        self.pair_table.chosen.connect(self.brush.choose_pair)
        self.pair_table.split_chosen.connect(self.model.set_split)
        self.pair_table.removal_wanted.connect(self.model.remove)
        self.policy.chosen.connect(self._on_policy)
        self.policy.instances_chosen.connect(self._on_instances)
        classes = self.class_table
        classes.chosen.connect(self.brush.choose_label)
        classes.renamed.connect(lambda label, name: self._edit(edits.renamed, label, name))
        classes.recoloured.connect(lambda label, colour: self._edit(edits.recoloured, label, colour))
        classes.addition_wanted.connect(self._on_more_classes)
        classes.removal_wanted.connect(self._on_fewer_classes)

    # What the user does

    def _attempt(self, act: Callable[[], object]) -> None:
        """Do something; what cannot be done is told, and everything is shown as it is."""
        try:
            act()
        except SwipeError as error:
            show_error(str(error))
            self._show()

    def _edit(self, change: Callable[..., AnnotationScheme], *arguments: object) -> None:
        self._attempt(lambda: self.model.set_scheme(change(self.scheme, *arguments), renumber=True))

    def _on_add(self, image: Image | None, labels: Labels | None) -> None:
        if image is not None:
            self._attempt(lambda: self.add_pair(image, labels))

    def _on_policy(self, unpainted: Unpainted) -> None:
        self._edit(edits.with_unpainted, unpainted)

    def _on_instances(self, wanted: bool) -> None:
        """One class of objects; the classes that it stands for come back when it is unticked."""
        parked = self._parked
        self._parked = self.scheme if wanted else None
        if wanted:
            self._edit(edits.with_instances)
        elif parked is not None:
            self._edit(lambda _: parked)
        else:
            self._edit(edits.with_unpainted, "background")

    def _on_more_classes(self) -> None:
        self._edit(edits.with_class)
        self.brush.choose_label(max(self.scheme.painted))

    def _on_fewer_classes(self) -> None:
        name, count = self.scheme.class_names[-1], self.model.totals().get(self.scheme.class_names[-1], 0)
        if count:
            show_error(f"{name} is painted on {count:,} voxels: erase these first, or rename the class.")
        else:
            self._edit(edits.without_last_class)

    # What is shown

    def _on_changed(self) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        """Everything anew."""
        pairs, scheme = self.pairs, self.scheme
        self.picker.set_taken(pairs)
        self.pair_table.show_pairs(pairs)
        self.policy.show_scheme(scheme)
        self.class_table.show_scheme(scheme)
        self.kind.setVisible(self.model.could_be_volumes)
        self.kind.setCurrentIndex(list(KINDS).index(self.ndim))
        for pair in pairs:
            self._show_painted(pair.name)
        self._show_totals()
        self._show_chosen()

    def _on_counted(self, name: str) -> None:
        self._show_painted(name)
        self._show_totals()

    def _show_painted(self, name: str) -> None:
        scheme = self.scheme
        colours = {scheme.painted[label]: colour for label, colour in scheme.painted_colours.items()}
        self.pair_table.show_painted(name, self.model.counts(name), colours)

    def _show_totals(self) -> None:
        learned, is_judged = self.totals, self.pairs and not self.folders and not self.model.is_counting
        few = [name for name in self.scheme.painted.values() if is_judged and learned.get(name, 0) < FEWEST]
        self.class_table.show_totals(self.model.totals(), few)
        _tell(self._faults, self.faults, ink_of(self).fault)
        shortage = self.shortage if self.pairs else []
        _tell(self._shortage, shortage[:1], ink_of(self).text)
        self._shortage.setToolTip("\n".join(shortage))

    def _show_chosen(self) -> None:
        """The rows of what is painted on, and with."""
        active = self.brush.pair
        self.pair_table.show_chosen(active.name if active else None)
        self.class_table.show_chosen(self.brush.label)
        _tell(self._what, [EMPTY if active is None else self._described(active)], ink_of(self).faint)

    def _described(self, pair: Pair) -> str:
        try:
            return f"{pair.image.name}: {described(self.model.source(pair))}"
        except SwipeError as error:
            return str(error)


def _words() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    return label


def _tell(label: QLabel, sentences: Sequence[str], colour: QColor) -> None:
    """Sentences below one another; hidden without any."""
    label.setText("\n".join(sentences))
    label.setVisible(bool(sentences))
    label.setStyleSheet(f"color: {colour.name()}")
