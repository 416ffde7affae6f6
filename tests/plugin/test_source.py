"""A layer's images lie in the world where the layer lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Image, Labels
from PIL import Image as Photograph

from napari_swipe.annotate.pair import check_labels
from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.source import LayerSource, Region
from swipe_core.coordinates import Grid
from swipe_core.errors import ImageError
from swipe_core.images.channels import Channels

# napari shows a slice of a tilted volume along the volume's own axes, and says so.
TILTED = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
TRANSFORM = {"scale": (2.0, 0.5, 0.7), "translate": (10.0, -3.0, 4.0), "rotate": (20.0, 30.0, -10.0)}


def source_of(array: np.ndarray, roles: str, **arguments) -> LayerSource:
    names = {"s": "space", "c": "channel", "f": "frame"}
    rgb = bool(arguments.get("rgb", False))
    axes = AxisRoles(tuple(names[letter] for letter in roles), rgb)
    return LayerSource.from_layer(Image(array, **arguments), axes)


@TILTED
def test_every_transform_of_the_layer_is_in_the_affine():
    layer = Image(np.zeros((4, 5, 6)), **TRANSFORM)
    source = LayerSource.from_layer(layer, AxisRoles(("space",) * 3))
    points = np.array([[0.0, 0.0, 0.0], [3.0, 1.5, 2.25]])
    world = [layer.data_to_world(point) for point in points]
    np.testing.assert_allclose(source.image().affine.apply(points), world, atol=1e-6)


def test_channels_are_moved_to_the_end():
    array = np.random.default_rng(0).random((3, 4, 5))
    image = source_of(array, "css").image()
    np.testing.assert_array_equal(image.array, np.moveaxis(array, 0, -1))
    assert source_of(array, "css").channel_kinds == Channels(3, "channel")


def test_the_colours_of_an_rgb_layer_are_declared_and_those_that_are_chosen_are_given():
    array = np.random.default_rng(0).random((4, 5, 3))
    source = source_of(array, "ss", rgb=True)
    assert source.image().channel_kinds == Channels(3, "colour")
    green = replace(source, chosen=(1,)).image()
    np.testing.assert_array_equal(green.array, array[..., 1:2])


def test_channels_that_are_chosen_come_in_their_order_with_their_names():
    array = np.random.default_rng(0).random((4, 5, 6))
    source = source_of(array, "css", metadata={"swipe_channels": ("a", "b", "c", "d")})
    image = replace(source, chosen=(3, 1)).image()
    np.testing.assert_array_equal(image.array, np.moveaxis(array[[3, 1]], 0, -1))
    assert image.channel_names == ("d", "b")


def test_an_alpha_channel_is_left_out():
    image = source_of(np.zeros((4, 5, 4), np.uint8), "ss", rgb=True).image()
    assert image.array.shape == (4, 5, 3)


def test_frames_are_taken_one_by_one():
    array = np.random.default_rng(0).random((3, 4, 5))
    source = source_of(array, "fss")
    assert source.frames == [(0,), (1,), (2,)]
    np.testing.assert_array_equal(source.image((1,)).array[..., 0], array[1])


@TILTED
def test_a_region_keeps_its_place_in_the_world():
    source = source_of(np.random.default_rng(0).random((6, 7, 8)), "sss", **TRANSFORM)
    part = source.cropped(Region((1, 2, 3), (4, 6, 8)))
    assert part.image().shape == part.spatial_shape == (3, 4, 5)
    np.testing.assert_array_equal(part.image().array, source.image().array[1:4, 2:6, 3:8])
    np.testing.assert_allclose(
        part.image().affine.origin, source.image().affine.apply(np.array([[1.0, 2, 3]]))[0]
    )


def test_a_region_is_the_voxels_around_points_within_the_image():
    found = Region.around(np.array([[-3.0, 2.4], [1.6, 99.0]]), (5, 10))
    assert found == Region((0, 2), (3, 10))
    with pytest.raises(ImageError, match="does not meet the image"):
        Region.around(np.array([[20.0, 0.0], [30.0, 5.0]]), (5, 10))


@TILTED
def test_a_transform_that_mixes_space_and_frames_is_refused():
    with pytest.raises(ImageError, match="rotated or sheared"):
        source_of(np.zeros((4, 5, 6)), "fss", rotate=(20.0, 30.0, -10.0)).image((0,))


def test_labels_lie_over_the_layer_without_its_leading_channels():
    source = source_of(np.zeros((3, 4, 5)), "css", scale=(1.0, 2.0, 0.5), translate=(0.0, 7.0, 8.0))
    axes = OutputAxes.of(source)
    grid = Grid((4, 5), source.image().affine)
    assert axes.shape(grid.shape) == (4, 5)
    np.testing.assert_allclose(axes.matrix(grid), [[2, 0, 7], [0, 0.5, 8], [0, 0, 1]])


def test_labels_span_all_channels_that_are_not_the_first_axis():
    source = source_of(np.zeros((2, 3, 4, 5)), "fcss", scale=(1.0, 2.0, 1.0, 1.0))
    axes = OutputAxes.of(source)
    grid = Grid((4, 5), source.image((0,)).affine)
    assert axes.shape(grid.shape) == (2, 1, 4, 5)
    to_world = axes.matrix(grid)
    # One voxel from the first channel's near border to the last one's far border.
    borders = [(to_world @ [0, at, 0, 0, 1])[1] for at in (-0.5, 0.5)]
    np.testing.assert_allclose(borders, [-1.0, 5.0])


@pytest.mark.parametrize(("sizes", "count"), [((20, 16, 12), 3), ((20,), 1)])
def test_pictures_that_a_file_holds_besides_the_one_in_the_layer_are_told(tmp_path, sizes, count):
    import tifffile

    from napari_swipe.segment.job import other_pictures

    with tifffile.TiffWriter(tmp_path / "sizes.tif") as tiff:
        for size in sizes:
            tiff.write(np.zeros((size, size), np.uint8), metadata=None)
    layer = Image(np.zeros((20, 20)), metadata={"path": str(tmp_path / "sizes.tif")})
    source = LayerSource.from_layer(layer, AxisRoles(("space",) * 2))
    told = [notice.message for notice in other_pictures(source)]
    assert [f"sizes.tif holds {count} pictures" in message for message in told] == [True] * (count > 1)


MIXED = {"scale": (2000.0, 0.5, 0.25), "translate": (1000.0, 2.0, 3.0), "units": ("um", "mm", "mm")}


def test_axes_of_different_units_are_brought_to_one_for_the_image_and_back_for_labels():
    source = source_of(np.zeros((4, 5, 6)), "sss", **MIXED)
    image = source.image()
    assert (image.unit, source.unit) == ("millimeter", "millimeter")
    np.testing.assert_allclose(image.spacing, (2.0, 0.5, 0.25))
    np.testing.assert_allclose(image.affine.origin, (1.0, 2.0, 3.0))
    axes = OutputAxes.of(source)
    np.testing.assert_allclose(axes.matrix(image.grid), source.matrix)
    finer = axes.arguments(image.grid.scaled(2))
    assert finer["units"] == ("micrometer", "millimeter", "millimeter")
    np.testing.assert_allclose(finer["scale"], (1000.0, 0.25, 0.125))


def test_frames_in_seconds_are_of_no_unit_of_length():
    source = source_of(np.zeros((4, 5, 6)), "fss", scale=(7.0, 500.0, 0.5), units=("s", "nm", "um"))
    image = source.image((1,))
    assert image.unit == "micrometer"
    np.testing.assert_allclose(image.spacing, (0.5, 0.5))


def test_space_of_which_one_axis_has_no_unit_is_in_pixels():
    source = source_of(np.zeros((4, 5, 6)), "sss", scale=(3.0, 0.5, 0.5), units=("pixel", "um", "um"))
    assert source.image().unit == "pixel"
    np.testing.assert_allclose(source.image().spacing, (3.0, 0.5, 0.5))


@pytest.mark.parametrize("matrix", [np.diag([1.0, 0.0, 1.0]), np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])])
def test_a_layer_without_an_extent_is_refused_in_a_sentence(matrix):
    layer = Image(np.zeros((4, 5)), name="flat")
    source = replace(LayerSource.from_layer(layer, AxisRoles(("space", "space"))), matrix=matrix)
    with pytest.raises(ImageError, match="flat has no extent along some axis: set its scale"):
        source.check(2)


@pytest.mark.parametrize("orientation", [1, 6])
def test_labels_that_lie_the_other_way_than_a_photograph_are_explained(tmp_path, orientation):
    exif = Photograph.Exif()
    exif[0x0112] = orientation
    Photograph.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    source = source_of(np.zeros((4, 5), np.uint8), "ss", metadata={"path": str(tmp_path / "a.jpg")})
    with pytest.raises(ImageError) as refused:
        check_labels(Labels(np.zeros((5, 4), np.uint8)), source)
    assert ("EXIF data turn this photograph" in str(refused.value)) == (orientation == 6)
