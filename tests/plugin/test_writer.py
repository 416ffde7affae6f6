"""Saved labels open again where they were, whatever the layer's transform."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import napari.utils.notifications
import numpy as np
import pytest
import tifffile
from napari.layers import Labels

from napari_swipe import _writer
from napari_swipe._writer import write_labels
from napari_swipe.layers.data import image_layer_data
from swipe_core.errors import ImageError
from swipe_core.images import read_image, read_label_map

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 5, (4, 5, 6)).astype(np.uint8)
PICTURE = RNG.integers(0, 5, (5, 6)).astype(np.uint8)
TURN = np.array(
    [[1, 0, 0, 5.0], [0, np.cos(0.4), -np.sin(0.4), 0], [0, np.sin(0.4), np.cos(0.4), -7.5], [0, 0, 0, 1]]
)
# Every part of a transform that napari knows, at once.
OBLIQUE: dict[str, Any] = {
    "scale": (3.0, 0.5, 0.75),
    "translate": (10.0, -20.0, 30.0),
    "rotate": [[np.cos(0.3), 0, np.sin(0.3)], [0, 1, 0], [-np.sin(0.3), 0, np.cos(0.3)]],
    "shear": (0.1, 0.0, 0.2),
    "affine": TURN,
    "units": ("millimeter",) * 3,
    "axis_labels": ("z", "y", "x"),
}
# napari shows a slice of a tilted volume along the volume's own axes, and says so.
TILTED = "ignore:Non-orthogonal slicing:UserWarning"


@contextmanager
def told() -> Iterator[list[str]]:
    """The warnings that a user sees meanwhile."""
    messages: list[str] = []

    def keep(notification: Any) -> None:
        messages.append(notification.message)

    manager = napari.utils.notifications.notification_manager
    manager.notification_ready.connect(keep)
    try:
        yield messages
    finally:
        manager.notification_ready.disconnect(keep)


def write(path: Any, layer: Labels) -> list[str]:
    data, attributes, _ = layer.as_layer_data_tuple()
    return write_labels(str(path), data, attributes)


def world_of(layer: Labels, index: tuple[float, ...]) -> np.ndarray:
    return np.asarray(layer.data_to_world(index))


class TestRoundTrips:
    @pytest.mark.filterwarnings(TILTED)
    @pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
    def test_nifti_keeps_any_transform_through_the_viewer(self, tmp_path, suffix, make_napari_viewer):
        viewer = make_napari_viewer()
        layer = viewer.add_labels(VOLUME, **OBLIQUE)
        path = str(tmp_path / f"a{suffix}")
        assert layer.save(path, plugin="napari-swipe") == [path]
        (again,) = viewer.open(path, plugin="napari-swipe")
        assert isinstance(again, Labels)
        np.testing.assert_array_equal(again.data, VOLUME)
        for index in [(0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5), (2, 1, 3)]:
            np.testing.assert_allclose(world_of(again, index), world_of(layer, index), atol=1e-4)
        assert [str(unit) for unit in again.units] == ["millimeter"] * 3

    @pytest.mark.parametrize("suffix", [".tif", ".tiff"])
    def test_tiff_keeps_an_anisotropic_spacing_and_its_unit(self, tmp_path, suffix, make_napari_viewer):
        viewer = make_napari_viewer()
        layer = viewer.add_labels(VOLUME, scale=(3.0, 0.5, 0.75), units=("micrometer",) * 3)
        path = str(tmp_path / f"a{suffix}")
        with told() as messages:
            assert layer.save(path, plugin="napari-swipe") == [path]
        again = read_label_map(path)
        assert np.array_equal(again.array, VOLUME)
        assert again.unit == "micrometer"
        index = np.array([3.0, 2.0, 5.0])
        np.testing.assert_allclose(again.affine.apply(index), world_of(layer, (3, 2, 5)))
        assert messages == []

    @pytest.mark.parametrize("suffix", [".nii.gz", ".tif"])
    def test_a_picture_stays_a_picture(self, tmp_path, suffix):
        write(tmp_path / f"a{suffix}", Labels(PICTURE, scale=(0.5, 0.25), units=("mm", "mm")))
        again = read_label_map(tmp_path / f"a{suffix}")
        assert np.array_equal(again.array, PICTURE)
        assert (again.spacing, again.unit) == ((0.5, 0.25), "millimeter")

    def test_without_an_ending_it_becomes_nifti(self, tmp_path, make_napari_viewer):
        layer = make_napari_viewer().add_labels(VOLUME)
        (path,) = layer.save(str(tmp_path / "a"), plugin="napari-swipe")
        assert path == str(tmp_path / "a.nii.gz")
        assert np.array_equal(read_label_map(path).array, VOLUME)

    def test_labels_of_any_integer_type_and_of_true_and_false_are_written(self, tmp_path):
        for dtype in (np.int8, np.int64, np.uint32):
            write(tmp_path / "a.nii", Labels(VOLUME.astype(dtype)))
            assert np.array_equal(read_label_map(tmp_path / "a.nii").array, VOLUME)
        write_labels(str(tmp_path / "b.tif"), PICTURE > 2, {})
        assert np.array_equal(read_label_map(tmp_path / "b.tif").array, PICTURE > 2)

    def test_lazy_arrays_are_written(self, tmp_path):
        import dask.array

        write(tmp_path / "a.nii", Labels(dask.array.from_array(VOLUME, chunks=2)))
        assert np.array_equal(read_label_map(tmp_path / "a.nii").array, VOLUME)


class TestUnits:
    @pytest.mark.parametrize(
        ("units", "unit", "spacing"),
        [
            (("millimeter", "micrometer", "micrometer"), "micrometer", (2000, 2, 2)),
            (("inch", "inch", "inch"), "centimeter", (5.08, 5.08, 5.08)),
            (("pixel", "micrometer", "micrometer"), "pixel", (2, 2, 2)),
            (("second", "micrometer", "micrometer"), "pixel", (2, 2, 2)),
        ],
    )
    def test_axes_of_different_units_are_brought_to_one(self, tmp_path, units, unit, spacing):
        write(tmp_path / "a.tif", Labels(VOLUME, scale=(2, 2, 2), units=units))
        again = read_label_map(tmp_path / "a.tif")
        assert again.unit == unit
        assert again.spacing == pytest.approx(spacing)

    def test_an_origin_is_converted_too(self, tmp_path):
        layer = Labels(VOLUME, translate=(1, 20, 30), units=("cm", "mm", "mm"))
        write(tmp_path / "a.nii", layer)
        assert read_label_map(tmp_path / "a.nii").affine.origin.tolist() == [10, 20, 30]


class TestFrames:
    STACK = RNG.integers(0, 5, (3, 5, 6)).astype(np.uint8)

    @pytest.mark.parametrize("name", ["time", "T", "frame", "channel"])
    def test_a_stack_of_pictures_is_one_in_tiff_too(self, tmp_path, name):
        layer = Labels(
            self.STACK, axis_labels=(name, "y", "x"), scale=(7, 0.5, 0.25), units=("s", "um", "um")
        )
        with told() as messages:
            write(tmp_path / "a.tif", layer)
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert tiff.series[0].axes == "TYX"
        again = read_label_map(tmp_path / "a.tif")
        assert np.array_equal(again.array, self.STACK)
        assert (again.spacing, again.unit) == ((1, 0.5, 0.25), "micrometer")
        assert messages == []

    def test_a_stack_is_not_taken_for_a_volume_by_nifti(self, tmp_path):
        with pytest.raises(ImageError, match=r"stack of pictures; name it \.tif"):
            write(tmp_path / "a.nii.gz", Labels(self.STACK, axis_labels=("t", "y", "x")))
        assert list(tmp_path.iterdir()) == []

    def test_a_first_axis_without_a_name_is_depth(self, tmp_path):
        write(tmp_path / "a.tif", Labels(self.STACK, scale=(7, 1, 1)))
        assert read_label_map(tmp_path / "a.tif").spacing == (7, 1, 1)

    def test_frames_after_space_come_first(self, tmp_path):
        layer = Labels(self.STACK.transpose(1, 2, 0), axis_labels=("y", "x", "t"), scale=(0.5, 0.25, 7))
        write(tmp_path / "a.tif", layer)
        again = read_label_map(tmp_path / "a.tif")
        assert np.array_equal(again.array, self.STACK)
        assert again.spacing == (1, 0.5, 0.25)

    def test_a_single_frame_is_left_out(self, tmp_path):
        write(tmp_path / "a.nii", Labels(VOLUME[None], scale=(9, 3, 2, 1), translate=(4, 3, 2, 1)))
        again = read_label_map(tmp_path / "a.nii")
        assert np.array_equal(again.array, VOLUME)
        assert (again.spacing, again.affine.origin.tolist()) == ((3, 2, 1), [3, 2, 1])
        write(tmp_path / "b.nii", Labels(PICTURE[None], axis_labels=("channel", "y", "x")))
        assert read_label_map(tmp_path / "b.nii").shape == PICTURE.shape

    def test_more_axes_than_a_file_holds_are_refused_by_name(self, tmp_path):
        layer = Labels(np.zeros((2, 4, 5, 6), np.uint8), name="many", axis_labels=("t", "z", "y", "x"))
        for name in ("a.tif", "a.nii"):
            with pytest.raises(ImageError, match=r"many has the axes t \(2\), z \(4\), y \(5\), x \(6\)"):
                write(tmp_path / name, layer)
        assert list(tmp_path.iterdir()) == []


class TestLosses:
    @pytest.mark.parametrize(
        ("change", "lost"),
        [
            ({"rotate": 30}, "not their orientation;"),
            ({"scale": (-1, 1)}, "not their orientation;"),
            ({"shear": [0.2]}, "not their orientation;"),
            ({"translate": (0, 5)}, "not their origin;"),
            ({"rotate": 30, "translate": (0, 5)}, "not their orientation and origin;"),
        ],
    )
    def test_what_tiff_cannot_hold_is_told_in_a_sentence_and_the_file_is_saved(self, tmp_path, change, lost):
        with told() as messages, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # napari repeats its notifications as warnings
            write(tmp_path / "a.tif", Labels(PICTURE, **change))
        (message,) = messages
        assert lost in message and "a.tif" in message and ".nii.gz" in message and "\n" not in message
        assert np.array_equal(read_label_map(tmp_path / "a.tif").array, PICTURE)

    def test_nifti_loses_nothing(self, tmp_path):
        with told() as messages:
            write(tmp_path / "a.nii", Labels(PICTURE, rotate=30, translate=(0, 5)))
        assert messages == []


class Virtual:
    """A level that must not be read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, *shape: int) -> None:
        self.shape, self.ndim, self.size = shape, len(shape), int(np.prod(shape))

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.zeros((1,) * self.ndim, np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise AssertionError("the whole of a large level was read")


class Decoded(Virtual):
    """A level that is decoded in the background, and can be waited for."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(*array.shape)
        self.array = array

    def decoded(self) -> np.ndarray:
        return self.array


class TestLevels:
    ATTRIBUTES: dict[str, Any] = {"multiscale": True, "scale": (0.25, 0.5), "translate": (-3.0, 7.0)}

    def levels(self) -> list[np.ndarray]:
        coarse = RNG.integers(0, 5, (4, 6)).astype(np.uint8)
        return [np.kron(coarse, np.ones((2**k, 2**k), np.uint8)) for k in (2, 1, 0)]

    def test_the_finest_level_is_written_as_it_is(self, tmp_path):
        levels = self.levels()
        write_labels(str(tmp_path / "a.nii"), levels, self.ATTRIBUTES)
        again = read_label_map(tmp_path / "a.nii")
        assert np.array_equal(again.array, levels[0])
        assert (again.spacing, again.affine.origin.tolist()) == ((0.25, 0.5), [-3, 7])

    @pytest.mark.parametrize("level", [0, 1, 2])
    def test_the_level_of_the_image_covers_the_same_extent(self, tmp_path, level):
        levels = self.levels()
        attributes = self.ATTRIBUTES | {"metadata": {"swipe_base_level": level}}
        write_labels(str(tmp_path / "a.nii"), levels, attributes)
        again = read_label_map(tmp_path / "a.nii")
        assert np.array_equal(again.array, levels[level])
        factor = 2.0**level
        for index in [np.array([0.0, 0.0]), np.array([2.0, 3.0])]:
            finest = (index + 0.5) * factor - 0.5
            expected = finest * (0.25, 0.5) + (-3.0, 7.0)
            np.testing.assert_allclose(again.affine.apply(index), expected)

    def test_a_finest_level_that_is_too_large_gives_way_to_the_next_and_this_is_told(self, tmp_path):
        levels = [Virtual(2**15, 2**15), Virtual(2**14, 2**14), PICTURE]
        with told() as messages, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as above
            write_labels(str(tmp_path / "a.nii"), levels, {"multiscale": True})
        assert np.array_equal(read_label_map(tmp_path / "a.nii").array, PICTURE)
        (message,) = messages
        assert "finest level is too large" in message and f"{2**15 / 5:g} x {2**15 / 6:g}" in message

    def test_the_level_of_the_image_is_written_even_beside_a_huge_one_without_a_warning(self, tmp_path):
        levels = [Virtual(2**20, 2**20), PICTURE]
        with told() as messages:
            attributes = {"multiscale": True, "metadata": {"swipe_base_level": 1}}
            write_labels(str(tmp_path / "a.nii"), levels, attributes)
        assert np.array_equal(read_label_map(tmp_path / "a.nii").array, PICTURE)
        assert messages == []

    def test_a_level_that_is_decoded_in_the_background_is_waited_for(self, tmp_path):
        write_labels(str(tmp_path / "a.nii"), [Decoded(PICTURE)], {"multiscale": True})
        assert np.array_equal(read_label_map(tmp_path / "a.nii").array, PICTURE)

    def test_a_layer_of_one_resolution_is_written_whatever_its_size(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_writer, "LARGEST_LEVEL", 4)
        write(tmp_path / "a.nii", Labels(PICTURE))
        assert np.array_equal(read_label_map(tmp_path / "a.nii").array, PICTURE)

    def test_a_multiscale_layer_is_saved_through_napari(self, tmp_path, make_napari_viewer):
        levels = self.levels()
        layer = make_napari_viewer().add_labels(
            levels, multiscale=True, scale=(0.25, 0.5), metadata={"swipe_base_level": 1}
        )
        layer.save(str(tmp_path / "a.nii.gz"), plugin="napari-swipe")
        again = read_label_map(tmp_path / "a.nii.gz")
        assert np.array_equal(again.array, levels[1])
        assert again.spacing == (0.5, 1.0)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ImageError, match="folder does not exist"):
        write(tmp_path / "missing" / "a.nii", Labels(PICTURE))


def test_labels_of_a_nifti_layer_are_saved_with_both_forms_of_its_header(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nifti = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    nifti.set_qform(np.diag([2.0, 2.0, 2.0, 1.0]), 1)
    moved = nifti.affine.copy()
    moved[:3, 3] = 10, -5, 3
    nifti.set_sform(moved, 2)
    nifti.to_filename(tmp_path / "image.nii")
    data, arguments, _ = image_layer_data(read_image(tmp_path / "image.nii"))
    labels = Labels(np.ones_like(data, np.uint8), **{k: v for k, v in arguments.items() if k != "rgb"})
    write(tmp_path / "labels.nii", labels)
    saved = nibabel.load(tmp_path / "labels.nii")
    np.testing.assert_allclose(saved.get_sform(), moved)
    np.testing.assert_allclose(saved.get_qform(), np.diag([2.0, 2.0, 2.0, 1.0]))
    assert (int(saved.header["sform_code"]), int(saved.header["qform_code"])) == (2, 1)
