"""Laws of training: resuming changes nothing, time is kept, and what was learned is never lost."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.data.cases import Case, find_cases
from swipe_core.errors import CheckpointError, ConfigError, DataError, TrainingError
from swipe_core.images import read_image
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, finish
from swipe_core.training import learner, runner
from swipe_core.training import reports as training_clock
from swipe_core.training.config import ExperimentConfig, TrainingConfig, load_config
from swipe_core.training.folder import RunFolder
from swipe_core.training.optimisation import (
    build_optimiser,
    learning_rate,
    optimiser_tensors,
    restore_optimiser,
    update_average,
)
from swipe_core.training.reports import Clock, StepReport, TrainingProgress, TrainingResult, ValidationReport
from swipe_core.training.runner import Trainer

SIX_STEPS = {"training.steps": 6, "training.validate_every": 2, "augmentation.rotation": 0.5}
# Long enough that only the end of a run, or an interruption, saves.
NEVER = 1e6


@pytest.fixture(scope="module")
def disc(disc_folder) -> list[Case]:
    return find_cases(disc_folder, "train")


def trainer(config: ExperimentConfig, cases: list[Case], folder: Path, **settings) -> Trainer:
    return Trainer(config, cases, cases, folder, **settings)


def stop_at(work, condition: Callable[[object], bool]) -> object:
    """Iterate a run up to the first report that fulfils a condition, then close it."""
    for report in work:
        if condition(report):
            work.close()
            return report
    raise AssertionError("the run ended before")


def is_step(step: int) -> Callable[[object], bool]:
    return lambda report: isinstance(report, StepReport) and report.step == step


def sentence(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message and ". " not in message
    return message


def assert_same_state(first: Checkpoint, second: Checkpoint) -> None:
    assert_same_tensors(first.weights, second.weights)
    assert_same_tensors(first.state, second.state)


def assert_same_tensors(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def losses(folder: Path) -> list[dict[str, float]]:
    return [record["losses"] for record in RunFolder(folder).records() if record["kind"] == "step"]


def test_validation_cases_without_any_class_choose_no_best_weights_and_that_is_said_once(
    tmp_path, tiny_config, disc
):
    path = tmp_path / "nothing.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    nothing = [Case("nothing", disc[0].image_path, path)]
    reports = list[object]()
    work = Trainer(tiny_config(SIX_STEPS), disc, nothing, tmp_path / "run").run()
    result = finish(work, reports.append)
    assert (result.step, result.finished, result.best, result.best_dice) == (6, True, None, None)
    assert result.last.exists() and not any(isinstance(report, ValidationReport) for report in reports)
    said = [report.message for report in reports if isinstance(report, Notice)]
    assert len([line for line in said if "no weights can be judged, and the last are kept" in line]) == 1


# --- Resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 4], ids=["between-validations", "at-a-validation"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, tiny_config, disc, stop):
    config = tiny_config(SIX_STEPS)
    unbroken = finish(trainer(config, disc, tmp_path / "unbroken").run())
    stop_at(trainer(config, disc, tmp_path / "broken").run(), is_step(stop))
    resumed = finish(trainer(config, disc, tmp_path / "broken", resume=True).run())
    assert_same_state(load_checkpoint(unbroken.last), load_checkpoint(resumed.last))
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")
    assert len(losses(tmp_path / "broken")) == 6
    assert (resumed.step, resumed.finished) == (6, True)
    assert resumed.best_dice == unbroken.best_dice
    assert_same_state(load_checkpoint(resumed.best), load_checkpoint(unbroken.best))


def test_a_network_that_no_memory_holds_is_refused_in_words(tmp_path, tiny_config):
    config = tiny_config({"model.embedding_width": 2**40})
    with pytest.raises(ConfigError, match="does not fit into memory: lower the widths") as caught:
        Trainer(config, [], [], tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_share_of_the_cases_is_trained_on_and_told(tmp_path, tiny_config, disc):
    cases = [replace(disc[0], name=f"disc{n}") for n in range(4)]
    run = Trainer(tiny_config({"training.steps": 1, "training.case_share": 0.5}), cases, [], tmp_path)
    assert len(run.training_cases) == 2
    assert load_checkpoint(finish(run.run()).last).content.summary.training_cases == 2


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path, tiny_config, disc):
    first, again, other = (
        finish(Trainer(tiny_config({"training.steps": 2, "training.seed": s}), disc, [], tmp_path / n).run())
        for n, s in (("first", 0), ("again", 0), ("other", 1))
    )
    assert_same_state(load_checkpoint(first.last), load_checkpoint(again.last))
    assert losses(tmp_path / "first") == losses(tmp_path / "again") != losses(tmp_path / "other")
    assert other.step == 2


def test_training_time_adds_up_over_the_sessions_of_a_run(tmp_path, tiny_config, disc):
    config = tiny_config({"training.steps": 4})
    stopped = stop_at(Trainer(config, disc, [], tmp_path).run(), is_step(2))
    resumed = Trainer(config, disc, [], tmp_path, resume=True)
    assert resumed.minutes >= stopped.minutes > 0
    assert finish(resumed.run()).minutes > resumed.minutes - 1e-12 > stopped.minutes


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path, tiny_config, disc):
    config = tiny_config({"training.steps": 2})
    first = finish(Trainer(config, disc, [], tmp_path).run())
    before = load_checkpoint(first.last)
    again = finish(Trainer(config, disc, [], tmp_path, resume=True).run())
    assert again.finished and again.step == 2
    assert_same_state(before, load_checkpoint(again.last))


def test_more_steps_can_be_asked_of_a_finished_run(tmp_path, tiny_config, disc):
    finish(Trainer(tiny_config({"training.steps": 2}), disc, [], tmp_path).run())
    longer = finish(Trainer(tiny_config({"training.steps": 3}), disc, [], tmp_path, resume=True).run())
    assert (longer.step, len(losses(tmp_path))) == (3, 3)


# --- Stopping -----------------------------------------------------------------------------------


def test_closing_the_generator_saves_the_state(tmp_path, tiny_config, disc):
    config = tiny_config({"training.steps": 50, "training.save_minutes": NEVER})
    stop_at(Trainer(config, disc, [], tmp_path).run(), is_step(2))
    saved = load_checkpoint(tmp_path / "last.safetensors")
    assert saved.progress["step"] == saved.content.summary.step == 2
    assert saved.state
    assert Trainer(config, disc, [], tmp_path, resume=True).step == 2


def test_ctrl_c_inside_a_step_leaves_what_was_saved_before(tmp_path, tiny_config, disc, monkeypatch):
    config = tiny_config({"training.steps": 50, "training.save_minutes": NEVER})
    stop_at(Trainer(config, disc, [], tmp_path).run(), is_step(2))
    before = (tmp_path / "last.safetensors").read_bytes()
    monkeypatch.setattr(learner, "loss_terms", interrupted_after(3, learner.loss_terms))
    with pytest.raises(KeyboardInterrupt):
        finish(Trainer(config, disc, [], tmp_path, resume=True).run())
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_ctrl_c_between_steps_saves_the_state(tmp_path, tiny_config, disc, monkeypatch):
    config = tiny_config({"training.steps": 50, "training.save_minutes": NEVER})
    monkeypatch.setattr(RunFolder, "log_record", interrupted_after(3, RunFolder.log_record))
    with pytest.raises(KeyboardInterrupt):
        finish(Trainer(config, disc, [], tmp_path).run())
    assert load_checkpoint(tmp_path / "last.safetensors").progress["step"] == 3


def interrupted_after(calls: int, function: Callable) -> Callable:
    """The function, until Ctrl-C comes at a later call."""
    left = iter(range(calls))

    def call(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*arguments)

    return call


def test_the_state_is_saved_from_time_to_time(tmp_path, tiny_config, disc):
    config = tiny_config({"training.steps": 5, "training.save_minutes": 1e-9})
    seen = []
    for report in Trainer(config, disc, [], tmp_path).run():
        if isinstance(report, StepReport) and (tmp_path / "last.safetensors").exists():
            seen.append((report.step, load_checkpoint(tmp_path / "last.safetensors").progress["step"]))
    assert seen == [(2, 1), (3, 2), (4, 3), (5, 4)]


# --- Learning -----------------------------------------------------------------------------------


def test_a_tiny_model_overfits_one_disc_in_seconds(disc_run):
    validations = [r for r in RunFolder(disc_run).records() if r["kind"] == "validation"]
    assert validations[-1]["mean_dice"] > 0.95
    assert losses(disc_run)[-1]["total"] < 0.5 * losses(disc_run)[0]["total"]


def test_bfloat16_learns_as_well_and_computes_otherwise(tmp_path, tiny_config, disc):
    dice = {}
    for precision in ("float32", "bfloat16"):
        config = tiny_config({"training.precision": precision})
        dice[precision] = finish(trainer(config, disc, tmp_path / precision).run()).best_dice
    assert dice["bfloat16"] == pytest.approx(dice["float32"], abs=0.05)
    assert losses(tmp_path / "bfloat16") != losses(tmp_path / "float32")


def test_bfloat16_in_3d_on_a_cpu_is_refused_and_auto_avoids_it(tmp_path, tiny_volume_config):
    def precision(name: str) -> ExperimentConfig:
        changed = tiny_volume_config.training.model_copy(update={"precision": name})
        return tiny_volume_config.model_copy(update={"training": changed})

    with pytest.raises(ConfigError, match="float32 or auto") as caught:
        Trainer(precision("bfloat16"), [], [], tmp_path / "run")
    assert ". " not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert not Trainer(precision("auto"), [], [], tmp_path / "run").learner.half_precision


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_accumulating_gradients_over_parts_is_the_same_step(tmp_path, tiny_config, disc, weight):
    # Without normalisation over the batch. Only overreach draws, for parts as for the whole.
    settings = {"model.norm": "group", "training.steps": 1, "loss.cross_entropy_weight": weight}
    gradients, reports = [], []
    for parts in (1, 2, 4):
        changes = settings | {"training.accumulate": parts, "training.clip_norm": NEVER}
        run = Trainer(tiny_config(changes), disc, [], tmp_path / str(parts))
        finish(run.run())
        gradients.append(
            torch.cat([p.grad.flatten() for p in run.learner.model.parameters() if p.grad is not None])
        )
        reports.append(losses(run.folder.path)[0])
    for gradient, report in zip(gradients[1:], reports[1:], strict=True):
        assert (gradient - gradients[0]).norm() < 1e-4 * gradients[0].norm()
        assert report == pytest.approx(reports[0], rel=1e-5)


def test_the_best_checkpoint_is_that_of_the_best_validation(tmp_path, tiny_config, disc, monkeypatch):
    scores = iter([0.5, 0.9, 0.2])

    def scripted(predictor, cases, content):
        yield Progress("Validating", 1, 1)
        return {"foreground": next(scores)}

    monkeypatch.setattr(runner, "validate", scripted)
    work = trainer(tiny_config(SIX_STEPS), disc, tmp_path).run()
    reports = [report for report in work if isinstance(report, ValidationReport)]
    assert [(r.step, r.mean_dice, r.is_best) for r in reports] == [
        (2, 0.5, True),
        (4, 0.9, True),
        (6, 0.2, False),
    ]
    best = load_checkpoint(tmp_path / "best.safetensors")
    assert (best.content.summary.step, best.content.summary.best_dice) == (4, 0.9)
    assert not best.state
    assert load_checkpoint(tmp_path / "last.safetensors").progress["best_dice"] == 0.9


def test_without_validation_cases_only_the_last_checkpoint_is_kept(tmp_path, tiny_config, disc):
    result = finish(Trainer(tiny_config({"training.steps": 1}), disc, [], tmp_path).run())
    assert result == TrainingResult(1, result.minutes, None, True, None, tmp_path / "last.safetensors")
    assert not (tmp_path / "best.safetensors").exists()


def test_a_checkpoint_of_a_run_predicts_without_the_run(tmp_path, disc_run):
    shutil.copy(disc_run / "last.safetensors", tmp_path / "moved.safetensors")
    assert Predictor.load(tmp_path / "moved.safetensors", device="cpu").content.name == "discs"


def test_a_three_dimensional_run_on_crops_works_as_well(tmp_path, tiny_volume_config, balls):
    changed = tiny_volume_config.model_dump() | {"training": {"steps": 2, "save_minutes": NEVER}}
    config = ExperimentConfig.model_validate(changed)
    result = finish(Trainer(config, balls, balls, tmp_path / "run").run())
    assert result.finished and 0 <= result.best_dice <= 1
    validation = RunFolder(tmp_path / "run").records()[-1]
    assert list(validation["dice"]) == ["one", "two"]
    for name in ("best", "last"):
        summary = load_checkpoint(tmp_path / "run" / f"{name}.safetensors").content.summary
        assert summary.best_dice_by_class == validation["dice"]


@pytest.fixture
def balls(tmp_path) -> list[Case]:
    """A volume with a half ball of class 1 and another of class 2."""
    import tifffile

    z, y, x = np.indices((18, 20, 24))
    labels = (np.hypot(np.hypot(z - 9, y - 10), x - 12) < 7) * (1 + (x > 12))
    for kind, array in (("images", 100 * labels), ("labels", labels)):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(
            tmp_path / kind / "ball.tif", array.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"}
        )
    return find_cases(tmp_path)


def test_a_run_records_the_unit_of_its_spacing_and_goes_on_from_one_that_did_not(
    tmp_path, tiny_volume_config, balls
):
    import nibabel

    for case in balls:
        array = nibabel.Nifti1Image(read_image(case.image_path).array[..., 0].T, np.diag([2e-3] * 3 + [1]))
        array.header.set_xyzt_units("meter")
        array.to_filename(case.image_path.with_suffix(".nii.gz"))
        case.image_path.unlink()
    spaced = {"preprocessing": tiny_volume_config.preprocessing.model_dump() | {"spacing": [2e-3] * 3}}
    training = {"training": {"steps": 1, "save_minutes": NEVER}}
    config = ExperimentConfig.model_validate(tiny_volume_config.model_dump() | spaced | training)
    folder = RunFolder(tmp_path / "run")
    finish(Trainer(config, find_cases(tmp_path), [], folder.path).run())
    content = load_checkpoint(folder.last).content
    assert content.preprocessing.spacing_unit == "meter"

    preprocessing = content.preprocessing.model_copy(update={"spacing_unit": None})
    older = replace(
        load_checkpoint(folder.last), content=content.model_copy(update={"preprocessing": preprocessing})
    )
    save_checkpoint(folder.last, older)
    resumed = Trainer(config, find_cases(tmp_path), [], folder.path, resume=True)
    assert resumed.config.preprocessing.spacing_unit is None and resumed.step == 1
    stated = config.preprocessing.model_copy(update={"spacing_unit": "meter"})
    stating = config.model_copy(update={"preprocessing": stated})
    assert Trainer(stating, find_cases(tmp_path), [], folder.path, resume=True).step == 1


# --- Time and learning rate ---------------------------------------------------------------------


def test_the_learning_rate_rises_linearly_and_falls_as_half_a_cosine():
    config = TrainingConfig(steps=1000, learning_rate=0.01, warmup_steps=9, final_rate=0.1)
    warmup = [learning_rate(step, 0.0, config) for step in range(12)]
    np.testing.assert_allclose(np.diff(warmup)[:9], 0.001)
    assert warmup[9:] == pytest.approx([0.01] * 3)
    falling = [learning_rate(500, share, config) for share in np.linspace(0, 1, 21).tolist()]
    assert falling[10] == pytest.approx(0.0055)
    assert falling[-1] == pytest.approx(0.001)
    assert (np.diff(falling) < 0).all()
    assert learning_rate(500, 1.7, config) == pytest.approx(0.001)


def test_the_learning_rate_ends_at_zero_by_default():
    assert learning_rate(29_999, 1.0, TrainingConfig()) == pytest.approx(0, abs=1e-12)
    assert learning_rate(0, 0.0, TrainingConfig(warmup_steps=0)) == TrainingConfig().learning_rate


@pytest.mark.parametrize("steps", [20, 150, 30_000])
def test_a_short_run_is_warm_after_a_tenth_of_it(steps):
    config = TrainingConfig(steps=steps, warmup_steps=200, final_rate=1.0)
    rates = [learning_rate(step, step / steps, config) for step in range(steps)]
    warm = rates.index(config.learning_rate)
    assert warm == min(200, steps // 10)
    assert (np.diff(rates[: warm + 1]) > 0).all() and set(rates[warm:]) == {config.learning_rate}


@pytest.fixture
def time(monkeypatch) -> SimpleNamespace:
    """The clock of the runner in seconds; stands still unless moved, or walks by `step` at each look."""
    fake = SimpleNamespace(now=1000.0, step=0.0)

    def monotonic() -> float:
        fake.now += fake.step
        return fake.now

    for module in (runner, training_clock):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
    return fake


def test_without_a_budget_time_never_ends(time):
    clock = Clock(0.0, None, time.now)
    time.now += 1e9
    assert clock.share() == 0 and not clock.is_over(reserve=100.0)


@pytest.mark.parametrize("before", [0.0, 15.0])
def test_a_budget_is_of_this_session_and_its_share_of_the_whole_run(time, before):
    clock = Clock(before, 5.0, time.now)
    shares = []
    for _ in range(6):
        shares.append(clock.share())
        assert clock.minutes == pytest.approx(before + len(shares) - 1)
        assert clock.is_over(reserve=0.0) == (len(shares) == 6)
        assert clock.is_over(reserve=2.0) == (len(shares) >= 4)
        time.now += 60
    assert shares == pytest.approx([(before + minute) / (before + 5) for minute in range(6)])


def test_the_learning_rate_reaches_zero_at_the_end_of_the_budget(time):
    clock, config = Clock(0.0, 10.0, time.now), TrainingConfig(steps=10**6)
    rates = []
    for step in range(500, 521):
        rates.append(learning_rate(step, max(step / config.steps, clock.share()), config))
        time.now += 30
    assert rates[0] == pytest.approx(config.learning_rate, rel=1e-5)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(rates) < 0).all()


def test_a_run_with_a_budget_anneals_within_it_and_can_go_on(tmp_path, tiny_config, disc, time):
    time.step = 1.0
    config = tiny_config({"training.steps": 10_000, "training.validate_every": 10_000})
    result = finish(trainer(config, disc, tmp_path, max_minutes=1.0).run())
    rates = [record["learning_rate"] for record in RunFolder(tmp_path).records() if record["kind"] == "step"]
    assert not result.finished and result.step == len(rates) > 5
    assert max(rates) > 0.5 * config.training.learning_rate
    assert rates[-1] < 0.1 * config.training.learning_rate
    assert Trainer(config, disc, disc, tmp_path, resume=True).step == result.step


@pytest.mark.parametrize(("steps", "budget"), [(10, None), (10, 1000.0), (10_000, 10.0)])
def test_progress_follows_the_steps_or_the_budget_whichever_ends_first(
    tmp_path, tiny_config, disc, time, steps, budget
):
    config = tiny_config({"training.steps": steps, "training.validate_every": 10_000})
    shown = list[tuple[float, TrainingProgress]]()
    begun = time.now
    for report in Trainer(config, disc, [], tmp_path, max_minutes=budget).run():
        if isinstance(report, StepReport):
            time.now += 60
        elif isinstance(report, TrainingProgress):
            shown.append(((time.now - begun) / 60, report))
    minutes = [minute for minute, _ in shown]
    assert minutes[-1] >= 9 and [report.done for _, report in shown] == list(range(1, len(shown) + 1))
    assert [report.minutes for _, report in shown] == pytest.approx(minutes)
    whole = 10.0 if budget == 10.0 else minutes[-1]
    # The first step is reported before its minute is over.
    assert [report.minutes_left for _, report in shown[1:]] == pytest.approx(
        [whole - minute for minute in minutes[1:]], abs=1.5
    )
    assert [report.share for _, report in shown[1:]] == pytest.approx(
        [minute / whole for minute in minutes[1:]], abs=0.15
    )


def test_with_the_schedule_of_steps_a_budget_leaves_the_learning_rate_alone(
    tmp_path, tiny_config, disc, time
):
    time.step = 1.0
    config = tiny_config({"training.steps": 10_000, "training.schedule": "steps", "training.warmup_steps": 0})
    finish(Trainer(config, disc, [], tmp_path, max_minutes=1.0).run())
    rates = [record["learning_rate"] for record in RunFolder(tmp_path).records() if record["kind"] == "step"]
    assert rates == pytest.approx([config.training.learning_rate] * len(rates), rel=1e-4)


def test_the_last_validation_still_fits_into_the_budget(tmp_path, tiny_config, disc, time, monkeypatch):
    def two_minutes(predictor, cases, content):
        yield Progress("Validating", 1, 1)
        time.now += 120
        return {"foreground": 0.5}

    monkeypatch.setattr(runner, "validate", two_minutes)
    config = tiny_config({"training.steps": 1000, "training.validate_every": 3})
    work = trainer(config, disc, tmp_path, max_minutes=10.0).run()
    for report in work:
        if isinstance(report, StepReport):
            time.now += 20
    assert 8 < RunFolder(tmp_path).records()[-1]["minutes"] <= 10


def test_the_smallest_budget_still_validates_and_writes_both_checkpoints(tmp_path, tiny_config, disc):
    result = finish(trainer(tiny_config(), disc, tmp_path, max_minutes=1e-6).run())
    assert (result.step, result.finished) == (1, False)
    assert result.best == tmp_path / "best.safetensors" and result.best.exists() and result.last.exists()
    kinds = [record["kind"] for record in RunFolder(tmp_path).records()]
    assert kinds == ["session", "step", "validation"]


# --- The folder ---------------------------------------------------------------------------------


def test_the_log_has_a_line_of_json_for_every_report(disc_run):
    lines = (disc_run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    steps = [record for record in records if record["kind"] == "step"]
    assert [record["step"] for record in steps] == list(range(1, 81))
    for record in steps:
        assert set(record["losses"]) == {"total", "patch", "image", "overreach", "embedding"}
        assert all(math.isfinite(loss) for loss in record["losses"].values())
        assert record["images_per_second"] > 0
    assert [record["kind"] for record in records[:1] + records[81:]] == ["session", "validation"]
    assert records[81]["dice"] == {"foreground": records[81]["mean_dice"]}


def test_reports_are_means_over_the_steps_since_the_last(tmp_path, tiny_config, disc):
    for every in (1, 3):
        changes = {"training.steps": 7, "training.log_every": every}
        finish(Trainer(tiny_config(changes), disc, [], tmp_path / str(every)).run())
    single, grouped = losses(tmp_path / "1"), losses(tmp_path / "3")
    assert [record["step"] for record in RunFolder(tmp_path / "3").records()[1:]] == [3, 6, 7]
    expected = [np.mean([loss["total"] for loss in part]) for part in (single[:3], single[3:6], single[6:])]
    assert [loss["total"] for loss in grouped] == pytest.approx(expected)


def test_the_folder_holds_curves_and_the_configuration(disc_run, tiny_config):
    with Image.open(disc_run / "curves.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 100
    decided = {"preprocessing.orientation": None}  # by the images, which state none
    assert load_config(disc_run / "config.yaml") == tiny_config(decided)
    assert sorted(path.name for path in disc_run.iterdir()) == [
        "best.safetensors",
        "config.yaml",
        "curves.png",
        "last.safetensors",
        "log.jsonl",
    ]


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_folder_that_holds_a_run_is_refused_without_resume(tmp_path, tiny_config, disc, disc_run, name):
    shutil.copy(disc_run / f"{name}.safetensors", tmp_path)
    (tmp_path / "log.jsonl").write_text("{}\n", "utf-8")
    before = (tmp_path / f"{name}.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run: add --resume") as error:
        trainer(tiny_config(), disc, tmp_path)
    assert str(tmp_path) in sentence(error)
    assert (tmp_path / f"{name}.safetensors").read_bytes() == before
    assert (tmp_path / "log.jsonl").read_text("utf-8") == "{}\n"


@pytest.mark.parametrize("is_killed", [False, True])
def test_resuming_without_a_saved_state_begins_anew_and_says_so(
    tmp_path, tiny_config, disc, disc_run, monkeypatch, is_killed
):
    config, folder = tiny_config(SIX_STEPS), tmp_path / "run"
    if is_killed:
        work = trainer(config, disc, folder).run()
        monkeypatch.setattr(RunFolder, "save", lambda *_: None)
        stop_at(work, is_step(1))  # closing it saves nothing: as if there had been no time for it
        monkeypatch.undo()
        assert RunFolder(folder).records() and not RunFolder(folder).last.exists()
    reports = list[object]()
    start = load_checkpoint(disc_run / "best.safetensors")
    result = finish(trainer(config, disc, folder, resume=True, start=start).run(), reports.append)
    assert (result.step, result.finished, len(losses(folder))) == (6, True, 6)
    said = [report.message for report in reports if isinstance(report, Notice)]
    assert f"There is no saved state in {folder}: the training begins anew." in said
    assert load_checkpoint(result.last).content.summary.started_from == start.content.name


def test_a_best_model_whose_run_is_gone_is_neither_resumed_nor_replaced(
    tmp_path, tiny_config, disc, disc_run
):
    shutil.copy(disc_run / "best.safetensors", tmp_path)
    with pytest.raises(
        ConfigError, match=r"a model without last\.safetensors.*choose another folder"
    ) as error:
        trainer(tiny_config(), disc, tmp_path, resume=True)
    assert sentence(error)


def test_resuming_with_another_network_is_refused(tmp_path, tiny_config, disc):
    finish(Trainer(tiny_config({"training.steps": 1}), disc, [], tmp_path).run())
    with pytest.raises(ConfigError, match="started with another network") as error:
        trainer(tiny_config({"model.embedding_width": 24}), disc, tmp_path, resume=True)
    assert sentence(error)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("batch.size", 3, "batch size"),
        ("training.seed", 5, "seed"),
        ("labels.class_names", ["disc"], "set of labels"),
        ("preprocessing.intensity", "unit", "preprocessing"),
    ],
)
def test_resuming_with_what_would_change_the_batches_is_refused(
    tmp_path, tiny_config, disc, field, value, named
):
    finish(Trainer(tiny_config({"training.steps": 1}), disc, [], tmp_path).run())
    with pytest.raises(ConfigError, match=f"started with another {named}") as error:
        trainer(tiny_config({field: value}), disc, tmp_path, resume=True)
    assert sentence(error)


@pytest.mark.parametrize(
    ("settings", "training", "validation", "named"),
    [
        ({"training.case_share": 0.25}, "abcdefgh", "vw", "set of training cases"),
        ({"training.split_seed": 1}, "abcdefgh", "vw", "set of training cases"),
        ({}, "vwxyz", "ab", "set of training cases and set of validation cases"),
        ({}, "abcdefgh", "vwx", "set of validation cases"),
        ({}, "abcdefgh", "", "set of validation cases"),
    ],
)
def test_resuming_with_other_cases_is_refused(
    tmp_path, tiny_config, disc, settings, training, validation, named
):
    def made(settings: dict, training: str, validation: str, **options) -> Trainer:
        config = tiny_config({"training.steps": 1, "training.case_share": 0.5, **settings})
        cases, others = ([replace(disc[0], name=n) for n in names] for names in (training, validation))
        return Trainer(config, cases, others, tmp_path, **options)

    finish(made({}, "abcdefgh", "vw").run())
    assert made({}, "hgfedcba", "wv", resume=True).step == 1
    with pytest.raises(ConfigError, match=f"started with another {named}: .* the same data") as error:
        made(settings, training, validation, resume=True)
    assert sentence(error)


def test_a_run_of_an_older_version_that_did_not_write_its_cases_down_goes_on(tmp_path, tiny_config, disc):
    config = tiny_config({"training.steps": 1})
    last = load_checkpoint(finish(Trainer(config, disc, [], tmp_path).run()).last)
    progress = {key: value for key, value in last.progress.items() if not key.startswith("set_of_")}
    assert len(progress) == len(last.progress) - 2
    save_checkpoint(tmp_path / "last.safetensors", replace(last, progress=progress))
    others = [replace(disc[0], name="other")]
    assert Trainer(config, others, others, tmp_path, resume=True).step == 1


def test_the_overreach_and_the_blending_may_change_on_the_way(tmp_path, tiny_config, disc):
    finish(Trainer(tiny_config({"training.steps": 1}), disc, [], tmp_path).run())
    changed = tiny_config({"model.overreach": 1, "model.blending": "nearest"})
    assert Trainer(changed, disc, [], tmp_path, resume=True).step == 1


def test_a_model_without_the_state_of_a_run_is_no_run_to_resume(tmp_path, tiny_config, disc, disc_run):
    shutil.copy(disc_run / "best.safetensors", tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match="not the state of a training run") as error:
        trainer(tiny_config(), disc, tmp_path, resume=True)
    assert sentence(error)


def test_resuming_a_finished_run_adds_nothing_to_it(tmp_path, tiny_config, disc):
    config = tiny_config({"training.steps": 2})
    finish(trainer(config, disc, tmp_path).run())
    before = (tmp_path / "log.jsonl").read_text("utf-8")
    result = finish(trainer(config, disc, tmp_path, resume=True).run())
    assert result.finished and (tmp_path / "log.jsonl").read_text("utf-8") == before


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path, tiny_config, disc):
    run = Trainer(tiny_config({"training.steps": 3}), disc, [], tmp_path)
    poisoned = next(run.learner.model.parameters())
    poisoned.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="gradient was not finite at step 0"):
        finish(run.run())
    assert all(parameter.isfinite().all() for parameter in run.learner.model.parameters())


def test_a_folder_that_cannot_be_made_is_named(tmp_path, tiny_config, disc):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ConfigError, match="cannot be written") as error:
        trainer(tiny_config(), disc, tmp_path / "file")
    assert sentence(error)


# --- What goes wrong ----------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_and_names_step_and_cases(tmp_path, tiny_config, disc):
    calm = tiny_config({"training.steps": 2})
    finish(Trainer(calm, disc, [], tmp_path).run())
    before = (tmp_path / "last.safetensors").read_bytes()
    wild = tiny_config({"training.steps": 9, "training.learning_rate": 1e35, "training.warmup_steps": 0})
    with pytest.raises(TrainingError, match=r"not finite at step \d.*cases disc.*last good state") as error:
        finish(Trainer(wild, disc, [], tmp_path, resume=True).run())
    assert "training.learning_rate" in sentence(error)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_run_that_fails_before_its_first_save_promises_no_saved_state(tmp_path, tiny_config, disc):
    wild = tiny_config({"training.learning_rate": 1e35, "training.warmup_steps": 0})
    with pytest.raises(TrainingError) as error:
        finish(Trainer(wild, disc, [], tmp_path).run())
    assert "good state" not in sentence(error)
    assert not (tmp_path / "last.safetensors").exists()


def test_a_fault_in_the_data_leaves_a_folder_that_can_be_used_again(tmp_path, tiny_config, disc):
    labels = tmp_path / "twos.png"
    Image.fromarray(np.full((32, 32), 2, np.uint8)).save(labels)
    config = tiny_config({"training.steps": 1})
    with pytest.raises(DataError, match="twos.png"):
        finish(Trainer(config, [Case("disc", disc[0].image_path, labels)], [], tmp_path / "run").run())
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert finish(Trainer(config, disc, [], tmp_path / "run").run()).finished


# --- The optimiser ------------------------------------------------------------------------------


def test_weights_decay_but_biases_and_normalisations_do_not():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 3))
    decayed, others = build_optimiser(network, TrainingConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3), (3, 2)]
    assert len(others["params"]) == 4


def test_the_state_of_an_optimiser_survives_as_plain_tensors():
    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Linear(4, 3)

    def step(model: torch.nn.Module, optimiser: torch.optim.Optimizer, value: float) -> None:
        model(torch.full((2, 4), value)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    one, two = network(), network()
    first, second = (build_optimiser(model, TrainingConfig()) for model in (one, two))
    for value in (1.0, 2.0):
        step(one, first, value)
    tensors = {name: tensor.clone() for name, tensor in optimiser_tensors(first).items()}
    two.load_state_dict(one.state_dict())
    restore_optimiser(second, tensors)
    for model, optimiser in ((one, first), (two, second)):
        step(model, optimiser, 3.0)
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)


# --- The mean of the weights ----------------------------------------------------------------------


class TestWeightAverage:
    AVERAGED = {**SIX_STEPS, "training.averaging_steps": 3}

    def test_a_constant_network_is_its_own_mean_and_counters_are_taken_over(self):
        model = torch.nn.BatchNorm1d(3)
        average = copy.deepcopy(model)
        model.num_batches_tracked += 7
        update_average(average, model, step=1, steps=5)
        assert_same_tensors(average.state_dict(), model.state_dict())

    def test_late_in_a_run_it_covers_the_asked_number_of_steps(self):
        model = torch.nn.Linear(1, 1, bias=False)
        average = copy.deepcopy(model)
        start = average.weight.item()
        with torch.no_grad():
            model.weight.add_(1.0)
        update_average(average, model, step=1000, steps=4)
        assert average.weight.item() == pytest.approx(start + 1 / 4)

    def test_early_in_a_run_it_forgets_the_random_start(self):
        model = torch.nn.Linear(1, 1, bias=False)
        average = copy.deepcopy(model)
        with torch.no_grad():
            model.weight.fill_(5.0)
        for step in range(1, 41):
            update_average(average, model, step, steps=1000)
        assert average.weight.item() == pytest.approx(5.0, abs=1e-3)

    def test_a_run_keeps_the_mean_and_resumes_from_the_weights_bit_for_bit(self, tmp_path, tiny_config, disc):
        config = tiny_config(self.AVERAGED)
        unbroken = finish(trainer(config, disc, tmp_path / "unbroken").run())
        stop_at(trainer(config, disc, tmp_path / "broken").run(), is_step(3))
        resumed = finish(trainer(config, disc, tmp_path / "broken", resume=True).run())
        last = load_checkpoint(unbroken.last)
        assert_same_state(last, load_checkpoint(resumed.last))
        assert_same_state(load_checkpoint(unbroken.best), load_checkpoint(resumed.best))
        plain = finish(trainer(tiny_config(SIX_STEPS), disc, tmp_path / "plain").run())
        trained = {n.removeprefix("trained."): t for n, t in last.state.items() if n.startswith("trained.")}
        assert_same_tensors(trained, load_checkpoint(plain.last).weights)
        assert any(not torch.equal(last.weights[name], trained[name]) for name in trained)

    def test_a_run_without_it_can_go_on_with_it(self, tmp_path, tiny_config, disc):
        stop_at(trainer(tiny_config(SIX_STEPS), disc, tmp_path).run(), is_step(3))
        resumed = trainer(tiny_config(self.AVERAGED), disc, tmp_path, resume=True)
        assert_same_tensors(resumed.learner.average.state_dict(), resumed.learner.model.state_dict())
        assert finish(resumed.run()).finished

    def test_a_run_with_it_can_go_on_without_it(self, tmp_path, tiny_config, disc):
        first = trainer(tiny_config(self.AVERAGED), disc, tmp_path)
        stop_at(first.run(), is_step(3))
        resumed = trainer(tiny_config(SIX_STEPS), disc, tmp_path, resume=True)
        assert_same_tensors(resumed.learner.model.state_dict(), first.learner.model.state_dict())
