"""The figure script writes one picture, and says in one line why it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tiny_networks import TINY

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.cli import main as swipe
from swipe_core.data.cases import find_cases
from swipe_core.images import read_image
from swipe_core.networks.registry import KINDS, build_network


@pytest.fixture(scope="module")
def module(load_script):
    return load_script("figures")


@pytest.fixture(scope="module")
def checkpoint(disc_run) -> str:
    return str(disc_run / "best.safetensors")


@pytest.fixture(scope="module")
def unet_checkpoint(tiny_config, tmp_path_factory) -> str:
    """An untrained network of another kind for the same images."""
    content = tiny_config().checkpoint_content()
    network = KINDS["unet"].config(channels=content.model.channels, **TINY["unet", 2])
    path = tmp_path_factory.mktemp("unet") / "unet.safetensors"
    weights = build_network(network).state_dict()
    save_checkpoint(path, Checkpoint(content.model_copy(update={"model": network}), weights))
    return str(path)


@pytest.fixture(scope="module")
def image(disc_folder) -> str:
    return str(disc_folder / "val" / "images" / "disc.png")


def test_each_kind_becomes_a_picture(module, checkpoint, image, disc_folder, tmp_path, capsys):
    for kind, source in (("zoom", image), ("attention", image), ("cases", str(disc_folder))):
        target = tmp_path / "new" / f"{kind}.png"
        assert swipe(["figures", kind, checkpoint, source, "--output", str(target), "--device", "cpu"]) == 0
        assert capsys.readouterr().out == f"{target}\n"
        assert read_image(target).channels == 3


def test_shares_are_drawn_from_what_the_checkpoints_tell(module, checkpoint, tmp_path, monkeypatch):
    drawn = []
    original = module.write_lines
    monkeypatch.setattr(module, "write_lines", lambda *a: (drawn.append(a[0]), original(*a)))
    target = tmp_path / "shares.png"
    assert swipe(["figures", "shares", checkpoint, checkpoint, "--output", str(target)]) == 0
    summary = load_checkpoint(checkpoint).content.summary
    (points,) = drawn[0].values()
    assert points == [(summary.training_cases, summary.best_dice)] * 2
    assert read_image(target).channels == 3


def test_shares_need_checkpoints_that_were_validated(module, checkpoint, tmp_path, error_line):
    loaded = load_checkpoint(checkpoint)
    summary = loaded.content.summary.model_copy(update={"best_dice": None})
    content = loaded.content.model_copy(update={"summary": summary})
    save_checkpoint(tmp_path / "blind.safetensors", replace(loaded, content=content))
    command = ["shares", str(tmp_path / "blind.safetensors"), "--output", str(tmp_path / "shares.png")]
    assert swipe(["figures", *command]) == 2
    assert "does not tell its training cases and its validation Dice." in error_line()


def test_cases_are_those_of_the_split_trained_with(
    module, seeded_checkpoint, disc_folder, tmp_path, monkeypatch
):
    asked = []

    def recorded(folder, split, seed):
        asked.append(seed)
        return find_cases(folder, split, seed)

    monkeypatch.setattr(module, "find_cases", recorded)
    command = ["cases", seeded_checkpoint, str(disc_folder), "--output", str(tmp_path / "cases.png")]
    assert swipe(["figures", *command, "--device", "cpu"]) == 0
    assert asked == [7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["zoom", "CHECKPOINT", "IMAGE", "--width", "0"], "--width must be 1 or more; got 0"),
        (["cases", "CHECKPOINT", "DATA", "--count", "-1"], "--count must be 1 or more; got -1"),
        (["zoom", "none.safetensors", "IMAGE"], "There is no checkpoint none.safetensors"),
        (["zoom", "CHECKPOINT", "none.png"], "none.png does not exist"),
        (["cases", "CHECKPOINT", "nowhere"], "There is no folder nowhere"),
        (["attention", "UNET", "IMAGE"], "has no attention to show"),
        (["runs", "nowhere"], "nowhere holds no run with validations"),
    ],
)
def test_a_mistake_is_named(
    module, checkpoint, unet_checkpoint, image, disc_folder, tmp_path, error_line, arguments, said
):
    places = {
        "CHECKPOINT": checkpoint,
        "UNET": unet_checkpoint,
        "IMAGE": image,
        "DATA": str(disc_folder),
    }
    target = tmp_path / "picture.png"
    arguments = [places.get(argument, argument) for argument in arguments]
    device = [] if arguments[0] == "runs" else ["--device", "cpu"]
    assert swipe(["figures", *arguments, "--output", str(target), *device]) == 2
    assert said in error_line()
    assert not target.exists()


def test_the_attention_of_a_volume_is_drawn_in_a_slice(module, volume_checkpoint, tmp_path, capsys):
    source, target = tmp_path / "volume.nii.gz", tmp_path / "attention.png"
    nibabel.save(nibabel.Nifti1Image(np.arange(24**3, dtype=np.int16).reshape(24, 24, 24), np.eye(4)), source)
    words = ["attention", str(volume_checkpoint), str(source), "--output", str(target), "--device", "cpu"]
    assert swipe(["figures", *words]) == 0
    assert read_image(target, ndim=2).array.std() > 0
    said = capsys.readouterr().err
    assert said.count("the axes of images are taken as they are stored") == 1 and "UserWarning" not in said


def test_runs_are_drawn_as_lines_of_their_validations(module, disc_run, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(module, "write_lines", lambda series, *_: drawn.update(series))
    assert swipe(["figures", "runs", str(disc_run), "--output", str(tmp_path / "runs.png")]) == 0
    ((name, points),) = drawn.items()
    assert name == "disc" and len(points) == 1 and points[0][0] > 0 and points[0][1] > 0.9


def test_a_picture_that_cannot_be_written_is_named(module, checkpoint, image, tmp_path, error_line):
    (tmp_path / "file").write_text("", "utf-8")
    target = tmp_path / "file" / "zoom.png"
    assert swipe(["figures", "zoom", checkpoint, image, "--output", str(target), "--device", "cpu"]) == 2
    assert str(target) in error_line()


def test_a_full_disk_is_named(module, checkpoint, image, tmp_path, error_line, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    target = tmp_path / "zoom.png"
    assert swipe(["figures", "zoom", checkpoint, image, "--output", str(target), "--device", "cpu"]) == 2
    assert "No space left on device" in error_line()


def test_ctrl_c_ends_with_one_line(module, checkpoint, image, tmp_path, capsys, interrupt):
    interrupt(module, "zoom_sheet")
    target = tmp_path / "zoom.png"
    assert swipe(["figures", "zoom", checkpoint, image, "--output", str(target), "--device", "cpu"]) == 130
    assert capsys.readouterr().err == "stopped; no picture is written\n"
    assert not target.exists()
