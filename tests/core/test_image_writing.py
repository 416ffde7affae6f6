"""Images that are written: what is read back is what was written, or the reason why not comes in words."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images import (
    MedicalImage,
    holds_labels,
    read_image,
    write_image,
)

NUMBERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
NIFTI_NUMBERS = (*NUMBERS, "uint64", "int64")
OBLIQUE = np.array(
    [[2.5, 0.5, 0.0, 3.0], [-0.5, 0.75, 0.0, -7.0], [0.0, 0.25, 1.5, 40.0], [0.0, 0.0, 0.0, 1]]
)


def picture(shape: tuple[int, ...], dtype: str = "uint8", affine: Affine | None = None) -> MedicalImage:
    """An image of random numbers from all over their type; the last axis counts the channels."""
    rng = np.random.default_rng(0)
    number = np.dtype(dtype)
    if number.kind == "f":
        array = rng.normal(0, 100, shape).astype(number)
    else:
        limits = np.iinfo(number)
        array = rng.integers(limits.min, limits.max, shape, dtype=number, endpoint=True)
    axis = "colour" if shape[-1] == 3 else "channel"
    return MedicalImage(array, affine or Affine.identity(len(shape) - 1), "pixel", channel_axis=axis)


def reread(path: Path, image: MedicalImage) -> MedicalImage:
    write_image(path, image)
    return read_image(path, ndim=image.ndim)


def assert_same_numbers(read: MedicalImage, written: MedicalImage) -> None:
    assert read.array.dtype == written.array.dtype
    np.testing.assert_array_equal(read.array, written.array)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_a_tiff_keeps_numbers_of_every_type_in_any_number_of_channels(
    tmp_path: Path, dtype: str, channels: int
) -> None:
    image = picture((5, 6, channels), dtype)
    assert_same_numbers(reread(tmp_path / "image.tif", image), image)
    assert_same_numbers(reread(tmp_path / "image.ome.tif", image), image)


@pytest.mark.parametrize("dtype", NIFTI_NUMBERS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_nifti_file_keeps_numbers_of_every_type_in_any_number_of_channels(
    tmp_path: Path, dtype: str, channels: int
) -> None:
    for shape in ((4, 5, 6, channels), (5, 6, channels)):
        image = picture(shape, dtype)
        assert_same_numbers(reread(tmp_path / "image.nii.gz", image), image)


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 1), ("uint8", 3)])
def test_a_png_keeps_grey_and_colour(tmp_path: Path, dtype: str, channels: int) -> None:
    image = picture((5, 6, channels), dtype)
    assert_same_numbers(reread(tmp_path / "image.png", image), image)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 3).flatmap(lambda ndim: st.tuples(*[st.integers(1, 4)] * (ndim + 1))))
def test_shapes_of_single_rows_slices_and_channels_come_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = picture(shape, "uint16")
    path = tmp_path / ("image.tif" if image.ndim == 2 else "image.nii.gz")
    assert_same_numbers(reread(path, image), image)


@pytest.mark.parametrize("unit", ["millimeter", "micrometer", "nanometer", "pixel"])
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint8", 3), ("uint16", 4), ("int16", 2)])
def test_a_tiff_keeps_the_spacing_and_its_unit(tmp_path: Path, unit: str, dtype: str, channels: int) -> None:
    image = picture((5, 6, channels), dtype, Affine.from_spacing((0.3, 1.7)))
    image = MedicalImage(image.array, image.affine, unit)
    read = reread(tmp_path / "image.tif", image)
    assert read.unit == unit
    assert read.spacing == pytest.approx((0.3, 1.7), rel=1e-6)


@pytest.mark.parametrize("unit", ["millimeter", "micrometer", "meter", "pixel"])
def test_a_nifti_file_keeps_the_place_in_the_world_and_its_unit(tmp_path: Path, unit: str) -> None:
    image = picture((3, 4, 5, 2), "int16", Affine(OBLIQUE))
    read = reread(tmp_path / "image.nii.gz", MedicalImage(image.array, image.affine, unit))
    assert read.unit == unit
    np.testing.assert_allclose(read.affine.matrix, OBLIQUE, atol=1e-6)


def test_parts_of_larger_arrays_are_written_as_they_are_seen(tmp_path: Path) -> None:
    whole = picture((8, 9, 10, 4), "int32")
    for path, array in (
        (tmp_path / "image.nii.gz", whole.array[::2, ::-1, 1:7, 1:3]),
        (tmp_path / "image.tif", whole.array[3, ::-1, ::3, ::2]),
    ):
        image = MedicalImage(array, Affine.identity(array.ndim - 1), "pixel")
        assert_same_numbers(reread(path, image), image)


def test_an_image_is_not_taken_for_a_label_map(tmp_path: Path) -> None:
    image = picture((4, 5, 6, 1))
    write_image(tmp_path / "image.nii.gz", image)
    assert not holds_labels(tmp_path / "image.nii.gz")


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("image.png", picture((4, 5, 2)), "not 2D ones of 2 channels of uint8"),
        ("image.png", picture((4, 5, 1), "int16"), "not 2D ones of 1 channel of int16"),
        ("image.png", picture((4, 5, 3), "uint16"), "not 2D ones of 3 colours of uint16"),
        ("image.png", picture((3, 4, 5, 1)), "not 3D ones"),
        ("image.tif", picture((3, 4, 5, 1)), "2D images only; name the file .nii.gz"),
        ("image.tif", MedicalImage(np.ones((4, 5, 1), bool), Affine.identity(2), "pixel"), "not of bool"),
        ("image.tif", picture((4, 5, 1), "int64"), "not of int64"),
        ("image.tif", picture((4, 5, 1), "float16"), "not of float16"),
        ("image.nii.gz", MedicalImage(np.ones((4, 5, 1), bool), Affine.identity(2), "pixel"), "not bool"),
        ("image.nii.gz", picture((3, 4, 5, 1), "float16"), "not float16"),
        ("image.tif", MedicalImage(np.ones((4, 5, 1), complex), Affine.identity(2), "pixel"), "complex128"),
        ("image.jpg", picture((4, 5, 1)), "name it with one of .nii, .nii.gz, .tif"),
        ("missing/image.tif", picture((4, 5, 1)), "its folder does not exist"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_leaves_no_file(
    tmp_path: Path, name: str, image: MedicalImage, message: str
) -> None:
    with pytest.raises(ImageError, match=message) as refusal:
        write_image(tmp_path / name, image)
    assert Path(name).name in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_values_that_could_not_be_read_again_are_refused(tmp_path: Path) -> None:
    array = np.array([[[1.0], [np.nan], [np.inf]]], np.float32)
    with pytest.raises(ImageError, match="2 NaN or infinite values among 3"):
        write_image(tmp_path / "image.tif", MedicalImage(array, Affine.identity(2), "pixel"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "shape", "written_by"),
    [
        ("image.tif", (4, 5, 2), "tifffile.imwrite"),
        ("image.png", (4, 5, 3), "PIL.Image.Image.save"),
        ("image.nii.gz", (3, 4, 5, 1), "nibabel.nifti1.Nifti1Image.to_filename"),
    ],
)
def test_on_a_full_disk_the_older_image_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...], written_by: str
) -> None:
    older = picture(shape)
    write_image(tmp_path / name, older)

    def write_half(*arguments: object, **options: object) -> None:
        path = next(argument for argument in arguments if isinstance(argument, Path))
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(written_by, write_half)
    newer = replace(older, array=older.array + np.uint8(1))
    with pytest.raises(ImageError, match=f"{name} cannot be written: No space left on device"):
        write_image(tmp_path / name, newer)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_same_numbers(read_image(tmp_path / name, ndim=older.ndim), older)
