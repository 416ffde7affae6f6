"""Laws of a pause: nothing is lost by it, nothing is learned in it, and its time is nobody's."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.data.cases import Case, find_cases
from swipe_core.progress import Progress, finish
from swipe_core.training import reports as training_clock
from swipe_core.training import runner
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.folder import RunFolder
from swipe_core.training.reports import Clock, StepReport
from swipe_core.training.runner import PAUSED, TRAINING, Trainer

NEVER = 1e6  # minutes between saves: only a pause, or the end of a run, saves
HOUR = 3600.0


@pytest.fixture(scope="module")
def disc(disc_folder) -> list[Case]:
    return find_cases(disc_folder, "train")


@pytest.fixture(scope="module")
def config(tiny_config) -> ExperimentConfig:
    return tiny_config({"training.steps": 4, "training.save_minutes": NEVER, "batch.size": 2})


@pytest.fixture
def time(monkeypatch) -> SimpleNamespace:
    """The clock of the runner in seconds: it stands still but while the runner sleeps, and where moved."""
    fake = SimpleNamespace(now=1000.0, slept=0)

    def sleep(seconds: float) -> None:
        fake.slept += 1
        fake.now += seconds

    for module in (runner, training_clock):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: fake.now, sleep=sleep))
    return fake


def is_paused(report: object) -> bool:
    return isinstance(report, Progress) and report.stage == PAUSED


def paused_at(work, trainer: Trainer, step: int) -> None:
    """Iterate a run until it waits after a step; it is asked to when that step is reported."""
    for report in work:
        if isinstance(report, StepReport) and report.step == step:
            trainer.control.pause()
        if is_paused(report):
            assert report == Progress(PAUSED, step, trainer.config.training.steps)
            return
    raise AssertionError("the run did not wait")


def saved(folder: Path):
    return load_checkpoint(folder / "last.safetensors")


def assert_same_state(one: Path, other: Path) -> None:
    first, second = saved(one), saved(other)
    for mine, others in ((first.weights, second.weights), (first.state, second.state)):
        assert mine.keys() == others.keys()
        assert all(torch.equal(mine[name], others[name]) for name in mine)


def test_a_paused_run_learns_the_same_bit_for_bit(tmp_path, config, disc, time):
    finish(Trainer(config, disc, disc, tmp_path / "unpaused").run())
    trainer = Trainer(config, disc, disc, tmp_path / "paused")
    work, steps = trainer.run(), []
    paused_at(work, trainer, 2)
    for _ in range(5):
        assert is_paused(next(work)) and trainer.step == 2
    trainer.control.go_on()
    result = finish(work, lambda r: steps.append(r.done) if getattr(r, "stage", "") == TRAINING else None)
    assert result.finished and steps == [3, 4]
    assert_same_state(tmp_path / "paused", tmp_path / "unpaused")
    losses = [
        [r["losses"] for r in RunFolder(tmp_path / name).records() if r["kind"] == "step"]
        for name in ("paused", "unpaused")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_a_run_can_wait_more_than_once(tmp_path, config, disc, time):
    trainer = Trainer(config, disc, [], tmp_path)
    work = trainer.run()
    for step in (1, 3):
        paused_at(work, trainer, step)
        trainer.control.go_on()
    assert finish(work).finished


def test_the_state_is_saved_when_a_pause_begins_and_only_then(tmp_path, config, disc, time, monkeypatch):
    trainer = Trainer(config, disc, [], tmp_path)
    saves: list[int] = []
    original = RunFolder.save
    monkeypatch.setattr(
        RunFolder, "save", lambda self, *a: (saves.append(trainer.step), original(self, *a))[1]
    )
    work = trainer.run()
    paused_at(work, trainer, 2)
    assert saved(tmp_path).progress["step"] == 2 and saves == [2]
    for _ in range(5):
        next(work)
    assert saves == [2]


def test_what_a_pause_saved_goes_on_as_if_never_broken_off(tmp_path, config, disc, time):
    """As after a process that was killed while it waited: there is nothing but what the pause wrote."""
    finish(Trainer(config, disc, [], tmp_path / "unbroken").run())
    trainer = Trainer(config, disc, [], tmp_path / "waiting")
    work = trainer.run()
    paused_at(work, trainer, 2)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("config.yaml", "log.jsonl", "last.safetensors"):
        (killed / name).write_bytes((tmp_path / "waiting" / name).read_bytes())
    work.close()
    assert finish(Trainer(config, disc, [], killed, resume=True).run()).finished
    assert_same_state(killed, tmp_path / "unbroken")


def test_the_time_of_a_pause_does_not_count(tmp_path, config, disc, time):
    trainer = Trainer(config, disc, [], tmp_path, max_minutes=10.0)
    work = trainer.run()
    paused_at(work, trainer, 2)
    for _ in range(3):
        time.now += HOUR
        assert is_paused(next(work))
    trainer.control.go_on()
    time.now += HOUR  # until it looks
    result = finish(work)
    assert time.slept == 4
    # Ten minutes are not over after four hours of waiting, and none of it is in the log.
    assert result.finished and result.minutes == 0
    assert all(r.get("minutes", 0) == 0 for r in RunFolder(tmp_path).records())


def test_what_comes_before_and_after_a_pause_counts_as_ever(tmp_path, config, disc, time):
    trainer = Trainer(config, disc, [], tmp_path)
    work = trainer.run()
    for report in work:
        if isinstance(report, StepReport):
            time.now += 60
            if report.step == 2:
                trainer.control.pause()
        if is_paused(report):
            time.now += HOUR
            trainer.control.go_on()
    # Of four steps, a minute each after its report.
    assert trainer.minutes == pytest.approx(4)
    assert saved(tmp_path).progress["minutes"] == pytest.approx(4)


def test_a_run_that_is_closed_in_a_pause_does_not_count_it_either(tmp_path, config, disc, time):
    trainer = Trainer(config, disc, [], tmp_path)
    work = trainer.run()
    paused_at(work, trainer, 2)
    time.now += HOUR
    work.close()
    assert saved(tmp_path).progress["step"] == 2
    assert saved(tmp_path).progress["minutes"] == trainer.minutes == 0


def test_a_pause_does_not_count_for_the_validations_by_minutes_either(tmp_path, tiny_config, disc, time):
    config = tiny_config(
        {"training.steps": 3, "training.validate_minutes": 5.0, "training.validate_every": 100}
    )
    trainer = Trainer(config, disc, disc, tmp_path)
    work = trainer.run()
    paused_at(work, trainer, 1)
    time.now += HOUR
    trainer.control.go_on()
    finish(work)
    validated = [r["step"] for r in RunFolder(tmp_path).records() if r["kind"] == "validation"]
    assert validated == [3]  # at the end alone


def test_a_stop_ends_a_pause(tmp_path, config, disc, time):
    trainer = Trainer(config, disc, disc, tmp_path)
    work = trainer.run()
    paused_at(work, trainer, 2)
    trainer.control.stop()

    def see(report: object) -> None:
        assert not is_paused(report)

    result = finish(work, see)
    assert (result.step, result.stopped, result.finished) == (2, True, False)
    assert saved(tmp_path).progress["step"] == 2
    assert finish(Trainer(config, disc, disc, tmp_path, resume=True).run()).finished


def test_a_run_that_waits_is_stopped_from_another_thread(tmp_path, config, disc):
    trainer = Trainer(config, disc, [], tmp_path)
    trainer.control.pause()
    waiting, ended = threading.Event(), []
    work = trainer.run()
    thread = threading.Thread(
        target=lambda: ended.append(finish(work, lambda r: waiting.set() if is_paused(r) else None))
    )
    thread.start()
    assert waiting.wait(60)
    trainer.control.stop()
    thread.join(60)
    assert ended and ended[0].stopped and ended[0].step == 1


def test_a_pause_that_is_taken_back_in_time_does_not_come(tmp_path, config, disc, time):
    trainer = Trainer(config, disc, [], tmp_path)
    trainer.control.pause()
    assert trainer.control.is_paused
    trainer.control.go_on()
    reports: list = []
    assert finish(trainer.run(), reports.append).finished
    assert not any(map(is_paused, reports)) and not trainer.control.is_paused


def test_a_training_in_several_processes_cannot_wait(tmp_path, config, disc):
    trainer = Trainer(config, disc, [], tmp_path)
    trainer.ranks = SimpleNamespace(world=2)
    trainer.control.pause()
    assert not list(trainer._while_paused(Clock(0.0, None, 0.0)))
