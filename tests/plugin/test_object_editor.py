"""Objects corrected by hand in the window: a line does what the button says, and the table follows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Labels

from napari_swipe.segment.object_table import ObjectTable
from napari_swipe.segment.outputs import Objects
from swipe_core.coordinates import Affine
from swipe_core.inference.field import Segmentation
from swipe_core.measure.objects import measure_objects, number_objects


@pytest.fixture
def labels():
    """Two squares, of spacing 0.5."""
    array = np.zeros((20, 30), np.uint8)
    array[5:15, 2:12], array[5:15, 20:26] = 1, 1
    return Labels(array.astype(np.int32) + (np.arange(30) > 15) * array, name="objects", scale=(0.5, 0.5))


@pytest.fixture
def table(labels, qtbot):
    classes = Segmentation(
        (labels.data > 0).astype(np.uint8), Affine.from_spacing((0.5, 0.5)), "pixel", class_names=("cell",)
    )
    measured = measure_objects(number_objects(classes), classes, ("cell",))
    table = ObjectTable(Objects(labels.as_layer_data_tuple(), measured, "pixel", 2, classes))
    qtbot.addWidget(table)
    table.follow(labels)
    return table


@pytest.fixture
def editor(table):
    return table.editor


def drag(editor, labels, *places):
    """Press, move and release as napari does, at places in the world."""
    event = SimpleNamespace(type="mouse_press", position=places[0], dims_displayed=[0, 1])
    work = editor._on_drag(labels, event)
    for number, place in enumerate(places):
        event.position, event.type = place, "mouse_move" if number else "mouse_press"
        next(work, None)
    event.type = "mouse_release"
    next(work, None)


def areas(table):
    return sorted(float(row[2]) for row in table.lines()[1:])


def test_without_a_button_a_drag_does_nothing(editor, labels):
    before = labels.data.copy()
    drag(editor, labels, (5.0, 0.0), (5.0, 14.0))
    np.testing.assert_array_equal(labels.data, before)


def test_a_drag_joins_and_ctrl_z_parts_again_and_the_table_follows_both(editor, table, labels, qtbot):
    assert areas(table) == [15.0, 25.0]
    editor.buttons["Join"].click()
    drag(editor, labels, (5.0, 3.0), (5.0, 11.5))
    assert set(np.unique(labels.data)) == {0, 1}
    qtbot.waitUntil(lambda: areas(table) == [40.0])
    assert table.below.text() == "1 object" and table.table.isEnabled()
    labels.undo()
    qtbot.waitUntil(lambda: areas(table) == [15.0, 25.0])


def test_a_drag_cuts_one_object_in_two_in_the_world_of_the_layer(editor, table, labels, qtbot):
    editor.buttons["Cut"].click()
    drag(editor, labels, (1.0, 3.0), (9.0, 3.0))
    assert labels.data[10, 3] != labels.data[10, 10]
    qtbot.waitUntil(lambda: len(areas(table)) == 3)
    assert sum(areas(table)) == 40.0


def test_a_click_removes_one(editor, table, labels, qtbot):
    editor.buttons["Remove"].click()
    drag(editor, labels, (5.0, 11.0))
    qtbot.waitUntil(lambda: areas(table) == [25.0])


def test_one_button_is_down_at_most_and_the_camera_stays_meanwhile(editor, labels):
    editor.buttons["Join"].click()
    assert editor.chosen == "Join" and not labels.mouse_pan
    editor.buttons["Cut"].click()
    assert editor.chosen == "Cut" and not labels.mouse_pan
    editor.buttons["Cut"].click()
    assert editor.chosen is None and labels.mouse_pan


def test_what_cannot_be_done_is_said_and_changes_nothing(editor, labels, monkeypatch):
    said = []
    monkeypatch.setattr("napari_swipe.segment.object_editor.show_warning", said.append)
    before = labels.data.copy()
    editor.apply("Cut", np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert "from one side to the other" in said[0]
    np.testing.assert_array_equal(labels.data, before)


def test_what_is_painted_is_measured_too(table, labels, qtbot):
    labels.data_setitem((np.array([0]), np.array([0])), 7)
    qtbot.waitUntil(lambda: areas(table) == [0.25, 15.0, 25.0])
    assert [row[1] for row in table.lines()[1:]] == ["cell"] * 3
