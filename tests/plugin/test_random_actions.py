"""Random sequences of what users do, over all docks: whatever comes, nothing painted is lost without a word.

A failure prints its seed and its actions. ``RANDOM_ACTIONS=100-400`` in the environment runs other seeds.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_swipe._settings import Preferences
from napari_swipe.annotate import counts as _label_counts
from napari_swipe.annotate.layers import painted_of
from napari_swipe.annotate.pair import check_pair
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.qt.task import _running
from napari_swipe.train import widget as _train_widget
from napari_swipe.viewer.state import state_of
from swipe_core.errors import SwipeError
from swipe_core.project import Project
from swipe_core.training import suggestion

PATIENCE = 60_000  # milliseconds; only a hang comes near it
LENGTH = 12  # actions of a sequence
SHOWN = 6  # of so many windows one is shown: drawing is most of the work
FIRST, _, LAST = os.environ.get("RANDOM_ACTIONS", "0-11").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)
OURS = ("napari_swipe", "swipe_core")
DOCKS = ("Segment", "Train", "Evaluate")


class Faults(logging.Handler):
    """What surfaces or is logged as a fault of ours while it is listened to."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"logged: {record.getMessage()} {record.exc_info and record.exc_info[1]!r}")

    def raised(self, kind: type[BaseException], error: BaseException, trace: object) -> None:
        """An exception that nobody caught; napari's own are its own."""
        frames = traceback.extract_tb(trace)  # type: ignore[arg-type]
        if any(part in frame.filename.replace("\\", "/") for frame in frames for part in OURS):
            place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1][:4])
            self.found.append(f"{kind.__name__}: {error} at {place}")

    def hear(self, notification: object) -> None:
        message = str(getattr(notification, "message", ""))
        self.told.append(message)
        if "should not have happened" in message:
            self.found.append(message)


@pytest.fixture
def faults(monkeypatch) -> Iterator[Faults]:
    faults = Faults()
    loggers = [logging.getLogger(name) for name in OURS]
    for logger in loggers:
        logger.addHandler(faults)
    monkeypatch.setattr(sys, "excepthook", faults.raised)
    notification_manager.notification_ready.connect(faults.hear)
    yield faults
    notification_manager.notification_ready.disconnect(faults.hear)
    for logger in loggers:
        logger.removeHandler(faults)


@pytest.fixture
def quick(monkeypatch, tmp_path) -> None:
    """Rests that are short, and rounds of two steps."""
    monkeypatch.setattr(_label_counts, "REST", 5)
    monkeypatch.setattr(_train_widget, "SUGGEST_AFTER", 10)
    monkeypatch.setattr(suggestion, "MOST_STEPS", 2)
    preferences = Preferences(project_folder=tmp_path / "projects", device="cpu")
    monkeypatch.setattr(_train_widget, "read_preferences", lambda: preferences)


class User:
    """Somebody who does one thing after another, each drawn at random."""

    def __init__(self, viewer, qtbot, faults: Faults, model: Path, folder: Path, seed: int) -> None:
        self.viewer, self.qtbot, self.faults, self.model, self.folder = viewer, qtbot, faults, model, folder
        self.rng, self.seed = np.random.default_rng(seed), seed
        self.docks: dict[str, object] = {}
        self.projects: list[Path] = []
        self.actions: list[str] = []
        self.rounds = 0

    # What there is

    def one(self, items) -> object:
        items = list(items)
        return items[int(self.rng.integers(len(items)))] if items else None

    @property
    def images(self) -> list[Image]:
        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    @property
    def labels(self) -> list[Labels]:
        layers = [layer for layer in self.viewer.layers if isinstance(layer, Labels)]
        return [layer for layer in layers if not layer.multiscale]

    @property
    def train(self):
        return self.docks.get("Train")

    @property
    def segment(self):
        return self.docks.get("Segment")

    @property
    def pairs(self) -> list:
        return [] if self.train is None else self.train.annotated.pairs

    # What can be done; each says in words what it did, or None where it did nothing

    def add_image(self) -> str:
        shape = self.one([(24, 24), (24, 24), (20, 28), (3, 24, 24)])
        dtype = self.one([np.uint8, np.uint8, np.float32, np.uint16])
        data = self.rng.integers(0, 200, shape).astype(dtype)
        if dtype is np.float32 and self.rng.random() < 0.3:
            data[..., 3, 3] = np.nan
        scale = self.one([None, (0.5,) * len(shape)])
        layer = self.viewer.add_image(data, name=self.one(["cells", "a/b", "é", "cells"]), scale=scale)
        return f"image {layer.name} {shape} {np.dtype(dtype)}"

    def add_labels(self) -> str | None:
        image = self.one(self.images)
        if image is None:
            return None
        data = np.zeros(image.data.shape, np.uint8)
        data[..., 4:12, 4:12] = 1 + self.rng.integers(3)
        features = {"index": [1, 2], "area": [3.0, 4.0], "class": ["x", None]}
        self.viewer.add_labels(data, name="mine", features=features)
        return f"labels of {data.shape}"

    def remove_layer(self) -> str | None:
        layer = self.one(self.viewer.layers)
        if layer is not None:
            self.viewer.layers.remove(layer)
        return layer and f"delete {layer.name}"

    def rename_layer(self) -> str | None:
        layer = self.one(self.viewer.layers)
        if layer is not None:
            layer.name = self.one(["other", "x.tif", "cells"])
        return layer and f"rename to {layer.name}"

    def reorder(self) -> str | None:
        count = len(self.viewer.layers)
        if count < 2:
            return None
        old, new = (int(self.rng.integers(count)) for _ in range(2))
        self.viewer.layers.move(old, new)
        return f"move {old} to {new}"

    def replace_data(self) -> str | None:
        layer = self.one([*self.images, *self.labels])
        if layer is None:
            return None
        how = self.one(["crop", "same", "stack"])
        data = np.asarray(layer.data)
        new = {"crop": data[..., : data.shape[-1] // 2], "same": data[::-1], "stack": np.stack([data] * 2)}[
            how
        ]
        layer.data = new.copy()
        return f"{how} {layer.name}"

    def paint(self) -> str | None:
        pair = self.one(self.pairs)
        if pair is None:
            return None
        label = int(self.one([0, 1, 1, 2, 2, 3, 9]))
        shape = pair.labels.data.shape
        row, column = (int(self.rng.integers(max(1, n - 6))) for n in shape[-2:])
        mask = np.zeros(shape, bool)
        mask[
            (*(int(self.rng.integers(n)) for n in shape[:-2]), slice(row, row + 6), slice(column, column + 6))
        ] = 1
        pair.labels.data_setitem(np.nonzero(mask), label)
        return f"paint {label} on {pair.name}"

    def undo(self) -> str | None:
        pair = self.one(self.pairs)
        if pair is not None:
            pair.labels.undo() if self.rng.random() < 0.6 else pair.labels.redo()
        return pair and f"undo or redo on {pair.name}"

    def switch_policy(self) -> str | None:
        which = self.one(["ignored", "background"])
        if self.train is not None:
            self.train.annotate.policy.buttons[which].click()
        return self.train and f"unpainted is {which}"

    def switch_objects(self) -> str | None:
        if self.train is not None and not self.train.annotate.policy.instances.isHidden():
            self.train.annotate.policy.instances.click()
            return "objects"
        return None

    def change_classes(self) -> str | None:
        if self.train is None:
            return None
        table, name = self.train.annotate.class_table, self.one(["add_button", "remove_button"])
        getattr(table, name).click()
        return f"class {name}"

    def rename_class(self) -> str | None:
        if self.train is None:
            return None
        label, name = max(self.train.annotated.scheme.painted), self.one(["tumour", "class 2", "cell"])
        self.train.annotate.class_table.renamed.emit(label, name)
        return f"class {label} is {name}"

    def add_pair(self) -> str | None:
        image, labels = self.one(self.images), self.one([*self.labels, None, None, None])
        if self.train is None or image is None:
            return None
        self.train.annotate.picker.chosen.emit(image, labels)
        return f"add {image.name} with {labels and labels.name}"

    def remove_pair(self) -> str | None:
        pair = self.one(self.pairs)
        if pair is not None:
            self.train.annotate.pair_table.removal_requested.emit(pair.name)
        return pair and f"remove {pair.name}"

    def use_pair(self) -> str | None:
        pair, split = self.one(self.pairs), self.one(["train", "val"])
        if pair is not None:
            self.train.annotate.pair_table.split_chosen.emit(pair.name, split)
        return pair and f"{pair.name} is for {split}"

    def switch_kind(self) -> str | None:
        if self.train is None:
            return None
        index = int(self.rng.integers(2))
        self.train.annotate.kind.activated.emit(index)
        return f"{2 + index}D"

    def segment_image(self) -> str | None:
        if self.segment is None or not self.images:
            return None
        self.segment.images.pick(self.one(self.images))
        self.segment.segment_button.click()
        if self.rng.random() < 0.7:
            self.idle()
        return "segment"

    def render(self) -> str | None:
        if self.segment is None:
            return None
        self.segment.outputs.render_labels()
        return "render"

    def toggle_live(self) -> str | None:
        if self.segment is None or not self.segment.result.isEnabled():
            return None
        self.segment.result.live.click()
        return "live layer on or off"

    def turn(self) -> str:
        self.viewer.dims.ndisplay = int(self.one([2, 2, 3]))
        return f"{self.viewer.dims.ndisplay}D display"

    def step(self) -> str:
        if self.viewer.dims.ndim > 2:
            self.viewer.dims.set_current_step(0, int(self.rng.integers(3)))
        return "slider"

    def place(self) -> str | None:
        image = self.one(self.images)
        if image is None:
            return None
        if self.rng.random() < 0.5:
            image.scale = (float(self.one([0.5, 1.0, 2.0])),) * image.ndim
        else:
            image.units = (self.one(["mm", "um", "pixel"]),) * image.ndim
        return f"{image.name} has scale {tuple(image.scale)}, units {image.units}"

    def train_round(self) -> str | None:
        if self.train is None or self.train.actions.is_running or self.rounds:
            return None
        self.rounds += 1
        self.train.round.train.click()
        return "train"

    def stop_round(self) -> str | None:
        if self.train is None or not self.train.actions.is_running:
            return None
        self.train.round.stop.click()
        return "stop"

    def toggle_dock(self) -> str:
        name = self.one(DOCKS)
        if name in self.docks:
            self.close(name)
            return f"close {name}"
        self.open(name)
        return f"open {name}"

    def new_project(self) -> str | None:
        if self.train is None:
            return None
        used = self.folder / "used"
        used.mkdir(exist_ok=True)
        (used / "notes.txt").write_text("mine", "utf-8")
        folder = self.one([self.folder / f"project {len(self.actions)}", used, *self.projects])
        self.train.project.moved.emit(folder)
        return f"new project in {folder.name}"

    def open_project(self) -> str | None:
        folder = self.one(self.projects)
        if self.train is None or folder is None:
            return None
        self.train.project.opened.emit(folder)
        return f"open project {folder.name}"

    def evaluate(self) -> str | None:
        dock = self.docks.get("Evaluate")
        if dock is None or not dock.evaluate_button.isEnabled():
            return None
        dock.evaluate_button.click()
        return "evaluate"

    # Docks

    def open(self, name: str) -> None:
        _, widget = self.viewer.window.add_plugin_dock_widget("napari-swipe", name)
        self.docks[name] = widget
        self.wait(lambda: not getattr(widget, "is_preloading", False))
        self.idle()
        if name == "Segment":
            widget.models.open_file(self.model)
        elif name == "Train" and not widget.annotated.pairs:
            widget.start.open_file(self.model)

    def close(self, name: str) -> None:
        self.viewer.window.remove_dock_widget(self.docks.pop(name))
        self.wait(lambda: not _running)

    def wait(self, condition: Callable[[], object]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE)

    def idle(self) -> None:
        """Wait until nothing is being done but a round, and all that can be saved is."""
        bars = [dock.task_bar for dock in self.docks.values()]
        self.wait(lambda: not any(bar.is_busy for bar in bars))
        self.qtbot.wait(20)
        self.wait(lambda: not any(bar.is_busy for bar in bars))
        if self.train is not None:
            keeper, model = self.train.keeper, self.train.annotated
            self.wait(lambda: keeper.writer.is_paused or not (model.is_pending or keeper.writer.is_writing))
            if keeper.project is not None and keeper.folder not in self.projects:
                self.projects.append(keeper.folder)

    # What must hold

    def check(self) -> list[str]:
        broken = [*self.faults.found, *self.lost(), *self.doubled()]
        self.faults.found.clear()
        if self.train is not None and not self.train.actions.is_running:
            broken += [] if self.train.round.train.isEnabled() else ["Train cannot be pressed"]
        if self.segment is not None and not self.segment.segment_button.isEnabled():
            broken.append("Segment cannot be pressed")
        return broken

    def doubled(self) -> list[str]:
        """Live layers that nobody keeps any more, or two of one image."""
        shown = [layer for layer in self.viewer.layers if metadata_of(layer).base_level is not None]
        kept = [live.layer for live in state_of(self.viewer)._live.values()]
        return [f"{layer.name} is kept by no image" for layer in shown if layer not in kept]

    def lost(self) -> list[str]:
        """What is painted, not on the disk, and of which the user was not told."""
        if self.train is None or self.train.keeper.writer.is_paused:
            return []
        keeper, scheme = self.train.keeper, self.train.annotated.scheme
        missing = []
        for pair in self.pairs:
            unsaved = keeper.writer.unsaved.get(pair.name)
            if unsaved is not None:
                told = any(unsaved.reason in message for message in self.faults.told)
                missing += [] if told else [f"{pair.name}: nobody was told of {unsaved}"]
                continue
            try:
                axes = OutputAxes.of(check_pair(pair.image, pair.labels, self.train.annotated.ndim))
                painted = painted_of(pair.labels, scheme)
                missing += self.different(keeper.project, pair.name, axes, painted, scheme)
            except SwipeError as error:
                missing.append(f"{pair.name}: {error}")
        return missing

    def different(self, project: Project, name: str, axes: OutputAxes, painted, scheme) -> list[str]:
        frames = axes.source.frames
        wanted = [frame for frame in frames if len(frames) == 1 or painted[axes.part(frame)].any()]
        return [
            f"{name} {frame} is not on the disk as it is painted"
            for frame in wanted
            if not np.array_equal(
                project.read_case(name, frame).labels.array, scheme.to_classes(painted[axes.part(frame)])
            )
        ]

    # A whole sequence

    def live(self) -> None:
        """Begin with a picture and two docks, go on at random, and check after each action."""
        self.open("Train")
        self.open("Segment")
        for action in (self.add_image, self.add_pair, self.paint):
            self.act(action)
        likely = [self.paint] * 5 + [self.add_image, self.add_pair] * 2
        possible = [getattr(self, name) for name in ACTIONS]
        while len(self.actions) < LENGTH:
            self.act(self.one([*possible, *likely]))
        if self.train is not None:
            self.act(self.leave)

    def leave(self) -> str:
        """The dock is closed: everything is there when the project is opened again."""
        keeper, scheme = self.train.keeper, self.train.annotated.scheme
        self.train.actions.stop()
        self.wait(lambda: not self.train.actions.is_running)
        self.idle()
        unsaved, project = set(keeper.writer.unsaved), keeper.project
        pairs = [pair for pair in self.pairs if pair.name not in unsaved]
        self.close("Train")
        if project is not None:
            again = Project.open(project.folder)
            for pair in pairs:
                axes = OutputAxes.of(check_pair(pair.image, pair.labels, again.record.ndim))
                painted = painted_of(pair.labels, scheme)
                self.faults.found += self.different(again, pair.name, axes, painted, scheme)
        return "close Train, and open its project"

    def act(self, action: Callable[[], object]) -> None:
        try:
            said = action()
        except Exception as error:
            self.faults.raised(type(error), error, error.__traceback__)
            said = f"{action.__name__} raised {type(error).__name__}"
        if said is None:
            return
        self.actions.append(str(said))
        QApplication.processEvents()
        self.idle()
        if broken := self.check():
            pytest.fail("\n".join([*broken, f"in sequence {self.seed}, after", *self.actions]), pytrace=False)


ACTIONS = [
    "add_labels",
    "remove_layer",
    "rename_layer",
    "reorder",
    "replace_data",
    "undo",
    "switch_policy",
    "switch_objects",
    "change_classes",
    "rename_class",
    "remove_pair",
    "use_pair",
    "switch_kind",
    "segment_image",
    "render",
    "toggle_live",
    "turn",
    "step",
    "place",
    "train_round",
    "stop_round",
    "toggle_dock",
    "new_project",
    "open_project",
    "evaluate",
]


@pytest.mark.parametrize(
    ("seed", "viewer"), [(seed, seed % SHOWN == 0) for seed in SEEDS], indirect=["viewer"]
)
@pytest.mark.filterwarnings("ignore")  # of napari's, about the units and shapes that are drawn
def test_whatever_users_do_nothing_painted_is_lost_without_a_word(
    seed, viewer, qtbot, faults, quick, disc_run, tmp_path
):
    User(viewer, qtbot, faults, disc_run / "best.safetensors", tmp_path, seed).live()
