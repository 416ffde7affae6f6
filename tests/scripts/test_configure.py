"""`swipe configure`: what it writes can be trained with as it is, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from swipe_core.cli import main as swipe
from swipe_core.training.config import load_config


def test_a_new_network_is_configured_for_the_data_and_can_be_trained(disc_folder, tmp_path):
    path = tmp_path / "mine.yaml"
    words = [
        "quick",
        "--data",
        str(disc_folder),
        "--classes",
        "disc",
        "--minutes",
        "5",
        "--output",
        str(path),
    ]
    assert swipe(["configure", *words]) == 0
    config = load_config(path)
    assert config.name == "mine" and config.labels.class_names == ("disc",)
    assert config.preprocessing.crop_size == (32, 32) and config.training.validate_minutes == 0.5
    run = [str(path), "--data", str(disc_folder), "--output", str(tmp_path / "run"), "--training.steps", "1"]
    assert swipe(["train", *run]) == 0


def test_another_network_is_configured_by_its_name_and_can_be_trained(disc_folder, tmp_path):
    path = tmp_path / "mine.yaml"
    words = ["--data", str(disc_folder), "--classes", "disc", "--output", str(path)]
    assert swipe(["configure", "quick", "--network", "unet", *words]) == 0
    config = load_config(path)
    assert config.model.network == "unet" and config.model.widths == (16, 32, 64, 128)
    run = [str(path), "--data", str(disc_folder), "--output", str(tmp_path / "run"), "--training.steps", "1"]
    assert swipe(["train", *run]) == 0
    tuned = tmp_path / "tuned.yaml"
    model = tmp_path / "run" / "best.safetensors"
    assert swipe(["configure", "--from", str(model), *words[:-1], str(tuned)]) == 0
    assert load_config(tuned).model == config.model


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "nuclei", "--network", "unet"], "a model goes on with the network it has"),
        (["quick", "--network", "unetr"], "UNETR is for 3D images, and these are 2D: choose SwIPE"),
    ],
)
def test_a_network_that_does_not_go_with_the_rest_is_refused_in_a_sentence(
    disc_folder, tmp_path, capsys, words, said
):
    output = tmp_path / "x.yaml"
    rest = ["--data", str(disc_folder), "--classes", "disc", "--output", str(output)]
    assert swipe(["configure", *words, *rest]) == 2
    assert said in capsys.readouterr().err and not output.exists()


def test_a_model_to_go_on_from_gives_its_network_and_its_preprocessing(disc_folder, disc_run, tmp_path):
    path, model = tmp_path / "tune.yaml", disc_run / "best.safetensors"
    words = ["--from", str(model), "--data", str(disc_folder), "--classes", "disc", "--output", str(path)]
    assert swipe(["configure", *words, "--sparse"]) == 0
    config = load_config(path)
    assert config.model.embedding_width == 16 and config.preprocessing.intensity == "standardise"
    assert config.labels.ignore_label == 255 and config.loss.retention_weight > 0
    run = [str(path), "--data", str(disc_folder), "--output", str(tmp_path / "run"), "--training.steps", "1"]
    assert swipe(["train", *run, "--from", str(model)]) == 0


def test_the_answer_to_strokes_teaches_swipe(tmp_path):
    data, model, path = label_files(tmp_path / "data", 1), tmp_path / "a.safetensors", tmp_path / "mine.yaml"
    labels = np.full((32, 32), 255, np.uint8)
    labels[0, :], labels[10:14, 10:18] = 0, 1
    (data / "labels" / "0.png").unlink()
    tifffile.imwrite(data / "labels" / "0.tif", labels)
    assert swipe(["quick", str(data), "--output", str(model)]) == 0
    words = ["--from", str(model), "--data", str(data), "--classes", "foreground", "--sparse"]
    assert swipe(["configure", *words, "--output", str(path)]) == 0
    config = load_config(path)
    assert config.model.network == "swipe" and config.loss.retention_weight > 0
    run = [str(path), "--data", str(data), "--output", str(tmp_path / "run"), "--training.steps", "1"]
    assert swipe(["train", *run, "--from", str(model)]) == 0


@pytest.mark.parametrize("start", [[], ["quick", "--from", "nuclei"]])
def test_either_a_preset_or_a_model_must_be_given(disc_folder, tmp_path, capsys, start):
    words = [*start, "--data", str(disc_folder), "--classes", "disc", "--output", str(tmp_path / "x.yaml")]
    assert swipe(["configure", *words]) == 2
    assert "Give either a preset" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_refused_in_a_sentence(disc_folder, tmp_path, capsys):
    output = str(tmp_path / "nowhere" / "x.yaml")
    assert (
        swipe(["configure", "quick", "--data", str(disc_folder), "--classes", "disc", "--output", output])
        == 2
    )
    assert "cannot be written" in capsys.readouterr().err


def label_files(folder: Path, *numbers: int) -> Path:
    """A data set in which every case has a box of one of the numbers."""
    for case, number in enumerate(numbers):
        for kind, value in (("images", 200), ("labels", number)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            array = np.zeros((32, 32), np.uint8)
            array[8:20, 8:20] = value
            Image.fromarray(array).save(folder / kind / f"{case}.png")
    return folder


@pytest.mark.parametrize(
    ("numbers", "classes", "code", "said"),
    [
        ([255] * 5, ["disc"], 0, "one class is named: 255 is read as disc."),
        ([255] * 5, ["disc", "ring"], 2, "a mask of 0 and 255, and 2 classes are named: name a single class"),
        ([128] * 5, ["disc"], 2, "or set labels.instances where all numbers but 0 are one class"),
        (
            [3] * 5,
            ["a", "b", "c"],
            0,
            "No training case of 3 holds a voxel of a or b, which cannot",
        ),
        ([0] * 5, ["disc"], 2, "No training case of 3 holds a voxel of disc: mark what is to be learned"),
    ],
)
def test_what_the_label_files_lack_is_told_before_anything_is_trained(
    tmp_path, capsys, numbers, classes, code, said
):
    output, data = tmp_path / "x.yaml", label_files(tmp_path / "data", *numbers)
    assert (
        swipe(["configure", "quick", "--data", str(data), "--classes", *classes, "--output", str(output)])
        == code
    )
    printed = capsys.readouterr().err
    assert printed.count(said) == 1 and "ignore_label" not in printed
    assert output.exists() == (code == 0)
