"""Objects corrected by hand: what a line does to those that it passes through, and to no others."""

from __future__ import annotations

import numpy as np
import pytest

from swipe_core.errors import ImageError
from swipe_core.measure.editing import crossed, cut, joined, removed, voxels_of


def line(*points):
    return np.array(points, float)


def changed(objects, change):
    result = objects.copy()
    where, numbers = change
    result[where] = numbers
    return result


@pytest.fixture
def cells():
    """Two touching squares and one apart."""
    objects = np.zeros((20, 30), np.int32)
    objects[5:15, 2:10], objects[5:15, 10:18], objects[5:15, 22:28] = 1, 2, 5
    return objects


def test_a_line_passes_through_every_voxel_on_its_way_once_and_leaves_no_gap():
    voxels = voxels_of(line((0.2, 0.1), (7.4, 3.3), (9.0, 50.0)), (12, 20))
    assert len(np.unique(voxels, axis=0)) == len(voxels)
    assert (np.abs(np.diff(voxels, axis=0)).max(axis=1) == 1).all()
    assert voxels.max(axis=0).tolist() == [8, 19]


def test_objects_are_crossed_in_the_order_of_the_line(cells):
    assert crossed(cells, line((10, 25), (10, 0))) == [5, 2, 1]
    assert crossed(cells, line((0, 0), (3, 29))) == []


def test_a_line_from_one_object_into_another_joins_them(cells):
    result = changed(cells, joined(cells, crossed(cells, line((8, 5), (8, 14)))))
    assert (result[5:15, 2:18] == 1).all()
    assert (result == 5).sum() == (cells == 5).sum()


def test_what_is_removed_is_background(cells):
    result = changed(cells, removed(cells, [2]))
    assert set(np.unique(result)) == {0, 1, 5}


@pytest.mark.parametrize("path", [((3, 5), (17, 5)), ((4, 3), (16, 8)), ((3, 6), (10, 4), (17, 6))])
def test_a_line_from_side_to_side_cuts_one_object_and_leaves_its_neighbours(cells, path):
    result = changed(cells, cut(cells, line(*path)))
    assert set(np.unique(result)) == {0, 1, 2, 5, 6}
    assert ((result == 1) | (result == 6)).sum() == (cells == 1).sum()  # the line itself stays inside
    assert (result == 1).sum() >= (result == 6).sum()
    np.testing.assert_array_equal(result[cells != 1], cells[cells != 1])


def test_one_line_cuts_all_objects_that_it_passes_through(cells):
    result = changed(cells, cut(cells, line((9, 0), (9, 29))))
    assert len(np.unique(result)) - 1 == 6


@pytest.mark.parametrize("path", [((3, 5), (9, 5)), ((1, 1), (2, 29)), ((8, 4), (8, 4))])
def test_a_line_that_parts_nothing_says_what_to_draw(cells, path):
    with pytest.raises(ImageError, match="from one side to the other"):
        cut(cells, line(*path))
    with pytest.raises(ImageError, match="from one object into another"):
        joined(cells, crossed(cells, line((8, 4), (8, 6))))
    with pytest.raises(ImageError, match="Click on an object"):
        removed(cells, [])


def test_in_a_volume_a_line_in_a_slice_parts_two_balls_where_they_touch():
    place = np.stack(np.meshgrid(*(np.arange(n) for n in (16, 18, 34)), indexing="ij"), axis=-1)
    first = np.linalg.norm(place - (8, 9, 10), axis=-1) < 7
    second = np.linalg.norm(place - (8, 9, 22), axis=-1) < 7
    objects = (first | second).astype(np.int32)
    result = changed(objects, cut(objects, line((8, 0, 16), (8, 17, 16))))
    only_first, only_second = first & ~second, second & ~first
    assert len(np.unique(result[only_first])) == len(np.unique(result[only_second])) == 1
    assert result[8, 9, 10] != result[8, 9, 22]
    assert ((result > 0) == (objects > 0)).all()


def test_a_cut_through_a_volume_follows_distances_in_the_world():
    """Two balls in space, of which every third slice is stored: they are parted where they touch, too."""
    place = np.stack(np.meshgrid(np.arange(0, 16, 3), np.arange(18), np.arange(34), indexing="ij"), axis=-1)
    first = np.linalg.norm(place - (6, 9, 10), axis=-1) < 7
    second = np.linalg.norm(place - (6, 9, 22), axis=-1) < 7
    objects = (first | second).astype(np.int32)
    result = changed(objects, cut(objects, line((2, 0, 16), (2, 17, 16)), (3.0, 1.0, 1.0)))
    for only in (first & ~second, second & ~first):
        assert len(np.unique(result[only])) == 1
