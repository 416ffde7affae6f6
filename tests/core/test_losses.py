"""The loss of Sec. 2.3 against values by hand, and what must not change it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from swipe_core.data.batch import Batch
from swipe_core.data.cases import Case
from swipe_core.data.dataset import TrainingSet
from swipe_core.networks.segmenter import Prediction
from swipe_core.training import losses
from swipe_core.training.config import ExperimentConfig
from swipe_core.training.learner import Learner
from swipe_core.training.losses import (
    LossConfig,
    Unlabelled,
    contrast_of,
    loss_sums,
    loss_terms,
    occupancy_sums,
    pairwise_loss,
    swipe_loss,
)
from swipe_core.training.optimisation import learning_rate

# Three points of classes 0, 1, 2 with probabilities that are easy to sum by hand.
PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.0625, 0.4375, 0.5]])
LOGITS, CLASSES = PROBABILITIES.log(), torch.tensor([0, 1, 2])
CPU = torch.device("cpu")
CROSS_ENTROPY = math.log(2)
# Class 1: overlap 0.5, squares 0.0625 + 0.25 + 0.19140625; class 2: 0.5 and 0.0625 + 0.0625 + 0.25.
DICE = 1 - (2 / (1 + 0.50390625 + 1) + 2 / (1 + 0.375 + 1)) / 2


def occupancy_loss(logits, classes, cross_entropy_weight=0.5, all_judged=True):
    return losses.occupancy_loss(occupancy_sums(logits, classes, all_judged), cross_entropy_weight)


def cross_entropy_loss(logits, classes, all_judged=True):
    return occupancy_loss(logits, classes, 1.0, all_judged)


def dice_loss(logits, classes, all_judged=True):
    return occupancy_loss(logits, classes, 0.0, all_judged)


def random_case(seed: int = 0, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 30, classes, generator=generator)
    return logits, torch.randint(classes, (2, 30), generator=generator)


def test_three_points_by_hand():
    assert cross_entropy_loss(LOGITS, CLASSES).item() == pytest.approx(CROSS_ENTROPY)
    assert dice_loss(LOGITS, CLASSES).item() == pytest.approx(DICE)
    assert occupancy_loss(LOGITS, CLASSES).item() == pytest.approx(0.5 * CROSS_ENTROPY + 0.5 * DICE)
    assert occupancy_loss(LOGITS, CLASSES, 0.2).item() == pytest.approx(0.2 * CROSS_ENTROPY + 0.8 * DICE)


def test_perfect_logits_cost_nothing():
    _, classes = random_case()
    logits = 50.0 * torch.nn.functional.one_hot(classes, 4)
    assert occupancy_loss(logits, classes).item() == pytest.approx(0, abs=1e-6)


def test_dice_leaves_the_background_out():
    """However many background points are right beside it, one wrong foreground point costs the same."""
    logits, classes = torch.tensor([[0.0, 0.0], [90.0, -90.0]]), torch.tensor([1, 0])
    few = dice_loss(logits, classes)
    many = dice_loss(logits[[0] + [1] * 50], classes[[0] + [1] * 50])
    assert few.item() == many.item() == pytest.approx(1 - 2 / (0.25 + 1 + 1))


def test_an_absent_class_costs_the_probability_given_to_it():
    classes = torch.zeros(4, dtype=torch.long)
    assert dice_loss(torch.zeros(4, 2), classes).item() == pytest.approx(1 - 1 / (4 * 0.25 + 1))


def test_dice_is_taken_over_the_whole_batch_at_once():
    logits, classes = random_case()
    assert torch.equal(dice_loss(logits, classes), dice_loss(logits.flatten(0, 1), classes.flatten()))


@pytest.mark.parametrize("scale", [1e4, -1e4, 1e30])
def test_extreme_logits_have_finite_gradients(scale):
    logits, classes = random_case()
    logits = (scale * logits).requires_grad_()
    loss = occupancy_loss(logits, classes)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_permuting_the_points_changes_nothing():
    logits, classes = random_case()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    permuted = occupancy_loss(logits[:, order], classes[:, order])
    assert permuted.item() == pytest.approx(occupancy_loss(logits, classes).item())


def test_the_total_weighs_the_terms_as_the_paper_does():
    patch, classes = random_case(0)
    image, overreach = random_case(1)[0], torch.stack([random_case(2)[0], random_case(3)[0]], dim=2)
    terms = swipe_loss(Prediction(patch, image, overreach, torch.tensor(7.0)), classes, LossConfig())
    spo = occupancy_loss(overreach.flatten(0, 2), classes[..., None].expand(-1, -1, 2).flatten())
    by_hand = 0.5 * occupancy_loss(patch, classes) + 0.5 * occupancy_loss(image, classes) + 0.1 * spo + 7e-4
    assert terms.total.item() == pytest.approx(by_hand.item())
    assert terms.overreach.item() == pytest.approx(spo.item())
    assert terms.as_floats().keys() == {"total", "patch", "image", "overreach", "embedding"}
    assert terms.as_floats()["embedding"] == 7


def test_overreaching_points_that_agree_with_their_own_patch_cost_the_same():
    patch, classes = random_case()
    repeated = cross_entropy_loss(
        patch[:, :, None].expand(-1, -1, 8, -1), classes[..., None].expand(-1, -1, 8)
    )
    assert repeated.item() == pytest.approx(cross_entropy_loss(patch, classes).item())


def test_a_network_with_one_output_is_trained_on_that_alone():
    patch, classes = random_case()
    terms = swipe_loss(Prediction(patch, None, None, None), classes, LossConfig(alpha=0.1))
    assert torch.equal(terms.total, occupancy_loss(patch, classes))
    assert terms.as_floats().keys() == {"total", "patch"}


def test_half_precision_logits_and_autocast_are_lifted_to_float32():
    logits, classes = random_case()
    halved = Prediction(logits.bfloat16(), None, logits.bfloat16()[:, :, None], torch.tensor(1.0).bfloat16())
    lifted = Prediction(
        logits.bfloat16().float(), None, logits.bfloat16().float()[:, :, None], torch.tensor(1.0)
    )
    plain = swipe_loss(lifted, classes, LossConfig()).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = swipe_loss(halved, classes, LossConfig()).total
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(plain.item())


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"beta": -1}, {"gamma": 0.1}])
def test_an_unusable_or_unknown_weight_is_refused(wrong):
    with pytest.raises(ValidationError):
        LossConfig(**wrong)


# --- Batches in parts -----------------------------------------------------------------------------


def everything() -> tuple[Prediction, torch.Tensor, torch.Tensor]:
    """All that a network may say of four images, their classes, and the norms of their embeddings.

    In two of them there is nothing to find.
    """
    generator = torch.Generator().manual_seed(0)
    patch, image, one, two, *sides = (torch.randn(4, 30, 3, generator=generator) for _ in range(6))
    classes = torch.randint(3, (4, 30), generator=generator)
    classes[[0, 2]] = 0
    prediction = Prediction(patch, image, torch.stack([one, two], dim=2), sides=tuple(sides))
    return prediction, classes, torch.rand(4, generator=generator)


def rows_of(prediction: Prediction, norms: torch.Tensor, rows: slice) -> Prediction:
    return Prediction(
        prediction.patch[rows],
        prediction.image[rows],
        prediction.overreach[rows],
        norms[rows].mean(),
        tuple(side[rows] for side in prediction.sides),
    )


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize(
    ("config", "lattice"),
    [(LossConfig(), None), (LossConfig(), (6, 5)), (LossConfig(kind="structure"), (6, 5))],
)
def test_however_a_batch_is_split_loss_and_gradients_are_those_of_the_whole(sizes, config, lattice):
    prediction, classes, norms = everything()
    if lattice is not None:
        classes[1, :20] = -1  # parts judge more or less
    logits = (prediction.patch, prediction.image, prediction.overreach, *prediction.sides)
    leaves = [t.requires_grad_() for t in (*logits, norms)]
    whole = swipe_loss(rows_of(prediction, norms, slice(None)), classes, config, lattice)
    wanted = torch.autograd.grad(whole.total, leaves)

    ends = np.cumsum(sizes)
    parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    each = [loss_sums(rows_of(prediction, norms, rows), classes[rows], config, lattice) for rows in parts]
    total = torch.stack([sums.flat() for sums in each]).sum(dim=0)
    gradients = [torch.zeros_like(leaf) for leaf in leaves]
    for sums in each:
        terms = loss_terms(sums.as_part_of(total), config)
        assert terms.as_floats() == pytest.approx(whole.as_floats(), rel=1e-5)
        for gradient, own in zip(gradients, torch.autograd.grad(terms.total, leaves), strict=True):
            gradient += own
    for gradient, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-8)


def test_images_without_an_object_cost_no_more_in_parts_than_in_the_batch():
    """The Dice of an image by itself counts every trace of a class that is not there as a whole miss."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(2, (12, 200), generator=generator)
    classes[::2] = 0
    right = torch.nn.functional.one_hot(classes, 2) * 3.0
    logits = right + torch.randn(12, 200, 2, generator=generator)
    alone = torch.stack([occupancy_loss(logits[n], classes[n]) for n in range(12)]).mean()
    sums = [loss_sums(Prediction(logits[n : n + 1]), classes[n : n + 1], LossConfig()) for n in range(12)]
    whole = torch.stack([own.flat() for own in sums]).sum(dim=0)
    batch = occupancy_loss(logits, classes)
    assert alone > 1.5 * batch
    assert all(
        loss_terms(own.as_part_of(whole), LossConfig()).total.item() == pytest.approx(batch.item())
        for own in sums
    )


def gradient_of(config: ExperimentConfig, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient of a step, and its losses."""
    learner = Learner(config, CPU)
    terms = learner.learn(batch, 0, 0.0).losses
    gradient = torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])
    return gradient, terms


def batches_of(config: ExperimentConfig, case: Case) -> TrainingSet:
    parts = {name: getattr(config, name) for name in ("preprocessing", "labels", "sampling", "batch")}
    batches = TrainingSet([case], **parts, augmentation=None, seed=config.training.seed)
    list(batches.load())
    return batches


SPARSE = {
    "labels.ignore_label": 255,
    "model.norm": "group",
    "batch": {"size": 4, "points": 64, "pairs": 32, "workers": 0},
    "loss": {"likeness_weight": 0.5},
    "training.clip_norm": 1e6,
}


def test_a_step_in_parts_with_neighbours_that_look_alike_is_the_step_of_the_whole(tmp_path, tiny_config):
    found = []
    for parts in (1, 2, 4):
        config = tiny_config(SPARSE | {"training.accumulate": parts})
        found.append(gradient_of(config, batches_of(config, two_regions(tmp_path)[0])[0]))
    (whole, terms), *others = found
    assert "likeness" in terms and "overreach" in terms
    for gradient, of_parts in others:
        assert (gradient - whole).norm() < 1e-4 * whole.norm()
        assert of_parts == pytest.approx(terms, rel=1e-4)


def test_the_pass_that_collects_the_sums_leaves_no_trace_in_the_statistics(tmp_path, tiny_config):
    config = tiny_config(SPARSE | {"model.norm": "batch", "training.accumulate": 2})
    learner = Learner(config, CPU)
    before = {name: b.clone() for name, b in learner.model.named_buffers()}
    learner.learn(batches_of(config, two_regions(tmp_path)[0])[0], 0, 0.0)
    after = dict(learner.model.named_buffers())
    counted = [name for name in before if name.endswith("num_batches_tracked")]
    assert counted and all(after[name] == before[name] + 2 for name in counted)


@pytest.mark.parametrize(("parts", "seen"), [(1, [4]), (2, [2, 2, 2, 2]), (3, [2, 2, 2, 2]), (4, [1] * 8)])
def test_a_batch_that_is_not_split_is_seen_once_and_one_in_parts_twice(
    tmp_path, tiny_config, monkeypatch, parts, seen
):
    config = tiny_config(SPARSE | {"training.accumulate": parts})
    batch, learner, calls = batches_of(config, two_regions(tmp_path)[0])[0], Learner(config, CPU), []
    forward = learner.model.forward

    def counted(images, *points):
        calls.append(len(images))
        return forward(images, *points)

    monkeypatch.setattr(learner.model, "forward", counted)
    learner.learn(batch, 0, 0.0)
    assert calls == seen


# --- Neighbours that look alike -----------------------------------------------------------------


def logits_of(*pairs: tuple[tuple[float, ...], tuple[float, ...]]) -> torch.Tensor:
    """Logits of one image from the probabilities at the points of each pair."""
    return torch.tensor([pairs]).log()


def random_pairs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 20, 2, 3, generator=generator), 3 * torch.rand(2, 20, generator=generator)


def test_likeness_by_hand():
    """How probable it is that the two are of different classes, times how alike they look."""
    logits = logits_of(((0.5, 0.5), (0.5, 0.5)), ((0.9, 0.1), (0.2, 0.8)))
    contrast = torch.tensor([[0.0, 1.0]])
    by_hand = (0.5 + math.exp(-0.5) * (1 - 0.9 * 0.2 - 0.1 * 0.8)) / 2
    assert pairwise_loss(logits, contrast).item() == pytest.approx(by_hand)


def test_likeness_costs_nothing_where_a_pair_agrees_or_looks_different():
    certain = 60.0 * torch.eye(3)
    agree = torch.stack([certain, certain], dim=1)[None]
    assert pairwise_loss(agree, torch.zeros(1, 3)).item() == pytest.approx(0, abs=1e-6)
    disagree = torch.stack([certain, certain.roll(1, 0)], dim=1)[None]
    assert pairwise_loss(disagree, torch.zeros(1, 3)).item() == pytest.approx(1)
    assert pairwise_loss(disagree, torch.full((1, 3), 9.0)).item() < 1e-15


def test_likeness_knows_no_order_and_lies_between_0_and_1():
    logits, contrast = random_pairs()
    loss = pairwise_loss(logits, contrast)
    assert 0 < loss < 1
    assert pairwise_loss(logits.flip(2), contrast).item() == pytest.approx(loss.item())
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert pairwise_loss(logits[:, order], contrast[:, order]).item() == pytest.approx(loss.item())
    assert pairwise_loss(logits, contrast / 2) > loss  # the more alike they look, the dearer


def test_likeness_pulls_both_points_of_a_pair_towards_each_other():
    logits = logits_of(((0.7, 0.3), (0.4, 0.6))).requires_grad_()
    pairwise_loss(logits, torch.zeros(1, 1)).backward()
    first, second = logits.grad[0, 0]
    # Downhill the first becomes more of the second's likelier class, and the other way round.
    assert first[1] < 0 < first[0] and second[0] < 0 < second[1]


@pytest.fixture
def halves() -> tuple[torch.Tensor, torch.Tensor]:
    """Two channels: left half and right half, and noise; pairs within the halves, across, and at borders."""
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 2, 16, 16)
    image[:, 0, :, 8:] = 4.0
    image[:, 1] = torch.randn(16, 16, generator=generator)
    left, right, edge = (0.3, -0.5), (0.3, 0.5), (1.0, -1.0)
    pairs = torch.tensor([[[left, left], [left, right], [right, left], [edge, (1.0, -0.95)]]])
    return image, pairs


def test_contrast_is_in_deviations_and_the_root_mean_square_of_the_channels(halves):
    image, pairs = halves
    contrast = contrast_of(image[:, :1], pairs)[0]
    step = 4.0 / float(image[0, 0].std())
    torch.testing.assert_close(contrast, torch.tensor([0.0, step, step, 0.0]))
    both = contrast_of(image, pairs)[0]
    noise = contrast_of(image[:, 1:], pairs)[0]
    torch.testing.assert_close(both, ((contrast**2 + noise**2) / 2).sqrt())


def test_contrast_does_not_depend_on_the_unit_of_the_image_nor_on_the_others_of_a_batch(halves):
    image, pairs = halves
    scaled = image * torch.tensor([1000.0, 1e-3])[:, None, None] + torch.tensor([5.0, -7.0])[:, None, None]
    alone = contrast_of(image, pairs)
    torch.testing.assert_close(contrast_of(scaled, pairs), alone, rtol=1e-3, atol=1e-4)
    together = contrast_of(torch.cat([100 * image.roll(3, -1), image]), pairs.expand(2, -1, -1, -1))
    torch.testing.assert_close(together[1:], alone)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_an_image_of_one_value_has_no_contrast_up_to_its_borders(value):
    pairs = 2 * torch.rand(1, 200, 2, 2, generator=torch.Generator().manual_seed(0)) - 1
    pairs[:, :50, 1] = pairs[:, :50, 1].sign()  # in corners, as of partners that were brought back
    contrast = contrast_of(torch.full((1, 1, 8, 8), value), pairs)
    assert contrast.max() < 0.1  # next to nothing: rounding, in units of the smallest deviation


def test_at_the_border_of_a_crop_an_image_goes_on_as_it_is():
    """Else a pair there would look different wherever the image is not 0."""
    image = torch.full((1, 1, 8, 8), 5.0)
    image[..., :4, :] = 7.0
    corner = torch.tensor([[[[1.0, 1.0], [0.8, 0.8]]]])
    assert contrast_of(image, corner).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("alike", [0.25, 0.5])
def test_the_total_takes_likeness_by_its_weight_and_by_what_is_alike(halves, alike):
    image, pairs = halves
    labelled, classes = (each[:1] for each in random_case())
    logits = torch.randn(1, 4, 2, 4, generator=torch.Generator().manual_seed(0))
    config = LossConfig(likeness_weight=3.0, likeness_contrast=alike)
    terms = swipe_loss(Prediction(labelled), classes, config)
    everywhere = Prediction(torch.cat([labelled, logits.flatten(1, 2)], dim=1))
    unlabelled = Unlabelled(contrast_of(image, pairs))
    told = swipe_loss(everywhere, classes, config, unlabelled=unlabelled)
    by_hand = pairwise_loss(logits, contrast_of(image, pairs) / alike)
    assert torch.equal(told.likeness, by_hand)
    assert told.total.item() == pytest.approx((terms.total + 3 * by_hand).item())
    assert told.as_floats().keys() == {"total", "patch", "likeness"}


def two_regions(folder: Path) -> tuple[Case, np.ndarray]:
    """A dark and a bright region with a wavy boundary, and a stroke along each side of the image."""
    rows, columns = np.mgrid[:32, :32]
    truth = columns > 16 + 5 * np.sin(rows / 5)
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    labels = np.full(truth.shape, 255, np.uint8)
    labels[2:30, 3], labels[2:30, 28] = 0, 1
    case = Case("regions", folder / "image.png", folder / "strokes.png")
    Image.fromarray((80 + 90 * truth + noise).clip(0, 255).astype(np.uint8)).save(case.image_path)
    Image.fromarray(labels).save(case.label_path)
    return case, truth


def error_of_a_training(config: ExperimentConfig, case: Case, truth: np.ndarray) -> float:
    """The share of the pixels that a network gets wrong which has learned from the strokes."""
    batches = batches_of(config, case)
    learner, steps = Learner(config, CPU), config.training.steps
    for step in range(steps):
        learner.learn(batches[step], step, learning_rate(step, step / steps, config.training))
    model = learner.model.eval()
    centres = (torch.arange(32) + 0.5) / 16 - 1
    points = torch.cartesian_prod(centres, centres)[None]
    with torch.no_grad():
        classes = model.decode(model.encode(batches[0].images[:1]), points).argmax(dim=-1)
    return float((classes.reshape(32, 32).numpy() != truth).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_two_strokes_the_boundary_is_where_the_image_changes_and_without_likeness_elsewhere(
    tmp_path, tiny_config, seed
):
    case, truth = two_regions(tmp_path)
    errors = {}
    for weight in (0.0, 0.5):
        config = tiny_config(
            {
                "labels.ignore_label": 255,
                "augmentation": None,
                "batch": {"size": 2, "points": 128, "pairs": 128, "pair_distance": 8.0, "workers": 0},
                "loss": {"likeness_weight": weight, "likeness_contrast": 0.5},
                "training.steps": 60,
                "training.seed": seed,
            }
        )
        errors[weight] = error_of_a_training(config, case, truth)
    # As tried with six seeds: 0.03 to 0.08 with it, 0.2 to 0.36 without.
    assert errors[0.5] < 0.13 and errors[0.0] > 0.17
