"""Laws of the network: one encoding, then any point by itself, at the cost the paper states.

All but the last tests run on a tiny network: the laws do not depend on its widths.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from studies.cost import multiply_adds, parameter_count
from swipe_core.coordinates import (
    image_to_voxel,
    voxel_centres,
    voxel_to_image,
    voxel_to_local,
    voxel_to_patch,
)
from swipe_core.networks.swipe import folded_decoder
from swipe_core.networks.swipe.build import SwipeConfig, build_swipe
from swipe_core.networks.swipe.decoder import FourierFeatures
from swipe_core.networks.swipe.neck import Neck, StageFusion
from swipe_core.networks.swipe.overreach import draw_neighbours, neighbour_offsets
from swipe_core.networks.swipe.swipe import Swipe
from swipe_core.training.config import load_config
from swipe_core.training.losses import LossConfig, swipe_loss

CHANNELS, CLASSES, PATCH = 3, 3, 8
SHAPES = {2: (32, 48), 3: (32, 16, 32)}
BACKBONES = ["res2net", "unet", "cct", "lite0"]
FUSIONS = ["attention", "addition", "concatenation", "self_attention", "last"]
DECODER_NORMS = ["batch", "layer", "none"]


def tiny(ndim: int = 2, **fields) -> SwipeConfig:
    """A network of a few ten thousand parameters with every part that the full one has."""
    values = {
        "ndim": ndim,
        "channels": CHANNELS,
        "classes": CLASSES,
        "blocks": (1, 2, 1, 1),
        "planes": (16, 16, 16, 16),
        "expansion": 1,
        "base_width": 16,
        "stem_channels": 8,
        "stem_outputs": 16,
        "stem_stride": 2,
        "neck_width": 8,
        "embedding_width": 16,
        "cascade_stride": 8,
        "patch_size": PATCH,
        "patch_hidden": (16, 16, 16),
        "image_hidden": (16, 8),
        "fourier_frequencies": 2,
        "overreach": 3,
        "connectivity": {2: 8, 3: 6}[ndim],
        "blending": "nearest",
        "point_features": 5,
        "fine_features": 3,
    }
    return SwipeConfig(**values | fields)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(config: SwipeConfig, seed: int = 0) -> Swipe:
    """A network as it could be after training: nothing is left at 0 or 1, running statistics included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_swipe(config)
        for module in model.modules():
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 1.5)
    return model


def images_of(
    shape: tuple[int, ...], batch: int = 2, channels: int = CHANNELS, seed: int = 0
) -> torch.Tensor:
    return torch.randn(batch, channels, *shape, generator=seeded(seed))


def points_of(ndim: int, batch: int = 2, count: int = 40, seed: int = 1) -> torch.Tensor:
    """Points of the image frame, a few of them outside the image."""
    return torch.rand(batch, count, ndim, generator=seeded(seed)) * 2.1 - 1.05


def case_of(config: SwipeConfig) -> tuple[Swipe, torch.Tensor, torch.Tensor]:
    """A network in evaluation mode, images and points that suit it."""
    return built(config).eval(), images_of(SHAPES[config.ndim]), points_of(config.ndim)


@pytest.fixture(autouse=True)
def without_gradients(request):
    """Only the tests of training keep a graph."""
    with torch.set_grad_enabled(request.cls is TestTraining):
        yield


class TestShapes:
    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("backbone", BACKBONES)
    @pytest.mark.parametrize("stem_stride", [2, 4])
    def test_a_backbone_gives_four_maps_of_the_channels_and_strides_it_announces(
        self, ndim, backbone, stem_stride
    ):
        model = built(tiny(ndim, backbone=backbone, stem_stride=stem_stride)).eval()
        assert model.backbone.strides == tuple(stem_stride * 2**stage for stage in range(4))
        maps = model.backbone(images_of((64, 32, 32)[:ndim], batch=1))
        expected = [
            (1, channels, *(n // stride for n in (64, 32, 32)[:ndim]))
            for channels, stride in zip(model.backbone.channels, model.backbone.strides, strict=True)
        ]
        assert [tuple(m.shape) for m in maps] == expected

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_in_training_a_batch_of_points_gets_logits_from_all_decoders(self, ndim):
        model, images, points = built(tiny(ndim)), images_of(SHAPES[ndim]), points_of(ndim)
        prediction = model(images, points, points, seeded())
        assert prediction.patch.shape == prediction.image.shape == (2, 40, CLASSES)
        assert prediction.overreach.shape == (2, 40, 3, CLASSES)
        assert prediction.embedding_norm > 0

    def test_outside_training_no_neighbour_is_asked(self):
        model, images, points = case_of(tiny())
        assert model(images, points, points).overreach is None

    @pytest.mark.parametrize("channels", [1, 3, 5])
    @pytest.mark.parametrize("shape", [(33, 17), (20, 55), (1, 9), (9, 33, 18)])
    def test_any_shape_and_any_number_of_channels_will_do(self, channels, shape):
        model = built(tiny(len(shape), channels=channels)).eval()
        embeddings = model.encode(images_of(shape, batch=1, channels=channels))
        assert embeddings.image_shape == shape
        assert embeddings.patch_grid == tuple(-(-n // PATCH) for n in shape)
        centres = torch.from_numpy(voxel_to_image(voxel_centres(shape), shape)).float()[None, ::7]
        logits = model.decode(embeddings, centres)
        assert logits.shape == (*centres.shape[:2], CLASSES)
        assert logits.isfinite().all()

    @pytest.mark.parametrize(
        ("patch_size", "cascade_stride"), [(4, 4), (4, 32), (8, 8), (16, 4), (24, 8), (24, 32)]
    )
    def test_the_padding_of_an_awkward_shape_moves_no_patch(self, patch_size, cascade_stride):
        """Padding the image by hand first gives the same embeddings, and more of them."""
        model = built(tiny(patch_size=patch_size, cascade_stride=cascade_stride)).eval()
        image = images_of((41, 19), batch=1)
        rows, columns = (-n % model.size_multiple for n in (41, 19))
        embeddings = model.encode(image)
        by_hand = model.encode(functional.pad(image, (0, columns, 0, rows), mode="replicate"))
        shared = (..., *(slice(0, n) for n in embeddings.patch_grid))
        torch.testing.assert_close(embeddings.patch, by_hand.patch[shared], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(embeddings.attention, by_hand.attention[shared], atol=1e-5, rtol=1e-4)


class RampStages(nn.Module):
    """Four stages whose features are the voxel coordinates of their cells' centres."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, maps, lattice):
        cells = torch.from_numpy(voxel_centres(lattice)).float()
        ramp = ((cells + 0.5) * self.stride - 0.5).T.reshape(1, len(lattice), *lattice)
        return [ramp] * 4


class TestNeck:
    @pytest.mark.parametrize("stride", [4, 8, 16])
    @pytest.mark.parametrize("shape", [(64, 64), (51, 37), (33, 40, 64)])
    def test_stages_are_read_at_the_centres_of_the_patches(self, stride, shape):
        """Features that are linear in position stay so, wherever the lattice's cells have neighbours."""
        ndim = len(shape)
        fusion = StageFusion(ndim, ndim, kind="last")
        fusion.output = nn.Identity()
        neck = Neck([nn.Identity()] * 4, RampStages(stride), fusion, stride=stride)
        padded_shape = [-(-n // 16) * 16 for n in shape]
        patch = neck(
            [torch.empty(0)] * 4, image_shape=shape, padded_shape=padded_shape, patch_size=PATCH
        ).patch
        patch_grid = tuple(-(-n // PATCH) for n in shape)
        assert patch.shape == (1, ndim, *patch_grid)
        centres = (voxel_centres(patch_grid) + 0.5) * PATCH - 0.5
        found = patch[0].flatten(1).T.numpy()
        has_neighbours = (centres > stride / 2 - 1) & (centres < np.array(shape) - stride / 2)
        assert has_neighbours.any()
        np.testing.assert_allclose(found[has_neighbours], centres[has_neighbours], atol=1e-3)

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_mea_weighs_the_four_stages_of_every_patch_by_numbers_that_sum_to_1(self, ndim):
        model, images, _ = case_of(tiny(ndim))
        embeddings = model.encode(images)
        assert embeddings.attention.shape == (2, 4, *embeddings.patch_grid)
        assert (embeddings.attention > 0).all()
        torch.testing.assert_close(
            embeddings.attention.sum(dim=1), torch.ones(2, *embeddings.patch_grid), atol=1e-6, rtol=0
        )

    @pytest.mark.parametrize("fusion", FUSIONS[1:])
    def test_the_other_fusions_have_no_weights_to_show(self, fusion):
        model, images, _ = case_of(tiny(fusion=fusion))
        assert model.encode(images).attention is None

    def test_mea_is_mlp_2_of_the_sum_and_the_weighted_sum_of_the_stages(self):
        fusion = StageFusion(2, 16, kind="attention")
        stages = list(torch.randn(4, 1, 16, 2, 3, generator=seeded()))
        fused, weights = fusion(stages)
        e = [stage[0, :, 1, 2] for stage in stages]
        describe, weigh, output = fusion.describe[0], fusion.weigh, fusion.output
        described = [functional.relu(describe.weight[:, :, 0, 0] @ v + describe.bias) for v in e]
        w = (weigh.weight[:, :, 0, 0] @ torch.cat(described) + weigh.bias).softmax(dim=0)
        total = sum(e) + sum(w[n] * e[n] for n in range(4))
        torch.testing.assert_close(weights[0, :, 1, 2], w)
        torch.testing.assert_close(fused[0, :, 1, 2], output.weight[:, :, 0, 0] @ total + output.bias)

    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_a_patch_is_fused_from_its_own_four_embeddings_alone(self, fusion):
        module = StageFusion(3, 16, kind=fusion).eval()
        stages = torch.randn(4, 2, 16, 2, 3, 4, generator=seeded())
        whole, _ = module(list(stages))
        alone, _ = module(list(stages[..., 1:2, 2:3, 3:4]))
        torch.testing.assert_close(whole[..., 1:2, 2:3, 3:4], alone)

    def test_the_image_embedding_is_the_average_of_the_coarsest_stage_over_the_image(self):
        """Cells that hold nothing but padding are left out."""
        model = built(tiny()).eval()
        image = images_of((41, 19), batch=1)
        padded = functional.pad(image, (0, 13, 0, 7), mode="replicate")
        context = [block(m) for block, m in zip(model.neck.context, model.backbone(padded), strict=True)]
        coarsest = model.neck.aggregation(context, (6, 4))[-1]
        torch.testing.assert_close(model.encode(image).image, coarsest[:, :, :6, :3].mean(dim=(2, 3)))


class TestDecoding:
    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("decoder_norm", DECODER_NORMS)
    @pytest.mark.parametrize(
        "conditions",
        [
            {},
            {"condition_on_image": False},
            {"condition_on_source": False},
            {"point_features": 0},
            {"top_down": "unet"},
        ],
    )
    def test_cached_decoding_equals_the_definition(self, ndim, decoder_norm, conditions):
        model, images, points = case_of(tiny(ndim, decoder_norm=decoder_norm, **conditions))
        embeddings, points_source = model.encode(images), 0.5 * points - 0.2
        torch.testing.assert_close(
            model.decode(embeddings, points, points_source),
            model.decode_plain(embeddings, points, points_source),
            atol=1e-4,
            rtol=1e-4,
        )

    @pytest.mark.parametrize("hidden", [(16, 8), (8, 16, 8, 16)])
    def test_it_does_so_for_any_number_of_hidden_layers(self, hidden):
        model, images, points = case_of(tiny(patch_hidden=hidden))
        embeddings = model.encode(images)
        torch.testing.assert_close(
            model.decode(embeddings, points), model.decode_plain(embeddings, points), atol=1e-4, rtol=1e-4
        )

    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("decoder_norm", DECODER_NORMS)
    def test_the_copy_for_inference_says_the_same(self, ndim, decoder_norm):
        model, images, points = case_of(tiny(ndim, decoder_norm=decoder_norm))
        frozen = model.for_inference()
        embeddings = frozen.encode(images)
        expected = model.decode_plain(model.encode(images), points)
        for decode in (frozen.decode, frozen.decode_plain):
            torch.testing.assert_close(decode(embeddings, points), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            frozen.decode_image(embeddings, points),
            model.decode_image(model.encode(images), points),
            atol=1e-4,
            rtol=1e-4,
        )

    @pytest.mark.parametrize("decoder_norm", DECODER_NORMS)
    def test_a_copy_of_the_copy_says_the_same(self, decoder_norm):
        model, images, points = case_of(tiny(decoder_norm=decoder_norm))
        once = model.for_inference()
        twice = once.for_inference()
        assert torch.equal(
            twice.decode(twice.encode(images), points), once.decode(once.encode(images), points)
        )

    @pytest.mark.parametrize("gain", [-1.5, 0.0, 1e-3])
    def test_a_gain_of_any_sign_is_folded(self, gain):
        model, images, points = case_of(tiny(decoder_norm="layer"))
        with torch.no_grad():
            for norm in model.patch_decoder.norms:
                norm.weight[::2] = gain
                norm.bias[1::3] = 0.7
        embeddings = model.encode(images)
        frozen = model.for_inference()
        torch.testing.assert_close(
            frozen.decode(frozen.encode(images), points),
            model.decode(embeddings, points),
            atol=1e-4,
            rtol=1e-4,
        )

    def test_the_copy_for_inference_answers_in_chunks_of_any_size(self, monkeypatch):
        model, images, points = case_of(tiny())
        frozen = model.for_inference()
        embeddings = frozen.encode(images)
        whole = frozen.decode(embeddings, points)
        for numbers in (1, 7 * 16, 64 * 16):
            monkeypatch.setattr(folded_decoder, "CPU_NUMBERS", numbers)
            torch.testing.assert_close(frozen.decode(embeddings, points), whole, atol=1e-5, rtol=1e-5)

    def test_the_copy_for_inference_is_folded_frozen_and_apart_from_the_original(self):
        model = built(tiny(decoder_norm="batch"))
        before = copy.deepcopy(model.state_dict())
        frozen = model.for_inference()
        assert not frozen.training
        assert not any(p.requires_grad for p in frozen.parameters())
        assert all(isinstance(norm, nn.Identity) for norm in frozen.patch_decoder.norms)
        for parameter in frozen.parameters():
            parameter.zero_()
        assert model.training
        assert all(p.requires_grad for p in model.parameters())
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("blending", ["nearest", "linear"])
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_permuting_the_points_permutes_the_logits(self, ndim, blending):
        model, images, points = case_of(tiny(ndim, blending=blending))
        embeddings, order = model.encode(images), torch.randperm(40, generator=seeded())
        torch.testing.assert_close(
            model.decode(embeddings, points[:, order]),
            model.decode(embeddings, points)[:, order],
            atol=1e-5,
            rtol=1e-5,
        )

    @pytest.mark.parametrize("backbone", BACKBONES)
    @pytest.mark.parametrize("fusion", ["attention", "self_attention"])
    def test_an_image_does_not_see_the_others_of_its_batch(self, backbone, fusion):
        model, images, points = case_of(tiny(backbone=backbone, fusion=fusion))
        together = model(images, points, points)
        for i in (0, 1):
            alone = model(images[i : i + 1], points[i : i + 1], points[i : i + 1])
            torch.testing.assert_close(alone.patch[0], together.patch[i], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(alone.image[0], together.image[i], atol=1e-5, rtol=1e-4)

    def test_embeddings_are_all_that_decoding_needs(self):
        """No state stays behind: encoding another image in between changes nothing."""
        model, images, points = case_of(tiny())
        embeddings = model.encode(images)
        expected = model.decode(embeddings, points)
        model.encode(images_of((64, 16), batch=1, seed=9))
        assert torch.equal(model.decode(embeddings, points), expected)

    @pytest.mark.parametrize("on", [True, False])
    def test_the_source_coordinate_matters_only_where_it_is_switched_on(self, on):
        model, images, points = case_of(tiny(condition_on_source=on))
        embeddings = model.encode(images)
        at_home, elsewhere = (model.decode(embeddings, points, points + shift) for shift in (0.0, 0.5))
        assert torch.equal(at_home, model.decode(embeddings, points))
        assert torch.equal(at_home, elsewhere) is not on

    @pytest.mark.parametrize("on", [True, False])
    def test_the_image_embedding_matters_only_where_it_is_switched_on(self, on):
        model, images, points = case_of(tiny(condition_on_image=on))
        embeddings = model.encode(images)
        other = replace(embeddings, image=embeddings.image + 1)
        same = torch.equal(model.decode_plain(other, points), model.decode_plain(embeddings, points))
        assert same is not on

    def test_without_an_image_decoder_asking_it_is_an_error(self):
        model, images, points = case_of(tiny(image_decoder=False))
        assert model(images, points, points).image is None
        with pytest.raises(ValueError, match="without an image decoder"):
            model.decode_image(model.encode(images), points)

    @pytest.mark.parametrize(("ndim", "frequencies", "outputs"), [(2, 6, 26), (3, 3, 21), (2, 0, 2)])
    def test_fourier_features_are_the_coordinate_and_its_waves(self, ndim, frequencies, outputs):
        features = FourierFeatures(ndim, frequencies)
        points = points_of(ndim)
        assert features.outputs == features(points).shape[-1] == outputs
        torch.testing.assert_close(features(points)[..., :ndim], points)

    def test_the_slowest_wave_is_two_patches_long_so_that_next_door_looks_different(self):
        features, points = FourierFeatures(1, 1), torch.tensor([[0.3]])
        here, next_door, beyond = (features(points + shift)[0, 1:] for shift in (0.0, 2.0, 4.0))
        torch.testing.assert_close(beyond, here)
        torch.testing.assert_close(next_door, -here)


def across_borders(ndim: int, distance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of points that close in on a border between two patches from either side."""
    shape, axis = SHAPES[ndim], 0
    points_voxel = torch.rand(30, ndim, generator=seeded(), dtype=torch.float64) * (torch.tensor(shape) - 1)
    points_voxel[:, axis] = torch.arange(30) % (shape[axis] // PATCH - 1) * PATCH + PATCH - 0.5
    step = torch.zeros(ndim, dtype=torch.float64)
    step[axis] = distance / 2
    before, after = (voxel_to_image(points_voxel + side * step, shape) for side in (-1, 1))
    return before[None], after[None]


WIDTHS = [0.1, 0.5, 1.0]
CONNECTIVITIES = [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)]


class TestBlending:
    @pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
    @pytest.mark.parametrize("width", WIDTHS)
    def test_linear_is_continuous_across_patch_borders_and_nearest_is_not(self, ndim, connectivity, width):
        model = built(tiny(ndim, connectivity=connectivity, blending_width=width)).double().eval()
        embeddings = model.encode(images_of(SHAPES[ndim], batch=1).double())
        jumps = {}
        for blending in ("nearest", "linear"):
            before, after = (
                model.decode(embeddings, points, blending=blending) for points in across_borders(ndim, 1e-7)
            )
            jumps[blending] = (before - after).abs().amax(dim=-1)
        assert jumps["linear"].max() < 1e-5
        assert jumps["nearest"].median() > 1e-2

    @pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
    @pytest.mark.parametrize("width", WIDTHS)
    def test_linear_is_continuous_where_the_blending_zone_ends(self, ndim, connectivity, width):
        """With a width of 1 that is where one set of surrounding patches takes over from another."""
        model = built(tiny(ndim, connectivity=connectivity, blending_width=width)).double().eval()
        embeddings = model.encode(images_of(SHAPES[ndim], batch=1).double())
        half_a_patch = PATCH / SHAPES[ndim][0]
        before, after = (
            model.decode(embeddings, points - width * half_a_patch, blending="linear")
            for points in across_borders(ndim, 1e-7)
        )
        assert (before - after).abs().max() < 1e-5

    @pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
    @pytest.mark.parametrize("width", WIDTHS)
    def test_its_weights_sum_to_1_everywhere(self, ndim, connectivity, width):
        model, images, points = case_of(tiny(ndim, connectivity=connectivity, blending_width=width))
        model.patch_decoder.output.weight.zero_()
        logits = model.decode(model.encode(images), points, blending="linear")
        torch.testing.assert_close(logits, model.patch_decoder.output.bias.expand_as(logits))

    def test_beyond_its_zone_the_own_patch_decides_and_within_it_does_not(self):
        model, images, points = case_of(tiny(blending_width=0.5))
        embeddings = model.encode(images)
        linear, nearest = (model.decode(embeddings, points, blending=b) for b in ("linear", "nearest"))
        inside_patch = (image_to_voxel(points, SHAPES[2]) + 0.5) / PATCH % 1
        beyond = ((inside_patch > 0.25) & (inside_patch < 0.75)).all(dim=-1)
        assert beyond.any()
        torch.testing.assert_close(linear[beyond], nearest[beyond], atol=1e-5, rtol=1e-5)
        assert ((linear - nearest).abs().amax(dim=-1) > 1e-3)[~beyond].float().mean() > 0.5

    @pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
    def test_only_patches_that_overreach_trains_on_such_points_are_asked(self, ndim, connectivity):
        model, images, _ = case_of(tiny(ndim, connectivity=connectivity, blending_width=1.0))
        embeddings, points = model.encode(images[:1]), points_of(ndim, batch=1, count=2000)
        queries = model.patch_query(embeddings, points, points, "linear")
        own = model.patch_query(embeddings, points, points, "nearest").patches[queries.points]
        grid = embeddings.patch_grid
        apart = [np.stack(np.unravel_index(patches.numpy(), grid)) for patches in (queries.patches, own)]
        trained = {(0,) * ndim, *map(tuple, neighbour_offsets(ndim, connectivity).tolist())}
        assert {tuple(offset) for offset in (apart[0] - apart[1]).T.tolist()} == trained

    def test_without_overreach_no_neighbour_is_asked(self):
        model, images, points = case_of(tiny(overreach=0))
        embeddings = model.encode(images)
        linear, nearest = (model.decode(embeddings, points, blending=b) for b in ("linear", "nearest"))
        torch.testing.assert_close(linear, nearest)

    def test_the_same_weights_serve_every_kind_of_blending(self):
        config = tiny()
        assert config.same_network(tiny(blending="linear", blending_width=1.0))
        assert not config.same_network(tiny(embedding_width=32))

    def test_at_the_centre_of_a_patch_that_patch_decides(self):
        model, images, _ = case_of(tiny())
        patches = torch.from_numpy(voxel_centres((4, 6))).float()
        centres = voxel_to_image((patches + 0.5) * PATCH - 0.5, SHAPES[2]).expand(2, -1, -1)
        embeddings = model.encode(images)
        linear, nearest = (model.decode(embeddings, centres, blending=b) for b in ("linear", "nearest"))
        torch.testing.assert_close(linear, nearest, atol=1e-4, rtol=1e-4)

    def test_the_config_decides_unless_the_caller_does(self):
        model, images, points = case_of(tiny(blending="linear"))
        embeddings = model.encode(images)
        linear = model.decode(embeddings, points)
        assert torch.equal(linear, model.decode(embeddings, points, blending="linear"))
        assert not torch.allclose(linear, model.decode(embeddings, points, blending="nearest"), atol=1e-3)


SWITCHES = {
    "as it is": {},
    "U-Net": {"backbone": "unet"},
    "CCT": {"backbone": "cct"},
    "stride 4": {"stem_stride": 4, "cascade_stride": 16},
    "group norm": {"norm": "group"},
    "instance norm": {"norm": "instance"},
    "no RFB-Lite": {"receptive_field": False},
    "no cascade": {"cascade": False},
    "addition": {"fusion": "addition"},
    "concatenation": {"fusion": "concatenation"},
    "self-attention": {"fusion": "self_attention"},
    "no D^I": {"image_decoder": False},
    "no z^I": {"condition_on_image": False},
    "no p^S": {"condition_on_source": False},
    "no Fourier features": {"fourier_frequencies": 0},
    "no decoder norm": {"decoder_norm": "none"},
    "no overreach": {"overreach": 0},
    "fine cascade, coarse patches": {"cascade_stride": 4, "patch_size": 16},
    "coarse cascade, fine patches": {"cascade_stride": 16, "patch_size": 4},
}
CONNECTIVITIES = [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)]
# The first row of the paper's Table 3: everything that is new is switched off.
BARE = {
    "receptive_field": False,
    "cascade": False,
    "fusion": "last",
    "image_decoder": False,
    "condition_on_image": False,
    "condition_on_source": False,
    "overreach": 0,
    "point_features": 0,
    "fine_features": 0,
}


def parameters_without_gradient(config: SwipeConfig) -> set[str]:
    """Names of the parameters that a training step on the loss of the paper leaves alone."""
    model = built(config).train()
    points = points_of(config.ndim)
    prediction = model(images_of(SHAPES[config.ndim]), points, 0.5 * points, seeded())
    classes = torch.randint(CLASSES, (2, 40), generator=seeded())
    swipe_loss(prediction, classes, LossConfig()).total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is None or g.isfinite().all() for g in gradients.values())
    return {name for name, g in gradients.items() if g is None or not g.any()}


class TestTraining:
    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("fields", SWITCHES.values(), ids=SWITCHES.keys())
    def test_every_parameter_learns_whatever_is_switched(self, ndim, fields):
        assert parameters_without_gradient(tiny(ndim, **fields)) == set()

    @pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
    def test_every_connectivity_trains(self, ndim, connectivity):
        assert parameters_without_gradient(tiny(ndim, connectivity=connectivity)) == set()

    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("fields", [{"fusion": "last"}, BARE], ids=["no MEA", "all switched off"])
    def test_where_only_the_coarsest_stage_is_read_just_the_outlets_of_the_others_do_not_learn(
        self, ndim, fields
    ):
        silent = parameters_without_gradient(tiny(ndim, **fields))
        outlet = r"neck\.aggregation\.(project|reduce)\.[012]\."
        before_it = r"|neck\.context\.[012]\." if fields is BARE else ""
        expected = {
            name
            for name, _ in build_swipe(tiny(ndim, **fields)).named_parameters()
            if re.match(outlet + before_it, name)
        }
        assert silent == expected

    def test_normalising_over_the_points_trains_all_but_the_biases_that_it_takes_away(self):
        silent = parameters_without_gradient(tiny(decoder_norm="batch"))
        assert all(re.fullmatch(r"(patch|image)_decoder\.layers\.\d\.bias", name) for name in silent)

    def test_permuting_the_points_permutes_the_logits_in_training_too(self):
        model, images, points = built(tiny(overreach=0)), images_of(SHAPES[2]), points_of(2)
        order = torch.randperm(40, generator=seeded())
        plain = model(images, points, points)
        permuted = model(images, points[:, order], points[:, order])
        torch.testing.assert_close(permuted.patch, plain.patch[:, order], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(permuted.image, plain.image[:, order], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_overreach_asks_the_neighbours_about_the_point_in_their_own_coordinates(self, ndim):
        config = tiny(
            ndim,
            condition_on_image=False,
            condition_on_source=False,
            point_features=0,
            fine_features=0,
        )
        model, images, points = built(config), images_of(SHAPES[ndim]), points_of(ndim)
        prediction = model(images, points, points, seeded(7))

        embeddings = model.encode(images)
        points_voxel = image_to_voxel(points, embeddings.image_shape)
        home = voxel_to_patch(points_voxel, PATCH, embeddings.patch_grid)
        drawn = draw_neighbours(home, embeddings.patch_grid, 3, config.connectivity, seeded(7))
        conditions = torch.stack(
            [
                embeddings.patch[b][:, *index].T
                for b in (0, 1)
                for index in [drawn[b].flatten(0, 1).unbind(dim=-1)]
            ]
        ).view(2, 40, 3, -1)
        local = voxel_to_local(points_voxel[:, :, None], drawn, PATCH)
        by_hand = model.patch_decoder.plain(conditions, model.fourier(local))
        torch.testing.assert_close(prediction.overreach, by_hand, atol=1e-4, rtol=1e-4)

    def test_the_same_seeds_give_the_same_network_and_the_same_predictions(self):
        images, points = images_of(SHAPES[2]), points_of(2)
        first, again = (built(tiny(), seed=3)(images, points, points, seeded(4)) for _ in range(2))
        assert torch.equal(first.patch, again.patch)
        assert torch.equal(first.overreach, again.overreach)

    def test_the_embedding_norm_is_the_mean_squared_length_of_both_kinds_of_embeddings(self):
        model, images, points = built(tiny()), images_of(SHAPES[2]), points_of(2)
        embeddings = model.encode(images)
        patches = embeddings.patch.permute(0, 2, 3, 1).flatten(0, 2)
        expected = (
            torch.stack([v @ v for v in patches]).mean()
            + torch.stack([v @ v for v in embeddings.image]).mean()
        )
        torch.testing.assert_close(model(images, points, points).embedding_norm, expected)


class TestCost:
    """The presets live on the meta device: nothing is computed, only counted."""

    # name: parameters and multiply-adds, exactly; the paper's figures in millions and billions, and
    # how far METHOD lets us be from them.
    PRESETS = {
        "sessile": (2_716_802, 9_729_959_808, (384, 384), 1000, (2.7, 0.1), (10.2, 0.10)),
        "bcv": (4_348_698, 70_972_672_416, (96, 96, 96), 8000, (4.4, 0.15), (71.6, 0.15)),
    }

    @pytest.mark.parametrize("name", PRESETS)
    def test_a_preset_costs_what_the_paper_says(self, name):
        parameters, operations, shape, points, (millions, within), (billions, share) = self.PRESETS[name]
        config = load_config(name).model
        with torch.device("meta"):
            model = build_swipe(config)
            found = multiply_adds(model, shape, points)
        assert parameter_count(model) == parameters
        assert parameters / 1e6 == pytest.approx(millions, abs=within)
        assert found == operations
        assert operations / 1e9 == pytest.approx(billions, rel=share)

    def test_the_default_network_is_the_sessile_preset(self):
        assert load_config("sessile").model == SwipeConfig()

    def test_a_point_of_the_paper_costs_408_thousand_multiply_adds_before_the_economy(self):
        with torch.device("meta"):
            model = build_swipe(SwipeConfig(image_decoder=False, overreach=0))
            one, two = (multiply_adds(model, (32, 32), points) for points in (1, 2))
        assert two - one == pytest.approx(408e3, rel=0.01)

    def test_every_overreaching_neighbour_costs_as_much_as_the_point_itself(self):
        model = built(tiny(overreach=0, image_decoder=False))
        one, ten = (multiply_adds(model, (16, 16), points) for points in (1, 10))
        with_four = multiply_adds(built(tiny(overreach=4, image_decoder=False)), (16, 16), 10)
        assert with_four - ten == 4 * 10 * (ten - one) // 9
