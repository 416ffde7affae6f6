"""Laws of single objects: told apart by the field, the same on every lattice; and how they are scored."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic_fields import spheres

from swipe_core.coordinates import Affine, Grid
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.instances import iter_field_objects, iter_objects, numbered
from swipe_core.measure.instances import THRESHOLDS, mean_instances, score_instances
from swipe_core.measure.objects import number_objects
from swipe_core.progress import finish

CENTRES, RADIUS = [(14.2, 12.4), (14.4, 25.1), (32.3, 20.0)], 7.0  # the first two touch


@pytest.fixture(params=[2, 3])
def touching(request, analytic_field) -> OccupancyField:
    """Two balls that touch, and one apart, in 2D or 3D."""
    ndim = request.param
    centres = [(5.6,) * (ndim - 2) + centre for centre in CENTRES]
    grid = Grid((12,) * (ndim - 2) + (46, 40), Affine.from_spacing((1.5,) * (ndim - 2) + (0.5, 0.5)))
    field = analytic_field(spheres(centres, RADIUS), grid)
    field.model.has_interior, field.model.classes = True, 2
    return field


def objects_of(field: OccupancyField, grid: Grid | None = None) -> np.ndarray:
    return finish(iter_objects(field, field.render(grid))).array


def test_touching_objects_are_told_apart_and_connected_parts_are_not(touching):
    objects, classes = objects_of(touching), touching.render()
    assert number_objects(classes).array.max() == 2
    assert np.unique(objects).tolist() == [0, 1, 2, 3]
    assert np.array_equal(objects > 0, classes.array > 0)
    assert objects.dtype == np.int32


def test_every_object_is_of_the_points_that_are_nearest_to_its_centre(touching):
    grid = touching.image_grid.scaled(2)
    objects = objects_of(touching, grid)
    found = np.argwhere(objects)
    points = touching.grid.affine.inverse().apply(grid.affine.apply(found.astype(float)))
    centres = np.array([(5.6,) * (touching.ndim - 2) + centre for centre in CENTRES])
    distances = np.linalg.norm(points[:, None] - centres, axis=-1)
    nearest = np.sort(distances, axis=1)
    is_clear = nearest[:, 1] - nearest[:, 0] > 1
    numbers = objects[tuple(found.T)]
    assert np.array_equal(numbers[is_clear], 1 + distances.argmin(axis=1)[is_clear])


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.7, 3])
def test_count_and_numbers_do_not_depend_on_the_lattice(touching, factor):
    if touching.ndim == 3 and factor > 2:
        pytest.skip("many points, and no other code than in 2D")
    grid = touching.image_grid.scaled(factor)
    coarse, fine = objects_of(touching), objects_of(touching, grid)
    assert np.unique(fine).tolist() == [0, 1, 2, 3]
    # The same number at the same place.
    to_coarse = touching.image_grid.affine.inverse() @ grid.affine
    voxels = np.argwhere(fine)
    nearest = np.rint(to_coarse.apply(voxels.astype(float))).astype(int).clip(0, np.array(coarse.shape) - 1)
    there = coarse[tuple(nearest.T)]
    numbers = fine[tuple(voxels.T)]
    assert (there == numbers)[there > 0].mean() > 0.95


def test_a_part_of_the_image_has_the_objects_of_the_whole(touching):
    whole = objects_of(touching)
    part = touching.image_grid
    corner = replace(part, shape=(*part.shape[:-2], 24, 23))
    cut = objects_of(touching, corner)
    of_whole = whole[(..., slice(24), slice(23))]
    assert {1, 2} <= set(np.unique(cut)) and np.array_equal(cut > 0, of_whole > 0)
    assert (cut == of_whole)[cut > 0].mean() > 0.97


def test_a_part_seen_closely_is_parted_along_the_line_of_the_whole(touching):
    found = finish(iter_field_objects(touching))
    along = np.array(CENTRES[0]) + (np.array(CENTRES[1]) - CENTRES[0]) / 2
    middle = (*([5.6] * (touching.ndim - 2)), *along)
    fine = Affine.from_parts(np.eye(touching.ndim) / 64, np.array(middle) - 3.5 / 64)
    close = Grid((8,) * touching.ndim, touching.grid.affine @ fine)
    near = numbered(found, touching.render(close)).array
    assert near.all() and set(np.unique(near)) <= {1, 2}


def test_the_seed_threshold_says_how_deep_a_neck_parts_two_objects(touching):
    # Between the two centres the depth is about 0.09 of the greatest.
    lower = touching.with_config(touching.config.model_copy(update={"seed_threshold": 0.05}))
    assert finish(iter_field_objects(lower)).count == 2
    assert finish(iter_field_objects(touching)).count == 3


def test_a_part_that_is_nowhere_deep_is_one_object(touching):
    outputs = touching.model.logits
    touching.model.logits = lambda points: outputs(points) - torch.tensor([0, 0, 10.0])
    assert np.array_equal(objects_of(touching), number_objects(touching.render()).array)


@pytest.fixture
def specks(analytic_field) -> OccupancyField:
    """Two large discs, a small one that touches the first, and three small ones apart."""
    centres = torch.tensor([(12, 12), (33, 30), (12, 20.5), (30, 4), (36, 12), (4, 34)], dtype=torch.float64)
    radii = torch.tensor([7, 6, 2.1, 2, 1.6, 2], dtype=torch.float64)

    def outputs(points_voxel):
        inside = radii - torch.cdist(points_voxel.double(), centres)
        share = (inside / radii).amax(dim=-1).clamp(1e-4, 1 - 1e-4)
        depth = 3 * inside.amax(dim=-1)
        return torch.stack([torch.zeros_like(depth), depth, torch.logit(share)], dim=-1).float()

    field = analytic_field(outputs, Grid((46, 40), Affine.from_spacing((0.5, 0.5))))
    field.model.has_interior, field.model.classes = True, 2
    return field


def without_small(field: OccupancyField, share: float) -> OccupancyField:
    return field.with_config(field.config.model_copy(update={"smallest_object": share}))


def test_objects_smaller_than_a_share_of_a_typical_one_are_left_out_and_joined_where_they_touch(specks):
    every, large = objects_of(specks), objects_of(without_small(specks, 0.2))
    assert every.max() == 6 and np.unique(large).tolist() == [0, 1, 2]
    assert large[12, 20] == large[12, 12] == 1 and not large[4, 34] and not large[30, 4]
    assert (np.bincount(every[large == 2], minlength=7) > 0).sum() == 1  # the other is as it was


@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_what_is_too_small_does_not_depend_on_the_lattice(specks, factor):
    field = without_small(specks, 0.2)
    assert np.unique(objects_of(field, specks.image_grid.scaled(factor))).tolist() == [0, 1, 2]


def test_an_image_without_objects_has_none(touching):
    outputs = touching.model.logits
    touching.model.logits = lambda points: outputs(points) - torch.tensor([0, 1000.0, 0])
    assert not objects_of(touching).any()
    assert finish(iter_field_objects(touching)).count == 0


def test_a_model_that_does_not_tell_objects_apart_has_connected_parts(touching):
    touching.model.has_interior = False
    assert np.array_equal(objects_of(touching), number_objects(touching.render()).array)


# --- By distance, with any model


def by_distance(field: OccupancyField, neck: float = 0.5) -> OccupancyField:
    field.model.has_interior = False
    return field.with_config(field.config.model_copy(update={"touching": "distance", "seed_threshold": neck}))


@pytest.mark.parametrize("factor", [0.5, 1, 2])
def test_any_model_tells_objects_apart_at_necks_whatever_lattice_and_voxels(touching, factor):
    learned, grid = objects_of(touching), touching.image_grid.scaled(factor)
    field = by_distance(touching, 0.6)  # the neck is 0.42 as wide as the balls
    found = objects_of(field)
    assert np.unique(found).tolist() == [0, 1, 2, 3]
    assert np.mean(found == learned) > 0.995  # they are cut along the same lines
    assert np.unique(objects_of(field, grid)).tolist() == [0, 1, 2, 3]


def dumb_bell(analytic_field, neck_to_radius: float, spacing: tuple[float, float, float]) -> OccupancyField:
    """Two balls of 6 units whose surfaces meet in a circle, in voxels that need not be cubes."""
    half = 6 * (1 - neck_to_radius**2) ** 0.5
    centres = torch.tensor([[9, 9, 8], [9, 9, 8 + 2 * half]], dtype=torch.float64)
    size = torch.tensor(spacing, dtype=torch.float64)

    def outputs(points_voxel):
        depth = 6 - torch.cdist(points_voxel.double() * size, centres).amin(dim=-1)
        return torch.stack([torch.zeros_like(depth), depth], dim=-1).float()

    shape = tuple(int(extent / step) + 1 for extent, step in zip((18, 18, 30), spacing, strict=True))
    return analytic_field(outputs, Grid(shape, Affine.from_spacing(spacing)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.75, 0.75), (0.75, 0.75, 2.5)])
def test_how_wide_a_neck_parts_two_balls_is_said_in_units_of_the_world(analytic_field, spacing):
    balls = dumb_bell(analytic_field, 0.5, spacing)
    assert finish(iter_field_objects(by_distance(balls, 0.8))).count == 2
    assert finish(iter_field_objects(by_distance(balls, 0.25))).count == 1


def test_classes_that_touch_are_parted_and_their_objects_keep_to_them(analytic_field):
    def outputs(points_voxel):
        y, x = points_voxel.T
        outside = torch.maximum((y - 10).abs() - 7.5, (x - 12).abs() - 9.5)
        return torch.stack([torch.zeros_like(y), -outside + (12 - x) * 0.1, -outside], dim=-1).float()

    grid = Grid((21, 25), Affine.from_spacing((1.0, 1.0)))
    field = by_distance(analytic_field(outputs, grid, class_names=("one", "other")))
    field.model.classes = 3
    objects, classes = objects_of(field), field.render().array
    assert len(np.unique(np.stack([objects.ravel(), classes.ravel()]), axis=1).T) == 3
    assert np.unique(classes).tolist() == np.unique(objects).tolist() == [0, 1, 2]


def test_an_image_that_a_class_fills_is_one_object(analytic_field):
    def outputs(points_voxel):
        return torch.stack([torch.zeros(len(points_voxel)), torch.ones(len(points_voxel))], dim=-1)

    assert (objects_of(by_distance(analytic_field(outputs, Grid((6, 8), Affine.identity(2))))) == 1).all()


def test_progress_ends_with_all_that_is_done(touching):
    reports = list(iter_field_objects(touching))
    assert reports[-1].done == reports[-1].total


# --- Scores ---------------------------------------------------------------------------------------


def by_the_book(predicted: np.ndarray, reference: np.ndarray) -> tuple[list[float], float, float]:
    """The same scores, pair by pair."""
    own = [predicted == n for n in np.unique(predicted) if n]
    right = [reference == n for n in np.unique(reference) if n]
    overlaps = [(a & b).sum() / (a | b).sum() for a, b in itertools.product(own, right)]
    precisions = []
    for threshold in THRESHOLDS:
        hits = sum(overlap > threshold for overlap in overlaps)
        precisions.append(hits / (hits + (len(own) - hits) + (len(right) - hits)))
    matched = [overlap for overlap in overlaps if overlap > 0.5]
    hits = len(matched)
    quality = sum(matched) / (hits + (len(own) - hits) / 2 + (len(right) - hits) / 2)
    return precisions, quality, abs(len(own) - len(right)) / len(right)


def scattered(seed: int, shape=(40, 50)) -> tuple[np.ndarray, np.ndarray]:
    """Discs, and the same, some of which are moved, lost or merged."""
    generator = np.random.default_rng(seed)
    position = np.stack(np.indices(shape), axis=-1)
    predicted, reference = np.zeros((2, *shape), int)
    for number in range(1, 12):
        centre, radius = generator.uniform(0, shape), generator.uniform(3, 7)
        reference[np.linalg.norm(position - centre, axis=-1) < radius] = 3 * number
        moved = centre + generator.normal(0, 1, 2)
        if generator.random() < 0.9:
            predicted[np.linalg.norm(position - moved, axis=-1) < radius] = number + (number % 4 == 0)
    return predicted, reference


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_a_count_pair_by_pair(seed):
    predicted, reference = scattered(seed)
    precisions, quality, error = by_the_book(predicted, reference)
    scores = score_instances(predicted, reference)
    assert scores.precisions == pytest.approx(precisions)
    assert (scores.panoptic_quality, scores.count_error) == pytest.approx((quality, error))
    assert (scores.ap_50, scores.ap_mean) == pytest.approx((precisions[0], np.mean(precisions)))


def test_the_right_objects_score_1_whatever_their_numbers():
    _, reference = scattered(0)
    scores = score_instances(np.where(reference, 1000 - reference, 0), reference)
    assert (scores.ap_50, scores.ap_mean, scores.panoptic_quality, scores.count_error) == (1, 1, 1, 0)


def test_two_objects_as_one_are_two_misses_and_a_false_alarm():
    reference = np.repeat([[1, 2]], 8, axis=1)
    scores = score_instances(np.ones_like(reference), reference)
    assert (scores.ap_50, scores.panoptic_quality, scores.count_error) == (0, 0, 0.5)


def test_an_empty_image_is_right_where_nothing_is_found_and_wrong_where_something_is():
    empty, one = np.zeros((4, 4), int), np.eye(4, dtype=int)
    right, wrong = score_instances(empty, empty), score_instances(one, empty)
    assert (right.ap_mean, right.panoptic_quality, right.count_error) == (1, 1, 0)
    assert (wrong.ap_mean, wrong.panoptic_quality, wrong.count_error) == (0, 0, 1)
    assert mean_instances([right, wrong])["ap_50"] == 0.5
