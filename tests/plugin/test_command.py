"""Whether a layer is what the script reads from its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.data import image_layer_data
from napari_swipe.layers.source import LayerSource, Region
from napari_swipe.segment.command import _difference_from_file
from swipe_core.images import read_image

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.uint8)
MM = {"scale": (0.5, 0.5), "units": ("mm", "mm")}


def reason(
    path: Path, array: np.ndarray, roles: str = "ss", needs_spacing: bool = False, **arguments
) -> str | None:
    layer = Image(array, metadata={"path": str(path)}, name="cells", **arguments)
    kinds = {"s": "space", "f": "frame", "c": "channel"}
    source = LayerSource.from_layer(layer, AxisRoles(tuple(kinds[r] for r in roles), layer.rgb))
    return _difference_from_file(source, needs_spacing)


@pytest.fixture
def picture(tmp_path) -> Path:
    import tifffile

    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, PIXELS[0], imagej=True, resolution=(2, 2), metadata={"axes": "YX", "unit": "mm"})
    return path


@pytest.fixture
def stack(tmp_path) -> Path:
    import tifffile

    tifffile.imwrite(tmp_path / "stack.tif", PIXELS, photometric="minisblack")
    return tmp_path / "stack.tif"


def test_a_picture_as_it_is_in_its_file_with_or_without_its_spacing_has_a_command(picture):
    assert reason(picture, PIXELS[0], **MM) is None
    assert reason(picture, PIXELS[0]) is None  # as napari's own reader opens it
    assert reason(picture, PIXELS[0].astype(float), **MM) is None


def test_a_spacing_that_is_left_out_matters_where_the_result_depends_on_it(picture):
    assert reason(picture, PIXELS[0], needs_spacing=True) == "cells has other units than its file cells.tif"


@pytest.mark.parametrize(
    "array, arguments, words",
    [
        (PIXELS[0, :10], MM, "another shape"),
        (PIXELS[0] // 2, MM, "other data"),
        (PIXELS[0, ::-1], MM, "other data"),
        (PIXELS[0], MM | {"units": ("um", "um")}, "other units"),
        (PIXELS[0], MM | {"scale": (0.25, 0.5)}, "another place or spacing"),
        (PIXELS[0], MM | {"translate": (3, 0)}, "another place or spacing"),
        (PIXELS[0], MM | {"rotate": 30}, "another place or spacing"),
    ],
)
def test_what_napari_can_change_of_a_picture_is_named(picture, array, arguments, words):
    assert reason(picture, array, **arguments) == f"cells has {words} than its file cells.tif"


def test_frames_are_those_of_the_stack_and_one_frame_is_not_the_stack(stack):
    assert reason(stack, PIXELS, "fss") is None
    assert reason(stack, PIXELS[::-1], "fss") == "cells has other data than its file stack.tif"
    assert reason(stack, PIXELS[:2], "fss") == "cells has another shape than its file stack.tif"
    assert reason(stack, PIXELS[1]) is not None


def test_a_volume_from_our_reader_is_its_file_until_it_is_moved(tmp_path):
    nib = pytest.importorskip("nibabel")
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = 7, 8, 9
    nib.save(nib.Nifti1Image(PIXELS.astype(np.int16), affine), tmp_path / "mri.nii.gz")
    array, arguments, _ = image_layer_data(read_image(tmp_path / "mri.nii.gz"))
    layer = Image(array, **arguments)
    axes = AxisRoles(("space",) * 3)
    assert _difference_from_file(LayerSource.from_layer(layer, axes), True) is None
    layer.translate = (0, 0, 5)
    assert "another place or spacing" in str(_difference_from_file(LayerSource.from_layer(layer, axes), True))


def test_a_store_is_compared_where_it_was_segmented(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.open(tmp_path / "large.zarr", mode="w", shape=(20, 24), chunks=(8, 8), dtype="u1")
    array[:] = PIXELS[0]
    path, region = tmp_path / "large.zarr", Region((4, 5), (12, 20))
    source = LayerSource.from_layer(Image(PIXELS[0], metadata={"path": str(path)}), AxisRoles(("space",) * 2))
    assert _difference_from_file(source, False) is None
    assert _difference_from_file(source.cropped(region), False) is None
    array[6, 7] = 255 - PIXELS[0, 6, 7]
    assert "other data" in str(_difference_from_file(source.cropped(region), False))


def test_no_file_and_a_file_that_is_gone_are_told(tmp_path, picture):
    source = LayerSource.from_layer(Image(PIXELS[0], name="cells"), AxisRoles(("space",) * 2))
    assert _difference_from_file(source, False) == "cells came from no file"
    picture.unlink()
    assert "cannot read the file of cells" in str(reason(picture, PIXELS[0]))
