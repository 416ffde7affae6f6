"""Paint and see: strokes in a real viewer are answered without a button, and the answer can be kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_swipe._settings import Preferences
from napari_swipe.train import answer
from napari_swipe.train import widget as _train_widget
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.progress import finish
from swipe_core.training import suggestion

PATIENCE = 60_000  # milliseconds; only a hang comes near it
BACKGROUND, DISC = 1, 2  # as they are painted


@pytest.fixture
def wait(qtbot) -> Callable[[Callable[[], object]], None]:
    return lambda condition: qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE)


@pytest.fixture
def dock(viewer, wait, tmp_path: Path, monkeypatch):
    """The Train dock, with its answers on."""
    preferences = Preferences(project_folder=tmp_path / "projects", device="cpu")
    monkeypatch.setattr(_train_widget, "read_preferences", lambda: preferences)
    _, dock = viewer.window.add_plugin_dock_widget("napari-swipe", "Train")
    wait(lambda: not dock.is_preloading)
    dock.answer.live.setChecked(True)
    return dock


def stroke(labels: Labels, rows: slice, columns: slice, label: int) -> None:
    """Paint a box of the last two axes, in the middle of the others."""
    mask = np.zeros(labels.data.shape, bool)
    mask[(*(n // 2 for n in labels.data.shape[:-2]), rows, columns)] = True
    labels.data_setitem(np.nonzero(mask), label)


def stroke_each_class(labels: Labels) -> None:
    stroke(labels, slice(0, 3), slice(None), BACKGROUND)
    stroke(labels, slice(10, 18), slice(12, 20), DISC)


def seen(dock, image: Image) -> np.ndarray:
    """The classes on the voxels of the image, as its live layer has them."""
    return next(iter(dock.answers.layer_of(image).pyramid.field.fields.values())).render().array


def answered(dock, wait) -> None:
    wait(lambda: not dock.annotated.is_pending and not dock.answers.is_busy)


def test_strokes_are_answered_corrected_and_kept(viewer, dock, wait, disc_pixels, tmp_path):
    image = viewer.add_image(disc_pixels)
    labels = dock.annotated.add(image).labels
    stroke(labels, slice(0, 3), slice(None), BACKGROUND)
    answered(dock, wait)
    assert dock.answers.layer_of(image) is None and "a stroke of each class" in dock.answer.words
    stroke(labels, slice(10, 18), slice(12, 20), DISC)
    answered(dock, wait)
    disc = disc_pixels > 120
    found = seen(dock, image) == 1
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.85
    live = dock.answers.layer_of(image)
    assert viewer.layers.selection.active is labels
    stroke(labels, slice(6, 24), slice(8, 27), BACKGROUND)  # a disc is not what is wanted any more
    stroke(labels, slice(26, 30), slice(2, 30), DISC)
    answered(dock, wait)
    assert dock.answers.layer_of(image) is live and seen(dock, image)[14, 17] == 0
    dock.keep_model("mine", "")
    kept = tmp_path / "projects"
    wait(lambda: list(kept.rglob("mine.safetensors")))
    wait(lambda: not dock.task_bar.is_busy)
    assert describe_checkpoint(next(kept.rglob("mine.safetensors"))).network_title == "Pixel classifier"


def test_the_answer_becomes_labels_that_are_corrected(viewer, dock, wait, disc_pixels):
    image = viewer.add_image(disc_pixels)
    old = dock.annotated.add(image).labels
    stroke_each_class(old)
    answered(dock, wait)
    found = seen(dock, image)
    assert dock.correct.predict.isEnabled()
    dock.correct.predict.click()
    wait(lambda: not dock.task_bar.is_busy)
    (pair,) = dock.annotated.pairs
    assert pair.labels is not old and not old.visible
    assert not dock.answers.layer_of(image).layer.visible
    np.testing.assert_array_equal(pair.labels.data, found + 1)


def test_a_round_from_nothing_is_taught_by_the_answer_where_nothing_is_painted(
    viewer, dock, wait, disc_pixels, monkeypatch
):
    monkeypatch.setattr(suggestion, "MOST_STEPS", 2)
    labels = dock.annotated.add(viewer.add_image(disc_pixels)).labels
    stroke(labels, slice(0, 3), slice(None), BACKGROUND)
    assert dock.actions.job().teacher is None
    stroke(labels, slice(10, 18), slice(12, 20), DISC)
    answered(dock, wait)
    wait(lambda: dock.actions.suggestion is not None and dock.actions.suggestion.is_taught)
    dock.round.train.click()
    wait(lambda: not dock.actions.is_running)
    (record,) = dock.keeper.project.record.rounds
    assert Path(record.started_from) == dock.keeper.project.folder / "answer.safetensors"
    (run,) = dock.keeper.project.runs()
    last = load_checkpoint(run / "last.safetensors")
    assert (last.content.model.network, last.progress["teacher"]["network"]) == ("swipe", "pixel_classifier")
    assert dock.actions.job().teacher is None  # the last round knows more


def test_an_image_without_an_answer_cannot_become_labels_before_a_round(
    viewer, dock, wait, disc_pixels, errors
):
    labels = dock.annotated.add(viewer.add_image(disc_pixels)).labels
    stroke_each_class(labels)
    answered(dock, wait)
    dock.correct.images.pick(viewer.add_image(disc_pixels, name="another"))
    dock.correct.predict.click()
    assert len(errors) == 1 and "Paint on another" in errors[0]


def test_a_stroke_that_is_undone_does_not_count(viewer, dock, wait, disc_pixels):
    image = viewer.add_image(disc_pixels)
    labels = dock.annotated.add(image).labels
    stroke_each_class(labels)
    answered(dock, wait)
    stroke(labels, slice(24, 30), slice(None), DISC)
    answered(dock, wait)
    assert "foreground (256)" in dock.answer.words
    labels.undo()
    answered(dock, wait)
    assert "foreground (64)" in dock.answer.words


def test_a_volume_is_answered_in_all_its_slices(viewer, dock, wait, disc_pixels):
    image = viewer.add_image(np.stack([disc_pixels] * 5))
    labels = dock.annotated.add(image).labels
    dock.annotated.set_ndim(3)
    stroke_each_class(labels)
    answered(dock, wait)
    assert seen(dock, image)[[0, 4], 14, 17].tolist() == [1, 1]
    assert answer.TEACHES not in dock.answer.words  # which it does on images alone


def test_images_of_another_kind_begin_anew(viewer, dock, disc_pixels):
    dock.answer.live.setChecked(False)
    learner, known = None, []
    for image in (disc_pixels, disc_pixels[::-1].copy(), np.stack([disc_pixels] * 3, axis=-1)):
        pair = dock.annotated.add(viewer.add_image(image, rgb=image.ndim == 3))
        stroke_each_class(pair.labels)
        found = finish(answer.iter_answer(learner, dock.keeper.writer.snapshots(), lambda: False))
        known.append(found.learner is learner)
        learner = found.learner
        dock.annotated.remove(pair.name)
    assert known == [False, True, False]


def test_images_that_are_too_large_are_not_even_read(viewer, dock, wait, disc_pixels, monkeypatch):
    monkeypatch.setattr(answer, "MOST_VOXELS", 1000)
    monkeypatch.setattr(answer, "iter_answer", None)
    dock.annotated.add(viewer.add_image(disc_pixels))
    answered(dock, wait)
    assert dock.answer.words == answer.TOO_LARGE


def test_switched_off_nothing_is_learned(viewer, dock, wait, disc_pixels):
    dock.answer.live.setChecked(False)
    image = viewer.add_image(disc_pixels)
    labels = dock.annotated.add(image).labels
    stroke_each_class(labels)
    answered(dock, wait)
    assert dock.answers.checkpoint is None and not dock.keep.button.isEnabled()
