"""Labels lie over their NIfTI image for every program, whichever of the header's two forms it takes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from swipe_core.coordinates import Affine, Grid
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import DataError, ImageError
from swipe_core.images import LabelMap, MedicalImage, read_image, read_label_map, write_image, write_label_map
from swipe_core.images.medical_image import ScalarMap
from swipe_core.images.nifti import write_nifti

sitk = pytest.importorskip("SimpleITK")

SHAPE = (6, 7, 8)  # (x, y, z)
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


def matrix_of(linear: np.ndarray, origin: tuple[float, ...]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, origin
    return matrix


SPACING = np.diag([0.5, 1.5, 2.0])
UPRIGHT = matrix_of(SPACING, (-10, 4, 7))
TURNED = matrix_of(TURN @ SPACING, (30, -20, 5))
MIRRORED = matrix_of(SPACING * (-1, 1, 1), (30, -20, 5))
SHEARED = UPRIGHT @ matrix_of(np.eye(3) + np.diag([0.3, 0], 1), (0, 0, 0))
# (sform, code, qform, code)
FORMS = {
    "one place": (TURNED, 1, TURNED, 1),
    "moved by a registration": (TURNED, 2, UPRIGHT, 1),
    "both codes of a scanner": (TURNED, 1, UPRIGHT, 1),
    "in a template": (MIRRORED, 4, TURNED, 2),
    "sform alone": (TURNED, 2, None, 0),
    "qform alone": (None, 0, TURNED, 1),
    "mirrored qform alone": (None, 0, MIRRORED, 1),
    "sheared sform": (SHEARED, 2, UPRIGHT, 1),
    "neither": (None, 0, None, 0),
}


def nifti_of(form: str, array: np.ndarray | None = None) -> nibabel.Nifti1Image:
    sform, sform_code, qform, qform_code = FORMS[form]
    nifti = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16) if array is None else array, None)
    nifti.header.set_zooms(np.diag(SPACING))
    if qform is not None:
        nifti.header.set_qform(qform, qform_code)
    if sform is not None:
        nifti.header.set_sform(sform, sform_code)
    nifti.header["sform_code"], nifti.header["qform_code"] = sform_code, qform_code
    return nifti


def codes(path: Path) -> tuple[int, int]:
    header = nibabel.load(path).header
    return int(header["sform_code"]), int(header["qform_code"])


def corners_by(program: str, path: Path, points: np.ndarray) -> np.ndarray:
    """Where a program sees (x, y, z) voxels of a file."""
    if program == "nibabel":
        return points @ nibabel.load(path).affine[:3, :3].T + nibabel.load(path).affine[:3, 3]
    image = sitk.ReadImage(str(path))
    return np.array([image.TransformContinuousIndexToPhysicalPoint(point.tolist()) for point in points])


POINTS = np.array(list(itertools.product(*((0, n - 1) for n in SHAPE))), float)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", ["as it is", "finer", "a region", "turned"])
def test_nibabel_and_itk_see_labels_where_they_see_the_image(tmp_path, form, change):
    nifti_of(form).to_filename(tmp_path / "image.nii.gz")
    image = read_image(tmp_path / "image.nii.gz")
    grid = {
        "as it is": image.grid,
        "finer": image.grid.scaled(2),
        "a region": image.grid.window((2, 1, 3), (4, 4, 2)),
        "turned": Grid(image.shape[::-1], image.affine @ Affine(np.eye(4)[[2, 1, 0, 3]])),
    }[change]
    label_map = LabelMap(np.ones(grid.shape, np.uint8), grid.affine, image.unit, space=image.space)
    write_label_map(tmp_path / "labels.nii.gz", label_map)

    to_image = (image.affine.inverse() @ grid.affine).matrix[:3]
    in_image = (POINTS[:, ::-1] @ to_image[:, :3].T + to_image[:, 3])[:, ::-1]
    for program in ("nibabel", "itk"):
        found = corners_by(program, tmp_path / "labels.nii.gz", POINTS)
        wanted = corners_by(program, tmp_path / "image.nii.gz", in_image)
        np.testing.assert_allclose(found, wanted, atol=1e-4, err_msg=program)
    if form != "neither" or change == "as it is":
        assert codes(tmp_path / "labels.nii.gz") == codes(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("form", FORMS)
def test_images_and_maps_are_written_with_the_forms_too(tmp_path, form):
    nifti_of(form).to_filename(tmp_path / "image.nii.gz")
    image = read_image(tmp_path / "image.nii.gz")
    write_image(tmp_path / "copy.nii.gz", image)
    values = np.zeros(image.shape, np.float32)
    write_nifti(
        tmp_path / "map.nii.gz", ScalarMap(values, image.affine, image.unit, "map", space=image.space)
    )
    for name in ("copy", "map"):
        assert codes(tmp_path / f"{name}.nii.gz") == codes(tmp_path / "image.nii.gz")
        for program in ("nibabel", "itk"):
            found, wanted = (corners_by(program, tmp_path / f"{n}.nii.gz", POINTS) for n in (name, "image"))
            np.testing.assert_allclose(found, wanted, atol=1e-4)
    again = read_image(tmp_path / "copy.nii.gz")
    assert again.space.is_anatomical == image.space.is_anatomical == (form != "neither")
    np.testing.assert_allclose(again.affine.matrix, image.affine.matrix, atol=1e-4)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_unit_of_labels_is_stated_as_that_of_their_image(tmp_path, code):
    nifti = nifti_of("one place")
    nifti.header["xyzt_units"] = code
    nifti.to_filename(tmp_path / "image.nii.gz")
    image = read_image(tmp_path / "image.nii.gz")
    labels = np.ones(image.shape, np.uint8)
    in_mm = Affine.from_spacing([{0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}[code]] * 3) @ image.affine
    for affine, unit in ((image.affine, image.unit), (in_mm, "millimeter")):
        write_label_map(tmp_path / "labels.nii.gz", LabelMap(labels, affine, unit, space=image.space))
        written = nibabel.load(tmp_path / "labels.nii.gz")
        assert int(written.header["xyzt_units"]) == code
        np.testing.assert_allclose(written.affine, TURNED, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_labels_of_a_single_tilted_slice_lie_on_it(tmp_path, ndim):
    """In 2D the image knows its spacing alone."""
    tilted = matrix_of(TURN[[2, 0, 1]] @ SPACING, (5, 6, 7))
    nifti = nibabel.Nifti1Image(np.zeros((6, 7, 1), np.int16), tilted)
    nifti.set_qform(tilted, 1)
    nifti.to_filename(tmp_path / "image.nii.gz")
    image = read_image(tmp_path / "image.nii.gz", ndim=ndim)
    assert not (ndim == 2 and image.space.is_anatomical)
    part = image.window((0, 2, 1)[-ndim:], (1, 5, 4)[-ndim:])
    write_label_map(
        tmp_path / "labels.nii.gz",
        LabelMap(np.ones(part.shape, np.uint8), part.affine, part.unit, space=part.space),
    )
    points = np.array([[0, 0, 0], [3, 4, 0]], float)
    for program in (
        ("nibabel", "itk") if ndim == 3 else ("nibabel",)
    ):  # ITK sees labels of two axes in a plane
        found = corners_by(program, tmp_path / "labels.nii.gz", points)
        wanted = corners_by(program, tmp_path / "image.nii.gz", points + (1, 2, 0))
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_quaternion_that_is_too_long_beside_an_sform_is_taken_as_itk_takes_it(tmp_path):
    nifti = nifti_of("moved by a registration")
    for axis, value in zip("bcd", (0.6, 0.6, 0.56), strict=True):
        nifti.header[f"quatern_{axis}"] = value
    nifti.to_filename(tmp_path / "image.nii")
    image = read_image(tmp_path / "image.nii")
    label_map = LabelMap(np.ones(image.shape, np.uint8), image.affine, image.unit, space=image.space)
    write_label_map(tmp_path / "labels.nii", label_map)
    for program in ("nibabel", "itk"):
        found, wanted = (corners_by(program, tmp_path / f"{n}.nii", POINTS) for n in ("labels", "image"))
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("step", [1e-5, 1e5])
def test_voxels_of_any_size_are_placed(tmp_path, step):
    place = TURNED @ np.diag([step, step, step, 1])
    nifti = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), place)
    nifti.set_qform(place, 1)
    nifti.to_filename(tmp_path / "image.nii")
    image = read_image(tmp_path / "image.nii")
    label_map = LabelMap(np.ones(image.shape, np.uint8), image.affine, image.unit, space=image.space)
    write_label_map(tmp_path / "labels.nii", label_map)
    written = nibabel.load(tmp_path / "labels.nii")
    assert np.array_equal(written.get_sform(), nibabel.load(tmp_path / "image.nii").get_sform())
    np.testing.assert_allclose(
        written.get_qform(), nibabel.load(tmp_path / "image.nii").get_qform(), rtol=1e-6
    )


# --- Labels that others drew ---------------------------------------------------------------------


def pair(folder: Path, form: str, drawn_by: str, shift: float = 0.0) -> Path:
    """An image and labels over it, as a program of nibabel's or of ITK's school writes them."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    nifti_of(form).to_filename(folder / "images/a.nii.gz")
    if drawn_by == "nibabel":
        place = nibabel.load(folder / "images/a.nii.gz").affine.copy()
        place[0, 3] += shift
        nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), place).to_filename(folder / "labels/a.nii.gz")
        return folder
    image = sitk.ReadImage(str(folder / "images/a.nii.gz"))
    labels = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    labels.CopyInformation(image)
    labels.SetOrigin([image.GetOrigin()[0] + shift, *image.GetOrigin()[1:]])
    sitk.WriteImage(labels, str(folder / "labels/a.nii.gz"))
    return folder


@pytest.mark.parametrize("drawn_by", ["nibabel", "itk"])
@pytest.mark.parametrize("form", FORMS)
def test_labels_that_lie_over_the_image_by_one_of_its_forms_are_taken_and_get_its_place(
    tmp_path, form, drawn_by
):
    case = find_cases(pair(tmp_path, form, drawn_by))[0]
    labelled = read_labelled(case, 3, LabelConfig())
    assert labelled.labels.affine == labelled.image.affine
    assert labelled.labels.space is labelled.image.space


@pytest.mark.parametrize("drawn_by", ["nibabel", "itk"])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "neither"])
def test_labels_that_lie_over_the_image_by_none_of_its_forms_are_refused(tmp_path, form, drawn_by):
    case = find_cases(pair(tmp_path, form, drawn_by, shift=4.0))[0]
    with pytest.raises(DataError, match="must lie in the same place"):
        read_labelled(case, 3, LabelConfig())


def test_labels_that_forgot_the_unit_of_their_image_are_taken(tmp_path):
    pair(tmp_path, "one place", "nibabel")
    nifti = nifti_of("one place")
    nifti.header.set_xyzt_units("micron")
    nifti.to_filename(tmp_path / "images/a.nii.gz")
    assert read_labelled(find_cases(tmp_path)[0], 3, LabelConfig()).labels.unit == "micrometer"


# --- Images that are no NIfTI --------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["pixel", "millimeter", "micrometer", "nanometer"])
def test_an_image_without_anatomical_axes_is_read_as_one_again_with_its_unit(tmp_path, unit):
    image = MedicalImage(np.zeros((4, 5, 6, 1), np.uint8), Affine.from_spacing((3.0, 1.0, 2.0)), unit)
    write_image(tmp_path / "a.nii.gz", image)
    write_label_map(tmp_path / "b.nii.gz", LabelMap(image.array[..., 0], image.affine, unit))
    again, labels = read_image(tmp_path / "a.nii.gz"), read_label_map(tmp_path / "b.nii.gz")
    stated = {"nanometer": "micrometer"}.get(unit, unit)
    assert (again.unit, labels.unit, again.space.is_anatomical) == (stated, stated, False)
    np.testing.assert_allclose(again.spacing, np.array((3, 1, 2)) * (1e-3 if unit == "nanometer" else 1))
    once_more = replace(again, path=None)
    write_image(tmp_path / "c.nii.gz", once_more)
    assert read_image(tmp_path / "c.nii.gz").unit == stated


# --- What else NIfTI files hold -------------------------------------------------------------------


def test_scaled_values_are_never_cut_to_whole_numbers(tmp_path):
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32) * 12 - 3
    nifti = nibabel.Nifti1Image(values, UPRIGHT)
    nifti.header.set_data_dtype(np.int16)  # as of PET: stored in whole numbers, with a slope and an intercept
    nifti.to_filename(tmp_path / "pet.nii.gz")
    image = read_image(tmp_path / "pet.nii.gz")
    np.testing.assert_allclose(image.array[..., 0].T, values, atol=2e-4)
    write_image(tmp_path / "copy.nii.gz", image)
    assert np.array_equal(read_image(tmp_path / "copy.nii.gz").array, image.array)


def test_labels_that_are_scaled_are_whole_but_for_a_rounding_or_refused(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    for name, slope in (("thirds", 1 / 3), ("halves", 1 / 2)):
        nifti = nibabel.Nifti1Image(np.full(SHAPE, 3, np.uint8), UPRIGHT, header)
        nifti.to_filename(tmp_path / f"{name}.nii")
        raw = bytearray((tmp_path / f"{name}.nii").read_bytes())
        raw[112:120] = np.array([slope, 0], "<f4").tobytes()  # scl_slope and scl_inter
        (tmp_path / f"{name}.nii").write_bytes(bytes(raw))
    assert np.unique(read_label_map(tmp_path / "thirds.nii").array).tolist() == [1]
    with pytest.raises(ImageError, match="no whole numbers"):
        read_label_map(tmp_path / "halves.nii")


def test_bytes_behind_a_compressed_file_are_no_fault_and_a_wrong_checksum_is(tmp_path):
    array = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    nibabel.Nifti1Image(array, UPRIGHT).to_filename(tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    for behind in (b"\0" * 512, b"junk" * 50):
        (tmp_path / "b.nii.gz").write_bytes(whole + behind)
        assert np.array_equal(read_image(tmp_path / "b.nii.gz").array[..., 0].T, array)
    (tmp_path / "c.nii.gz").write_bytes(whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:])
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "c.nii.gz")
