"""The loss of Sec. 2.3 against values by hand, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from swipe_core.losses import (
    LossConfig,
    cross_entropy_loss,
    dice_loss,
    occupancy_loss,
    swipe_loss,
)
from swipe_core.model.segmenter import Prediction

# Three points of classes 0, 1, 2 with probabilities that are easy to sum by hand.
PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.0625, 0.4375, 0.5]])
LOGITS, CLASSES = PROBABILITIES.log(), torch.tensor([0, 1, 2])
CROSS_ENTROPY = math.log(2)
# Class 1: overlap 0.5, squares 0.0625 + 0.25 + 0.19140625; class 2: 0.5 and 0.0625 + 0.0625 + 0.25.
DICE = 1 - (2 / (1 + 0.50390625 + 1) + 2 / (1 + 0.375 + 1)) / 2


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
