"""On several processes the outputs are those of one, whichever of the processes die on the way."""

from __future__ import annotations

import operator
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from distributed import KilledWorker

from swipe_core.cli import main as swipe
from swipe_core.compute.cluster import (
    PER_WORKER,
    Cluster,
    iter_outcomes,
    local_cluster,
    remote_cluster,
    shared_device,
)
from swipe_core.errors import ConfigError
from swipe_core.images.source import ImageSource
from swipe_core.inference.config import InferenceConfig
from swipe_core.prediction import jobs as jobs_module
from swipe_core.prediction.batch import REPORT_NAME
from swipe_core.prediction.block_renderer import STAGE
from swipe_core.prediction.jobs import Job, Order, iter_in_blocks, iter_on_cluster, run_job
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request
from swipe_core.progress import Notice, Progress, finish

PROCESSES = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two processes; one that dies comes back."""
    with local_cluster(PROCESSES) as started:
        yield started


@pytest.fixture
def client(cluster):
    cluster.client.wait_for_workers(PROCESSES, timeout=60)
    return cluster.client


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Ten noisy discs of 128 x 128, and one file that is none."""
    from conftest import save_picture

    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:128, :128]
    for number in range(10):
        disc = np.hypot(rows - 40 - 5 * number, columns - 60) < 30
        save_picture(
            folder / f"{number}.png", (generator.normal(60, 10, disc.shape) + 120 * disc).clip(0, 255)
        )
    (folder / "damaged.png").write_bytes((folder / "3.png").read_bytes()[:60])
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def order(disc_run, tmp_path_factory) -> Order:
    path = disc_run / "best.safetensors"
    predictor, folder = Predictor.load(path, device="cpu"), tmp_path_factory.mktemp("serial")
    return Order.of(str(path), predictor, Request(factor=2, objects=True), device="cpu", folder=folder)


@pytest.fixture(scope="module")
def serial(order, images) -> dict[str, bytes]:
    """What one process writes, by name."""
    for image in images:
        run_job(Job(order, ImageSource(image)))
    return written(order.folder)


def written(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, but for the drafts of a process that was killed."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def jobs_into(folder: Path, order: Order, images: list[Path]) -> list[Job]:
    return [Job(replace(order, folder=folder), ImageSource(image)) for image in images]


def processes(client) -> list[int]:
    return sorted(client.run(os.getpid).values())


def test_an_error_in_a_worker_is_the_outcome(client):
    [(_, outcome)] = iter_outcomes(client, int, ["seven"])
    assert isinstance(outcome, ValueError)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            KilledWorker("segment", None, 1),
            "0.png ended the process that worked on it, even alone: there may",
        ),
        (ImportError("no module"), "0.png could not be worked on in the cluster (ImportError: no module)."),
    ],
)
def test_a_job_that_comes_to_nothing_fails_in_a_sentence(cluster, order, images, monkeypatch, error, said):
    monkeypatch.setattr(jobs_module, "run_on", lambda cluster, items, *_: iter([(*items, error)]))
    [result] = iter_on_cluster(cluster, jobs_into(Path("labels"), order, images[:1]))
    assert result.state == "failed" and result.job.image.path == images[0]
    assert said in result.message


def test_few_jobs_are_sent_at_once_and_none_after_the_end_is_wanted(client):
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield 0.01 * len(taken)

    outcomes = iter_outcomes(client, time.sleep, endless())
    for _ in range(3):
        next(outcomes)
    outcomes.close()
    assert len(taken) <= 3 + PER_WORKER * PROCESSES


def test_ctrl_c_in_a_terminal_does_not_end_the_workers(client):
    """The terminal sends it to all processes, and who began the cluster is the one to end it."""
    before = processes(client)
    for process in before:
        os.kill(process, signal.SIGINT)
    assert dict(iter_outcomes(client, abs, [-1, -2])) == {-1: 1, -2: 2}
    assert processes(client) == before


def test_each_worker_computes_in_its_share_of_the_cores(cluster):
    assert cluster.threads == max(1, (os.cpu_count() or 1) // PROCESSES)
    assert not cluster.is_remote


@pytest.fixture
def remote(client) -> Iterator[Cluster]:
    """The same workers, as those of another machine."""
    with remote_cluster(client.scheduler.address) as connected:
        yield connected


class TestRemote:
    def test_a_scheduler_that_runs_already_gives_the_same(
        self, client, remote, order, images, serial, tmp_path
    ):
        results = list(iter_on_cluster(remote, jobs_into(tmp_path, order, images)))
        assert len(results) == len(images)
        assert written(tmp_path) == serial

    def test_relative_paths_are_those_of_this_process(
        self, client, remote, order, images, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(images[0].parent)
        (tmp_path / "labels").mkdir()
        job = Job(replace(order, folder=tmp_path / "labels"), ImageSource(Path(images[0].name)))
        [result] = iter_on_cluster(remote, [job])
        assert result.job == job and result.labels.is_file()

    def test_a_worker_that_does_not_see_a_file_says_so(self, client, remote, order, images, tmp_path):
        [job] = jobs_into(tmp_path, order, [images[0].with_name("elsewhere.png")])
        [result] = iter_on_cluster(remote, [job])
        assert result.state == "failed"
        assert "elsewhere.png is not there on" in result.message and "the same folders" in result.message

    def test_the_workers_go_on_after_it(self, client, remote):
        before = processes(client)
        with remote_cluster(client.scheduler.address):
            pass
        assert processes(client) == before

    def test_where_no_scheduler_is_a_sentence_says_so(self, monkeypatch):
        monkeypatch.setattr("swipe_core.compute.cluster.CONNECTING", 1)
        with (
            pytest.raises(ConfigError, match="There is no Dask scheduler at tcp://127.0.0.1:9"),
            remote_cluster("tcp://127.0.0.1:9"),
        ):
            pass

    def test_workers_of_another_version_are_refused(self, client, monkeypatch):
        monkeypatch.setattr("swipe_core.__version__", "9.9")
        with (
            pytest.raises(ConfigError, match="and this machine 9.9"),
            remote_cluster(client.scheduler.address),
        ):
            pass


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r'pip install "napari-swipe\[scale\]"'), local_cluster(2):
        pass


@pytest.mark.parametrize(
    ("device", "worker", "gpus", "expected"),
    [
        ("auto", 0, 2, "cuda:0"),
        ("cuda", 3, 2, "cuda:1"),
        ("auto", 3, 1, "auto"),
        ("auto", 3, 0, "auto"),
        ("cpu", 1, 4, "cpu"),
        ("cuda:1", 0, 4, "cuda:1"),
        ("auto", "tcp://10.0.0.1:1234", 4, "auto"),
    ],
)
def test_workers_share_the_gpus_of_a_machine(device, worker, gpus, expected):
    assert shared_device(device, worker, gpus) == expected


class TestScript:
    """The options of the script lead there; the processes are those that run already."""

    @pytest.fixture
    def script(self, load_script, cluster, client, monkeypatch):
        module = load_script("predict")
        monkeypatch.setattr(module, "local_cluster", lambda workers: nullcontext(cluster))
        return module

    @pytest.mark.parametrize("option", ["--workers", "--scheduler"])
    def test_it_writes_what_one_process_writes(
        self, script, client, order, images, serial, tmp_path, capsys, option
    ):
        value = {"--workers": "2", "--scheduler": client.scheduler.address}[option]
        output = ["--output", str(tmp_path), "--factor", "2", "--objects", "--device", "cpu"]
        command = [order.checkpoint, str(images[0].parent), *output, option, value]
        assert swipe(["predict", *command]) == 2
        assert "11 images: 10 done, 0 kept, 1 failed" in capsys.readouterr().err
        assert {name: data for name, data in written(tmp_path).items() if name != REPORT_NAME} == serial
        assert swipe(["predict", *command]) == 2
        assert "kept: 10 of 11 images" in capsys.readouterr().err

    def test_ctrl_c_keeps_what_is_finished(self, script, order, images, tmp_path, capsys, monkeypatch):
        def interrupted(result, *_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(script, "show", interrupted)
        command = [order.checkpoint, str(images[0].parent), "--output", str(tmp_path), "--workers", "2"]
        assert swipe(["predict", *command]) == 130
        assert "11 images: 1 done, 0 kept, 0 failed, 10 not reached" in capsys.readouterr().err


@pytest.fixture(scope="module")
def long_job(volume_checkpoint, tmp_path_factory) -> Job:
    """A long stack that is cut into four blocks of several pieces."""
    folder = tmp_path_factory.mktemp("large")
    noise = np.random.default_rng(0).normal(100, 20, (8, 16, 700)).astype(np.uint8)
    tifffile.imwrite(folder / "long.tif", noise)
    config = InferenceConfig(block_voxels=2**12)
    predictor = Predictor.load(volume_checkpoint, device="cpu", config=config)
    (folder / "serial").mkdir()
    place = folder / "serial"
    order = Order.of(str(volume_checkpoint), predictor, Request(), device="cpu", folder=place)
    return Job(order, ImageSource(folder / "long.tif"), blocks=True)


@pytest.fixture(scope="module")
def long_labels(long_job) -> np.ndarray:
    """What one process writes."""
    result = run_job(long_job)
    assert (result.state, result.shape) == ("done", (8, 16, 700)), result.message
    array = tifffile.imread(result.labels)
    assert len(np.unique(array)) > 1
    return array


class TestBlocks:
    def test_workers_share_the_blocks_of_an_image(self, cluster, client, long_job, long_labels, tmp_path):
        job = replace(long_job, order=replace(long_job.order, folder=tmp_path))
        reports = list[Progress | Notice]()
        result = finish(iter_in_blocks(cluster, job), reports.append)
        assert result.state == "done", result.message
        assert [r.done for r in reports if r.stage == STAGE] == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "long.tif"), long_labels)

    def test_stopped_half_way_it_goes_on_with_the_blocks_that_are_missing(
        self, cluster, client, long_job, long_labels, tmp_path
    ):
        job = replace(long_job, order=replace(long_job.order, folder=tmp_path))
        work = iter_in_blocks(cluster, job)
        next(report for report in work if report.stage == STAGE and report.done == 2)
        work.close()
        assert not (tmp_path / "long.tif").exists()
        first = next(report for report in iter_in_blocks(cluster, job) if report.stage == STAGE)
        assert first.done >= 2
        result = finish(iter_in_blocks(cluster, job))
        assert result.state == "done", result.message
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "long.tif"), long_labels)

    def test_a_fault_in_a_block_fails_the_image(self, cluster, client, long_job, tmp_path):
        path = tmp_path / "damaged.tif"
        path.write_bytes(long_job.image.path.read_bytes()[:40_000])
        result = finish(iter_in_blocks(cluster, replace(long_job, image=ImageSource(path))))
        assert result.state == "failed" and "damaged.tif" in result.message


# --- What kills the processes: last, since it takes them seconds to come back ---------------------


def test_a_worker_that_is_killed_loses_nothing(cluster, client, order, images, serial, tmp_path):
    jobs = jobs_into(tmp_path, order, images)
    results, killed = [], None
    for result in iter_on_cluster(cluster, jobs):
        results.append(result)
        if killed is None:  # each worker has work now
            killed = processes(client)[0]
            os.kill(killed, signal.SIGKILL)
    assert sorted(result.job.image.name for result in results) == [image.name for image in images]
    failures = [result for result in results if result.state == "failed"]
    assert [result.job.image.name for result in failures] == ["damaged.png"]
    assert "damaged.png is damaged" in failures[0].message
    assert len(serial) == 40 and written(tmp_path) == serial


def test_what_kills_every_worker_is_an_error_and_the_others_are_done(client):
    harmless = [partial(abs, -number) for number in range(8)]
    deadly = partial(os._exit, 3)
    outcomes = dict(iter_outcomes(client, operator.call, [*harmless[:4], deadly, *harmless[4:]]))
    assert [outcomes[item] for item in harmless] == list(range(8))
    assert type(outcomes[deadly]).__name__ == "KilledWorker"
