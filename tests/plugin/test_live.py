"""The live pyramid: what it gives at once, what it gives in the end, and that it stops when told to."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from analytic_fields import spheres

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.levels import plan_levels
from napari_swipe.live.pyramid import LabelPyramid, Level
from swipe_core.coordinates import Affine, Grid
from swipe_core.progress import finish

IMAGE = Grid((40, 50), Affine.from_spacing((0.5, 0.25), (3.0, -2.0)))
VOLUME = Grid((10, 40, 40), Affine.from_spacing((4.0, 1.0, 1.0)))


def layer_field(fields: dict, array: np.ndarray, roles: tuple[str, ...], affine: Affine) -> LayerField:
    matrix = np.eye(array.ndim + 1)
    space = [axis for axis, role in enumerate(roles) if role == "space"]
    matrix[np.ix_(space, space)] = affine.linear
    matrix[space, -1] = affine.origin
    names = tuple(f"axis {axis}" for axis in range(array.ndim))
    return LayerField(
        fields, LayerSource(array, AxisRoles(roles), matrix, names, ("pixel",) * array.ndim, "scene")
    )


@pytest.fixture
def disc(analytic_field, ball) -> LayerField:
    """A disc of radius 11.3 pixels about (19.2, 24.6)."""
    field = analytic_field(ball((19.2, 24.6), 11.3), IMAGE)
    return layer_field({(): field}, np.zeros(IMAGE.shape), ("space", "space"), IMAGE.affine)


@pytest.fixture
def sphere(analytic_field, ball) -> LayerField:
    """A ball in a volume of thick slices."""
    field = analytic_field(ball((5.2, 20.4, 18.7), 4.1), VOLUME)
    return layer_field({(): field}, np.zeros(VOLUME.shape), ("space",) * 3, VOLUME.affine)


@pytest.fixture
def pair(analytic_field) -> LayerField:
    """Two discs that touch, told apart."""
    field = analytic_field(spheres([(19.2, 16.6), (19.6, 31.3)], 8.0), IMAGE)
    field.model.has_interior, field.model.classes = True, 2
    source = layer_field({(): field}, np.zeros(IMAGE.shape), ("space", "space"), IMAGE.affine)
    return finish(source.iter_tell_apart())


@pytest.fixture
def pyramid_of():
    """A function from a field to its pyramid; all of them are closed at the end."""
    made = []

    def build(field: LayerField, voxels: int = 2**14, **arguments) -> LabelPyramid:
        plan = plan_levels(field.image_grid, voxels, finest=6)
        maps = finish(field.iter_render(plan.base))
        coarse = field.stacked([field.shown(*each) for each in zip(field.fields, maps, strict=True)])
        made.append(LabelPyramid(field, plan, coarse, **arguments))
        return made[-1]

    yield build
    for pyramid in made:
        pyramid.close()


def settle(pyramid: LabelPyramid) -> None:
    deadline = time.monotonic() + 60
    while not pyramid.is_idle:
        assert time.monotonic() < deadline, "the pyramid never came to rest"
        time.sleep(0.005)


def settled(level: Level) -> np.ndarray:
    """What a level gives in the end."""
    np.asarray(level)
    settle(level.pyramid)
    return np.asarray(level)


def exact(pyramid: LabelPyramid, level: int, window: tuple[slice, ...]) -> np.ndarray:
    """The field asked at every pixel of a part of a level."""
    factor = 2 ** (pyramid.plan.doublings - level)
    grid = pyramid.plan.base.scaled(factor)
    part = grid.window([w.start for w in window], [w.stop - w.start for w in window])
    return pyramid.field.first.render(part, method="dense").array


def test_the_levels_have_about_cubic_voxels_and_share_the_image_s_borders():
    plan = plan_levels(VOLUME, voxels=2**17)
    assert plan.base.shape == (40, 40, 40)
    assert plan.base.spacing == (1.0, 1.0, 1.0)
    corner = np.full((1, 3), -0.5)
    np.testing.assert_allclose(plan.finest.affine.apply(corner), VOLUME.affine.apply(corner))
    assert plan.finest.shape[2] == 40 * 2**10


def test_a_large_image_starts_coarser_than_it_is():
    plan = plan_levels(Grid((16384, 16384), Affine.identity(2)), voxels=2**20)
    assert plan.base.shape == (1024, 1024)
    assert plan.finest.shape == (2**24, 2**24)


@pytest.mark.parametrize("level", [5, 3, 0])
def test_in_the_end_every_pixel_is_the_field_s_answer(disc, pyramid_of, level):
    pyramid = pyramid_of(disc)
    shape = pyramid.shape(level)
    # About the point of the boundary towards the image's first corner.
    centre = [
        round((c - 11.3 / np.sqrt(2) + 0.5) / m * n)
        for c, m, n in zip((19.2, 24.6), IMAGE.shape, shape, strict=True)
    ]
    window = tuple(slice(c - min(c, 150), c + 150) for c in centre)
    window = tuple(slice(w.start, min(w.stop, n)) for w, n in zip(window, shape, strict=True))
    found = settled(pyramid.levels[level][window])
    np.testing.assert_array_equal(found, exact(pyramid, level, window))
    assert 0 < found.mean() < 1


def test_a_whole_screen_is_the_field_s_answer_though_only_the_boundary_is_decoded(disc, pyramid_of):
    pyramid = pyramid_of(disc)
    level = pyramid.plan.doublings - 4
    whole = tuple(slice(0, n) for n in pyramid.shape(level))
    before = disc.first.model.asked
    found = settled(pyramid.levels[level][whole])
    asked = disc.first.model.asked - before
    assert 0 < asked < 0.05 * found.size
    np.testing.assert_array_equal(found, exact(pyramid, level, whole))


@pytest.mark.parametrize("doublings", [1, 3, 5])
def test_objects_keep_their_numbers_at_any_zoom(pair, pyramid_of, doublings):
    pyramid = pyramid_of(pair)
    level = pyramid.plan.doublings - doublings
    rows, columns = pyramid.shape(level)
    window = (slice(rows // 2 - 60, rows // 2 + 60), slice(columns // 2 - 60, columns // 2 + 60))
    found = settled(pyramid.levels[level][window])
    assert found.dtype == np.int32
    place = np.indices(found.shape)[1] + columns // 2 - 60
    middle = (16.6 + 31.3) / 2  # of the two, along the columns
    column = (place + 0.5) * IMAGE.shape[1] / columns - 0.5
    inside, is_clear = found > 0, np.abs(column - middle) > 1
    assert np.array_equal(found[inside & is_clear], np.where(column < middle, 1, 2)[inside & is_clear])
    assert set(np.unique(found)) >= {1, 2}


def test_other_settings_show_classes_until_objects_are_told_apart_again(pair):
    assert not pair.with_config(pair.config.model_copy(update={"threshold": 0.6})).objects


def test_a_coarse_picture_is_there_at_once_and_the_sharp_one_is_announced(disc, pyramid_of):
    arrived, may_decode = threading.Event(), threading.Event()
    pyramid = pyramid_of(disc, on_decoded=arrived.set)
    decode = pyramid._decode_group
    pyramid._decode_group = lambda *work: (may_decode.wait(60), decode(*work))
    level = pyramid.plan.doublings - 2
    first = np.asarray(pyramid.levels[level])
    np.testing.assert_array_equal(first, np.asarray(pyramid.levels[-1]).repeat(4, 0).repeat(4, 1))
    may_decode.set()
    assert arrived.wait(60)
    assert (np.asarray(pyramid.levels[level]) != first).any()


def test_what_is_known_is_not_decoded_again(disc, pyramid_of):
    pyramid = pyramid_of(disc)
    part = pyramid.levels[2][300:900, 400:1000]
    settled(part)
    decodes = pyramid.decodes
    assert decodes
    settled(pyramid.levels[2][350:850, 420:980])
    assert pyramid.decodes == decodes


def test_a_newer_request_overtakes_an_older_one(disc, pyramid_of):
    pyramid = pyramid_of(disc)
    started, may_decode = threading.Event(), threading.Event()
    decode, done = pyramid._decode_group, []

    def slow(view, tiles):
        started.set()
        may_decode.wait(60)
        done.append(view.level)
        decode(view, tiles)

    pyramid._decode_group = slow
    for level in (1, 2, 3, 4):
        np.asarray(pyramid.levels[level][tuple(slice(0, min(n, 1500)) for n in pyramid.shape(level))])
        assert started.wait(60)
    may_decode.set()
    settle(pyramid)
    assert done == [1, 4]


def test_a_slice_through_a_volume_lies_where_it_is_sliced(sphere, pyramid_of):
    pyramid = pyramid_of(sphere, voxels=2**17)
    level = pyramid.plan.doublings - 2
    step = 2 ** (pyramid.plan.doublings - level)
    index = 90
    found = settled(pyramid.levels[level][index])
    # The middle of what napari rounds to this index, in voxels of the image.
    finest = index * 2**level
    factor = np.array(pyramid.plan.finest.shape[0] / VOLUME.shape[0])
    z = (finest + 0.5) / factor - 0.5
    y, x = ((np.arange(40 * step) + 0.5) / step - 0.5 for _ in range(2))
    inside = (z - 5.2) ** 2 + (y[:, None] - 20.4) ** 2 + (x - 18.7) ** 2 < 4.1**2
    np.testing.assert_array_equal(found, inside)


def test_the_exact_place_of_a_slider_counts_and_not_the_nearest_index(sphere, pyramid_of):
    place = [0.0]
    pyramid = pyramid_of(sphere, voxels=2**17, positions=lambda: [place[0], None, None])
    level = pyramid.plan.doublings - 1
    step = 2**level
    areas = []
    for fraction in (-0.4, 0.0, 0.4):
        place[0] = (54 + fraction) * step
        areas.append(int(settled(pyramid.levels[level][54]).sum()))
    assert areas[0] > areas[1] > areas[2] > 0


def test_other_planes_than_the_first_are_as_sharp(sphere, pyramid_of):
    pyramid = pyramid_of(sphere, voxels=2**17)
    level = pyramid.plan.doublings - 2
    found = settled(pyramid.levels[level][:, :, 75])
    x = (75 * 2**level + 0.5) / (pyramid.plan.finest.shape[2] / 40) - 0.5
    z = (np.arange(160) + 0.5) / 16 - 0.5
    y = (np.arange(160) + 0.5) / 4 - 0.5
    inside = (z[:, None] - 5.2) ** 2 + (y - 20.4) ** 2 + (x - 18.7) ** 2 < 4.1**2
    np.testing.assert_array_equal(found, inside)


def test_in_3d_the_coarsest_level_is_there_at_once(sphere, pyramid_of):
    pyramid = pyramid_of(sphere, voxels=2**17)
    volume = np.asarray(pyramid.levels[-1])
    np.testing.assert_array_equal(volume, sphere.first.render(pyramid.plan.base).array)
    assert pyramid.decodes == 0


def test_every_frame_of_a_stack_has_its_own_field(analytic_field, ball, pyramid_of):
    fields = {(i,): analytic_field(ball((19.2, 24.6), 6.0 + 4 * i), IMAGE) for i in range(3)}
    stack = layer_field(fields, np.zeros((3, *IMAGE.shape)), ("frame", "space", "space"), IMAGE.affine)
    pyramid = pyramid_of(stack, voxels=2**12)
    level = pyramid.plan.doublings - 2
    areas = [int(settled(pyramid.levels[level][i]).sum()) for i in range(3)]
    expected = [np.pi * (6.0 + 4 * i) ** 2 for i in range(3)]
    pixels = np.prod(pyramid.shape(level)[1:]) / IMAGE.voxels
    np.testing.assert_allclose(np.array(areas) / pixels, expected, rtol=0.02)


def test_another_field_of_the_same_source_takes_over(disc, analytic_field, ball, pyramid_of):
    pyramid = pyramid_of(disc)
    before = settled(pyramid.levels[3])
    smaller = layer_field(
        {(): analytic_field(ball((19.2, 24.6), 5.0), IMAGE)},
        np.zeros(IMAGE.shape),
        ("space", "space"),
        IMAGE.affine,
    )
    pyramid.replace(smaller, smaller.first.render(pyramid.plan.base).array)
    assert settled(pyramid.levels[3]).sum() < 0.3 * before.sum()


def test_a_fault_of_the_network_is_kept_and_the_picture_stays(disc, pyramid_of, caplog):
    told = threading.Event()
    pyramid = pyramid_of(disc, on_decoded=told.set)

    def broken(*work):
        raise RuntimeError("no such luck")

    pyramid._evaluate = broken
    first = np.asarray(pyramid.levels[2])
    assert told.wait(60)
    settle(pyramid)
    assert "no such luck" in str(pyramid.failure)
    np.testing.assert_array_equal(np.asarray(pyramid.levels[2]), first)
    settle(pyramid)


def test_steps_and_single_rows_are_read_as_of_an_array(disc, pyramid_of):
    pyramid = pyramid_of(disc)
    whole = settled(pyramid.levels[4])
    np.testing.assert_array_equal(np.asarray(pyramid.levels[4][10:90:3, ::-2]), whole[10:90:3, ::-2])
    np.testing.assert_array_equal(np.asarray(pyramid.levels[4][..., 30]), whole[:, 30])
    assert len(pyramid.levels[4]) == whole.shape[0]


def test_more_than_memory_holds_is_refused_in_words(disc, pyramid_of):
    pyramid = pyramid_of(disc)
    pyramid.levels[0].axes = tuple(range(2**16) for _ in range(2))
    with pytest.raises(MemoryError, match="render labels at a resolution"):
        np.asarray(pyramid.levels[0])


def test_what_is_saved_is_decoded_and_not_a_first_guess(disc, pyramid_of):
    pyramid = pyramid_of(disc)
    whole = tuple(slice(0, n) for n in pyramid.shape(3))
    np.testing.assert_array_equal(pyramid.levels[3].decoded(), exact(pyramid, 3, whole))


def test_a_closed_pyramid_decodes_no_more_and_leaves_no_thread(disc, pyramid_of):
    pyramid = pyramid_of(disc)
    settled(pyramid.levels[2][300:900, 400:1000])
    pyramid.close()
    decodes = pyramid.decodes
    assert np.asarray(pyramid.levels[1]).any()
    assert pyramid.decodes == decodes
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("swipe-live") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
