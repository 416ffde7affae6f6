"""Models that a user added are found by name, and never replace those that ship with the package."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.checkpoints.library import (
    add_checkpoint,
    added_checkpoints,
    bundled_checkpoints,
    file_digest,
    find_checkpoint,
    named_checkpoints,
    remove_checkpoint,
)
from swipe_core.checkpoints.sharing import LICENCES
from swipe_core.cli import main as swipe
from swipe_core.errors import CheckpointError

NUCLEI = bundled_checkpoints()["nuclei"]


@pytest.fixture(autouse=True)
def library(monkeypatch, tmp_path):
    monkeypatch.setenv("SWIPE_MODELS", str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "cells"
    folder.mkdir(parents=True)
    for name in ("best", "last"):
        shutil.copyfile(NUCLEI, folder / f"{name}.safetensors")
    return folder


def test_an_added_model_is_found_by_its_name_and_gone_after_removal(run):
    path = add_checkpoint(run)  # the folder of a run
    assert path.stem == "cells" and find_checkpoint("cells") == path == added_checkpoints()["cells"]
    assert file_digest(path) == file_digest(NUCLEI)
    assert load_checkpoint(path).digest == load_checkpoint(NUCLEI).digest
    remove_checkpoint("cells")
    assert named_checkpoints() == bundled_checkpoints()
    with pytest.raises(CheckpointError, match="There is no checkpoint cells"):
        find_checkpoint("cells")


def test_a_model_that_ships_is_neither_replaced_nor_removed(run, library):
    with pytest.raises(CheckpointError, match="There is a model nuclei already: .*--name"):
        add_checkpoint(NUCLEI)
    with pytest.raises(CheckpointError, match="comes with the program, and stays"):
        remove_checkpoint("nuclei")
    library.mkdir()
    shutil.copyfile(NUCLEI, library / "polyp.safetensors")  # put there by hand
    assert find_checkpoint("polyp") == bundled_checkpoints()["polyp"]


@pytest.mark.parametrize("name", ["../liver", "a/b", ".hidden"])
def test_a_name_never_leads_out_of_the_library(run, name):
    with pytest.raises(CheckpointError, match="is no name of a model"):
        add_checkpoint(run, name)


def test_what_is_damaged_or_not_one_model_is_refused_and_leaves_nothing(run, tmp_path, library):
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(NUCLEI.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    for source in (damaged, tmp_path / "runs" / "nothing", tmp_path):
        with pytest.raises(CheckpointError):
            add_checkpoint(source)
    assert not library.exists() or not list(library.iterdir())


def test_the_command_adds_lists_and_removes(run, capsys):
    assert swipe(["models", "add", str(run), "--name", "mine"]) == 0
    capsys.readouterr()
    assert swipe(["models", "list"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    assert file_digest(NUCLEI)[:12] in row
    assert swipe(["models", "show", "mine"]) == 0
    assert file_digest(NUCLEI) in capsys.readouterr().out.replace("\n    ", "")
    assert swipe(["models", "remove", "mine"]) == 0
    assert swipe(["models", "remove", "mine"]) == 2


def test_a_folder_for_hugging_face_holds_the_same_model_and_what_must_be_said_of_it(tmp_path, capsys):
    folder = tmp_path / "hf"
    words = ["models", "export", "polyp", "--to", "huggingface", "--output", str(folder)]
    assert swipe(words) == 0
    page = (folder / "README.md").read_text("utf-8")
    _, front, text = page.split("---\n", 2)
    card = describe_checkpoint(bundled_checkpoints()["polyp"]).card
    assert yaml.safe_load(front)["license"] == "cc-by-4.0"
    assert card.limits in text and card.attribution in text and card.intended_use in text
    assert file_digest(folder / "model.safetensors") == file_digest(bundled_checkpoints()["polyp"])
    assert json.loads((folder / "config.json").read_text("utf-8"))["model"]["ndim"] == 2
    assert swipe(words) == 2  # nothing is overwritten


def test_every_licence_of_a_model_that_ships_has_its_name_there():
    for path in bundled_checkpoints().values():
        assert describe_checkpoint(path).card.licence.split(",")[0] in LICENCES
