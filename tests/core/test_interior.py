"""Laws of the interior: how deep inside its own object a point lies, learned beside the classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_networks import TINY

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.coordinates import Affine, Grid, voxel_to_image
from swipe_core.data.cases import Case, find_cases
from swipe_core.data.dataset import TrainingSet
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.data.sampling import interior_at
from swipe_core.errors import ConfigError
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.images import read_image, write_label_map
from swipe_core.images.medical_image import LabelMap
from swipe_core.inference.instances import iter_objects
from swipe_core.measure.objects import number_objects
from swipe_core.networks.segmenter import Prediction
from swipe_core.networks.swipe.build import SwipeConfig, build_swipe
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import finish
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.losses import LossConfig, interior_sums, swipe_loss
from swipe_core.training.runner import Trainer
from swipe_core.training.start import inherit

INTERIOR = {"model.interior": True, "labels.instances": True}
FINE = {"model.fine_features": 8, "model.point_features": 8, "model.patch_size": 4}


def touching(shape: tuple[int, ...] = (20, 24), at: int = 12) -> np.ndarray:
    """Two boxes, 7 and 300, that share a face, two voxels from the borders of the array."""
    objects = np.zeros(shape, np.uint16)
    objects[(slice(2, -2), *[slice(2, -2)] * (len(shape) - 2), slice(2, at))] = 7
    objects[(slice(2, -2), *[slice(2, -2)] * (len(shape) - 2), slice(at, -2))] = 300
    return objects


def at_voxels(points_voxel, objects: np.ndarray, spacing=None) -> list[float]:
    points = torch.tensor(voxel_to_image(np.asarray(points_voxel, float), objects.shape), dtype=torch.float32)
    return interior_at(points, objects, spacing or (1.0,) * objects.ndim).tolist()


# --- The target -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20, 24), (14, 16, 24)])
def test_between_touching_objects_and_at_the_background_it_is_0_and_deepest_inside_1(shape):
    objects, middle = touching(shape), [(n - 1) / 2 for n in shape[:-1]]
    boundary, outside, deepest = [[*middle, 11.5]], [[*middle, 0.5]], [[*middle, 6.5]]
    assert at_voxels(boundary, objects) == pytest.approx([0], abs=1e-5)
    assert at_voxels(outside, objects) == [0]
    assert at_voxels(deepest, objects)[0] == 1
    along = at_voxels([[*middle, x] for x in np.arange(1.6, 6, 0.5)], objects)
    assert all(np.diff(along) > 0)


def test_it_is_continuous_inside_an_object_and_does_not_know_the_others():
    alone, both = np.where(touching() == 7, 1, 0), touching()
    generator = np.random.default_rng(0)
    points = generator.uniform([2, 2], [17, 11.4], (200, 2))
    assert at_voxels(points, both) == pytest.approx(at_voxels(points, alone), abs=1e-6)
    moved = np.subtract(at_voxels(points + 0.01, both), at_voxels(points, both))
    assert np.abs(moved).max() < 0.01


def test_an_object_that_the_array_cuts_goes_on_and_one_that_fills_it_is_all_inside():
    whole = touching((20, 24))
    cut = whole[:, 7:]  # through the middle of the first object
    assert at_voxels([[10, 0]], cut)[0] == pytest.approx(1)
    assert at_voxels([[3, 4], [0, 0]], np.ones((9, 9), int)) == [1, 1]


def test_numbers_of_objects_do_not_matter():
    objects, points = touching(), np.random.default_rng(1).uniform(0, 19, (100, 2))
    assert at_voxels(points, objects) == at_voxels(points, np.where(objects == 7, 2**20, objects.astype(int)))


def test_distances_are_those_of_the_world():
    objects = np.zeros((30, 30), int)
    objects[10:20, 5:25] = 1
    near_a_short_side, near_a_long_side = [[14.5, 6]], [[11, 14.5]]
    equal = [at_voxels(p, objects)[0] for p in (near_a_short_side, near_a_long_side)]
    assert equal[0] == pytest.approx(equal[1])
    stretched = [at_voxels(p, objects, (2.0, 1.0))[0] for p in (near_a_short_side, near_a_long_side)]
    assert stretched[0] < stretched[1]


# --- The network ----------------------------------------------------------------------------------


@pytest.fixture(params=[2, 3])
def network(request):
    torch.manual_seed(0)
    ndim = request.param
    fields = {"ndim": ndim, "channels": 1, "interior": True, **TINY["swipe", ndim]}
    return build_swipe(SwipeConfig(**fields)).eval()


@torch.no_grad()
def test_it_is_one_output_more_and_folded_and_plain_decoding_agree(network):
    images = torch.randn(2, 1, *[16] * network.ndim)
    points = torch.rand(2, 30, network.ndim) * 2 - 1
    encoding = network.encode(images)
    assert (network.classes, network.outputs) == (2, 3)
    expected = network.decode_plain(encoding, points)
    assert expected.shape == (2, 30, 3)
    torch.testing.assert_close(
        network.decode(encoding, points, blending="nearest"), expected, atol=1e-5, rtol=0
    )
    folded = network.for_inference()
    assert (folded.classes, folded.outputs) == (2, 3)
    blended = network.decode(encoding, points)
    torch.testing.assert_close(folded.decode(folded.encode(images), points), blended, atol=1e-5, rtol=0)


def test_in_training_every_patch_that_is_asked_answers(network):
    images, points = torch.randn(2, 1, *[16] * network.ndim), torch.rand(2, 30, network.ndim) * 2 - 1
    prediction = network.train()(images, points, points)
    assert prediction.patch.shape == (2, 30, 2) and prediction.overreach.shape == (2, 30, 2, 2)
    assert prediction.interior.shape == (2, 30, 3)
    assert prediction.part(5, 9).interior.shape == (2, 4, 3)


def test_without_it_a_network_starts_with_the_same_weights_as_ever(network):
    fields = {"ndim": network.ndim, "channels": 1, **TINY["swipe", network.ndim]}
    torch.manual_seed(0)
    without = build_swipe(SwipeConfig(**fields)).state_dict()
    assert set(network.state_dict()) - set(without) == {
        "patch_decoder.interior.weight",
        "patch_decoder.interior.bias",
    }
    assert torch.equal(
        without["patch_decoder.output.weight"], network.state_dict()["patch_decoder.output.weight"]
    )


# --- The loss -------------------------------------------------------------------------------------


def test_the_loss_is_least_where_the_sigmoid_is_the_interior():
    interior = torch.tensor([[0.0, 0.25, 0.9]])
    right = torch.logit(interior, eps=1e-6)[..., None].expand(-1, -1, 2).clone().requires_grad_()
    interior_sums(right, interior)[0].backward()
    assert right.grad.abs().max() < 1e-5
    entropy, count = interior_sums(torch.zeros(1, 3, 2), interior)
    assert count == 6 and float(entropy) == pytest.approx(6 * np.log(2))


def test_the_total_takes_it_by_its_weight_and_leaves_it_out_where_it_is_not_learned():
    generator = torch.Generator().manual_seed(0)
    patch, classes = torch.randn(2, 5, 2, generator=generator), torch.ones(2, 5, dtype=torch.int64)
    interior = torch.rand(2, 5, generator=generator)
    with_it = Prediction(patch, interior=torch.randn(2, 5, 1, generator=generator))
    plain = swipe_loss(Prediction(patch), classes, LossConfig(), interior=interior)
    terms = swipe_loss(with_it, classes, LossConfig(interior_weight=3), interior=interior)
    assert plain.interior is None
    assert float(terms.total) == pytest.approx(float(plain.total) + 3 * float(terms.interior))


# --- Training -------------------------------------------------------------------------------------


@pytest.fixture
def touching_folder(tmp_path):
    """One image of two touching boxes, for training and validation."""
    objects = touching((32, 32), 16)
    image = np.where(objects > 0, 200, 20).astype(np.uint8)
    image[:, 15:17] //= 2
    for part in ("train", "val"):
        for kind, array in (("images", image), ("labels", objects)):
            path = tmp_path / part / kind / "pair.png"
            path.parent.mkdir(parents=True)
            write_label_map(path, LabelMap(array, Affine.from_spacing((1.0, 1.0)), "pixel"))
    return tmp_path


def test_a_run_learns_to_tell_touching_objects_apart(tmp_path, tiny_config, touching_folder):

    config: ExperimentConfig = tiny_config(INTERIOR | FINE)
    cases = [find_cases(touching_folder, part) for part in ("train", "val")]
    finish(Trainer(config, *cases, tmp_path / "run", device="cpu").run())
    checkpoint = load_checkpoint(tmp_path / "run" / "last.safetensors")
    predictor = Predictor.load(checkpoint, device="cpu")

    field = predictor.field(read_image(cases[0][0].image_path))
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (50, 2))
    interior = field.interior(points, frame="image")
    assert interior.shape == (50,) and (interior > 0).all() and (interior < 1).all()
    assert field.logits(points, frame="image").shape == (50, 2)
    assert '"interior"' in (tmp_path / "run" / "log.jsonl").read_text("utf-8")
    report = finish(evaluate(predictor, cases[1], instances=True))
    assert report.instances["ap_50"] == 1 and report.instances["count_error"] == 0
    finer = field.render(factor=2.5)
    assert number_objects(finer).array.max() == 1
    assert np.unique(finish(iter_objects(field, finer)).array).tolist() == [0, 1, 2]


def test_points_keep_their_interior_whatever_the_augmentation(tiny_config, touching_folder):

    config: ExperimentConfig = tiny_config(INTERIOR)
    names = ("preprocessing", "labels", "sampling", "augmentation", "batch")
    parts = {name: getattr(config, name) for name in names}
    batches = TrainingSet(find_cases(touching_folder, "train"), **parts, seed=0, interior=True)
    list(batches.load())
    batch = batches[0]
    for points, interior in zip(batch.points_source, batch.interior, strict=True):
        torch.testing.assert_close(interior, interior_at(points, touching((32, 32), 16), (1.0, 1.0)))
    assert batch.interior.max() > 0.5
    assert [len(part.interior) for part in batch.split(2)] == [len(part) for part in batch.split(2)]


def test_the_objects_of_a_mask_are_its_connected_parts_and_those_of_numbers_are_not(tmp_path):
    labels = LabelConfig(class_names=("nucleus",), instances=True)
    mask = np.zeros((12, 12), np.uint8)
    mask[1:4, 1:4] = mask[6:9, 6:9] = 255
    numbers = np.where(mask, 3, 0)
    numbers[6:9, 8] = 4
    for array, count in ((mask, 2), (numbers, 2)):
        write_label_map(tmp_path / "a.png", LabelMap(array, Affine.from_spacing((1.0, 1.0)), "pixel"))
        case = Case("a", tmp_path / "a.png", tmp_path / "a.png")
        objects = read_labelled(case, 2, labels, objects=True).objects
        assert len(np.unique(objects)) == 1 + count
        assert (objects[2, 2] == objects[7, 7]) == (array is numbers)
        assert read_labelled(case, 2, labels).objects is None


def test_a_model_without_it_gives_one_with_it_all_other_weights(tiny_config, disc_run):
    start = load_checkpoint(disc_run / "best.safetensors")
    model = build_swipe(tiny_config({"model.interior": True, "labels.instances": True}).model)
    taken = inherit(model, ["foreground"], start)
    assert set(taken.fresh) == {"patch_decoder.interior.weight", "patch_decoder.interior.bias"}
    without = build_swipe(tiny_config().model)
    back = inherit(without, ["foreground"], start)
    assert back.share == 1


@pytest.mark.parametrize("change", [{"labels.instances": False}, {"batch.supervision": "masks"}])
def test_it_is_refused_where_nothing_says_which_object_is_which(tiny_config, change):
    with pytest.raises(ConfigError, match="model.interior is learned at points"):
        tiny_config(INTERIOR | change)


def test_a_field_of_a_model_without_it_says_so(analytic_field, ball):

    field = analytic_field(ball((5, 5), 3), Grid((10, 10), Affine.from_spacing((1.0, 1.0))))
    with pytest.raises(ConfigError, match="model.interior"):
        field.interior([[0.0, 0.0]])
