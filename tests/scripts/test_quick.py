"""`swipe quick`: from strokes in files to a model that other commands take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.cli import main as swipe
from swipe_core.data.labels import IGNORED


@pytest.fixture
def disc_pixels() -> np.ndarray:
    rows, columns = np.mgrid[:32, :32]
    noise = np.random.default_rng(0).normal(60, 10, (32, 32))
    return (noise + 120 * (np.hypot(rows - 14, columns - 17) < 8.5)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def scribbled(tmp_path: Path, disc_pixels: np.ndarray) -> Path:
    """A folder with the disc and a stroke of each class on it."""
    labels = np.full(disc_pixels.shape, IGNORED, np.uint8)
    labels[:3], labels[10:18, 12:20] = 0, 1
    for name, array in (("images", disc_pixels), ("labels", labels)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / "data" / name / "disc.png")
    return tmp_path / "data"


def test_strokes_become_a_model_that_segments(scribbled, tmp_path, disc_pixels):
    model = tmp_path / "mine.safetensors"
    assert swipe(["quick", str(scribbled), "--classes", "disc", "--output", str(model)]) == 0
    content = load_checkpoint(model).content
    assert content.labels.class_names == ("disc",) and content.labels.ignore_label == IGNORED
    assert content.summary.painted_voxels == {"background": 96, "disc": 64}
    image, output = scribbled / "images" / "disc.png", tmp_path / "output"
    assert swipe(["predict", str(model), str(image), "--output", str(output)]) == 0
    found = np.array(Image.open(output / "disc.png")) == 1
    disc = disc_pixels > 120
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.85


def test_numbers_of_objects_are_one_class(scribbled, tmp_path):
    path = scribbled / "labels" / "disc.png"
    Image.fromarray(np.arange(32, dtype=np.uint8).repeat(32).reshape(32, 32)).save(path)
    model = tmp_path / "mine.safetensors"
    assert swipe(["quick", str(scribbled), "--output", str(model)]) == 0
    assert load_checkpoint(model).content.labels.instances


def test_one_stroke_in_each_object_tells_touching_ones_apart(tmp_path):
    """Discs that touch in pairs, of which each has a stroke with a number of its own."""
    rows, columns = np.mgrid[:64, :96]
    centres = [(16, 16), (16, 33), (46, 50), (46, 67)]
    inside = [np.hypot(rows - y, columns - x) < 9 for y, x in centres]
    noise = np.random.default_rng(0).normal(60, 10, rows.shape)
    image = (noise + 120 * np.any(inside, axis=0)).clip(0, 255).astype(np.uint8)
    labels = np.full(image.shape, IGNORED, np.uint8)
    labels[:3], labels[30:32] = 0, 0
    for number, (y, x) in enumerate(centres, start=1):
        labels[y - 1 : y + 1, x - 5 : x + 5] = number
    for name, array in (("images", image), ("labels", labels)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / "data" / name / "discs.png")
    model, output = tmp_path / "mine.safetensors", tmp_path / "output"
    assert swipe(["quick", str(tmp_path / "data"), "--instances", "--output", str(model)]) == 0
    content = load_checkpoint(model).content
    assert content.labels.instances and content.inference.touching == "distance"
    assert content.summary.painted_voxels["object"] == 80
    path = tmp_path / "data" / "images" / "discs.png"
    assert swipe(["predict", str(model), str(path), "--instances", "--output", str(output)]) == 0
    written = output / "discs_objects.png"
    found = np.array(Image.open(written))
    numbers = [found[y, x] for y, x in centres]
    assert len(set(numbers)) == 4 and 0 not in numbers


def test_a_class_without_a_name_is_refused_in_a_sentence(scribbled, tmp_path, error_line):
    labels = np.full((32, 32), IGNORED, np.uint8)
    labels[0], labels[5], labels[9] = 0, 1, 2
    Image.fromarray(labels).save(scribbled / "labels" / "disc.png")
    words = [str(scribbled), "--classes", "disc", "--output", str(tmp_path / "x.safetensors")]
    assert swipe(["quick", *words]) == 2
    assert "give 2 names to --classes" in error_line()


def test_strokes_of_one_class_alone_are_refused_in_a_sentence(scribbled, tmp_path, error_line):
    labels = np.full((32, 32), IGNORED, np.uint8)
    labels[4] = 1
    Image.fromarray(labels).save(scribbled / "labels" / "disc.png")
    assert swipe(["quick", str(scribbled), "--output", str(tmp_path / "x.safetensors")]) == 2
    assert "Paint at least two classes" in error_line()
