"""A training run survives what ends it: signals, kills at any moment, full disks, and want of memory."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_networks import TINY

from swipe_core.checkpoints import file as checkpoints
from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.data.cases import Case, find_cases
from swipe_core.errors import CheckpointError, ConfigError, TrainingError
from swipe_core.networks.swipe.swipe import Swipe
from swipe_core.progress import Notice, Progress, finish
from swipe_core.training import folder as training_folder
from swipe_core.training import learner, runner
from swipe_core.training import lock as training_lock
from swipe_core.training.folder import RunFolder
from swipe_core.training.lock import RunLock
from swipe_core.training.reports import StepReport, ValidationReport
from swipe_core.training.runner import Trainer

# Long enough that only the end of a run, or a stop, saves.
NEVER = 1e6
posix = pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")


@pytest.fixture(scope="module", autouse=True)
def plain_curves():
    """Curves that take no time to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            training_folder, "write_curves", lambda curves, path: path.write_text(str(len(curves)), "utf-8")
        )
        yield


@pytest.fixture(scope="module")
def disc(disc_folder) -> list[Case]:
    return find_cases(disc_folder, "train")


@pytest.fixture(scope="module")
def config(tiny_config):
    """Four steps, with a validation after every other one; saved after each."""
    return tiny_config(
        {"training.steps": 4, "training.validate_every": 2, "training.save_minutes": 1e-9, "batch.size": 2}
    )


@pytest.fixture(scope="module")
def unbroken(config, disc, tmp_path_factory) -> Path:
    """The folder of a run of that configuration that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    finish(Trainer(config, disc, disc, folder).run())
    return folder


def finished(folder: Path) -> dict[str, object]:
    """What a run came to: tensors of both checkpoints, and all of the log but for times."""
    records = [r for r in RunFolder(folder).records() if r["kind"] != "session"]
    timeless = [{k: v for k, v in r.items() if k not in ("minutes", "images_per_second")} for r in records]
    best, last = (load_checkpoint(folder / f"{name}.safetensors") for name in ("best", "last"))
    return {"log": timeless, "best": best.weights, "last": last.weights, "state": last.state}


def assert_same_run(one: Path, other: Path) -> None:
    first, second = finished(one), finished(other)
    assert first["log"] == second["log"]
    for part in ("best", "last", "state"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part]), part


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def nth_call(number: int, function: Callable, event: Callable[..., object]) -> Callable:
    """The function; at its call of this number (from 1 on), `event` comes first."""
    calls = iter(range(1, number + 1))

    def call(*arguments, **options):
        if next(calls, None) == number:
            event(*arguments, **options)
        return function(*arguments, **options)

    return call


def sentence(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message and ". " not in message
    return message


# --- Stopping -----------------------------------------------------------------------------------


def reports_of(work) -> tuple[list, object]:
    """All reports of a run, and its result."""
    seen: list = []
    return seen, finish(work, seen.append)


def test_a_run_that_is_stopped_in_a_step_finishes_it_and_goes_on_as_if_never_stopped(
    tmp_path, config, disc, unbroken, monkeypatch
):
    trainer = Trainer(config, disc, disc, tmp_path)
    asking = nth_call(3, learner.loss_terms, lambda *_: trainer.control.stop())
    monkeypatch.setattr(learner, "loss_terms", asking)
    result = finish(trainer.run())
    assert (result.step, result.stopped, result.finished) == (3, True, False)
    assert load_checkpoint(result.last).progress["step"] == 3
    again = finish(Trainer(config, disc, disc, tmp_path, resume=True).run())
    assert (again.stopped, again.finished) == (False, True)
    assert_same_run(tmp_path, unbroken)


def test_a_run_that_is_stopped_while_validating_validates_again(tmp_path, config, disc, unbroken):
    trainer = Trainer(config, disc, disc, tmp_path)
    for report in (work := trainer.run()):
        if isinstance(report, Progress) and report.stage == "Validating":
            trainer.control.stop()
            break
    with pytest.raises(StopIteration) as end:
        next(work)
    assert (end.value.value.step, end.value.value.stopped, end.value.value.best_dice) == (2, True, None)
    finish(Trainer(config, disc, disc, tmp_path, resume=True).run())
    assert_same_run(tmp_path, unbroken)


def test_a_run_that_is_stopped_while_reading_prepares_nothing_and_can_go_on(
    tmp_path, config, disc, unbroken, monkeypatch
):
    trainer = Trainer(config, disc, disc, tmp_path)
    trainer.control.stop()
    with monkeypatch.context() as patch:
        patch.setattr(runner.TrainingSet, "loader", lambda *_, **__: pytest.fail("a batch was prepared"))
        result = finish(trainer.run())
    assert (result.step, result.stopped) == (0, True)
    finish(Trainer(config, disc, disc, tmp_path, resume=True).run())
    assert_same_run(tmp_path, unbroken)


def test_a_run_can_be_stopped_from_another_thread(tmp_path, tiny_config, disc):
    endless = tiny_config({"training.steps": 10**6})
    trainer = Trainer(endless, disc, [], tmp_path)
    started, ended = threading.Event(), []
    work = trainer.run()
    thread = threading.Thread(target=lambda: ended.append(finish(work, lambda _: started.set())))
    thread.start()
    assert started.wait(60)
    trainer.control.stop()
    thread.join(60)
    assert ended and ended[0].stopped and ended[0].step == load_checkpoint(ended[0].last).progress["step"]


def test_closing_at_any_report_leaves_a_state_that_goes_on_as_if_never_stopped(
    tmp_path, config, disc, unbroken
):
    number = len(list(Trainer(config, disc, disc, tmp_path / "count").run()))
    for stop in range(2, number + 1):  # the first one is on the reading of the cases
        folder = tmp_path / str(stop)
        work = Trainer(config, disc, disc, folder).run()
        for _ in range(stop):
            next(work)
        work.close()
        finish(Trainer(config, disc, disc, folder, resume=True).run())
        assert_same_run(folder, unbroken)


def test_who_closes_a_run_that_was_asked_to_stop_does_not_wait_for_a_save(tmp_path, tiny_config, disc):
    trainer = Trainer(tiny_config({"training.save_minutes": NEVER}), disc, [], tmp_path)
    work = trainer.run()
    while not isinstance(next(work), StepReport):
        pass
    trainer.control.stop()
    work.close()
    assert not (tmp_path / "last.safetensors").exists()


# --- One run per folder -------------------------------------------------------------------------


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_ends(tmp_path, config, disc):
    first = Trainer(config, disc, disc, tmp_path).run()
    next(first)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=f"Process {os.getpid()} trains in .* already") as error:
        Trainer(config, disc, disc, tmp_path, resume=True)
    assert sentence(error)
    assert files(tmp_path) == before
    finish(first)
    assert not (tmp_path / "run.lock").exists()
    assert finish(Trainer(config, disc, disc, tmp_path, resume=True).run()).finished


def test_two_trainers_that_were_made_before_either_ran_cannot_both_run(tmp_path, config, disc):
    one, other = (Trainer(config, disc, [], tmp_path) for _ in range(2))
    work = one.run()
    next(work)
    with pytest.raises(ConfigError, match="already"):
        next(other.run())
    finish(work)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="has just trained") as error:
        next(other.run())
    assert sentence(error)
    assert files(tmp_path) == before


def test_the_lock_goes_away_with_an_error(tmp_path, config, disc, monkeypatch):
    monkeypatch.setattr(runner.TrainingSet, "load", lambda self: iter([1 // 0]))
    with pytest.raises(ZeroDivisionError):
        finish(Trainer(config, disc, disc, tmp_path).run())
    assert not (tmp_path / "run.lock").exists()


HOLD = """
import sys, time
from pathlib import Path
from swipe_core.training.lock import RunLock
with RunLock(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path):
    lock = RunLock(tmp_path / "run.lock")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock.path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        assert lock.is_held
        process = "Another process" if os.name == "nt" else f"Process {other.pid}"
        with pytest.raises(ConfigError, match=f"{process} trains in .* already: ") as error, lock.held():
            pass
        assert sentence(error)
        other.kill()
    assert not lock.is_held
    with lock.held():
        assert lock.is_held
    assert not list(tmp_path.iterdir())


def test_the_lock_is_given_back_in_another_thread(tmp_path):
    folder = RunFolder(tmp_path)
    stack = ExitStack()
    stack.enter_context(folder.held())
    thread = threading.Thread(target=stack.close)
    thread.start()
    thread.join()
    assert not folder.lock.is_held and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["", '{"pid": 12', "[]", "null", '{"pid": "x", "host": "y"}', '{"pid": 1, "host": "h", "started": 1.0}'],
)
def test_a_lock_file_that_was_left_behind_holds_nobody_up(tmp_path, text):
    lock = RunLock(tmp_path / "run.lock")
    lock.path.write_text(text, "utf-8")
    assert not lock.is_held
    with lock.held():
        assert os.name == "nt" or lock.holder() == (os.getpid(), socket.gethostname())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="the text of a lock that is held cannot be read on Windows")
def test_the_machine_of_the_other_run_is_named_where_it_is_another_one(tmp_path, config, disc):
    lock = RunLock(tmp_path / "run.lock")
    with lock.held():
        lock.path.write_text('{"pid": 12, "host": "elsewhere"}', "utf-8")
        with pytest.raises(ConfigError, match="Process 12 on the machine elsewhere trains in") as error:
            Trainer(config, disc, disc, tmp_path)
        assert sentence(error)


# --- Kills --------------------------------------------------------------------------------------


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_way_through_a_file(tensors, path, metadata) -> None:
    path.write_bytes(b"half of it")
    die()


def die_half_way_through_a_line(folder: RunFolder, record: dict) -> None:
    with folder.log_file.open("a", encoding="utf-8") as log:
        log.write(json.dumps(record)[:40])
    die()


def after(function: Callable) -> Callable:
    """The death that comes when the function is done."""

    def event(*arguments, **options):
        function(*arguments, **options)
        die()

    return event


# What is killed, and at which of its calls: in steps and validations, and in every kind of writing.
MOMENTS = [
    ("taking the lock", training_lock.FileLock, "acquire", die, [1]),
    ("after taking the lock", training_lock.json, "dumps", die, [1]),
    ("replacing a file", os, "replace", die, [1, 2, 3, 7]),
    ("after replacing a file", os, "replace", after(os.replace), [4, 5]),
    ("the loss", learner, "loss_terms", die, [1, 4]),
    ("after the optimiser", torch.optim.AdamW, "step", after(torch.optim.AdamW.step), [1, 3]),
    ("half of a checkpoint", checkpoints, "save_file", die_half_way_through_a_file, [1, 3]),
    ("making a checkpoint last", os, "fsync", die, [1, 2, 4]),
    ("half of a line of the log", RunFolder, "log_record", die_half_way_through_a_line, [1, 2, 4]),
    ("a validation", runner, "validate", die, [1, 2]),
    ("the curves", training_folder, "write_curves", die, [2]),
]


def killed(run: Callable[[], object], patch: Callable[[pytest.MonkeyPatch], object]) -> bool:
    """Whether a child process that runs this with a patch was killed before its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
        child = os.fork()
    if not child:
        try:
            patch(pytest.MonkeyPatch())
            run()
        finally:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@posix
@pytest.mark.parametrize(
    ("where", "name", "event", "number"),
    [
        pytest.param(where, name, event, number, id=f"{moment.replace(' ', '-')}-{number}")
        for moment, where, name, event, numbers in MOMENTS
        for number in numbers
    ],
)
def test_a_run_that_is_killed_goes_on_as_if_never_killed(
    tmp_path, config, disc, unbroken, where, name, event, number
):
    run = Trainer(config, disc, disc, tmp_path)
    died = killed(
        lambda: finish(run.run()),
        lambda patch: patch.setattr(where, name, nth_call(number, getattr(where, name), event)),
    )
    assert died
    resume = (tmp_path / "last.safetensors").exists()
    assert finish(Trainer(config, disc, disc, tmp_path, resume=resume).run()).finished
    assert_same_run(tmp_path, unbroken)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in unbroken.iterdir()}


@pytest.fixture
def seldom_saved(config):
    """The configuration of a run that is saved at its validations and at its end alone."""
    training = config.training.model_copy(update={"save_minutes": NEVER})
    return config.model_copy(update={"training": training})


@posix
def test_a_run_that_is_killed_after_its_first_validation_knows_of_it(
    tmp_path, config, seldom_saved, disc, unbroken
):
    run = Trainer(seldom_saved, disc, disc, tmp_path)
    assert killed(
        lambda: finish(run.run()), lambda patch: patch.setattr(training_folder, "write_curves", die)
    )
    best = load_checkpoint(tmp_path / "best.safetensors").content.summary.best_dice
    progress = load_checkpoint(tmp_path / "last.safetensors").progress
    assert (progress["best_dice"], progress["validated_step"]) == (best, 2)
    finish(Trainer(config, disc, disc, tmp_path, resume=True).run())
    assert_same_run(tmp_path, unbroken)


@posix
@pytest.mark.parametrize("number", [1, 2, 3], ids=["first-save", "best", "last"])
def test_a_run_that_is_killed_at_a_save_of_its_first_validation_can_go_on_or_start_anew(
    tmp_path, config, seldom_saved, disc, unbroken, number
):
    run = Trainer(seldom_saved, disc, disc, tmp_path)
    saving = nth_call(number, checkpoints.save_file, die)
    assert killed(lambda: finish(run.run()), lambda patch: patch.setattr(checkpoints, "save_file", saving))
    resume = (tmp_path / "last.safetensors").exists()
    assert finish(Trainer(config, disc, disc, tmp_path, resume=resume).run()).finished
    assert_same_run(tmp_path, unbroken)


# --- Disks --------------------------------------------------------------------------------------


def failing(number: int) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_checkpoint_ends_the_run_and_keeps_the_one_before(
    tmp_path, config, disc, unbroken, monkeypatch, number
):
    with monkeypatch.context() as patch:
        saving = nth_call(4, checkpoints.save_file, failing(number))
        patch.setattr(checkpoints, "save_file", saving)
        with pytest.raises(CheckpointError, match=os.strerror(number)):
            finish(Trainer(config, disc, disc, tmp_path).run())
    assert load_checkpoint(tmp_path / "last.safetensors").progress["step"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in unbroken.iterdir()}
    finish(Trainer(config, disc, disc, tmp_path, resume=True).run())
    assert_same_run(tmp_path, unbroken)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_log_that_cannot_be_written_ends_the_run_and_keeps_the_state(tmp_path, config, disc, unbroken):
    work = Trainer(config, disc, disc, tmp_path).run()
    while not isinstance(report := next(work), StepReport) or report.step < 3:
        pass
    log = (tmp_path / "log.jsonl").replace(tmp_path / "aside")
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="log.jsonl .*No space left.*last.*keeps the last good") as error:
        finish(work)
    assert sentence(error)
    log.replace(tmp_path / "log.jsonl")
    finish(Trainer(config, disc, disc, tmp_path, resume=True).run())
    assert_same_run(tmp_path, unbroken)


def test_a_folder_that_is_removed_ends_the_run_and_is_not_made_again(tmp_path, config, disc):
    folder = tmp_path / "run"
    work = Trainer(config, disc, disc, folder).run()
    while not isinstance(next(work), StepReport):
        pass
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match="was removed") as error:
        finish(work)
    assert sentence(error)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named_before_the_work(tmp_path, config, disc, monkeypatch):
    work = Trainer(config, disc, disc, tmp_path).run()
    monkeypatch.setattr(os, "open", failing(errno.EROFS))
    with pytest.raises(ConfigError, match="cannot be written .Read-only") as error:
        next(work)
    assert sentence(error)


def test_curves_that_cannot_be_drawn_are_told_of_once_and_end_nothing(
    tmp_path, config, disc, unbroken, monkeypatch
):
    monkeypatch.setattr(training_folder, "write_curves", failing(errno.ENOSPC))
    reports, result = reports_of(Trainer(config, disc, disc, tmp_path).run())
    (notice,) = [report for report in reports if isinstance(report, Notice)]
    assert "curves cannot be written" in notice.message and "No space left" in notice.message
    assert result.finished
    assert_same_run(tmp_path, unbroken)


def test_a_tensorboard_that_fails_is_told_of_once_and_ends_nothing(tmp_path, tiny_config, disc, monkeypatch):
    class FullWriter:
        def __init__(self, folder):
            failing(errno.ENOSPC)()

    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", type("module", (), {"SummaryWriter": FullWriter})()
    )
    config = tiny_config({"training.steps": 2, "training.tensorboard": True, "batch.size": 2})
    reports, result = reports_of(Trainer(config, disc, [], tmp_path).run())
    (notice,) = [report for report in reports if isinstance(report, Notice)]
    assert "TensorBoard" in notice.message and result.finished


# --- Memory -------------------------------------------------------------------------------------


def out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


STAGES = {
    "forward": (Swipe, "forward"),
    "loss": (learner, "loss_terms"),
    "backward": (torch.Tensor, "backward"),
    "optimiser": (torch.optim.AdamW, "step"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_where_memory_runs_out_the_same_step_is_done_in_smaller_parts(
    tmp_path, tiny_config, disc, monkeypatch, stage
):
    settings = {"training.steps": 2, "training.averaging_steps": 3}
    smaller = tiny_config({**settings, "training.accumulate": 2})
    finish(Trainer(smaller, disc, disc, tmp_path / "smaller").run())
    where, name = STAGES[stage]
    monkeypatch.setattr(where, name, nth_call(1, getattr(where, name), out_of_memory))
    reports, _ = reports_of(Trainer(tiny_config(settings), disc, disc, tmp_path / "short").run())
    (notice,) = [report for report in reports if isinstance(report, Notice)]
    assert "memory of cpu ran out" in notice.message and "training.accumulate 2" in notice.message
    assert_same_run(tmp_path / "short", tmp_path / "smaller")


def test_parts_are_halved_down_to_one_image(tmp_path, tiny_config, disc, monkeypatch):
    settings = {"training.steps": 2, "batch.size": 3, "model.norm": "group"}
    finish(Trainer(tiny_config({**settings, "training.accumulate": 3}), disc, disc, tmp_path / "ones").run())
    original = learner.loss_sums

    def for_one_image(prediction, *rest):
        if len(prediction.patch) > 1:
            out_of_memory()
        return original(prediction, *rest)

    monkeypatch.setattr(learner, "loss_sums", for_one_image)
    reports, _ = reports_of(Trainer(tiny_config(settings), disc, disc, tmp_path / "short").run())
    told = [report.message for report in reports if isinstance(report, Notice)]
    assert ["in 2 parts" in told[0], "in 3 parts" in told[1], len(told)] == [True, True, 2]
    assert_same_run(tmp_path / "short", tmp_path / "ones")


def test_memory_that_does_not_hold_one_image_ends_the_run_in_a_sentence(tmp_path, config, disc, monkeypatch):
    monkeypatch.setattr(Swipe, "forward", out_of_memory)
    run = Trainer(config, disc, disc, tmp_path)
    before = {name: tensor.clone() for name, tensor in run.learner.model.state_dict().items()}
    with pytest.raises(TrainingError, match="does not hold a single image") as error:
        finish(run.run())
    assert sentence(error)
    assert all(torch.equal(before[name], t) for name, t in run.learner.model.state_dict().items())


def test_an_image_that_shrinks_to_a_cell_cannot_be_learned_from_alone(tmp_path, tiny_config, disc):
    # Five times it halves 32 pixels.
    fields = {"network": "iosnet", "ndim": 2, "channels": 1, **TINY["iosnet", 2]}
    config = tiny_config({"model": fields, "training.steps": 2, "batch.size": 1})
    run = Trainer(config, disc, disc, tmp_path / "one")
    before = {name: tensor.clone() for name, tensor in run.learner.model.state_dict().items()}
    with pytest.raises(TrainingError, match="shrinks to a single cell") as error:
        finish(run.run())
    assert sentence(error)
    assert all(torch.equal(before[name], t) for name, t in run.learner.model.state_dict().items())
    batch = config.batch.model_copy(update={"size": 2})
    finish(Trainer(config.model_copy(update={"batch": batch}), disc, disc, tmp_path / "two").run())


def test_an_optimiser_that_changed_weights_before_memory_ran_out_is_not_asked_again(
    tmp_path, config, disc, monkeypatch
):
    original = torch.optim.AdamW.step

    def half_done(self):
        original(self)
        out_of_memory()

    finish(Trainer(config, disc, disc, tmp_path).run())
    before = files(tmp_path)["last.safetensors"]
    training = config.training.model_copy(update={"steps": 9})
    resumed = Trainer(config.model_copy(update={"training": training}), disc, disc, tmp_path, resume=True)
    monkeypatch.setattr(torch.optim.AdamW, "step", half_done)
    with pytest.raises(TrainingError, match="does not hold the optimiser") as error:
        finish(resumed.run())
    assert sentence(error)
    assert files(tmp_path)["last.safetensors"] == before


# --- Numbers ------------------------------------------------------------------------------------


@pytest.fixture
def infinite_losses(monkeypatch) -> Callable[[set[int]], None]:
    """A function that makes the losses infinite at these calls, from 1 on."""

    def at(numbers: set[int]) -> None:
        original, calls = learner.loss_terms, iter(range(1, 1000))

        def spoilt(*arguments):
            terms = original(*arguments)
            factor = float("inf") if next(calls) in numbers else 1.0
            return replace(terms, total=terms.total * factor)

        monkeypatch.setattr(learner, "loss_terms", spoilt)

    return at


def test_in_mixed_precision_a_bad_batch_is_passed_over(tmp_path, tiny_config, disc, infinite_losses):
    config = tiny_config({"training.steps": 6, "training.precision": "bfloat16", "batch.size": 2})
    infinite_losses({2, 4, 5, 6})
    run = Trainer(config, disc, [], tmp_path)
    reports, result = reports_of(run.run())
    notices = [report.message for report in reports if isinstance(report, Notice)]
    assert len(notices) == 4 and "not finite at step 1" in notices[0] and "passed over" in notices[0]
    assert result.finished and run.learner.skipped == 4
    assert [r["step"] for r in RunFolder(tmp_path).records() if r["kind"] == "step"] == [1, 3]
    last = load_checkpoint(result.last)
    assert all(tensor.isfinite().all() for tensor in [*last.weights.values(), *last.state.values()])
    assert {float(t) for name, t in last.state.items() if name.endswith(".step")} == {2.0}
    assert {float(t) for name, t in last.weights.items() if name.endswith("num_batches_tracked")} == {2.0}
    assert last.content.summary.skipped_batches == 4


def test_in_mixed_precision_bad_batches_in_a_row_end_the_run(tmp_path, tiny_config, disc, infinite_losses):
    config = tiny_config({"training.steps": 9, "training.precision": "bfloat16", "batch.size": 2})
    infinite_losses({2, 3, 4, 5})
    with pytest.raises(TrainingError, match="not finite at step 4 .*as at the 3 steps before") as error:
        finish(Trainer(config, disc, [], tmp_path).run())
    assert sentence(error)


def test_in_single_precision_a_bad_batch_ends_the_run_at_once(tmp_path, config, disc, infinite_losses):
    infinite_losses({3})
    with pytest.raises(TrainingError, match="not finite at step 2 .*cases disc.*last.*keeps") as error:
        finish(Trainer(config, disc, [], tmp_path).run())
    assert sentence(error)
    assert load_checkpoint(tmp_path / "last.safetensors").progress["step"] == 2


# --- The log ------------------------------------------------------------------------------------


def test_every_session_tells_once_what_it_ran_on(tmp_path, config, disc):
    trainer = Trainer(config, disc, disc, tmp_path)
    for report in trainer.run():
        if isinstance(report, ValidationReport):
            trainer.control.stop()
    finish(Trainer(config, disc, disc, tmp_path, resume=True).run())
    first, second = [r for r in RunFolder(tmp_path).records() if r["kind"] == "session"]
    assert (first["step"], second["step"]) == (0, 2)
    assert set(first["versions"]) == {"napari-swipe", "torch", "python", "numpy"}
    assert first["seed"] == 0 and first["device"].startswith("cpu") and first["command"]
    assert first["config_digest"] == second["config_digest"]


def test_the_digest_tells_configurations_apart(config, tiny_config):
    from swipe_core.training.journal import config_digest

    assert config_digest(config) != config_digest(tiny_config())


def test_sources_without_git_have_no_revision(monkeypatch):
    from swipe_core.training import journal

    monkeypatch.setattr(journal.subprocess, "run", failing(errno.ENOENT))
    assert journal.source_revision() is None
