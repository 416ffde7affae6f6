"""Laws of point sampling: where points may lie, how many, and at what work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from swipe_core.coordinates import image_to_voxel
from swipe_core.data import sampling
from swipe_core.data.sampling import PointPool, SamplingConfig, draw_points, latin_hypercube, sample_points
from swipe_core.errors import DataError

FEW = SamplingConfig(foreground_points=200, background_points=300, boundary_width=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ellipsoids(shape: tuple[int, ...], classes: int, seed: int = 0) -> np.ndarray:
    """Background 0 and one ellipsoid per foreground class, later ones on top."""
    rng = np.random.default_rng(seed)
    size = np.array(shape)
    position = np.moveaxis(np.indices(shape), 0, -1)
    labels = np.zeros(shape, np.uint8)
    for klass in range(1, classes):
        centre, radius = size * rng.uniform(0.25, 0.75, len(shape)), size * rng.uniform(0.15, 0.3, len(shape))
        labels[(((position - centre) / radius) ** 2).sum(-1) < 1] = klass
    return labels


def voxels_of(pool: PointPool, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    nearest = np.rint(image_to_voxel(pool.points_image.numpy().astype(np.float64), shape)).astype(int)
    return tuple(nearest.T)


def assert_same(first: PointPool, second: PointPool) -> None:
    """Bit by bit, corrections apart."""
    assert torch.equal(first.points_image, second.points_image)
    assert torch.equal(first.classes, second.classes)


@st.composite
def strokes(draw: st.DrawFn, shape: tuple[int, ...], values: st.SearchStrategy[int]) -> list:
    """Straight lines one voxel wide, as pairs of an index into an array and a value to write there."""
    voxel = st.tuples(*(st.integers(0, n - 1) for n in shape))
    lines = []
    for first, last in draw(st.lists(st.tuples(voxel, voxel), min_size=1, max_size=6)):
        steps = max(abs(a - b) for a, b in zip(first, last, strict=True)) + 1
        line = np.rint(np.linspace(first, last, steps)).astype(int)
        lines.append((tuple(line.T), draw(values)))
    return lines


@st.composite
def painted_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Strokes of three classes on unlabelled ground (255), in 2D or 3D, and strokes of corrected voxels."""
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=3)))
    labels, corrected = np.full(shape, 255, np.uint8), np.zeros(shape, bool)
    for line, klass in draw(strokes(shape, st.integers(0, 2))):
        labels[line] = klass
    for line, value in draw(strokes(shape, st.just(1))):
        corrected[line] = bool(value)
    return labels, corrected


shares = st.floats(0, 1)
settings_of_few_points = st.builds(
    SamplingConfig,
    foreground_points=st.integers(1, 60),
    background_points=st.integers(1, 60),
    boundary_share=shares,
    background_boundary_share=shares,
    boundary_width=st.floats(1, 12),
    corrected_share=shares,
)

SHAPES = [(61, 83), (23, 31, 17)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_point_has_the_label_of_its_nearest_voxel(shape):
    labels = ellipsoids(shape, 4)
    pool = sample_points(labels, 4, FEW, seeded())
    assert pool.points_image.dtype == torch.float32
    np.testing.assert_array_equal(labels[voxels_of(pool, shape)], pool.classes)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_foreground_class_gives_equally_many_points_and_the_background_its_own_number(shape):
    pool = sample_points(ellipsoids(shape, 4), 4, FEW, seeded())
    assert torch.bincount(pool.classes).tolist() == [300, 200, 200, 200]


@pytest.mark.parametrize("shape", SHAPES)
def test_at_least_half_of_each_foreground_class_lies_near_a_voxel_of_another_class(shape):
    labels = ellipsoids(shape, 3)
    pool = sample_points(labels, 3, FEW, seeded())
    for klass in (1, 2):
        near = ndimage.distance_transform_edt(labels == klass)[voxels_of(pool, shape)] <= 4
        assert near[pool.classes == klass].sum() >= 100


@pytest.mark.parametrize("klass", [0, 1])
def test_a_boundary_share_of_one_keeps_every_point_in_the_band(klass):
    labels = ellipsoids((64, 64), 2)
    config = SamplingConfig(boundary_share=1, background_boundary_share=1, boundary_width=2)
    pool = sample_points(labels, 2, config, seeded())
    near = ndimage.distance_transform_edt(labels == klass)[voxels_of(pool, labels.shape)] <= 2
    assert near[pool.classes == klass].all()


def test_the_half_that_is_not_bound_to_the_band_covers_the_interior():
    labels = np.zeros((100, 100), int)
    labels[10:90, 10:90] = 1
    pool = sample_points(labels, 2, FEW, seeded())
    depth = ndimage.distance_transform_edt(labels)[voxels_of(pool, labels.shape)]
    interior = depth[pool.classes == 1] > 4
    assert 0.35 < interior.mean() < 0.5


def test_the_border_of_the_array_is_no_boundary():
    labels = np.zeros((40, 40), int)
    labels[:, 20:] = 1
    pool = sample_points(labels, 2, SamplingConfig(boundary_share=1, boundary_width=3), seeded())
    assert voxels_of(pool, labels.shape)[1][pool.classes == 1].max() == 22


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_uniform_map_is_stratified_along_every_axis(ndim):
    config = SamplingConfig(background_points=100)
    pool = sample_points(np.zeros((37, 21, 15)[:ndim], int), 2, config, seeded())
    strata = torch.floor((pool.points_image + 1) / 2 * 100).long()
    assert (strata.sort(dim=0).values == torch.arange(100)[:, None]).all()


def test_a_latin_hypercube_fills_each_interval_of_each_axis_once():
    points = latin_hypercube(50, 3, seeded())
    assert (np.sort(np.floor(points * 50), axis=0) == np.arange(50)[:, None]).all()


@pytest.mark.parametrize("ignore", [-1, 9])
def test_no_unlabelled_voxel_is_ever_sampled(ignore):
    labels = ellipsoids((40, 40), 3).astype(int)
    labels[np.random.default_rng(0).random(labels.shape) < 0.7] = ignore
    pool = sample_points(labels, 3, FEW, seeded(), ignore)
    assert set(pool.classes.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(labels[voxels_of(pool, labels.shape)], pool.classes)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(painted=painted_maps(), config=settings_of_few_points)
def test_no_point_lies_off_the_strokes_that_were_painted_nor_carries_another_class(painted, config):
    labels, corrected = painted
    pool = sample_points(labels, 3, config, seeded(), 255, corrected)
    assert pool.points_image.abs().max() <= 1
    np.testing.assert_array_equal(labels[voxels_of(pool, labels.shape)], pool.classes)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(painted=painted_maps(), config=settings_of_few_points)
def test_each_class_has_its_share_of_points_in_its_corrected_voxels(painted, config):
    labels, corrected = painted
    pool = sample_points(labels, 3, config, seeded(), 255, corrected)
    assert corrected[voxels_of(pool, labels.shape)][pool.corrected.numpy()].all()
    for klass, count in enumerate([config.background_points] + [config.foreground_points] * 2):
        painted_count = count if (labels == klass).any() else 0
        again = 10 * np.count_nonzero(corrected & (labels == klass))  # ten points a voxel at most
        wanted = min(round(config.corrected_share * count), again)
        assert (pool.classes == klass).sum() == painted_count
        assert pool.corrected[pool.classes == klass].sum() == wanted


def test_a_boundary_is_found_across_a_gap_of_unlabelled_voxels():
    labels = np.full((30, 60), 9)
    labels[:, :20], labels[:, 25:] = 0, 1
    config = SamplingConfig(boundary_share=1, boundary_width=8)
    pool = sample_points(labels, 2, config, seeded(), 9)
    columns = voxels_of(pool, labels.shape)[1][pool.classes == 1]
    assert (columns.min(), columns.max()) == (25, 27)


def test_a_scribble_without_a_neighbour_in_reach_is_sampled_as_a_whole():
    labels = np.full((80, 80), 9)
    labels[5, 5:60], labels[70, 5:60] = 0, 1
    pool = sample_points(labels, 2, FEW, seeded(), 9)
    assert torch.bincount(pool.classes).tolist() == [300, 200]


@pytest.mark.parametrize("voxel", [(0, 0, 0), (7, 4, 2), (14, 11, 8)])
def test_an_object_of_one_voxel_gets_its_points_spread_over_that_voxel(voxel):
    labels = np.zeros((15, 12, 9), int)
    labels[voxel] = 1
    pool = sample_points(labels, 2, FEW, seeded())
    points = image_to_voxel(pool.points_image[pool.classes == 1], labels.shape)
    assert len(points) == 200
    assert ((points - torch.tensor(voxel)).abs() <= 0.5 + 1e-5).all()
    assert (points.amax(0) - points.amin(0) > 0.9).all()


def test_a_shape_too_thin_for_rejection_is_sampled_evenly_and_all_over_its_voxels():
    diagonal = np.eye(100, dtype=int)
    pool = sample_points(diagonal, 2, FEW, seeded())
    points = image_to_voxel(pool.points_image[pool.classes == 1].double(), diagonal.shape)
    per_voxel = torch.bincount(points[:, 0].round().long(), minlength=100)
    assert (per_voxel == 2).all()
    offsets = points - points.round()
    assert offsets.mean().abs() < 0.05 and offsets.std(0).sub(12**-0.5).abs().max() < 0.05


def test_a_class_that_is_absent_has_no_points():
    labels = ellipsoids((32, 32), 2) * 3
    assert torch.bincount(sample_points(labels, 5, FEW, seeded()).classes).tolist() == [300, 0, 0, 200]


def test_the_same_seed_gives_the_same_points_and_another_seed_others():
    labels = ellipsoids((40, 40), 3)
    first, again, other = (sample_points(labels, 3, FEW, seeded(seed)).points_image for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignore", [None, 9])
def test_without_corrected_voxels_or_without_a_share_for_them_every_draw_stays_the_same(shape, ignore):
    labels = ellipsoids(shape, 4).astype(int)
    if ignore is not None:
        labels[np.random.default_rng(0).random(shape) < 0.9] = ignore
    nowhere, everywhere = np.zeros(shape, bool), np.ones(shape, bool)
    no_share = FEW.model_copy(update={"corrected_share": 0.0})
    spent = seeded()
    plain = sample_points(labels, 4, FEW, spent, ignore)
    assert not plain.corrected.any()
    for corrected, config in ((None, FEW), (nowhere, FEW), (labels == 9, FEW), (everywhere, no_share)):
        generator = seeded()
        pool = sample_points(labels, 4, config, generator, ignore, corrected)
        assert_same(pool, plain)
        assert not pool.corrected.any()
        assert torch.equal(generator.get_state(), spent.get_state())


def test_classes_before_the_first_corrected_one_keep_their_points():
    labels = ellipsoids((40, 40), 4)
    plain, pool = (sample_points(labels, 4, FEW, seeded(), None, c) for c in (None, labels == 2))
    assert torch.equal(pool.points_image[:500], plain.points_image[:500])
    assert pool.classes[pool.corrected].unique().tolist() == [2]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_boundary_share_is_one_of_the_points_that_are_not_of_corrections(share):
    labels = np.zeros((100, 100), int)
    labels[10:90, 10:90] = 1
    corrected = np.zeros(labels.shape, bool)
    corrected[45:55, 40:60] = True
    config = SamplingConfig(foreground_points=200, boundary_share=1, boundary_width=4, corrected_share=share)
    pool = sample_points(labels, 2, config, seeded(), None, corrected)
    depth = ndimage.distance_transform_edt(labels)[voxels_of(pool, labels.shape)]
    of_class = pool.classes == 1
    assert (of_class & pool.corrected).sum() == 200 * share
    assert (depth[of_class & ~pool.corrected] <= 4).all()
    assert (depth[of_class & pool.corrected] > 30).all()


def test_the_corrected_voxels_of_a_class_are_sampled_evenly():
    labels = ellipsoids((60, 60), 2)
    corrected = np.zeros(labels.shape, bool)
    corrected[5, 10:50] = True
    config = SamplingConfig(background_points=800, corrected_share=0.5)
    pool = sample_points(labels, 2, config, seeded(), None, corrected)
    columns = voxels_of(pool, labels.shape)[1][pool.corrected]
    assert (np.bincount(columns, minlength=60)[10:50] == 10).all()


@pytest.mark.parametrize("labels", [np.eye(200, dtype=int), np.pad([[1]], 200), ellipsoids((200, 200), 2)])
def test_the_work_for_thin_and_tiny_shapes_is_bounded_by_the_lowest_acceptance(labels, monkeypatch):
    tried = []

    def counting(count, ndim, generator):
        tried.append(count)
        return latin_hypercube(count, ndim, generator)

    monkeypatch.setattr(sampling, "latin_hypercube", counting)
    config = SamplingConfig(foreground_points=1000, background_points=0)
    sample_points(labels, 2, config, seeded())
    assert sum(tried) <= 1.3 * 1000 / sampling.LOWEST_ACCEPTANCE


def test_a_map_without_any_label_is_refused():
    with pytest.raises(DataError, match="needs a class to draw points of"):
        sample_points(np.full((8, 8), 9), 2, SamplingConfig(), seeded(), 9)


def test_a_draw_takes_each_available_point_once_before_any_twice():
    available = torch.tensor([3, 5, 8, 13])
    drawn = draw_points(available, 10, seeded())
    times = torch.bincount(drawn, minlength=14)[available]
    assert len(drawn) == 10 and times.sum() == 10
    assert set(times.tolist()) == {2, 3}


def test_a_draw_keeps_the_proportions_of_the_classes():
    classes = torch.tensor([0] * 4000 + [1] * 2000)
    drawn = draw_points(torch.arange(6000), 1500, seeded())
    assert abs(classes[drawn].float().mean().item() - 1 / 3) < 0.05


@pytest.mark.parametrize("count", [0, 1])
def test_a_draw_has_the_size_that_was_asked_for(count):
    assert len(draw_points(torch.tensor([0, 1, 2]), count, seeded())) == count
