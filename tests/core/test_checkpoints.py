"""Checkpoints: every bit comes back, nothing is executed, and no file is ever half written."""

from __future__ import annotations

import errno
import json
import math
import pickle
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from swipe_core.checkpoints import file as checkpoints
from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import Checkpoint, CheckpointContent, load_checkpoint, save_checkpoint
from swipe_core.checkpoints.summary import TrainingSummary
from swipe_core.errors import CheckpointError
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.training.config import ExperimentConfig

SUMMARY = {"steps": 80, "dice": {"polyp": 0.5, "mean": 0.25}, "data": ["a", "b"], "minutes": 1.5, "note": "µ"}
CARD = ModelCard(
    title="Discs",
    description="Finds discs.",
    data="One disc.",
    licence="CC0 1.0",
    attribution="Nobody",
    intended_use="Tests",
    limits="Everything else",
    dice={"disc": 0.93},
    validation="The same disc.",
)
PROGRESS = {"step": 80, "best": -math.inf, "rates": [0.1, 0.02], "seed": 7}


def content_of(config: ExperimentConfig, summary=SUMMARY) -> CheckpointContent:
    return CheckpointContent(
        name=config.name,
        model=config.model,
        preprocessing=config.preprocessing,
        labels=config.labels,
        inference=config.inference,
        summary=TrainingSummary(**summary),
    )


@pytest.fixture
def checkpoint(tiny_config) -> Checkpoint:
    """An untrained network with a state of every kind of tensor an optimiser keeps."""
    config = tiny_config()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = build_swipe(config.model).state_dict()
        state = {
            "optimiser.0.exp_avg": torch.randn(3, 4),
            "optimiser.0.step": torch.tensor(80.0),
            "half": torch.randn(5).bfloat16(),
            "counts": torch.arange(4),
            "empty": torch.zeros(0, 2),
            "turned": torch.randn(3, 5).T,
        }
    return Checkpoint(content_of(config), weights, state, PROGRESS)


@pytest.fixture
def path(tmp_path, checkpoint) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint)
    return path


def sentence(path: Path) -> str:
    """The one sentence that loading is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path).build()
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


def rewrite(path: Path, **metadata: str | None) -> None:
    """The same tensors under another header."""
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"] | metadata
    save_file(load_file(path), path, {key: value for key, value in header.items() if value is not None})


def changed_content(path: Path, section: str, **fields) -> str:
    content = load_checkpoint(path).content.model_dump(mode="json")
    content[section] |= fields
    return json.dumps(content)


class TestRoundTrip:
    def test_every_tensor_comes_back_bit_by_bit(self, path, checkpoint):
        loaded = load_checkpoint(path)
        for before, after in ((checkpoint.weights, loaded.weights), (checkpoint.state, loaded.state)):
            assert before.keys() == after.keys()
            for name, tensor in before.items():
                assert after[name].dtype == tensor.dtype
                assert torch.equal(after[name], tensor)

    def test_content_and_progress_come_back(self, path, checkpoint):
        loaded = load_checkpoint(path)
        assert loaded.content == checkpoint.content
        assert loaded.progress == PROGRESS
        assert loaded.path == path

    def test_the_network_it_builds_says_exactly_the_same(self, path, checkpoint):
        images = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        points = torch.rand(1, 20, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
        before, after = (
            c.build().eval()(images, points, points).patch for c in (checkpoint, load_checkpoint(path))
        )
        assert torch.equal(before, after)

    def test_saving_what_was_loaded_loses_nothing(self, path, tmp_path):
        again = tmp_path / "again.safetensors"
        loaded = load_checkpoint(path)
        save_checkpoint(again, Checkpoint(loaded.content, loaded.weights, loaded.state, loaded.progress))
        assert load_checkpoint(again).content == loaded.content
        assert load_file(again).keys() == load_file(path).keys()
        assert again.stat().st_size == path.stat().st_size

    def test_weights_alone_are_a_checkpoint_too(self, tmp_path, checkpoint):
        path = tmp_path / "bare.safetensors"
        save_checkpoint(path, Checkpoint(checkpoint.content, checkpoint.weights))
        loaded = load_checkpoint(path)
        assert loaded.state == loaded.progress == {}
        loaded.build()

    def test_what_was_loaded_has_no_tie_to_the_file(self, path, checkpoint):
        loaded = load_checkpoint(path)
        with path.open("r+b") as file:  # in place, where a tensor that is mapped would change
            file.write(bytes(path.stat().st_size))
        for name, tensor in checkpoint.weights.items():
            assert torch.equal(loaded.weights[name], tensor), name
        for name, tensor in checkpoint.state.items():
            assert torch.equal(loaded.state[name], tensor), name

    def test_the_folder_is_made_where_it_is_missing(self, tmp_path, checkpoint):
        path = tmp_path / "runs" / "first" / "model.safetensors"
        save_checkpoint(path, checkpoint)
        assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


class TestHalfPrecision:
    @pytest.fixture
    def halved(self, tmp_path, checkpoint) -> Path:
        path = tmp_path / "half.safetensors"
        save_checkpoint(path, checkpoint, half=True)
        return path

    def test_it_comes_back_in_single_precision_to_eleven_bits(self, halved, checkpoint):
        loaded = load_checkpoint(halved)
        assert loaded.weights.keys() == checkpoint.weights.keys()
        for name, tensor in checkpoint.weights.items():
            assert loaded.weights[name].dtype == tensor.dtype
            torch.testing.assert_close(loaded.weights[name], tensor, rtol=2**-11, atol=2**-25)
        assert {p.dtype for p in loaded.build().parameters()} == {torch.float32}

    def test_it_takes_little_more_than_half_the_space(self, halved, path, checkpoint):
        assert load_file(halved).keys() == load_file(path).keys()
        weights = [t for t in checkpoint.weights.values() if t.ndim > 1]
        saved = path.stat().st_size - halved.stat().st_size
        assert saved == pytest.approx(2 * sum(t.numel() for t in weights), rel=0.02)

    def test_biases_counters_and_the_statistics_of_normalisation_stay_as_they_are(self, tmp_path, checkpoint):
        """A variance of 1e-9 has no half precision but 0, and would be divided by."""
        path = tmp_path / "half.safetensors"
        tiny = {n: t * 0 + 1e-9 if n.endswith("running_var") else t for n, t in checkpoint.weights.items()}
        save_checkpoint(path, Checkpoint(checkpoint.content, tiny), half=True)
        loaded = load_checkpoint(path).weights
        kept = [name for name, tensor in tiny.items() if tensor.ndim < 2]
        assert any(name.endswith("running_var") for name in kept)
        assert all(torch.equal(loaded[name], tiny[name]) for name in kept)

    def test_the_state_of_a_training_is_not_touched(self, halved, checkpoint):
        loaded = load_checkpoint(halved)
        assert all(torch.equal(loaded.state[name], t) for name, t in checkpoint.state.items())
        assert loaded.progress == PROGRESS

    def test_saving_it_again_changes_no_bit(self, halved, tmp_path):
        again = tmp_path / "again.safetensors"
        loaded = load_checkpoint(halved)
        save_checkpoint(again, loaded, half=True)
        second = load_checkpoint(again).weights
        assert all(torch.equal(second[name], t) for name, t in loaded.weights.items())

    @pytest.mark.parametrize("value", [1e5, -1e5, math.inf, math.nan])
    def test_a_weight_that_half_precision_cannot_hold_is_refused(self, tmp_path, checkpoint, value):
        path = tmp_path / "half.safetensors"
        name, tensor = next((n, t) for n, t in checkpoint.weights.items() if t.ndim > 1)
        weights = {**checkpoint.weights, name: torch.full_like(tensor, value)}
        with pytest.raises(CheckpointError, match=f"{re.escape(name)} .*single precision") as caught:
            save_checkpoint(path, Checkpoint(checkpoint.content, weights), half=True)
        assert "\n" not in str(caught.value)
        assert not path.exists()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_weights_of_any_precision_are_loaded_in_single_precision(self, tmp_path, checkpoint, dtype):
        path = tmp_path / "other.safetensors"
        other = {n: t.to(dtype) if t.is_floating_point() else t for n, t in checkpoint.weights.items()}
        save_checkpoint(path, Checkpoint(checkpoint.content, other))
        loaded = load_checkpoint(path)
        assert {t.dtype for t in loaded.weights.values() if t.is_floating_point()} == {torch.float32}
        built = loaded.build().state_dict()
        assert all(torch.equal(built[name], other[name].to(built[name].dtype)) for name in built)


class TestCard:
    def test_it_comes_back_and_is_none_where_a_file_has_none(self, path, checkpoint):
        assert load_checkpoint(path).content.card is None
        content = checkpoint.content.model_copy(update={"card": CARD})
        save_checkpoint(path, Checkpoint(content, checkpoint.weights))
        assert load_checkpoint(path).content.card == CARD

    def test_a_file_from_before_there_were_cards_still_loads(self, path, checkpoint):
        content = checkpoint.content.model_dump(mode="json")
        del content["card"]
        rewrite(path, content=json.dumps(content))
        assert load_checkpoint(path).content == checkpoint.content


class Bomb:
    """Its pickle makes a file when it is read back: the stand-in for anything worse."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


class TestForeignFiles:
    @pytest.mark.parametrize("write", ["pickle", "torch"])
    def test_a_pickle_under_the_name_of_a_checkpoint_is_refused_and_never_run(self, tmp_path, write):
        path, trace = tmp_path / "model.safetensors", tmp_path / "executed"
        if write == "torch":
            torch.save({"weights": torch.zeros(3), "bomb": Bomb(trace)}, path)
        else:
            path.write_bytes(pickle.dumps(Bomb(trace)))
        assert "not a whole safetensors file" in sentence(path)
        assert not trace.exists()

    @pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04" * 50])
    def test_other_formats_are_refused(self, tmp_path, content):
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        assert "not a whole safetensors file" in sentence(path)

    def test_safetensors_of_another_program_are_told_apart(self, tmp_path):
        path = tmp_path / "other.safetensors"
        save_file({"weight": torch.zeros(3)}, path)
        assert "no SwIPE checkpoint" in sentence(path)
        save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
        assert "no SwIPE checkpoint" in sentence(path)

    def test_a_missing_file_is_named(self, tmp_path):
        assert "There is no checkpoint" in sentence(tmp_path / "none.safetensors")

    def test_a_folder_is_no_checkpoint(self, tmp_path):
        assert "There is no checkpoint" in sentence(tmp_path)


class TestDamage:
    @pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.3, 0.9, 0.9999])
    def test_a_file_that_was_cut_short_is_refused(self, path, share):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        assert "cut short" in sentence(path)

    def test_a_flipped_bit_in_the_header_is_refused_in_words_or_changes_no_tensor(self, path, checkpoint):
        """Some flips only spell a name differently; whatever loads builds the network as it was."""
        whole = path.read_bytes()
        size = int.from_bytes(whole[:8], "little")
        draw = random.Random(0)
        metadata = range(8, whole.index(b'"model.'))  # up to the name of the first tensor
        # Every byte of the length, some of everything.
        positions = [*range(8), *draw.sample(range(8, 8 + size), 30), *draw.sample(metadata, 60)]
        refused = 0
        for position in positions:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            try:
                built = load_checkpoint(path).build().state_dict()
            except CheckpointError as error:
                assert "\n" not in str(error)
                refused += 1
            else:
                assert all(torch.equal(built[n], t) for n, t in checkpoint.weights.items())
        assert refused > len(positions) / 2

    @pytest.mark.parametrize("version", ["2", "99", "", "1.5", "one", None])
    def test_a_newer_or_unreadable_version_asks_for_an_update(self, path, version):
        rewrite(path, version=version)
        text = sentence(path)
        assert f"version {version or '?'}" in text
        assert "update napari-swipe" in text

    @pytest.mark.parametrize("content", [None, "", "{", "[]", "null", "{}", '{"name": "x"}'])
    def test_a_header_without_its_configuration_is_refused(self, path, content):
        rewrite(path, content=content)
        assert "unusable" in sentence(path)

    @pytest.mark.parametrize("progress", ["", "{", "[1]", "3", "null"])
    def test_a_progress_that_is_no_record_is_refused(self, path, progress):
        rewrite(path, progress=progress)
        assert "unusable" in sentence(path)

    @pytest.mark.parametrize(
        ("section", "fields", "said"),
        [
            ("model", {"backbone": "vgg"}, "model.backbone"),
            ("model", {"depth": 3}, "model.depth"),
            ("model", {"connectivity": 6}, "connectivity must be one of (4, 8) in 2D"),
            ("preprocessing", {"ndim": 4}, "preprocessing.ndim"),
            ("labels", {"class_names": []}, "labels.class_names"),
            ("inference", {"overlap": 1.0}, "inference.overlap"),
        ],
    )
    def test_an_unusable_field_is_named(self, path, section, fields, said):
        rewrite(path, content=changed_content(path, section, **fields))
        assert said in sentence(path)

    @pytest.mark.parametrize("fields", [{"embedding_width": 32}, {"blocks": [1, 2, 1, 1]}, {"classes": 3}])
    def test_weights_of_another_network_than_the_described_are_refused(self, path, fields):
        rewrite(path, content=changed_content(path, "model", **fields))
        assert "do not belong to the network it describes" in sentence(path)

    def test_missing_weights_are_refused(self, path):
        content = load_checkpoint(path).content
        save_checkpoint(path, Checkpoint(content, {}))
        assert "do not belong to the network it describes" in sentence(path)


class TestWriting:
    @staticmethod
    def fail_halfway(tensors, filename, metadata=None):
        Path(filename).write_bytes(b"half of a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")

    def test_a_failure_leaves_the_old_file_whole_and_nothing_else(self, path, checkpoint, monkeypatch):
        before = path.read_bytes()
        monkeypatch.setattr(checkpoints, "save_file", self.fail_halfway)
        with pytest.raises(
            CheckpointError, match=r"could not be written \(.*No space left.*\): free some space"
        ):
            save_checkpoint(path, checkpoint)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_so_does_one_at_the_last_step(self, path, checkpoint, monkeypatch):
        def refuse(source, target):
            raise PermissionError(errno.EACCES, "Permission denied")

        before = path.read_bytes()
        monkeypatch.setattr(checkpoints.os, "replace", refuse)
        with pytest.raises(CheckpointError, match="Permission denied"):
            save_checkpoint(path, checkpoint)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_a_first_save_that_fails_leaves_nothing(self, tmp_path, checkpoint, monkeypatch):
        monkeypatch.setattr(checkpoints, "save_file", self.fail_halfway)
        with pytest.raises(CheckpointError):
            save_checkpoint(tmp_path / "model.safetensors", checkpoint)
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_is_no_folder_is_refused_in_words(self, tmp_path, checkpoint):
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        with pytest.raises(CheckpointError, match="choose another folder") as caught:
            save_checkpoint(tmp_path / "file" / "model.safetensors", checkpoint)
        assert "\n" not in str(caught.value)

    def test_an_older_file_is_replaced_and_nothing_stays_beside_it(self, path, checkpoint):
        content = checkpoint.content.model_copy(update={"name": "second"})
        save_checkpoint(path, Checkpoint(content, checkpoint.weights))
        assert load_checkpoint(path).content.name == "second"
        assert list(path.parent.iterdir()) == [path]
