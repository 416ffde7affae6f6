"""The evaluation script prints and writes the scores, and tells what a user got wrong in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.cli import main as swipe
from swipe_core.data.cases import find_cases
from swipe_core.errors import DataError
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.images import read_image
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish
from swipe_core.training.runner import Trainer
from tools.scores_file import read_origin, read_report


@pytest.fixture(scope="module")
def module(load_script):
    return load_script("evaluate")


@pytest.fixture(scope="module")
def evaluate_script():
    return lambda words: swipe(["evaluate", *words])


@pytest.fixture(scope="module")
def checkpoint(disc_run) -> str:
    return str(disc_run / "best.safetensors")


# --- What it does -------------------------------------------------------------------------------


def test_help_explains_itself(evaluate_script, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate_script(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--split", "--json", "--tolerance", "--device"))


def test_it_prints_a_table_and_writes_means_and_cases(
    evaluate_script, checkpoint, disc_folder, tmp_path, capsys
):
    target = tmp_path / "scores.json"
    assert evaluate_script([checkpoint, str(disc_folder), "--json", str(target), "--device", "cpu"]) == 0
    predictor = Predictor.load(checkpoint, device="cpu")
    expected = finish(evaluate(predictor, find_cases(disc_folder, "val")))
    written = json.loads(target.read_text(encoding="utf-8"))
    origin = written.pop("of")
    assert written == expected.as_dict()
    assert written["mean"]["dice"] > 0.95
    step = predictor.content.summary.step
    assert (origin["model"], origin["split"], origin["image_factor"]) == (f"discs, step {step}", "val", None)
    assert InferenceConfig.model_validate(origin["inference"]) == predictor.config
    assert [case["name"] for case in written["cases"]] == ["disc"]
    header, columns, foreground, mean = capsys.readouterr().out.splitlines()
    assert header == f"1 cases of {disc_folder} (val)"
    assert columns.split()[:3] == ["class", "Dice", "IoU"] and "HD95 [px]" in columns
    assert foreground.split()[:2] == ["foreground", f"{expected.mean('dice'):.3f}"]
    assert mean.split()[0] == "mean"


def test_single_objects_are_compared_where_that_is_wanted(
    evaluate_script, checkpoint, disc_folder, tmp_path, capsys
):
    target = tmp_path / "scores.json"
    command = [checkpoint, str(disc_folder), "--json", str(target), "--device", "cpu"]
    assert evaluate_script([*command, "--instances"]) == 0
    written = json.loads(target.read_text(encoding="utf-8"))["instances"]
    assert set(written) == {"ap_50", "ap_mean", "panoptic_quality", "count_error"}
    assert (written["ap_50"], written["count_error"]) == (1, 0) and written["panoptic_quality"] > 0.9
    assert "AP at 0.5: 1.000" in capsys.readouterr().out
    assert read_report(target).instances == written


def test_false_alarms_are_told_where_some_case_lacks_a_class(
    evaluate_script, checkpoint, disc_folder, tmp_path, capsys
):
    data = Path(shutil.copytree(disc_folder, tmp_path / "data"))
    shutil.copy(data / "val" / "images" / "disc.png", data / "val" / "images" / "lookalike.png")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(data / "val" / "labels" / "lookalike.png")
    assert evaluate_script([checkpoint, str(data), "--device", "cpu"]) == 0
    *_, mean, distance, absent, present = capsys.readouterr().out.splitlines()
    assert mean.split()[0] == "mean"
    assert distance == "HD95 of foreground leaves out 1 case without a reference"
    assert absent == "1 case without foreground: something marked in 1 (100 %)"
    assert present.startswith("1 case with foreground: Dice 0.9")


def test_all_takes_every_split_and_a_flat_folder_is_divided_where_a_part_is_named(
    evaluate_script, checkpoint, disc_folder, capsys
):
    assert evaluate_script([checkpoint, str(disc_folder), "--split", "all"]) == 0
    assert capsys.readouterr().out.startswith("2 cases")
    assert evaluate_script([checkpoint, str(disc_folder / "train"), "--split", "train"]) == 0
    assert capsys.readouterr().out.startswith("1 cases")


def flat_folder(folder: Path, seed: int, count: int = 5) -> Path:
    """Discs in a folder without parts."""
    generator = np.random.default_rng(seed)
    for name in range(count):
        rows, columns = np.mgrid[:32, :32] - generator.integers(10, 22, (2, 1, 1))
        disc = np.hypot(rows, columns) < 8.5
        for kind, array in (("images", generator.normal(60, 10, disc.shape) + 120 * disc), ("labels", disc)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(folder / kind / f"c{name}.png")
    return folder


@pytest.fixture(scope="module")
def flat_run(tiny_config, tmp_path_factory) -> tuple[Path, str]:
    """A folder without parts, and a model that was trained on the larger part of it."""
    folder = flat_folder(tmp_path_factory.mktemp("flat") / "data", seed=0)
    config = tiny_config({"training.steps": 1, "training.split_seed": 3})
    cases = [find_cases(folder, split, seed=3) for split in ("train", "val")]
    finish(Trainer(config, *cases, folder.parent / "run").run())
    return folder, str(folder.parent / "run" / "best.safetensors")


def test_new_cases_in_a_flat_folder_are_all_judged(evaluate_script, flat_run, tmp_path, capsys):
    data = flat_folder(tmp_path, seed=1)  # with the names of those that the model was trained on
    assert evaluate_script([flat_run[1], str(data), "--json", str(tmp_path / "scores.json")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"5 cases of {data} (all: the model was trained on none of them)\n")
    assert read_origin(tmp_path / "scores.json").split == "all"


def test_of_the_flat_folder_that_a_model_was_trained_on_its_own_validation_part_is_judged(
    evaluate_script, flat_run, tmp_path, capsys
):
    data, model = flat_run
    copied = Path(shutil.copytree(data, tmp_path / "elsewhere"))
    for folder in (data, copied):
        assert evaluate_script([model, str(folder), "--json", str(tmp_path / "scores.json")]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"1 cases of {folder} (val: the model was trained on others of this folder")
        assert [case.name for case in read_report(tmp_path / "scores.json").cases] == [
            case.name for case in find_cases(data, "val", seed=3)
        ]
    assert evaluate_script([model, str(data), "--split", "all"]) == 0
    assert capsys.readouterr().out.startswith(f"5 cases of {data} (all)\n")


def test_training_cases_that_are_judged_are_told_as_such(evaluate_script, checkpoint, disc_folder, capsys):
    assert evaluate_script([checkpoint, str(disc_folder / "train")]) == 0
    assert "(all: the model was trained on some of them, which scores better" in capsys.readouterr().out


def test_a_model_that_does_not_say_what_it_was_trained_on_judges_all_and_says_so(
    evaluate_script, checkpoint, disc_folder, tmp_path, capsys
):
    loaded = load_checkpoint(checkpoint)
    summary = loaded.content.summary.model_copy(update={"training_marks": None})
    older = loaded.content.model_copy(update={"summary": summary})
    save_checkpoint(tmp_path / "older.safetensors", replace(loaded, content=older))
    assert evaluate_script([str(tmp_path / "older.safetensors"), str(disc_folder / "train")]) == 0
    assert "(all: the model does not say which cases it was trained on)" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "seed"), [([], 7), (["--seed", "2"], 2)])
def test_the_split_is_the_one_trained_with_unless_another_is_asked_for(
    module, seeded_checkpoint, disc_folder, monkeypatch, arguments, seed
):
    asked = []

    def recorded(folder, split, seed):
        asked.append(seed)
        return find_cases(folder, split, seed)

    monkeypatch.setattr(module, "find_cases", recorded)
    assert swipe(["evaluate", seeded_checkpoint, str(disc_folder), "--device", "cpu", *arguments]) == 0
    assert asked == [seed]


def test_without_a_known_split_the_seed_is_0(module, volume_checkpoint, disc_folder, monkeypatch):
    asked = []

    def recorded(folder, split, seed):
        asked.append(seed)
        raise DataError("That is enough.")

    monkeypatch.setattr(module, "find_cases", recorded)
    assert swipe(["evaluate", str(volume_checkpoint), str(disc_folder), "--device", "cpu"]) == 2
    assert asked == [0]


def test_settings_and_a_resampled_image_reach_the_comparison(
    evaluate_script, checkpoint, disc_folder, tmp_path, monkeypatch
):
    seen = []
    original = Predictor.iter_field

    def watched(self, image):
        seen.append((image.shape, image.spacing, self.config.threshold, self.config.mirrored_axes))
        return (yield from original(self, image))

    monkeypatch.setattr(Predictor, "iter_field", watched)
    options = ["--image-factor", "0.5", "1", "--threshold", "0.7", "--mirrored-axes", "1"]
    target = tmp_path / "scores.json"
    assert evaluate_script([checkpoint, str(disc_folder), "--json", str(target), *options]) == 0
    image = read_image(find_cases(disc_folder, "val")[0].image_path)
    rows, columns = image.shape
    assert seen == [((rows // 2, columns), (2.0, 1.0), 0.7, (1,))]
    config = InferenceConfig(threshold=0.7, mirrored_axes=(1,))
    work = evaluate(
        Predictor.load(checkpoint, device="cpu", config=config),
        find_cases(disc_folder, "val"),
        image_factor=(0.5, 1),
    )
    written = json.loads(target.read_text(encoding="utf-8"))
    origin = written.pop("of")
    assert written == finish(work).as_dict()
    assert (
        origin["image_factor"] == [0.5, 1] and InferenceConfig.model_validate(origin["inference"]) == config
    )


@pytest.mark.parametrize("factors", [["0"], ["1", "2", "3"], ["-1", "1"], ["inf"]])
def test_an_image_factor_that_cannot_be_is_named(
    evaluate_script, checkpoint, disc_folder, error_line, factors
):
    assert evaluate_script([checkpoint, str(disc_folder), "--image-factor", *factors]) == 2
    assert "one number above 0, or 2 of them" in error_line()


def test_the_folder_of_the_json_file_is_made(evaluate_script, checkpoint, disc_folder, tmp_path):
    target = tmp_path / "new" / "scores.json"
    assert evaluate_script([checkpoint, str(disc_folder), "--json", str(target)]) == 0
    assert json.loads(target.read_text(encoding="utf-8"))["cases"]


def test_ctrl_c_ends_with_one_line(module, checkpoint, disc_folder, tmp_path, capsys, interrupt):
    interrupt(module, "evaluate")
    target = tmp_path / "scores.json"
    assert swipe(["evaluate", checkpoint, str(disc_folder), "--json", str(target)]) == 130
    assert capsys.readouterr().err == "stopped; no scores are written\n"
    assert not target.exists()


# --- What users get wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.safetensors", "DATA"], "There is no checkpoint none.safetensors"),
        (["CHECKPOINT", "nowhere"], "There is no folder nowhere"),
        (["CHECKPOINT", "DATA", "--split", "test"], "no 'test' folder, only train, val"),
        (["CHECKPOINT", "DATA", "--tolerance", "-1"], "--tolerance must be 0 or more"),
        (["CHECKPOINT", "DATA", "--device", "tpu"], "A device is one of"),
        (["VOLUMES", "DATA"], "a 3D image is needed here"),
    ],
)
def test_a_wrong_option_is_named(
    evaluate_script, checkpoint, volume_checkpoint, disc_folder, tmp_path, error_line, arguments, said
):
    names = {"CHECKPOINT": checkpoint, "DATA": str(disc_folder), "VOLUMES": str(volume_checkpoint)}
    target = tmp_path / "scores.json"
    arguments = [names.get(argument, argument) for argument in arguments]
    assert evaluate_script([*arguments, "--json", str(target)]) == 2
    assert said in error_line()
    assert not target.exists()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros((30, 32), np.uint8), "must have the same shape"),
        (np.full((32, 32), 3, np.uint8), "labels outside the 2 classes 0 to 1 (3)"),
    ],
)
def test_labels_that_do_not_fit_are_named(
    evaluate_script, checkpoint, disc_folder, tmp_path, error_line, labels, said
):
    data = Path(shutil.copytree(disc_folder, tmp_path / "data"))
    Image.fromarray(labels).save(data / "val" / "labels" / "disc.png")
    target = tmp_path / "scores.json"
    assert evaluate_script([checkpoint, str(data), "--json", str(target)]) == 2
    assert said in error_line()
    assert not target.exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [("file/scores.json", "file cannot be written"), ("folder", "folder is a folder")],
)
def test_a_json_file_that_cannot_be_written_is_named_before_the_work(
    module, checkpoint, disc_folder, tmp_path, error_line, monkeypatch, target, said
):
    (tmp_path / "file").write_text("", "utf-8")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("the work began"))
    assert swipe(["evaluate", checkpoint, str(disc_folder), "--json", str(tmp_path / target)]) == 2
    assert said in error_line()


def test_a_full_disk_is_named_and_older_scores_stay_as_they_were(
    evaluate_script, checkpoint, disc_folder, tmp_path, error_line, monkeypatch
):
    def full(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    target = tmp_path / "scores.json"
    target.write_text("older", encoding="utf-8")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert evaluate_script([checkpoint, str(disc_folder), "--json", str(target)]) == 2
    assert error_line() == f"{target} cannot be written: No space left on device."
    assert target.read_text(encoding="utf-8") == "older" and list(tmp_path.iterdir()) == [target]
