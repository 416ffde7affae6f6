"""The Segment dock in a real viewer: a user's steps from an image to labels, and what may go wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_swipe.qt import task as _task
from napari_swipe.segment.command import iter_command
from napari_swipe.segment.image_picker import ImagePicker
from napari_swipe.segment.setting_controls import SettingSlider
from napari_swipe.viewer.state import state_of
from swipe_core.checkpoints.header import unsuitable
from swipe_core.cli import main as swipe
from swipe_core.images import read_image
from swipe_core.inference.config import SETTINGS, InferenceConfig
from swipe_core.progress import finish
from swipe_core.samples import sample_folder


@pytest.fixture
def segmented(viewer, dock, disc_pixels, wait_idle):
    """The dock after Open and Segment."""
    viewer.add_image(disc_pixels, name="disc", scale=(0.5, 0.5), units=("micrometer",) * 2)
    dock.segment_button.click()
    wait_idle(dock)
    return dock


SMALL = {
    "unet": {"widths": (8, 16, 32)},
    "iosnet": {"widths": (8,) * 6, "hidden": (16, 16)},
    "ossnet": {"widths": (8, 8), "code_length": 8, "decoder_width": 16, "decoder_blocks": 1},
}


@pytest.fixture(params=SMALL)
def other(request, disc_folder, tiny_config, tmp_path) -> Path:
    """A checkpoint of another network than SwIPE, that has learned the disc and looks at mirror images."""
    from swipe_core.data.cases import find_cases
    from swipe_core.progress import finish
    from swipe_core.training.config import parse_config
    from swipe_core.training.runner import Trainer

    values = tiny_config({"inference.mirrored_axes": (0, 1)}).model_dump()
    values["model"] = {"network": request.param, "ndim": 2, "channels": 1} | SMALL[request.param]
    cases = find_cases(disc_folder, "train")
    finish(Trainer(parse_config(values), cases, cases, tmp_path / "run").run())
    return tmp_path / "run" / "best.safetensors"


def live_layers(viewer) -> list[Labels]:
    return [layer for layer in viewer.layers if isinstance(layer, Labels) and layer.multiscale]


# Other networks


def test_another_network_does_all_that_swipe_does_but_weigh_its_levels(
    viewer, dock, disc_pixels, other, wait_idle, errors
):
    viewer.add_image(disc_pixels, name="disc", scale=(0.5, 0.5))
    dock.models.open_file(other)
    title = dock.models.model.network_title
    assert title in dock.models._box.currentText() and title in dock.models._info.text()
    dock.segment_button.click()
    wait_idle(dock)
    disc = np.hypot(*np.mgrid[-14:18, -17:15]) < 8.5
    (live,) = live_layers(viewer)
    area = (np.asarray(live.data[-1]) > 0).sum()
    dock.outputs.render_labels()
    wait_idle(dock)
    found = viewer.layers["disc · labels 1x"].data > 0
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.8
    dock.result.set_factor(4)
    dock.outputs.render_labels()
    wait_idle(dock)
    finer = viewer.layers["disc · labels 4x"].data > 0
    assert finer.shape == (128, 128) and abs(finer.mean() - found.mean()) < 0.02
    dock.outputs.show_probability(1)
    wait_idle(dock)
    dock.outputs.show_uncertainty()
    wait_idle(dock)
    probability = viewer.layers["disc · probability of foreground"].data
    assert probability[finer].min() > 0.49 > probability[~finer].min()
    dock.result.settings["threshold"].setValue(0.9)
    dock.result._timer.stop()
    dock.result._decide()
    wait_idle(dock)
    assert area > (np.asarray(live_layers(viewer)[0].data[-1]) > 0).sum() > 0
    actions = {action.text(): action for action in dock.result._menu.actions()}
    level = actions.pop("Which network level decides")
    assert not level.isEnabled() and title in level.toolTip() and dock.result._menu.toolTipsVisible()
    assert all(action.isEnabled() for action in actions.values())
    assert errors == []


def test_only_what_weighs_its_levels_can_show_them(segmented):
    (level,) = [a for a in segmented.result._menu.actions() if a.text() == "Which network level decides"]
    assert level.isEnabled()
    assert "SwIPE" in segmented.models._info.text()


# Segment


def test_segment_shows_a_live_layer_over_the_image(viewer, segmented):
    (live,) = live_layers(viewer)
    image = viewer.layers["disc"]
    np.testing.assert_allclose(live.extent.world, image.extent.world, atol=0.5)
    assert live.units == image.units
    assert np.asarray(live.data[-1]).any()


def test_the_image_stays_the_one_that_is_picked(viewer, segmented):
    assert viewer.layers.selection.active is viewer.layers["disc"]
    assert segmented.images.layer is viewer.layers["disc"]


def test_segmenting_again_replaces_the_live_layer(viewer, segmented, wait_idle):
    segmented.segment_button.click()
    wait_idle(segmented)
    assert len(live_layers(viewer)) == 1


def test_a_double_click_on_segment_starts_one_task(viewer, dock, disc_pixels, wait_idle, errors):
    viewer.add_image(disc_pixels)
    dock.segment_button.click()
    dock.segment_button.click()
    dock.segment()
    wait_idle(dock)
    assert len(live_layers(viewer)) == 1
    assert errors == []


def test_all_selected_layers_are_segmented_in_turn(viewer, dock, disc_pixels, wait_idle):
    layers = [viewer.add_image(disc_pixels, name=name) for name in ("one", "two", "three")]
    viewer.layers.selection = set(layers[:2])
    dock.images.all_selected.setChecked(True)
    dock.segment_button.click()
    for _ in layers:
        wait_idle(dock)
    assert {layer.name for layer in live_layers(viewer)} == {"one · live", "two · live"}


def test_a_stack_is_segmented_frame_by_frame(viewer, dock, disc_pixels, wait_idle):
    stack = np.stack([disc_pixels, np.roll(disc_pixels, 6, axis=1), disc_pixels])
    viewer.add_image(stack, name="stack")
    assert [box.currentText() for box in dock.images._roles] == ["frames", "space", "space"]
    dock.segment_button.click()
    wait_idle(dock)
    dock.outputs.render_labels()
    wait_idle(dock)
    labels = viewer.layers[-1].data
    assert labels.shape == stack.shape
    np.testing.assert_array_equal(labels[0], labels[2])
    assert (labels[0] != labels[1]).any()
    assert labels[1].any()


def test_only_the_region_of_a_rectangle_is_segmented(viewer, dock, disc_pixels, wait_idle):
    viewer.add_image(disc_pixels, name="disc", scale=(2.0, 2.0))
    viewer.add_shapes([np.array([[8.0, 10], [8, 50], [44, 50], [44, 10]])], shape_type="rectangle")
    dock.images.pick(viewer.layers["disc"])
    dock.images._region.setCurrentText("Shapes rectangle")
    dock.segment_button.click()
    wait_idle(dock)
    dock.outputs.render_labels()
    wait_idle(dock)
    labels = viewer.layers[-1]
    assert labels.data.shape == (19, 21)
    np.testing.assert_allclose(labels.data_to_world((0, 0)), (8, 10))


def test_a_colour_image_is_offered_a_model_for_colour_until_the_user_chooses_one(viewer, qtbot, disc_pixels):
    _, dock = viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
    qtbot.waitUntil(lambda: not dock.is_preloading, timeout=30_000)
    frame = np.stack([disc_pixels] * 3, axis=-1)
    viewer.add_image(frame, rgb=True)
    assert dock.models.model.name == "polyp"
    viewer.add_image(disc_pixels)
    assert dock.models.model.name == "nuclei"
    dock.models._box.activated.emit(dock.models._box.currentIndex())
    viewer.add_image(frame, rgb=True)
    assert dock.models.model.name == "nuclei"


def test_a_layer_in_pixels_is_not_given_to_a_model_of_a_physical_spacing_before_it_has_a_unit(
    viewer, dock, wait_idle, errors
):
    """The unit can be chosen behind the numbers of the spacing."""
    from swipe_core.images import read_image
    from swipe_core.samples import SAMPLES

    array = read_image(SAMPLES["hippocampus"].image_path).array[..., 0]
    image = viewer.add_image(array, name="crop")
    dock.models.pick("hippocampus")
    dock.segment_button.click()
    assert "crop is in pixels, and hippocampus works at a spacing of 1 × 1 × 1 mm" in errors[-1]
    assert len(viewer.layers) == 1
    unit = dock.images._spacing.widgets[-1]
    assert unit.currentText() == "px"
    unit.setCurrentIndex(unit.findText("mm"))
    unit.activated.emit(unit.currentIndex())
    assert [str(each) for each in image.units] == ["millimeter"] * 3
    unit = dock.images._spacing.widgets[-1]
    assert unit.currentText() == "mm"
    dock.segment_button.click()
    wait_idle(dock)
    (live,) = live_layers(viewer)
    assert np.asarray(live.data[-1]).max() == 2


def test_the_spacing_that_is_typed_in_becomes_the_layer_s(viewer, dock, disc_pixels):
    layer = viewer.add_image(disc_pixels, scale=(1.0, 1.0))
    dock.images._steps[1].setValue(0.25)
    np.testing.assert_allclose(layer.scale, (1.0, 0.25))


def test_roles_that_are_set_by_hand_stay_and_count(viewer, dock, disc_pixels, wait_idle):
    viewer.add_image(np.stack([disc_pixels] * 3), name="colours")
    roles = dock.images._roles[0]
    roles.setCurrentText("channel")
    assert dock.images._roles[0].currentText() == "channel"
    dock.images._steps[1].setValue(0.5)
    viewer.add_image(disc_pixels, name="other")
    dock.images.pick(viewer.layers["colours"])
    assert dock.images._roles[0].currentText() == "channel"
    assert dock.images.source(viewer.layers["colours"]).all_channels.count == 3


def dyes_of(viewer, disc_pixels, **arguments):
    """The disc as the third of three dyes."""
    dyes = np.stack([disc_pixels[::-1], np.zeros_like(disc_pixels), disc_pixels])
    metadata = {"swipe_channels": ("GFP", "RFP", "DAPI")}
    return viewer.add_image(dyes, name="dyes", metadata=metadata, **arguments)


def test_a_channel_is_chosen_near_the_image_and_segmented_as_if_it_were_alone(
    viewer, dock, disc_pixels, wait_idle, errors
):
    layer = dyes_of(viewer, disc_pixels, axis_labels=("channel", "y", "x"))
    (box,) = dock.images._channels.widgets
    assert dock.images._form.isRowVisible(dock.images._channels)
    assert [box.itemText(n) for n in range(box.count())] == ["each by itself", "GFP", "RFP", "DAPI"]
    assert dock.images.source(layer).frame_shape == (3,)
    box.setCurrentText("DAPI")
    np.testing.assert_array_equal(dock.images.source(layer).image().array[..., 0], disc_pixels)
    dock.segment_button.click()
    wait_idle(dock)
    assert errors == []
    segmented = dock._state.segmented(layer)
    assert "--channel 3" in finish(iter_command(segmented, 1.0, False)).line
    viewer.add_image(disc_pixels, name="alone")
    assert not dock.images._form.isRowVisible(dock.images._channels)
    dock.segment_button.click()
    wait_idle(dock)
    alone = dock._state.segmented(viewer.layers["alone"])
    np.testing.assert_array_equal(segmented.coarse, alone.coarse)
    dock.images.pick(layer)
    assert dock.images._channels.widgets[0].currentText() == "DAPI"
    dock.images._channels.widgets[0].setCurrentIndex(0)
    assert dock.images.source(layer).frame_shape == (3,)


def test_the_channels_of_a_tiff_are_known_by_its_file(viewer, dock, disc_pixels, tmp_path):
    import tifffile

    dyes = np.stack([disc_pixels, disc_pixels[::-1]]).astype(np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI"]}}
    tifffile.imwrite(tmp_path / "dyes.ome.tif", dyes, photometric="minisblack", metadata=metadata)
    (layer,) = viewer.open(tmp_path / "dyes.ome.tif", plugin="napari")
    assert dock.images._form.isRowVisible(dock.images._channels)
    (box,) = dock.images._channels.widgets
    box.setCurrentText("DAPI")
    np.testing.assert_array_equal(dock.images.source(layer).image().array[..., 0], dyes[1])


def test_a_channel_role_that_is_set_by_hand_asks_which_channel(viewer, dock, disc_pixels):
    layer = viewer.add_image(np.stack([disc_pixels] * 3), name="pages")
    assert not dock.images._form.isRowVisible(dock.images._channels)
    dock.images._roles[0].setCurrentText("channel")
    assert dock.images._form.isRowVisible(dock.images._channels)
    assert dock.images.source(layer).chosen == (0,)


def test_dyes_are_no_colours_until_it_is_said_which_is_red_green_and_blue(viewer, dock, disc_pixels, qtbot):
    picker = ImagePicker(viewer)
    qtbot.addWidget(picker)
    layer = dyes_of(viewer, disc_pixels, axis_labels=("channel", "y", "x"))
    colour = dock.models.model.model_copy(update={"name": "colours", "channels": 3})
    picker.set_model(colour)
    reason = unsuitable(colour, 2, picker.source(layer).channel_kinds)
    assert (
        reason == "colours is a model for images of 3 colours, and this one has 3 channels (GFP, RFP, DAPI)."
    )
    boxes = picker._channels.widgets
    assert len(boxes) == 3 and picker._form.isRowVisible(picker._channels)
    for box, name in zip(boxes, ("DAPI", "RFP", "GFP"), strict=True):
        box.setCurrentText(name)
    source = picker.source(layer)
    assert source.chosen == (2, 1, 0) and unsuitable(colour, 2, source.channel_kinds) is None
    np.testing.assert_array_equal(source.image().array[..., 0], disc_pixels)
    picker.disconnect_viewer()


def test_one_failure_of_several_layers_does_not_keep_the_others(viewer, dock, disc_pixels, wait_idle, errors):
    broken = disc_pixels.astype(np.float32)
    broken[0, 0] = np.nan
    layers = [viewer.add_image(broken, name="broken"), viewer.add_image(disc_pixels, name="sound")]
    viewer.layers.selection = set(layers)
    dock.images.all_selected.setChecked(True)
    dock.segment_button.click()
    for _ in layers:
        wait_idle(dock)
    assert [layer.name for layer in live_layers(viewer)] == ["sound · live"]
    assert "NaN" in errors[-1]


def test_a_renamed_layer_is_offered_by_its_new_name(viewer, dock, disc_pixels):
    viewer.add_image(disc_pixels, name="old")
    viewer.layers["old"].name = "new"
    assert dock.images._box.currentText() == "new"


def test_only_what_is_in_view_is_segmented(viewer, dock, disc_pixels, wait_idle, qtbot):
    layer = viewer.add_image(disc_pixels)
    viewer.scene.camera.center = (8, 8)
    viewer.scene.camera.zoom = 60
    qtbot.wait(100)
    dock.images._region.setCurrentText("Visible region")
    region = dock.images.source(layer).region
    low, high = layer.corner_pixels
    assert all(np.array(region.start) <= np.maximum(low, 0) + 1)
    assert max(region.shape) < 32
    viewer.dims.ndisplay = 3
    dock.segment_button.click()
    assert not dock.task_bar.is_busy


# What is refused, in words


def test_a_stack_of_colour_pictures_is_segmented_frame_by_frame(viewer, dock, wait_idle, errors):
    viewer.add_image(np.zeros((2, 32, 32, 4), np.uint8), rgb=True)
    dock.segment_button.click()
    wait_idle(dock)
    assert errors == []
    assert live_layers(viewer)[0].data[-1].shape[0] == 2


def test_a_volume_model_is_refused_for_a_picture_before_any_work(
    viewer, dock, disc_pixels, volume_checkpoint, errors, monkeypatch
):
    viewer.add_image(disc_pixels, name="disc")
    dock.models.open_file(volume_checkpoint)
    monkeypatch.setattr("napari_swipe.segment.actions.iter_segment", lambda *a: pytest.fail("work was begun"))
    dock.segment_button.click()
    assert "disc has 2 spatial axes" in errors[-1]
    assert "pick another model" in errors[-1]


def test_without_an_image_one_is_told_to_open_one(dock, errors):
    dock.segment_button.click()
    assert "Open an image first" in errors[-1]


def test_a_file_that_is_no_model_is_refused_and_the_picked_one_stays(dock, tmp_path, errors):
    picked = dock.models.model
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    dock.models.open_file(tmp_path / "junk.safetensors")
    assert "junk.safetensors" in errors[-1]
    assert dock.models.model == picked


def test_a_failure_in_the_thread_is_told_in_words_and_nothing_is_lost(
    viewer, segmented, wait_idle, errors, monkeypatch
):
    from swipe_core.errors import ImageError
    from swipe_core.prediction.predictor import Predictor

    def refuse(*arguments):
        raise ImageError("The image is on strike: ask again tomorrow.")
        yield

    monkeypatch.setattr(Predictor, "iter_field", refuse)
    segmented.segment_button.click()
    wait_idle(segmented)
    assert errors == ["The image is on strike: ask again tomorrow."]
    assert len(live_layers(viewer)) == 1
    assert segmented.result.isEnabled()


# The result


def test_a_result_is_put_away_when_its_image_gets_another_place(viewer, segmented, wait_idle):
    viewer.layers["disc"].scale = (2.0, 2.0)
    assert not segmented.result.isEnabled()
    assert "press Segment again" in segmented.task_bar._words.text()
    assert [box.value() for box in segmented.images._steps] == [2.0, 2.0]
    segmented.segment_button.click()
    wait_idle(segmented)
    assert segmented.result.isEnabled()
    (live,) = live_layers(viewer)
    np.testing.assert_allclose(live.extent.world, viewer.layers["disc"].extent.world, atol=1.1)


def write_over(layer: Image) -> None:
    """In place, and then drawn, as scripts do."""
    layer.data[...] = 0
    layer.refresh()


OTHER_DATA = {
    "black": lambda layer: setattr(layer, "data", np.zeros_like(layer.data)),
    "a crop": lambda layer: setattr(layer, "data", layer.data[:20, :24].copy()),
    "a stack": lambda layer: setattr(layer, "data", np.stack([layer.data] * 3)),
    "written over": write_over,
}


@pytest.mark.parametrize("what", OTHER_DATA)
def test_a_result_is_gone_when_its_image_has_other_data(
    viewer, segmented, wait_idle, qtbot, disc_pixels, errors, what
):
    disc = viewer.layers["disc"]
    OTHER_DATA[what](disc)
    if what != "written over":  # which is found at once by whoever presses a button
        assert not segmented.result.isEnabled()
    segmented.outputs.render_labels()
    wait_idle(segmented)
    assert list(viewer.layers) == [disc]
    assert not segmented.result.isEnabled()
    assert "press Segment again" in segmented.task_bar._words.text()
    assert len(segmented.images._steps) == disc.ndim
    segmented.segment_button.click()
    wait_idle(segmented)
    assert segmented.result.isEnabled()
    (live,) = live_layers(viewer)
    assert live.ndim == disc.ndim
    assert errors == []


def test_what_is_written_into_the_array_is_found_without_a_button(viewer, segmented, qtbot):
    write_over(viewer.layers["disc"])
    qtbot.waitUntil(lambda: not segmented.result.isEnabled())
    assert live_layers(viewer) == []


def test_a_result_comes_back_with_the_place_of_its_image(viewer, segmented):
    disc, (live,) = viewer.layers["disc"], live_layers(viewer)
    for name, other in {
        "scale": (2, 2),
        "units": ("mm", "mm"),
        "axis_labels": ("t", "u"),
        "rotate": 5,
    }.items():
        before = getattr(disc, name)
        setattr(disc, name, other)
        assert (segmented.result.isEnabled(), live.visible) == (False, False), name
        setattr(disc, name, before)
        assert (segmented.result.isEnabled(), live.visible) == (True, True), name
    assert segmented.task_bar._words.text() == ""


def test_what_a_removed_layer_has_on_the_graphics_card_is_freed_where_it_was_made(viewer, dock, disc_pixels):
    from qtpy.QtGui import QOpenGLContext
    from qtpy.QtWidgets import QOpenGLWidget

    canvas = dock.window().centralWidget().findChild(QOpenGLWidget)
    assert canvas.isValid()
    canvas.doneCurrent()
    at_removal = []
    look = lambda event: at_removal.append(QOpenGLContext.currentContext() == canvas.context())  # noqa: E731
    viewer.layers.events.removed.connect(look, position="first")
    lower = viewer.add_image(disc_pixels, name="lower")
    viewer.add_image(disc_pixels, name="upper")
    canvas.doneCurrent()
    viewer.layers.remove(lower)
    assert at_removal == [True]


def test_an_image_that_changes_while_it_is_segmented_gets_no_result_of_what_it_was(
    viewer, dock, disc_pixels, held, wait_idle, errors
):
    layer = viewer.add_image(disc_pixels, name="disc")
    dock.segment_button.click()
    layer.data = np.zeros_like(disc_pixels)
    held[0].set()
    wait_idle(dock)
    assert not dock.result.isEnabled()
    assert live_layers(viewer) == []
    assert errors == ["disc got other data while it was segmented: press Segment again."]


def test_the_live_layer_has_the_name_of_its_image_unless_it_was_given_another(viewer, segmented):
    (live,) = live_layers(viewer)
    viewer.layers["disc"].name = "moon"
    assert live.name == "moon · live"
    live.name = "mine"
    viewer.layers["moon"].name = "sun"
    assert live.name == "mine"


@pytest.mark.parametrize("typed", ["0", "-1", "nan", "inf", "1e-400", ""])
def test_no_spacing_that_is_typed_makes_a_layer_without_extent(viewer, dock, disc_pixels, typed):
    layer = viewer.add_image(disc_pixels, scale=(0.5, 0.25))
    box = dock.images._steps[1]
    box.lineEdit().setText(typed)
    box.interpretText()
    np.testing.assert_array_equal(layer.scale, [0.5, 0.25])
    assert box.value() == 0.25


@pytest.mark.parametrize("step", [2e-8, 2e-5, 0.0645, 1e5])
def test_every_spacing_is_shown_and_can_be_typed(viewer, dock, disc_pixels, step):
    layer = viewer.add_image(disc_pixels, scale=(step, step))
    box = dock.images._steps[0]
    assert float(box.text()) == pytest.approx(step)
    box.lineEdit().setText(f"{2 * step:g}")
    box.interpretText()
    np.testing.assert_allclose(layer.scale, [2 * step, step])


def test_3d_while_the_mouse_rests_on_the_canvas_loses_no_live_layer(
    viewer, dock, disc_pixels, wait_idle, errors
):
    """napari fails at the status of labels with features then."""
    image = viewer.add_image(np.stack([disc_pixels] * 3), name="stack")
    viewer.mouse_over_canvas = True
    dock.segment_button.click()
    viewer.dims.ndisplay = 3
    wait_idle(dock)
    for _ in range(2):
        (live,) = live_layers(viewer)
        assert dock._state.live(image).layer is live
        assert dock.result.isEnabled() and dock.result.live.isChecked()
        dock.result.live.click()
        assert live_layers(viewer) == []
        dock.result.live.click()
    dock.outputs.render_labels()
    wait_idle(dock)
    assert "stack · labels 1x" in viewer.layers
    assert viewer.layers.selection.active is image
    assert errors == []


def test_all_that_is_selected_stays_selected_while_it_is_segmented(viewer, dock, disc_pixels, wait_idle):
    layers = [viewer.add_image(disc_pixels, name=name) for name in "ab"]
    viewer.layers.selection = set(layers)
    dock.images.all_selected.setChecked(True)
    dock.segment_button.click()
    wait_idle(dock)
    assert set(viewer.layers.selection) == set(layers)
    assert len(live_layers(viewer)) == 2


@pytest.mark.parametrize("step", [2e-7, 0.0645, 1.0, 30.0])
def test_a_factor_is_exact_whatever_the_spacing(viewer, dock, disc_pixels, wait_idle, step):
    viewer.add_image(disc_pixels, scale=(step, step))
    dock.segment_button.click()
    wait_idle(dock)
    for factor, pixels in ((0.25, 8), (1, 32), (4, 128), (16, 512)):
        dock.result.set_factor(factor)
        assert dock.result.grid.shape == (pixels, pixels)
        assert dock.result._spacing.value() == pytest.approx(step / factor, rel=1e-3)


def test_what_is_hidden_of_one_image_is_shown_of_another(viewer, segmented, disc_pixels, wait_idle):
    from qtpy.QtCore import Qt

    segmented.result._classes.item(0).setCheckState(Qt.CheckState.Unchecked)
    viewer.add_image(disc_pixels, name="second")
    segmented.segment_button.click()
    wait_idle(segmented)
    assert [layer.colormap.map(1)[3] for layer in live_layers(viewer)] == [0, 1]
    assert segmented.result._classes.item(0).checkState() == Qt.CheckState.Checked
    segmented.images.pick(viewer.layers["disc"])
    assert segmented.result._classes.item(0).checkState() == Qt.CheckState.Unchecked


def test_sliders_show_what_is_shown_after_a_decision_is_cancelled(segmented, wait_idle):
    segmented.result.settings["threshold"].setValue(0.8)
    segmented.result._timer.stop()
    segmented.result._decide()
    segmented.task_bar.cancel()
    wait_idle(segmented)
    assert segmented.result.decision["threshold"] == 0.5


def test_labels_are_rendered_at_the_resolution_that_is_set(viewer, segmented, wait_idle):
    segmented.result.set_factor(4)
    assert "128 × 128, 16.4 kB" in segmented.result._cost.text()
    segmented.outputs.render_labels()
    wait_idle(segmented)
    labels = viewer.layers["disc · labels 4x"]
    assert labels.data.shape == (128, 128)
    np.testing.assert_allclose(labels.scale, 0.125)
    field = state_of(viewer).segmented(viewer.layers["disc"]).field.first
    np.testing.assert_array_equal(labels.data, field.render(factor=4).array)


def test_rendered_labels_can_be_edited_and_undone(viewer, segmented, wait_idle):
    segmented.outputs.render_labels()
    wait_idle(segmented)
    labels = viewer.layers[-1]
    before = labels.data.copy()
    labels.paint((2, 2), 1)
    assert (labels.data != before).any()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_every_setting_has_a_control_with_the_bounds_and_the_words_of_its_record(dock):
    assert set(dock.result.settings) | set(dock.advanced.controls) == set(SETTINGS)
    assert not dock.advanced.isExpanded()
    for name, control in (dock.result.settings | dock.advanced.controls).items():
        setting = SETTINGS[name]
        assert setting.description[1:] in control.toolTip()
        if isinstance(control, SettingSlider):
            low, high = setting.bounds
            assert (control.minimum(), control.maximum()) == (low, high)
            for value in (low, high):
                InferenceConfig.model_validate({name: value})


def test_advanced_settings_count_from_the_next_segment_on(viewer, segmented, wait_idle):
    before = state_of(viewer).segmented(viewer.layers["disc"])
    assert segmented.advanced.changes == {}
    segmented.advanced.controls["overlap"].setValue(0.25)
    segmented.advanced.controls["mirrored_axes"].show_value((1,))
    segmented.advanced.controls["method"].show_value("dense")
    changed = {"overlap": 0.25, "mirrored_axes": (1,), "method": "dense"}
    assert segmented.advanced.changes == changed
    assert state_of(viewer).segmented(viewer.layers["disc"]) is before
    segmented.segment()
    wait_idle(segmented)
    config = state_of(viewer).segmented(viewer.layers["disc"]).config
    assert config == before.config.model_copy(update=changed)
    words = copied(segmented, wait_idle).split()
    assert " ".join(words).count("--overlap 0.25 --mirrored-axes 1 --method dense") == 1
    segmented.result.settings["threshold"].setValue(0.6)
    segmented.result._decide()
    wait_idle(segmented)
    again = state_of(viewer).segmented(viewer.layers["disc"]).config
    assert again == config.model_copy(update={"threshold": 0.6})


def test_a_spacing_in_world_units_sets_the_resolution(segmented):
    segmented.result._spacing.setValue(0.1)
    assert segmented.result.grid.shape == (160, 160)
    assert segmented.result._spacing.suffix().strip() == "µm"
    assert segmented.result._factor.text() == "5x"


def test_threshold_confidence_and_smoothing_do_not_encode_again(viewer, segmented, wait_idle, monkeypatch):
    from swipe_core.prediction.predictor import Predictor

    monkeypatch.setattr(Predictor, "iter_field", lambda *a: pytest.fail("it was encoded again"))
    areas = []
    for threshold in (0.05, 0.95):
        segmented.result.settings["threshold"].setValue(threshold)
        segmented.result._decide()
        wait_idle(segmented)
        areas.append(int(np.asarray(live_layers(viewer)[0].data[-1]).sum()))
    assert areas[0] > areas[1] > 0
    # What is this unsure vanishes whole.
    segmented.result.settings["threshold"].setValue(0.01)
    segmented.result.settings["confidence"].setValue(0.99)
    segmented.result._decide()
    wait_idle(segmented)
    sure = int(np.asarray(live_layers(viewer)[0].data[-1]).sum())
    field = state_of(viewer).segmented(viewer.layers["disc"]).field
    peak = field.fields[()].probabilities(np.argwhere(np.ones((48, 48))).astype(float), "voxel")[:, 1].max()
    assert (sure > 0) == (peak >= 0.99)
    segmented.result.settings["confidence"].setValue(0)
    segmented.result.settings["smoothing"].setValue(3)
    segmented.result._decide()
    wait_idle(segmented)
    assert state_of(viewer).segmented(viewer.layers["disc"]).config.smoothing == 3.0


def test_a_decision_made_while_work_runs_is_made_after_it(viewer, segmented, wait_idle):
    segmented.outputs.show_uncertainty()
    segmented.segmenting.decide({"threshold": 0.9})
    wait_idle(segmented)
    wait_idle(segmented)
    assert state_of(viewer).segmented(viewer.layers["disc"]).config.threshold == 0.9


def test_a_class_that_is_unticked_is_not_seen_in_any_layer(viewer, segmented, wait_idle):
    from qtpy.QtCore import Qt

    segmented.outputs.render_labels()
    wait_idle(segmented)
    segmented.result._classes.item(0).setCheckState(Qt.CheckState.Unchecked)
    for labels in (viewer.layers[-1], *live_layers(viewer)):
        assert labels.colormap.map(1)[3] == 0
    segmented.result._classes.item(0).setCheckState(Qt.CheckState.Checked)
    assert viewer.layers[-1].colormap.map(1)[3] == 1


def test_colours_that_the_user_gave_stay_whatever_is_hidden_or_segmented_again(viewer, segmented, wait_idle):
    from napari.utils.colormaps import DirectLabelColormap, label_colormap
    from qtpy.QtCore import Qt

    segmented.outputs.render_labels()
    wait_idle(segmented)
    (live,), labels = live_layers(viewer), viewer.layers["disc · labels 1x"]
    live.colormap = DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", 1: "lime"})
    labels.colormap = label_colormap(7)
    own = labels.colormap
    segmented.segment_button.click()
    wait_idle(segmented)
    np.testing.assert_allclose(live.colormap.map(1), (0, 1, 0, 1))
    segmented.result._classes.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert live.colormap.map(1)[3] == 0
    assert labels.colormap is own


def test_the_live_layer_can_be_put_away_and_back(viewer, segmented):
    segmented.result.live.setChecked(False)
    assert live_layers(viewer) == []
    segmented.result.live.setChecked(True)
    assert len(live_layers(viewer)) == 1


def test_a_live_layer_that_was_deleted_does_not_keep_the_next_image_from_having_one(
    viewer, segmented, disc_pixels, wait_idle, qtbot
):
    viewer.layers.clear()
    qtbot.wait(100)
    viewer.add_image(disc_pixels, name="next")
    segmented.segment_button.click()
    wait_idle(segmented)
    assert [layer.name for layer in live_layers(viewer)] == ["next · live"]
    viewer.layers.remove(live_layers(viewer)[0])
    assert not segmented.result.live.isChecked()
    segmented.result.live.setChecked(True)
    assert len(live_layers(viewer)) == 1


def test_deleting_a_live_layer_of_another_image_leaves_the_picked_one(viewer, segmented, disc_pixels):
    viewer.add_image(disc_pixels, name="other")
    assert segmented.images.layer is viewer.layers["other"]
    viewer.layers.remove(live_layers(viewer)[0])
    assert segmented.images.layer is viewer.layers["other"]


def test_a_closed_dock_leaves_the_live_layer_alive(viewer, segmented, qtbot):
    window = viewer.window._qt_window
    (frame,) = [d for d in window.findChildren(QDockWidget) if d.widget() is segmented]
    frame.destroyOnClose()
    qtbot.wait(100)
    assert state_of(viewer).live(viewer.layers["disc"]) is not None
    (live,) = live_layers(viewer)
    assert not state_of(viewer).live(viewer.layers["disc"]).pyramid.is_closed
    assert live.visible


def test_objects_are_numbered_and_listed(viewer, segmented, wait_idle, tmp_path):
    segmented.outputs.find_objects()
    wait_idle(segmented)
    (table,) = [w for name, w in viewer.window.dock_widgets.items() if name.endswith("objects")]
    labels = viewer.layers["disc · objects"]
    assert table.table.rowCount() == labels.data.max()
    sizes = [table.table.item(row, 2).text() for row in range(table.table.rowCount())]
    assert sum(map(float, sizes)) == pytest.approx((labels.data > 0).sum() * 0.25, rel=1e-3)
    table.save(str(tmp_path / "objects.csv"))
    assert len((tmp_path / "objects.csv").read_text("utf-8").splitlines()) == 1 + table.table.rowCount()
    table.copy()
    assert QApplication.clipboard().text().startswith("number\tclass\tarea [µm²]")
    table.table.selectRow(0)
    np.testing.assert_allclose(
        viewer.scene.camera.center[-2:],
        [float(table.table.item(0, column).text()) for column in (3, 4)],
        rtol=1e-3,
    )


def test_touching_objects_are_shown_apart_until_their_classes_are_wanted(viewer, dock, wait_idle):
    image = read_image(next((sample_folder("nuclei") / "val" / "images").iterdir()), ndim=2)
    layer = viewer.add_image(image.array[:96, :96, 0], name="nuclei")
    dock.models.pick("nuclei")
    dock.segment_button.click()
    wait_idle(dock)
    live = state_of(viewer).live(layer)
    assert live.layer.dtype == np.int32 and live.pyramid.field.objects
    numbers = np.unique(np.asarray(live.pyramid.levels[-1]))
    assert len(numbers) > 2 and dock.result.apart.isChecked()
    dock.result.apart.click()
    wait_idle(dock)
    live = state_of(viewer).live(layer)
    assert live.layer.dtype == np.uint8 and np.asarray(live.pyramid.levels[-1]).max() == 1
    dock.result.apart.click()
    wait_idle(dock)
    live = state_of(viewer).live(layer)
    assert np.array_equal(np.unique(np.asarray(live.pyramid.levels[-1])), numbers)
    assert len(live_layers(viewer)) == 1


def test_maps_lie_over_the_image_and_do_not_cover_each_other(viewer, segmented, wait_idle):
    for show in (
        segmented.outputs.show_uncertainty,
        lambda: segmented.outputs.show_probability(1),
        segmented.outputs.show_deciding_scale,
    ):
        show()
        wait_idle(segmented)
    *_, uncertainty, probability, scale = viewer.layers
    assert isinstance(probability, Image)
    assert 0 <= probability.data.min() < probability.data.max() <= 1
    np.testing.assert_allclose(probability.scale, (0.5, 0.5))
    assert set(np.unique(scale.data)) <= {1, 2, 3, 4}
    assert [scale.colormap.map(stage)[3] for stage in range(5)] == [0, 1, 1, 1, 1]
    assert segmented.images._box.count() == 1, "maps are not offered to be segmented"
    assert [layer.visible for layer in (uncertainty, probability, scale)] == [False, False, True]


@pytest.fixture(params=["swipe", "unet"])
def any_volume_checkpoint(request, volume_checkpoint, tiny_volume_config, tmp_path) -> Path:
    """Of an untrained network, all of whose classes occur."""
    import torch

    from swipe_core.checkpoints.file import Checkpoint, save_checkpoint
    from swipe_core.networks.registry import build_network
    from swipe_core.training.config import parse_config

    if request.param == "swipe":
        return volume_checkpoint
    values = tiny_volume_config.model_dump()
    values["model"] = {"network": "unet", "ndim": 3, "channels": 1, "classes": 3, "widths": (4, 8)}
    torch.manual_seed(0)
    config = parse_config(values)
    path = tmp_path / "untrained.safetensors"
    save_checkpoint(path, Checkpoint(config.checkpoint_content(), build_network(config.model).state_dict()))
    return path


def test_surfaces_of_a_volume_are_meshes_in_its_world(viewer, dock, any_volume_checkpoint, wait_idle):
    rng = np.random.default_rng(0)
    viewer.add_image(rng.random((8, 12, 12)).astype(np.float32), scale=(3.0, 1.0, 1.0), name="volume")
    dock.models.open_file(any_volume_checkpoint)
    dock.segment_button.click()
    wait_idle(dock)
    dock.outputs.show_surfaces()
    wait_idle(dock)
    surfaces = [layer for layer in viewer.layers if layer._type_string == "surface"]
    assert surfaces
    extent = viewer.layers["volume"].extent.world
    for surface in surfaces:
        assert (surface.extent.world[0] >= extent[0] - 1.6).all()
        assert (surface.extent.world[1] <= extent[1] + 1.6).all()
    assert viewer.dims.ndisplay == 3


def test_contours_are_shapes_over_the_objects_with_what_was_measured(viewer, segmented, wait_idle):
    segmented.outputs.show_contours()
    wait_idle(segmented)
    (shapes,) = [layer for layer in viewer.layers if layer._type_string == "shapes"]
    field = state_of(viewer).segmented(viewer.layers["disc"]).field.first
    assert shapes.nshapes >= 1
    assert {"class", "score", "area [um^2]"} <= set(shapes.features.columns)
    inside = np.argwhere(field.render().array == 1) * 0.5
    spread = shapes.extent.world
    assert (spread[0] <= inside.min(axis=0) + 0.5).all() and (spread[1] >= inside.max(axis=0) - 0.5).all()


def test_a_boundary_is_exported_within_a_tolerance_that_has_the_unit_of_the_image(
    viewer, segmented, wait_idle, tmp_path, monkeypatch
):
    from qtpy.QtWidgets import QFileDialog

    from napari_swipe.segment.export_dialog import ExportDialog

    layer = viewer.layers["disc"]
    dialog = ExportDialog(layer.name, state_of(viewer).segmented(layer), 0)
    offered = [dialog.kind_box.itemText(row) for row in range(dialog.kind_box.count())]
    assert any(".geojson" in text for text in offered) and not any(".stl" in text for text in offered)
    assert (dialog.tolerance, dialog.tolerance_box.suffix()) == (pytest.approx(0.05), " µm")
    before = dialog.preview.text()
    assert "vertices" in before and "B" in before
    dialog.tolerance_box.setValue(0.5)
    assert dialog.preview.text() != before
    dialog.tolerance_box.setValue(0.05)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "disc"), ""))
    dialog._choose_file()
    assert dialog.path == tmp_path / "disc.geojson" and dialog.slices is None
    segmented.outputs.export_boundary(dialog.path, dialog.tolerance, dialog.slices)
    wait_idle(segmented)
    assert "FeatureCollection" in dialog.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz"])
def test_labels_are_written_to_a_file_without_a_layer(viewer, segmented, wait_idle, tmp_path, suffix):
    from swipe_core.images import read_label_map

    layers = len(viewer.layers)
    segmented.result.set_factor(2)
    segmented.outputs.save_labels(tmp_path / f"labels{suffix}")
    wait_idle(segmented)
    written = read_label_map(tmp_path / f"labels{suffix}", ndim=2)
    assert written.shape == (64, 64)
    assert written.spacing == pytest.approx((0.25, 0.25), rel=1e-4)
    assert len(viewer.layers) == layers


def test_a_folder_that_is_not_there_is_told_in_words(segmented, wait_idle, errors, tmp_path):
    segmented.outputs.save_labels(tmp_path / "nowhere" / "labels.tif")
    wait_idle(segmented)
    assert "folder does not exist" in errors[-1]


def test_a_file_that_cannot_hold_a_stack_is_refused_before_the_work(
    viewer, dock, disc_pixels, wait_idle, errors, tmp_path, monkeypatch
):
    from napari_swipe.layers.field import LayerField

    viewer.add_image(np.stack([disc_pixels] * 2))
    dock.segment_button.click()
    wait_idle(dock)
    monkeypatch.setattr(LayerField, "iter_render", lambda *work: pytest.fail("it was rendered"))
    dock.outputs.save_labels(tmp_path / "stack.nii.gz")
    wait_idle(dock)
    assert "name it .tif" in errors[-1]
    assert list(tmp_path.iterdir()) == []


def test_more_than_memory_is_refused_before_the_work(segmented, errors, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("memory", (), {"available": 1000})())
    segmented.outputs.render_labels()
    assert "choose a coarser one" in errors[-1]
    assert not segmented.task_bar.is_busy


def test_the_command_does_what_the_dock_did(viewer, dock, disc_folder, tmp_path, wait_idle):
    """The copied line is run, and its labels are those of the dock."""
    import shlex

    from swipe_core.images import read_label_map

    path = disc_folder / "val" / "images" / "disc.png"
    viewer.open(path, plugin="napari")
    dock.segment_button.click()
    wait_idle(dock)
    dock.result.settings["threshold"].setValue(0.4)
    dock.result.settings["confidence"].setValue(0.6)
    dock.result._decide()
    wait_idle(dock)
    dock.result.set_factor(2)
    dock.outputs.render_labels()
    wait_idle(dock)
    dock.outputs.copy_command()
    program, command, *words = shlex.split(QApplication.clipboard().text())
    assert (program, command) == ("swipe", "predict")
    words[words.index("--output") + 1] = str(tmp_path)
    assert swipe([command, *words]) == 0
    np.testing.assert_array_equal(read_label_map(tmp_path / "disc.png").array, viewer.layers[-1].data)


def test_the_dock_and_the_command_make_the_same_of_a_file_byte_for_byte(
    viewer, dock, disc_folder, disc_run, tmp_path, wait_idle
):
    """Labels, objects, their table, and maps."""
    from swipe_core.cli import main as swipe
    from swipe_core.images import read_image, read_label_map

    path, ours, theirs = disc_folder / "val" / "images" / "disc.png", tmp_path / "dock", tmp_path / "command"
    ours.mkdir()
    viewer.open(path, plugin="napari")
    dock.segment_button.click()
    wait_idle(dock)
    dock.result.set_factor(2)
    makings = (
        lambda: dock.outputs.save_labels(ours / "disc.png"),
        dock.outputs.find_objects,
        lambda: dock.outputs.show_probability(1),
        dock.outputs.show_uncertainty,
    )
    for make in makings:
        make()
        wait_idle(dock)
    (table,) = [w for name, w in viewer.window.dock_widgets.items() if name.endswith("objects")]
    table.save(str(ours / "disc_objects.csv"))
    *_, objects, probability, uncertainty = viewer.layers
    (name,) = dock.models.model.class_names
    command = ["predict", str(disc_run / "best.safetensors"), str(path), "--output", str(theirs)]
    assert swipe([*command, "--factor", "2", "--objects", "--probability", name, "--uncertainty"]) == 0
    for file in ("disc.png", "disc_objects.csv"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes()
    np.testing.assert_array_equal(objects.data, read_label_map(theirs / "disc_objects.png").array)
    for layer, file in ((probability, f"disc_probability_{name}.tif"), (uncertainty, "disc_uncertainty.tif")):
        assert layer.data.tobytes() == read_image(theirs / file).array.tobytes()


def copied(dock, wait_idle) -> str:
    dock.outputs.copy_command()
    wait_idle(dock)
    return QApplication.clipboard().text()


NOT_THE_FILE = {
    "another shape": lambda layer: setattr(layer, "data", layer.data[:20]),
    "other data": lambda layer: setattr(layer, "data", layer.data // 2),
    "other units": lambda layer: setattr(layer, "units", ("um", "um")),
    "another place or spacing": lambda layer: setattr(layer, "scale", (0.5, 0.5)),
}


@pytest.mark.parametrize("what", NOT_THE_FILE)
def test_a_layer_that_is_its_file_no_more_gets_no_command_with_that_file(
    viewer, dock, disc_folder, wait_idle, errors, what
):
    path = disc_folder / "val" / "images" / "disc.png"
    viewer.open(path, plugin="napari")
    NOT_THE_FILE[what](viewer.layers["disc"])
    if what == "another place or spacing":
        viewer.layers["disc"].units = ("pixel", "pixel")
    dock.segment_button.click()
    wait_idle(dock)
    line = copied(dock, wait_idle)
    assert line.split()[3] == "IMAGE" and "disc.png" not in line
    assert errors[-1].startswith(f"disc has {what} than its file disc.png")


def test_a_layer_of_no_file_gets_a_command_to_be_filled_in(segmented, wait_idle, errors):
    assert copied(segmented, wait_idle).split()[3] == "IMAGE"
    assert errors[-1].startswith("disc came from no file")


def test_what_no_command_can_do_is_told_in_place_of_one(viewer, dock, disc_pixels, wait_idle, errors):
    viewer.add_image(np.tile(disc_pixels, (2, 2, 1, 1)), name="two axes of frames")
    dock.segment_button.click()
    wait_idle(dock)
    assert copied(dock, wait_idle).startswith("# No command does what was done to two axes of frames")


def test_a_folder_is_segmented_into_another_and_what_fails_is_told(
    dock, disc_folder, tmp_path, wait_idle, errors
):
    import shutil

    from swipe_core.images import read_label_map

    images, labels = tmp_path / "images", tmp_path / "labels"
    shutil.copytree(disc_folder / "val" / "images", images)
    (images / "broken.png").write_bytes(b"no picture")
    dock.folder.images.setText(str(images))
    dock.folder.labels.setText(str(labels))
    dock.folder.button.click()
    wait_idle(dock)
    assert read_label_map(labels / "disc.png").array.any()
    assert dock.task_bar._words.text().startswith("2 images: 1 done, 0 kept, 1 failed")
    assert "broken.png" in errors[-1]
    assert (labels / "report.csv").is_file()
    dock.folder.button.click()
    wait_idle(dock)
    assert dock.task_bar._words.text().startswith("2 images: 0 done, 1 kept, 1 failed")


def test_what_is_left_out_of_a_folder_is_told_and_every_picture_of_a_file_segmented(
    dock, disc_folder, tmp_path, wait_idle, errors
):
    import tifffile

    from swipe_core.images import read_image

    disc = read_image(disc_folder / "val" / "images" / "disc.png").array[..., 0]
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    with tifffile.TiffWriter(images / "discs.tif") as tiff:
        for size in (len(disc), len(disc) - 7):
            tiff.write(disc[:size], metadata=None)
    (images / "slide.czi").write_bytes(b"anything")
    dock.folder.images.setText(str(images))
    dock.folder.labels.setText(str(labels))
    dock.folder.button.click()
    wait_idle(dock)
    assert sorted(path.name for path in labels.glob("*.tif")) == ["discs_1.tif", "discs_2.tif"]
    assert dock.task_bar._words.text().startswith("2 images: 2 done, 0 kept, 0 failed, 1 left out")
    assert "slide.czi" in errors[-1]


def test_a_folder_that_is_missing_is_told_in_words(dock, tmp_path, wait_idle, errors):
    dock.folder.wanted.emit("", "")
    assert "a folder of images" in errors[-1]
    dock.folder.wanted.emit(str(tmp_path / "nowhere"), str(tmp_path / "labels"))
    wait_idle(dock)
    assert "nowhere" in errors[-1]


# Cancel, close, delete


@pytest.fixture
def held(monkeypatch):
    """Encoding waits before its second report until it is let go; work that is stopped meanwhile tells."""
    from swipe_core.prediction.predictor import Predictor

    may_go, was_closed = threading.Event(), threading.Event()
    encode = Predictor.iter_field

    def slow(self, image):
        from swipe_core.progress import Progress

        try:
            yield Progress("Encoding", 0, 2)
            may_go.wait(60)
            yield Progress("Encoding", 1, 2)
            return (yield from encode(self, image))
        finally:
            was_closed.set()

    monkeypatch.setattr(Predictor, "iter_field", slow)
    yield may_go, was_closed
    may_go.set()


def test_cancel_answers_at_once_though_the_thread_is_deep_in_work(viewer, dock, disc_pixels, held, qtbot):
    may_go, was_closed = held
    viewer.add_image(disc_pixels)
    dock.segment_button.click()
    qtbot.waitUntil(lambda: "Encoding" in dock.task_bar._words.text(), timeout=60_000)
    dock.task_bar.cancel()
    assert not dock.task_bar.is_busy
    assert dock.segment_button.isEnabled()
    may_go.set()
    assert was_closed.wait(60)
    qtbot.wait(50)
    assert live_layers(viewer) == []


def test_after_cancel_one_can_segment_again(viewer, dock, disc_pixels, held, qtbot, wait_idle):
    may_go, _ = held
    viewer.add_image(disc_pixels)
    dock.segment_button.click()
    dock.task_bar.cancel()
    may_go.set()
    dock.segment_button.click()
    wait_idle(dock)
    assert len(live_layers(viewer)) == 1


def test_an_image_deleted_while_it_is_segmented_leaves_nothing(viewer, dock, disc_pixels, held, wait_idle):
    may_go, _ = held
    viewer.add_image(disc_pixels)
    dock.segment_button.click()
    viewer.layers.clear()
    may_go.set()
    wait_idle(dock)
    assert len(viewer.layers) == 0


def test_closing_the_dock_by_its_cross_ends_its_work_and_leaves_no_widget(
    viewer, dock, disc_pixels, held, qtbot
):
    may_go, was_closed = held
    viewer.add_image(disc_pixels)
    dock.segment_button.click()
    gone, (frame,) = [], [d for d in viewer.window._qt_window.findChildren(QDockWidget) if d.widget() is dock]
    dock.destroyed.connect(lambda: gone.append(True))
    frame.destroyOnClose()
    qtbot.waitUntil(lambda: bool(gone), timeout=60_000)
    may_go.set()
    assert was_closed.wait(60)
    qtbot.waitUntil(lambda: not _task._running, timeout=60_000)
    viewer.add_image(disc_pixels)
    assert live_layers(viewer) == []
    viewer.layers.clear()


def test_a_live_layer_that_is_deleted_ends_its_thread(viewer, segmented, qtbot):
    (live,) = live_layers(viewer)
    np.asarray(live.data[2])
    viewer.layers.remove(live)
    qtbot.waitUntil(
        lambda: not any(t.name.startswith("swipe-live") for t in threading.enumerate()), timeout=60_000
    )
    assert state_of(viewer).live(viewer.layers["disc"]) is None


def test_a_dock_that_is_opened_again_finds_everything_as_it_was(viewer, segmented, qtbot, disc_run):
    segmented.result.set_factor(4)
    viewer.window.remove_dock_widget(segmented)
    _, again = viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
    qtbot.waitUntil(lambda: not again.is_preloading, timeout=60_000)
    assert again.models.model.path == disc_run / "best.safetensors"
    assert again.result.isEnabled()
    assert again.result.factor == 4
    assert again.images.layer is viewer.layers["disc"]
    assert len(live_layers(viewer)) == 1


# The first steps of a user


@pytest.mark.parametrize("sample", ["nuclei", "hippocampus"])
def test_open_sample_and_segment_is_all_that_a_first_user_does(viewer, qtbot, sample, wait_idle):
    _, widget = viewer.window.add_plugin_dock_widget("napari-swipe", "Segment")
    viewer.open_sample("napari-swipe", sample)
    qtbot.waitUntil(lambda: not widget.is_preloading, timeout=60_000)
    assert widget.models.model.name == sample
    widget.segment_button.click()
    wait_idle(widget)
    (live,) = live_layers(viewer)
    reference = next(layer for layer in viewer.layers if layer.name.endswith("reference"))
    found = np.asarray(live.data[-1]) > 0
    ratio = found.mean() / (reference.data > 0).mean()
    assert 0.6 < ratio < 1.6


def test_labels_and_live_layers_of_a_nifti_image_know_its_forms(viewer, dock, disc_pixels, wait_idle):
    """What napari then saves of them lies over the image in every program."""
    from napari_swipe.layers.metadata import LayerMetadata, metadata_of
    from swipe_core.images import Space

    space = Space(is_anatomical=False)
    viewer.add_image(disc_pixels, name="disc", metadata=LayerMetadata(space=space).entries)
    dock.segment_button.click()
    wait_idle(dock)
    dock.outputs.render_labels()
    wait_idle(dock)
    dock.outputs.find_objects()
    wait_idle(dock)
    made = [layer for layer in viewer.layers if isinstance(layer, Labels)]
    assert len(made) == 3 and all(metadata_of(layer).space is space for layer in made)


def test_along_the_boundary_its_sureness_is_shown_and_under_the_mouse(viewer, segmented, wait_idle):
    segmented.outputs.show_half_widths()
    wait_idle(segmented)
    points = viewer.layers["disc · how sure"]
    widths = np.asarray(points.features["half width [µm]"])
    assert len(widths) == len(points.data) > 50 and (widths > 0).all()
    assert "±" in segmented.task_bar._words.text() and "µm" in segmented.task_bar._words.text()
    segmented.outputs.show_band()
    wait_idle(segmented)
    band = viewer.layers["disc · band of 90 %"].data
    assert 0 < np.count_nonzero(band) < band.size
    assert not points.visible


def test_distances_to_labels_are_in_the_unit_of_the_image_and_have_a_sign(viewer, segmented, wait_idle):
    field = state_of(viewer).segmented(viewer.layers["disc"]).field.first
    array = field.render(factor=4).array
    moved = viewer.add_labels(array, scale=(0.125, 0.125), translate=(-0.1875, -0.1875), units=("um", "um"))
    moved.translate = moved.translate + (0, 1.0)  # by two pixels
    segmented.others.show_distances(moved)
    wait_idle(segmented)
    points = viewer.layers[f"disc · distance to {moved.name}"]
    distances = np.asarray(points.features["distance [µm]"])
    assert distances.min() == pytest.approx(-1, abs=0.3) and distances.max() == pytest.approx(1, abs=0.3)
    assert "mean distance" in segmented.task_bar._words.text()


def test_labels_are_made_on_the_grid_of_another_layer(viewer, segmented, wait_idle):
    other = viewer.add_image(np.zeros((20, 30)), scale=(0.7, 0.4), translate=(1.0, 2.0), units=("um", "um"))
    segmented.images.pick(viewer.layers["disc"])
    offered = segmented.result.grid_menu
    offered.aboutToShow.emit()
    assert [action.text() for action in offered.actions()] == [other.name]
    offered.actions()[0].trigger()
    wait_idle(segmented)
    labels = viewer.layers[f"disc · labels on the grid of {other.name}"]
    assert labels.data.shape == (20, 30)
    np.testing.assert_allclose(labels.data_to_world((0, 0)), other.data_to_world((0, 0)))
    field = state_of(viewer).segmented(viewer.layers["disc"]).field.first
    centre = labels.data_to_world((5, 7))
    assert labels.data[5, 7] == field.classify([centre])[0]


def test_what_is_no_image_of_these_axes_is_refused_in_a_sentence(viewer, segmented, wait_idle, errors):
    stack = viewer.add_labels(np.zeros((3, 20, 30), np.uint8), name="stack")
    segmented.others.match_grid(stack)
    assert "stack is not one image" in errors[-1]


def test_the_boundary_is_measured_in_a_table_with_errors(viewer, segmented, wait_idle, tmp_path):
    shown = []
    viewer.window.add_dock_widget = lambda widget, **_: shown.append(widget)
    segmented.outputs.measure_boundary()
    wait_idle(segmented)
    (table,) = shown
    headings, *rows = table.lines()
    assert "area [µm²]" in headings and "mean intensity" in headings and rows
    assert "±" in rows[0][headings.index("area [µm²]")]
    table.save(str(tmp_path / "out.csv"))
    assert "area [um^2] error" in (tmp_path / "out.csv").read_text(encoding="utf-8")
