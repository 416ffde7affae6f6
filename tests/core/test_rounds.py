"""Rounds of a project: the project says at any time how far they are, and nothing that ends one loses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.cli import main as swipe
from swipe_core.data.annotations import AnnotationScheme
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import LabelledImage, read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import ConfigError, DataError, TrainingError
from swipe_core.images import write_label_map
from swipe_core.progress import Notice, Progress, finish
from swipe_core.project import Project, RoundRecord
from swipe_core.project.project_file import read_record
from swipe_core.project.rounds import RoundPlan, iter_round, prepare_command
from swipe_core.training import folder as training_folder
from swipe_core.training import runner
from swipe_core.training.config import ExperimentConfig, dump_config, load_config
from swipe_core.training.preview import Preview, View
from swipe_core.training.reports import RunControl, StepReport, ValidationReport
from swipe_core.training.runner import PAUSED, TRAINING

REPOSITORY = Path(__file__).parents[2]
STEPS = 6
posix = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")


@pytest.fixture(scope="module", autouse=True)
def at_once():
    """Curves that take no time to draw, and pauses that are looked at without rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            training_folder, "write_curves", lambda curves, path: path.write_text(str(len(curves)), "utf-8")
        )
        patch.setattr(runner, "PAUSE_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def config(tiny_config) -> ExperimentConfig:
    """Six steps with a validation after three; saved after each."""
    return tiny_config(
        {
            "training.steps": STEPS,
            "training.validate_every": 3,
            "training.save_minutes": 1e-9,
            "augmentation.rotation": 0.5,
            "batch.size": 2,
            "batch.points": 128,
        }
    )


@pytest.fixture(scope="module")
def disc(disc_folder) -> LabelledImage:
    return read_labelled(find_cases(disc_folder, "train")[0], 2, LabelConfig())


@pytest.fixture(scope="module")
def begun(disc) -> Callable[[Path], Project]:
    """A function that begins a project of three discs in a folder, one of them for validation."""

    def begin(folder: Path) -> Project:
        project = Project.create(folder, "Discs")
        project.set_scheme(AnnotationScheme(("foreground",), ("#ff0000",), "background"))
        for name, split in (("one", "train"), ("two", "train"), ("three", "val")):
            project.put_pair(name, split, f"{name}.tif", f"{name} annotation")
            project.write_case(name, (), split, disc.image, disc.labels)
        return project

    return begin


@pytest.fixture
def project(tmp_path, begun) -> Project:
    return begun(tmp_path / "project")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, begun, config) -> Path:
    """The run folder of a round that nothing disturbed."""
    project = begun(tmp_path_factory.mktemp("unbroken") / "project")
    plan = RoundPlan(project.next_run(), config, device="cpu")
    finish(iter_round(project, plan))
    return plan.folder


def new_round(project: Project, config: ExperimentConfig, **fields) -> RoundPlan:
    return RoundPlan(project.next_run(), config, device="cpu", **fields)


def resumed(plan: RoundPlan) -> RoundPlan:
    return RoundPlan(plan.folder, None, device="cpu")


def noted(project: Project) -> RoundRecord:
    """The only round, which the file of the project has as its memory does."""
    (record,) = on_disk(project)
    assert [record] == project.record.rounds
    return record


def on_disk(project: Project) -> list[RoundRecord]:
    return read_record(project.folder / "project.yaml").rounds


def saved_step(folder: Path) -> int:
    return load_checkpoint(folder / "last.safetensors").progress["step"]


def is_step(step: int) -> Callable[[object], bool]:
    return lambda report: isinstance(report, StepReport) and report.step == step


def up_to(work, condition: Callable[[object], bool]) -> object:
    """Iterate a round up to the first report that fulfils a condition."""
    return next(report for report in work if condition(report))


def assert_same_run(one: Path, other: Path, names: tuple[str, ...] = ("best", "last")) -> None:
    """Both runs hold the same tensors: weights, state of the optimiser, and the best weights."""
    for name in names:
        first, second = (load_checkpoint(folder / f"{name}.safetensors") for folder in (one, other))
        for mine, others in ((first.weights, second.weights), (first.state, second.state)):
            assert mine.keys() == others.keys()
            assert all(torch.equal(mine[key], others[key]) for key in mine), name


# --- What the project notes ---------------------------------------------------------------------


def test_a_round_trains_and_the_project_notes_how_far_it_came(project, config):
    plan = new_round(project, config, painted={"foreground": 700})
    states, dice = [], []

    def seen(report) -> None:
        if isinstance(report, StepReport):
            states.append(project.record.rounds[0].state)
        elif isinstance(report, ValidationReport):
            dice.append(report.mean_dice)
            record = noted(project)
            assert (record.step, record.dice) == (report.step, max(dice)) or not report.is_best

    result = finish(iter_round(project, plan), seen)
    assert result.finished and result.step == STEPS
    assert set(states) == {"running"} and len(states) == STEPS and len(dice) == 2
    record = noted(project)
    assert (record.folder, record.state, record.message) == ("runs/01", "finished", "")
    assert (record.started_from, record.painted) == ("nothing", {"foreground": 700})
    assert (record.step, record.dice) == (STEPS, max(dice))
    assert record.minutes == pytest.approx(result.minutes, abs=1e-3) and record.minutes > 0
    assert project.latest_model() == result.best and project.next_run().name == "02"
    summary = load_checkpoint(result.best).content.summary
    assert (summary.project, summary.round) == ("Discs", "runs/01")
    assert (summary.layers, summary.folders) == (["one.tif", "two.tif", "three.tif"], [])
    assert summary.painted_voxels == {"foreground": 700}


def test_a_round_starts_from_another_model_and_says_so(project, config, disc_run):
    start = str(disc_run / "best.safetensors")
    said: list[str] = []
    plan = new_round(project, config, start=start)
    finish(iter_round(project, plan), lambda r: said.append(r.message) if isinstance(r, Notice) else None)
    assert any("Starting from discs: 100 %" in message for message in said)
    assert noted(project).started_from == start
    assert load_checkpoint(project.latest_model()).content.summary.started_from == "discs"


def test_without_a_validation_image_there_is_no_dice(project, config):
    project.update_pair("three", split="train")
    result = finish(iter_round(project, new_round(project, config)))
    record = noted(project)
    assert (record.state, record.step, record.dice, result.best) == ("finished", STEPS, None, None)
    assert project.latest_model() == result.last


def test_a_round_that_is_looked_at_learns_the_same(project, config, disc, unbroken, monkeypatch):
    from swipe_core.training import preview

    monkeypatch.setattr(preview, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(preview, "REST", 0.0)
    plan, reports = new_round(project, config), []
    view = View(disc.image, disc.image.grid)
    finish(iter_round(project, plan, view=lambda: view), reports.append)
    assert sum(isinstance(report, Preview) for report in reports) == STEPS
    assert_same_run(plan.folder, unbroken)


def test_a_second_round_leaves_the_first_as_it_is(project, config):
    first = new_round(project, config)
    finish(iter_round(project, first))
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    second = new_round(project, config, start=str(project.latest_model()))
    finish(iter_round(project, second))
    assert [record.folder for record in project.record.rounds] == ["runs/01", "runs/02"]
    assert project.runs() == [first.folder, second.folder]
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before


# --- Asking for a stop or a pause ---------------------------------------------------------------


def test_a_round_is_stopped_after_the_step_in_progress_and_goes_on(project, config, unbroken):
    plan, control = new_round(project, config), RunControl()

    def ask(report) -> None:
        if is_step(4)(report):
            control.stop()

    result = finish(iter_round(project, plan, control), ask)
    assert result.stopped
    assert (noted(project).state, noted(project).step, saved_step(plan.folder)) == ("stopped", 4, 4)
    assert finish(iter_round(project, resumed(plan))).finished
    assert (noted(project).state, noted(project).step) == ("finished", STEPS)
    assert_same_run(plan.folder, unbroken)


def test_a_stop_that_is_asked_for_before_there_is_a_trainer_comes_too(project, config, unbroken):
    plan, control = new_round(project, config), RunControl()
    work = iter_round(project, plan, control)
    assert next(work) == Progress("Preparing", 0, 1)
    control.stop()
    result = finish(work)
    assert (result.step, result.stopped, noted(project).state) == (0, True, "stopped")
    finish(iter_round(project, resumed(plan)))
    assert_same_run(plan.folder, unbroken)


@pytest.mark.parametrize("early", [True, False], ids=["before-the-trainer", "in-a-step"])
def test_a_pause_holds_a_round_until_it_is_to_go_on(project, config, unbroken, early):
    plan, control = new_round(project, config), RunControl()
    if early:
        control.pause()
    waited, steps = [], []

    def watch(report) -> None:
        if is_step(2)(report) and not early:
            control.pause()
        if isinstance(report, Progress) and report.stage == PAUSED:
            waited.append(report.done)
            assert control.is_paused and saved_step(plan.folder) == report.done
            if len(waited) == 3:
                control.go_on()
        if isinstance(report, Progress) and report.stage == TRAINING:
            steps.append(report.done)

    result = finish(iter_round(project, plan, control), watch)
    assert waited == [1 if early else 2] * 3 and steps == list(range(1, STEPS + 1))
    assert result.finished and not control.is_paused
    assert (noted(project).state, noted(project).step) == ("finished", STEPS)
    assert_same_run(plan.folder, unbroken)


def test_a_pause_that_was_taken_back_before_there_is_a_trainer_does_not_come(project, config):
    control = RunControl()
    control.pause()
    control.go_on()
    reports: list = []
    finish(iter_round(project, new_round(project, config), control), reports.append)
    assert not any(isinstance(report, Progress) and report.stage == PAUSED for report in reports)


def test_a_stop_ends_a_pause(project, config):
    plan, control, paused = new_round(project, config), RunControl(), []
    control.pause()

    def stop(report) -> None:
        if isinstance(report, Progress) and report.stage == PAUSED:
            paused.append(report)
            control.stop()

    result = finish(iter_round(project, plan, control), stop)
    assert (result.step, result.stopped, len(paused)) == (1, True, 1)
    assert (noted(project).state, noted(project).step) == ("stopped", 1)


# --- What ends a round --------------------------------------------------------------------------


@pytest.mark.parametrize("where", [is_step(4), lambda report: isinstance(report, ValidationReport)])
def test_a_round_that_is_closed_is_stopped_and_can_go_on(project, config, unbroken, where):
    plan = new_round(project, config)
    work = iter_round(project, plan)
    up_to(work, where)
    work.close()
    record = noted(project)
    assert (record.state, record.message) == ("stopped", "")
    assert record.step == saved_step(plan.folder) > 0
    assert not (plan.folder / "run.lock").exists()
    assert finish(iter_round(project, resumed(plan))).finished
    assert noted(project).state == "finished"
    assert_same_run(plan.folder, unbroken)


def test_a_round_that_is_closed_in_a_pause_can_go_on(project, config, unbroken):
    plan, control = new_round(project, config), RunControl()
    control.pause()
    work = iter_round(project, plan, control)
    up_to(work, lambda report: isinstance(report, Progress) and report.stage == PAUSED)
    work.close()
    assert (noted(project).state, noted(project).step) == ("stopped", 1)
    finish(iter_round(project, resumed(plan)))
    assert_same_run(plan.folder, unbroken)


def test_a_round_that_is_closed_before_it_begins_is_not_noted(project, config):
    plan = new_round(project, config)
    work = iter_round(project, plan)
    next(work)
    work.close()
    assert not project.record.rounds and not plan.folder.exists()


def test_a_training_that_fails_is_noted_with_its_sentence_until_it_goes_on(project, config):
    plan = new_round(project, config)
    work = iter_round(project, plan)
    up_to(work, is_step(2))
    work.close()
    calm = (plan.folder / "config.yaml").read_text(encoding="utf-8")
    # Nothing is saved until it fails, so that what is there is still good.
    changes = {"learning_rate": 1e35, "warmup_steps": 0, "save_minutes": 1e6, "validate_every": 100}
    wild = config.model_copy(update={"training": config.training.model_copy(update=changes)})
    (plan.folder / "config.yaml").write_text(dump_config(wild), encoding="utf-8")
    with pytest.raises(TrainingError, match="not finite") as error:
        finish(iter_round(project, resumed(plan)))
    record = noted(project)
    assert (record.state, record.message) == ("failed", str(error.value))
    assert record.step >= 2
    (plan.folder / "config.yaml").write_text(calm, encoding="utf-8")
    assert finish(iter_round(project, resumed(plan))).finished
    assert (noted(project).state, noted(project).message) == ("finished", "")


def test_a_label_map_that_lost_its_place_fails_the_round_in_words(project, config, disc):
    cropped = replace(disc.labels, array=disc.labels.array[:20])
    write_label_map(project.data / "train" / "labels" / "two.tif", cropped)
    with pytest.raises(DataError, match="same shape") as error:
        finish(iter_round(project, new_round(project, config)))
    record = noted(project)
    assert (record.state, record.message, record.step) == ("failed", str(error.value), 0)


def test_what_is_no_fault_of_the_user_is_raised_as_it_is_and_ends_the_round(project, config, monkeypatch):
    monkeypatch.setattr(runner, "validate", lambda *_: iter([1 // 0]))
    with pytest.raises(ZeroDivisionError):
        finish(iter_round(project, new_round(project, config)))
    assert (noted(project).state, noted(project).step) == ("stopped", 3)


def test_a_project_without_images_to_train_on_is_told_what_to_do(project, config):
    for name in ("one", "two"):
        project.update_pair(name, split="val")
    with pytest.raises(ConfigError, match="no image to train on: mark at least one pair") as error:
        finish(iter_round(project, new_round(project, config)))
    assert "\n" not in str(error.value)
    assert not project.record.rounds and not project.runs()


@pytest.mark.parametrize("left", ["nothing", "a configuration"])
def test_a_round_that_left_nothing_to_go_on_from_is_refused_in_words(project, config, left):
    plan = new_round(project, config)
    if left == "a configuration":
        plan.folder.mkdir(parents=True)
        project.write_config(dump_config(config))
        project.config_file.rename(plan.folder / "config.yaml")
    with pytest.raises(ConfigError, match=r"no configuration file|no run to resume"):
        finish(iter_round(project, resumed(plan)))
    assert not project.record.rounds


DIES = """\
import os, signal, sys
from pathlib import Path
from swipe_core.project import Project
from swipe_core.project.rounds import RoundPlan, iter_round
from swipe_core.training.config import load_config
from swipe_core.training.reports import StepReport

project, step = Project.open(Path(sys.argv[1])), int(sys.argv[2])
plan = RoundPlan(project.next_run(), load_config(project.config_file), device="cpu")
for report in iter_round(project, plan):
    if isinstance(report, StepReport) and report.step == step:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_a_killed_process_leaves_a_project_that_opens_and_a_round_that_goes_on(project, config, unbroken):
    project.write_config(dump_config(config))
    program = [sys.executable, "-c", DIES, str(project.folder), "5"]
    assert subprocess.run(program, timeout=120).returncode == -signal.SIGKILL
    (record,) = on_disk(project)
    assert (record.state, record.step) == ("running", 3)  # as far as the last validation
    opened = Project.open(project.folder)
    assert noted(opened).state == "stopped"
    plan = RoundPlan(opened.folder / record.folder, None, device="cpu")
    assert saved_step(plan.folder) == 4
    result = finish(iter_round(opened, plan))
    assert result.finished and (noted(opened).state, noted(opened).step) == ("finished", STEPS)
    assert noted(opened).dice == result.best_dice
    assert_same_run(plan.folder, unbroken)


# --- The same without a window ------------------------------------------------------------------


@pytest.fixture(scope="module")
def train() -> Callable[[list[str]], int]:
    """What ``swipe`` does with the words after its name."""

    def run(words: list[str]) -> int:
        assert words[0] == "train"
        return swipe(words)

    return run


def test_the_printed_command_trains_the_same_model_as_the_window(project, config, unbroken):
    plan = new_round(project, config)
    words = prepare_command(project, plan)
    assert load_config(project.config_file) == config and not project.runs()
    ended = subprocess.run(
        [sys.executable, "-m", "swipe_core", *words],
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert "2 cases to train on, 1 to validate on" in ended.stderr
    assert_same_run(plan.folder, unbroken)
    assert project.next_run() != plan.folder  # the next round leaves it alone


def test_the_command_starts_from_the_same_model_and_takes_the_folders_too(
    project, config, disc_run, disc_folder, train
):
    project.set_folders([disc_folder])
    loss = config.loss.model_copy(update={"retention_weight": 1.0, "likeness_weight": 1.0})
    batch = config.batch.model_copy(update={"pairs": 16})
    config = config.model_copy(update={"loss": loss, "batch": batch})
    plan = new_round(project, config, start=str(disc_run / "best.safetensors"))
    assert finish(iter_round(project, plan)).finished
    assert load_checkpoint(plan.folder / "last.safetensors").content.summary.training_cases == 3
    twin = replace(plan, folder=project.next_run())
    assert train(prepare_command(project, twin)) == 0
    assert_same_run(twin.folder, plan.folder)


def test_what_the_script_left_unfinished_the_window_finishes(project, config, unbroken, train):
    training = config.training.model_copy(update={"schedule": "steps"})
    plan = new_round(project, config.model_copy(update={"training": training}), minutes=1e-6)
    assert train(prepare_command(project, plan)) == 0
    assert saved_step(plan.folder) == 1
    result = finish(iter_round(project, resumed(plan)))
    assert result.finished
    # The end of the time had one more validation, which may have been the best.
    assert_same_run(plan.folder, unbroken, ("last",))
    assert (noted(project).state, noted(project).step) == ("finished", STEPS)
    assert (noted(project).started_from, noted(project).dice) == ("nothing", result.best_dice)


def test_of_a_run_of_the_script_the_project_learns_its_start_and_its_best(project, config, disc_run, train):
    plan = new_round(project, config, start=str(disc_run / "best.safetensors"))
    assert train(prepare_command(project, plan)) == 0
    best = load_checkpoint(plan.folder / "best.safetensors").content.summary.best_dice
    finish(iter_round(project, resumed(plan)))  # which has nothing left to learn
    assert (noted(project).started_from, noted(project).dice) == ("discs", best)


def test_what_the_window_left_unfinished_the_script_finishes(project, config, unbroken, train):
    plan = new_round(project, config)
    work = iter_round(project, plan)
    up_to(work, is_step(4))
    work.close()
    words = prepare_command(project, resumed(plan))
    assert words[-1] == "--resume" and words[1] == str(plan.folder / "config.yaml")
    assert not project.config_file.exists()
    assert train(words) == 0
    assert_same_run(plan.folder, unbroken)
    # Both were of one round, whose model still says so.
    assert load_checkpoint(project.latest_model()).content.summary.round == "runs/01"
    assert finish(iter_round(project, resumed(plan))).finished
    assert (noted(project).state, noted(project).step) == ("finished", STEPS)


def test_a_folder_without_splits_is_divided_in_the_window_as_by_the_script(
    tmp_path, project, config, disc_folder, train
):
    source = find_cases(disc_folder, "train")[0]
    for number in range(10):
        for kind, path in (("images", source.image_path), ("labels", source.label_path)):
            target = tmp_path / "flat" / kind / f"disc{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    project.set_folders([tmp_path / "flat"])
    training = config.training.model_copy(update={"split_seed": 3, "steps": 2})
    config = config.model_copy(update={"training": training})
    plan = new_round(project, config)
    finish(iter_round(project, plan))
    twin = replace(plan, folder=project.next_run())
    assert train(prepare_command(project, twin)) == 0
    cases = [
        load_checkpoint(p.folder / "last.safetensors").progress["set_of_training_cases"] for p in (plan, twin)
    ]
    assert cases[0] == cases[1]
    assert_same_run(twin.folder, plan.folder)


def test_the_command_says_minutes_device_and_start_only_where_there_are_any(project, config):
    plan = RoundPlan(project.next_run(), config)
    plain = prepare_command(project, plan)
    assert plain == [
        "train",
        str(project.config_file),
        "--data",
        str(project.data),
        "--output",
        str(plan.folder),
    ]
    full = prepare_command(project, replace(plan, start="polyp", minutes=2.5, device="cuda"))
    assert full == [*plain, "--from", "polyp", "--max-minutes", "2.5", "--device", "cuda"]
    again = prepare_command(project, replace(plan, config=None, start="polyp"))
    assert "--from" not in again and again[-1] == "--resume"
