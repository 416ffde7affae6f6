"""The Evaluate dock in a real viewer: what it offers, what it compares, and the table of scores."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable

import numpy as np
import pytest
from class_scores import class_scores
from qtpy.QtWidgets import QApplication

from napari_swipe.evaluate.score_table import caption
from napari_swipe.viewer.state import state_of
from swipe_core.evaluation.agreement import Agreement
from swipe_core.evaluation.report import CaseScores, EvaluationReport

Scores = dict[str, list[str]]


@pytest.fixture
def judge(viewer):
    """The Evaluate dock."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-swipe", "Evaluate")
    return widget


@pytest.fixture
def scores(wait_idle) -> Callable[..., Scores]:
    """A function that presses Evaluate and reads the table: a row of cells under each heading."""

    def evaluate(judge) -> Scores:
        judge.evaluate_button.click()
        wait_idle(judge)
        table = judge.table.table
        cells = {
            table.verticalHeaderItem(row).text(): [
                table.item(row, column).text() for column in range(table.columnCount())
            ]
            for row in range(table.rowCount())
        }
        names = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount())]
        return {"": names} | cells

    return evaluate


def block(shape: tuple[int, ...], *spans: tuple[int, int], label: int = 1) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(*span) for span in spans)] = label
    return array


def offered(choice) -> list[str]:
    return [choice.itemText(index) for index in range(choice.count())]


# What can be picked


def test_without_layers_it_says_what_it_needs_and_cannot_be_pressed(judge):
    assert not judge.evaluate_button.isEnabled()
    assert judge._hint.isVisibleTo(judge)
    judge.evaluate()
    assert not judge.task_bar.is_busy


def test_labels_drawn_are_the_reference_and_a_segmentation_is_judged(
    viewer, dock, disc_pixels, judge, wait_idle
):
    viewer.add_image(disc_pixels, name="disc")
    viewer.add_labels(block((32, 32), (2, 9), (2, 9)), name="truth")
    dock.images.pick(viewer.layers["disc"])
    dock.segment_button.click()
    wait_idle(dock)
    assert offered(judge.prediction) == ["disc · live", "truth"]
    assert offered(judge.reference) == ["truth"]
    assert (judge.prediction.currentText(), judge.reference.currentText()) == ("disc · live", "truth")
    dock.outputs.render_labels()
    wait_idle(dock)
    assert judge.prediction.currentText() == "disc · live"
    assert judge.reference.layer is viewer.layers["truth"]
    viewer.layers.remove(viewer.layers["disc · live"])
    assert judge.prediction.currentText() == "disc · segmentation"
    viewer.layers.remove(viewer.layers["disc"])
    assert offered(judge.prediction) == ["truth", "disc · labels 1x"]


def test_how_far_probabilities_of_a_segmentation_can_be_trusted_is_drawn(
    viewer, dock, disc_pixels, judge, wait_idle
):
    viewer.add_image(disc_pixels, name="disc")
    dock.images.pick(viewer.layers["disc"])
    dock.segment_button.click()
    wait_idle(dock)
    field = state_of(viewer).segmented(viewer.layers["disc"]).field.first
    viewer.add_labels(field.render().array * 255, name="truth")
    judge.evaluate_button.click()
    wait_idle(judge)
    found = judge.plot.reliability
    assert found.places.sum() == 32 * 32
    # What is called the truth is what the model says, so that all that is probable came true.
    assert found.came_true[-1] == 1 and f"{found.error:.4f}" in judge.plot.caption
    assert not judge.plot.grab().isNull()
    viewer.layers["truth"].data = np.zeros((32, 32), np.uint8)
    assert judge.plot is None


def test_a_segmentation_without_a_live_layer_is_offered_too(viewer, dock, disc_pixels, judge, wait_idle):
    state_of(viewer).wants_live = False
    viewer.add_image(disc_pixels, name="disc")
    dock.segment_button.click()
    wait_idle(dock)
    assert offered(judge.prediction) == ["disc · segmentation"]


def test_what_the_user_chose_stays_and_what_is_likely_follows(viewer, judge):
    one, other = (viewer.add_labels(np.eye(4, dtype=int), name=name) for name in ("one", "other"))
    assert (judge.prediction.layer, judge.reference.layer) == (other, one)
    judge.prediction.choose(one)
    assert (judge.prediction.layer, judge.reference.layer) == (one, other)
    viewer.add_labels(np.eye(4, dtype=int), name="third")
    one.name = "first"
    assert judge.prediction.currentText() == "first"
    viewer.layers.remove(one)
    assert judge.prediction.layer is not judge.reference.layer
    assert {*offered(judge.prediction)} == {"other", "third"}


def test_volumes_are_told_from_stacks_by_the_user_or_by_the_names_of_axes(viewer, judge):
    viewer.add_labels(np.ones((4, 4), int), name="flat")
    assert not judge.space.isVisibleTo(judge)
    volume = viewer.add_labels(np.ones((3, 4, 4), int), name="volume")
    stack = viewer.add_labels(np.ones((3, 4, 4), int), name="stack", axis_labels=("time", "y", "x"))
    judge.reference.choose(volume)
    assert judge.space.isVisibleTo(judge) and judge.space.currentData() == 3
    judge.reference.choose(stack)
    assert judge.space.currentData() == 2


# What is compared


def test_labels_against_labels_by_hand(viewer, judge, scores):
    """Voxels of 2 x 1 x 1 mm; the reference has 2 x 2 x 4 of them, and the prediction half of these."""
    reference = block((4, 4, 8), (1, 3), (1, 3), (2, 6)) + block((4, 4, 8), (0, 1), (0, 1), (0, 2), label=2)
    place = {"scale": (2.0, 1.0, 1.0), "units": ("millimeter",) * 3}
    names = {"index": [0, 1, 2], "class": ["background", "head", "a tail that is very long"]}
    viewer.add_labels(reference, name="truth", features=names, **place)
    viewer.add_labels(np.where(np.arange(8) < 4, reference, 0), name="guess", **place)
    found = scores(judge)
    assert found == {
        "": ["head", "a tail that i…", "mean"],
        "Dice": ["0.667", "1.000", "0.833"],
        "IoU": ["0.500", "1.000", "0.750"],
        "HD95 [mm]": ["2", "0", "1"],
        # Of 24 surface voxels those in the reference's last column are 2 mm off, all others at most 1.
        "Surface Dice (1 mm)": ["0.833", "1.000", "0.917"],
        "Predicted [mm³]": ["16", "4", "–"],
        "Reference [mm³]": ["32", "4", "–"],
        "Difference [mm³]": ["-16", "0", "–"],
        "Difference [%]": ["-50.0", "0.0", "–"],
    }


def test_layers_on_other_grids_meet_in_the_world_whatever_their_units(viewer, judge, scores):
    reference = block((8, 8), (2, 6), (2, 6))
    finer = np.kron(reference, np.ones((4, 4), np.uint8))
    viewer.add_labels(reference, name="truth", scale=(1.0, 2.0), units=("micrometer",) * 2)
    viewer.add_labels(
        finer,
        name="guess",
        scale=(250.0, 500.0),
        translate=(-375.0, -750.0),
        units=("nanometer",) * 2,
    )
    found = scores(judge)
    assert found["Dice"] == ["1.000"]
    assert found["Predicted [µm²]"] == found["Reference [µm²]"] == ["32"]


def test_a_segmentation_is_rendered_on_the_grid_of_the_reference(
    viewer, dock, disc_pixels, judge, scores, wait_idle
):
    from swipe_core.measure.scores import score_labels

    image = viewer.add_image(disc_pixels, name="disc", scale=(0.5, 0.5), units=("millimeter",) * 2)
    dock.segment_button.click()
    wait_idle(dock)
    field = state_of(viewer).segmented(image).field
    grid = field.image_grid.scaled((4, 3))
    centres = grid.centres_world().reshape(*grid.shape, 2)
    truth = (np.linalg.norm(centres - (7.0, 8.5), axis=-1) < 4.25).astype(np.uint8)
    viewer.add_labels(truth, name="truth", **field.axes.arguments(grid))
    judge.tolerance.setValue(0.4)
    found = scores(judge)
    rendered = field.first.render(grid).array
    (expected,) = score_labels(rendered, truth, grid.spacing, 2, tolerance=0.4)
    assert found["Dice"] == [f"{expected.dice:.3f}"]
    assert found["HD95 [mm]"] == [f"{expected.hausdorff_95:.3g}"]
    assert found["Surface Dice (0.4 mm)"] == [f"{expected.surface_dice:.3f}"]
    assert found["Predicted [mm²]"] == [f"{expected.volume_prediction:.3g}"]
    assert expected.dice > 0.9


def test_beyond_a_segmented_region_there_is_background_and_the_user_is_told(
    viewer, dock, disc_pixels, judge, wait_idle, monkeypatch
):
    told: list[str] = []
    monkeypatch.setattr("napari_swipe.qt.task.show_info", told.append)
    viewer.add_image(disc_pixels, name="disc")
    viewer.add_shapes([np.array([[2.0, 2], [2, 16], [25, 16], [25, 2]])], shape_type="rectangle")
    dock.images.pick(viewer.layers["disc"])
    dock.images._region.setCurrentText("Shapes rectangle")
    dock.segment_button.click()
    wait_idle(dock)
    viewer.add_labels(np.ones((32, 32), np.uint8), name="truth")
    judge.evaluate_button.click()
    wait_idle(judge)
    (scores,) = judge.table.agreement.report.cases[0].classes.values()
    assert 0 < scores.volume_prediction <= 24 * 15
    assert [message for message in told if "does not cover all of the reference" in message]


def test_frames_are_scored_one_by_one_and_the_csv_has_a_row_for_each(viewer, judge, scores, tmp_path):
    frame = block((8, 8), (2, 6), (2, 6))
    axes = {"axis_labels": ("time", "y", "x")}
    viewer.add_labels(np.stack([frame, frame, frame]), name="truth", **axes)
    viewer.add_labels(np.stack([frame, 0 * frame, frame]), name="guess", **axes)
    found = scores(judge)
    assert found["Dice"] == ["0.667"] and found["HD95 [px]"] == ["0"]
    judge.table.save(str(tmp_path / "scores.csv"))
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["class"], row["dice"]) for row in rows] == [
        ("0", "label 1", "1"),
        ("1", "label 1", "0"),
        ("2", "label 1", "1"),
    ]
    assert {(row["prediction"], row["reference"]) for row in rows} == {("guess", "truth")}


def test_the_frames_of_a_segmented_stack_are_those_of_the_reference(
    viewer, dock, disc_pixels, judge, wait_idle, scores
):
    stack = np.stack([disc_pixels, np.roll(disc_pixels, 6, axis=1)])
    viewer.add_image(stack, name="stack")
    dock.segment_button.click()
    wait_idle(dock)
    dock.outputs.render_labels()
    wait_idle(dock)
    assert scores(judge)["Dice"] == ["1.000"]
    assert len(judge.table.agreement.report.cases) == 2
    viewer.add_labels(np.ones((3, 32, 32), int), name="three")
    judge.reference.choose(viewer.layers["three"])
    judge.evaluate_button.click()
    wait_idle(judge)
    assert judge.task_bar._words.text().startswith("stack · live has 2 frames and three has 3 frames")


def test_ignored_voxels_and_numbers_of_objects_are_heeded(viewer, judge, scores):
    truth = block((8, 8), (0, 8), (0, 2), label=7) + block((8, 8), (0, 8), (4, 8), label=255)
    truth[4:, :2] = 9
    viewer.add_labels(truth, name="truth")
    viewer.add_labels(block((8, 8), (0, 8), (0, 2)) + block((8, 8), (0, 8), (4, 6)), name="guess")
    judge.ignored.setValue(255)
    judge.as_objects.setChecked(True)
    found = scores(judge)
    assert (found[""], found["Dice"], found["Predicted [px²]"]) == (["objects"], ["1.000"], ["16"])
    assert (found["AP at 0.5"], found["count error"]) == (["0.000"], ["0.500"])


def test_scores_are_computed_outside_of_the_window_s_thread_and_change_no_layer(
    viewer, judge, scores, monkeypatch
):
    from swipe_core.evaluation import agreement

    threads: list[threading.Thread] = []
    score_label = agreement.score_label

    def watched(*arguments):
        threads.append(threading.current_thread())
        return score_label(*arguments)

    monkeypatch.setattr(agreement, "score_label", watched)
    layers = [viewer.add_labels(block((8, 8), (2, 6), (2, 6)), name=name) for name in ("one", "other")]
    before = [layer.data.copy() for layer in layers]
    scores(judge)
    assert threads and threading.main_thread() not in threads
    for layer, data in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.data, data)


# What goes wrong


def test_one_layer_is_not_compared_with_itself(viewer, judge, errors):
    only = viewer.add_labels(np.eye(4, dtype=int))
    assert not judge.evaluate_button.isEnabled()
    judge.reference.choose(only)
    judge.prediction.choose(only)
    judge.evaluate_button.click()
    assert "Pick two layers" in errors[-1]
    assert not judge.task_bar.is_busy


def test_layers_that_cannot_be_compared_are_told_in_a_sentence(viewer, judge, wait_idle, errors):
    viewer.add_labels(np.ones((4, 4), int), name="flat")
    viewer.add_labels(np.ones((4, 4), int), name="elsewhere", translate=(100, 0))
    judge.evaluate_button.click()
    wait_idle(judge)
    assert "do not meet in the world" in errors[-1]
    volume = viewer.add_labels(np.ones((4, 4, 4), int), name="volume")
    judge.reference.choose(volume)
    judge.evaluate_button.click()
    assert "elsewhere has 2 axes of space and 3 are needed" in errors[-1]
    assert judge.table is None


def test_a_reference_that_numbers_objects_is_told_from_the_classes_of_a_model(
    viewer, dock, disc_pixels, judge, wait_idle, errors
):
    viewer.add_image(disc_pixels, name="disc")
    dock.segment_button.click()
    wait_idle(dock)
    viewer.add_labels(block((32, 32), (5, 20), (5, 20), label=3), name="instances")
    judge.evaluate_button.click()
    wait_idle(judge)
    assert "label 3, and the model knows 1 class" in errors[-1]
    judge.as_objects.setChecked(True)
    judge.evaluate_button.click()
    wait_idle(judge)
    assert judge.table is not None


# The table


@pytest.fixture
def scored(viewer, judge, scores):
    """The dock after Evaluate."""
    viewer.add_labels(block((8, 8), (2, 6), (2, 6)), name="truth")
    viewer.add_labels(block((8, 8), (2, 6), (2, 5)), name="guess")
    scores(judge)
    return judge


def test_copy_puts_the_table_with_its_headings_on_the_clipboard(scored):
    scored.table.copy()
    lines = [line.split("\t") for line in QApplication.clipboard().text().splitlines()]
    assert lines[:2] == [["", "label 1"], ["Dice", "0.85714"]]
    assert lines[-1] == ["Difference [%]", "-25"]


def test_a_metric_that_is_added_to_the_table_of_metrics_has_a_row(viewer, judge, scores, monkeypatch):
    from swipe_core.measure.metrics import METRICS, Metric

    depth = Metric("depth", "Depth", "How deep it is.", lambda pair: 1.5, quantity="length", better=None)
    monkeypatch.setitem(METRICS, depth.key, depth)
    viewer.add_labels(block((8, 8), (2, 6), (2, 6)), name="truth", units=("mm", "mm"))
    viewer.add_labels(block((8, 8), (2, 6), (2, 5)), name="guess", units=("mm", "mm"))
    assert scores(judge)["Depth [mm]"] == ["1.5"]


def test_a_table_that_cannot_be_saved_is_told(scored, tmp_path, errors):
    (tmp_path / "scores.csv").mkdir()
    scored.table.save(str(tmp_path / "scores.csv"))
    assert "scores.csv cannot be written" in errors[-1]


def test_evaluating_again_replaces_the_table(viewer, scored, scores, qtbot):
    first = scored.table
    viewer.layers["guess"].data = viewer.layers["truth"].data.copy()
    assert scores(scored)["Dice"] == ["1.000"]
    qtbot.waitUntil(lambda: scored._results.count() == 1, timeout=60_000)
    assert scored.table is not first


def paint(layer: Labels) -> None:
    layer.paint((7, 7), 1)


CHANGES = {
    "paint": paint,
    "other data": lambda layer: setattr(layer, "data", np.array(layer.data)),
    "other units": lambda layer: setattr(layer, "units", ("um", "um")),
    "another place or spacing": lambda layer: setattr(layer, "scale", (2.0, 2.0)),
    "another shape": lambda layer: setattr(layer, "data", np.zeros((3, 8, 8), np.uint8)),
}


@pytest.mark.parametrize("name", ["truth", "guess"])
@pytest.mark.parametrize("what", CHANGES)
def test_scores_are_put_away_with_a_sentence_once_a_layer_is_another(viewer, scored, qtbot, what, name):
    CHANGES[what](viewer.layers[name])
    qtbot.waitUntil(lambda: scored.table is None)
    words = scored.task_bar._words.text()
    assert words.startswith(f"{name} has {'other data' if what == 'paint' else what} since")
    assert "press Evaluate again" in words


def test_scores_of_a_layer_that_was_removed_are_put_away(viewer, scored):
    viewer.layers.remove("guess")
    assert scored.table is None
    assert "guess was removed" in scored.task_bar._words.text()


def test_scores_stay_where_only_the_look_of_a_layer_changes(viewer, scored, qtbot):
    guess = viewer.layers["guess"]
    guess.visible, guess.opacity, guess.name = False, 0.3, "other"
    viewer.layers.move(0, 2)
    guess.visible = True
    guess.refresh()
    qtbot.wait(600)
    assert scored.table is not None


def test_scores_of_a_segmentation_are_put_away_with_it(viewer, dock, disc_pixels, judge, wait_idle):
    image = viewer.add_image(disc_pixels, name="disc")
    viewer.add_labels(np.eye(32, dtype=np.uint8), name="truth")
    dock.images.pick(image)
    dock.segment_button.click()
    wait_idle(dock)
    judge.evaluate_button.click()
    wait_idle(judge)
    assert judge.table is not None
    image.data = disc_pixels.copy()
    assert judge.table is None
    assert judge.prediction.layer is not image


def test_a_tolerance_stays_the_same_length_in_another_unit(viewer, judge):
    layer = viewer.add_labels(
        block((8, 8), (2, 6), (2, 6)), name="truth", scale=(0.5, 0.5), units=("mm", "mm")
    )
    judge.tolerance.setValue(1.5)
    layer.units = ("um", "um")
    assert judge.tolerance.text() == "1500.000 µm"
    layer.units = ("pixel", "pixel")
    assert judge.tolerance.value() == 0


def test_three_columns_fit_a_dock_of_360_pixels_and_many_scroll_inside_the_table(
    viewer, judge, scores, qtbot
):
    labels = np.arange(36).reshape(6, 6) % 3
    for name in ("truth", "guess"):
        viewer.add_labels(labels, name=name)
    judge.setFixedWidth(360)
    scores(judge)
    qtbot.wait(50)
    assert judge.minimumWidth() <= 360
    table = judge.table.table
    assert (table.horizontalScrollBar().maximum(), table.verticalScrollBar().maximum()) == (0, 0)
    for name in ("truth", "guess"):
        viewer.layers[name].data = np.arange(36).reshape(6, 6) % 20
    scores(judge)
    qtbot.wait(50)
    table = judge.table.table
    assert table.horizontalScrollBar().maximum() > 0 == table.verticalScrollBar().maximum()
    assert judge.horizontalScrollBar().maximum() == 0


def test_a_closed_dock_lets_go_of_the_viewer(viewer, judge, qtbot):
    gone: list[bool] = []
    judge.destroyed.connect(lambda: gone.append(True))
    viewer.window.remove_dock_widget(judge)
    qtbot.waitUntil(lambda: bool(gone), timeout=60_000)
    layer = viewer.add_labels(np.eye(4, dtype=int))
    layer.name = "other"
    assert layer in viewer.layers


def test_the_caption_says_which_distances_the_means_leave_out():
    right = class_scores(1.0, 1.0, 0.0, 1.0)
    missed = class_scores(0.0, 0.0, float("nan"), 0.0, in_prediction=False)
    cases = (CaseScores("0", {"disc": right}, "pixel"), CaseScores("1", {"disc": missed}, "pixel"))
    agreement = Agreement("guess", "truth", EvaluationReport(cases), 2)
    assert caption(agreement) == (
        "guess against truth, mean over 2 frames. HD95 of disc leaves out 1 frame without a prediction"
    )
