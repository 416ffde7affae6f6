"""Laws of the trees that generalise strokes."""

from __future__ import annotations

import pytest
import torch

from swipe_core.training.forest import Forest, grow_forest


def quadrants(points: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in a square and two features of noise, and whether their signs agree: no line divides them."""
    features = torch.randn(points, 4, generator=torch.Generator().manual_seed(seed))
    return features, (features[:, 0] * features[:, 1] > 0).long()


def grown(features: torch.Tensor, classes: torch.Tensor, count: int = 2) -> Forest:
    return grow_forest(features, classes, count, trees=20, generator=torch.Generator().manual_seed(0))


def test_what_was_learned_is_known_and_what_lies_between_mostly():
    forest = grown(*quadrants(400, seed=0))
    features, classes = quadrants(400, seed=0)
    assert (forest.probabilities(features).argmax(dim=1) == classes).all()
    features, classes = quadrants(1000, seed=1)
    assert (forest.probabilities(features).argmax(dim=1) == classes).float().mean() > 0.85


def test_answers_are_shares_of_all_classes():
    features, classes = quadrants(100, seed=0)
    probabilities = grown(features, 2 * classes, count=3).probabilities(quadrants(50, seed=1)[0])
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(50))
    assert (probabilities[:, 1] == 0).all()


def test_the_unit_of_a_feature_does_not_matter():
    features, classes = quadrants(200, seed=0)
    others = quadrants(100, seed=1)[0]
    plain, scaled = grown(features, classes), grown(8 * features, classes)
    torch.testing.assert_close(plain.probabilities(others), scaled.probabilities(8 * others))


def test_a_class_of_few_points_counts_as_much_as_another():
    features = torch.zeros(101, 1)  # nothing to tell them apart by
    classes = torch.zeros(101, dtype=torch.long)
    classes[0] = 1
    assert grown(features, classes).probabilities(features[:1])[0].tolist() == pytest.approx([0.5, 0.5])
