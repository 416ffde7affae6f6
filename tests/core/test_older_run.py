"""A run that an earlier version was stopped in, at 1b5e835: it opens, says the same, and goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.data.cases import find_cases
from swipe_core.progress import finish
from swipe_core.training.config import load_config
from swipe_core.training.folder import RunFolder
from swipe_core.training.runner import Trainer

OLDER = Path(__file__).parents[1] / "data" / "older_run"


def test_its_checkpoint_opens_and_says_how_it_came_about():
    checkpoint = load_checkpoint(OLDER / "last.safetensors")
    checkpoint.build()
    summary = checkpoint.content.summary
    assert (summary.step, summary.steps, summary.training_cases) == (3, 4, 1)
    assert (summary.project, summary.round, summary.layers) == ("Discs", "runs/01", ["disc.tif"])
    assert summary.painted_voxels == {"disc": 7} and summary.started_from is None
    assert summary.best_dice == pytest.approx(0.3394, abs=1e-4)
    described = describe_checkpoint(OLDER / "last.safetensors")
    assert (described.name, described.class_names, described.network) == ("discs", ("disc",), "swipe")


def test_it_goes_on_to_its_end_and_keeps_what_it_was(tmp_path, disc_folder):
    folder = RunFolder(Path(shutil.copytree(OLDER, tmp_path / "run")))
    before = folder.records()
    training, validation = (find_cases(disc_folder, split) for split in ("train", "val"))
    config = load_config(folder.path / "config.yaml")
    assert finish(Trainer(config, training, validation, folder.path, resume=True).run()).finished
    records = [record for record in folder.records() if record["kind"] != "session"]
    assert records[: len(before)] == before
    # As that version itself went on.
    step, judged = records[len(before) :]
    assert step["losses"]["total"] == pytest.approx(0.556197464466095, rel=1e-3)
    assert judged["mean_dice"] == pytest.approx(0.3602882305844676, rel=0.02)
    assert load_checkpoint(folder.last).content.summary.project == "Discs"
