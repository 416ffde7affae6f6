"""The form of settings: nothing changes by being shown, and one touch changes one thing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_swipe.qt.number_box import NumberBox, WholeBox
from napari_swipe.train.config_form import ConfigForm, summary_of, with_fields
from napari_swipe.train.config_rows import field_of
from swipe_core.errors import ConfigError
from swipe_core.networks.catalogue import CATALOGUE
from swipe_core.training.config import ExperimentConfig, config_names, load_config, parse_config

# Fields with values that no box of few digits, and no box of 32 bits, would give back.
ODD: dict[str, dict[str, Any]] = {
    "many digits": {
        "training.learning_rate": 1 / 3000,
        "preprocessing.spacing": (0.1 + 0.2, 1 / 3, 4e-7),
        "batch.foreground_probability": 1 / 7,
    },
    "large numbers": {"training.seed": 2**40, "batch.points": 2**33, "training.learning_rate": 1e-300},
    "a wide window": {"preprocessing.intensity": "window", "preprocessing.window": (-1e30, 1e-30)},
    "a fixed size": {"preprocessing.size": (17, 33, 65)},
    "no variation": {"augmentation": None},
    "no mirrored axes": {"augmentation.flip": 0.25, "augmentation.flip_axes": ()},
    "whole images": {"preprocessing.crop_size": None},
    "rare fields": {"loss.beta": 0.3, "inference.threshold": 0.4, "model.overreach": 0, "batch.workers": 3},
}


@pytest.fixture
def form(qtbot) -> ConfigForm:
    form = ConfigForm()
    qtbot.addWidget(form)
    return form


@pytest.fixture
def told(form) -> list[str]:
    """What the form emits."""
    told: list[str] = []
    form.changed.connect(lambda: told.append("changed"))
    form.reset_button.clicked.connect(lambda: told.append("reset"))
    return told


# Nothing changes by being shown


@pytest.mark.parametrize("name", config_names())
def test_a_shipped_configuration_comes_back_as_it_is(form, told, name):
    config = load_config(name)
    form.set_config(config)
    assert form.config == config
    assert not form.edited
    assert told == []


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_an_odd_configuration_comes_back_as_it_is(form, tiny_volume_config, changes):
    config = with_fields(tiny_volume_config, changes)
    form.set_config(load_config("polyp"))
    form.set_config(config)
    assert form.config == config
    assert not form.edited


# One touch changes one thing

TOUCHES: dict[str, tuple[Any, Any]] = {
    "training.learning_rate": (
        lambda form: form.fields["training.learning_rate"].control.setValue(3e-5),
        3e-5,
    ),
    "batch.size": (lambda form: form.fields["batch.size"].control.setValue(7), 7),
    "batch.points": (lambda form: form.fields["batch.points"].control.setValue(300), 300),
    "batch.foreground_probability": (
        lambda form: form.fields["batch.foreground_probability"].control.setValue(0.3),
        0.3,
    ),
    "sampling.corrected_share": (
        lambda form: form.fields["sampling.corrected_share"].control.setValue(0.25),
        0.25,
    ),
    "training.averaging_steps": (
        lambda form: form.fields["training.averaging_steps"].control.setValue(40),
        40,
    ),
    "training.frozen_statistics": (
        lambda form: form.fields["training.frozen_statistics"].control.setChecked(True),
        True,
    ),
    "training.seed": (lambda form: form.fields["training.seed"].control.setValue(5), 5),
    "preprocessing.intensity": (lambda form: form.intensity.kind.choose("unit"), "unit"),
    "preprocessing.crop_size": (
        lambda form: form.crop.numbers["crop_size"].boxes[1].setValue(24),
        (16, 24, 16),
    ),
    "preprocessing.spacing": (lambda form: form.resampling.kind.choose("spacing"), (1.0, 1.0, 1.0)),
    "preprocessing.size": (lambda form: form.resampling.kind.choose("size"), (48, 48, 48)),
    "augmentation.flip": (lambda form: form.variation.switches["flip"].setChecked(False), 0.0),
    "augmentation.rotation_degrees": (lambda form: form.variation.degrees.setValue(12.5), 12.5),
    "augmentation.scale": (lambda form: form.variation.switches["scale"].setChecked(True), 0.5),
    "augmentation.colour": (lambda form: form.variation.switches["colour"].setChecked(True), 0.5),
    "augmentation.intensity": (lambda form: form.variation.switches["intensity"].setChecked(True), 0.5),
}


@pytest.mark.parametrize("field", TOUCHES)
def test_a_touch_changes_its_field_and_no_other(form, told, tiny_volume_config, field):
    touch, value = TOUCHES[field]
    form.set_config(tiny_volume_config)
    touch(form)
    assert form.edited
    assert told == ["changed"]
    assert field_of(form.config, field) == value
    assert form.config == with_fields(tiny_volume_config, {field: value})


def test_every_row_is_touched_by_these_tests(form, tiny_volume_config):
    form.set_config(tiny_volume_config)
    for touch, _ in TOUCHES.values():
        touch(form)
    assert all(row.is_touched for row in form.rows.values())


def test_one_axis_is_changed_and_the_others_keep_their_digits(form, tiny_volume_config):
    config = with_fields(tiny_volume_config, {"preprocessing.spacing": (1 / 3, 2 / 3, 0.1)})
    form.set_config(config)
    form.resampling.numbers["spacing"].boxes[2].setValue(0.2)
    assert form.config.preprocessing.spacing == (1 / 3, 2 / 3, 0.2)


def test_a_fixed_size_gives_way_to_a_voxel_size(form):
    form.set_config(load_config("polyp"))
    form.resampling.kind.choose("spacing")
    assert form.config.preprocessing.size is None
    assert form.config.preprocessing.spacing == (1.0, 1.0)


def test_crops_can_be_switched_off_and_on(form, tiny_volume_config):
    form.set_config(tiny_volume_config)
    form.crop.kind.choose("none")
    assert form.config.preprocessing.crop_size is None
    assert not form.fields["batch.foreground_probability"].isEnabled()
    form.crop.kind.choose("crop_size")
    assert form.config == tiny_volume_config


def test_variation_can_be_switched_on_where_there_was_none(form, tiny_volume_config):
    form.set_config(with_fields(tiny_volume_config, {"augmentation": None}))
    form.variation.switches["flip"].setChecked(True)
    variation = form.config.augmentation
    assert variation is not None
    assert (variation.flip, variation.rotation, variation.scale, variation.colour) == (0.5, 0, 0, 0)


def test_what_is_switched_off_and_on_again_is_as_likely_as_before(form, tiny_volume_config):
    config = with_fields(tiny_volume_config, {"augmentation.flip": 0.2})
    form.set_config(config)
    form.variation.switches["flip"].setChecked(False)
    form.variation.switches["flip"].setChecked(True)
    assert form.config == config


def test_another_configuration_forgets_the_touches(form, told, tiny_config):
    form.set_config(tiny_config())
    form.fields["batch.size"].control.setValue(7)
    form.set_config(tiny_config())
    assert not form.edited
    assert form.config == tiny_config()
    assert told == ["changed"]


def test_the_button_asks_for_the_suggested_settings_and_sets_nothing(form, told, tiny_config):
    form.set_config(tiny_config())
    form.reset_button.click()
    assert told == ["reset"]
    assert form.config == tiny_config()


# What does not fit together


def test_without_a_configuration_there_is_none_to_be_had(form):
    with pytest.raises(ConfigError, match="There are no settings yet"):
        _ = form.config
    assert not form.edited
    assert form.fault.isHidden()


def faulty_window(form: ConfigForm) -> None:
    form.intensity.kind.choose("window")
    form.intensity.numbers["window"].boxes[0].setValue(2000)


def faulty_scales(form: ConfigForm) -> None:
    form.variation.switches["scale"].setChecked(True)
    form.variation.scales.boxes[0].setValue(2)


def faulty_crop(form: ConfigForm) -> None:
    for box in form.crop.numbers["crop_size"].boxes:
        box.setValue(100_000)


@pytest.mark.parametrize(
    "break_it, sentence",
    [
        (faulty_window, "low value to a higher one, and 2000 to 1000"),
        (faulty_scales, "2 to 1.25 does not rise"),
        (faulty_crop, "more than any memory holds"),
    ],
)
def test_what_does_not_fit_is_said_and_raised_until_it_is_mended(
    form, told, tiny_volume_config, break_it, sentence
):
    form.set_config(tiny_volume_config)
    break_it(form)
    assert sentence in form.fault.text()
    assert not form.fault.isHidden()
    assert told
    with pytest.raises(ConfigError, match=sentence):
        _ = form.config
    form.set_config(tiny_volume_config)
    assert form.fault.isHidden()
    assert form.summary.text().startswith("3D")


# Other networks


def other_network(config: ExperimentConfig, **model: Any) -> ExperimentConfig:
    values = config.model_dump()
    shared = {"ndim": config.model.ndim, "channels": config.model.channels, "classes": config.model.classes}
    values["model"] = shared | model
    return parse_config(values)


@pytest.mark.parametrize("network", [name for name in CATALOGUE if name != "swipe"])
def test_a_configuration_of_another_network_comes_back_as_it_is_and_can_be_changed(
    form, tiny_config, tiny_volume_config, network
):
    config = other_network(
        tiny_config() if 2 in CATALOGUE[network].dimensions else tiny_volume_config, network=network
    )
    form.set_config(config, parameters=1_000_000)
    assert form.config == config and not form.edited
    assert form.summary.text().endswith(f"{CATALOGUE[network].title} of 1.0 M parameters")
    form.fields["batch.size"].control.setValue(7)
    assert form.config == config.model_copy(update={"batch": config.batch.model_copy(update={"size": 7})})


def test_crops_of_a_network_with_a_window_bring_the_window_along(form, tiny_volume_config):
    config = other_network(tiny_volume_config, network="unetr", window=(16, 32, 16))
    form.set_config(config)
    for size, window in (((16, 16, 16), (16, 32, 16)), ((40, 32, 17), (48, 32, 32))):
        for box, n in zip(form.crop.numbers["crop_size"].shown, size, strict=True):
            box.setValue(n)
        assert form.config.preprocessing.crop_size == size and form.config.model.window == window
    # What was set stays where there is no window.
    form.set_config(other_network(tiny_volume_config, network="unet"), keep_edits=True)
    assert form.config.preprocessing.crop_size == (40, 32, 17) and form.config.model.network == "unet"
    form.set_config(config, keep_edits=True)
    assert form.config.model.window == (48, 32, 32)
    form.crop.kind.choose("none")
    assert "not whole volumes" in form.fault.text()


# What it looks like


def test_the_summary_says_what_will_be_trained(tiny_volume_config, tiny_config):
    assert summary_of(tiny_volume_config, 1_234_567) == (
        "3D, crops of 16 × 16 × 16, 2 images and 64 points a step, learning rate 0.02, "
        "SwIPE of 1.2 M parameters"
    )
    assert summary_of(tiny_config()) == (
        "2D, whole images, 4 images and 512 points a step, learning rate 0.02, SwIPE"
    )
    assert "whole images as 224 × 224" in summary_of(load_config("polyp"))


def test_the_summary_follows_what_the_user_sets(form, tiny_config):
    form.set_config(tiny_config(), parameters=45_600)
    form.fields["batch.size"].control.setValue(1)
    assert "1 image and 512 points" in form.summary.text()
    assert "45.6 k parameters" in form.summary.text()


def test_the_form_fits_into_a_narrow_dock(viewer, qtbot, tiny_volume_config):
    form = ConfigForm()
    viewer.window.add_dock_widget(form, name="Settings")
    form.set_config(tiny_volume_config)
    faulty_window(form)
    form.resampling.kind.choose("spacing")
    form.fold.setChecked(True)
    qtbot.wait(50)
    assert form.fields["training.seed"].isVisible()
    assert form.minimumSizeHint().width() <= 335
    assert form.fault.palette().windowText().color().red() > 200
    form.fold.setChecked(False)
    assert not form.fields["training.seed"].isVisible()


# Boxes


@given(value=st.floats(1e-9, 1e12) | st.floats(-1e12, -1e-9))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_box_keeps_every_digit_of_a_number_that_it_shows(qapp, value):
    box = NumberBox()
    box.setValue(value)
    assert box.value() == pytest.approx(value, rel=1e-15)
    box.interpretText()  # as Enter does
    assert box.value() == pytest.approx(value, rel=1e-15)
    assert box.text() == f"{value:.6g}"


@pytest.mark.parametrize("text, value", [("5e-4", 5e-4), ("0,25", 0.25), ("12", 12.0), ("1e3", 1000.0)])
def test_a_number_can_be_typed_in_any_way(qtbot, text, value):
    box = NumberBox(0)
    qtbot.addWidget(box)
    box.selectAll()
    qtbot.keyClicks(box, text)
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert box.value() == pytest.approx(value, rel=1e-15)


def test_letters_cannot_be_typed_and_a_number_out_of_range_is_not_taken(qtbot):
    box = NumberBox(0, 1)
    qtbot.addWidget(box)
    box.setValue(0.5)
    box.selectAll()
    qtbot.keyClicks(box, "x7")
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert box.value() == 0.5


@pytest.mark.parametrize("kind", [NumberBox, WholeBox])
def test_the_wheel_scrolls_the_dock_and_turns_no_number(qtbot, kind):
    box = kind(0)
    qtbot.addWidget(box)
    box.setValue(3)
    nowhere = QPointF(5, 5)
    buttons, phase = Qt.MouseButton.NoButton, Qt.ScrollPhase.NoScrollPhase
    keys = Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(nowhere, nowhere, QPoint(0, 120), QPoint(0, 120), buttons, keys, phase, False)
    QApplication.sendEvent(box, event)
    assert box.value() == 3
    assert not event.isAccepted()


def test_the_form_is_imported_and_shown_without_torch_and_pyqtgraph():
    code = (
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari_swipe.train.config_form import ConfigForm\n"
        "form = ConfigForm()\n"
        "import sys\n"
        "print({'pyqtgraph', 'torch', 'matplotlib', 'scipy'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split("\n")[0] == "set()"


def test_a_number_has_the_bounds_that_the_configuration_declares(form, tiny_config):
    form.set_config(tiny_config())
    for field, low, high in (
        ("batch.size", 1, None),
        ("training.seed", 0, None),
        ("sampling.corrected_share", 0, 1),
    ):
        box = form.fields[field].control
        assert box.minimum() == low and (high is None or box.maximum() == high)
    assert 0 < form.fields["training.learning_rate"].control.minimum() < 1e-6
