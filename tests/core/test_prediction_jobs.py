"""A job is small and the same everywhere, its model is loaded once, and its faults are its own."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint
from swipe_core.errors import CheckpointError, DeviceError, ImageError
from swipe_core.images import read_image, read_label_map
from swipe_core.images.source import ImageSource
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction import jobs
from swipe_core.prediction.jobs import Job, Order, iter_job, predictor_of, run_job
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request
from swipe_core.progress import Notice, Progress


@pytest.fixture(autouse=True)
def _nothing_loaded():
    jobs._load.cache_clear()


@pytest.fixture
def order(disc_run, tmp_path) -> Order:
    folder = tmp_path / "labels"
    folder.mkdir()
    path = disc_run / "best.safetensors"
    predictor = Predictor.load(path, device="cpu")
    return Order.of(str(path), predictor, Request(objects=True), device="cpu", folder=folder)


@pytest.fixture
def job(order, disc_folder) -> Job:
    return Job(order, ImageSource(disc_folder / "val" / "images" / "disc.png"))


def failing(error: BaseException):
    """In the place of `iter_segment_file`."""

    def work(*_):
        yield Progress("Encoding", 0, 1)
        raise error

    return work


def test_a_job_is_the_same_after_a_journey_to_another_process_and_small(job):
    sent = pickle.dumps(job)
    assert pickle.loads(sent) == job
    assert len(sent) < 2000


def test_a_job_writes_the_labels_of_the_field_and_says_what_they_are(job):
    result = run_job(job)
    assert (result.state, result.message, result.shape, result.objects) == ("done", "", (32, 32), 1)
    assert result.seconds > 0 and result.labels == job.order.folder / "disc.png"
    labels = Predictor.load(job.order.checkpoint, device="cpu").field(read_image(job.image)).render()
    np.testing.assert_array_equal(read_label_map(result.labels).array, labels.array)
    assert all(path.is_file() for path in job.outputs.values())


def test_progress_can_be_followed(job):
    reports = list(iter_job(job))
    assert {"Encoding", "Measuring objects"} <= {report.stage for report in reports}


def test_the_model_is_loaded_once_for_all_jobs_of_an_order(job, monkeypatch):
    loaded = []
    original = jobs.load_checkpoint
    monkeypatch.setattr(jobs, "load_checkpoint", lambda path: loaded.append(path) or original(path))
    assert [run_job(job).state for _ in range(3)] == ["done"] * 3
    assert len(loaded) == 1
    other = replace(job.order, config=InferenceConfig(threshold=0.9))
    assert predictor_of(other).config.threshold == 0.9
    assert len(loaded) == 2


def test_a_checkpoint_that_is_replaced_meanwhile_is_not_mistaken_for_the_first(job, tmp_path):
    path = Path(shutil.copy(job.order.checkpoint, tmp_path / "model.safetensors"))
    loaded = load_checkpoint(path)
    order = replace(job.order, checkpoint=str(path))
    changed = {
        name: tensor + 1 if name.endswith("bias") else tensor for name, tensor in loaded.weights.items()
    }
    save_checkpoint(path, replace(loaded, weights=changed))
    with pytest.raises(CheckpointError, match="not the checkpoint that this call began with"):
        predictor_of(order)
    assert "not the checkpoint" in run_job(replace(job, order=order)).message


def test_a_digest_is_of_what_decides_the_answers_and_of_nothing_else(disc_run):
    loaded = load_checkpoint(disc_run / "best.safetensors")
    content = loaded.content
    renamed = content.model_copy(update={"name": "other", "inference": InferenceConfig(threshold=0.9)})
    assert replace(loaded, content=renamed).digest == loaded.digest
    scaled = content.model_copy(
        update={"preprocessing": content.preprocessing.model_copy(update={"intensity": "percentile"})}
    )
    assert replace(loaded, content=scaled).digest != loaded.digest
    name, tensor = next(iter(loaded.weights.items()))
    assert replace(loaded, weights={**loaded.weights, name: tensor + 1}).digest != loaded.digest


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImageError("disc.png is damaged."), "disc.png is damaged."),
        (DeviceError("There is no GPU."), "There is no GPU."),
        (
            OSError(28, "No space left on device", "labels/disc.png"),
            "labels/disc.png cannot be read or written",
        ),
        (ConnectionResetError("the drive is gone"), "disc.png cannot be read or written (the drive is gone)"),
        (MemoryError(), "disc.png does not fit into memory: use a factor below 1"),
        (torch.OutOfMemoryError("CUDA out of memory"), "disc.png does not fit into memory"),
        (KeyError("class"), "met a fault of the program (KeyError: 'class'; test_prediction_jobs.py, line"),
        (RecursionError("too deep"), "please report this, with the image if you may"),
        (ValueError("line\nafter line " * 100), "(ValueError: line after line line"),
    ],
)
def test_whatever_goes_wrong_with_an_image_is_a_sentence_in_its_result(job, monkeypatch, error, said):
    monkeypatch.setattr(jobs, "iter_segment_file", failing(error))
    result = run_job(job)
    assert result.state == "failed" and said in result.message
    assert result.labels is None and "\n" not in result.message
    assert pickle.loads(pickle.dumps(result)) == result


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_who_ends_the_program_is_heard(job, monkeypatch, error):
    monkeypatch.setattr(jobs, "iter_segment_file", failing(error))
    with pytest.raises(type(error)):
        run_job(job)


def test_notices_come_back_with_the_result_each_once(job, monkeypatch):
    original = Predictor.iter_field

    def noticing(*arguments):
        yield Notice("The memory is small.")
        yield Notice("The memory is small.")
        return (yield from original(*arguments))

    monkeypatch.setattr(Predictor, "iter_field", noticing)
    assert run_job(job).notices == ("The memory is small.",)


def test_an_order_for_another_working_directory_is_the_same_order(order, disc_run, monkeypatch):
    monkeypatch.chdir(disc_run)
    relative = replace(order, checkpoint="best.safetensors", folder=Path("labels"))
    assert relative.absolute().checkpoint == str(disc_run / "best.safetensors")
    assert relative.absolute().folder == disc_run / "labels"
    assert relative.absolute().fingerprint == relative.fingerprint
    named = replace(order, checkpoint="nuclei")
    assert named.absolute().checkpoint == "nuclei"
    assert os.path.isabs(named.absolute().folder)
