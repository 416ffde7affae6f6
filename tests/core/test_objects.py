"""Objects: counted as one sees them, and measured in the world, whatever the voxels are like."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images import LabelMap
from swipe_core.measure.objects import (
    OBJECT_COLUMNS,
    Column,
    ObjectMeasurement,
    measure_objects,
    number_objects,
    write_object_table,
)

ANGLE = 0.6
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
# Columns are the steps of the axes: 0.5 and 2 world units long, turned.
TURNED = Affine.from_parts(TURN @ np.diag([0.5, 2.0]), [10.0, -20.0])
TURNED_3D = Affine.from_parts(
    np.block([[TURN, np.zeros((2, 1))], [np.zeros((1, 2)), np.eye(1)]]) @ np.diag([3.0, 0.5, 2.0]),
    [1.0, 2.0, 3.0],
)


def label_map(array: np.ndarray, affine: Affine | None = None) -> LabelMap:
    return LabelMap(array.astype(np.uint8), affine or Affine.identity(array.ndim), "millimeter")


def measured(
    array: np.ndarray, affine: Affine | None = None, names: tuple[str, ...] = ("one", "two")
) -> list[ObjectMeasurement]:
    classes = label_map(array, affine)
    return measure_objects(number_objects(classes), classes, names)


def box(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(*r) for r in ranges)] = 1
    return array


class TestNumbers:
    def test_touching_objects_of_two_classes_are_two_and_numbers_run_through_all_classes(self):
        array = np.zeros((8, 12), np.uint8)
        array[1:4, 1:4], array[1:4, 4:7], array[6:8, 1:3] = 1, 2, 1
        numbered = number_objects(label_map(array)).array
        assert np.unique(numbered).tolist() == [0, 1, 2, 3]
        assert (numbered > 0).tolist() == (array > 0).tolist()
        assert [m.class_index for m in measured(array)] == [1, 2, 1]

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_voxels_that_share_only_a_corner_are_one_object(self, ndim):
        array = np.zeros((3,) * ndim, np.uint8)
        array[(0,) * ndim] = array[(1,) * ndim] = 1
        assert number_objects(label_map(array)).array.max() == 1

    def test_objects_smaller_than_the_minimum_are_dropped_and_the_others_stay_consecutive(self):
        array = np.zeros((10, 10), np.uint8)
        array[0, 0], array[2, 0:3], array[4, 0:2], array[6:9, 0:3] = 1, 1, 2, 2
        numbered = number_objects(label_map(array, TURNED), minimum=3.0)  # a voxel is 0.5 x 2 = 1
        assert np.bincount(numbered.array.ravel()).tolist() == [88, 3, 9]
        assert numbered.affine == TURNED

    def test_an_object_of_exactly_the_minimum_stays(self):
        array = box((5, 5), (1, 4), (1, 2))
        affine = Affine.from_spacing((0.1, 0.1))
        assert number_objects(label_map(array, affine), minimum=0.03).array.max() == 1

    def test_an_empty_map_has_no_objects(self):
        assert measured(np.zeros((4, 5), np.uint8)) == []

    def test_numbering_does_not_depend_on_how_the_classes_are_numbered(self):
        array = np.random.default_rng(0).integers(0, 3, (40, 40)).astype(np.uint8)
        swapped = np.array([0, 2, 1], np.uint8)[array]
        assert np.array_equal(
            number_objects(label_map(array)).array, number_objects(label_map(swapped)).array
        )


class TestMeasures:
    @pytest.mark.parametrize("affine", [Affine.identity(2), Affine.from_spacing((0.5, 2.0)), TURNED])
    def test_a_rectangle_has_the_area_centroid_and_diagonal_that_geometry_gives_it(self, affine):
        (found,) = measured(box((20, 30), (3, 9), (5, 15)), affine)
        height, width = 6 * affine.spacing[0], 10 * affine.spacing[1]
        assert found.size == pytest.approx(height * width)
        assert found.largest_diameter == pytest.approx(math.hypot(height, width))
        assert found.centroid_world == pytest.approx(tuple(affine.apply(np.array([5.5, 9.5]))))
        assert found.bounding_box_voxel == ((3, 9), (5, 15))

    @pytest.mark.parametrize("affine", [Affine.identity(3), Affine.from_spacing((3.0, 0.5, 2.0)), TURNED_3D])
    def test_a_cuboid_has_the_volume_centroid_and_diagonal_that_geometry_gives_it(self, affine):
        (found,) = measured(box((12, 20, 9), (2, 7), (3, 13), (1, 8)), affine)
        sides = np.array([5, 10, 7]) * affine.spacing
        assert found.size == pytest.approx(np.prod(sides))
        assert found.largest_diameter == pytest.approx(np.linalg.norm(sides))
        assert found.centroid_world == pytest.approx(tuple(affine.apply(np.array([4.0, 7.5, 4.0]))))

    @pytest.mark.parametrize("ndim", [2, 3])
    @pytest.mark.parametrize("radius", [3.0, 10.3, 24.0])
    def test_a_ball_is_measured_to_within_a_voxel_on_an_anisotropic_lattice(self, ndim, radius):
        spacing = np.array([2.0, 0.5, 1.0][-ndim:])
        shape = [int(2 * radius / step) + 5 for step in spacing]
        affine = Affine.from_spacing(spacing.tolist())
        centre = affine.apply((np.array(shape) - 1) / 2)
        points = affine.apply(np.stack(np.indices(shape), axis=-1).astype(float))
        (found,) = measured(np.linalg.norm(points - centre, axis=-1) <= radius, affine)
        diagonal = np.linalg.norm(spacing)
        assert 2 * radius - diagonal <= found.largest_diameter <= 2 * radius + diagonal
        exact = math.pi * radius**2 if ndim == 2 else 4 / 3 * math.pi * radius**3
        assert found.size == pytest.approx(exact, rel=1.5 / radius)
        assert found.centroid_world == pytest.approx(tuple(centre))

    @pytest.mark.parametrize("affine", [Affine.identity(2), TURNED])
    def test_a_single_voxel_is_as_long_as_its_diagonal(self, affine):
        (found,) = measured(box((5, 5), (2, 3), (3, 4)), affine)
        assert found.largest_diameter == pytest.approx(math.hypot(*affine.spacing))
        assert found.size == pytest.approx(np.prod(affine.spacing))

    @pytest.mark.parametrize("length", [2, 10, 400])
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_line_of_voxels_is_as_long_as_its_cuboid(self, axis, length):
        shape, sides = [3, 3, 3], np.ones(3)
        shape[axis] = sides[axis] = length
        ranges = [(1, 2) if a != axis else (0, length) for a in range(3)]
        (found,) = measured(box(tuple(shape), *ranges), TURNED_3D)
        assert found.largest_diameter == pytest.approx(np.linalg.norm(sides * TURNED_3D.spacing))

    def test_a_diagonal_of_voxels_is_measured_from_corner_to_corner(self):
        (found,) = measured(np.eye(300, dtype=np.uint8))
        assert found.largest_diameter == pytest.approx(300 * math.sqrt(2))

    def test_the_diameter_is_the_greatest_distance_of_all_pairs_of_corners(self):
        rng = np.random.default_rng(3)
        for _ in range(10):
            array = rng.random((14, 11)) < 0.7
            for found in measured(array, TURNED):
                (rows, columns) = found.bounding_box_voxel
                numbers = number_objects(label_map(array)).array
                voxels = np.argwhere(numbers == found.number)
                corners = (voxels[:, None] + [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]).reshape(
                    -1, 2
                )
                world = TURNED.apply(corners)
                every = np.linalg.norm(world[:, None] - world[None], axis=-1)
                assert found.largest_diameter == pytest.approx(every.max())
                assert rows == (voxels[:, 0].min(), voxels[:, 0].max() + 1)
                assert columns == (voxels[:, 1].min(), voxels[:, 1].max() + 1)

    def test_a_hole_or_a_bay_does_not_shorten_an_object(self):
        ring = box((40, 40), (5, 35), (5, 35))
        ring[10:30, 10:40] = 0
        (found,) = measured(ring)
        assert found.largest_diameter == pytest.approx(30 * math.sqrt(2))
        assert found.size == np.count_nonzero(ring)

    def test_an_object_at_the_edge_says_so_and_an_axis_of_one_voxel_has_no_edge(self):
        assert measured(box((9, 9), (0, 3), (4, 5)))[0].touches_border
        assert measured(box((9, 9), (4, 5), (6, 9)))[0].touches_border
        assert not measured(box((9, 9), (1, 8), (1, 8)))[0].touches_border
        assert not measured(box((1, 9, 9), (0, 1), (1, 8), (1, 8)))[0].touches_border

    def test_a_class_without_a_name_is_named_by_its_number(self):
        found = measured(np.array([[1, 0, 2, 0, 3]], np.uint8), names=("one", "two"))
        assert [m.class_name for m in found] == ["one", "two", "class 3"]

    def test_numbers_that_do_not_occur_are_passed_over(self):
        numbered = label_map(np.array([[1, 0, 4]]))
        assert [m.number for m in measure_objects(numbered, label_map(np.array([[1, 0, 1]])), ("a",))] == [
            1,
            4,
        ]

    def test_classes_of_another_shape_are_a_fault(self):
        with pytest.raises(ValueError, match="shape"):
            measure_objects(label_map(np.zeros((3, 4))), label_map(np.zeros((4, 3))), ())


class TestTable:
    def rows(self, path: Path) -> list[dict[str, str]]:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def test_it_has_a_row_per_object_and_the_units_in_its_header(self, tmp_path):
        found = measured(box((20, 30), (3, 9), (5, 15)), TURNED, names=("a, b",))
        write_object_table(tmp_path / "objects.csv", found, "millimeter", 2)
        (row,) = self.rows(tmp_path / "objects.csv")
        assert list(row) == [
            "number",
            "class",
            "area [mm^2]",
            "centroid y [mm]",
            "centroid x [mm]",
            "largest diameter [mm]",
            "touches border",
        ]
        assert (row["number"], row["class"], row["touches border"]) == ("1", "a, b", "no")
        assert float(row["area [mm^2]"]) == pytest.approx(60)
        assert float(row["centroid x [mm]"]) == pytest.approx(found[0].centroid_world[1], rel=1e-7)
        assert float(row["largest diameter [mm]"]) == pytest.approx(found[0].largest_diameter, rel=1e-7)

    @pytest.mark.parametrize(
        ("unit", "size"), [("micrometer", "volume [um^3]"), ("pixel", "volume [pixel^3]")]
    )
    def test_in_3d_it_has_volumes_and_three_coordinates(self, tmp_path, unit, size):
        found = measured(box((4, 4, 4), (0, 2), (0, 2), (0, 2)))
        write_object_table(tmp_path / "objects.csv", found, unit, 3)
        (row,) = self.rows(tmp_path / "objects.csv")
        assert row[size] == "8"
        assert [row[key] for key in row if key.startswith("centroid")] == ["0.5", "0.5", "0.5"]
        assert row["touches border"] == "yes"

    def test_a_column_that_is_added_to_the_list_stands_in_the_file(self, tmp_path, monkeypatch):
        density = Column("{size} per diameter", lambda found: found.size / found.largest_diameter, "length")
        monkeypatch.setattr("swipe_core.measure.objects.OBJECT_COLUMNS", [*OBJECT_COLUMNS, density])
        found = measured(box((9, 9), (3, 6), (3, 7)))
        write_object_table(tmp_path / "objects.csv", found, "micrometer", 2)
        (row,) = self.rows(tmp_path / "objects.csv")
        assert float(row["area per diameter [um]"]) == pytest.approx(12 / 5)

    def test_no_objects_make_a_table_of_a_header_only(self, tmp_path):
        write_object_table(tmp_path / "objects.csv", [], "pixel", 2)
        assert len((tmp_path / "objects.csv").read_text("utf-8").splitlines()) == 1

    def test_what_the_disk_refuses_is_said_in_a_sentence_and_leaves_nothing(self, tmp_path):
        with pytest.raises(ImageError, match="folder does not exist"):
            write_object_table(tmp_path / "missing" / "objects.csv", [], "pixel", 2)
        (tmp_path / "objects.csv").mkdir()
        with pytest.raises(ImageError, match=r"objects\.csv cannot be written"):
            write_object_table(tmp_path / "objects.csv", [], "pixel", 2)
        assert [path.name for path in tmp_path.iterdir()] == ["objects.csv"]


def test_thousands_of_objects_on_a_large_image_are_each_found_once():
    array = np.zeros((1024, 1024), np.uint8)
    for row in range(32):
        array[32 * row + 4 : 32 * row + 24, 4:-4] = np.tile(np.repeat([1, 0], [20, 12]), 32)[:1016]
    found = measured(array)
    assert len(found) == 32 * 32
    assert {m.size for m in found} == {400.0}
    assert [m.number for m in found] == list(range(1, 1025))
