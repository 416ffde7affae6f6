"""The comparing script trains, judges, stops, goes on, and tells what a user got wrong in one line."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from studies.study import study_names
from swipe_core.errors import ConfigError
from swipe_core.training.config import dump_config
from swipe_core.training.folder import RunFolder
from swipe_core.training.runner import TRAINING

STEPS = 3


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("compare")


@pytest.fixture(scope="module")
def study(tiny_config, disc_folder, tmp_path_factory) -> Path:
    """A study of two rows, beside its configuration and its data set `discs`."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(disc_folder, folder / "data" / "discs")
    (folder / "tiny.yaml").write_text(dump_config(tiny_config({"training.validate_every": STEPS})), "utf-8")
    values = {
        "name": "discs_study",
        "title": "Discs",
        "settings": {
            "tiny": {
                "config": str(folder / "tiny.yaml"),
                "data": "discs",
                "changes": {"training.steps": STEPS},
            }
        },
        "rows": [{"name": "SwIPE"}, {"name": "no overreach", "changes": {"model.overreach": 0}}],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


@pytest.fixture
def command(study, tmp_path) -> list[str]:
    """Words that run the study into the folder `out` of the test."""
    data = ["--data-root", str(study.parent / "data")]
    return [str(study), *data, "--output", str(tmp_path / "out"), "--device", "cpu"]


def steps_of(output: Path) -> list[int]:
    """How many steps each run took, over all sessions, by its log."""
    logs = [RunFolder(folder).records() for folder in sorted((output / "runs").iterdir())]
    return [sum(record["kind"] == "step" for record in log) for log in logs]


def test_it_trains_judges_and_writes_and_the_second_call_only_writes(script, command, tmp_path, capsys):
    assert script.main(command) == 0
    told = capsys.readouterr()
    table = tmp_path / "out" / "discs_study" / "tiny" / "table.md"
    assert "SwIPE, seed 0: trained in" in told.out and str(table) in told.out
    assert "2 runs, 0 of them finished" in told.err
    text = table.read_text("utf-8")
    assert "| SwIPE " in text and "| no overreach " in text and "![dice](dice.png)" in text
    assert (table.parent / "dice.png").exists() and (table.parent / "table.csv").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*")}
    assert script.main(command) == 0
    assert "2 runs, 2 of them finished" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*")}
    assert steps_of(tmp_path / "out") == [STEPS, STEPS]


def test_ctrl_c_saves_and_says_how_to_go_on(script, command, tmp_path, capfd, monkeypatch):
    carry_out = script.iter_trial

    def interrupted(*arguments):
        work = carry_out(*arguments)
        while True:
            try:
                report = next(work)
            except StopIteration as end:
                return end.value
            if getattr(report, "stage", None) == TRAINING and report.done == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield report

    monkeypatch.setattr(script, "iter_trial", interrupted)
    assert script.main(command) == 130
    told = capfd.readouterr().err
    assert "saving the runs in progress" in told and "this goes on:" in told and "--device cpu" in told
    assert steps_of(tmp_path / "out") == [2]
    table = (tmp_path / "out" / "discs_study" / "tiny" / "table.md").read_text("utf-8")
    assert f"not trained yet (step 2 of {STEPS})" in table
    assert not list((tmp_path / "out").glob(".halt*"))
    monkeypatch.setattr(script, "iter_trial", carry_out)
    assert script.main([*command, "--rows", "SwIPE"]) == 0
    assert steps_of(tmp_path / "out") == [STEPS]


def test_table_only_trains_nothing(script, command, tmp_path):
    assert script.main([*command, "--table-only"]) == 0
    table = (tmp_path / "out" / "discs_study" / "tiny" / "table.md").read_text("utf-8")
    assert table.count("not trained yet") == 2
    assert not (tmp_path / "out" / "runs").exists()


def test_a_run_that_fails_is_told_and_the_exit_code_says_so(script, command, tmp_path, error_line):
    # The scores cannot be written where a file takes the place of their folder.
    assert script.main([*command, "--rows", "SwIPE", "--table-only"]) == 0
    [run] = script.planned(script.parse_arguments([*command, "--rows", "SwIPE"])).runs
    folder = tmp_path / "out" / "runs" / run.key
    folder.mkdir(parents=True)
    (folder / "scores").touch()
    assert script.main(command) == 2
    told = error_line()
    assert told.startswith("SwIPE, seed 0: as trained: ") and "cannot be written" in told
    table = (tmp_path / "out" / "discs_study" / "tiny" / "table.md").read_text("utf-8")
    assert "## Failed" in table and steps_of(tmp_path / "out") == [STEPS, STEPS]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--setting", "large"], "discs_study has no setting 'large', only tiny."),
        (["--data-root", "nowhere"], "The data set discs is needed, and there is no folder nowhere/discs"),
        (["--data", "disc=."], "--data disc=... is of no use here"),
        (["--training.step", "3"], "there is no field 'training.step'. Did you mean 'steps'?"),
        (["--device", "abacus"], "A device is one of"),
        (["--rows", "swipe"], "has no row 'swipe', only 'SwIPE', 'no overreach'."),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_trained(
    script, command, tmp_path, error_line, change, sentence
):
    assert script.main([*command, *change]) == 2
    assert sentence in error_line()
    assert not (tmp_path / "out").exists()


def test_without_a_folder_for_the_data_both_ways_to_give_it_are_told(script, study, tmp_path, error_line):
    assert script.main([str(study), "--output", str(tmp_path / "out")]) == 2
    assert "--data discs=DIR, or --data-root DIR" in error_line()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--training.steps"], "--training.steps needs a value"),
        (["--data", "discs"], "'discs' is no NAME=DIR"),
        (["--seeds", "-1"], "'-1' is no whole number"),
        (["--wokers", "2"], "unknown argument '--wokers'"),
        (["--workers", "2", "--scheduler", "tcp://here:1"], "not allowed with"),
    ],
)
def test_an_argument_that_cannot_be_read_is_told(script, command, capsys, words, said):
    with pytest.raises(SystemExit) as end:
        script.main([*command, *words])
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_the_list_names_all_studies_with_their_settings_and_data(script, capsys):
    with pytest.raises(SystemExit) as end:
        script.main(["--list"])
    assert end.value.code == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in study_names())
    assert "kvasir196, polypgen" in listed


def test_no_more_workers_are_started_than_there_are_runs(script, command, monkeypatch):
    asked = []

    def started(workers):
        asked.append(workers)
        raise ConfigError("No cluster in this test.")

    monkeypatch.setattr(script, "local_cluster", started)
    assert script.main([*command, "--workers", "8"]) == 2
    assert asked == [2]
