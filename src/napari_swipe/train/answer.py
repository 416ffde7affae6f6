"""Paint and see: every stroke is answered in a live layer, by a decoder that learns in a moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QWidget

from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.layers.data import class_appearance
from napari_swipe.layers.field import LayerField, OutputAxes
from napari_swipe.live.layer import LiveLayer
from napari_swipe.live.levels import LevelPlan, plan_levels
from napari_swipe.project.snapshot import PairSnapshot
from napari_swipe.qt.layouts import column, sentence
from napari_swipe.qt.task import Task
from swipe_core.errors import SwipeError
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image

    from napari_swipe.layers.source import LayerSource
    from swipe_core.checkpoints.file import Checkpoint
    from swipe_core.training.strokes import StrokeLearner

SOON = 50  # milliseconds, within which several changes are one
COARSE_VOXELS = 2**18  # of the picture that is there at once; what is in view follows
MOST_VOXELS = 2**25  # of all images together, whose features are kept in memory
OPACITY = 0.4
TOO_LARGE = "The images are too large to answer every stroke: press Train, or annotate a part of them."
WHOLE = "Strokes are answered where unpainted means not annotated."
TEACHES = "A new network that you train learns from this answer, too."
HINT = "Paint a stroke of each class, the background being one: the answer follows every stroke."


@dataclass(frozen=True, eq=False)
class Answer:
    """What strokes on several images have taught, on one of them."""

    learner: StrokeLearner
    field: LayerField
    plan: LevelPlan
    coarse: np.ndarray
    """Classes on `plan.base`: the first picture."""


def iter_answer(
    learner: StrokeLearner | None,
    pairs: Sequence[PairSnapshot],
    is_outdated: Callable[[], bool],
) -> Generator[Progress | Notice, None, StrokeLearner | Answer]:
    """Encode what is not yet, learn from all strokes, and look at the first pair; yields progress.

    Returns the learner alone where there is nothing to learn yet, or where it `is_outdated` meanwhile. Raises
    `SwipeError` when images are of several kinds or too large, or something is painted that has no class.
    """
    from swipe_core.compute.devices import one_core_left
    from swipe_core.training.strokes import StrokeLearner, stroke_content

    yield Progress("Encoding", 0, 1)
    labels = pairs[0].scheme.label_config()
    if learner is None or not _is_for(learner, pairs[0].source):
        example = pairs[0].labelled(pairs[0].source.frames[0])
        learner = StrokeLearner(stroke_content([example], labels, "strokes"))
    if learner.content.labels != labels:
        learner.set_labels(labels)
    with one_core_left():
        yield from _iter_take_in(learner, pairs)
        if len(learner.painted) < 2:
            return learner
        for report in learner.iter_learn():
            yield report
            if is_outdated():
                return learner
        source = pairs[0].source
        field = LayerField({f: learner.quick_field(_key(pairs[0], f)) for f in source.frames}, source)
        plan = plan_levels(field.image_grid, max(2**14, COARSE_VOXELS // len(source.frames)))
        maps = yield from field.iter_render(plan.base)
    return Answer(learner, field, plan, field.stacked([labels.array for labels in maps]))


def _is_for(learner: StrokeLearner, source: LayerSource) -> bool:
    """Whether a learner knows images of this kind: there may be another project by now."""
    known = learner.content.model
    return (known.ndim, known.channels) == (len(source.axes.space), source.channel_kinds.count)


def _iter_take_in(learner: StrokeLearner, pairs: Sequence[PairSnapshot]) -> Generator[Progress, None, None]:
    """Encode every frame once, and give the learner what is painted on each now."""
    from swipe_core.data.labelled import parted

    learner.keep_only([_key(pair, frame) for pair in pairs for frame in pair.source.frames])
    for pair in pairs:
        axes = OutputAxes.of(pair.source)
        for frame in pair.source.frames:
            if not learner.knows(_key(pair, frame)):
                yield from learner.iter_encode(_key(pair, frame), pair.source.image(frame))
            painted = np.ascontiguousarray(pair.painted[axes.part(frame)])
            classes = pair.scheme.to_classes(painted)
            if pair.scheme.instances:
                classes = parted(classes, np.where(classes == 1, painted, 0))
            learner.paint(_key(pair, frame), classes)


def _key(pair: PairSnapshot, frame: Any) -> tuple[Any, ...]:
    """The same as long as the image is: its array, and where and how it lies."""
    source = pair.source
    return pair.name, frame, id(source.array), source.axes, source.matrix.tobytes(), source.units


class AnswerPanel(QWidget):
    """The switch, and what is going on."""

    on_by_default = True

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.live = QCheckBox("Answer while I paint")
        self.live.setChecked(self.on_by_default)
        self.live.setToolTip(
            "Every image is encoded once, in the background; from the second class on, every stroke is "
            "answered within moments, in a layer of its own. Keep model keeps it, until a round was "
            "trained, which learns more."
        )
        self._words = sentence(HINT)
        column(self, self.live, self._words)

    @property
    def words(self) -> str:
        """What is said of the answer."""
        return self._words.text()

    def say(self, words: str) -> None:
        self._words.setText(words)


class StrokeAnswers(QObject):
    """Follows what is painted, learns from it in a thread, and shows what was learned.

    `snapshots`: gives all pairs as they are now.
    `is_held`: whether something else needs the machine.
    """

    changed = Signal()
    """There is another answer."""

    def __init__(
        self,
        viewer: Viewer,
        annotated: AnnotatedPairs,
        snapshots: Callable[[], Sequence[PairSnapshot]],
        is_held: Callable[[], bool],
        panel: AnswerPanel,
    ) -> None:
        super().__init__(panel)
        self._viewer, self._annotated, self._panel = viewer, annotated, panel
        self._snapshots, self._is_held = snapshots, is_held
        self._learner: StrokeLearner | None = None
        self._task: Task | None = None
        self._is_outdated = False
        self._front = ""  # the pair that was painted on last
        self._of: Image | None = None  # the image that was asked about
        self._layers: dict[Image, LiveLayer] = {}
        self.checkpoint: Checkpoint | None = None
        """The model of the last answer; None before there is one."""
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(SOON)
        self._soon.timeout.connect(self._begin)
        annotated.changed.connect(self.follow)
        annotated.painted.connect(self._on_painted)
        panel.live.toggled.connect(lambda _: self.follow())

    @property
    def is_busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._task is not None or self._soon.isActive()

    def layer_of(self, image: Image) -> LiveLayer | None:
        """Return the live layer over an image."""
        return self._layers.get(image)

    def field_of(self, image: Image) -> LayerField | None:
        """Return the answer on an image, smoothed as the kept model smooths it; None where there is none."""
        live, learner = self._layers.get(image), self._learner
        if live is None or learner is None:
            return None
        return live.pyramid.field.with_config(learner.content.inference)

    def follow(self) -> None:
        """Bring the answer up to date soon: something has changed."""
        self._is_outdated = True
        if self._task is None:
            self._soon.start()

    def _on_painted(self, pair: Any) -> None:
        self._front = pair.name
        self.follow()

    def _begin(self) -> None:
        self._is_outdated = False
        if not self._panel.live.isChecked() or self._is_held():
            return
        pairs = [pair for pair in self._annotated.pairs if pair.split == "train"]
        if not pairs:
            self._learner = None
            self._panel.say(HINT)
            return
        if self._annotated.scheme.unpainted != "ignored":
            self._panel.say(WHOLE)
            return
        if sum(math.prod(pair.labels.data.shape) for pair in pairs) > MOST_VOXELS:
            self._panel.say(TOO_LARGE)
            return
        try:
            taken = [snapshot for snapshot in self._snapshots() if snapshot.split == "train"]
        except SwipeError as error:
            self._panel.say(str(error))
            return
        if not taken:
            return
        taken.sort(key=lambda snapshot: snapshot.name != self._front)
        self._of = next(pair.image for pair in pairs if pair.name == taken[0].name)
        self._task = Task(iter_answer(self._learner, taken, lambda: self._is_outdated))
        self._task.reported.connect(self._on_report)
        self._task.finished.connect(self._on_finished)
        self._task.failed.connect(self._on_failed)
        self._task.start()

    def _on_report(self, report: Any) -> None:
        if isinstance(report, Progress) and report.stage == "Encoding":
            self._panel.say(f"Encoding the image, {100 * report.done // max(1, report.total)} % …")

    def _on_finished(self, result: StrokeLearner | Answer) -> None:
        self._task = None
        if isinstance(result, Answer):
            self._learner = result.learner
            self.checkpoint = result.learner.checkpoint()
            self._show(result)
            painted = ", ".join(f"{name} ({count})" for name, count in result.learner.painted.items())
            words = f"Learned from voxels of {painted}. Correct what is wrong by another stroke."
            teaches = result.learner.content.model.ndim == 2
            self._panel.say(f"{words} {TEACHES}" if teaches else words)
            self.changed.emit()
        else:
            self._learner = result
            if not self._is_outdated:
                self._panel.say(HINT)
        self._go_on()

    def _on_failed(self, reason: str) -> None:
        self._task = None
        self._panel.say(reason)
        self._go_on()

    def _go_on(self) -> None:
        if self._is_outdated:
            self._soon.start()

    def _show(self, answer: Answer) -> None:
        """Bring the live layer of the image up to date, or make it."""
        image = self._of
        if image is None or image not in self._viewer.layers:
            return
        scheme, old = self._annotated.scheme, self._layers.get(image)
        looks = class_appearance(scheme.class_names, scheme.class_colours)
        looks |= {"name": f"{image.name} · answer", "opacity": OPACITY}
        live = LiveLayer.shown(self._viewer, old, answer.field, answer.plan, answer.coarse, **looks)
        if live is old:
            if str(live.layer.colormap.color_dict) != str(looks["colormap"].color_dict):
                live.layer.colormap = looks["colormap"]
            return
        self._layers[image] = live
        live.removed.connect(lambda: self._forget(image, live))

    def _forget(self, image: Image, live: LiveLayer) -> None:
        if self._layers.get(image) is live:
            del self._layers[image]

    def close(self) -> None:
        """Learn no more; what is shown stays."""
        self._soon.stop()
        self._annotated.changed.disconnect(self.follow)
        self._annotated.painted.disconnect(self._on_painted)
        if self._task is not None:
            self._task.abandon()
            self._task = None
