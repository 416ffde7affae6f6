"""The panel to annotate with: which layers go together, what their numbers mean, and how much is painted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import dask.array
import numpy as np
import pandas
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor

from napari_swipe.annotate import counts as _label_counts
from napari_swipe.annotate import layers as _painted_layers
from napari_swipe.annotate.class_table import NAME
from napari_swipe.annotate.counts import LabelCounts, iter_count
from napari_swipe.annotate.pair_table import IMAGE, PAINTED
from napari_swipe.annotate.pairs import AnnotatedPairs
from napari_swipe.annotate.panel import AnnotatePanel
from napari_swipe.layers.geometry import layer_matrix
from swipe_core.data.annotations import BACKGROUND_COLOUR, AnnotationScheme
from swipe_core.errors import DataError, ImageError
from swipe_core.progress import finish

PATIENCE = 60_000  # milliseconds; only a hang comes near it
TWO = AnnotationScheme(("cell", "debris"), ("#112233", "#445566"), "ignored")


@pytest.fixture
def scene() -> ViewerModel:
    """A viewer without a window, which is what takes time."""
    return ViewerModel()


@pytest.fixture
def panel(scene, qtbot):
    model = AnnotatedPairs(scene)
    panel = AnnotatePanel(scene, model)
    qtbot.addWidget(panel)
    yield panel
    panel.disconnect_viewer()
    model.disconnect_viewer()


@pytest.fixture
def counts(qtbot):
    """Makes the counts of a layer, and lets go of it in the end."""
    made: list[LabelCounts] = []

    def make(layer: Labels) -> LabelCounts:
        made.append(LabelCounts(layer))
        return made[-1]

    yield make
    for each in made:
        each.disconnect_layer()


def true_histogram(array: np.ndarray) -> dict[int, int]:
    return dict(zip(*(part.tolist() for part in np.unique(array, return_counts=True)), strict=True))


def stroke(layer: Labels, label: int, *points: tuple[float, ...]) -> None:
    """One drag of the brush."""
    layer.selected_label, layer.mode = label, "paint"
    with layer.block_history():
        for first, second in zip(points, points[1:], strict=False):
            layer._draw(label, first, second)


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - centre[0], columns - centre[1]) < radius


# Counting


@pytest.mark.parametrize(
    "array",
    [
        np.arange(60, dtype=np.uint8).reshape(3, 4, 5) % 3,
        np.array([[-4, 0, 2**40], [7, 7, 0]]),
        np.zeros((0, 5), np.uint8),
        dask.array.from_array(np.eye(40, dtype=np.uint16) * 300, chunks=7),
    ],
    ids=["small", "any numbers", "empty", "dask"],
)
def test_a_histogram_holds_every_label_with_its_voxels(array, monkeypatch):
    monkeypatch.setattr(_label_counts, "BLOCK", 6)
    counted = finish(iter_count(array))
    total = sum((block.voxels for block in counted), Counter())
    assert total == Counter(true_histogram(np.asarray(array)))


def test_only_blocks_that_are_not_as_they_were_are_counted_anew(monkeypatch):
    monkeypatch.setattr(_label_counts, "BLOCK", 6)
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5) % 3
    before = finish(iter_count(array))
    array[1, 2, 3] += 1
    after = finish(iter_count(array, before))
    assert sum(one is not other for one, other in zip(before, after, strict=True)) == 1
    assert sum((block.voxels for block in after), Counter()) == Counter(true_histogram(array))


def test_whatever_the_brush_does_the_counts_are_those_of_the_array(counts):
    rng = np.random.default_rng(0)
    layer = Labels(np.zeros((6, 40, 40), np.uint8))
    counted = counts(layer)
    for step in range(60):
        act = rng.choice(["paint", "erase", "fill", "polygon", "set", "undo", "redo"])
        place = (rng.integers(6), rng.integers(40), rng.integers(40))
        layer.n_edit_dimensions, layer.brush_size = int(rng.integers(2, 4)), int(rng.integers(1, 12))
        if act in ("paint", "erase"):
            label = 0 if act == "erase" else int(rng.integers(1, 4))
            stroke(layer, label, place, (place[0], *rng.integers(40, size=2)))
        elif act == "fill":
            layer.fill(place, int(rng.integers(4)))
        elif act == "polygon":
            layer.n_edit_dimensions = 2
            layer.paint_polygon([(0, 3, 3), (0, 30, 5), (0, 20, 30)], int(rng.integers(1, 4)))
        elif act == "set":
            layer.data_setitem(tuple(rng.integers(6, size=(3, 20))), int(rng.integers(4)))
        else:
            getattr(layer, act)()
        assert counted.histogram == true_histogram(layer.data), f"after step {step}, {act}"


def test_a_history_that_is_full_counts_on(counts):
    layer = Labels(np.zeros((30, 30), np.uint8))
    counted = counts(layer)
    for number in range(layer._history_limit + 5):
        layer.paint((number % 30, 7 * number % 30), 1 + number % 3)
    layer.undo()
    layer.undo()
    layer.redo()
    assert counted.histogram == true_histogram(layer.data)


def test_another_array_and_what_is_written_past_napari_are_counted(counts, qtbot):
    layer = Labels(np.zeros((30, 30), np.uint8))
    counted = counts(layer)
    layer.data = np.full((30, 30), 2, np.uint8)
    assert counted.histogram == {2: 900}
    layer.data[:3] = 5
    with qtbot.waitSignal(counted.changed, timeout=PATIENCE):
        layer.refresh()
    assert counted.histogram == {2: 810, 5: 90}


def test_a_large_layer_is_counted_in_a_thread_and_loses_no_stroke_meanwhile(counts, qtbot, monkeypatch):
    monkeypatch.setattr(_label_counts, "COUNTED_AT_ONCE", 100)
    layer = Labels(np.ones((30, 30), np.uint8))
    counted = counts(layer)
    assert counted.histogram is None
    stroke(layer, 3, (3, 3), (20, 20))
    qtbot.waitUntil(lambda: counted.histogram is not None and not counted.is_pending, timeout=PATIENCE)
    qtbot.waitUntil(lambda: counted.histogram == true_histogram(layer.data), timeout=PATIENCE)
    layer.undo()
    qtbot.waitUntil(lambda: counted.histogram == {1: 900}, timeout=PATIENCE)


@pytest.mark.parametrize("act", ["stroke", "erase", "fill", "undo", "redo", "same numbers elsewhere"])
def test_each_change_is_told_once_the_brush_has_come_to_rest_and_nothing_else_is(counts, qtbot, act):
    layer = Labels(np.zeros((30, 30), np.uint8))
    stroke(layer, 2, (5, 5), (5, 20))
    stroke(layer, 2, (15, 5), (15, 20))
    layer.undo()
    counted = counts(layer)
    acts = {
        "stroke": lambda: stroke(layer, 1, (9, 9), (9, 15)),
        "erase": lambda: stroke(layer, 0, (5, 5), (5, 9)),
        "fill": lambda: layer.fill((20, 20), 3),
        "undo": layer.undo,
        "redo": layer.redo,
        "same numbers elsewhere": lambda: layer.data.__setitem__(slice(None), layer.data[::-1].copy()),
    }
    with qtbot.waitSignal(counted.changed, timeout=PATIENCE):
        acts[act]()
        layer.refresh()
    assert counted.histogram == true_histogram(layer.data)
    with qtbot.assertNotEmitted(counted.changed, wait=600):
        layer.refresh()


# New annotations


@pytest.mark.parametrize(
    ("data", "arguments", "shape"),
    [
        (np.zeros((20, 30)), {"scale": (0.5, 2.0), "translate": (3, 4), "units": "um"}, (20, 30)),
        (np.zeros((20, 30, 3), np.uint8), {"rgb": True, "rotate": 30}, (20, 30)),
        (np.zeros((4, 20, 30, 4), np.uint8), {"rgb": True}, (4, 20, 30)),
        (np.zeros((3, 20, 30)), {"axis_labels": ("channel", "y", "x"), "scale": (1, 2, 3)}, (20, 30)),
        (np.zeros((4, 3, 20, 30)), {"axis_labels": ("t", "c", "y", "x")}, (4, 1, 20, 30)),
        (np.zeros((5, 20, 30)), {"axis_labels": ("z", "y", "x"), "scale": (5, -1, 1)}, (5, 20, 30)),
        ([np.zeros((40, 60)), np.zeros((20, 30))], {"multiscale": True, "scale": (3, 3)}, (40, 60)),
    ],
    ids=["grey", "colour", "colour frames", "channels", "channels in frames", "volume", "levels"],
)
def test_a_new_annotation_lies_over_its_image(scene, panel, data, arguments, shape):
    image = scene.add_image(data, **arguments)
    labels = panel.model.add(image).labels
    assert labels.data.shape == shape
    kept = [axis for axis in range(image.ndim) if image.axis_labels[axis] not in ("channel", "c")]
    own = [axis for axis in range(labels.ndim) if labels.axis_labels[axis] not in ("channel", "c")]
    expected = layer_matrix(image)[np.ix_([*kept, -1], [*kept, -1])]
    np.testing.assert_allclose(layer_matrix(labels)[np.ix_([*own, -1], [*own, -1])], expected, atol=1e-9)
    assert labels.units[-1] == image.units[-1]


def test_a_new_annotation_is_ready_to_be_painted_on(scene, panel):
    image = scene.add_image(np.zeros((20, 30)), name="cells")
    labels = panel.model.add(image).labels
    assert scene.layers.selection.active is labels
    assert (labels.name, labels.mode, labels.brush_size) == ("cells annotation", "paint", 5)
    assert panel.model.scheme.unpainted == "ignored"
    np.testing.assert_allclose(labels.colormap.map(np.uint8(0))[..., 3], 0)


def test_an_annotation_follows_its_image_when_the_spacing_is_set_later(scene, panel):
    image = scene.add_image(np.zeros((4, 20, 30)), translate=(1, 2, 3))
    labels = panel.model.add(image).labels
    image.scale, image.translate, image.units = (3, 0.5, 0.5), (7, 8, 9), "mm"
    np.testing.assert_allclose(layer_matrix(labels), layer_matrix(image))
    assert labels.units == image.units


def test_labels_that_lie_elsewhere_stay_there_and_the_user_is_told(scene, panel, qtbot):
    image = scene.add_image(np.zeros((20, 30)), scale=(2, 2))
    labels = scene.add_labels(np.zeros((20, 30), np.uint8), name="elsewhere")
    with qtbot.waitSignal(panel.model.noticed) as told:
        panel.model.add(image, labels)
    assert "elsewhere lies at another place" in told.args[0]
    image.scale = (3, 3)
    np.testing.assert_allclose(labels.scale, (1, 1))


# What does not go together


def test_an_image_is_annotated_once(scene, panel):
    image = scene.add_image(np.zeros((20, 30)), name="cells")
    panel.model.add(image)
    with pytest.raises(ImageError, match="cells is in the list already: pick another image"):
        panel.model.add(image)


def test_labels_belong_to_one_image(scene, panel):
    first, second = (scene.add_image(np.zeros((20, 30)), name=name) for name in ("first", "second"))
    labels = panel.model.add(first).labels
    with pytest.raises(ImageError, match="is the annotation of first already"):
        panel.model.add(second, labels)


@pytest.mark.parametrize("shape", [(20, 31), (1, 20, 30), (30, 20)])
def test_labels_of_another_shape_are_refused_with_what_to_do(scene, panel, shape):
    image = scene.add_image(np.zeros((20, 30)))
    labels = scene.add_labels(np.zeros(shape, np.uint8))
    with pytest.raises(ImageError, match=r"needs labels of 20 × 30: pick labels of this image, or New"):
        panel.model.add(image, labels)
    assert panel.model.pairs == []


def test_labels_of_several_levels_are_not_offered_and_refused(scene, panel):
    image = scene.add_image(np.zeros((20, 30)))
    levels = scene.add_labels([np.zeros((20, 30), int), np.zeros((10, 15), int)], multiscale=True)
    assert panel.picker.labels_box.count() == 1
    with pytest.raises(ImageError, match="has several levels and cannot be painted"):
        panel.model.add(image, levels)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_an_image_that_is_turned_out_of_its_planes_is_refused(scene, panel):
    turned = scene.add_image(np.zeros((5, 20, 30)), rotate=(20, 30, 40))
    with pytest.raises(ImageError, match="rotated or sheared"):
        panel.model.add(turned)
    assert [type(layer) for layer in scene.layers] == [Image]


def test_what_is_refused_at_the_button_is_told(scene, panel, errors):
    image = scene.add_image(np.zeros((20, 30)), name="cells")
    labels = scene.add_labels(np.zeros((5, 5), np.uint8))
    panel.picker.pick(image, labels)
    panel.picker.button.click()
    assert len(errors) == 1 and "needs labels of 20 × 30" in errors[0]


# Frames and volumes


@pytest.mark.parametrize(
    ("names", "ndim", "is_offered"),
    [(None, 2, True), ("zyx", 3, True), ("tyx", 2, False), ("czyx", 3, True), ("cyx", 2, False)],
)
def test_the_names_of_axes_tell_volumes_from_frames(scene, panel, names, ndim, is_offered):
    shape = (4, 20, 30) if names is None else (4, 5, 20, 30)[-len(names) :]
    pair = panel.model.add(scene.add_image(np.zeros(shape), axis_labels=names and tuple(names)))
    assert panel.model.ndim == ndim
    assert len(panel.model.source(pair).axes.space) == ndim
    assert panel.kind.isHidden() != is_offered


def test_a_stack_is_taken_for_a_volume_when_the_user_says_so(scene, panel, qtbot):
    pair = panel.model.add(scene.add_image(np.zeros((4, 20, 30))))
    assert panel.model.source(pair).axes.frames == (0,)
    with qtbot.waitSignal(panel.model.changed):
        panel.kind.activated.emit(1)
    assert panel.model.ndim == 3
    assert panel.model.source(pair).axes.space == (0, 1, 2)


def test_a_picture_among_volumes_is_refused_until_all_are_frames(scene, panel):
    volume = scene.add_image(np.zeros((4, 20, 30)), axis_labels=("z", "y", "x"))
    picture = scene.add_image(np.zeros((20, 30)), name="picture")
    panel.model.add(volume)
    with pytest.raises(ImageError, match="switch to 2D"):
        panel.model.add(picture)
    panel.model.set_ndim(2)
    panel.model.add(picture)
    with pytest.raises(ImageError, match="picture has 2 spatial axes"):
        panel.model.set_ndim(3)
    assert panel.model.ndim == 2


# What labels mean


def test_filled_objects_are_guessed_to_lie_in_background(scene, panel):
    image = scene.add_image(np.zeros((60, 60)))
    objects = disc((60, 60), (20, 20), 12) + 2 * disc((60, 60), (45, 45), 9)
    labels = scene.add_labels(objects.astype(np.uint8))
    panel.model.add(image, labels)
    assert (panel.model.scheme.unpainted, len(panel.model.scheme.class_names)) == ("background", 2)
    assert panel.policy.buttons["background"].isChecked()


def test_strokes_are_guessed_to_leave_the_rest_without_annotation(scene, panel):
    image = scene.add_image(np.zeros((60, 60)))
    strokes = np.zeros((60, 60), np.uint8)
    strokes[10:12, 5:50], strokes[40:42, 5:50] = 1, 2
    panel.model.add(image, scene.add_labels(strokes))
    assert panel.model.scheme.unpainted == "ignored"
    assert panel.model.totals("train") == {"background": 90, panel.model.scheme.class_names[0]: 90}


def test_the_names_that_labels_have_already_become_those_of_the_classes(scene, panel):
    image = scene.add_image(np.zeros((60, 60)))
    features = {"index": [0, 1], "class": ["background", "nucleus"]}
    panel.model.add(image, scene.add_labels(disc((60, 60), (20, 20), 12).astype(int), features=features))
    assert panel.model.scheme.class_names == ("nucleus",)


def test_numbers_of_objects_keep_their_colours_and_are_one_class(scene, panel):
    image = scene.add_image(np.zeros((90, 90)))
    centres = [(y, x) for y in (15, 45, 75) for x in (15, 45, 75)]
    objects = sum(n * disc((90, 90), c, 8) for n, c in enumerate(centres, start=1))
    labels = scene.add_labels(objects.astype(np.uint16))
    panel.model.add(image, labels)
    assert panel.model.scheme.instances
    assert len({tuple(labels.get_color(n)) for n in range(1, 10)}) == 9
    assert panel.model.totals("train")[panel.model.scheme.class_names[0]] == np.count_nonzero(objects)
    panel.class_table.chosen.emit(1)
    assert labels.selected_label == 10


def test_few_objects_that_a_model_found_are_one_class_of_its_name(scene, panel):
    image = scene.add_image(np.zeros((60, 60)))
    objects = disc((60, 60), (20, 20), 12) + 2 * disc((60, 60), (45, 45), 9)
    features = {"index": [0, 1, 2], "class": ["", "nucleus", "nucleus"]}
    panel.model.add(image, scene.add_labels(objects.astype(np.int32), features=features))
    assert (panel.model.scheme.instances, panel.model.scheme.class_names) == (True, ("nucleus",))


def test_a_large_layer_is_understood_in_a_thread(scene, panel, qtbot, monkeypatch):
    monkeypatch.setattr("napari_swipe.annotate.pairs.COUNTED_AT_ONCE", 100)
    image = scene.add_image(np.zeros((60, 60)))
    labels = scene.add_labels(disc((60, 60), (20, 20), 12).astype(np.uint8))
    model = panel.model
    with qtbot.waitSignal(model.changed, check_params_cb=lambda: model.scheme.unpainted == "background"):
        model.add(image, labels)


def test_nothing_is_guessed_once_the_user_has_chosen(scene, panel):
    panel.model.set_scheme(TWO)
    labels = scene.add_labels(disc((60, 60), (20, 20), 12).astype(np.uint8))
    panel.model.add(scene.add_image(np.zeros((60, 60))), labels)
    assert panel.model.scheme == TWO


def test_labels_that_come_later_bring_their_classes_along(scene, panel):
    first, second = (scene.add_image(np.zeros((60, 60)), name=name) for name in ("first", "second"))
    panel.model.add(first, scene.add_labels(disc((60, 60), (20, 20), 12).astype(np.uint8)))
    features = {"index": [3], "class": ["cyst"]}
    panel.model.add(
        second, scene.add_labels(3 * disc((60, 60), (20, 20), 12).astype(np.uint8), features=features)
    )
    assert panel.model.scheme.class_names == ("foreground", "class 2", "cyst")
    assert panel.model.faults == []


def test_a_label_without_a_class_is_seen_and_told_of(scene, panel):
    labels = panel.model.add(scene.add_image(np.zeros((30, 30)), name="cells")).labels
    labels.paint((5, 5), 9)
    assert panel.model.faults == [
        "cells annotation is painted with 9, which is no class: add a class, or paint it over."
    ]
    np.testing.assert_allclose(labels.colormap.map(np.uint8(9)).ravel(), 1)


# What is the user's own


@pytest.mark.parametrize("numbers", ["classes", "objects"])
def test_labels_that_are_added_keep_their_table_and_their_colours(scene, panel, numbers):
    data = np.zeros((60, 60), np.int32)
    centres = [(10, 10), (10, 40), (40, 10), (40, 40), (25, 25)]
    for number, centre in enumerate(centres, start=1):
        data[disc((60, 60), centre, 7)] = number if numbers == "objects" else 1 + number % 2
    table = pandas.DataFrame(
        {"index": [1, 2, 3, 4, 5], "class": ["tumour", "stroma", "x", "y", "z"], "area": np.arange(5.0)},
        index=[7, 8, 9, 10, 11],
    )
    if numbers == "objects":
        table = table.rename(columns={"class": "kind"})
    labels = scene.add_labels(data, name="mine", features=table)
    before, colormap, name = labels.features.copy(), labels.colormap, labels.name
    panel.model.add(scene.add_image(np.zeros((60, 60))), labels)
    panel.class_table.recoloured.emit(1, "#0000ff")
    panel.policy.chosen.emit("ignored")
    panel.policy.chosen.emit("background")
    pandas.testing.assert_frame_equal(labels.features, before)
    assert labels.colormap == colormap and labels.name == name


def test_classes_have_the_colours_in_which_added_labels_show_them(scene, panel):
    colours = {None: "transparent", 1: "#ff8800", 2: "#0088ff"}
    labels = scene.add_labels(
        disc((60, 60), (20, 20), 12) + np.uint8(disc((60, 60), (40, 40), 9)) * 2, colormap=colours
    )
    panel.model.add(scene.add_image(np.zeros((60, 60))), labels)
    assert panel.model.scheme.class_colours == ("#ff8800", "#0088ff")


@pytest.mark.parametrize("index", [[np.nan, 1, 2], ["none", "cell-1", "cell-2"], [0.5, 1, 2], [None, 1, 2]])
def test_rows_of_a_table_that_belong_to_no_label_count_not(scene, panel, index):
    features = pandas.DataFrame({"index": index, "class": ["x", "tumour", np.nan]})
    labels = scene.add_labels(disc((60, 60), (20, 20), 12).astype(np.uint8), features=features)
    panel.model.add(scene.add_image(np.zeros((60, 60))), labels)
    expected = "foreground" if "none" in index else "tumour"
    assert panel.model.scheme.class_names == (expected,)


@pytest.mark.parametrize(
    "extra", [{"index": [2, 0, 9], "volume": [2.0, 0.5, 9.0]}, {"volume": [0.5, 1.0, 2.0]}]
)
def test_columns_that_the_user_adds_to_an_annotation_stay_beside_the_classes(scene, panel, extra):
    labels = panel.model.add(scene.add_image(np.zeros((40, 40)))).labels
    labels.features = pandas.DataFrame(extra)
    panel.class_table.add_button.click()
    rows = labels.features.set_index("index")
    assert rows["class"].to_dict() | {9: None} == {
        0: "not annotated", 1: "background", 2: "foreground", 3: "class 2", 9: None
    }  # fmt: skip
    assert rows["volume"][2] == 2.0 and rows["volume"][0] == 0.5
    assert ("index" not in extra) or rows["volume"][9] == 9.0


def test_a_table_that_knows_no_labels_is_left_alone(scene, panel):
    labels = panel.model.add(scene.add_image(np.zeros((40, 40)))).labels
    labels.features = table = pandas.DataFrame({"index": ["a", "b"], "volume": [1.0, 2.0]})
    panel.class_table.add_button.click()
    pandas.testing.assert_frame_equal(labels.features, table)


# An image that changes


@pytest.mark.parametrize("change", ["crop", "stack", "labels"])
def test_an_image_that_no_longer_suits_its_labels_is_told_of_at_once(scene, panel, change):
    image = scene.add_image(np.zeros((30, 30)), name="cells")
    pair, said = panel.model.add(image), []
    panel.model.noticed.connect(said.append)
    if change == "labels":
        pair.labels.data = np.zeros((20, 30), np.uint8)
    else:
        image.data = np.zeros((20, 30) if change == "crop" else (3, 30, 30))
    assert (
        len(set(said)) == 1 and "cells annotation has the shape" in said[0] and "remove the pair" in said[0]
    )
    assert panel.model.faults == said[:1]
    if change != "labels":
        image.data = np.ones((30, 30))
        assert panel.model.faults == []


# The meaning of what is not painted


def test_turning_the_switch_renumbers_what_was_painted_here_and_back_loses_nothing(scene, panel):
    labels = panel.model.add(scene.add_image(np.zeros((40, 40)))).labels
    panel.class_table.add_button.click()
    for label in (1, 2, 3):
        stroke(labels, label, (10 * label, 5), (10 * label, 30))
    before = labels.data.copy()
    panel.policy.buttons["background"].click()
    np.testing.assert_array_equal(labels.data, np.where(before > 1, before - 1, 0))
    assert labels.selected_label == 2
    assert panel.model.totals("train")["class 2"] == np.count_nonzero(before == 3)
    panel.policy.buttons["ignored"].click()
    np.testing.assert_array_equal(labels.data, before)
    assert labels.selected_label == 3


def test_a_volume_is_renumbered_block_by_block(scene, panel, monkeypatch):
    monkeypatch.setattr(_painted_layers, "BLOCK", 50)
    labels = panel.model.add(scene.add_image(np.zeros((5, 9, 8)), axis_labels=tuple("zyx"))).labels
    before = np.random.default_rng(0).integers(0, 3, labels.data.shape).astype(np.uint8)
    before[2] = 0
    labels.data = before.copy()
    panel.policy.buttons["background"].click()
    np.testing.assert_array_equal(labels.data, before // 2)
    labels.data[0] = 1
    panel.policy.buttons["ignored"].click()
    np.testing.assert_array_equal(labels.data, np.where(np.arange(5)[:, None, None] == 0, 2, before))


def test_no_undo_brings_numbers_of_the_other_meaning_back(scene, panel):
    labels = panel.model.add(scene.add_image(np.zeros((40, 40)))).labels
    stroke(labels, 2, (10, 5), (10, 30))
    stroke(labels, 2, (20, 5), (20, 30))
    panel.policy.buttons["background"].click()
    labels.undo()
    assert set(np.unique(labels.data)) == {0, 1}
    assert labels.mode == "paint"


def test_labels_from_elsewhere_keep_their_numbers_when_the_guess_is_put_right(scene, panel):
    image = scene.add_image(np.zeros((60, 60)))
    labels = scene.add_labels(disc((60, 60), (20, 20), 12).astype(np.uint8))
    before = labels.data.copy()
    panel.model.add(image, labels)
    panel.policy.buttons["ignored"].click()
    np.testing.assert_array_equal(labels.data, before)
    assert panel.model.totals("train")["background"] == before.sum()


@pytest.mark.parametrize("unpainted", ["background", "ignored"])
def test_objects_are_offered_for_either_meaning_and_give_the_classes_back(panel, unpainted):
    panel.model.set_scheme(AnnotationScheme(("a", "b"), ("#111111", "#222222"), unpainted))
    assert not panel.policy.instances.isHidden()
    panel.policy.instances.click()
    assert panel.model.scheme.instances and panel.model.scheme.class_names == ("a",)
    assert panel.model.scheme.unpainted == unpainted
    assert not panel.class_table.add_button.isEnabled()
    panel.policy.instances.click()
    assert panel.model.scheme.class_names == ("a", "b")


def test_numbers_of_objects_outlast_another_meaning_of_unpainted(scene, panel):
    labels = panel.model.add(scene.add_image(np.zeros((60, 60)))).labels
    panel.policy.instances.click()
    for row, number in enumerate((1, 2, 3)):
        stroke(labels, number, (10 + 15 * row, 5), (10 + 15 * row, 30))
    panel.policy.buttons["background"].click()
    assert panel.model.scheme.instances and set(np.unique(labels.data)) == {0, 1, 2}
    panel.policy.buttons["ignored"].click()
    assert panel.model.scheme.instances and set(np.unique(labels.data)) == {0, 1, 2, 3}


# Classes


def test_names_and_colours_go_to_every_layer(scene, panel):
    pairs = [panel.model.add(scene.add_image(np.zeros((20, 30)), name=name)) for name in ("one", "two")]
    panel.model.set_scheme(TWO)
    panel.class_table.recoloured.emit(3, "#abcdef")
    table = panel.class_table.table
    table.item(1, NAME).setText("nucleus")
    assert panel.model.scheme.class_names == ("nucleus", "debris")
    for pair in pairs:
        assert list(pair.labels.features["class"]) == ["not annotated", "background", "nucleus", "debris"]
        rgba = pair.labels.colormap.map(np.arange(1, 4, dtype=np.uint8))
        colours = (BACKGROUND_COLOUR, "#112233", "#abcdef")
        expected = [QColor(colour).getRgbF()[:3] for colour in colours]
        np.testing.assert_allclose(rgba[:, :3], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["", "background", "debris"])
def test_a_name_that_cannot_be_is_told_and_the_old_one_shown_again(panel, errors, name):
    panel.model.set_scheme(TWO)
    panel.class_table.table.item(1, NAME).setText(name)
    assert len(errors) == 1
    assert panel.model.scheme == TWO
    assert panel.class_table.table.item(1, NAME).text() == "cell"


def test_the_background_is_not_renamed(panel):
    assert not panel.class_table.table.item(0, NAME).flags() & Qt.ItemFlag.ItemIsEditable


def test_a_class_more_is_painted_with_at_once(scene, panel):
    labels = panel.model.add(scene.add_image(np.zeros((20, 30)))).labels
    panel.class_table.add_button.click()
    assert panel.model.scheme.class_names == ("foreground", "class 2")
    assert len(set(panel.model.scheme.class_colours)) == 2
    assert (labels.selected_label, labels.mode) == (3, "paint")


def test_the_last_class_goes_unless_it_is_painted(scene, panel, errors):
    labels = panel.model.add(scene.add_image(np.zeros((20, 30)))).labels
    panel.class_table.add_button.click()
    labels.paint((5, 5), 3)
    panel.class_table.remove_button.click()
    assert len(panel.model.scheme.class_names) == 2 and "class 2 is painted on" in errors[0]
    labels.undo()
    panel.class_table.remove_button.click()
    assert panel.model.scheme.class_names == ("foreground",)


def test_a_click_on_a_class_paints_with_it_on_the_active_pair(scene, panel):
    first, second = (panel.model.add(scene.add_image(np.zeros((20, 30)), name=n)) for n in ("one", "two"))
    scene.layers.selection.active = first.image
    panel.class_table.table.cellClicked.emit(1, NAME)
    assert scene.layers.selection.active is first.labels
    assert (first.labels.selected_label, first.labels.mode) == (2, "paint")
    assert second.labels.selected_label == 1


def test_the_rows_of_what_is_painted_on_and_with_are_marked(scene, panel):
    first, second = (panel.model.add(scene.add_image(np.zeros((20, 30)), name=n)) for n in ("one", "two"))
    scene.layers.selection.active = first.labels
    first.labels.selected_label = 2
    assert panel.pair_table.table.currentRow() == 0
    assert panel.class_table.table.currentRow() == 1
    scene.layers.selection.active = second.labels
    assert panel.pair_table.table.currentRow() == 1
    assert panel.class_table.table.currentRow() == 0


def test_a_click_on_a_pair_shows_it_and_hides_those_that_may_lie_over_it(scene, panel):
    first, second = (panel.model.add(scene.add_image(np.zeros((20, 30)), name=n)) for n in ("one", "two"))
    panel.pair_table.table.cellClicked.emit(0, IMAGE)
    assert scene.layers.selection.active is first.labels
    assert first.image.visible and first.labels.visible
    assert not second.image.visible and not second.labels.visible


# What is painted


def test_what_is_painted_is_counted_at_once_and_shown_once_the_brush_rests(scene, panel, qtbot):
    pair = panel.model.add(scene.add_image(np.zeros((40, 40))))
    told = []
    panel.model.painted.connect(told.append)
    for row in (5, 15, 25):
        stroke(pair.labels, 2, (row, 5), (row, 30))
    voxels = int(np.count_nonzero(pair.labels.data))
    assert panel.model.counts(pair.name) == {"background": 0, "foreground": voxels}
    assert told == []
    qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
    assert str(voxels) in panel.pair_table.table.cellWidget(0, PAINTED).text()
    qtbot.wait(500)
    assert told == [pair]


def test_counts_are_those_of_the_scheme(scene, panel):
    array = np.random.default_rng(0).integers(0, 4, (30, 30)).astype(np.uint8)
    pair = panel.model.add(scene.add_image(np.zeros((30, 30))), scene.add_labels(array))
    for scheme in (
        TWO,
        AnnotationScheme(("a", "b", "c"), ("#111111", "#222222", "#333333"), "background"),
        AnnotationScheme(("a",), ("#111111",), "background", instances=True),
    ):
        panel.model.set_scheme(scheme)
        assert panel.model.counts(pair.name) == scheme.counts(true_histogram(array))


def test_only_what_is_learned_from_counts_against_a_shortage(scene, panel, tmp_path):
    pair = panel.model.add(scene.add_image(np.zeros((40, 40))))
    for label in (1, 2):
        stroke(pair.labels, label, (10 * label, 3), (10 * label, 35))
    assert panel.model.shortage == []
    panel.pair_table.split_chosen.emit(pair.name, "val")
    assert panel.model.pairs[0].split == "val"
    assert len(panel.model.shortage) == 1 and "Nothing is painted yet" in panel.model.shortage[0]
    panel.model.set_folders([tmp_path])
    assert panel.model.shortage == []


# Layers come and go


def test_a_pair_leaves_with_its_layer_and_says_so(scene, panel, qtbot):
    pair = panel.model.add(scene.add_image(np.zeros((20, 30)), name="cells"))
    with qtbot.waitSignals([panel.model.noticed, panel.model.changed]):
        scene.layers.remove(pair.labels)
    assert panel.model.pairs == []
    panel.model.add(pair.image)
    assert len(panel.model.pairs) == 1


def test_all_pairs_leave_when_the_viewer_is_cleared(scene, panel):
    for name in ("one", "two"):
        panel.model.add(scene.add_image(np.zeros((20, 30)), name=name))
    scene.layers.clear()
    assert panel.model.pairs == []
    assert panel.pair_table.table.rowCount() == 0


def test_labels_that_were_hidden_are_shown_when_they_are_added(scene, panel):
    labels = scene.add_labels(np.zeros((20, 30), np.uint8), visible=False)
    panel.model.add(scene.add_image(np.zeros((20, 30))), labels)
    assert labels.visible
    assert scene.layers.selection.active is labels
    assert labels.mode == "pan_zoom"


def test_a_renamed_layer_is_shown_by_its_new_name_and_the_pair_keeps_its_own(scene, panel):
    pair = panel.model.add(scene.add_image(np.zeros((20, 30)), name="cells"))
    pair.image.name = "nuclei"
    assert panel.pair_table.table.item(0, IMAGE).text() == "nuclei"
    assert panel.model.pairs[0].name == "cells"
    other = panel.model.add(scene.add_image(np.zeros((20, 30)), name="cells"))
    assert other.name == "cells 2"


def test_the_next_image_is_proposed_and_never_with_labels_of_another(scene, panel):
    images = [scene.add_image(np.zeros((20, 30)), name=name) for name in ("one", "two")]
    mask = scene.add_labels(np.zeros((20, 30), np.uint8), name="mask of one")
    panel.picker.pick(images[0], mask)
    panel.picker.button.click()
    assert panel.model.pairs[0].labels is mask
    assert panel.picker.image is images[1]
    assert panel.picker.labels is None
    assert panel.picker.labels_box.count() == 1


def test_after_letting_go_nothing_of_the_panel_hears_the_viewer(scene, qtbot):
    image, labels = Image(np.zeros((20, 30)), name="cells"), Labels(np.zeros((20, 30), np.uint8))
    scene.layers.extend([image, labels])
    sources = (scene.layers.events, scene.layers.selection.events, image.events, labels.events)

    def heard() -> list[int]:
        return [len(emitter.callbacks) for source in sources for emitter in source.emitters.values()]

    before = heard()
    model = AnnotatedPairs(scene)
    panel = AnnotatePanel(scene, model)
    qtbot.addWidget(panel)
    model.add(image, labels)
    assert heard() != before
    panel.disconnect_viewer()
    model.disconnect_viewer()
    assert heard() == before


# In a window


def test_a_sample_is_annotated_in_a_window(viewer, qtbot):
    viewer.open_sample("napari-swipe", "nuclei")
    model = AnnotatedPairs(viewer)
    panel = AnnotatePanel(viewer, model)
    viewer.window.add_dock_widget(panel)
    panel.picker.pick(viewer.layers["Nuclei"], viewer.layers["Nuclei reference"])
    panel.picker.button.click()
    assert panel.model.scheme.instances
    with qtbot.waitSignal(panel.model.painted, timeout=PATIENCE):
        stroke(panel.model.pairs[0].labels, 1, (20, 20), (60, 60))
    panel.pair_table.removal_requested.emit("Nuclei")
    panel.picker.pick(viewer.layers["Nuclei"])
    panel.picker.button.click()
    assert panel.model.scheme.unpainted == "ignored"
    assert viewer.layers.selection.active is panel.model.pairs[0].labels
    qtbot.wait(100)  # the canvas draws what came
    panel.disconnect_viewer()
    model.disconnect_viewer()


# Folders


def test_a_folder_that_is_no_data_set_is_refused(panel, tmp_path):
    with pytest.raises(DataError, match="is no data set: choose a folder that holds images/ and labels/"):
        panel.model.add_folder(tmp_path)


@pytest.mark.parametrize("part", [".", "train"])
def test_a_data_set_is_learned_from_until_it_is_taken_off(panel, tmp_path: Path, qtbot, part):
    for name in ("images", "labels"):
        (tmp_path / part / name).mkdir(parents=True)
    with qtbot.waitSignal(panel.model.changed):
        panel.model.add_folder(tmp_path)
    assert panel.model.folders == (tmp_path,)
    with pytest.raises(DataError, match="in the list already"):
        panel.model.add_folder(tmp_path)
    panel.data_folders.removal_requested.emit(tmp_path)
    assert panel.model.folders == ()


# The dock


def test_the_panel_fits_a_narrow_dock_whatever_is_in_it(scene, panel, tmp_path):
    panel.model.add(scene.add_image(np.zeros((4, 20, 30)), name="a name that is very long " * 4))
    panel.model.set_folders([tmp_path / ("folder" * 20)])
    for _ in range(12):
        panel.class_table.add_button.click()
    assert panel.minimumSizeHint().width() <= 310
