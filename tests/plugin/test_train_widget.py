"""The Train dock in a real viewer: paint, learn, look, correct and keep, and what may go wrong on the way."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from napari.layers import Labels
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QProgressBar
from superqt.utils import WorkerBase

from napari_swipe._settings import Preferences
from napari_swipe.layers.geometry import layer_matrix
from napari_swipe.layers.metadata import metadata_of
from napari_swipe.project import keeper as _project_keeper
from napari_swipe.qt import task as _task
from napari_swipe.train import widget as _train_widget
from napari_swipe.train.round_panel import RUNNING, RoundPanel
from napari_swipe.train.start_panel import StartChoice
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.coordinates import image_to_voxel
from swipe_core.data.dataset import TrainingSet
from swipe_core.data.labels import IGNORED
from swipe_core.errors import ImageError
from swipe_core.networks.swipe.swipe import Swipe
from swipe_core.progress import finish
from swipe_core.project import Project
from swipe_core.training import learner, preview, suggestion
from swipe_core.training.config import load_config
from swipe_core.training.folder import RunFolder
from swipe_core.training.reports import TrainingProgress

PATIENCE = 60_000  # milliseconds; only a hang comes near it
BACKGROUND, FOREGROUND = 1, 2  # as they are painted
OLD_PROJECT = Path(__file__).parents[1] / "data" / "old_project"

Dock = _train_widget.TrainWidget


@pytest.fixture
def told(errors) -> list[str]:
    return errors


@pytest.fixture
def opened(qtbot, tmp_path: Path, disc_run: Path, monkeypatch) -> Callable[..., Dock]:
    """A function from a viewer to a Train dock in it, which starts from the disc model."""
    preferences = Preferences(project_folder=tmp_path / "projects", device="cpu")
    monkeypatch.setattr(_train_widget, "read_preferences", lambda: preferences)

    def open_dock(viewer) -> Dock:
        _, widget = viewer.window.add_plugin_dock_widget("napari-swipe", "Train")
        qtbot.waitUntil(lambda: not widget.is_preloading, timeout=PATIENCE)
        qtbot.waitUntil(lambda: not widget.task_bar.is_busy, timeout=PATIENCE)
        if not widget.annotated.pairs:
            widget.start.open_file(disc_run / "best.safetensors")
        return widget

    return open_dock


@pytest.fixture
def dock(viewer, opened, tmp_path: Path) -> Dock:
    dock = opened(viewer)
    dock.keeper.propose(tmp_path / "project")
    return dock


@pytest.fixture
def short(monkeypatch) -> None:
    """Rounds of two steps."""
    monkeypatch.setattr(suggestion, "MOST_STEPS", 2)


@pytest.fixture
def wait(qtbot) -> Callable[[Callable[[], object]], None]:
    return lambda condition: qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE)


@pytest.fixture
def train(wait) -> Callable[[Dock], str]:
    """A function that trains a round to its end; returns what is said of it."""

    def run(dock: Dock, button: str = "train") -> str:
        getattr(dock.round, button).click()
        wait(lambda: not dock.actions.is_running)
        return dock.round.words

    return run


@pytest.fixture
def running(wait) -> Callable[[Dock], None]:
    """A function that begins a round, and comes back after its first step."""

    def begin(dock: Dock) -> None:
        dock.round.train.click()
        wait(lambda: dock.round.words.startswith("Step") or not dock.actions.is_running)
        assert dock.actions.is_running, dock.round.words

    return begin


@pytest.fixture
def saved(wait) -> Callable[[Dock], None]:
    """A function that waits until all that is painted is on the disk."""

    def wait_for(dock: Dock) -> None:
        wait(lambda: not dock.annotated.is_pending and not dock.keeper.writer.is_writing)

    return wait_for


def scribble(labels: Labels, shift: int = 0) -> None:
    """Background along the upper edge, and a square on the disc."""
    fill(labels, (slice(0, 3), slice(None)), BACKGROUND)
    fill(labels, (slice(10, 18), slice(12 + shift, 20 + shift)), FOREGROUND)


def fill(labels: Labels, place: tuple, label: int) -> None:
    """One stroke that paints a box of the last two axes, in the first frame where there are frames."""
    place = (0,) * (labels.ndim - 2) + place
    labels.data_setitem(np.nonzero(marked(labels.data.shape, place)), label)


def marked(shape: tuple[int, ...], place: tuple) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[place] = True
    return mask


def painted_pair(dock: Dock, pixels: np.ndarray, name: str = "disc", split: str = "train", **arguments):
    """An image with scribbles on it."""
    image = dock._viewer.add_image(pixels, name=name, **arguments)
    pair = dock.annotated.add(image, split=split)
    scribble(pair.labels)
    return pair


def on_disk(project: Project, pair: str = "disc", frame: tuple[int, ...] = ()):
    return Project.open(project.folder).read_case(pair, frame)


def sentence(text: str) -> bool:
    """One sentence in the user's words."""
    return text.endswith(".") and ". " not in text and "Error" not in text


# A round


def test_a_round_is_trained_on_what_is_painted_and_tells_how_far_it_is(
    viewer, dock, disc_pixels, short, train, told, saved
):
    pair = painted_pair(dock, disc_pixels)
    painted_pair(dock, np.roll(disc_pixels, 3, axis=1), "other", "val")
    shown: list[str] = []
    say = dock.round.say
    dock.round.say = lambda words: (shown.append(words), say(words))
    words = train(dock)
    assert words.startswith("Finished after 2 steps")
    assert "best validation Dice" in words
    assert any(word.startswith("Step 2") or word == "Coming to an end …" for word in shown)
    scheme = dock.annotated.scheme
    assert dock.round.curves.class_colours == dict(zip(scheme.class_names, scheme.class_colours, strict=True))
    history = dock.round.curves._history
    assert len(history.losses) == 1 and history.validations[-1].moment.step == 2
    project = dock.keeper.project
    (record,) = project.record.rounds
    assert (record.state, record.step, record.folder) == ("finished", 2, "runs/01")
    assert record.painted == {"background": 96, "foreground": 64}
    assert load_config(project.folder / "runs/01/config.yaml").training.steps == 2
    assert load_checkpoint(project.latest_model()).content.summary.layers == ["disc", "other"]
    assert viewer.layers.selection.active is not pair.image and told == []
    assert dock.start.choice.checkpoint == str(project.latest_model())
    saved(dock)


def test_a_round_waits_goes_on_stops_and_is_resumed(dock, disc_pixels, running, wait, qtbot, train, saved):
    painted_pair(dock, disc_pixels)
    running(dock)
    assert not dock.round.train.isEnabled() and not dock.round.resume.isEnabled()
    dock.round.pause.click()
    assert dock.round.pause.text() == "Go on" and dock.round.words.startswith("Paused")
    folder = dock.keeper.project.folder / "runs/01"
    wait((folder / "last.safetensors").exists)
    qtbot.wait(50)
    steps = load_checkpoint(folder / "last.safetensors").progress["step"]
    qtbot.wait(300)
    assert dock.round.words.startswith("Paused")
    dock.round.pause.click()
    wait(lambda: dock.round.words.startswith("Step") and int(dock.round.words.split()[1][:-1]) > steps)
    dock.round.stop.click()
    assert dock.round.words == "Stopping after this step …"
    wait(lambda: not dock.actions.is_running)
    assert dock.round.words.startswith("Stopped after ")
    (record,) = dock.keeper.project.record.rounds
    assert record.state == "stopped" and record.step > steps
    assert load_checkpoint(folder / "last.safetensors").progress["step"] == record.step
    assert dock.round.resume.isEnabled() and dock.round.train.isEnabled()
    chosen, losses = dock.start.choice, len(dock.round.curves._history.losses)
    dock.round.resume.click()
    wait(lambda: dock.round.words.startswith("Step"))
    assert int(dock.round.words.split()[1][:-1]) > record.step
    assert len(dock.round.curves._history.losses) >= losses - 1
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    (again,) = dock.keeper.project.record.rounds
    assert again.step > record.step
    assert dock.start.choice.key == chosen.key
    saved(dock)


def test_what_is_painted_after_a_round_corrects_it_and_what_is_painted_meanwhile_too(
    dock, disc_pixels, monkeypatch, running, wait, saved
):
    monkeypatch.setattr(suggestion, "MOST_STEPS", 12)
    pair = painted_pair(dock, disc_pixels)
    running(dock)
    fill(pair.labels, (30, slice(0, 6)), BACKGROUND)
    wait(lambda: not dock.actions.is_running)
    fill(pair.labels, (slice(5, 9), 15), BACKGROUND)
    fill(pair.labels, (0, slice(0, 4)), 0)  # erased: nothing is said of these any more
    saved(dock)
    case = on_disk(dock.keeper.project)
    expected = marked((32, 32), (30, slice(0, 6))) | marked((32, 32), (slice(5, 9), 15))
    np.testing.assert_array_equal(case.corrected & (case.labels.array != IGNORED), expected)


def test_in_no_batch_is_a_point_where_nothing_was_painted(dock, disc_pixels, saved, wait):
    painted_pair(dock, disc_pixels)
    wait(lambda: dock.form.summary.text().startswith("2D"))
    saved(dock)
    project, config = dock.keeper.project, dock.form.config
    batches = TrainingSet(
        project.cases("train"),
        preprocessing=config.preprocessing,
        labels=config.labels,
        sampling=config.sampling,
        augmentation=config.augmentation,
        batch=config.batch,
        seed=config.training.seed,
    )
    finish(batches.load())
    painted = dock.annotated.pairs[0].labels.data
    seen = np.zeros(painted.shape, bool)
    for step in range(20):
        batch = batches[step]
        voxels = image_to_voxel(batch.points_source.double().numpy(), painted.shape)
        index = tuple(np.floor(voxels + 0.5).astype(int).reshape(-1, 2).T)
        # One less, since the background is painted as 1: 0 would be a voxel that nobody painted.
        np.testing.assert_array_equal(painted[index].astype(int) - 1, batch.classes.reshape(-1).numpy())
        seen[index] = True
    assert seen.sum() > 100


# Settings


def test_what_the_user_sets_is_trained_with_and_all_else_as_suggested(
    dock, disc_pixels, short, train, wait, saved
):
    painted_pair(dock, disc_pixels)
    wait(lambda: dock.form.summary.text().startswith("2D"))
    dock.form.fields["batch.points"].control.setValue(77)
    dock.form.fields["training.learning_rate"].control.setValue(0.004)
    assert "There is no validation image" in train(dock)
    dock.round.curves._redraw()
    assert "No validation image" in dock.round.curves.sentence.text()
    config = load_config(dock.keeper.project.folder / "runs/01/config.yaml")
    assert (config.batch.points, config.training.learning_rate) == (77, 0.004)
    assert config.training.frozen_statistics and config.model.planes == (8, 8, 8, 8)
    saved(dock)
    wait(lambda: dock._suggesting is None and not dock._suggest_soon.isActive())
    dock.start.choose(next(choice for choice in dock.start.choices if choice.preset == "quick"))
    wait(lambda: dock.form.config.model.planes != (8, 8, 8, 8))  # another network, and still what was set
    assert dock.form.config.batch.points == 77 and dock.form.fields["batch.points"].control.value() == 77
    dock.form.reset_button.click()
    wait(lambda: not dock.form.edited)
    assert dock.form.config.batch.points == 512


def test_a_round_takes_the_settings_that_were_suggested_without_looking_at_the_images_again(
    dock, disc_pixels, short, train, wait, saved, monkeypatch
):
    looks = []
    suggest = suggestion.suggest_fine_tuning
    monkeypatch.setattr(
        suggestion, "suggest_fine_tuning", lambda *args: (looks.append(args), suggest(*args))[1]
    )
    pair = painted_pair(dock, disc_pixels)
    saved(dock)
    wait(lambda: dock.actions.suggestion is not None)
    assert dock.actions.job().suggestion is dock.actions.suggestion
    for scale in (0.5, 1.0):
        pair.image.scale = pair.labels.scale = (scale, scale)
        assert (dock.actions.job().suggestion is None) == (scale < 1)
    before = len(looks)
    train(dock)
    assert len(looks) == before
    saved(dock)
    wait(lambda: dock.actions.suggestion is not None)  # of the model that the round has made
    before = len(looks)
    dock.start.minutes.setValue(3.5)
    train(dock)
    assert len(looks) == before + 1
    saved(dock)


def test_settings_that_do_not_go_together_are_refused_and_can_be_taken_back(
    dock, disc_pixels, short, wait, told, saved
):
    painted_pair(dock, disc_pixels)
    wait(lambda: dock.form.summary.text().startswith("2D"))
    dock.form.intensity.kind.choose("window")
    dock.form.intensity.numbers["window"].boxes[0].setValue(500)
    for button in (dock.round.train, dock.round.copy):
        button.click()
        assert "goes from a low value" in told.pop() and sentence(dock.round.words)
        assert not dock.actions.is_running
    dock.form.reset_button.click()
    wait(lambda: not dock.form.edited)
    assert dock.form.config.preprocessing.intensity == "standardise"
    saved(dock)


def test_a_suggestion_that_is_outdated_when_it_comes_is_made_anew(dock, disc_pixels, wait, saved):
    painted_pair(dock, disc_pixels)
    wait(lambda: dock._suggesting is not None)
    dock.start.choose(next(choice for choice in dock.start.choices if choice.preset == "quick"))
    dock._suggest()  # as the timer does, while the other one is not there yet
    wait(lambda: dock.form._config is not None and dock.form.config.model.point_features == 32)
    saved(dock)


def test_copy_as_command_puts_the_line_for_the_round_on_the_clipboard(
    dock, disc_pixels, short, wait, saved, disc_run
):
    painted_pair(dock, disc_pixels)
    dock.start.minutes.setValue(3.5)
    QApplication.clipboard().clear()
    dock.round.copy.click()
    wait(QApplication.clipboard().text)
    words, project = QApplication.clipboard().text().split(), dock.keeper.project
    assert words[:2] == ["swipe", "train"]
    assert words[2:] == [
        *(str(project.config_file), "--data", str(project.data)),
        *("--output", str(project.folder / "runs/01")),
        *("--from", str(disc_run / "best.safetensors"), "--max-minutes", "3.5", "--device", "cpu"),
    ]
    assert load_config(project.config_file).labels.ignore_label == IGNORED
    assert len(project.cases("train")) == 1
    saved(dock)


# Networks


def can_be_had(dock: Dock) -> dict[str, bool]:
    """Which networks can be picked, by title."""
    box = dock.start.network
    enabled = Qt.ItemFlag.ItemIsEnabled
    return {
        box.itemText(i): bool(box.model().flags(box.model().index(i, 0)) & enabled)
        for i in range(box.count())
    }


def tip(dock: Dock, title: str) -> str:
    box = dock.start.network
    return box.itemData(box.findText(title), Qt.ItemDataRole.ToolTipRole)


def test_another_network_is_suggested_trained_kept_and_segments(
    viewer, dock, disc_pixels, short, train, saved, wait, wait_idle, told
):
    pair = painted_pair(dock, disc_pixels)
    painted_pair(dock, np.roll(disc_pixels, 3, axis=1), "other", "val")
    assert not dock.start.network.isVisibleTo(dock)  # a trained model goes on with its own
    dock.start.choose(StartChoice(preset="quick"))
    wait(lambda: dock.form.summary.text().endswith("parameters"))
    assert "SwIPE of" in dock.form.summary.text() and dock.start.network.isVisibleTo(dock)
    dock.start.network.choose("unet")
    wait(lambda: "U-Net of" in dock.form.summary.text())
    QApplication.clipboard().clear()
    dock.round.copy.click()
    wait(QApplication.clipboard().text)
    project = dock.keeper.project
    assert load_config(project.config_file).model.network == "unet"
    assert "best validation Dice" in train(dock)
    assert load_config(project.folder / "runs/01/config.yaml").model.network == "unet"
    latest = dock.start.choice.model
    assert (latest.network, latest.path) == ("unet", project.latest_model())
    assert dock.start._words.text().startswith("U-Net that knows foreground")
    wait(lambda: "U-Net of" in dock.form.summary.text())  # as fine-tuning has it
    assert "Finished" in train(dock)
    dock.keep.name.setText("classic")
    dock.keep.button.click()
    wait_idle(dock)
    kept = describe_checkpoint(project.models / "classic.safetensors")
    assert kept.network == "unet" and "U-Net, 2 steps" in kept.card.data
    _, segment = viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
    wait(lambda: not segment.is_preloading)
    segment.models.open_file(kept.path)
    segment.images.pick(pair.image)
    segment.segment_button.click()
    wait_idle(segment)
    assert viewer.layers["disc · live"].multiscale and told == []
    saved(dock)


@pytest.mark.parametrize("network", ["unet", "iosnet", "ossnet"])
def test_another_network_is_previewed_paused_and_resumed_and_its_prediction_is_corrected(
    viewer, dock, disc_pixels, often, running, wait, wait_idle, saved, told, network
):
    painted_pair(dock, disc_pixels)
    dock.start.choose(StartChoice(preset="quick", network=network))
    running(dock)
    wait(lambda: dock.preview.layer is not None)
    assert np.allclose(seen(dock), [[-0.5, -0.5], [31.5, 31.5]])
    dock.round.pause.click()
    folder = dock.keeper.project.folder / "runs/01"
    wait((folder / "last.safetensors").exists)
    dock.round.pause.click()
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    stopped = load_checkpoint(folder / "last.safetensors").progress["step"]
    dock.round.resume.click()
    wait(lambda: dock.round.words.startswith("Step"))
    assert int(dock.round.words.split()[1][:-1]) > stopped
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    dock.correct.predict.click()
    wait_idle(dock)
    assert "disc · corrected" in viewer.layers and told == []
    saved(dock)


def test_a_network_for_other_images_or_without_its_packages_cannot_be_picked_and_says_why(
    viewer, dock, disc_pixels, monkeypatch, wait, saved
):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "monai" else find(name))
    dock.start.choose(StartChoice(preset="quick", network="pranet"))
    assert dock.start.choice.network == "pranet"
    of_pictures = can_be_had(dock)
    assert not of_pictures["UNETR"] and of_pictures["PraNet"] and sum(of_pictures.values()) == 7
    assert "UNETR is for 3D images, and these are 2D." in tip(dock, "UNETR")
    volume = viewer.add_image(np.stack([disc_pixels] * 8), name="volume", axis_labels=("z", "y", "x"))
    pair = dock.annotated.add(volume)
    assert not can_be_had(dock)["PraNet"] and not can_be_had(dock)["UNETR"]
    assert "PraNet is for 2D images, and these are 3D." in tip(dock, "PraNet")
    assert "pip install monai" in tip(dock, "UNETR")
    assert dock.start.choice.network == "swipe"
    wait(lambda: dock.form.summary.text().startswith("3D"))
    assert "SwIPE of" in dock.form.summary.text()
    dock.annotated.remove(pair.name)
    assert dock.start.choice.network == "pranet"  # as it was chosen
    saved(dock)


def test_the_network_is_remembered_with_the_project(
    viewer, dock, opened, disc_pixels, short, train, saved, wait
):
    painted_pair(dock, disc_pixels)
    dock.start.choose(StartChoice(preset="quick", network="iosnet"))
    train(dock)
    dock.start.choose(StartChoice(preset="quick", network="iosnet"))
    saved(dock)
    viewer.window.remove_dock_widget(dock)
    again = opened(viewer)
    wait(lambda: again.annotated.pairs)
    choice = again.start.choice
    assert (choice.preset, choice.network) == ("quick", "iosnet")
    assert again.round.words == "The last round (runs/01, IOSNet) finished after 2 steps."
    saved(again)


def test_a_project_of_before_there_was_a_choice_is_of_the_first_network(
    viewer, dock, opened, disc_pixels, short, train, saved, wait
):
    painted_pair(dock, disc_pixels)
    train(dock)
    saved(dock)
    project = dock.keeper.project
    viewer.window.remove_dock_widget(dock)
    WorkerBase.await_workers(PATIENCE)
    record = yaml.safe_load((project.folder / "project.yaml").read_text("utf-8"))
    del record["settings"]["network"]
    record["settings"] |= {"preset": "standard", "model": None}
    (project.folder / "project.yaml").write_text(yaml.safe_dump(record), "utf-8")
    viewer.layers.clear()
    again = opened(viewer)
    wait(lambda: again.annotated.pairs)
    assert again.start.choice.key == ("standard", None, "swipe")
    saved(again)


# The project


def test_a_dock_that_is_opened_again_goes_on_where_it_was(
    viewer, dock, opened, disc_pixels, short, train, saved, wait
):
    pair = painted_pair(dock, disc_pixels)
    painted_pair(dock, disc_pixels.T.copy(), "other", "val")
    train(dock)
    fill(pair.labels, (20, slice(0, 5)), BACKGROUND)  # not yet saved when the dock goes
    layers, curves = list(viewer.layers), len(dock.round.curves._history.losses)
    viewer.window.remove_dock_widget(dock)
    again = opened(viewer)
    wait(lambda: len(again.annotated.pairs) == 2)
    assert list(viewer.layers) == layers
    assert [(p.name, p.split, p.labels) for p in again.annotated.pairs] == [
        ("disc", "train", layers[1]),
        ("other", "val", layers[3]),
    ]
    assert again.start.choice.checkpoint == str(again.keeper.project.latest_model())
    assert len(again.round.curves._history.losses) == curves
    assert "finished after 2 steps" in again.round.words
    case = on_disk(again.keeper.project)
    np.testing.assert_array_equal(case.corrected, marked((32, 32), (20, slice(0, 5))))
    train(again)
    assert [record.folder for record in again.keeper.project.record.rounds] == ["runs/01", "runs/02"]
    saved(again)


def test_a_project_comes_back_with_all_that_was_painted(
    viewer, dock, opened, disc_pixels, saved, wait, qtbot
):
    place = {"scale": (0.5, 0.25), "units": ("micrometer",) * 2}
    pair = painted_pair(dock, disc_pixels, **place)
    other = painted_pair(dock, np.stack([disc_pixels] * 3, axis=-1), "colour", "val", rgb=True)
    dock.annotate.class_table.renamed.emit(FOREGROUND, "nucleus")
    saved(dock)
    scheme, painted = dock.annotated.scheme, {p.name: p.labels.data.copy() for p in (pair, other)}
    matrices = {p.name: layer_matrix(p.image) for p in (pair, other)}
    viewer.window.remove_dock_widget(dock)
    viewer.layers.clear()
    again = opened(viewer)
    wait(lambda: len(again.annotated.pairs) == 2)
    assert again.annotated.scheme == scheme and scheme.class_names == ("nucleus",)
    for restored, split in zip(again.annotated.pairs, ("train", "val"), strict=True):
        assert restored.split == split
        np.testing.assert_array_equal(restored.labels.data, painted[restored.name])
        assert metadata_of(restored.labels).is_annotation
        for layer in (restored.image, restored.labels):
            np.testing.assert_allclose(layer_matrix(layer), matrices[restored.name], atol=1e-6)
    np.testing.assert_array_equal(again.annotated.pairs[0].image.data, disc_pixels)
    assert again.annotated.pairs[1].image.rgb
    # Layers that are the project's can be painted on, and are saved.
    fill(again.annotated.pairs[0].labels, (31, slice(0, 9)), BACKGROUND)
    saved(again)
    assert (on_disk(again.keeper.project).labels.array[31, :9] == 0).all()


def test_a_project_of_an_older_version_opens_with_its_layers_and_its_model_and_goes_on(
    dock, disc_pixels, short, train, wait_idle, saved, tmp_path
):
    folder = Path(shutil.copytree(OLD_PROJECT, tmp_path / "old"))
    dock.open_project(folder)
    wait_idle(dock)
    assert dock.annotated.scheme.class_names == ("nucleus",)
    disc, frame = dock.annotated.pairs
    assert [(pair.name, pair.split) for pair in (disc, frame)] == [("disc", "train"), ("frames_0000", "val")]
    np.testing.assert_array_equal(disc.image.data, disc_pixels)
    np.testing.assert_allclose(layer_matrix(disc.labels), layer_matrix(disc.image))
    np.testing.assert_allclose(layer_matrix(disc.image), np.diag([0.5, 0.25, 1]))
    painted = BACKGROUND * marked((32, 32), (slice(0, 3), slice(None)))
    painted[10:18, 12:20] = FOREGROUND
    np.testing.assert_array_equal(frame.labels.data, painted)
    painted[20, :5] = BACKGROUND
    np.testing.assert_array_equal(disc.labels.data, painted)
    assert dock.round.words == "The last round (runs/01) finished after 2 steps."
    assert len(dock.round.curves._history.losses) == 1
    assert dock.start.choice.checkpoint == str(folder / "runs/01/best.safetensors")
    fill(disc.labels, (25, slice(0, 6)), BACKGROUND)
    assert train(dock).startswith("Finished after 2 steps")
    saved(dock)
    assert [record.folder for record in dock.keeper.project.record.rounds] == ["runs/01", "runs/02"]
    corrected = marked((32, 32), (20, slice(0, 5))) | marked((32, 32), (25, slice(0, 6)))
    np.testing.assert_array_equal(on_disk(dock.keeper.project).corrected, corrected)


def test_a_stack_in_memory_is_still_one_pair_when_the_dock_is_opened_again(
    viewer, dock, opened, disc_pixels, saved, wait
):
    pair = painted_pair(dock, np.stack([disc_pixels] * 4), "stack")
    painted_pair(dock, np.stack([disc_pixels] * 2), "other")
    empty = viewer.add_image(np.stack([disc_pixels] * 2), name="empty")
    dock.annotated.add(empty)
    saved(dock)
    layers = list(viewer.layers)
    assert dock.keeper.project.record.pairs[0].frames == [[0]]
    viewer.window.remove_dock_widget(dock)
    again = opened(viewer)
    wait(lambda: again.annotated.pairs)
    assert list(viewer.layers) == layers
    assert [p.name for p in again.annotated.pairs] == ["stack", "other", "empty"]
    assert again.annotated.pairs[0].labels is pair.labels
    saved(again)


def test_a_stack_of_a_file_comes_back_whole_and_one_without_by_its_painted_frames(
    viewer, dock, opened, disc_pixels, saved, wait, tmp_path
):
    import tifffile

    stack = np.stack([disc_pixels, disc_pixels[::-1], disc_pixels])
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "TYX"})
    pair = painted_pair(dock, stack, "from file", metadata={"path": str(tmp_path / "stack.tif")})
    painted_pair(dock, stack, "from memory")
    saved(dock)
    viewer.window.remove_dock_widget(dock)
    viewer.layers.clear()
    again = opened(viewer)
    wait(lambda: again.annotated.pairs)
    whole, single = again.annotated.pairs
    np.testing.assert_array_equal(whole.image.data, stack)
    np.testing.assert_array_equal(whole.labels.data, pair.labels.data)
    np.testing.assert_array_equal(single.labels.data, pair.labels.data[0])
    saved(again)


def test_a_round_that_a_dead_process_left_can_be_resumed(
    viewer, dock, opened, disc_pixels, running, wait, saved
):
    painted_pair(dock, disc_pixels)
    running(dock)
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    saved(dock)
    project = dock.keeper.project
    viewer.window.remove_dock_widget(dock)
    WorkerBase.await_workers(PATIENCE)
    (record,) = project.record.rounds
    project.update_round(record.folder, state="running")
    lock = json.dumps({"pid": 999999999, "host": socket.gethostname(), "started": None})
    (project.folder / record.folder / "run.lock").write_text(lock, "utf-8")
    again = opened(viewer)
    wait(lambda: again.annotated.pairs)
    assert again.round.resume.isEnabled()
    assert f"after {record.step} steps" in again.round.words
    QApplication.clipboard().clear()
    again.round.copy.click()
    wait(QApplication.clipboard().text)
    assert QApplication.clipboard().text().endswith("--resume")
    again.round.resume.click()
    wait(lambda: again.round.words.startswith("Step"))
    assert int(again.round.words.split()[1][:-1]) > record.step
    again.round.stop.click()
    wait(lambda: not again.actions.is_running)
    assert len(again.keeper.project.record.rounds) == 1
    saved(again)


def test_another_project_is_begun_or_opened_with_everything_of_the_first_saved(
    viewer, dock, disc_pixels, saved, wait, tmp_path
):
    pair = painted_pair(dock, disc_pixels)
    saved(dock)
    first = dock.keeper.project
    fill(pair.labels, (25, slice(0, 4)), BACKGROUND)
    dock.project.moved.emit(tmp_path / "second")
    saved(dock)
    second = dock.keeper.project
    assert second.folder == tmp_path / "second"
    fill(pair.labels, (26, slice(0, 4)), BACKGROUND)
    dock.project.opened.emit(first.folder)
    wait(lambda: dock.keeper.project is not second)
    saved(dock)
    WorkerBase.await_workers(PATIENCE)
    painted = on_disk(first).labels.array != IGNORED
    assert painted[25, :4].all() and not painted[26, :4].any()
    painted = on_disk(second).labels.array != IGNORED
    assert painted[25:27, :4].all()


def test_two_windows_have_projects_of_their_own(
    make_napari_viewer, opened, disc_pixels, saved, told, tmp_path
):
    viewers = [make_napari_viewer(show=True) for _ in range(2)]
    docks = [opened(viewer) for viewer in viewers]
    for dock in docks:
        painted_pair(dock, disc_pixels)
    for dock in docks:
        saved(dock)
    first, second = (dock.keeper.folder for dock in docks)
    assert first != second and first.parent == second.parent == tmp_path / "projects"
    assert told == []
    docks[1].project.opened.emit(first)
    assert "is open already" in told[0] and sentence(told[0])
    for viewer, dock in zip(viewers, docks, strict=True):
        viewer.window.remove_dock_widget(dock)
    WorkerBase.await_workers(PATIENCE)
    QApplication.processEvents()


# Previews


@pytest.fixture
def often(monkeypatch) -> None:
    """A preview after every step."""
    monkeypatch.setattr(preview, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(preview, "REST", 0.0)


def seen(dock: Dock) -> np.ndarray:
    """World coordinates of the outer edges of the preview."""
    layer = dock.preview.layer
    return np.asarray(layer.extent.world) + np.array([[-0.5], [0.5]]) * np.asarray(layer.scale)


def test_the_preview_shows_what_is_in_view_where_it_lies(
    viewer, dock, disc_pixels, often, running, wait, saved, qtbot
):
    pair = painted_pair(dock, disc_pixels, scale=(0.5, 0.25), translate=(3, -4))
    running(dock)
    wait(lambda: dock.preview.layer is not None)
    wait(lambda: np.allclose(seen(dock), [[2.75, -4.125], [18.75, 3.875]]))
    layer = dock.preview.layer
    assert layer.name == "disc · preview" and not layer.editable
    found = layer.data > 0  # what the model knows: the disc, at the right place
    rows, columns = (np.argwhere(found) + 0.5).mean(axis=0) / np.array(found.shape) * 32 - 0.5
    assert abs(rows - 14) < 1 and abs(columns - 17) < 1
    viewer.scene.camera.zoom *= 8
    wait(lambda: np.ptp(seen(dock), axis=0)[0] < 8)
    corners = np.asarray(pair.image.corner_pixels)
    low = pair.image.data_to_world(np.floor(corners[0]) - 0.5)
    high = pair.image.data_to_world(np.ceil(corners[1]) + 0.5)
    wait(lambda: np.allclose(seen(dock), [low, high]))
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    saved(dock)


def test_the_preview_disturbs_nobody_who_paints(viewer, dock, disc_pixels, often, running, wait, saved):
    pair = painted_pair(dock, disc_pixels)
    viewer.layers.selection.active, pair.labels.mode = pair.labels, "paint"
    running(dock)
    wait(lambda: dock.preview.layer is not None)
    assert viewer.layers.selection.active is pair.labels and pair.labels.mode == "paint"
    layer = dock.preview.layer
    assert metadata_of(layer).is_map
    assert layer not in dock.annotate.picker.labels_box._layers
    viewer.layers.remove(layer)
    steps = int(dock.round.words.split()[1][:-1])
    wait(lambda: int(dock.round.words.split()[1][:-1]) > steps + 3)
    dock.correct.live.setChecked(False)
    wait(lambda: dock.preview._sight is None)
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    assert "Stopped" in dock.round.words
    saved(dock)


def test_the_preview_follows_the_frame_and_another_image(
    viewer, dock, disc_pixels, often, running, wait, saved
):
    stack = np.stack([disc_pixels, np.zeros_like(disc_pixels), disc_pixels])
    pair = painted_pair(dock, stack, "stack", scale=(10, 1, 1))
    plain = viewer.add_image(disc_pixels, name="plain", translate=(100, 100))
    viewer.dims.set_point(0, 0)
    running(dock)
    wait(lambda: dock.preview.layer is not None and dock.preview.layer.data.any())
    assert dock.preview.layer.data.shape[0] == 1
    assert seen(dock)[:, 0].tolist() == [-5, 5]
    viewer.dims.set_point(0, 10)
    wait(lambda: seen(dock)[:, 0].tolist() == [5, 15])
    assert viewer.dims.point[0] == 10 and pair.labels in viewer.layers
    dock.correct.images.pick(plain)
    viewer.reset_view()
    wait(lambda: dock.preview.layer is not None and dock.preview.layer.name == "plain · preview")
    wait(lambda: np.allclose(seen(dock)[:, 1:], [[99.5, 99.5], [131.5, 131.5]]))
    assert [layer.name for layer in viewer.layers if metadata_of(layer).is_map] == ["plain · preview"]
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    saved(dock)


def test_the_preview_of_a_volume_is_the_slice_that_is_shown(
    viewer, dock, often, running, wait, saved, volume_checkpoint
):
    volume = np.random.default_rng(0).normal(0, 1, (8, 16, 16)).astype(np.float32)
    image = viewer.add_image(volume, name="volume", scale=(3, 1, 1), axis_labels=("z", "y", "x"))
    pair = dock.annotated.add(image)
    assert dock.annotated.ndim == 3
    for z in range(2):
        pair.labels.data_setitem(np.nonzero(marked(volume.shape, (z, slice(0, 4)))), 1 + z)
    dock.start.open_file(volume_checkpoint)
    viewer.dims.set_point(0, 15)
    running(dock)
    wait(lambda: dock.preview.layer is not None)
    assert dock.preview.layer.data.shape[0] == 1
    np.testing.assert_allclose(seen(dock)[:, 0], [13.5, 16.5])
    wait(lambda: np.allclose(seen(dock)[:, 1:], [[-0.5, -0.5], [15.5, 15.5]]))
    viewer.dims.ndisplay = 3
    wait(lambda: np.allclose(seen(dock), [[-1.5, -0.5, -0.5], [22.5, 15.5, 15.5]]))
    viewer.dims.ndisplay = 2
    dock.round.stop.click()
    wait(lambda: not dock.actions.is_running)
    saved(dock)


# Correct


def test_a_prediction_becomes_labels_whose_changes_are_corrections(
    viewer, dock, disc_pixels, short, train, saved, wait_idle, told
):
    first = painted_pair(dock, disc_pixels, scale=(0.5, 0.5))
    train(dock)
    dock.correct.predict.click()
    wait_idle(dock)
    (pair,) = dock.annotated.pairs
    labels = viewer.layers["disc · corrected"]
    assert (pair.name, pair.labels, pair.split) == ("disc", labels, "train")
    assert viewer.layers.selection.active is labels and labels.editable
    assert first.labels in viewer.layers and not first.labels.visible
    np.testing.assert_allclose(layer_matrix(labels), layer_matrix(first.image))
    # All of it counts: the disc, and the background as it is painted.
    assert set(np.unique(labels.data)) == {BACKGROUND, FOREGROUND}
    rows, columns = np.argwhere(labels.data == FOREGROUND).mean(axis=0)
    assert abs(rows - 14) < 1 and abs(columns - 17) < 1
    saved(dock)
    assert on_disk(dock.keeper.project).corrected is None
    place = marked((32, 32), (slice(13, 16), slice(15, 19)))
    labels.data_setitem(np.nonzero(place), BACKGROUND)
    saved(dock)
    case = on_disk(dock.keeper.project)
    np.testing.assert_array_equal(case.corrected, place)
    np.testing.assert_array_equal(case.labels.array, labels.data - 1)
    assert "Finished" in train(dock) and told == []
    # The other meaning of unpainted voxels renumbers it, as all layers that were made here.
    dock.annotate.policy.chosen.emit("background")
    assert set(np.unique(labels.data)) == {0, 1}
    saved(dock)


def test_without_a_round_there_is_nothing_to_correct_with_or_to_keep(dock, disc_pixels, told, saved):
    assert not dock.correct.predict.isEnabled() and not dock.keep.button.isEnabled()
    painted_pair(dock, disc_pixels)
    dock.predict()
    dock.keep_model("name", "")
    of_labels, of_model = told
    assert "or train a round: then there is something to correct" in of_labels
    assert "Train a round first" in of_model
    saved(dock)


# Keep


def test_a_model_that_is_kept_is_in_the_segment_dock_at_once_and_segments(
    viewer, dock, disc_pixels, short, train, saved, wait_idle, wait, told, disc_run
):
    pair = painted_pair(dock, disc_pixels)
    _, segment = viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
    wait(lambda: not segment.is_preloading)
    train(dock)
    for name in ("", " . "):
        dock.keep.name.setText(name)
        dock.keep.button.click()
        wait_idle(dock)
        assert "Give the model a name" in told.pop() and sentence(dock.task_bar._words.text())
    dock.keep.name.setText("my/discs")
    dock.keep.note.setText("bright ones")
    dock.keep.button.click()
    wait_idle(dock)
    project, path = dock.keeper.project, dock.keeper.project.models / "my_discs.safetensors"
    kept, round_model = load_checkpoint(path), load_checkpoint(project.latest_model())
    assert project.record.kept == [str(path)]
    assert kept.state == {} and all(
        torch.equal(weight, round_model.weights[name]) for name, weight in kept.weights.items()
    )
    content, card = kept.content, describe_checkpoint(path).card
    assert content.name == card.title == "my/discs"
    assert card.intended_use == card.description == "bright ones"
    assert "64 as foreground" in card.data and "started from discs" in card.data
    summary = content.summary
    assert (summary.project, summary.round, summary.layers) == ("project", "runs/01", ["disc"])
    assert summary.painted_voxels == {"background": 96, "foreground": 64}
    assert summary.note == "bright ones" and summary.started_from == "discs"
    assert str(path) in [str(model.path) for model in segment.models.models]
    assert str(path) in [choice.checkpoint for choice in dock.start.choices]
    segment.models.open_file(path)
    segment.images.pick(pair.image)
    segment.segment_button.click()
    wait_idle(segment)
    assert np.asarray(viewer.layers["disc · live"].data[-1]).any()
    assert told == []
    dock.keep.button.click()
    wait_idle(dock)
    assert "choose another name" in told.pop() and sentence(dock.task_bar._words.text())
    saved(dock)


# What may go wrong


def test_what_is_missing_is_said_before_anything_begins(viewer, dock, disc_pixels, told, saved):
    def refused() -> str:
        dock.round.train.click()
        assert not dock.actions.is_running and sentence(dock.round.words)
        assert told.pop() == dock.round.words
        return dock.round.words

    assert "Add an image" in refused()
    assert not dock.keeper.folder.exists()
    pair = dock.annotated.add(viewer.add_image(disc_pixels, name="disc"))
    assert "Nothing is painted yet" in refused()
    fill(pair.labels, (0, slice(None)), BACKGROUND)
    assert "Nothing is painted as foreground" in refused()
    fill(pair.labels, (9, slice(None)), FOREGROUND)
    fill(pair.labels, (10, slice(0, 3)), 7)
    assert "painted with 7, which is no class" in refused()
    dock.annotated.set_split("disc", "val")
    assert "Every image is for validation" in refused()
    assert dock.keeper.project.runs() == [] and dock.keeper.project.record.rounds == []
    saved(dock)


@pytest.fixture
def full_disk(monkeypatch) -> None:
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swipe_core.checkpoints.file.save_file", refuse)


@pytest.fixture
def no_memory(monkeypatch) -> None:
    def refuse(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Swipe, "forward", refuse)


@pytest.fixture
def no_numbers(monkeypatch) -> None:
    loss = learner.loss_terms

    def spoilt(*arguments, **options):
        terms = loss(*arguments, **options)
        return replace(terms, total=terms.total * float("nan"))

    monkeypatch.setattr(learner, "loss_terms", spoilt)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("full_disk", "No space left"),
        ("no_memory", "does not hold a single image"),
        ("no_numbers", "not finite at step 3"),
    ],
)
def test_a_round_that_fails_says_why_in_a_sentence(
    dock, disc_pixels, train, told, saved, request, monkeypatch, fault, words
):
    monkeypatch.setattr(suggestion, "MOST_STEPS", 5)
    painted_pair(dock, disc_pixels)
    request.getfixturevalue(fault)
    said = train(dock)
    assert words in said and sentence(said)
    assert told == [said]
    (record,) = dock.keeper.project.record.rounds
    assert (record.state, record.message) == ("failed", said)
    assert dock.round.train.isEnabled() and not dock.round.resume.isEnabled()
    saved(dock)


def test_a_full_disk_is_told_when_what_is_painted_cannot_be_saved_and_all_is_saved_later(
    dock, disc_pixels, monkeypatch, told, saved, wait
):
    pair = painted_pair(dock, disc_pixels)
    saved(dock)
    before = on_disk(dock.keeper.project).labels.array

    def refuse(path, _):
        raise ImageError(f"{path} cannot be written (No space left on device).")

    with monkeypatch.context() as patch:
        patch.setattr("swipe_core.images.write_label_map", refuse)
        fill(pair.labels, (25, slice(0, 9)), BACKGROUND)
        wait(lambda: told)
        saved(dock)
    assert len(told) == 1 and "No space left" in told[0]
    np.testing.assert_array_equal(on_disk(dock.keeper.project).labels.array, before)
    fill(pair.labels, (26, slice(0, 9)), BACKGROUND)
    saved(dock)
    assert (on_disk(dock.keeper.project).labels.array[25:27, :9] == 0).all()


@pytest.mark.parametrize("event", ["labels deleted", "used otherwise"])
def test_a_round_goes_on_whatever_happens_to_the_layers_meanwhile(
    viewer, dock, disc_pixels, monkeypatch, running, wait, saved, told, event
):
    monkeypatch.setattr(suggestion, "MOST_STEPS", 12)
    painted_pair(dock, disc_pixels)
    judged = painted_pair(dock, disc_pixels.T.copy(), "other", "val")
    running(dock)
    fill(judged.labels, (31, slice(0, 9)), BACKGROUND)  # not yet saved when the layer goes
    if event == "used otherwise":
        judged.labels.name, judged.image.name = "these", "those"
        dock.annotated.set_split("other", "train")
        dock.annotate.class_table.addition_requested.emit()
        fill(judged.labels, (30, slice(0, 9)), 3)
    else:
        viewer.layers.remove(getattr(judged, event.split()[0]))
        assert [pair.name for pair in dock.annotated.pairs] == ["disc"]
    wait(lambda: not dock.actions.is_running)
    assert dock.round.words.startswith("Finished after 12 steps") and "best validation" in dock.round.words
    assert told == []
    saved(dock)
    project = Project.open(dock.keeper.project.folder)
    if event == "used otherwise":
        assert len(project.cases("train")) == 2 and project.cases("val") == []
        assert project.pair("other").labels == "these"
        labels = project.read_case("other").labels.array
        assert (labels[31, :9] == 0).all() and (labels[30, :9] == 2).all()
    else:
        assert [pair.name for pair in project.record.pairs] == ["disc"]
        assert len(list((project.folder / "removed").rglob("*.tif"))) == 2


def test_a_layer_that_is_deleted_while_it_is_being_saved_is_no_fault(viewer, dock, disc_pixels, saved, told):
    stack = np.stack([disc_pixels] * 20)
    pair = dock.annotated.add(viewer.add_image(stack, name="stack"))
    saved(dock)
    pair.labels.data_setitem(np.nonzero(np.ones(stack.shape, bool)), BACKGROUND)
    dock.keeper.writer.write(pair)
    assert dock.keeper.writer.is_writing
    dock.annotated.remove(pair.name)
    saved(dock)
    assert told == []
    assert dock.keeper.project.record.pairs == []


def test_a_pair_that_cannot_be_saved_is_named_until_it_is_and_keeps_no_other_unsaved(
    viewer, dock, disc_pixels, told, saved
):
    first, second = (painted_pair(dock, disc_pixels, name) for name in ("first", "second"))
    saved(dock)
    fill(first.labels, (slice(25, 27), slice(0, 9)), 9)
    dock.keeper.writer.write(second)
    fill(second.labels, (30, slice(0, 9)), BACKGROUND)
    saved(dock)
    assert len(told) == 1 and told[0].startswith("first annotation is not saved: The label 9 is painted")
    assert dock.project._faults.text() == told[0]
    assert (on_disk(dock.keeper.project, "second").labels.array[30, :9] == 0).all()
    fill(first.labels, (28, slice(0, 9)), FOREGROUND)  # is told once
    saved(dock)
    assert len(told) == 1
    fill(first.labels, (slice(25, 27), slice(0, 9)), 0)
    saved(dock)
    assert dock.project._faults.text() == "" and dock.keeper.writer.sentences == []
    assert (on_disk(dock.keeper.project, "first").labels.array[28, :9] == 1).all()


def test_an_image_with_nan_keeps_no_other_from_being_saved_when_the_dock_closes(
    viewer, dock, disc_pixels, told, saved, wait
):
    spoilt = disc_pixels.astype(np.float32)
    spoilt[5, 5] = np.nan
    painted_pair(dock, spoilt, "spoilt")
    other = painted_pair(dock, disc_pixels, "other")
    saved(dock)
    fill(other.labels, (30, slice(0, 9)), BACKGROUND)
    project = dock.keeper.project
    told.clear()
    viewer.window.remove_dock_widget(dock)
    wait(nothing_runs)
    assert (on_disk(project, "other").labels.array[30, :9] == 0).all()
    assert [words for words in told if "spoilt" in words] == told and "NaN" in told[0]


@pytest.mark.parametrize("place", ["another project", "files", "the present project"])
def test_a_folder_that_cannot_be_used_leaves_the_present_project_open_and_saving(
    viewer, dock, disc_pixels, told, saved, tmp_path, place
):
    pair = painted_pair(dock, disc_pixels)
    saved(dock)
    project, other = dock.keeper.project, tmp_path / "other"
    if place == "another project":
        Project.create(other)
    elif place == "files":
        other.mkdir()
        (other / "notes.txt").write_text("mine", "utf-8")
    else:
        other = project.folder
    dock.project.moved.emit(other)
    assert len(told) == 1 and sentence(told[0]) and dock.keeper.project is project
    fill(pair.labels, (30, slice(0, 9)), BACKGROUND)
    saved(dock)
    assert len(told) == 1 and (on_disk(project).labels.array[30, :9] == 0).all()


def test_the_image_of_a_pair_is_cropped_and_nothing_is_lost(viewer, dock, disc_pixels, told, saved):
    pair = painted_pair(dock, disc_pixels)
    saved(dock)
    pair.image.data = disc_pixels[:20, :24].copy()
    fill(pair.labels, (30, slice(0, 9)), BACKGROUND)
    saved(dock)
    assert told and all("disc annotation has the shape" in words for words in told)
    assert (on_disk(dock.keeper.project).labels.array[10:18, 12:20] == 1).all()
    pair.labels.data = np.asarray(pair.labels.data)[:20, :24].copy()
    saved(dock)
    assert dock.keeper.writer.sentences == []
    assert on_disk(dock.keeper.project).image.shape == (20, 24)


def test_a_project_whose_labels_were_written_in_other_classes_opens_and_says_so(
    viewer, dock, disc_pixels, saved, wait_idle, monkeypatch
):
    pair = painted_pair(dock, disc_pixels)
    saved(dock)
    project, shown = dock.keeper.project, []
    fill(pair.labels, (25, slice(0, 9)), 9)  # which keeps it from being written anew
    dock.annotate.policy.buttons["background"].click()
    saved(dock)
    dock.keeper.propose(project.folder.with_name("second"))
    dock.annotated.remove(dock.annotated.pairs[0].name)
    viewer.layers.clear()
    monkeypatch.setattr("napari_swipe.qt.task.show_info", shown.append)
    dock.open_project(project.folder)
    wait_idle(dock)
    (back,) = dock.annotated.pairs
    assert dock.annotated.scheme.unpainted == "background"
    assert (back.labels.data == 1).sum() == 64 and (back.labels.data > 1).sum() == 0
    assert len(shown) == 1 and shown[0].startswith("The labels of disc were saved before")


def test_a_case_that_cannot_be_read_stays_in_the_project_and_keeps_no_other_from_opening(
    viewer, dock, disc_pixels, told, saved, wait_idle
):
    for name in ("broken", "whole"):
        painted_pair(dock, disc_pixels, name)
    saved(dock)
    project = dock.keeper.project
    dock.keeper.propose(project.folder.with_name("second"))
    for pair in dock.annotated.pairs:
        dock.annotated.remove(pair.name)
    viewer.layers.clear()
    (path,) = (project.data / "train/labels").glob("broken*")
    path.write_bytes(b"half")
    dock.open_project(project.folder)
    wait_idle(dock)
    assert [pair.name for pair in dock.annotated.pairs] == ["whole"]
    assert told[-1].startswith("broken stays in the project and cannot be shown: ")
    painted_pair(dock, disc_pixels, "broken")
    saved(dock)
    assert path.read_bytes() == b"half"
    names = [record.name for record in Project.open(project.folder).record.pairs]
    assert names == ["broken", "whole", "broken 2"]


# The end


def nothing_runs() -> bool:
    return not _task._running


def test_closing_the_dock_in_the_middle_of_a_round_saves_everything(
    viewer, dock, disc_pixels, running, wait, saved, told, monkeypatch
):
    pair = painted_pair(dock, disc_pixels)
    running(dock)
    fill(pair.labels, (31, slice(0, 9)), BACKGROUND)
    may_save, save = threading.Event(), RunFolder.save
    monkeypatch.setattr(RunFolder, "save", lambda *arguments: may_save.wait(60) and save(*arguments))
    project, gone = dock.keeper.project, []
    dock.destroyed.connect(lambda: gone.append(True))
    (frame,) = [d for d in viewer.window._qt_window.findChildren(QDockWidget) if d.widget() is dock]
    frame.destroyOnClose()
    wait(lambda: gone)
    # At once, while the thread of the other one puts its things in order.
    _, again = viewer.window.add_plugin_dock_widget("napari-swipe", "Train")
    wait(lambda: "Waiting until everything is saved" in again.task_bar._words.text())
    may_save.set()
    wait(lambda: again.annotated.pairs)
    (record,) = again.keeper.project.record.rounds
    assert record.state == "stopped" and record.step >= 1
    assert again.round.resume.isEnabled()
    assert (on_disk(project).labels.array[31, :9] == 0).all()
    last = load_checkpoint(project.runs()[-1] / "last.safetensors")
    assert last.progress["step"] == record.step
    assert not RunFolder(project.runs()[-1]).lock.path.exists()
    assert told == []
    saved(again)


def test_closing_the_dock_in_the_middle_of_a_suggestion_leaves_nothing(
    viewer, dock, disc_pixels, wait, monkeypatch, saved
):
    may_go = threading.Event()
    suggest = suggestion.suggest_fine_tuning

    def slow(*arguments):
        may_go.wait(60)
        return suggest(*arguments)

    monkeypatch.setattr(suggestion, "suggest_fine_tuning", slow)
    painted_pair(dock, disc_pixels)
    wait(lambda: dock._suggesting is not None)
    saved(dock)
    gone = []
    dock.destroyed.connect(lambda: gone.append(True))
    viewer.window.remove_dock_widget(dock)
    wait(lambda: gone)
    may_go.set()
    wait(nothing_runs)  # what came of it reaches no widget that is gone: it would raise


@pytest.mark.parametrize("how", ["by the user", "by a script"])
def test_closing_the_window_in_the_middle_of_a_round_saves_everything(
    make_napari_viewer, opened, disc_pixels, running, wait, tmp_path, how
):
    viewer = make_napari_viewer(show=True)
    dock = opened(viewer)
    dock.keeper.propose(tmp_path / "project")
    pair = painted_pair(dock, disc_pixels)
    running(dock)
    fill(pair.labels, (31, slice(0, 9)), BACKGROUND)
    if how == "by the user":
        viewer.window._qt_window.close()
    else:
        viewer.close()  # which deletes all layers first
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    if how == "by the user":
        del viewer.window._qt_window  # what is gone is not to be closed again
    WorkerBase.await_workers(PATIENCE)
    wait(nothing_runs)
    project = Project.open(tmp_path / "project")
    assert project.record.rounds[0].state == "stopped"
    assert (project.read_case("disc").labels.array[31, :9] == 0).all()
    assert project.folder not in _project_keeper._folders_in_use.values()


def test_a_window_that_a_script_closes_takes_nothing_out_of_the_project(
    make_napari_viewer, opened, disc_pixels, saved, wait, tmp_path
):
    viewer = make_napari_viewer(show=True)
    dock = opened(viewer)
    dock.keeper.propose(tmp_path / "project")
    painted_pair(dock, disc_pixels)
    deleted = painted_pair(dock, disc_pixels, "other")
    saved(dock)
    viewer.layers.remove(deleted.image)
    wait(lambda: len(dock.keeper.project.record.pairs) == 1)  # for this is what the user wants
    viewer.close()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    WorkerBase.await_workers(PATIENCE)
    wait(nothing_runs)
    assert len(Project.open(tmp_path / "project").cases("train")) == 1


# The window's own thread

# Files and functions in them that take long where images or networks are large.
HEAVY = {
    "swipe_core/images": {"read_image", "read_label_map", "write_image", "write_label_map"},
    "swipe_core/checkpoints/file.py": {"load_checkpoint", "save_checkpoint"},
    "swipe_core/project/case_files.py": {"write"},
    "swipe_core/training/runner.py": {"__init__", "run", "predictor"},
    "swipe_core/training/folder.py": {"records"},
    "swipe_core/training/suggestion.py": {"summarise", "suggest_fine_tuning"},
    "swipe_core/networks/swipe/swipe.py": {"forward", "__init__"},
    "swipe_core/networks/swipe/build.py": {"build_swipe"},
    "swipe_core/prediction/predictor.py": {"load", "iter_field"},
    "napari_swipe/project/snapshot.py": {"labelled", "iter_write"},
    "napari_swipe/train/job.py": {"configured"},
}


def test_nothing_heavy_is_done_in_the_thread_of_the_window(
    viewer, dock, opened, disc_pixels, short, often, train, saved, wait_idle, wait, monkeypatch
):
    called: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}

    names = frozenset().union(*HEAVY.values())

    def watch(frame, event, _) -> None:
        if event != "call" or frame.f_code.co_name not in names:
            return
        file, name = frame.f_code.co_filename.replace("\\", "/"), frame.f_code.co_name
        for part, parts in HEAVY.items():
            if name in parts and part in file:
                called[threading.current_thread() is threading.main_thread()].add((part, name))

    outcome = _task.Task._outcome

    def watched(task):
        sys.setprofile(watch)
        return outcome(task)

    monkeypatch.setattr(_task.Task, "_outcome", watched)
    sys.setprofile(watch)
    try:
        painted_pair(dock, disc_pixels)
        painted_pair(dock, disc_pixels.T.copy(), "other", "val")
        train(dock)
        dock.correct.predict.click()
        wait_idle(dock)
        dock.keep.name.setText("discs")
        dock.keep.button.click()
        wait_idle(dock)
        saved(dock)
        viewer.window.remove_dock_widget(dock)
        viewer.layers.clear()
        again = opened(viewer)
        wait(lambda: len(again.annotated.pairs) == 2)
        train(again, "resume")
        saved(again)
    finally:
        sys.setprofile(None)
    assert called[True] == set()
    seen = {(part, name) for part, names in HEAVY.items() for name in names}
    # The test sees what it should: most of it happened, elsewhere.
    assert len(called[False]) > 0.7 * len(seen)


def test_the_bar_of_a_round_follows_what_ends_it_and_not_only_its_steps(qtbot):
    panel = RoundPanel()
    qtbot.addWidget(panel)
    panel.begin()
    panel.show_state(RUNNING)
    panel.show_report(TrainingProgress("Training", 90, 30_000, minutes=1.0, minutes_left=2.0))
    assert panel.words == "Step 90, about 2 min left"
    assert panel.findChild(QProgressBar).value() == 333
    panel.show_report(TrainingProgress("Training", 270, 30_000, minutes=3.0, minutes_left=0.0))
    assert panel.words == "Coming to an end …" and panel.findChild(QProgressBar).value() == 1000
