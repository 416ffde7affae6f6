"""What a training on a CPU will take is known before it starts, and what is too much is refused."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

import pytest
import torch

from swipe_core.data.batch import Batch
from swipe_core.data.cases import find_cases
from swipe_core.errors import ConfigError
from swipe_core.progress import Notice, finish
from swipe_core.training import footprint as training_footprint
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.footprint import check_memory, footprint, saved_bytes
from swipe_core.training.learner import Learner
from swipe_core.training.runner import Trainer

COUNTS_MEMORY = Path("/proc/self/clear_refs").exists() and hasattr(ctypes.CDLL(None), "malloc_trim")


@pytest.fixture
def disc(disc_folder):
    return find_cases(disc_folder, "train")


def resident(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at the most."""
    (found,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return 1024 * int(found)


def give_back_free_memory() -> None:
    """What earlier tests freed the process may have kept, and a step that reuses it would not be seen."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@pytest.mark.skipif(not COUNTS_MEMORY, reason="needs Linux's count of peak memory, and glibc")
def test_the_estimate_is_within_a_factor_of_two_of_the_measured_peak(tiny_config):
    config = tiny_config({"batch.size": 8, "model.stem_channels": 16, "model.stem_outputs": 16})
    side, points = 192, config.batch.points
    torch.manual_seed(0)
    where = torch.rand(8, points, 2) * 2 - 1
    none = torch.zeros(8, 0, 2, 2)
    classes = torch.randint(2, (8, points))
    batch = Batch(torch.rand(8, 1, side, side), where, where, classes, none, none, tuple("abcdefgh"))
    learner = Learner(config, torch.device("cpu"))
    estimate = footprint(config, (side, side), 0, half_precision=False).total
    give_back_free_memory()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak so far
    before = resident("VmRSS")
    learner.learn(batch, 0, 1e-3)
    measured = resident("VmHWM") - before
    assert measured > 50e6
    assert measured / 2 < estimate < 2 * measured


def test_what_is_kept_grows_with_the_images_and_with_their_size(tiny_config):
    config = tiny_config()
    one, two, large = (saved_bytes(config, s, n) for s, n in (((32, 32), 1), ((32, 32), 2), ((96, 96), 1)))
    assert two == pytest.approx(2 * one, rel=0.05)
    assert 2 * one < large < 9 * one  # what is kept for the points does not grow with the image


def test_accumulating_saves_what_is_kept_of_the_images_that_wait(tiny_config):
    whole, parted = (
        footprint(tiny_config({"training.accumulate": parts}), (32, 32), 0, half_precision=False)
        for parts in (1, 4)
    )
    assert (whole.part, parted.part) == (4, 1)
    assert whole.total - parted.total == pytest.approx(3 * parted.image, rel=0.1)
    assert whole.weights == parted.weights


def memory_for(config: ExperimentConfig, images: float) -> int:
    """Bytes that a training on the disc takes where so many images are worked through at once."""
    needed = footprint(config, (32, 32), 32 * 32 * 4, half_precision=False)
    return int(needed.weights + needed.cases + images * needed.image)


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (2.5, "set training.accumulate 4, or batch.size 2."),
        (1.5, "set training.accumulate 8, or batch.size 1."),
        (0.5, "lower preprocessing.crop_size"),
    ],
)
def test_a_training_that_does_not_fit_is_refused_with_what_would_before_anything_is_written(
    tmp_path, tiny_config, disc, monkeypatch, images, remedy
):
    config = tiny_config({"training.steps": 1, "batch.size": 8})
    monkeypatch.setattr(training_footprint, "free_memory", lambda: memory_for(config, images))
    with pytest.raises(ConfigError, match="This training needs about .* of memory are free: ") as error:
        finish(Trainer(config, disc, [], tmp_path).run())
    assert remedy in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_training_that_may_just_fit_is_begun_with_a_notice_of_what_helps(
    tmp_path, tiny_config, disc, monkeypatch
):
    config = tiny_config({"training.steps": 1})
    monkeypatch.setattr(training_footprint, "free_memory", lambda: memory_for(config, 2.5))
    first, *others = Trainer(config, disc, [], tmp_path).run()
    assert isinstance(first, Notice) and not any(isinstance(report, Notice) for report in others)
    assert "may be too little: if the system ends it, set training.accumulate 2, or batch.size 2." in (
        first.message
    )
    assert (tmp_path / "last.safetensors").exists()


@pytest.mark.parametrize("share", [0.499, 0.501, 0.999, 1.0])
def test_it_is_refused_where_half_of_the_estimate_does_not_fit(tiny_config, disc, monkeypatch, share):
    config = tiny_config()
    needed = footprint(config, (32, 32), 32 * 32 * 4, half_precision=False)
    monkeypatch.setattr(training_footprint, "free_memory", lambda: round(share * needed.total))
    if share < 0.5:
        with pytest.raises(ConfigError, match="are free: "):
            check_memory(config, disc, half_precision=False)
    else:
        assert (check_memory(config, disc, half_precision=False) is None) == (share == 1.0)


def test_what_is_suggested_fits(tmp_path, tiny_config, disc, monkeypatch):
    free = memory_for(tiny_config(), 2.5)
    monkeypatch.setattr(training_footprint, "free_memory", lambda: free)
    for number, change in enumerate(({"training.accumulate": 2}, {"batch.size": 2})):
        smaller = tiny_config({"training.steps": 1, **change})
        reports: list = []
        run = Trainer(smaller, disc, [], tmp_path / str(number)).run()
        assert finish(run, reports.append).finished
        assert not any(isinstance(report, Notice) for report in reports)


def test_where_the_free_memory_is_not_known_nothing_is_refused(tmp_path, tiny_config, disc, monkeypatch):
    monkeypatch.setattr(training_footprint, "free_memory", lambda: None)
    assert finish(Trainer(tiny_config({"training.steps": 1}), disc, [], tmp_path).run()).finished
