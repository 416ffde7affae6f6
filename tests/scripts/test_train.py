"""The training script trains, stops, resumes, and tells what a user got wrong in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swipe_core.checkpoints import file as checkpoints
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.cli import main as swipe
from swipe_core.training import learner, runner
from swipe_core.training.config import config_names, dump_config, load_config
from swipe_core.training.journal import command_line
from swipe_core.training.lock import RunLock

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


@pytest.fixture(scope="module")
def train():
    return lambda words: swipe(["train", *words])


@pytest.fixture
def config(tmp_path, tiny_config) -> str:
    """A configuration file of two steps with a validation after each."""
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(tiny_config({"training.steps": 2, "training.validate_every": 1})), "utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path, disc_folder) -> Path:
    """A data set that a test may spoil."""
    return Path(shutil.copytree(disc_folder, tmp_path / "data"))


def logged_steps(folder: Path) -> list[int]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["step"] for record in map(json.loads, lines) if record["kind"] == "step"]


# --- What it does -------------------------------------------------------------------------------


def test_help_explains_itself_and_names_the_configurations(train, capsys):
    with pytest.raises(SystemExit) as end:
        train(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in config_names())
    assert all(
        option in text for option in ("--data", "--output", "--max-minutes", "--from", "--resume", "--device")
    )


def test_it_trains_on_a_folder_and_writes_both_checkpoints(train, config, data, tmp_path, capsys):
    run = tmp_path / "runs" / "new"
    assert train([config, "--data", str(data), "--output", str(run), "--device", "cpu"]) == 0
    for name in ("best.safetensors", "last.safetensors", "config.yaml", "curves.png"):
        assert (run / name).stat().st_size > 0
    assert logged_steps(run) == [1, 2]
    output = capsys.readouterr()
    assert "2 steps" in output.out and "best validation Dice" in output.out
    assert str(run / "best.safetensors") in output.out
    assert "1 cases to train on, 1 to validate on, cpu" in output.err
    assert "step 1, 0.0 min: validation Dice foreground" in output.out


def signalled(monkeypatch, *numbers: int) -> None:
    """Make these signals come, one after the other, in the first step that is taken from now on."""
    original, left = learner.loss_terms, list(numbers)

    def receiving(*arguments):
        while left:
            signal.raise_signal(left.pop(0))
        return original(*arguments)

    monkeypatch.setattr(learner, "loss_terms", receiving)


def test_the_same_line_with_resume_begins_and_goes_on(train, config, data, tmp_path, capsys):
    run = tmp_path / "run"
    command = [config, "--data", str(data), "--output", str(run), "--device", "cpu", "--resume"]
    assert train([*command, "--training.steps", "1"]) == 0
    assert f"There is no saved state in {run}: the training begins anew." in capsys.readouterr().err
    assert train(command) == 0
    assert "begins anew" not in capsys.readouterr().err and logged_steps(run) == [1, 2]


def test_the_bar_of_a_run_with_a_budget_follows_its_time(train, config, data, tmp_path, capsys):
    run = ["--data", str(data), "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert train([config, *run, "--training.steps", "100000", "--max-minutes", "0.05"]) == 0
    shown = capsys.readouterr().err
    bars = re.findall(r"Training: +(\d+)%[^\r]*?, 00:0(\d) left, step \d+/100000", shown)
    shares, left = zip(*(map(int, bar) for bar in bars), strict=True)
    assert list(shares) == sorted(shares) and shares[-1] > 10
    assert list(left) == sorted(left, reverse=True) and left[0] <= 3
    assert "Training: 100%" in shown.split("\r")[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_after_the_step_and_the_command_it_tells_goes_on(
    train, config, data, tmp_path, capfd, monkeypatch, number, code
):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    signalled(monkeypatch, number)
    run = tmp_path / "the run"
    command = [config, "--data", str(data), "--output", str(run), "--device", "cpu"]
    assert train(command) == code
    said = capfd.readouterr().err
    assert "stopping after this step ..." in said
    assert logged_steps(run) == [1] and load_checkpoint(run / "last.safetensors").progress["step"] == 1
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    told = said.split("this goes on:")[1].strip()
    assert told.startswith("swipe train ") and told.endswith(
        command_line([str(run), "--device", "cpu", "--resume"])
    )
    assert train([*command, "--resume"]) == 0
    assert logged_steps(run) == [1, 2]


@pytest.mark.parametrize(
    ("program", "alone", "shared"),
    [
        ("train.py", "python train.py", "train.py"),
        ("/bin/swipe", "swipe train", "-m swipe_core train"),
        ("/swipe_core/__main__.py", "python -m swipe_core train", "-m swipe_core train"),
    ],
)
@pytest.mark.parametrize(
    ("place", "launcher"),
    [
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, "torchrun --nproc-per-node 4"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "torchrun --nnodes 2 --nproc-per-node 2"),
    ],
)
def test_the_command_that_goes_on_starts_the_same_program_in_as_many_processes(
    load_script, monkeypatch, program, alone, shared, place, launcher
):
    told = alone if launcher is None else f"{launcher} {shared}"
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [program])
    command = load_script("train").resuming_command
    assert command(["my.yaml", "--data", "d"]) == f"{told} my.yaml --data d --resume"
    assert command(["my.yaml", "--resume"]) == f"{told} my.yaml --resume"


def test_a_second_signal_ends_it_at_once_with_the_state_before(
    train, config, data, tmp_path, capfd, monkeypatch
):
    run = tmp_path / "run"
    command = [config, "--data", str(data), "--output", str(run), "--device", "cpu"]
    assert train([*command, "--training.steps", "1"]) == 0
    before = (run / "last.safetensors").read_bytes()
    signalled(monkeypatch, signal.SIGINT, signal.SIGTERM)
    assert train([*command, "--resume"]) == 143
    assert "the state is saved: add --resume" in capfd.readouterr().err
    assert (run / "last.safetensors").read_bytes() == before
    assert not list(run.glob(".*")) and not (run / "run.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a program could receive")
def test_as_a_program_it_can_be_terminated_and_resumed(tmp_path, config, data):
    run = tmp_path / "run"
    command = [sys.executable, str(SCRIPT), config, "--data", str(data), "--output", str(run)]
    endless = ["--training.steps", "1000000", "--training.validate_every", "1000000", "--device", "cpu"]
    program = subprocess.Popen([*command, *endless], stderr=subprocess.PIPE, text=True)
    while not (run / "log.jsonl").exists() or len(logged_steps(run)) < 3:
        assert program.poll() is None
        time.sleep(0.05)
    program.terminate()
    said = program.communicate(timeout=120)[1]
    assert program.returncode == 143
    assert "Traceback" not in said and "this goes on:" in said
    assert load_checkpoint(run / "last.safetensors").progress["step"] == logged_steps(run)[-1]


def test_ctrl_c_while_a_step_goes_wrong_promises_what_is_there(
    train, config, data, tmp_path, capsys, monkeypatch
):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(learner, "loss_terms", interrupted)
    assert train([config, "--data", str(data), "--output", str(tmp_path / "run"), "--device", "cpu"]) == 130
    assert "nothing is saved yet" in capsys.readouterr().err


def test_stopping_before_the_first_step_promises_nothing(train, config, data, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.TrainingSet, "load", interrupted)
    assert train([config, "--data", str(data), "--output", str(tmp_path / "run"), "--device", "cpu"]) == 130
    assert "nothing is saved yet" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_any_field_can_be_replaced_with_a_space_or_an_equals_sign(train, config, data, tmp_path):
    overrides = ["--training.steps", "1", "--batch.size=2", "--augmentation.flip_axes", "[0]"]
    assert train([config, "--data", str(data), "--output", str(tmp_path / "run"), *overrides]) == 0
    used = load_config(tmp_path / "run" / "config.yaml")
    assert (used.training.steps, used.batch.size, used.augmentation.flip_axes) == (1, 2, (0,))


def test_a_field_may_be_replaced_before_the_configuration_is_named(train, config, data, tmp_path):
    command = ["--training.steps", "1", config, "--batch.size=2", "--data", str(data)]
    assert train([*command, "--output", str(tmp_path / "run")]) == 0
    used = load_config(tmp_path / "run" / "config.yaml")
    assert (used.training.steps, used.batch.size) == (1, 2)


def test_the_bar_says_what_happens(train, config, data, tmp_path, capsys):
    assert train([config, "--data", str(data), "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0
    bars = capsys.readouterr().err
    assert "Validating 1/1" in bars and bars.index("Training: ") < bars.index("Validating 1/1")


def test_ctrl_c_while_the_bar_is_drawn_saves_the_state(
    load_script, config, data, tmp_path, capsys, interrupt
):
    module = load_script("train")
    interrupt(module.tqdm, "set_postfix_str")
    command = [config, "--data", str(data), "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert swipe(["train", *command]) == 130
    assert "the state is saved: add --resume" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").progress["step"] == 1


def test_the_smallest_budget_still_gives_a_usable_model(train, config, data, tmp_path, capsys):
    run = tmp_path / "run"
    command = [config, "--data", str(data), "--output", str(run), "--max-minutes", "0.00001"]
    assert train(command) == 0
    assert "time ran out before the steps did; --resume goes on" in capsys.readouterr().err
    assert load_checkpoint(run / "best.safetensors").content.summary.step == 1


def test_a_folder_without_splits_is_divided_and_one_too_small_is_not_validated(
    train, config, data, tmp_path, capsys
):
    flat = data / "train"
    assert train([config, "--data", str(flat), "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0
    output = capsys.readouterr()
    assert "1 cases to train on, 0 to validate on" in output.err
    assert "not validated" in output.out
    assert not (tmp_path / "run" / "best.safetensors").exists()


# --- Several data sets, and another model to start from ------------------------------------------


@pytest.fixture
def trained(disc_run) -> str:
    return str(disc_run / "best.safetensors")


def renamed_copy(data: Path, target: Path, name: str) -> Path:
    """The same data set, its case called otherwise."""
    shutil.copytree(data, target)
    for path in list(target.rglob("disc.png")):
        path.rename(path.with_stem(name))
    return target


def test_several_data_sets_are_trained_on_together(train, config, data, tmp_path, capsys):
    more = renamed_copy(data, tmp_path / "more", "other")
    shutil.rmtree(more / "val")
    command = [config, "--data", str(data), str(more), "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert train(command) == 0
    assert "2 cases to train on, 1 to validate on" in capsys.readouterr().err
    # The order in which they are named is no other set of cases.
    swapped = [config, "--data", str(more), str(data), *command[4:]]
    assert train([*swapped, "--resume", "--training.steps", "3"]) == 0
    assert logged_steps(tmp_path / "run") == [1, 2, 3]


def test_a_case_that_two_data_sets_share_is_named(train, config, data, tmp_path, error_line):
    twin = Path(shutil.copytree(data, tmp_path / "twin"))
    run = tmp_path / "run"
    assert train([config, "--data", str(data), str(twin), "--output", str(run), "--device", "cpu"]) == 2
    line = error_line()
    assert "share 1 (disc): rename" in line and str(data) in line and str(twin) in line
    assert not run.exists()


def test_one_of_several_folders_that_is_not_there_is_named(train, config, data, tmp_path, error_line):
    command = [config, "--data", str(data), str(tmp_path / "none"), "--output", str(tmp_path / "run")]
    assert train([*command, "--device", "cpu"]) == 2
    assert f"There is no folder {tmp_path / 'none'}" in error_line()


def test_a_run_starts_from_another_model_and_says_what_it_keeps(
    train, config, data, tmp_path, capsys, trained
):
    run = tmp_path / "run"
    command = [config, "--data", str(data), "--output", str(run), "--device", "cpu", "--from", trained]
    # A rate next to nothing: what is judged is what was taken over.
    assert train([*command, "--training.learning_rate", "1e-9"]) == 0
    assert "Starting from discs: 100 % of the weights are kept." in capsys.readouterr().err
    summary = load_checkpoint(run / "best.safetensors").content.summary
    assert summary.started_from == "discs" and summary.best_dice > 0.9


def test_a_run_that_started_from_another_model_goes_on_without_it(train, config, data, tmp_path, trained):
    command = [config, "--data", str(data), "--device", "cpu"]
    retained = ["--loss.retention_weight", "1", "--batch.pairs", "8"]
    start = shutil.copy(trained, tmp_path / "start.safetensors")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fine_tuned = [*command, *retained, "--from", str(start)]
    assert train([*fine_tuned, "--output", str(whole), "--training.schedule", "steps"]) == 0
    short = ["--output", str(broken), "--training.schedule", "steps"]
    assert train([*fine_tuned, *short, "--max-minutes", "0.00001"]) == 0
    assert logged_steps(broken) == [1]
    Path(start).unlink()
    # With --from or without: a run that goes on has weights, and a teacher, of its own.
    assert train([*fine_tuned, *short, "--resume"]) == 0
    first, second = (load_checkpoint(run / "last.safetensors") for run in (whole, broken))
    for mine, others in ((first.weights, second.weights), (first.state, second.state)):
        assert mine.keys() == others.keys()
        assert all(torch.equal(mine[name], others[name]) for name in mine)
    assert any(name.startswith("teacher.") for name in second.state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "none.safetensors"], "none.safetensors"),
        (["--from", "polip"], "Did you mean 'polyp'?"),
        (["--from", "hippocampus"], "of its weights with hippocampus"),
        (["--from", "TRAINED", "--model.embedding_width", "64"], "of its weights with discs"),
        (
            ["--from", "TRAINED", "--model.fourier_frequencies", "3", "--loss.retention_weight", "1"],
            "batch.pairs",
        ),
        (
            ["--from", "TRAINED", "--model.patch_hidden", "[16, 16, 16]"]
            + ["--loss.retention_weight", "1", "--batch.pairs", "8"],
            "keeps what discs knows, which takes the very same network",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_refused_in_one_line(
    train, config, data, tmp_path, error_line, trained, arguments, said
):
    run = tmp_path / "run"
    words = [trained if word == "TRAINED" else word for word in arguments]
    assert train([config, "--data", str(data), "--output", str(run), "--device", "cpu", *words]) == 2
    assert said in error_line()
    assert not run.exists()


def test_a_start_that_is_no_checkpoint_is_refused_in_one_line(train, config, data, tmp_path, error_line):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing of the kind")
    command = [config, "--data", str(data), "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert train([*command, "--from", str(path)]) == 2
    assert str(path) in error_line()
    assert not (tmp_path / "run").exists()


# --- What users get wrong -----------------------------------------------------------------------


def test_as_a_program_it_ends_with_one_line_and_a_code(tmp_path, config):
    command = [config, "--data", str(tmp_path / "none"), "--output", str(tmp_path / "run")]
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), *command], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: There is no folder") and ended.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--training.stepz", "5"], "no field 'training.stepz'. Did you mean 'steps'?"),
        (["--trainin.steps", "5"], "no field 'trainin'. Did you mean 'training'?"),
        (["--training.steps", "few"], "training.steps cannot be 'few'"),
        (["--max-minutes", "0"], "--max-minutes must be above 0"),
        (["--max-minutes", "nan"], "--max-minutes must be above 0"),
        (["--device", "gpu"], "A device is one of auto, cpu, cuda, mps; got 'gpu'"),
        (["--data", "elsewhere"], "There is no folder elsewhere"),
    ],
)
def test_a_wrong_option_is_named(train, config, data, tmp_path, error_line, arguments, said):
    command = [config, "--data", str(data), "--output", str(tmp_path / "run"), *arguments]
    assert train(command) == 2
    assert said in error_line()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nucleus", "no shipped configuration 'nucleus'"),
        ("none.yaml", "no configuration file none.yaml"),
    ],
)
def test_a_configuration_that_does_not_exist_is_named(train, data, tmp_path, error_line, name, said):
    assert train([name, "--data", str(data), "--output", str(tmp_path / "run")]) == 2
    assert said in error_line()


@pytest.mark.parametrize(
    "arguments", [["extra"], ["--fast"], ["--training.steps"], ["--training.steps", "--resume"]]
)
def test_arguments_that_mean_nothing_end_with_the_usage(train, config, data, tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as end:
        train([config, "--data", str(data), "--output", str(tmp_path / "run"), *arguments])
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def spoil_shape(data: Path) -> None:
    Image.fromarray(np.zeros((32, 30), np.uint8)).save(data / "train" / "labels" / "disc.png")


def spoil_classes(data: Path) -> None:
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(data / "train" / "labels" / "disc.png")


def spoil_image(data: Path) -> None:
    path = data / "train" / "images" / "disc.png"
    path.write_bytes(path.read_bytes()[:100])


def remove_label(data: Path) -> None:
    (data / "val" / "labels" / "disc.png").rename(data / "val" / "labels" / "other.png")


def remove_images(data: Path) -> None:
    shutil.rmtree(data / "train" / "images")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_shape, "must have the same shape"),
        (spoil_classes, "labels outside the 2 classes 0 to 1 (7)"),
        (spoil_image, "disc.png is damaged"),
        (remove_label, "no file of the same name in labels/"),
        (remove_images, "There is no folder"),
    ],
)
def test_a_fault_in_the_data_is_named_and_nothing_is_left_half_written(
    train, config, data, tmp_path, error_line, spoil, said
):
    spoil(data)
    run = tmp_path / "run"
    assert train([config, "--data", str(data), "--output", str(run), "--device", "cpu"]) == 2
    assert said in error_line()
    left = {path.name for path in run.iterdir()} if run.exists() else set()
    assert left <= {"config.yaml", "log.jsonl"}


def test_a_full_disk_is_named(train, config, data, tmp_path, error_line, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    run = tmp_path / "run"
    assert train([config, "--data", str(data), "--output", str(run), "--device", "cpu"]) == 2
    assert "could not be written ([Errno 28] No space left on device): free some space" in error_line()


def test_a_folder_in_which_another_process_trains_is_refused(train, config, data, tmp_path, error_line):
    run = tmp_path / "run"
    run.mkdir()
    with RunLock(run / "run.lock").held():
        assert train([config, "--data", str(data), "--output", str(run), "--device", "cpu"]) == 2
    assert f"Process {os.getpid()} trains in {run} already" in error_line()


def test_a_folder_that_holds_a_run_is_refused(train, config, data, disc_run, tmp_path, error_line):
    run = Path(shutil.copytree(disc_run, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert train([config, "--data", str(data), "--output", str(run), "--device", "cpu"]) == 2
    assert "already holds a run: add --resume" in error_line()
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_of_another_network_is_not_resumed(train, config, data, disc_run, tmp_path, error_line):
    run = Path(shutil.copytree(disc_run, tmp_path / "run"))
    command = [config, "--data", str(data), "--output", str(run), "--device", "cpu"]
    assert train([*command, "--resume", "--model.neck_width", "12"]) == 2
    assert "another network" in error_line()
