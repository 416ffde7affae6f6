"""Studies: each run is trained once, judged as asked, and nothing that is finished is done again."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from studies import judging as judging_module
from studies.campaign import Campaign, Choice, chosen_studies, plan_campaign
from studies.cost import parameter_count
from studies.data_sets import cases_by_split
from studies.record import TrainedRecord
from studies.results import read_results
from studies.runs import narrowed, plan_runs
from studies.spread import halt_in, iter_on_workers
from studies.study import Study, study_names
from studies.trial import Trial, TrialResult, iter_trial
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.compute.cluster import local_cluster
from swipe_core.data.cases import find_cases
from swipe_core.errors import ConfigError, DataError
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.networks.registry import build_network
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish
from swipe_core.training import learner
from swipe_core.training.config import dump_config
from swipe_core.training.folder import RunFolder
from swipe_core.training.reports import TrainingProgress
from tools.scores_file import read_report

STEPS = 3
LONG = (("training.steps", "16"), ("training.validate_every", "16"))
CONDITIONS = [
    {"name": "as trained"},
    {"name": "coarse output", "output_size": [16, 16], "published": {"plain": 70.0}},
    {"name": "large input", "input_size": [48, 48], "rows": ["bare"]},
    {"name": "others", "other_data": True, "classes": ["foreground"]},
]


@pytest.fixture(scope="module")
def data_root(disc_folder, tmp_path_factory) -> Path:
    """`discs` with train/ and val/, `tested` with test/ besides, and `others` with a label of its own."""
    from conftest import save_picture

    root = tmp_path_factory.mktemp("data")
    shutil.copytree(disc_folder, root / "discs")
    shutil.copytree(disc_folder, root / "tested")
    shutil.copytree(disc_folder / "val", root / "tested" / "test")
    image = np.full((32, 32), 60)
    labels = np.zeros((32, 32))
    image[4:12, 4:12], labels[4:12, 4:12] = 200, 1
    labels[20:28, 20:28] = 7
    save_picture(root / "others" / "images" / "square.png", image)
    save_picture(root / "others" / "labels" / "square.png", labels)
    return root


@pytest.fixture(scope="module")
def config_file(tiny_config, tmp_path_factory) -> str:
    changes = {"training.steps": 50, "training.validate_every": STEPS, "training.save_minutes": 1e-9}
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(dump_config(tiny_config(changes)), "utf-8")
    return str(path)


@pytest.fixture
def values(config_file) -> dict:
    """A study of two small networks, for a test to change."""
    tiny = {"config": config_file, "data": "discs", "other_data": "others"}
    return {
        "name": "small",
        "title": "Small networks",
        "source": "Table 1",
        "settings": {
            "tiny": {**tiny, "changes": {"training.steps": STEPS}},
            "tested": {**tiny, "data": "tested", "changes": {"training.steps": STEPS}, "is_published": True},
        },
        "rows": [
            {"name": "plain", "published": {"parameters": 2.7, "dice": 85.05, "dice_sd": 0.82}},
            {"name": "bare", "changes": {"model.overreach": 0, "training.steps": 9}},
        ],
        "conditions": CONDITIONS,
    }


def planned(values: dict, root: Path, output: Path, **choice) -> Campaign:
    return plan_campaign([Study.model_validate(values)], Choice(**choice), {}, root, output, "cpu")


def keys(values: dict, root: Path, **choice) -> dict[str, str]:
    return {run.name: run.key for run in planned(values, root, Path("nowhere"), **choice).runs}


def carried_out(trials: list[Trial]) -> list[TrialResult]:
    return [finish(iter_trial(trial)) for trial in trials]


@pytest.fixture
def work(monkeypatch) -> dict[str, int]:
    """How many steps were learned, and conditions judged, since the test began."""
    counts = {"steps": 0, "judged": 0}
    learn, judge = learner.Learner.learn, judging_module.evaluate

    def learn_and_count(*arguments):
        counts["steps"] += 1
        return learn(*arguments)

    def judge_and_count(*arguments, **named):
        counts["judged"] += 1
        return judge(*arguments, **named)

    monkeypatch.setattr(learner.Learner, "learn", learn_and_count)
    monkeypatch.setattr(judging_module, "evaluate", judge_and_count)
    return counts


@pytest.fixture(scope="module")
def done(data_root, config_file, tmp_path_factory) -> Path:
    """The folder of a study whose rows are all trained and judged."""
    output = tmp_path_factory.mktemp("done")
    values = {
        "name": "small",
        "title": "Small networks",
        "settings": {
            "tiny": {
                "config": config_file,
                "data": "discs",
                "other_data": "others",
                "changes": {"training.steps": STEPS},
            }
        },
        "rows": [{"name": "plain"}, {"name": "bare", "changes": {"model.overreach": 0}}],
        "conditions": CONDITIONS,
    }
    results = carried_out(planned(values, data_root, output).trials)
    assert [result.state for result in results] == ["done", "done"], results
    return output


def copy_of(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "out"))


# --- Plans ----------------------------------------------------------------------------------------


class TestPlans:
    def test_the_setting_comes_after_the_row_and_the_call_after_both(self, values, data_root, tmp_path):
        values["rows"][1]["changes"]["training.learning_rate"] = 0.5
        campaign = planned(values, data_root, tmp_path)
        bare = campaign.runs[1].config
        assert (bare.training.steps, bare.training.learning_rate, bare.model.overreach) == (STEPS, 0.5, 0)
        called = planned(values, data_root, tmp_path, overrides=(("training.steps", "7"),))
        assert {run.config.training.steps for run in called.runs} == {7}

    def test_another_network_keeps_what_networks_share(self, values, data_root, tmp_path):
        values["rows"] = [{"name": "U-Net", "network": "unet", "changes": {"model.norm": "instance"}}]
        values["conditions"] = CONDITIONS[:1]
        [run] = planned(values, data_root, tmp_path).runs
        model = run.config.model
        assert (model.network, model.channels, model.classes, model.norm) == ("unet", 1, 2, "instance")

    def test_a_run_has_the_same_key_in_every_study(self, values, data_root):
        other = {**values, "name": "other", "conditions": CONDITIONS[:1]}
        other["rows"] = [{"name": "of another name"}]
        assert keys(other, data_root)["of another name, seed 0"] == keys(values, data_root)["plain, seed 0"]

    @pytest.mark.parametrize(
        "changed",
        [
            {"seeds": (1,)},
            {"setting": "tested"},
            {"overrides": (("training.steps", "4"),)},
            {"overrides": (("batch.size", "3"),)},
        ],
    )
    def test_the_key_changes_with_whatever_decides_the_result(self, values, data_root, changed):
        before, after = keys(values, data_root), keys(values, data_root, **changed)
        assert not set(before.values()) & set(after.values())

    @pytest.mark.parametrize("field", ["training.save_minutes", "training.log_every", "batch.workers"])
    def test_the_key_stays_with_what_makes_no_difference(self, values, data_root, field):
        assert keys(values, data_root, overrides=((field, "7"),)) == keys(values, data_root)

    def test_the_key_changes_with_the_cases(self, values, data_root, tmp_path):
        root = Path(shutil.copytree(data_root, tmp_path / "data"))
        for kind in ("images", "labels"):
            folder = root / "discs" / "val" / kind
            (folder / "disc.png").rename(folder / "renamed.png")
        assert keys(values, root)["plain, seed 0"] != keys(values, data_root)["plain, seed 0"]

    def test_a_run_is_another_once_labels_were_corrected_under_the_same_name(
        self, values, data_root, tmp_path
    ):
        from conftest import save_picture

        root = Path(shutil.copytree(data_root, tmp_path / "data"))
        assert keys(values, root) == keys(values, data_root)
        before = planned(values, root, tmp_path).runs[0].judgings
        save_picture(root / "discs" / "val" / "labels" / "disc.png", np.eye(32))
        runs = planned(values, root, tmp_path).runs
        assert not {run.key for run in runs} & set(keys(values, data_root).values())
        changed = [one.key != other.key for one, other in zip(before, runs[0].judgings, strict=True)]
        assert changed == [True, True, False]  # the last one is on other data

    @pytest.mark.parametrize(("setting", "matters"), [("tiny", False), ("tested", True)])
    def test_how_often_is_validated_matters_only_where_that_chooses(
        self, values, data_root, setting, matters
    ):
        often = keys(values, data_root, setting=setting, overrides=(("training.validate_every", "1"),))
        assert (often != keys(values, data_root, setting=setting)) == matters

    def test_seeds_come_one_after_the_other_with_all_rows_each(self, values, data_root, tmp_path):
        runs = planned(values, data_root, tmp_path, seeds=(0, 1)).runs
        assert [run.name for run in runs] == [
            "plain, seed 0",
            "bare, seed 0",
            "plain, seed 1",
            "bare, seed 1",
        ]

    def test_what_is_shared_is_one_trial_with_the_conditions_of_both(self, values, data_root, tmp_path):
        first = Study.model_validate({**values, "conditions": CONDITIONS[:1]})
        second = Study.model_validate({**values, "name": "second", "conditions": CONDITIONS[1:2]})
        campaign = plan_campaign([first, second], Choice(), {}, data_root, tmp_path, "cpu")
        assert len(campaign.runs) == 4
        assert [len(trial.judgings) for trial in campaign.trials] == [2, 2]

    @pytest.mark.parametrize(
        ("choice", "sentence"),
        [
            ({"setting": "tidy"}, "small has no setting 'tidy', only tiny, tested. Did you mean 'tiny'?"),
            ({"rows": ("plane",)}, "small has no row 'plane', only 'plain', 'bare'. Did you mean 'plain'?"),
            (
                {"overrides": (("training.seed", "1"),)},
                "--training.seed is what a study is about: choose with --seeds",
            ),
            (
                {"overrides": (("model.plans", "1"),)},
                "Row 'plain': .* no field 'model.plans'. Did you mean 'planes'?",
            ),
        ],
    )
    def test_what_cannot_be_planned_is_one_sentence(self, values, data_root, tmp_path, choice, sentence):
        with pytest.raises(ConfigError, match=sentence.replace("?", r"\?")):
            planned(values, data_root, tmp_path, **choice)

    @pytest.mark.parametrize(
        ("condition", "sentence"),
        [
            ({"classes": ["fore"]}, "Condition 'odd': There is no class 'fore' to judge, only foreground"),
            ({"output_size": [4, 4, 4]}, "Condition 'odd': output_size needs 2 numbers"),
        ],
    )
    def test_a_condition_that_does_not_suit_is_told_before_the_training(
        self, values, data_root, tmp_path, condition, sentence
    ):
        values["conditions"] = [{"name": "odd", **condition}]
        with pytest.raises(ConfigError, match=sentence):
            planned(values, data_root, tmp_path)

    def test_missing_data_are_named_with_both_ways_to_give_them(self, values, data_root, tmp_path):
        shutil.copytree(data_root / "discs", tmp_path / "discs")
        with pytest.raises(DataError, match="others is needed.*--data others=DIR, or --data-root DIR"):
            planned(values, tmp_path, tmp_path)
        # Without the condition that asks for them they are not.
        values["conditions"] = CONDITIONS[:1]
        assert planned(values, tmp_path, tmp_path).runs

    def test_data_with_nothing_to_judge_on_are_refused(self, data_root, tmp_path):
        shutil.copytree(data_root / "discs" / "train", tmp_path / "lonely" / "train")
        with pytest.raises(DataError, match="none to judge on"):
            cases_by_split(tmp_path / "lonely", 0)

    def test_the_beginning_of_a_name_stands_for_all_studies_that_begin_so(self):
        overall = [study.name for study in chosen_studies(["study1_overall"])]
        assert overall == [name for name in study_names() if name.startswith("study1_overall")]
        assert len(overall) > 1
        with pytest.raises(ConfigError, match="There is no study 'studie'"):
            chosen_studies(["studie"])

    def test_a_network_that_cannot_be_had_is_told_before_anything_is_trained(
        self, values, data_root, tmp_path
    ):
        values["rows"][1] = {"name": "bare", "network": "unetr"}
        with pytest.raises(ConfigError, match="Row 'bare': UNETR is for 3D images"):
            planned(values, data_root, tmp_path)

    def test_narrowed_to_some_rows_the_others_conditions_are_gone(self, values):
        study = narrowed(Study.model_validate(values), rows=["plain"])
        assert [row.name for row in study.rows] == ["plain"]
        assert "large input" not in [condition.name for condition in study.conditions]


# --- Conditions -----------------------------------------------------------------------------------


def report_of(done: Path, values: dict, data_root: Path, row: int, condition: str):
    run = planned(values, data_root, done).runs[row]
    judging = next(each for each in run.judgings if each.condition.name == condition)
    trial = Trial(run, run.judgings, done / "runs" / run.key)
    return trial, read_report(trial.scores_of(judging))


class TestConditions:
    def test_the_output_size_is_what_masks_are_compared_on(self, done, values, data_root):
        trial, report = report_of(done, values, data_root, 0, "coarse output")
        [scores] = report.cases[0].classes.values()
        # The reference at the nearest voxels of 16 x 16, each of which is 2 x 2 of its own.
        from swipe_core.images import read_label_map

        [case] = find_cases(data_root / "discs", "val")
        reference = read_label_map(case.label_path, ndim=2).array[1::2, 1::2]
        assert scores.volume_reference == 4 * np.count_nonzero(reference)

    def test_the_input_size_is_what_the_network_sees_and_masks_are_compared_on(
        self, done, values, data_root, monkeypatch
    ):
        trial, report = report_of(done, values, data_root, 1, "large input")
        seen = []
        encode = Predictor.iter_encoded

        def look(self, prepared, *arguments):
            seen.append(prepared.shape)
            return encode(self, prepared, *arguments)

        monkeypatch.setattr(Predictor, "iter_encoded", look)
        judging = next(each for each in trial.judgings if each.condition.name == "large input")
        checkpoint = load_checkpoint(trial.checkpoint)
        again = finish(judging_module.iter_judge(checkpoint, judging, trial.folder / "again.json", "cpu"))
        assert seen == [(48, 48)]
        assert again == report
        [scores] = report.cases[0].classes.values()
        pixels = scores.volume_reference / (32 / 48) ** 2
        assert pixels == pytest.approx(round(pixels)) and pixels > 300

    def test_of_other_data_labels_that_are_not_judged_count_as_nothing(self, done, values, data_root):
        _, report = report_of(done, values, data_root, 0, "others")
        assert report.class_names == ("foreground",)
        [scores] = report.cases[0].classes.values()
        assert scores.volume_reference == 64

    def test_a_label_beyond_the_classes_is_refused_where_all_are_judged(self, done, values, data_root):
        trial, _ = report_of(done, values, data_root, 0, "others")
        work = evaluate(Predictor.load(trial.checkpoint, device="cpu"), find_cases(data_root / "others"))
        with pytest.raises(DataError, match="labels outside the 2 classes"):
            finish(work)

    def test_with_a_test_part_the_best_model_is_judged_on_it(self, values, data_root, tmp_path):
        [run, _] = planned(values, data_root, tmp_path, setting="tested").runs
        assert run.is_chosen
        assert Trial(run, run.judgings, tmp_path).checkpoint == RunFolder(tmp_path).best
        assert [judging.split for judging in run.judgings] == ["test", "test", None]

    def test_without_one_the_last_model_is_judged(self, values, data_root, tmp_path):
        [run, _] = planned(values, data_root, tmp_path).runs
        assert not run.is_chosen
        assert Trial(run, run.judgings, tmp_path).checkpoint == RunFolder(tmp_path).last
        assert [judging.split for judging in run.judgings] == ["val", "val", None]


# --- Work that is done once -----------------------------------------------------------------------


class TestWork:
    def test_what_is_finished_is_not_done_again(self, done, values, data_root, work):
        assert planned(values, data_root, done).trials == []
        run = planned(values, data_root, done).runs[0]
        result = finish(iter_trial(Trial(run, run.judgings, done / "runs" / run.key)))
        assert result.state == "done" and work == {"steps": 0, "judged": 0}

    def test_missing_scores_are_all_that_is_made_of_a_trained_run(
        self, done, values, data_root, work, tmp_path
    ):
        campaign = planned(values, data_root, copy_of(done, tmp_path))
        run = campaign.runs[0]
        Trial(run, run.judgings, campaign.output / "runs" / run.key).scores_of(run.judgings[1]).unlink()
        [result] = carried_out(campaign.trials)
        assert result.state == "done" and work == {"steps": 0, "judged": 1}

    def test_a_run_that_is_killed_goes_on_from_its_last_state(self, values, data_root, work, tmp_path):
        [trial, _] = planned(values, data_root, tmp_path).trials
        killed_at(trial, step=2)
        # The save of the second step came after its report.
        assert finish(iter_trial(trial)).state == "done"
        assert work["steps"] == STEPS - 1
        assert TrainedRecord.read(trial.folder).steps == STEPS

    def test_killed_before_its_record_a_trained_run_takes_no_step_more(
        self, done, values, data_root, work, tmp_path
    ):
        campaign = planned(values, data_root, copy_of(done, tmp_path))
        run = campaign.runs[0]
        record = TrainedRecord.read(campaign.output / "runs" / run.key)
        TrainedRecord.path(campaign.output / "runs" / run.key).unlink()
        [result] = carried_out(campaign.trials)
        assert result.state == "done" and work == {"steps": 0, "judged": 0}
        again = TrainedRecord.read(campaign.output / "runs" / run.key)
        assert (again.steps, again.parameters) == (record.steps, record.parameters)

    def test_halted_it_saves_and_goes_on_with_the_steps_that_are_left(
        self, values, data_root, work, tmp_path
    ):
        [trial, _] = planned(values, data_root, tmp_path).trials
        result = finish(iter_trial(trial, lambda: work["steps"] == 2))
        assert result.state == "stopped" and not RunFolder(trial.folder).lock.path.exists()
        assert finish(iter_trial(trial)).state == "done"
        assert work["steps"] == STEPS

    def test_a_run_that_fails_is_a_sentence_and_the_others_are_done(
        self, values, data_root, work, tmp_path, monkeypatch
    ):
        learn = learner.Learner.learn

        def too_large(self, *arguments):
            if self.config.model.overreach:
                raise torch.OutOfMemoryError("out of memory")
            return learn(self, *arguments)

        monkeypatch.setattr(learner.Learner, "learn", too_large)
        campaign = planned(values, data_root, tmp_path)
        failed, other = carried_out(campaign.trials)
        assert (failed.state, other.state) == ("failed", "done")
        assert failed.messages == (
            "The memory does not suffice: lower batch.size, or raise training.accumulate.",
        )
        finish(campaign.iter_write({failed.key: failed.messages}, with_pictures=False))
        text = (tmp_path / "small" / "tiny" / "table.md").read_text("utf-8")
        assert "- plain, seed 0: The memory does not suffice" in text
        [first, second] = [cells[1] for cells in cells_of(text, "## Dice")]
        assert first == "failed" and second.endswith(" ± 0.0")

    def test_a_condition_that_fails_keeps_the_other_scores(self, values, data_root, tmp_path, monkeypatch):
        judge = judging_module.evaluate

        def fault(*arguments, output_size=None, **named):
            if output_size == (16, 16):
                raise DataError("No such output.")
            return judge(*arguments, output_size=output_size, **named)

        monkeypatch.setattr(judging_module, "evaluate", fault)
        [trial, _] = planned(values, data_root, tmp_path).trials
        result = finish(iter_trial(trial))
        assert result.messages == ("coarse output: No such output.",)
        assert [judging.condition.name for judging in trial.unjudged] == ["coarse output"]

    def test_the_cost_is_that_of_the_network_that_was_trained(self, done, values, data_root):
        for run in planned(values, data_root, done).runs:
            record = TrainedRecord.read(done / "runs" / run.key)
            assert record.parameters == parameter_count(build_network(run.config.model))
            assert record.shape == (32, 32) and record.multiply_adds > 1e6


def killed_at(trial: Trial, step: int) -> None:
    """Carry a trial out in a process that is gone as soon as it tells of a step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
        child = os.fork()
    if not child:
        try:
            for report in iter_trial(trial):
                if isinstance(report, TrainingProgress) and report.done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


# --- Tables ---------------------------------------------------------------------------------------


def cells_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its own head."""
    table = text[text.index(heading) :].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def write_table(values: dict, data_root: Path, output: Path, **choice) -> str:
    campaign = planned(values, data_root, output, **choice)
    [path] = finish(campaign.iter_write({}, "python compare.py", with_pictures=False))
    return path.read_text("utf-8")


class TestTable:
    def test_it_has_all_rows_and_conditions_with_their_scores(self, done, values, data_root, tmp_path):
        text = write_table(values, data_root, copy_of(done, tmp_path))
        for metric in ("Dice", "HD95 (pixel)", "Surface Dice"):
            rows = cells_of(text, f"## {metric}")
            assert [row[0] for row in rows] == ["plain", "bare"]
            assert rows[0][3] == "" and rows[1][3] != ""  # only one row is judged with a large input
        _, report = report_of(done, values, data_root, 0, "others")
        dice = 100 * report.mean("dice")
        assert cells_of(text, "## Dice")[0][4] == f"{dice:.1f} ± 0.0"

    def test_the_foot_says_on_what_was_chosen_and_judged(self, done, values, data_root, tmp_path):
        text = write_table(values, data_root, copy_of(done, tmp_path))
        assert "`discs`: 1 training and 1 validation cases. Other data: `others`, all 1 cases." in text
        assert "with the weights of the last step: nothing was chosen by the cases" in text
        assert f"{STEPS} steps of 4 images; seed 0, on cpu" in text
        assert "± is the standard deviation over the cases, since there is one seed" in text

    def test_the_papers_numbers_stand_only_beside_its_own_data(self, done, values, data_root, tmp_path):
        output = copy_of(done, tmp_path)
        ours = write_table(values, data_root, output)
        assert "*" not in ours.split("## What")[0] and "of other data, and so do not stand" in ours
        theirs = write_table(values, data_root, output, setting="tested")
        rows = cells_of(theirs, "## Dice")
        assert rows[0][1:3] == ["not trained yet (*85.05 ± 0.82*)", "not trained yet (*70.00*)"]
        assert rows[1][1] == "not trained yet"
        assert "**In parentheses**: the numbers of Table 1." in theirs

    def test_with_several_seeds_the_spread_is_over_them(self, done, values, data_root, tmp_path):
        output = copy_of(done, tmp_path)
        campaign = planned(values, data_root, output, rows=("plain",), seeds=(0, 1))
        before = write_table(values, data_root, output, rows=("plain",), seeds=(0, 1))
        assert "1 of 2" in before and "±" not in before.split("## What")[0]
        carried_out(campaign.trials)
        [planned_study] = campaign.studies
        results = read_results(planned_study.study, "tiny", planned_study.runs, output)
        means = [100 * run.scores["as trained"].mean("dice") for run in results.finished]
        after = write_table(values, data_root, output, rows=("plain",), seeds=(0, 1))
        assert f"{np.mean(means):.1f} ± {np.std(means, ddof=1):.1f}" in after
        assert "2 of 2" in after and "over the seeds" in after

    def test_the_csv_has_a_line_for_each_row_seed_and_condition(self, done, values, data_root, tmp_path):
        output = copy_of(done, tmp_path)
        write_table(values, data_root, output, seeds=(0, 1))
        lines = list(
            csv.DictReader(io.StringIO((output / "small" / "tiny" / "table.csv").read_text("utf-8")))
        )
        assert len(lines) == 2 * (3 + 4)
        assert {(line["seed"], line["state"]) for line in lines} == {
            ("0", "judged"),
            ("1", "not trained yet"),
        }
        [others] = [each for each in lines if each["row"] == "plain" and each["condition"] == "others"][:1]
        _, report = report_of(done, values, data_root, 0, "others")
        assert float(others["dice"]) == report.mean("dice")
        assert (others["data"], others["split"], others["cases"]) == ("others", "all", "1")

    def test_how_far_an_unfinished_run_is_stands_in_its_place(self, values, data_root, work, tmp_path):
        [trial, _] = planned(values, data_root, tmp_path).trials
        finish(iter_trial(trial, lambda: work["steps"] == 2))
        rows = cells_of(write_table(values, data_root, tmp_path), "## Dice")
        assert rows[0][1] == f"not trained yet (step 2 of {STEPS})" and rows[1][1] == "not trained yet"


# --- Processes ------------------------------------------------------------------------------------


def scores_in(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.glob("runs/*/scores/*.json")}


def test_two_workers_give_the_scores_of_none_and_one_that_is_killed_loses_little(
    done, values, data_root, tmp_path
):
    [plain] = planned(values, data_root, tmp_path, rows=("plain",)).trials
    [long] = planned(values, data_root, tmp_path, rows=("plain",), overrides=LONG).trials
    with local_cluster(2) as cluster, halt_in(tmp_path) as halt:
        halt.ask()
        stopped = [result.state for _, result in iter_on_workers(cluster, [long, plain], halt)]
        assert stopped == ["stopped", "stopped"] and not scores_in(tmp_path)
        halt.path.unlink()
        killing = ThreadPoolExecutor().submit(kill_holder_of, long)
        results = [result for _, result in iter_on_workers(cluster, [long, plain], halt)]
        assert killing.result() and [result.state for result in results] == ["done", "done"]
    sessions = [r["step"] for r in RunFolder(long.folder).records() if r["kind"] == "session"]
    assert sessions[0] == 0 and sessions[1] > 0
    shutil.rmtree(long.folder)
    serial = {name: scores for name, scores in scores_in(done).items() if plain.run.key in name}
    assert len(serial) == 3 and scores_in(tmp_path) == serial


def kill_holder_of(trial: Trial) -> bool:
    """Kill the process that works on a trial, once some of its steps are saved; whether it came to that."""
    folder = RunFolder(trial.folder)
    for _ in range(6000):
        holder = folder.lock.holder()
        if holder is not None and folder.last.exists():
            os.kill(holder[0], signal.SIGKILL)
            return True
        time.sleep(0.01)
    return False


def test_another_working_directory_makes_no_difference_to_a_worker(values, data_root, tmp_path, monkeypatch):
    from studies import spread

    monkeypatch.chdir(data_root)
    study = Study.model_validate(values)
    runs = plan_runs(study, study.settings["tiny"], {"discs": Path("discs"), "others": Path("others")})
    sent = spread._absolute(Trial(runs[0], runs[0].judgings, Path("out")))
    assert {sent.run.data, *(judging.data for judging in sent.judgings)} == {
        data_root / "discs",
        data_root / "others",
    }
    assert sent.folder == data_root / "out"
