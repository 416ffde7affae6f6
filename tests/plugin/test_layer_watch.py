"""What is noticed of a layer that changes, and how a source tells what has changed."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtWidgets import QApplication

from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.source import LayerSource, content_digest
from napari_swipe.layers.watch import LayerWatch


def picture(**arguments) -> Image:
    arguments = {"scale": (0.5, 0.5), "units": ("mm", "mm")} | arguments
    return Image(np.arange(48, dtype=np.uint8).reshape(6, 8), **arguments)


def sealed(layer: Image) -> LayerSource:
    return LayerSource.from_layer(layer, AxisRoles(("space",) * layer.ndim)).sealed()


def set_value(name: str, value: object):
    return lambda layer: setattr(layer, name, value)


CHANGES = {
    "the same numbers in another array": (lambda layer: set_value("data", layer.data.copy())(layer), "data"),
    "another type of numbers": (lambda layer: set_value("data", layer.data.astype(float))(layer), "data"),
    "a crop": (lambda layer: set_value("data", layer.data[:4])(layer), "shape"),
    "a volume in place of a picture": (set_value("data", np.zeros((3, 6, 8))), "shape"),
    "a scale": (set_value("scale", (0.5, 0.25)), "place or spacing"),
    "a shift": (set_value("translate", (0.0, 0.01)), "place or spacing"),
    "a turn": (set_value("rotate", 10), "place or spacing"),
    "a shear": (set_value("shear", (0.1,)), "place or spacing"),
    "an affine": (set_value("affine", np.diag([2.0, 1.0, 1.0])), "place or spacing"),
    "units": (set_value("units", ("um", "um")), "units"),
    "names of axes": (set_value("axis_labels", ("t", "x")), "names of axes"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_napari_changes_is_noticed_and_named(qtbot, name):
    change, words = CHANGES[name]
    layer, told = picture(), []
    source, watch = sealed(layer), LayerWatch()
    watch.changed.connect(told.append)
    watch.follow([layer])
    assert source.difference(layer) is None
    change(layer)
    assert layer in told
    assert source.difference(layer) == (f"other {words}" if words[0] in "dun" else f"another {words}")
    watch.stop()
    told.clear()
    layer.scale = (3.0,) * layer.ndim
    assert told == []


def test_a_place_that_comes_back_is_no_difference(qtbot):
    layer = picture(scale=(2e-8, 2e-8), units=("m", "m"))
    source = sealed(layer)
    layer.scale = (3e-8, 2e-8)
    assert source.difference(layer) == "another place or spacing"
    layer.scale = (2e-8, 2e-8)
    assert source.difference(layer) is None


def test_what_is_written_into_the_array_is_found_once_it_is_drawn(qtbot):
    layer = picture()
    source, watch, told = sealed(layer), LayerWatch(), []
    watch.redrawn.connect(told.append)
    watch.follow([layer])
    layer.data[2, 3] = 255
    layer.refresh()
    assert told == []  # nobody is asked at each slice that is looked at
    qtbot.waitUntil(lambda: told == [layer])
    assert source.difference(layer) == "other data"


def test_paint_is_told_once_after_a_rest(qtbot):
    labels, told = Labels(np.zeros((6, 8), np.uint8)), []
    watch = LayerWatch()
    watch.redrawn.connect(told.append)
    watch.follow([labels])
    labels.paint((2, 2), 1)
    labels.paint((4, 4), 1)
    labels.undo()
    qtbot.waitUntil(lambda: told == [labels])


@pytest.mark.parametrize("shape", [(0, 4), (5,), (3, 4, 5)])
def test_a_digest_is_of_the_numbers_and_not_of_their_place_in_memory(shape):
    array = np.random.default_rng(0).normal(size=shape)
    assert content_digest(array) == content_digest(np.asfortranarray(array).copy(order="F"))
    if array.size:
        assert content_digest(array) != content_digest(array + 1)


def test_what_is_not_in_memory_has_no_digest(tmp_path):
    array = np.memmap(tmp_path / "large.raw", np.uint8, "w+", shape=(4, 4))
    assert content_digest(array) is None


def test_a_table_of_objects_is_grey_while_its_layer_is_not_what_was_measured(qtbot):
    from napari_swipe.segment.object_table import ObjectTable
    from napari_swipe.segment.outputs import Objects

    labels = Labels(np.eye(6, dtype=np.uint8), name="objects")
    table = ObjectTable(Objects(labels.as_layer_data_tuple(), [], "pixel", 2))
    qtbot.addWidget(table)
    table.follow(labels)
    labels.scale = (2.0, 2.0)
    assert not table.table.isEnabled()
    assert table.caption.text().startswith("objects has another place or spacing than when it was measured")
    labels.scale = (1.0, 1.0)
    assert table.table.isEnabled() and table.caption.isHidden()
    labels.paint((2, 4), 3)
    qtbot.waitUntil(lambda: not table.table.isEnabled())
    labels.undo()
    qtbot.waitUntil(table.table.isEnabled)


def test_a_table_of_objects_shows_every_column_of_the_core_in_the_units_of_its_layer(qtbot, monkeypatch):
    from napari_swipe.segment.object_table import ObjectTable
    from napari_swipe.segment.outputs import Objects
    from swipe_core.measure.objects import OBJECT_COLUMNS, Column, ObjectMeasurement

    squared = Column("{size} squared", lambda found: found.size**2)
    monkeypatch.setattr("swipe_core.measure.objects.OBJECT_COLUMNS", [*OBJECT_COLUMNS, squared])
    disc = ObjectMeasurement(1, 1, "disc", 3.0, (1.0, 2.5), ((0, 2), (0, 3)), 1.23456789, True)
    table = ObjectTable(Objects(Labels(np.eye(4, dtype=int)).as_layer_data_tuple(), [disc], "micrometer", 2))
    qtbot.addWidget(table)
    table.copy()
    headings, row = (line.split("\t") for line in QApplication.clipboard().text().splitlines())
    assert dict(zip(headings, row, strict=True)) == {
        "number": "1",
        "class": "disc",
        "area [µm²]": "3",
        "centroid y [µm]": "1",
        "centroid x [µm]": "2.5",
        "largest diameter [µm]": "1.2346",
        "touches border": "yes",
        "area squared": "9",
    }
    assert [table.table.horizontalHeaderItem(i).text() for i in range(table.table.columnCount())] == headings


def test_a_table_that_is_closed_follows_nothing(qtbot):
    from qtpy.QtWidgets import QApplication

    from napari_swipe.segment.object_table import ObjectTable
    from napari_swipe.segment.outputs import Objects

    labels = Labels(np.eye(6, dtype=np.uint8))
    table = ObjectTable(Objects(labels.as_layer_data_tuple(), [], "pixel", 2))
    table.follow(labels)
    table.deleteLater()
    with qtbot.waitSignal(table.destroyed):
        QApplication.processEvents()
    labels.scale = (2.0, 2.0)
