"""Several processes learn what one learns, stop together, and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint
from swipe_core.cli.shared import StopSignals
from swipe_core.data.cases import find_cases
from swipe_core.data.dataset import TrainingSet
from swipe_core.errors import ConfigError
from swipe_core.progress import finish
from swipe_core.training.config import ExperimentConfig, dump_config
from swipe_core.training.distributed import ALONE, Ranks, joined_ranks
from swipe_core.training.folder import RunFolder
from swipe_core.training.runner import Trainer

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
posix = pytest.mark.skipif(os.name == "nt", reason="needs torchrun with gloo, and signals")
# Without what a process draws on its own.
SHARED = {
    "model.norm": "group",
    "model.overreach": 0,
    "training.validate_every": 2,
    "training.clip_norm": 1e6,
    "training.save_minutes": 1e-9,
}


def steps_of(folder: Path) -> list[int]:
    return [record["step"] for record in RunFolder(folder).records() if record["kind"] == "step"]


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not any(done >= step for done in steps_of(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def forked(config: ExperimentConfig, data: Path, folder: Path, prepare=lambda trainer: None) -> list[int]:
    """Process numbers of a training in two processes, each of which prepares its trainer first."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    return [_forked(config, data, folder, prepare, rank, port) for rank in range(2)]


def _forked(config, data: Path, folder: Path, prepare, rank: int, port: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        os.environ.update(place)
        cases = find_cases(data, "train")
        with joined_ranks(torch.device("cpu")) as (ranks, device):
            trainer = Trainer(config, cases, cases, folder, device=device, ranks=ranks)
            prepare(trainer)
            with StopSignals(trainer.control.stop, "stopping"):
                finish(trainer.run())
        code = 0
    finally:
        os._exit(code)


def exit_codes(children: list[int]) -> list[int]:
    """What processes ended with; those that wait for one another forever are ended."""
    codes, deadline = {}, time.monotonic() + 60
    while len(codes) < len(children):
        for child in [child for child in children if child not in codes]:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return [codes[child] for child in children]


def assert_close(one: Checkpoint, other: Checkpoint, within: float = 1e-3) -> None:
    """The first moments are a tenth of the gradient after one step, and sums of gradients later."""
    assert one.state.keys() == other.state.keys()
    for name in (name for name in one.state if name.endswith("exp_avg")):
        scale = one.state[name].norm() + 1e-7
        assert (one.state[name] - other.state[name]).norm() < within * scale, name
    for name, tensor in one.weights.items():
        assert torch.allclose(tensor, other.weights[name], atol=1e-4), name


@posix
def test_two_processes_learn_as_one_and_one_goes_on_from_there(tmp_path, tiny_config, disc_folder):
    cases = find_cases(disc_folder, "train")
    short, longer = (tiny_config(SHARED | {"training.steps": steps}) for steps in (2, 3))
    assert exit_codes(forked(short, disc_folder, tmp_path / "two")) == [0, 0]
    finish(Trainer(short, cases, cases, tmp_path / "one").run())
    assert_close(*(load_checkpoint(tmp_path / folder / "last.safetensors") for folder in ("one", "two")))
    kinds = [record["kind"] for record in RunFolder(tmp_path / "two").records()]
    assert kinds == ["session", "step", "step", "validation"]
    for folder in ("one", "two"):
        finish(Trainer(longer, cases, cases, tmp_path / folder, resume=True).run())
    # Two steps of Adam, whose steps are as long where a gradient is tiny, have enlarged what rounding left:
    # to 0.0012 on one CPU, below 0.001 on another.
    ends = (load_checkpoint(tmp_path / folder / "last.safetensors") for folder in ("one", "two"))
    assert_close(*ends, within=5e-3)


@posix
def test_parts_of_a_batch_are_accumulated_in_every_process(tmp_path, tiny_config, disc_folder):
    cases = find_cases(disc_folder, "train")
    config = tiny_config(SHARED | {"training.steps": 1, "training.accumulate": 2})
    assert exit_codes(forked(config, disc_folder, tmp_path / "two")) == [0, 0]
    finish(Trainer(config, cases, cases, tmp_path / "one").run())
    assert_close(*(load_checkpoint(tmp_path / folder / "last.safetensors") for folder in ("one", "two")))


def assert_stopped_after_one_step(folder: Path) -> None:
    step = load_checkpoint(folder / "last.safetensors").progress["step"]
    assert steps_of(folder) == list(range(1, step + 1))
    assert not (folder / "run.lock").exists()


@posix
def test_a_signal_to_one_process_stops_all(tmp_path, tiny_config, disc_folder):
    endless = tiny_config(SHARED | {"training.steps": 10**6, "training.save_minutes": 1e6})
    children = forked(endless, disc_folder, tmp_path / "run")
    wait_for_step(tmp_path / "run", 3)
    os.kill(children[1], signal.SIGTERM)
    assert exit_codes(children) == [0, 0]
    assert_stopped_after_one_step(tmp_path / "run")


@posix
@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 6])
def test_one_that_is_to_stop_while_it_waits_for_the_other_leaves_it_not_alone(
    tmp_path, tiny_config, disc_folder, moment
):
    def prepare(trainer: Trainer) -> None:
        calls, original = iter(range(1, 100)), Ranks.largest

        def largest(ranks: Ranks, *values: float) -> list[float]:
            found = original(ranks, *values)
            if next(calls) == moment and ranks.rank == moment % 2:
                trainer.control.stop()
            return found

        pytest.MonkeyPatch().setattr(Ranks, "largest", largest)

    # The first agreement is on the reading of the cases, and with a validation after every step the sixth
    # is the first one of the second step.
    config = tiny_config(SHARED | {"training.steps": 4, "training.validate_every": 1})
    assert exit_codes(forked(config, disc_folder, tmp_path / "run", prepare)) == [0, 0]
    assert_stopped_after_one_step(tmp_path / "run")
    assert len(steps_of(tmp_path / "run")) == {1: 0, 6: 2}.get(moment, 1)


@posix
def test_a_process_that_is_killed_ends_the_run_which_one_alone_can_go_on_with(
    tmp_path, tiny_config, disc_folder
):
    endless = tiny_config(SHARED | {"training.steps": 10**6, "training.validate_every": 10**6})
    (file := tmp_path / "config.yaml").write_text(dump_config(endless), "utf-8")
    folder = RunFolder(tmp_path / "run")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [str(SCRIPT), str(file), "--data", str(disc_folder), "--output", str(folder.path)]
    run = subprocess.Popen([*launch, *script, "--device", "cpu"], stderr=subprocess.PIPE, text=True)
    wait_for_step(folder.path, 3)
    os.kill(folder.lock.holder()[0], signal.SIGKILL)
    said = run.communicate(timeout=120)[1]
    assert run.returncode != 0
    assert "cpu, 2 processes" in said and "FutureWarning" not in said
    assert "error: Process 1 of 2 cannot go on, since another one has ended" in said
    cases = find_cases(disc_folder, "train")
    saved = load_checkpoint(folder.last).progress["step"]
    training = endless.training.model_copy(update={"steps": saved + 1})
    alone = endless.model_copy(update={"training": training})
    validation = find_cases(disc_folder, "val")
    assert finish(Trainer(alone, cases, validation, folder.path, resume=True).run()).finished
    assert steps_of(folder.path) == list(range(1, saved + 2))


def test_the_rows_of_all_processes_are_the_batch(tiny_config, disc_folder):
    config = tiny_config({"batch.size": 4})

    def batch(rows: slice):
        batches = TrainingSet(
            find_cases(disc_folder, "train"),
            preprocessing=config.preprocessing,
            labels=config.labels,
            sampling=config.sampling,
            augmentation=config.augmentation,
            batch=config.batch,
            seed=0,
            rows=rows,
        )
        list(batches.load())
        return batches[7].images

    whole = batch(ALONE.rows(4))
    for world in (2, 4):
        for rank in range(world):
            assert torch.equal(batch(Ranks(rank, world).rows(4)), whole[rank::world])


def test_a_batch_that_processes_cannot_share_evenly_is_refused():
    with pytest.raises(ConfigError, match="batch.size is 4, which 3 processes cannot share evenly"):
        Ranks(1, 3).rows(4)


def test_one_process_agrees_with_itself():
    assert ALONE.largest(0.5, True) == [0.5, True]
    assert ALONE.sum(torch.tensor([0.5, 3.0])).tolist() == [0.5, 3.0]
