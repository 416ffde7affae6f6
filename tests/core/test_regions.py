"""Laws of confidence: doubtful regions vanish whole, and nothing of the others changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swipe_core.coordinates import Affine, Grid
from swipe_core.inference.regions import REACH, confident_regions
from swipe_core.progress import finish

GRID = Grid((40, 48), Affine(np.diag([0.5, 0.5, 1.0])))


@pytest.fixture
def two_balls(ball):
    """Logits of a sure disc (share up to 1) on the left and a doubtful one (up to 0.73) on the right."""
    sure, doubtful = ball((20.0, 12.0), 7.0, sharpness=5.0), ball((20.0, 34.0), 8.0, sharpness=0.125)

    def logits(points: torch.Tensor) -> torch.Tensor:
        return torch.where(points[:, 1:] < 23, sure(points), doubtful(points))

    return logits


class TestFields:
    @pytest.mark.parametrize("factor", [0.5, 1, 4])
    @pytest.mark.parametrize("method", ["mise", "dense"])
    def test_a_doubtful_region_vanishes_and_the_sure_one_stays_voxel_for_voxel(
        self, analytic_field, two_balls, factor, method
    ):
        every = analytic_field(two_balls, GRID, method=method).render(factor=factor).array
        kept = analytic_field(two_balls, GRID, method=method, confidence=0.8).render(factor=factor).array
        middle = round(23 * factor)
        assert every[:, middle:].any()
        assert not kept[:, middle:].any()
        np.testing.assert_array_equal(kept[:, :middle], every[:, :middle])

    def test_a_confidence_that_the_doubtful_region_reaches_keeps_it(self, analytic_field, two_balls):
        every = analytic_field(two_balls, GRID).render(factor=2).array
        kept = analytic_field(two_balls, GRID, confidence=0.7).render(factor=2).array
        np.testing.assert_array_equal(kept, every)

    def test_probabilities_stay_what_the_model_says(self, analytic_field, two_balls):
        points = [[20.0, 12.0], [20.0, 34.0]]
        plain, kept = (analytic_field(two_balls, GRID, confidence=c) for c in (0.0, 0.9))
        np.testing.assert_array_equal(
            kept.probabilities(points, "voxel"), plain.probabilities(points, "voxel")
        )
        assert kept.scores(points, "voxel")[1, 1] == pytest.approx(kept.scores(points, "voxel")[1, 0] - 1)

    def test_another_threshold_searches_anew_and_copies_share_what_was_found(self, analytic_field, two_balls):
        field = analytic_field(two_balls, GRID, confidence=0.9)
        other = field.with_config(field.config.model_copy(update={"threshold": 0.6}))
        field.render()
        other.render()
        asked = field.model.asked
        again = other.with_config(other.config.model_copy(update={"chunk_points": 100}))
        assert again.classify([[20.0, 34.0], [20.0, 12.0]], "voxel").tolist() == [0, 1]
        assert field.model.asked == asked + 2

    def test_no_more_than_two_searches_are_kept_however_often_the_confidence_changes(
        self, analytic_field, two_balls
    ):
        field = analytic_field(two_balls, GRID)
        for confidence in (0.5, 0.6, 0.7, 0.8, 0.9):
            field.with_config(field.config.model_copy(update={"confidence": confidence})).render()
        assert [decision[2] for decision in field.regions._found] == [0.8, 0.9]

    def test_without_confidence_nothing_is_searched(self, analytic_field, two_balls):
        field = analytic_field(two_balls, GRID)
        field.render()
        assert not field.regions._found

    def test_the_search_is_told_before_the_rendering(self, analytic_field, two_balls):
        reports: list = []
        field = analytic_field(two_balls, GRID, confidence=0.9, chunk_points=50)
        finish(field.iter_render(GRID), reports.append)
        tasks = [report.stage for report in reports]
        assert tasks == sorted(tasks, key=["Searching regions", "Rendering"].index)
        shares = [r.done for r in reports if r.stage == "Searching regions"]
        assert shares == sorted(shares) and shares[-1] == 1000
        assert len(shares) > 5

    def test_an_image_without_anything_stays_without(self, analytic_field):
        field = analytic_field(
            lambda p: torch.stack([torch.ones(len(p)), torch.zeros(len(p))], -1), GRID, confidence=0.9
        )
        assert not field.render().array.any()

    def test_each_class_has_its_own_regions(self, analytic_field):
        def logits(points: torch.Tensor) -> torch.Tensor:
            left = points[:, 1] < 24
            one, two = torch.where(left, 3.0, -9.0), torch.where(left, -9.0, 0.5)
            return torch.stack([torch.zeros(len(points)), one, two], -1)

        field = analytic_field(logits, GRID, class_names=("one", "two"), confidence=0.8)
        labels = field.render().array
        assert np.all(labels[:, :24] == 1) and not labels[:, 24:].any()

    def test_volumes_too(self, analytic_field, ball):
        grid = Grid((16, 16, 16), Affine.identity(3))
        field = analytic_field(ball((8.0, 8.0, 8.0), 5.0, sharpness=0.1), grid)
        assert field.render().array.any()
        doubting = field.with_config(field.config.model_copy(update={"confidence": 0.9}))
        assert not doubting.render(factor=2).array.any()


class TestMasks:
    def test_all_of_a_kept_region_and_a_rim_about_it_is_allowed(self):
        labels = np.zeros((20, 20), np.uint8)
        labels[8:12, 8:12] = 1
        allowed = confident_regions(labels, np.full(labels.shape, 0.9), 0.9, 1)[0]
        assert allowed[8 - REACH : 12 + REACH, 8 - REACH : 12 + REACH].all()
        assert allowed.sum() == (4 + 2 * REACH) ** 2

    @pytest.mark.parametrize("gap", [1, 2, 3, 4, 5])
    def test_beside_a_doubtful_neighbour_all_of_the_sure_region_and_none_of_the_other_is_allowed(self, gap):
        labels = np.zeros((12, 30), np.uint8)
        labels[4:8, 4:10] = labels[4:8, 10 + gap : 16 + gap] = 1
        shares = np.where(np.arange(30) < 10, 0.99, 0.6) * np.ones((12, 1))
        allowed = confident_regions(labels, shares, 0.9, 1)[0]
        assert allowed[4:8, 4:10].all()
        assert not allowed[4:8, 10 + gap : 16 + gap].any()

    def test_one_sure_voxel_keeps_its_region(self):
        labels = np.zeros((10, 10), np.uint8)
        labels[2:5, 2:5] = 1
        shares = np.full(labels.shape, 0.55)
        shares[4, 4] = 0.95
        assert confident_regions(labels, shares, 0.95, 1)[0][2:5, 2:5].all()
        assert not confident_regions(labels, shares, 0.96, 1).any()
