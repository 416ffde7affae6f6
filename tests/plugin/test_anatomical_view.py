"""Volumes of patients: the contrast in which they open, and the planes that a button shows."""

from __future__ import annotations

import numpy as np
import pytest

from napari_swipe.layers.data import SOFT_TISSUE, opening_contrast
from napari_swipe.segment.image_rows import is_anatomical, show_plane
from swipe_core.coordinates import Affine
from swipe_core.images import MedicalImage, Space

nib = pytest.importorskip("nibabel")


def image(array: np.ndarray, *, anatomical: bool = True) -> MedicalImage:
    affine = Affine.from_spacing([1.0] * (array.ndim - 1))
    return MedicalImage(array, affine, "millimeter", space=Space(is_anatomical=anatomical))


def volume(low: float, high: float, dtype: type = np.int16) -> np.ndarray:
    return np.linspace(low, high, 8000).astype(dtype).reshape(20, 20, 20, 1)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_ct_opens_in_the_window_of_soft_tissue(dtype):
    assert opening_contrast(image(volume(-1024, 1300, dtype))) == SOFT_TISSUE


@pytest.mark.parametrize(
    "array, anatomical",
    [(volume(0, 1000), True), (volume(-4096, 4095), True), (volume(-1024, 1300), False)],
    ids=["MR", "phase", "no patient"],
)
def test_other_volumes_open_without_their_darkest_and_brightest_voxels(array, anatomical):
    array.flat[3] = 30_000
    low, high = opening_contrast(image(array, anatomical=anatomical))
    span = np.ptp(array[array < 30_000])
    assert low == pytest.approx(array.min() + 0.005 * span, abs=2)
    assert high == pytest.approx(array.min() + 0.995 * span, abs=2)


def test_bytes_colours_and_constants_are_left_to_napari():
    assert opening_contrast(image(np.zeros((4, 4, 4, 1), np.uint8))) is None
    assert opening_contrast(image(np.zeros((4, 4, 3), np.uint8), anatomical=False)) is None
    assert opening_contrast(image(np.full((4, 4, 4, 1), 7, np.int16))) is None


def test_few_bright_voxels_are_seen_on_nothing():
    array = np.zeros((20, 20, 20, 1), np.uint16)
    array[3, 3, 3] = 900
    assert opening_contrast(image(array)) == (0, 900)


# Where right, front and up are on the screen: rows and columns from the middle of the canvas

SEEN = {
    "Axial": {"right": (0, -1), "front": (-1, 0), "head": (0, 0)},
    "Coronal": {"right": (0, -1), "front": (0, 0), "head": (-1, 0)},
    "Sagittal": {"right": (0, 0), "front": (0, -1), "head": (-1, 0)},
}
SHAPE = (40, 50, 60)
PLACES = {"right": (36, 25, 30), "front": (20, 45, 30), "head": (20, 25, 55)}  # x, y, z in millimetres


@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_the_planes_have_the_patient_s_right_front_and_head_where_radiologists_expect_them(
    viewer, tmp_path, codes
):
    flips = np.array([-1 if code != wanted else 1 for code, wanted in zip(codes, "RAS", strict=True)])
    affine = np.diag([*flips.astype(float), 1.0])
    affine[:3, 3] = np.where(flips > 0, 0, np.array(SHAPE) - 1)
    for name, place in PLACES.items():
        array = np.zeros(SHAPE, np.int16)
        array[tuple(slice(c - 3, c + 3) for c in place)] = 1000
        nib.save(
            nib.Nifti1Image(array[tuple(slice(None, None, flip) for flip in flips)], affine),
            tmp_path / "p.nii",
        )
        viewer.layers.clear()
        (layer,) = viewer.open(str(tmp_path / "p.nii"), plugin="napari-swipe")
        before = np.array(layer.data), layer.affine.affine_matrix.copy()
        assert is_anatomical(layer)
        for plane, seen in SEEN.items():
            show_plane(viewer, plane)
            viewer.dims.point = place[::-1]
            assert middle_of_what_is_bright(viewer) == seen[name], (plane, name)
        np.testing.assert_array_equal(layer.data, before[0])
        np.testing.assert_array_equal(layer.affine.affine_matrix, before[1])


def middle_of_what_is_bright(viewer) -> tuple[int, int]:
    """-1, 0 or 1 for above, on, below the middle of the canvas; and for left, on, right of it."""
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].min(axis=-1)
    rows, columns = np.nonzero(picture > 200)
    offsets = [np.mean(at) / n - 0.5 for at, n in zip((rows, columns), picture.shape, strict=True)]
    return tuple(int(np.sign(offset)) if abs(offset) > 0.05 else 0 for offset in offsets)


def test_3d_after_a_plane_is_no_mirror_image(viewer):
    viewer.add_image(np.zeros((4, 5, 6)))
    show_plane(viewer, "Axial")
    # To the head, to the front, to the right: against the depth, up and the left of the screen.
    assert [str(way) for way in viewer.scene.camera.orientation] == ["away", "up", "left"]


def test_a_leading_axis_of_channels_stays_a_slider(viewer):
    viewer.add_image(np.zeros((2, 4, 5, 6)))
    show_plane(viewer, "Coronal")
    assert tuple(viewer.dims.order) == (0, 2, 1, 3)


def test_views_are_offered_for_volumes_of_patients_alone(viewer, dock):
    form, views = dock.images._form, dock.images.views
    viewer.add_image(np.zeros((4, 5, 6)), name="cells")
    assert not form.isRowVisible(views)
    viewer.open_sample("napari-swipe", "hippocampus")
    assert form.isRowVisible(views)
    views.plane_chosen.emit("Sagittal")
    assert tuple(viewer.dims.order) == (2, 0, 1)


# Docks as tabs


def test_further_docks_open_as_tabs_in_front_of_the_first(viewer, qtbot):
    window = viewer.window._qt_window
    frames = [
        viewer.window.add_plugin_dock_widget("napari-swipe", name)[0]
        for name in ("Segment", "Evaluate", "Train")
    ]
    qtbot.waitUntil(lambda: set(window.tabifiedDockWidgets(frames[0])) == set(frames[1:]))
    assert not frames[2].visibleRegion().isEmpty()
    assert frames[0].visibleRegion().isEmpty()


def test_a_dock_opens_by_itself_where_the_first_floats_or_is_hidden(viewer, qtbot):
    window = viewer.window._qt_window
    first, _ = viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
    qtbot.wait(50)
    first.setFloating(True)
    second, _ = viewer.window.add_plugin_dock_widget("napari-swipe", "Evaluate")
    qtbot.wait(50)
    second.hide()
    third, _ = viewer.window.add_plugin_dock_widget("napari-swipe", "Train")
    qtbot.wait(50)
    assert window.tabifiedDockWidgets(second) == window.tabifiedDockWidgets(third) == []
    assert third.isVisible()
