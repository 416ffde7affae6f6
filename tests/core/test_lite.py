"""EfficientNet-Lite0: its maps, its start from learned weights, and how a training treats it."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from tiny_networks import SWIPE, TINY

from swipe_core.data.preprocessing import PreprocessingConfig
from swipe_core.networks.lite import (
    ALL,
    FOUR,
    STAGES,
    WEIGHTS,
    EfficientNetLite,
    SliceEncoder,
    pretrained_encoder,
)
from swipe_core.networks.registry import KINDS, build_network
from swipe_core.networks.swipe.backbone import Backbone
from swipe_core.networks.swipe.build import SwipeConfig, build_swipe
from swipe_core.training.config import TrainingConfig
from swipe_core.training.optimisation import build_optimiser, set_learning_rate
from swipe_core.training.start import start_pretrained


def started(channels: int = 3, scale: float = 1.0) -> EfficientNetLite:
    encoder = EfficientNetLite(channels, ALL).eval()
    encoder.load_pretrained(scale)
    return encoder


def images_of(channels: int = 3, *shape: int) -> torch.Tensor:
    shape = shape or (32, 64)
    return torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


class TestMaps:
    @pytest.mark.parametrize("given", [FOUR[2], FOUR[4]])
    def test_they_have_the_channels_and_strides_that_the_encoder_announces(self, given):
        encoder = EfficientNetLite(3, given).eval()
        assert isinstance(encoder, Backbone)
        maps = encoder(images_of())
        assert [tuple(m.shape) for m in maps] == [
            (2, channels, 32 // stride, 64 // stride)
            for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
        ]

    def test_the_finer_ones_leave_the_last_stages_out(self):
        assert len(EfficientNetLite(3, FOUR[2]).stages) == len(STAGES) - 2

    def test_the_whole_encoder_has_as_many_parameters_as_published(self):
        """4.65 million less the head of 1280 channels and 1000 classes, and its normalisation."""
        head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
        parameters = sum(p.numel() for p in EfficientNetLite(3, ALL).parameters())
        assert parameters + head == 4_652_008

    def test_a_map_of_a_volume_sees_the_slices_of_its_own_cells_alone(self):
        encoder = SliceEncoder(started(1))
        volume = images_of(1, 32, 32, 32)
        changed = volume.clone()
        changed[:, :, 5] += 1
        with torch.no_grad():
            before, after = encoder.eval()(volume), encoder(changed)
        for stride, old, new in zip(encoder.strides, before, after, strict=True):
            assert old.shape[2:] == (32 // stride,) * 3
            differs = (old != new).flatten(3).any(dim=-1).any(dim=1).all(dim=0)
            assert differs.nonzero().flatten().tolist() == [5 // stride]


class TestStart:
    def test_the_weights_say_where_they_come_from_and_are_small_enough_to_ship(self):
        assert len(WEIGHTS.read_bytes()) < 6.5e6
        with safe_open(str(WEIGHTS), "pt") as file:
            assert file.metadata()["licence"] == "Apache-2.0"
            assert {"source", "attribution"} <= set(file.metadata())

    def test_one_channel_is_read_as_red_green_and_blue_alike(self):
        grey = images_of(1)
        with torch.no_grad():
            expected = started(3)(grey.expand(-1, 3, -1, -1))
            for one, three in zip(started(1)(grey), expected, strict=True):
                torch.testing.assert_close(one, three, atol=1e-3, rtol=1e-3)

    def test_images_of_another_range_are_scaled_to_the_one_that_was_learned(self):
        with torch.no_grad():
            for one, other in zip(started(scale=0.5)(2 * images_of()), started()(images_of()), strict=True):
                torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)

    def test_any_number_of_channels_can_start_from_them(self):
        with torch.no_grad():
            assert all(m.isfinite().all() for m in started(5)(images_of(5)))

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_it_reaches_the_encoder_of_a_network(self, ndim):
        model = tiny_swipe(ndim)
        start_pretrained(model, PreprocessingConfig(ndim=ndim, channels=1, intensity="standardise"))
        own = pretrained_encoder(model).state_dict()
        expected = started(1, scale=0.5).state_dict()
        assert all(torch.equal(own[name], expected[name]) for name in own)

    def test_a_network_without_such_an_encoder_is_left_alone(self):
        model = build_swipe(SwipeConfig(**SWIPE, connectivity=4))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        start_pretrained(model, PreprocessingConfig(ndim=2, channels=3))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class TestOtherNetworks:
    @pytest.mark.parametrize("name", ["iosnet", "res2unet", "pranet"])
    def test_they_take_the_encoder_and_its_start(self, name):
        config = KINDS[name].config(**TINY[name, 2] | {"encoder": "lite0", "channels": 1})
        model = build_network(config)
        start_pretrained(model, PreprocessingConfig(ndim=2, channels=1, intensity="window", window=(0, 1)))
        stem = pretrained_encoder(model).state_dict()["stem.0.weight"]
        assert torch.equal(stem, started(1, scale=2.0).state_dict()["stem.0.weight"])
        points = torch.zeros(2, 7, 2)
        prediction = model.train()(images_of(1, 40, 52), points, points)
        prediction.patch.square().mean().backward()
        assert all(p.grad is not None for p in pretrained_encoder(model).parameters())


class TestRates:
    def test_the_encoder_changes_at_its_own_share_of_the_rate(self):
        model = tiny_swipe(2)
        optimiser = build_optimiser(model, TrainingConfig(pretrained_rate=0.25))
        set_learning_rate(optimiser, 0.4)
        rates = {p: group["lr"] for group in optimiser.param_groups for p in group["params"]}
        encoder = set(pretrained_encoder(model).parameters())
        assert {rates[p] for p in encoder} == {0.1}
        assert {rates[p] for p in model.parameters() if p not in encoder} == {0.4}

    def test_from_nothing_all_parameters_change_alike(self):
        optimiser = build_optimiser(tiny_swipe(2), TrainingConfig(pretrained=False))
        set_learning_rate(optimiser, 0.4)
        assert {group["lr"] for group in optimiser.param_groups} == {0.4}


def tiny_swipe(ndim: int):
    fields = SWIPE | {"connectivity": {2: 4, 3: 6}[ndim], "backbone": "lite0", "channels": 1}
    return build_swipe(SwipeConfig(ndim=ndim, **fields))
