"""The live layer in a real viewer: what is on the screen is where it should be, and stays alive."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.field import LayerField
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.layer import SLIDER_STEPS, LiveLayer
from napari_swipe.live.levels import plan_levels
from swipe_core.coordinates import Affine, Grid
from swipe_core.progress import finish

PATIENCE = 60_000
RED = {"colormap": {1: "red", None: "transparent", 0: "transparent"}, "opacity": 1.0}

SHAPE = (64, 80)
CENTRE, RADIUS = (31.3, 40.8), 21.7


def turned(angle: float, spacing, origin) -> Affine:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Affine.from_parts(turn @ np.diag(spacing), origin)


PLACES = {
    "as it is": Affine.identity(2),
    "anisotropic": Affine.from_spacing((2.0, 0.5)),
    "turned and moved": turned(0.5, (0.7, 1.3), (100.0, -40.0)),
}


@pytest.fixture
def show(viewer, analytic_field):
    """A function from a field and its image's roles to a live layer in the viewer."""
    from napari.utils.colormaps import DirectLabelColormap

    def build(field, grid: Grid) -> LiveLayer:
        layer_field = LayerField(
            {(): field},
            LayerSource(
                np.zeros(grid.shape),
                AxisRoles(("space",) * grid.ndim),
                grid.affine.matrix,
                ("z", "y", "x")[-grid.ndim :],
                ("pixel",) * grid.ndim,
                "scene",
            ),
        )
        plan = plan_levels(grid)
        coarse = finish(layer_field.iter_render(plan.base))[0].array
        colormap = DirectLabelColormap(color_dict=RED["colormap"])
        return LiveLayer(viewer, layer_field, plan, coarse, colormap=colormap, opacity=1.0)

    return build


@pytest.fixture
def settle(viewer, qtbot):
    """Wait until the live layer shows all that it knows."""

    def wait(live: LiveLayer) -> None:
        for _ in range(3):
            qtbot.wait(60)
            qtbot.waitUntil(lambda: live.pyramid.is_idle, timeout=PATIENCE)
        qtbot.wait(60)

    return wait


@pytest.mark.parametrize("zoom", [1, 8, 64])
@pytest.mark.parametrize("place", PLACES)
def test_a_boundary_is_on_the_screen_where_it_is_in_the_world(
    viewer, show, settle, analytic_field, ball, place, zoom
):
    affine = PLACES[place]
    grid = Grid(SHAPE, affine)
    live = show(analytic_field(ball(CENTRE, RADIUS), grid), grid)
    viewer.window._qt_window.resize(900, 700)
    viewer.reset_view()
    camera = viewer.scene.camera
    on_boundary = np.add(CENTRE, np.array([np.sin(0.7), np.cos(0.7)]) * RADIUS)
    camera.zoom *= zoom
    camera.center = tuple(affine.apply(on_boundary[None])[0])
    settle(live)

    shot = viewer.screenshot(canvas_only=True, flash=False)
    drawn = (shot[..., 0] > 128) & (shot[..., 1] < 64)
    height, width = drawn.shape
    rows, columns = np.mgrid[:height, :width]
    on_screen = np.stack([rows + 0.5 - height / 2, columns + 0.5 - width / 2], axis=-1)
    world = np.asarray(camera.center)[-2:] + on_screen / camera.zoom
    voxel = affine.inverse().apply(world.reshape(-1, 2)).reshape(world.shape)
    beyond = np.linalg.norm(voxel - CENTRE, axis=-1) - RADIUS
    # Screen pixels to the boundary: the distance function is steeper where voxels are small.
    steepness = np.hypot(*np.gradient(beyond))
    wrong = drawn != (beyond < 0)
    assert (np.abs(beyond) / steepness)[wrong].max(initial=0) <= 0.5
    assert 0.05 < drawn.mean() < 0.95


def test_the_finest_level_is_a_thousandth_of_a_pixel(viewer, show, settle, analytic_field, ball):
    grid = Grid(SHAPE, Affine.identity(2))
    live = show(analytic_field(ball(CENTRE, RADIUS), grid), grid)
    viewer.scene.camera.center = (CENTRE[0], CENTRE[1] + RADIUS)
    viewer.scene.camera.zoom = 1000.0
    settle(live)
    assert live.layer.data_level == 0
    shot = viewer.screenshot(canvas_only=True, flash=False)
    drawn = (shot[..., 0] > 128) & (shot[..., 1] < 64)
    middle = drawn[drawn.shape[0] // 2]
    edge = np.flatnonzero(np.diff(middle.astype(int)))
    assert len(edge) == 1
    assert abs(edge[0] + 1 - drawn.shape[1] / 2) <= 4  # single precision, 4/1000 of a pixel


@pytest.fixture
def volume(show, analytic_field, ball) -> LiveLayer:
    grid = Grid((9, 30, 34), Affine.from_spacing((3.0, 1.0, 1.0)))
    return show(analytic_field(ball((4.2, 14.0, 17.0), 3.6), grid), grid)


def test_sliders_stay_where_they_are_and_go_in_fractions_of_a_voxel(viewer, volume, settle, qtbot):
    assert viewer.dims.range[0].step == pytest.approx(3.0 / SLIDER_STEPS)
    viewer.dims.set_point(0, 12.0)
    viewer.add_image(np.zeros((9, 30, 34)), scale=(3.0, 1.0, 1.0))
    qtbot.wait(50)
    assert viewer.dims.range[0].step == pytest.approx(3.0 / SLIDER_STEPS)
    assert viewer.dims.point[0] == pytest.approx(12.0, abs=0.01)


def test_sliders_keep_their_steps_when_a_layer_changes_or_the_field_does(viewer, volume, qtbot):
    image = viewer.add_image(np.zeros((9, 30, 34)), scale=(3.0, 1.0, 1.0))
    image.translate = (3.0, 0.0, 0.0)
    volume.replace(volume.pyramid.field, np.asarray(volume.pyramid.levels[-1]))
    qtbot.wait(50)
    assert viewer.dims.range[0].step == pytest.approx(3.0 / SLIDER_STEPS)


def test_a_decode_that_fails_is_told_once_and_not_tried_again(viewer, volume, qtbot, monkeypatch, caplog):
    told = []
    monkeypatch.setattr("napari_swipe.live.layer.show_warning", told.append)
    calls = []

    def broken(*work):
        calls.append(work)
        raise RuntimeError("no such luck")

    volume.pyramid._evaluate = broken
    volume.pyramid._cache.clear()
    viewer.dims.set_point(0, 11.0)
    qtbot.wait(400)
    viewer.dims.set_point(0, 13.0)
    qtbot.wait(200)
    assert len(calls) <= 2
    assert len(told) == 1 and "no such luck" in told[0]


def test_between_two_slices_the_outline_moves_on(viewer, volume, settle):
    areas = []
    for fraction in (0.0, 0.25, 0.5, 0.75):
        viewer.dims.set_point(0, 3.0 * (6 + fraction))
        settle(volume)
        shot = viewer.screenshot(canvas_only=True, flash=False)
        areas.append(int(((shot[..., 0] > 128) & (shot[..., 1] < 64)).sum()))
    assert areas[0] > areas[1] > areas[2] > areas[3] > 0


def test_it_survives_3d_other_planes_and_other_orders(viewer, volume, settle):
    viewer.dims.ndisplay = 3
    settle(volume)
    viewer.dims.ndisplay = 2
    for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1)):
        viewer.dims.order = order
        viewer.reset_view()
        viewer.dims.set_point(order[0], volume.layer.extent.world.mean(axis=0)[order[0]])
        settle(volume)
        shot = viewer.screenshot(canvas_only=True, flash=False)
        assert ((shot[..., 0] > 128) & (shot[..., 1] < 64)).any()
    assert volume.pyramid.failure is None


def test_undo_colours_contours_and_copies_do_it_no_harm(viewer, volume, settle):
    volume.layer.undo()
    volume.layer.redo()
    volume.layer.contour = 2
    volume.layer.selected_label = 1
    volume.layer.show_selected_label = True
    settle(volume)
    volume.layer.contour = 0
    assert volume.layer.as_layer_data_tuple()[2] == "labels"
    assert volume.pyramid.failure is None


def test_an_axis_of_another_layer_does_not_confuse_it(viewer, volume, settle):
    viewer.add_image(np.zeros((5, 9, 30, 34)), scale=(1.0, 3.0, 1.0, 1.0))
    viewer.dims.set_point(0, 3)
    viewer.dims.set_point(1, 12.6)
    settle(volume)
    assert volume._positions()[0] is not None
    world = np.array([[viewer.dims.point[1], 0.0, 0.0]])
    finest = volume.pyramid.plan.finest.affine.inverse().apply(world)[0, 0]
    assert volume._positions()[0] == pytest.approx(finest)


def test_a_layer_removed_while_it_decodes_ends_quietly(viewer, volume, qtbot):
    for step in range(4):
        viewer.dims.set_point(0, 10.0 + step)
    viewer.layers.remove(volume.layer)
    qtbot.waitUntil(
        lambda: not any(t.name.startswith("swipe-live") for t in threading.enumerate()), timeout=PATIENCE
    )
    qtbot.wait(50)
    viewer.dims.set_point(0, 0)


def test_saving_writes_the_image_s_own_resolution(viewer, volume, tmp_path):
    from swipe_core.images import read_label_map

    (written,) = volume.layer.save(str(tmp_path / "live.nii.gz"), plugin="napari-swipe")
    saved = read_label_map(written)
    assert saved.array.any()
    expected = volume.pyramid.field.first.render(saved.grid, method="dense").array
    np.testing.assert_array_equal(saved.array, expected)


def test_a_field_in_a_file_opens_as_a_layer_without_its_image(viewer, volume_checkpoint, settle, tmp_path):
    from napari_swipe.live import field_file
    from swipe_core import MedicalImage, Predictor, save_field

    array = np.random.default_rng(0).normal(size=(10, 12, 14, 1)).astype(np.float32)
    affine = Affine.from_spacing((2.0, 1.0, 0.5), (3.0, -4.0, 5.0))
    field = Predictor.load(volume_checkpoint).field(MedicalImage(array, affine, "millimeter"))
    save_field(tmp_path / "scan.swipe", field, "scan.nii.gz", ["#ff0000"] * len(field.class_names))
    assert field_file.field_reader([str(tmp_path / "scan.swipe"), "image.png"]) is None
    assert viewer.open(tmp_path / "scan.swipe", plugin="napari-swipe") == []  # nothing for napari to add
    (layer,) = viewer.layers
    (live,) = field_file._OPEN
    assert layer is live.layer and layer.name == "scan.nii.gz · live"
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    place = affine.apply(np.array([[4.0, 5.0, 6.0]]))
    viewer.dims.set_point(0, place[0, 0])
    settle(live)
    assert layer.get_value(place[0], world=True)[1] == field.classify(place)[0]
    viewer.layers.clear()
    assert not field_file._OPEN
