"""Units of length: their names, and that what is of one physical size is treated alike in whatever unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage
from swipe_core.images.stored import StoredImage
from swipe_core.images.units import METRES, common_unit, conversion, symbol_of, unit_named
from swipe_core.prediction.preparing import PartPreparation
from swipe_core.preprocessing import PreprocessingConfig, preprocess, target_grid

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
    assert PartPreparation(StoredImage.of(image), MILLIMETRES).grid.shape == (8, 3, 20)
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
