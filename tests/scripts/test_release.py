"""A release holds what inference needs and a card, and refuses what should not be passed on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from class_scores import class_scores

from swipe_core.checkpoints.card import read_card
from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.checkpoints.summary import TrainingSummary
from swipe_core.data.cases import find_cases
from swipe_core.errors import ConfigError
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.evaluation.report import CaseScores, EvaluationReport, Origin, write_report
from swipe_core.images import read_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish

CARD = {
    "title": "Discs",
    "description": "Finds discs.",
    "data": "One disc.",
    "licence": "CC0 1.0",
    "attribution": "Nobody",
    "intended_use": "Tests; not a medical device.",
    "limits": "Everything else",
    "validation": "The same disc.",
}


@pytest.fixture(scope="module")
def module(load_script):
    return load_script("release")


@pytest.fixture
def card(tmp_path) -> Path:
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(CARD), encoding="utf-8")
    return path


@pytest.fixture
def release(module, card, tmp_path):
    """A function from a checkpoint and further arguments to the exit code; writes disc.safetensors."""

    def run(checkpoint: str | Path, *arguments: str) -> int:
        output = str(tmp_path / "out" / "disc.safetensors")
        return module.main(
            [str(checkpoint), "--card", str(card), "--name", "disc", "--output", output, *arguments]
        )

    return run


def test_a_release_has_a_name_a_card_and_no_state_of_its_training(release, card, disc_run, tmp_path, capsys):
    source = load_checkpoint(disc_run / "last.safetensors")
    assert source.state and source.progress
    assert release(disc_run / "last.safetensors") == 0
    loaded = load_checkpoint(tmp_path / "out" / "disc.safetensors")
    assert loaded.state == loaded.progress == {}
    assert loaded.content.name == "disc" and loaded.content.summary == source.content.summary
    assert loaded.content.model == source.content.model
    dice = round(source.content.summary.best_dice, 3)
    assert loaded.content.card == read_card(card).model_copy(update={"dice": {"foreground": dice}})
    said = capsys.readouterr().out
    assert f"validation Dice foreground {dice:.3f}" in said and "MB" in said and "disc.safetensors" in said


def test_it_segments_as_the_original_does_in_half_the_space(release, disc_run, disc_folder, tmp_path):
    assert release(disc_run / "best.safetensors") == 0
    path = tmp_path / "out" / "disc.safetensors"
    image = read_image(disc_folder / "val" / "images" / "disc.png")
    own, theirs = (
        Predictor.load(p, device="cpu").field(image).render(method="dense").array
        for p in (path, disc_run / "best.safetensors")
    )
    assert np.mean(own != theirs) < 0.005
    stored = torch.tensor([t.numel() for t in load_checkpoint(path).weights.values() if t.ndim > 1]).sum()
    assert path.stat().st_size < (disc_run / "best.safetensors").stat().st_size - 1.9 * stored


def test_settings_that_bound_the_memory_are_those_of_today(release, disc_run, tmp_path):
    loaded = load_checkpoint(disc_run / "best.safetensors")
    settings = InferenceConfig(overlap=0.25, block_voxels=2**26, window_batch=9, chunk_points=17)
    content = loaded.content.model_copy(update={"inference": settings})
    save_checkpoint(tmp_path / "old.safetensors", replace(loaded, content=content))
    assert release(tmp_path / "old.safetensors") == 0
    released = load_checkpoint(tmp_path / "out" / "disc.safetensors").content.inference
    assert released == InferenceConfig(overlap=0.25)


def test_settings_chosen_on_validation_data_are_released_with_the_scores_they_got(
    release, disc_run, disc_folder, tmp_path
):
    predictor = Predictor.load(
        disc_run / "best.safetensors",
        device="cpu",
        config=InferenceConfig(threshold=0.7, confidence=0.9, mirrored_axes=(1,)),
    )
    report = finish(evaluate(predictor, find_cases(disc_folder, "val")))
    scores = tmp_path / "scores.json"
    write_report(scores, report, Origin.of(predictor, "val"))
    settings = ["--threshold", "0.7", "--confidence", "0.9", "--mirrored-axes", "1"]
    assert release(disc_run / "best.safetensors", *settings, "--scores", str(scores)) == 0
    content = load_checkpoint(tmp_path / "out" / "disc.safetensors").content
    assert content.inference == predictor.config
    assert content.card.dice == {"foreground": round(report.presence("foreground").mean, 3)}


def test_changed_settings_without_their_scores_are_refused(release, disc_run, error_line, tmp_path):
    assert release(disc_run / "best.safetensors", "--threshold", "0.7") == 2
    assert "give --scores with these settings" in error_line()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "test"}, "The scores are of the split 'test', and a card tells those of 'val'"),
        ({"image_factor": (0.5, 1.0)}, "The scores are of images that were resampled by 0.5 1"),
        ({"inference": InferenceConfig(threshold=0.6)}, "with threshold 0.6, and the release has 0.7"),
        ({"inference": InferenceConfig(threshold=0.7, window_batch=9, chunk_points=17)}, None),
    ],
)
def test_scores_of_another_split_image_or_setting_are_refused(
    release, disc_run, tmp_path, error_line, change, said
):
    scores = class_scores(0.5, 0.5, 1.0, 0.5)
    report = EvaluationReport((CaseScores("one", {"foreground": scores}, "pixel"),))
    origin = replace(Origin("discs", "val", None, InferenceConfig(threshold=0.7)), **change)
    write_report(tmp_path / "scores.json", report, origin)
    options = ["--threshold", "0.7", "--scores", str(tmp_path / "scores.json")]
    assert release(disc_run / "best.safetensors", *options) == (2 if said else 0)
    if said:
        assert said in error_line()
    assert (tmp_path / "out").exists() == (said is None)


def test_a_class_that_no_case_holds_has_no_dice_on_the_card(release, module, disc_run, tmp_path):
    empty = class_scores(0.0, 0.0, float("nan"), 0.0, in_reference=False)
    report = EvaluationReport((CaseScores("one", {"foreground": empty}, "pixel"),))
    assert module.measured_dice(report, ("foreground",)) == {}
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps(report.as_dict()), encoding="utf-8")
    assert release(disc_run / "best.safetensors", "--scores", str(scores)) == 0
    assert load_checkpoint(tmp_path / "out" / "disc.safetensors").content.card.dice == {}


@pytest.mark.parametrize("dice", [float("nan"), 1.5])
def test_a_dice_that_is_none_is_not_released(
    release, module, disc_run, tmp_path, error_line, monkeypatch, dice
):
    monkeypatch.setattr(module, "validation_dice", lambda *_: {"foreground": dice})
    assert release(disc_run / "best.safetensors") == 2
    assert (
        f"A Dice is a number from 0 to 1, and the scores of this model are foreground {dice:g}"
        in error_line()
    )
    assert not (tmp_path / "out").exists()


def test_a_release_may_take_the_place_of_what_it_is_made_from(module, card, disc_run, tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes((disc_run / "best.safetensors").read_bytes())
    command = [str(path), "--card", str(card), "--name", "disc", "--output", str(path)]
    assert module.main(command) == 0
    assert load_checkpoint(path).content.name == "disc"


def test_scores_of_other_classes_are_refused(module):
    scores = class_scores(0.5, 0.5, 1.0, 0.5)
    report = EvaluationReport((CaseScores("one", {"liver": scores}, "pixel"),))
    with pytest.raises(ConfigError, match="The scores are of liver, and the model finds polyp: "):
        module.measured_dice(report, ("polyp",))


@pytest.mark.parametrize(
    ("summary", "names", "expected"),
    [
        ({}, ("a",), {}),
        ({"best_dice": None}, ("a",), {}),
        ({"best_dice": 0.87654}, ("a",), {"a": 0.877}),
        ({"best_dice": 0.5}, ("a", "b"), {"mean": 0.5}),
        ({"best_dice": 0.5, "best_dice_by_class": {"a": 0.4, "b": 0.6001}}, ("a", "b"), {"a": 0.4, "b": 0.6}),
        ({"best_dice": 0.5, "best_dice_by_class": {"a": 0.5}}, ("a", "b"), {"mean": 0.5}),
    ],
)
def test_the_dice_is_that_of_the_validation_the_checkpoint_was_chosen_by(module, summary, names, expected):
    assert module.validation_dice(TrainingSummary(**summary), names) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licence": None}, "card.yaml: licence cannot be used as given (Input should be a valid string)."),
        ({"limits": ""}, "card.yaml: limits cannot be '' ("),
        ({"lisence": "CC0"}, "there is no field 'lisence'. Did you mean 'licence'?"),
        ({"dice": {"foreground": 0.9}}, "The card gives a Dice: leave it out"),
        ({"dice": {"foreground": 9}}, "dice.foreground cannot be 9 ("),
        ("- title", "must hold fields such as 'title:' and 'description:'"),
        ("", "must hold fields"),
        ("title: [1", "is not a usable YAML file: expected ',' or ']', but got '<stream end>' in line 1"),
        ("title: a\ntitle: b", "is not a usable YAML file: 'title' stands twice in line 2"),
        ("title: 2020-99-99", "it holds a value that cannot be read"),
        ("title: " + "[" * 5000, "it is nested too deeply"),
        (b"\xff\xfe\xfa", "cannot be read as a text file"),
        (None, "cannot be read as a text file"),
    ],
)
def test_a_card_that_is_not_whole_is_refused_in_words(
    release, card, disc_run, tmp_path, error_line, change, said
):
    if isinstance(change, dict):
        card.write_text(yaml.safe_dump(CARD | change), encoding="utf-8")
    elif isinstance(change, str):
        card.write_text(change, encoding="utf-8")
    elif change is None:
        card.unlink()
    else:
        card.write_bytes(change)
    assert release(disc_run / "best.safetensors") == 2
    assert said in error_line()
    assert not (tmp_path / "out").exists()


def test_a_field_that_is_missing_is_named(release, card, disc_run, error_line):
    shorter = {name: text for name, text in CARD.items() if name != "attribution"}
    card.write_text(yaml.safe_dump(shorter), encoding="utf-8")
    assert release(disc_run / "best.safetensors") == 2
    assert "the field 'attribution' is missing; add it." in error_line()


def test_a_large_file_is_refused_unless_it_is_wanted(
    release, module, disc_run, tmp_path, error_line, monkeypatch
):
    monkeypatch.setattr(module, "LARGEST", 10_000)
    assert release(disc_run / "best.safetensors") == 2
    text = error_line()
    assert "a package should carry no more than 0.01 MB" in text and "--allow-large" in text
    assert not (tmp_path / "out").exists()
    assert release(disc_run / "best.safetensors", "--allow-large") == 0
    assert describe_checkpoint(tmp_path / "out" / "disc.safetensors").bytes > 10_000


def test_weights_of_another_network_are_refused(release, disc_run, tmp_path, error_line):
    loaded = load_checkpoint(disc_run / "best.safetensors")
    save_checkpoint(tmp_path / "empty.safetensors", replace(loaded, weights={}))
    assert release(tmp_path / "empty.safetensors") == 2
    assert "do not belong to the network it describes" in error_line()


def test_an_output_of_another_kind_is_refused(module, card, disc_run, tmp_path, error_line):
    command = [str(disc_run / "best.safetensors"), "--card", str(card), "--name", "disc"]
    assert module.main([*command, "--output", str(tmp_path / "disc.pt")]) == 2
    assert "--output needs a file that ends in .safetensors" in error_line()
    assert not (tmp_path / "disc.pt").exists()


def test_a_missing_checkpoint_is_named(release, error_line):
    assert release("none.safetensors") == 2
    assert "There is no checkpoint none.safetensors" in error_line()
