"""Laws of a start: what the first image decides; of another model what fits is kept, and it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint
from swipe_core.checkpoints.summary import Provenance
from swipe_core.data.cases import Case, find_cases
from swipe_core.errors import ConfigError
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.progress import Notice, finish
from swipe_core.training.runner import Trainer
from swipe_core.training.start import decided, inherit

OUTPUTS = ("patch_decoder.output.weight", "image_decoder.output.bias")


@pytest.fixture
def trained(disc_run) -> Checkpoint:
    return load_checkpoint(disc_run / "best.safetensors")


def with_classes(tiny_config, *names: str):
    return tiny_config({"labels.class_names": names})


def test_the_same_classes_take_over_every_weight(tiny_config, trained):
    model = build_swipe(with_classes(tiny_config, "foreground").model)
    told = inherit(model, ["foreground"], trained)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained.weights[name]), name
    assert (
        told.share == 1 and told.kept_classes == ("foreground",) and not told.new_classes and not told.fresh
    )


def test_of_other_classes_only_the_last_layers_start_afresh(tiny_config, trained):
    model = build_swipe(with_classes(tiny_config, "nucleus", "foreground").model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told = inherit(model, ["nucleus", "foreground"], trained)
    after = model.state_dict()
    for name, tensor in after.items():
        if ".output." not in name:
            assert torch.equal(tensor, trained.weights[name]), name
    for name in OUTPUTS:
        assert torch.equal(after[name][0], trained.weights[name][0])  # the background
        assert torch.equal(after[name][1], before[name][1])  # new
        assert torch.equal(after[name][2], trained.weights[name][1])  # of the same name, at another place
    assert told.kept_classes == ("foreground",) and told.new_classes == ("nucleus",)
    assert "start afresh for nucleus" in str(told) and "foreground" in str(told)


def test_a_class_of_another_name_is_another_class(tiny_config, trained):
    model = build_swipe(with_classes(tiny_config, "nucleus").model)
    before = model.state_dict()[OUTPUTS[0]].clone()
    told = inherit(model, ["nucleus"], trained)
    assert torch.equal(model.state_dict()[OUTPUTS[0]][1], before[1])
    assert told.kept_classes == () and told.share < 1


def test_a_network_that_shares_little_is_refused_in_a_sentence(tiny_config, trained):
    config = tiny_config({"model.embedding_width": 48, "model.planes": (24, 24, 24, 24)})
    with pytest.raises(ConfigError, match="shares only .* % of its weights with discs: take the sections"):
        inherit(build_swipe(config.model), ["foreground"], trained)


def test_a_run_says_what_it_took_over_and_its_checkpoints_say_from_whom(
    tiny_config, trained, disc_folder, tmp_path
):
    cases = find_cases(disc_folder, "train")
    config = tiny_config({"labels.class_names": ("disc",), "training.steps": 1})
    run = Trainer(config, cases, [], tmp_path, start=trained, provenance=Provenance(project="mine"))
    said: list[str] = []
    finish(run.run(), lambda report: said.append(report.message) if isinstance(report, Notice) else None)
    assert any("Starting from discs" in message and "afresh for disc" in message for message in said)
    summary = load_checkpoint(tmp_path / "last.safetensors").content.summary
    assert (summary.started_from, summary.project) == ("discs", "mine")


def test_where_a_run_came_from_is_still_known_after_it_is_resumed(
    tiny_config, trained, disc_folder, tmp_path
):
    cases = find_cases(disc_folder, "train")
    config = tiny_config({"training.steps": 2})
    first = Trainer(config, cases, [], tmp_path, start=trained)
    first.control.stop()
    finish(first.run())
    # A start is without effect here: the run has weights of its own.
    again = Trainer(config, cases, [], tmp_path, resume=True, start=trained)
    assert again.learner.inheritance is None
    finish(again.run())
    assert load_checkpoint(tmp_path / "last.safetensors").content.summary.started_from == "discs"


def test_a_fine_tuned_network_begins_where_the_other_one_ended(
    tiny_config, trained, disc_folder, tmp_path: Path
):
    cases = find_cases(disc_folder, "train")
    config = tiny_config({"training.steps": 1, "training.learning_rate": 1e-9})
    run = Trainer(config, cases, cases, tmp_path, start=trained)
    result = finish(run.run())
    assert result.best_dice is not None and result.best_dice > 0.9


def test_frozen_statistics_stay_while_everything_else_learns(tiny_config, trained, disc_folder, tmp_path):
    cases = find_cases(disc_folder, "train")
    for frozen in (True, False):
        config = tiny_config({"training.steps": 3, "training.frozen_statistics": frozen})
        run = Trainer(config, cases, [], tmp_path / str(frozen), start=trained)
        finish(run.run())
        weights = run.learner.model.state_dict()
        statistics = [name for name in weights if "running_" in name]
        assert statistics
        same = [torch.equal(weights[name], trained.weights[name]) for name in statistics]
        assert all(same) if frozen else not any(same)
        kernels = [name for name in weights if weights[name].ndim > 1]
        assert not any(torch.equal(weights[name], trained.weights[name]) for name in kernels)


@pytest.mark.parametrize(("photometric", "axis"), [("rgb", None), ("minisblack", "channel")])
def test_a_network_of_three_channels_takes_dyes_where_its_first_case_has_dyes(
    tmp_path, tiny_config, photometric, axis
):
    array = np.zeros((8, 9, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=photometric, planarconfig="contig")
    cases = [Case("a", tmp_path / "a.tif", tmp_path / "a.png")]
    config = tiny_config({"model.channels": 3})
    assert decided(config, cases).preprocessing.channel_axis == axis
    assert decided(tiny_config(), cases).preprocessing.channel_axis is None
    own = tiny_config({"model.channels": 3, "preprocessing.channel_axis": "colour"})
    assert decided(own, cases).preprocessing.channel_axis == "colour"


def test_what_a_configuration_leaves_open_is_as_it_was_in_a_run_that_goes_on(tmp_path, tiny_volume_config):
    cases = [Case("a", tmp_path / "gone.nii", tmp_path / "gone.nii")]  # is not read
    earlier = tiny_volume_config.preprocessing.model_copy(update={"orientation": "LPS"})
    assert decided(tiny_volume_config, cases, earlier).preprocessing.orientation == "LPS"
    stated = tiny_volume_config.preprocessing.model_copy(update={"orientation": "RAS"})
    own = tiny_volume_config.model_copy(update={"preprocessing": stated})
    assert decided(own, cases, earlier).preprocessing.orientation == "RAS"
