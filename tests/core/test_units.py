"""Units of length: their names, and that what is of one physical size is treated alike in whatever unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from stored_in_memory import stored_in_memory

from swipe_core.coordinates import Affine
from swipe_core.data.preprocessing import PreprocessingConfig, preprocess, target_grid
from swipe_core.errors import ImageError
from swipe_core.images import LabelMap, MedicalImage, read_image, read_label_map, write_label_map
from swipe_core.images.stored import open_stored_image
from swipe_core.images.units import METRES, common_unit, conversion, symbol_of, unit_named
from swipe_core.prediction.preparing import PartPreparation

MILLIMETRES = PreprocessingConfig(ndim=3, channels=1, spacing=(3, 1, 1), spacing_unit="mm")
ARRAY = np.zeros((8, 6, 10, 1), np.uint8)
SIZES_IN_MM = (3.0, 0.5, 2.0)
LENGTHS = ("meter", "centimeter", "millimeter", "micrometer", "nanometer", "angstrom", "inch", "picometer")


def image_in(unit: str, sizes_in_mm: tuple[float, ...] = SIZES_IN_MM) -> MedicalImage:
    sizes = [step * conversion("millimeter", unit) for step in sizes_in_mm]
    return MedicalImage(ARRAY, Affine.from_spacing(sizes), unit)


@pytest.mark.parametrize(
    ("spellings", "unit"),
    [
        ("m metre Meters", "meter"),
        ("cm centimetres CM", "centimeter"),
        ("mm millimetre", "millimeter"),
        ("um micron Microns \N{MICRO SIGN}m \N{GREEK SMALL LETTER MU}m \\u00B5m micrometre", "micrometer"),
        ("nm nanometers", "nanometer"),
        ("\N{ANGSTROM SIGN} \\u00C5 A Angstroms angstrom", "angstrom"),
        ("in inch inches Inch", "inch"),
        ("pm", "picometer"),
        ("Mm", "megameter"),
        ("dm", "decimeter"),
        ("pixel pixels px voxel s second furlong", "pixel"),
    ],
)
def test_a_unit_is_known_by_all_usual_spellings(spellings, unit):
    assert {unit_named(name) for name in spellings.split()} == {unit}


def test_no_name_is_no_unit():
    assert unit_named(None) == unit_named("") == "pixel"


def test_every_unit_is_known_by_its_own_name_and_symbol_and_to_napari():
    import pint

    registry = pint.get_application_registry()
    for unit, metres in METRES.items():
        assert unit_named(unit) == unit_named(symbol_of(unit)) == unit
        assert float(registry.Quantity(1, unit).to("meter").magnitude) == pytest.approx(metres)


def test_conversions_are_exact_decimal_numbers():
    assert conversion("centimeter", "millimeter") == 10
    assert conversion("inch", "millimeter") == 25.4
    assert conversion("angstrom", "nanometer") == 0.1
    assert conversion("pixel", "millimeter") == 1


def test_axes_with_units_of_their_own_come_to_that_of_the_last_one():
    assert common_unit(["micrometer", "nanometer", "millimeter"]) == ("millimeter", (1e-3, 1e-6, 1.0))
    assert common_unit(["pixel", "millimeter", "millimeter"]) == ("pixel", (1.0, 1.0, 1.0))


@pytest.mark.parametrize("unit", LENGTHS)
def test_images_of_one_physical_size_come_to_one_lattice_in_whatever_unit(unit):
    grid = target_grid(image_in(unit), MILLIMETRES)
    assert grid.shape == (8, 3, 20)
    np.testing.assert_allclose(np.array(grid.spacing) * conversion(unit, "millimeter"), (3, 1, 1))


@pytest.mark.parametrize("unit", ["meter", "micrometer"])
def test_whole_images_and_parts_of_them_come_to_one_lattice(unit):
    image = image_in(unit)
    assert PartPreparation(stored_in_memory(image), MILLIMETRES).grid.shape == (8, 3, 20)
    assert preprocess(image, MILLIMETRES).shape == (8, 3, 20)


@pytest.mark.parametrize("unit", ["meter", "millimeter", "micrometer"])
def test_a_model_that_does_not_state_its_unit_takes_the_usual_one_that_is_near(unit):
    clinical = MILLIMETRES.model_copy(update={"spacing_unit": None})
    assert target_grid(image_in(unit), clinical).shape == (8, 3, 20)
    cells = PreprocessingConfig(ndim=3, channels=1, spacing=(0.4, 0.4, 0.4))
    assert target_grid(image_in(unit, (0.4e-3, 0.2e-3, 0.2e-3)), cells).shape == (8, 3, 5)


def test_an_image_without_a_unit_is_refused_by_a_model_of_a_physical_spacing_in_one_sentence():
    image = replace(image_in("millimeter"), unit="pixel")
    with pytest.raises(ImageError) as error:
        preprocess(image, MILLIMETRES)
    assert "does not state how large its voxels are" in str(error.value)
    assert "3 x 1 x 1 mm" in str(error.value)


def test_a_model_of_images_without_a_unit_knows_voxels_alone():
    halved = PreprocessingConfig(ndim=3, channels=1, spacing=(1, 2, 2), spacing_unit="pixel")
    assert target_grid(image_in("micrometer"), halved).shape == (8, 3, 5)
    own_scale = MedicalImage(ARRAY, Affine.from_spacing((1, 0.5, 4)), "pixel")
    assert target_grid(own_scale, halved).shape == (8, 2, 20)


def test_the_unit_of_a_spacing_is_a_length_under_any_name():
    assert MILLIMETRES.spacing_unit == "millimeter"
    with pytest.raises(ValidationError, match="a unit of length, such as millimeter"):
        PreprocessingConfig(ndim=2, channels=1, spacing=(1, 1), spacing_unit="parrots")


# --- Files ---------------------------------------------------------------------------------------

VOXELS = np.zeros((4, 6, 8), np.uint8)
OME_SPELLINGS = {"micrometer": "\N{MICRO SIGN}m", "angstrom": "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}"}


def read(path: Path) -> tuple[tuple[float, ...], str]:
    """Spacing and unit; where the image can be read part by part, its parts have them too."""
    image, stored = read_image(path), open_stored_image(path)
    assert (stored.spacing, stored.unit) == (image.spacing, image.unit)
    return tuple(float(f"{step:.6g}") for step in image.spacing), image.unit


def imagej(path: Path, resolution: tuple[float, float], **metadata: str | float) -> Path:
    metadata = {"axes": "ZYX"[-VOXELS.ndim :], **metadata}
    tifffile.imwrite(path, VOXELS, imagej=True, resolution=resolution, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("unit", "found"),
    [
        ("micron", "micrometer"),
        ("um", "micrometer"),
        ("\\u00B5m", "micrometer"),
        ("mm", "millimeter"),
        ("cm", "centimeter"),
        ("m", "meter"),
        ("nm", "nanometer"),
        ("pm", "picometer"),
        ("inch", "inch"),
        ("\\u00C5", "angstrom"),
        ("pixel", "pixel"),
        ("parsnip", "pixel"),
    ],
)
def test_imagej_states_one_unit_for_all_axes(tmp_path, unit, found):
    assert read(imagej(tmp_path / "a.tif", (4, 2), spacing=3, unit=unit)) == ((3, 0.5, 0.25), found)


def test_imagej_states_units_of_single_axes_that_differ(tmp_path):
    path = imagej(tmp_path / "a.tif", (4, 2), spacing=3, unit="mm", yunit="um", zunit="nm")
    assert read(path) == ((3e-6, 0.5e-3, 0.25), "millimeter")
    path = imagej(tmp_path / "b.tif", (4, 2), spacing=3, unit="micron", zunit="mm")
    assert read(path) == ((3000, 0.5, 0.25), "micrometer")


def test_the_72_pixels_per_inch_of_a_screen_are_no_size(tmp_path):
    assert read(imagej(tmp_path / "a.tif", (72, 72), unit="inch")) == ((1, 1, 1), "pixel")


@pytest.mark.parametrize("unit", METRES)
def test_ome_tiff_states_every_unit_of_length(tmp_path, unit):
    symbol = OME_SPELLINGS.get(unit, symbol_of(unit))
    sizes = {f"PhysicalSize{axis}": step for axis, step in zip("ZYX", (3, 0.5, 0.25), strict=True)}
    metadata = {"axes": "ZYX"} | sizes | {f"{name}Unit": symbol for name in sizes}
    tifffile.imwrite(tmp_path / "a.ome.tif", VOXELS, ome=True, metadata=metadata)
    assert read(tmp_path / "a.ome.tif") == ((3, 0.5, 0.25), unit)


@pytest.mark.parametrize(
    ("units", "found"),
    [
        (("mm", "nm", "um"), ((3000, 0.5e-3, 0.25), "micrometer")),
        ((None, "um", "um"), ((3, 0.5, 0.25), "micrometer")),
        ((None, None, None), ((3, 0.5, 0.25), "micrometer")),  # as OME has it by default
        (("pixel", "um", "um"), ((3, 0.5, 0.25), "pixel")),
        (("reference frame",) * 3, ((3, 0.5, 0.25), "pixel")),
    ],
)
def test_ome_tiff_states_a_unit_for_each_axis(tmp_path, units, found):
    metadata: dict[str, str | float] = {"axes": "ZYX"}
    for axis, step, unit in zip("ZYX", (3, 0.5, 0.25), units, strict=True):
        metadata[f"PhysicalSize{axis}"] = step
        if unit is not None:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(tmp_path / "a.ome.tif", VOXELS, ome=True, metadata=metadata)
    assert read(tmp_path / "a.ome.tif") == found


@pytest.mark.parametrize(
    ("units", "found"),
    [
        (("micrometer", "nanometer", "millimeter"), ((6e-3, 1e-6, 0.5), "millimeter")),
        (("angstrom",) * 3, ((6, 1, 0.5), "angstrom")),
        ((None, "micrometer", "micrometer"), ((6, 1, 0.5), "pixel")),
    ],
)
def test_ome_zarr_states_a_unit_for_each_axis_and_scales_of_a_level_and_of_all(tmp_path, units, found):
    zarr = pytest.importorskip("zarr")
    axes = [
        {"name": name, "type": "space"} | ({"unit": unit} if unit else {})
        for name, unit in zip("zyx", units, strict=True)
    ]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [3, 0.5, 0.25]}]}
    multiscale = {
        "axes": axes,
        "datasets": [level],
        "coordinateTransformations": [{"type": "scale", "scale": [2, 2, 2]}],
    }
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=VOXELS)
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [multiscale]}})
    image = open_stored_image(tmp_path / "a.ome.zarr")
    assert (tuple(float(f"{step:.6g}") for step in image.spacing), image.unit) == found


@pytest.mark.parametrize("unit", [*LENGTHS, "kilometer", "foot", "pixel"])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.nii.gz"])
def test_lengths_that_are_written_are_read_as_they_were(tmp_path, unit, name):
    """Formats that do not know a unit have the same length in another one."""
    shape = (3, 4, 5)
    label_map = LabelMap(np.ones(shape, np.uint8), Affine.from_spacing((3.0, 0.5, 0.25)), unit)
    write_label_map(tmp_path / name, label_map)
    again = read_label_map(tmp_path / name)
    assert (again.unit == "pixel") == (unit == "pixel")
    lengths = np.array(again.spacing) * conversion(again.unit, unit)
    np.testing.assert_allclose(lengths, (3, 0.5, 0.25), rtol=1e-6)


def test_distances_of_cases_in_different_units_are_in_the_unit_of_the_first():
    """A mean of millimetres and micrometres would mean nothing."""
    from swipe_core.data.labelled import LabelledImage
    from swipe_core.evaluation.evaluate import _scored

    reference, predicted = np.zeros((2, 8, 10), np.uint8)
    reference[2:5, 3:6], predicted[2:5, 3:8] = 1, 1
    found = []
    for unit in ("millimeter", "micrometer", "meter"):
        steps = [step * conversion("millimeter", unit) for step in (1.0, 0.5)]
        image = MedicalImage(np.zeros((8, 10, 1)), Affine.from_spacing(steps), unit)
        labelled = LabelledImage("a", image, LabelMap(reference, image.affine, unit))
        found.append(_scored(labelled, predicted, image.grid, "millimeter", {"disc": 1}, 0.75, None))
    assert {scores.unit for scores in found} == {"millimeter"}
    for scores in found:
        assert scores.classes["disc"].hausdorff_95 == pytest.approx(found[0].classes["disc"].hausdorff_95)
        assert scores.classes["disc"].surface_dice == pytest.approx(found[0].classes["disc"].surface_dice)
    assert 0 < found[0].classes["disc"].hausdorff_95 <= 1
