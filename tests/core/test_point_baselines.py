"""What is special about the compared networks that answer at points, IOSNet and OSS-Net, and about UNETR.

What all networks of the comparison have in common is told by the tests of the baselines.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import map_coordinates
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from swipe_core.coordinates import voxel_centres, voxel_to_image
from swipe_core.errors import ConfigError, ImageError
from swipe_core.networks import segmenter
from swipe_core.networks.encoding import FeatureMaps
from swipe_core.networks.iosnet import IOSNet, IOSNetConfig
from swipe_core.networks.layers import CoordinateLayer
from swipe_core.networks.ossnet import (
    ConditionalNormalisation,
    OSSNet,
    OSSNetConfig,
    patches_at,
)
from swipe_core.networks.unetr import UNETR, UNETRConfig
from swipe_core.training.config import parse_config

CHANNELS, CLASSES = 2, 3
SHAPES = {2: (21, 34), 3: (9, 20, 12)}
WINDOW = (32, 16, 16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(shape: tuple[int, ...], batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, *shape, generator=seeded(seed))


def points_of(ndim: int, batch: int = 2, count: int = 50) -> torch.Tensor:
    """Points of the image frame, a few of them outside the image."""
    return torch.rand(batch, count, ndim, generator=seeded(1)) * 2.2 - 1.1


def voxel_points(points: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Points of the voxel frame as a batch of one in the image frame."""
    return torch.from_numpy(voxel_to_image(points.astype(float), shape)).float()[None]


def interpolated(features: torch.Tensor, points_voxel: np.ndarray) -> np.ndarray:
    """(points, channels): a map (channels, *lattice) read at points of its own voxel frame, by hand."""
    read = [map_coordinates(m, points_voxel.T, order=1, mode="nearest") for m in features.double().numpy()]
    return np.stack(read, axis=-1)


def as_if_trained(model: nn.Module) -> nn.Module:
    """In evaluation mode, with normalisations that do something."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


class CountedCalls:
    """How often a module is called."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.count = module, 0

    def __enter__(self) -> CountedCalls:
        self._hook = self.module.register_forward_pre_hook(self._called)
        return self

    def __exit__(self, *_) -> None:
        self._hook.remove()

    def _called(self, *_) -> None:
        self.count += 1


def an_iosnet(ndim: int) -> IOSNet:
    config = IOSNetConfig(
        ndim=ndim, channels=CHANNELS, classes=CLASSES, widths=(3, 4, 5, 6, 7, 8), hidden=(16, 12)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return as_if_trained(IOSNet(config))


def an_ossnet(ndim: int) -> OSSNet:
    config = OSSNetConfig(
        ndim=ndim,
        channels=CHANNELS,
        classes=CLASSES,
        widths=(4, 6, 8),
        code_length=8,
        patch_widths=(3, 4, 5),
        decoder_width=16,
        decoder_blocks=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return as_if_trained(OSSNet(config))


def unetr_config(**fields) -> UNETRConfig:
    values = {
        "channels": CHANNELS,
        "classes": CLASSES,
        "window": WINDOW,
        "feature_size": 2,
        "hidden_size": 12,
        "mlp_dim": 8,
        "num_heads": 2,
    }
    return UNETRConfig(**values | fields)


@pytest.fixture(scope="module")
def unetr() -> UNETR:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNETR(unetr_config()).eval()


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


class TestCoordinateLayer:
    def test_it_is_a_linear_layer(self):
        layer, points = CoordinateLayer(3, 5), points_of(3)
        torch.testing.assert_close(layer(points), points @ layer.weight.T)

    def test_half_precision_moves_no_point(self):
        layer, points = CoordinateLayer(2, 5), points_of(2)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(layer(points), layer(points).float())
            assert (points @ layer.weight.T).dtype == torch.bfloat16
            under_autocast = layer(points)
        assert torch.equal(under_autocast, layer(points))


class TestIOSNet:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_five_stages_halve_the_image(self, ndim):
        shape = (64, 96, 32)[:ndim]
        encoding = an_iosnet(ndim).encode(images_of(shape, batch=1))
        lattices = [tuple(m.shape[2:]) for m in encoding.maps]
        assert lattices == [tuple(n // 2**stage for n in shape) for stage in range(6)]

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_a_point_gets_the_features_of_all_scales_interpolated_where_it_lies(self, ndim):
        model, shape = an_iosnet(ndim), SHAPES[ndim]
        encoding = model.encode(images_of(shape, batch=1))
        points = np.random.default_rng(0).uniform(-1, np.array(shape), (40, ndim))
        by_hand = [
            interpolated(m[0], (points + 0.5) / 2**stage - 0.5) for stage, m in enumerate(encoding.maps)
        ]
        features = torch.from_numpy(np.concatenate(by_hand, axis=-1)).float()[None]
        points_image = voxel_points(points, shape)
        torch.testing.assert_close(
            model.decode(encoding, points_image), model.decoder(features, points_image), atol=1e-5, rtol=1e-4
        )

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_at_the_centre_of_a_voxel_the_finest_features_are_those_of_the_voxel(self, ndim):
        shape = SHAPES[ndim]
        encoding = an_iosnet(ndim).encode(images_of(shape, batch=1))
        finest = encoding.at(voxel_points(voxel_centres(shape), shape))[0]
        inside = encoding.maps[0][(slice(None), slice(None), *(slice(n) for n in shape))]
        torch.testing.assert_close(finest, inside.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)

    def test_no_scale_is_without_a_say(self):
        model = an_iosnet(2)
        encoding, points = model.encode(images_of((64, 64))), points_of(2)
        whole = model.decode(encoding, points)
        for stage in range(6):
            maps = list(encoding.maps)
            maps[stage] = torch.zeros_like(maps[stage])
            assert (model.decode(replace(encoding, maps=tuple(maps)), points) - whole).abs().max() > 1e-4

    def test_a_tiny_step_changes_the_answer_a_little_wherever_it_is_made(self):
        """Also across the centres and the borders of voxels and of the cells of every scale."""
        model, shape = an_iosnet(2), SHAPES[2]
        encoding = model.encode(images_of(shape, batch=1))
        points = voxel_centres([2 * n for n in shape]) / 2
        before, after = (model.decode(encoding, voxel_points(points + step, shape)) for step in (-5e-4, 5e-4))
        assert (after - before).abs().max() < 0.01 * before.std()

    def test_the_widths_of_a_volume_are_others_unless_they_are_given(self):
        widths = (4, 4, 4, 4, 4, 4)
        assert IOSNetConfig(ndim=3).widths != IOSNetConfig(ndim=2).widths == IOSNetConfig().widths
        assert IOSNetConfig(ndim=3, widths=widths).widths == IOSNetConfig(widths=widths).widths == widths

    def test_there_is_one_width_per_scale(self):
        with pytest.raises(ValidationError):
            IOSNetConfig(widths=(8, 8, 8, 8, 8))


@pytest.mark.parametrize("build", [an_iosnet, an_ossnet])
def test_a_whole_image_may_be_asked_in_pieces(build, monkeypatch):
    model, shape = build(2), SHAPES[2]
    encoding = model.encode(images_of(shape))
    at_once = model.decode_voxels(encoding)
    monkeypatch.setattr(segmenter, "CPU_POINTS", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with CountedCalls(model.decoder) as calls:
        in_pieces = model.decode_voxels(encoding)
    assert calls.count == -(-shape[0] * shape[1] // 100)
    torch.testing.assert_close(in_pieces, at_once, atol=1e-5, rtol=1e-4)


class TestPatches:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_a_patch_is_the_image_about_the_point_which_is_repeated_beyond_its_border(self, ndim):
        image, shape = images_of(SHAPES[ndim], batch=1), SHAPES[ndim]
        encoding = FeatureMaps(image_shape=shape, padded_shape=shape, maps=(image,))
        points = np.random.default_rng(0).uniform(-1, np.array(shape), (30, ndim))
        points[:10] = points[:10].round()
        patches = patches_at(encoding, voxel_points(points, shape), 7)
        assert patches.shape == (1, 30, CHANNELS, *[7] * ndim)
        steps = voxel_centres((7,) * ndim) - 3
        by_hand = interpolated(image[0], (points[:, None] + steps).reshape(-1, ndim))
        by_hand = by_hand.reshape(30, *[7] * ndim, CHANNELS)
        np.testing.assert_allclose(patches[0].movedim(1, -1).numpy(), by_hand, atol=1e-4)

    def test_half_precision_moves_no_patch(self):
        encoding, points = an_ossnet(2).encode(images_of(SHAPES[2])), points_of(2)
        with torch.autocast("cpu", torch.bfloat16):
            under_autocast = patches_at(encoding, points, 7)
        assert torch.equal(under_autocast, patches_at(encoding, points, 7))


class TestConditionalNormalisation:
    @pytest.mark.parametrize("is_training", [True, False])
    def test_it_is_batch_normalisation_and_then_a_scale_and_a_shift_of_each_image(self, is_training):
        layer = as_if_trained(ConditionalNormalisation(5, 4)).train(is_training)
        values, code = torch.randn(2, 30, 5, generator=seeded()), torch.randn(2, 4, generator=seeded(1))
        norm = layer.norm
        mean, variance = norm.running_mean.clone(), norm.running_var.clone()
        if is_training:
            mean, variance = values.mean(dim=(0, 1)), values.var(dim=(0, 1), unbiased=False)
        standard = (values - mean) / (variance + norm.eps).sqrt()
        by_hand = [v * layer.scale(c) + layer.shift(c) for v, c in zip(standard, code[:, None], strict=True)]
        torch.testing.assert_close(layer(values, code), torch.stack(by_hand), atol=1e-5, rtol=1e-4)


class TestOSSNet:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_beyond_its_patch_a_point_knows_the_image_by_its_code_alone(self, ndim):
        model, shape = an_ossnet(ndim), SHAPES[ndim]
        voxel = np.array([4, 9, 7][:ndim])
        patch = (..., *(slice(v - 3, v + 4) for v in voxel))
        one, other = images_of(shape, batch=1), images_of(shape, batch=1, seed=1)
        other[patch] = one[patch]
        point = voxel_points(voxel[None], shape)
        first, second = model.encode(one), model.encode(other)
        said = model.decode(first, point)
        with_its_code = model.decode(replace(second, code=first.code), point)
        torch.testing.assert_close(with_its_code, said, atol=1e-5, rtol=1e-5)
        assert (model.decode(second, point) - said).abs().max() > 1e-4

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_every_voxel_of_its_patch_matters_to_a_point(self, ndim):
        model, shape = an_ossnet(ndim), SHAPES[ndim]
        encoding = model.encode(images_of(shape, batch=1))
        image = encoding.maps[0].clone().requires_grad_()
        voxel = np.array([4, 9, 7][:ndim])
        with torch.enable_grad():
            said = model.decode(replace(encoding, maps=(image,)), voxel_points(voxel[None], shape))
            (gradient,) = torch.autograd.grad(said.square().sum(), image)
        seen = gradient.abs().amax(dim=(0, 1)) > 1e-4 * gradient.abs().max()
        assert seen[tuple(slice(v - 2, v + 3) for v in voxel)].all()
        reached = seen.nonzero().numpy() - voxel
        assert reached.min() == -3 and reached.max() == 3

    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("is_tiny", [False, True])
    def test_all_voxels_at_once_get_the_answers_that_each_gets_alone(self, ndim, is_tiny):
        model, shape = an_ossnet(ndim), (2, 1, 3)[:ndim] if is_tiny else SHAPES[ndim]
        encoding = model.encode(images_of(shape))
        centres = voxel_points(voxel_centres(shape), shape).expand(2, -1, -1)
        alone = model.decode(encoding, centres).movedim(-1, 1).unflatten(2, shape)
        torch.testing.assert_close(model.decode_voxels(encoding), alone, atol=1e-4, rtol=1e-4)

    def test_all_voxels_at_once_take_a_fraction_of_the_work_on_patches(self):
        model, shape = an_ossnet(3), (16, 16, 16)
        encoding = model.encode(images_of(shape, batch=1))

        def work(answer, *arguments) -> int:
            with FlopCounterMode(display=False) as counter:
                answer(*arguments)
            return counter.get_total_flops()

        centres = voxel_points(voxel_centres(shape), shape)
        decoder = work(model.decoder, torch.zeros(1, len(centres[0]), 5), centres, encoding.code)
        at_once = work(model.decode_voxels, encoding) - decoder
        assert at_once < 0.25 * (work(model.decode, encoding, centres) - decoder)

    def test_the_code_needs_no_padding(self):
        """It is made of the image alone, whose size is never rounded up."""
        model = an_ossnet(2)
        for shape in [(1, 1), (5, 3), (21, 34)]:
            encoding = model.encode(images_of(shape))
            assert encoding.padded_shape == encoding.image_shape == shape
            assert encoding.code.shape == (2, 8)

    def test_the_widths_of_a_volume_are_others_unless_they_are_given(self):
        assert OSSNetConfig(ndim=3).widths != OSSNetConfig(ndim=2).widths == OSSNetConfig().widths
        assert OSSNetConfig(ndim=3, widths=(4, 8)).widths == OSSNetConfig(widths=(4, 8)).widths == (4, 8)

    def test_every_convolution_over_patches_adds_two_voxels_to_them(self):
        model = OSSNet(OSSNetConfig(widths=(4,), patch_widths=(4, 4)))
        assert model.patch_size == 5
        assert OSSNet(OSSNetConfig(widths=(4,))).patch_size == 7


class TestUNETR:
    def test_a_small_volume_is_padded_to_the_window_and_no_more_than_it_comes_back(self, unetr):
        image = images_of((20, 9, 16), batch=1)
        padded = nn.functional.pad(image, (0, 0, 0, 7, 0, 12), mode="replicate")
        (found,), (by_hand,) = unetr.encode(image).maps, unetr.encode(padded).maps
        assert found.shape == (1, CLASSES, 20, 9, 16)
        torch.testing.assert_close(found, by_hand[:, :, :20, :9, :16])

    def test_a_volume_larger_than_the_window_is_refused_in_a_sentence(self, unetr):
        with pytest.raises(ImageError, match=r"up to 32 x 16 x 16 voxels.*not 16 x 17 x 16: set .*crop_size"):
            unetr.encode(images_of((16, 17, 16)))

    @pytest.mark.parametrize("crop_size", [(32, 16, 16), (8, 16, 3)])
    def test_crops_that_fit_into_the_window_will_do(self, crop_size):
        assert unetr_config().fault_with_crop(crop_size) is None

    @pytest.mark.parametrize(
        ("crop_size", "named"), [((16, 32, 16), "crops of 16 x 32 x 16"), (None, "whole volumes")]
    )
    def test_crops_that_do_not_fit_are_refused_in_a_sentence(self, crop_size, named):
        fault = unetr_config().fault_with_crop(crop_size)
        assert named in fault
        assert "preprocessing.crop_size to [32, 16, 16] or less, or model.window to more" in fault

    def test_an_experiment_says_so_before_it_begins(self):
        values = {
            "name": "volumes",
            "model": {"network": "unetr", "ndim": 3, "channels": 1, "window": WINDOW},
            "preprocessing": {"crop_size": (64, 16, 16)},
        }
        with pytest.raises(ConfigError, match="crops of 64 x 16 x 16"):
            parse_config(values)
        values["preprocessing"]["crop_size"] = WINDOW
        assert parse_config(values).model.window == WINDOW

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"ndim": 2}, "UNETR is for 3D images, and these are 2D"),
            ({"window": (96, 90, 96)}, "every size of the window must be a multiple of 16"),
            ({"num_heads": 5}, "hidden_size must be a multiple of num_heads, 5"),
        ],
    )
    def test_what_does_not_fit_together_is_refused_in_a_sentence(self, fields, sentence):
        with pytest.raises(ValidationError, match=sentence):
            unetr_config(**fields)

    @pytest.mark.parametrize("missing", ["monai", "einops"])
    def test_without_its_packages_it_says_how_to_get_them(self, missing, monkeypatch):
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
        with pytest.raises(
            ConfigError, match=f"UNETR needs what is not installed here: pip install {missing}$"
        ):
            UNETR(unetr_config())
