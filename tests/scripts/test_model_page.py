"""The script writes a model's page and its two pictures, whole or not at all, and names what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.data.cases import find_cases
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.images import read_image
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish

CARD = ModelCard(
    title="Discs",
    description="Finds discs.",
    data="One disc.",
    licence="CC0 1.0",
    attribution="Nobody",
    intended_use="Tests; not a medical device.",
    limits="Everything else",
)


@pytest.fixture(scope="module")
def module(load_script):
    return load_script("model_page")


@pytest.fixture(scope="module")
def model(disc_run, tmp_path_factory) -> Path:
    """The model of the disc, with a card and the name ``disc``."""
    loaded = load_checkpoint(disc_run / "best.safetensors")
    content = loaded.content.model_copy(update={"name": "disc", "card": CARD})
    path = tmp_path_factory.mktemp("released") / "disc.safetensors"
    save_checkpoint(path, replace(loaded, content=content))
    return path


@pytest.fixture
def make(module, model, disc_folder, tmp_path):
    """A function from further arguments to the exit code; writes into docs/ in the test's folder."""

    def run(*arguments: str, checkpoint: Path = model, data: Path = disc_folder) -> int:
        places = [
            "--output",
            str(tmp_path / "docs" / "models"),
            "--images",
            str(tmp_path / "docs" / "images"),
        ]
        return module.main([str(checkpoint), str(data), *places, "--device", "cpu", *arguments])

    return run


@pytest.fixture
def docs(tmp_path) -> Path:
    return tmp_path / "docs"


@pytest.fixture(scope="module")
def scores(model, disc_folder) -> dict:
    predictor = Predictor.load(model, device="cpu")
    return finish(evaluate(predictor, find_cases(disc_folder, "val"))).as_dict()


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def scores_file(scores, tmp_path) -> Path:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(scores), encoding="utf-8")
    return path


# --- What it does -------------------------------------------------------------------------------


def test_a_page_and_its_pictures_are_written_and_linked(make, docs, scores, capsys):
    assert make() == 0
    files = ["images/dice_disc.png", "images/worst_disc.png", "models/disc.md"]
    assert written(docs) == files
    assert sorted(capsys.readouterr().out.split()) == sorted(str(docs / file) for file in files)
    text = (docs / "models" / "disc.md").read_text(encoding="utf-8")
    for link in ("../images/dice_disc.png", "../images/worst_disc.png"):
        assert f"]({link})" in text
        assert read_image(docs / "models" / link).channels == 3
    dice = scores["mean"]["dice"]
    assert ["foreground", "1", f"**{dice:.3f}**"] in [
        [cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines()
    ]
    assert text.splitlines()[-1] == f"1. `disc`: Dice {dice:.2f}"
    assert "train.py" not in text  # no configuration of this name ships with the package


def test_given_scores_make_the_same_page_and_the_validation_is_not_repeated(
    make, module, docs, scores_file, monkeypatch
):
    assert make() == 0
    text = (docs / "models" / "disc.md").read_text(encoding="utf-8")
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("the whole split was evaluated"))
    assert make("--scores", str(scores_file)) == 0
    assert (docs / "models" / "disc.md").read_text(encoding="utf-8") == text


def test_sentences_of_the_file_of_failures_stand_beside_their_cases(make, docs):
    (docs / "models").mkdir(parents=True)
    failures = docs / "models" / "disc.failures.yaml"
    failures.write_text("disc: Its edge is a voxel off.\n", encoding="utf-8")
    assert make("--config", "nuclei") == 0
    text = (docs / "models" / "disc.md").read_text(encoding="utf-8")
    assert text.endswith(". Its edge is a voxel off.\n")
    assert "`swipe train nuclei --data DATA_DIR --output runs/disc`" in text
    assert failures.read_text(encoding="utf-8") == "disc: Its edge is a voxel off.\n"


def test_a_model_is_trained_with_the_configuration_of_its_name_unless_another_is_given(module):
    assert module.configuration_of("nuclei", None) == "nuclei"
    assert module.configuration_of("nuclei", "polyp") == "polyp"
    assert module.configuration_of("disc", None) is None


def test_help_explains_itself(module, capsys):
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--scores", "--output", "--images", "--worst", "failures.yaml"))


def test_ctrl_c_ends_with_one_line(make, module, docs, capsys, interrupt):
    interrupt(module, "evaluate")
    assert make() == 130
    assert capsys.readouterr().err == "stopped; no page is written\n"
    assert written(docs) == []


# --- What users get wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--worst", "0"], "--worst must be 1 or more; got 0"),
        (["--config", "nuclie"], "Did you mean 'nuclei'?"),
        (["--scores", "none.json"], "none.json cannot be read"),
    ],
)
def test_a_wrong_option_is_named_before_the_work(
    make, module, docs, error_line, monkeypatch, arguments, said
):
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("the work began"))
    assert make(*arguments) == 2
    assert said in error_line()
    assert written(docs) == []


def test_a_model_without_a_card_is_named(make, docs, disc_run, error_line):
    assert make(checkpoint=disc_run / "best.safetensors") == 2
    assert "has no card" in error_line()
    assert written(docs) == []


def test_scores_of_another_model_are_refused(make, docs, scores, scores_file, error_line):
    foreign = json.loads(json.dumps(scores))
    foreign["cases"][0]["classes"]["foreground"]["dice"] = 0.4
    scores_file.write_text(json.dumps(foreign), encoding="utf-8")
    assert make("--scores", str(scores_file)) == 2
    assert "they are of another model or other data" in error_line()
    assert written(docs) == []


def test_scores_of_other_cases_are_refused(make, docs, scores, scores_file, error_line):
    foreign = json.loads(json.dumps(scores))
    foreign["cases"][0]["name"] = "ring"
    scores_file.write_text(json.dumps(foreign), encoding="utf-8")
    assert make("--scores", str(scores_file)) == 2
    assert "not the same (disc)" in error_line()
    assert written(docs) == []


def test_a_sentence_on_an_unknown_case_is_named_before_the_work(make, module, docs, error_line, monkeypatch):
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("the work began"))
    (docs / "models").mkdir(parents=True)
    (docs / "models" / "disc.failures.yaml").write_text("disk: Too small.\n", encoding="utf-8")
    assert make() == 2
    assert "'disk', which is no validation case. Did you mean 'disc'?" in error_line()


def test_a_folder_that_cannot_be_made_is_named_before_the_work(
    make, module, tmp_path, error_line, monkeypatch
):
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("the work began"))
    (tmp_path / "docs").write_text("", "utf-8")
    assert make() == 2
    assert "cannot be written" in error_line()
