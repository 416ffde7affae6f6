"""Laws of looking at a training: it changes nothing, costs little, and never ends it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.coordinates import Affine, Grid
from swipe_core.data.cases import find_cases
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage, read_image
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, finish
from swipe_core.training import preview as preview_module
from swipe_core.training.preview import Preview, Previewer, View
from swipe_core.training.runner import Trainer


class Ticking:
    """A clock by which every look at it takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def cases(disc_folder):
    return find_cases(disc_folder, "train")


@pytest.fixture
def image(cases) -> MedicalImage:
    return read_image(cases[0].image_path)


def watched(trainer: Trainer, previewer: Previewer) -> list:
    reports: list = []
    finish(previewer.iter_run(trainer, trainer.run()), reports.append)
    return reports


def often(monkeypatch) -> None:
    monkeypatch.setattr(preview_module, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(preview_module, "REST", 0.0)


@pytest.mark.parametrize("averaging", [0, 10])
def test_a_training_that_is_looked_at_learns_the_same_bit_for_bit(
    cases, image, tiny_config, tmp_path, monkeypatch, averaging
):
    often(monkeypatch)
    config = tiny_config({"training.steps": 4, "training.averaging_steps": averaging})
    alone = Trainer(config, cases, cases, tmp_path / "alone")
    finish(alone.run())
    seen = Trainer(config, cases, cases, tmp_path / "seen")
    reports = watched(seen, Previewer(lambda: View(image, image.grid)))
    assert sum(isinstance(report, Preview) for report in reports) == 4
    first, second = (load_checkpoint(run.folder.last) for run in (alone, seen))
    for one, two in ((first.weights, second.weights), (first.state, second.state)):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_preview_shows_what_the_kept_network_makes_of_the_view(cases, image, tiny_config, tmp_path):
    trainer = Trainer(tiny_config({"training.steps": 2}), cases, [], tmp_path)
    grid = image.grid.window((8, 10), (12, 9)).scaled(2.0)
    reports = watched(trainer, Previewer(lambda: View(image, grid)))
    previews = [report for report in reports if isinstance(report, Preview)]
    assert [seen.step for seen in previews] == [1]  # then it rests for longer than this run takes
    assert previews[0].labels.shape == (24, 18) and previews[0].labels.affine == grid.affine


def test_looks_come_so_seldom_that_they_take_less_than_a_tenth_of_the_time(
    cases, image, tiny_config, tmp_path
):
    trainer = Trainer(tiny_config({"training.steps": 60}), cases, [], tmp_path)
    clock = Ticking()
    # A look takes about a second of this clock, every report one more.
    reports = watched(trainer, Previewer(lambda: View(image, image.grid), clock))
    looks = sum(isinstance(report, Preview) for report in reports)
    assert 2 <= looks <= 60 / preview_module.REST + 1


def test_what_cannot_be_seen_is_said_once_and_does_not_end_the_run(cases, tiny_config, tmp_path, monkeypatch):
    often(monkeypatch)
    volume = MedicalImage(np.zeros((4, 4, 4, 1), np.uint8), Affine.identity(3), "pixel")
    trainer = Trainer(tiny_config({"training.steps": 3}), cases, [], tmp_path)
    reports = watched(trainer, Previewer(lambda: View(volume, volume.grid)))
    told = [report.message for report in reports if isinstance(report, Notice)]
    assert trainer.step == 3
    assert len([message for message in told if "no preview" in message]) == 1


def test_a_view_that_cannot_be_read_does_not_end_the_run_either(cases, tiny_config, tmp_path):
    def view() -> View:
        raise ImageError("The layer has gone.")

    trainer = Trainer(tiny_config({"training.steps": 3}), cases, [], tmp_path)
    reports = watched(trainer, Previewer(view))
    assert trainer.step == 3
    assert any(isinstance(report, Notice) and "The layer has gone" in report.message for report in reports)


def test_closing_a_watched_run_saves_it(cases, image, tiny_config, tmp_path):
    trainer = Trainer(tiny_config({"training.steps": 50}), cases, [], tmp_path)
    run = Previewer(lambda: View(image, image.grid)).iter_run(trainer, trainer.run())
    for report in run:
        if isinstance(report, Preview):
            break
    run.close()
    assert load_checkpoint(tmp_path / "last.safetensors").progress["step"] == trainer.step > 0


def test_of_a_large_image_only_the_windows_in_view_are_encoded(tiny_config, disc_run):
    checkpoint = load_checkpoint(disc_run / "best.safetensors")
    content = checkpoint.content.model_copy(
        update={"preprocessing": checkpoint.content.preprocessing.model_copy(update={"crop_size": (16, 16)})}
    )
    predictor = Predictor(checkpoint.build(), content)
    image = MedicalImage(
        np.random.default_rng(0).integers(0, 200, (96, 96, 1), dtype=np.uint8), Affine.identity(2), "pixel"
    )
    whole = predictor.field(image)
    from swipe_core.data.preprocessing import preprocess

    prepared = preprocess(image, content.preprocessing)
    view = image.grid.window((40, 50), (10, 12))
    part = finish(predictor.iter_encoded(prepared, image.grid, view))
    assert 0 < len(part.windows) < len(whole.windows) / 4
    np.testing.assert_allclose(
        part.logits(view.centres_world()), whole.logits(view.centres_world()), atol=1e-4
    )
    beyond = Grid((2, 2), Affine.from_spacing((1.0, 1.0), (1000.0, 1000.0)))
    assert len(finish(predictor.iter_encoded(prepared, image.grid, beyond)).windows) == len(whole.windows)
