"""One contract for every network that can be trained, and what the networks of the comparison cost.

The laws hold on tiny networks; the costs are those of the paper's sizes, counted on the meta device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

import pytest
import torch
from tiny_networks import TINY
from torch import nn

from studies.cost import multiply_adds, parameter_count
from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.coordinates import voxel_centres, voxel_to_image
from swipe_core.errors import ConfigError
from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.layers import CHANNELS_LAST, lay_channels_last, padded_to
from swipe_core.networks.pranet import ReverseAttention
from swipe_core.networks.registry import KINDS, build_network
from swipe_core.networks.segmenter import Prediction, Segmenter
from swipe_core.networks.unet import UNetConfig, UNetSegmenter
from swipe_core.training.config import load_config, parse_config
from swipe_core.training.losses import LossConfig, swipe_loss

CHANNELS, CLASSES, BATCH, POINTS = 2, 3, 3, 40

NOT_MADE = {("pranet", 3), ("unetr", 2)}
PER_VOXEL = {"unet", "res2unet", "pranet", "unetr"}  # networks with one answer for each

# What the networks of Table 1 cost here: parameters and multiply-adds, exactly, and the paper's figures in
# millions and billions. Images are 384 x 384 or 96 x 96 x 96, with 1000 points; only SwIPE in 3D is asked at
# 8000, as in its training, since the paper does not say at how many.
COSTS = {
    ("swipe", 2): (2_716_802, 9_729_959_808, 2.7, 10.2),
    ("swipe", 3): (4_348_698, 70_972_672_416, 4.4, 71.6),
    ("unet", 2): (7_700_226, 82_716_917_760, 7.9, 83.3),
    ("unet", 3): (16_318_766, 799_603_163_136, 16.3, 800.9),
    ("res2unet", 2): (24_819_242, 17_842_765_824, 25.4, 17.8),
    ("res2unet", 3): (37_636_766, 43_594_695_936, 38.3, 44.2),
    ("pranet", 2): (30_499_824, 15_475_654_656, 30.5, 15.7),
    ("unetr", 3): (92_784_046, 73_224_290_304, 92.6, 72.6),
    ("ossnet", 2): (5_264_162, 6_383_790_976, 5.2, 6.4),
    ("ossnet", 3): (7_620_846, 56_096_176_512, 7.6, 55.1),
    ("iosnet", 2): (4_094_626, 6_008_360_960, 4.1, 5.9),
    ("iosnet", 3): (6_311_470, 45_242_339_328, 6.2, 46.2),
    # Not in the paper: our own figures.
    ("pixel_classifier", 2): (44_338, 251_094_016, 0.044, 0.251),
    ("pixel_classifier", 3): (40_958, 1_234_906_112, 0.041, 1.235),
}

SHAPES = {2: [(48, 40), (33, 17), (9, 65)], 3: [(24, 16, 20), (9, 17, 33)]}


needs_monai = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("monai", "einops")),
    reason="UNETR needs MONAI and einops",
)


def parameters(kinds: Iterable[tuple[str, int]]) -> list:
    """Kinds of network as the parameters of a test, each under its name."""
    return [
        pytest.param((name, ndim), id=f"{name} {ndim}D", marks=needs_monai if name == "unetr" else ())
        for name, ndim in kinds
    ]


def tiny(kind: tuple[str, int], **fields) -> NetworkConfig:
    name, ndim = kind
    shared = {"ndim": ndim, "channels": CHANNELS, "classes": CLASSES}
    return KINDS[name].config(**shared | TINY[kind] | fields)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(config: NetworkConfig) -> Segmenter:
    """A network as it could be after training: nothing is left at 0 or 1, running statistics included."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_network(config)
        for module in model.modules():
            is_norm = isinstance(module, (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
            if is_norm and module.weight is not None:  # which a code may decide
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 1.5)
    return model


def images_of(kind: tuple[str, int], shape: tuple[int, ...] | None = None) -> torch.Tensor:
    return torch.randn(BATCH, CHANNELS, *(shape or SHAPES[kind[1]][0]), generator=seeded())


def points_of(kind: tuple[str, int]) -> torch.Tensor:
    """Points of the image frame, a few of them outside the image."""
    return torch.rand(BATCH, POINTS, kind[1], generator=seeded(1)) * 2.1 - 1.05


def whole_loss(prediction: Prediction) -> torch.Tensor:
    """The loss of random classes."""
    classes = torch.randint(CLASSES, (BATCH, POINTS), generator=seeded(2))
    return swipe_loss(prediction, classes, LossConfig()).total


def said(model: Segmenter, images: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.decode(model.encode(images), points)


def test_every_kind_of_network_is_held_to_the_contract_and_to_its_costs():
    wanted = {(name, ndim) for name in KINDS for ndim in (2, 3)} - NOT_MADE
    assert set(TINY) == set(COSTS) == wanted


@pytest.mark.parametrize("kind", parameters(TINY))
class TestContract:
    def test_any_point_of_an_image_of_any_shape_has_logits(self, kind):
        model = built(tiny(kind)).eval()
        for shape in SHAPES[kind[1]]:
            logits = said(model, images_of(kind, shape), points_of(kind))
            assert logits.shape == (BATCH, POINTS, CLASSES)
            assert logits.isfinite().all()
            assert logits.std(dim=1).min() > 0

    def test_every_parameter_learns(self, kind):
        model, points = built(tiny(kind)).train(), points_of(kind)
        whole_loss(model(images_of(kind), points, points, seeded())).backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []

    def test_what_is_trained_is_what_is_decoded(self, kind):
        config = tiny(kind, **({"blending": "nearest"} if kind[0] == "swipe" else {}))
        model, images, points = built(config).eval(), images_of(kind), points_of(kind)
        with torch.no_grad():
            prediction = model(images, points, points)
        torch.testing.assert_close(prediction.patch, said(model, images, points), atol=1e-5, rtol=1e-4)
        assert prediction.sides == ()

    def test_a_checkpoint_gives_the_same_network_back(self, kind, tmp_path, tiny_config):
        config = tiny(kind)
        model, path = built(config), tmp_path / "model.safetensors"
        content = tiny_config().checkpoint_content().model_copy(update={"model": config})
        save_checkpoint(path, Checkpoint(content, model.state_dict()))
        loaded = load_checkpoint(path)
        assert loaded.content.model == config
        images, points = images_of(kind), points_of(kind)
        assert torch.equal(said(loaded.build().eval(), images, points), said(model.eval(), images, points))

    def test_an_image_does_not_see_the_others_of_its_batch(self, kind):
        model, images, points = built(tiny(kind)).eval(), images_of(kind), points_of(kind)
        together = said(model, images, points)
        for i in range(BATCH):
            alone = said(model, images[i : i + 1], points[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)

    def test_permuting_points_permutes_answers(self, kind):
        model, images, points = built(tiny(kind)).eval(), images_of(kind), points_of(kind)
        order = torch.randperm(POINTS, generator=seeded(3))
        permuted = said(model, images, points[:, order])
        torch.testing.assert_close(permuted, said(model, images, points)[:, order], atol=1e-5, rtol=1e-4)

    def test_for_inference_says_the_same(self, kind):
        model, images, points = built(tiny(kind)).eval(), images_of(kind), points_of(kind)
        lean = model.for_inference()
        assert not any(p.requires_grad for p in lean.parameters())
        torch.testing.assert_close(
            said(lean, images, points), said(model, images, points), atol=1e-4, rtol=1e-3
        )

    def test_the_decode_voxels_is_the_answer_at_every_voxel_centre(self, kind):
        model, shape = built(tiny(kind)).eval(), SHAPES[kind[1]][1]
        centres = torch.from_numpy(voxel_to_image(voxel_centres(shape), shape)).float()
        with torch.no_grad():
            encoding = model.encode(images_of(kind, shape))
            everywhere = model.decode_voxels(encoding)
            at_centres = model.decode(encoding, centres.expand(BATCH, -1, -1))
        assert everywhere.shape == (BATCH, CLASSES, *shape)
        torch.testing.assert_close(everywhere.flatten(2), at_centres.transpose(1, 2), atol=1e-4, rtol=1e-3)

    def test_a_step_in_half_precision_with_the_channels_last_is_near_the_full_one(self, kind):
        model, points = built(tiny(kind)).train(), points_of(kind)
        full = model(images_of(kind), points, points, seeded())
        layout = CHANNELS_LAST[kind[1]]
        lay_channels_last(model)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images_of(kind).contiguous(memory_format=layout), points, points, seeded())
        whole_loss(half).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        assert (half.patch.float() - full.patch).std() < 0.1 * full.patch.std()

    def test_the_class_layers_are_the_tensors_with_one_row_per_class(self, kind):
        with torch.device("meta"):
            model, more = (build_network(tiny(kind, classes=n)) for n in (CLASSES, CLASSES + 2))
        shapes, wider = ({n: tuple(t.shape) for n, t in m.state_dict().items()} for m in (model, more))
        differing = [name for name in shapes if shapes[name] != wider[name]]
        assert differing == [name for name in shapes if name.startswith(model.class_layers)]
        for name in differing:
            assert (shapes[name][0], wider[name][0]) == (CLASSES, CLASSES + 2)
            assert shapes[name][1:] == wider[name][1:]

    def test_no_network_has_fewer_tensors_than_its_configuration_counts_on(self, kind):
        config = tiny(kind)
        assert 0 <= config.least_tensors() <= len(built(config).state_dict())

    def test_an_unknown_field_is_refused_in_one_sentence_with_the_nearest_one(self, kind):
        name, ndim = kind
        model = {"network": name, "ndim": ndim, **TINY[kind], "chanels": 3}
        with pytest.raises(
            ConfigError, match=r"no field 'model.chanels'\. Did you mean 'channels'\?"
        ) as caught:
            parse_config({"name": "x", "model": model})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", parameters(kind for kind in TINY if kind[0] in PER_VOXEL))
def test_padding_an_image_by_hand_changes_no_answer_inside_it(kind):
    model, shape = built(tiny(kind)).eval(), SHAPES[kind[1]][1]
    images = images_of(kind, shape)
    padded = padded_to(images, model.padded_shape(shape))
    assert padded.shape != images.shape
    with torch.no_grad():
        plain, by_hand = (model.decode_voxels(model.encode(i)) for i in (images, padded))
    inside = (..., *(slice(n) for n in shape))
    torch.testing.assert_close(plain, by_hand[inside])


class TestCost:
    @pytest.mark.parametrize("kind", parameters(COSTS))
    def test_a_network_costs_what_table_1_says(self, kind):
        name, ndim = kind
        fields = {"ndim": ndim} | ({"channels": 1, "classes": 14} if ndim == 3 else {})
        config = load_config("bcv").model if kind == ("swipe", 3) else KINDS[name].config(**fields)
        shape = {2: (384, 384), 3: (96, 96, 96)}[ndim]
        points = 8000 if kind == ("swipe", 3) else 1000
        with torch.device("meta"):
            model = build_network(config)
            found = parameter_count(model), multiply_adds(model, shape, points)
        *counted, millions, billions = COSTS[kind]
        assert found == tuple(counted)
        assert found[0] / 1e6 == pytest.approx(millions, rel=0.05)
        assert found[1] / 1e9 == pytest.approx(billions, rel=0.05)


class TestUNet:
    def test_the_3d_network_is_that_of_2016_but_for_its_up_convolutions(self):
        """Cicek et al. 2016 count 19069955 parameters, with three channels and three classes.

        That is the sum where up-convolutions have no bias, and where a channel of another convolution has one
        parameter besides its kernel, in place of the two of batch normalisation.
        """
        with torch.device("meta"):
            ours = parameter_count(UNetSegmenter(UNetConfig(ndim=3, channels=3, classes=3)))
        up_convolutions = sum(2**3 * width**2 for width in (128, 256, 512))
        channels = (32 + 64 + 64 + 128 + 128 + 256 + 256 + 512) + 2 * (256 + 128 + 64)
        assert ours + up_convolutions - channels == 19_069_955

    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("upsampling", ["transposed", "linear"])
    @pytest.mark.parametrize("widening", ["first", "second"])
    def test_all_its_forms_are_there_in_2d_and_3d(self, ndim, upsampling, widening):
        kind = ("unet", ndim)
        config = tiny(kind, upsampling=upsampling, widening=widening)
        assert (config.upsampling, config.widening) == (upsampling, widening)
        logits = said(built(config).eval(), images_of(kind, SHAPES[ndim][1]), points_of(kind))
        assert logits.shape == (BATCH, POINTS, CLASSES)


class TestPraNet:
    KIND = ("pranet", 2)

    def test_volumes_are_refused_in_one_sentence(self):
        with pytest.raises(ConfigError, match="model.ndim cannot be 3 .*PraNet is for 2D images") as caught:
            parse_config({"name": "x", "model": {"network": "pranet", "ndim": 3}})
        assert "\n" not in str(caught.value)

    def test_in_training_the_three_rougher_maps_are_answers_too(self):
        model, images, points = built(tiny(self.KIND)), images_of(self.KIND), points_of(self.KIND)
        sides = model(images, points, points).sides
        assert [side.shape for side in sides] == [(BATCH, POINTS, CLASSES)] * 3
        assert model.eval()(images, points, points).sides == ()

    def test_without_deep_supervision_it_is_the_same_network(self):
        images, points = images_of(self.KIND), points_of(self.KIND)
        with_sides, without = (built(tiny(self.KIND, deep_supervision=on)) for on in (True, False))
        assert tiny(self.KIND).same_network(tiny(self.KIND, deep_supervision=False))
        assert without(images, points, points).sides == ()
        assert with_sides(images, points, points).sides != ()  # and both have seen one batch
        assert torch.equal(said(with_sides.eval(), images, points), said(without.eval(), images, points))

    def test_without_deep_supervision_every_parameter_still_learns(self):
        model, points = built(tiny(self.KIND, deep_supervision=False)), points_of(self.KIND)
        whole_loss(model(images_of(self.KIND), points, points)).backward()
        assert all(p.grad.any() for p in model.parameters())

    @pytest.mark.parametrize(("certainty", "listens"), [(40.0, False), (0.0, True), (-40.0, True)])
    def test_where_the_coarser_map_is_certain_of_foreground_features_have_no_say(self, certainty, listens):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            attention = ReverseAttention(4, 6, CLASSES, count=2, kernel=3, output_kernel=1, norm="batch")
        attention.eval()
        coarser = torch.tensor([0.0, certainty, 0.0]).view(1, CLASSES, 1, 1).expand(-1, -1, 5, 5)
        one, other = (torch.randn(1, 4, 9, 10, generator=seeded(n)) for n in range(2))
        with torch.no_grad():
            difference = (attention(one, coarser) - attention(other, coarser)).abs().max()
        assert (difference > 1e-3) == listens
