"""Label maps on any grids beside each other: by their place, frame by frame, as one class, as a table."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from swipe_core.cli.evaluate import table
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ConfigError, DataError
from swipe_core.evaluation.agreement import (
    MOST_CLASSES,
    Agreement,
    Comparison,
    FramePair,
    iter_agreement,
    write_agreement,
)
from swipe_core.evaluation.common_grid import iter_rendered, iter_resampled
from swipe_core.images import LabelMap
from swipe_core.measure.metrics import METRICS, Metric
from swipe_core.progress import Notice, Progress, finish
from tools.scores_file import read_report


def label_map(array: np.ndarray, affine: Affine | None = None, unit: str = "millimeter") -> LabelMap:
    return LabelMap(array, affine or Affine.identity(array.ndim), unit)


def block(shape: tuple[int, ...], *spans: tuple[int, int], label: int = 1) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(*span) for span in spans)] = label
    return array


def resampled(labels: LabelMap, reference: LabelMap) -> tuple[np.ndarray, list[str]]:
    """The labels on the reference's grid, and what was noticed."""
    reports: list[Notice | Progress] = []
    array = finish(iter_resampled(labels, reference), reports.append)
    return array, [report.message for report in reports if isinstance(report, Notice)]


def pair(predicted: LabelMap, reference: LabelMap, name: str = "") -> FramePair:
    return FramePair(name, lambda: reference, partial(iter_resampled, predicted))


def compared(
    predicted: LabelMap, reference: LabelMap, how: Comparison | None = None, show: Callable | None = None
) -> Agreement:
    work = iter_agreement("one", "other", [pair(predicted, reference)], how or Comparison())
    return finish(work, show)


# --- On one grid --------------------------------------------------------------------------------


def test_on_its_own_grid_a_label_map_stays_as_it_is():
    labels = label_map(np.arange(24).reshape(2, 3, 4), Affine.from_spacing((3.0, 0.5, 0.5), (7.0, -2.0, 1.0)))
    array, noticed = resampled(labels, labels)
    np.testing.assert_array_equal(array, labels.array)
    assert noticed == []


def test_each_voxel_takes_the_label_at_its_centre_in_the_world():
    labels = label_map(np.array([[1, 2], [3, 4]]), Affine.from_spacing((2.0, 2.0)))
    finer = label_map(np.zeros((4, 4), int), labels.grid.scaled(2).affine)
    array, noticed = resampled(labels, finer)
    np.testing.assert_array_equal(array, np.kron(labels.array, np.ones((2, 2), int)))
    assert noticed == []


def test_a_turned_label_map_comes_back_upright():
    rng = np.random.default_rng(0)
    upright = label_map(rng.integers(0, 5, (6, 7)), Affine.from_spacing((1.0, 2.0)))
    # The same voxels, stored with rows and columns exchanged and the rows from below.
    turned = label_map(
        np.ascontiguousarray(upright.array.T[::-1]),
        Affine.from_parts(np.array([[0.0, 1.0], [-2.0, 0.0]]), [0.0, 12.0]),
    )
    array, noticed = resampled(turned, upright)
    np.testing.assert_array_equal(array, upright.array)
    assert noticed == []


def test_sampling_in_slabs_gives_what_one_piece_gives(monkeypatch):
    rng = np.random.default_rng(0)
    labels = label_map(rng.integers(0, 9, (6, 5, 7)))
    steps = np.array([[0.6, 0.2, 0.0], [-0.1, 0.7, 0.3], [0.0, 0.1, 0.9]])
    oblique = Affine.from_parts(steps, [0.513, 0.217, 0.131])  # no centre is midway between two
    reference = label_map(np.zeros((9, 6, 5), int), oblique)
    whole, _ = resampled(labels, reference)
    monkeypatch.setattr("swipe_core.evaluation.common_grid.SLAB_VOXELS", 1)
    reports: list[object] = []
    np.testing.assert_array_equal(finish(iter_resampled(labels, reference), reports.append), whole)
    assert len([report for report in reports if isinstance(report, Progress)]) == 9
    index = np.rint(reference.grid.centres_world()).astype(int)
    inside = ((index >= 0) & (index < labels.shape)).all(axis=1)
    expected = np.where(inside, labels.array[tuple(np.clip(index, 0, np.array(labels.shape) - 1).T)], 0)
    np.testing.assert_array_equal(whole.ravel(), expected)


def test_units_of_length_are_converted_and_pixels_are_taken_as_they_are():
    in_millimetres = label_map(np.array([[1, 2], [3, 4]]), Affine.from_spacing((0.5, 0.5)), "millimeter")
    in_micrometres = label_map(in_millimetres.array, Affine.from_spacing((500.0, 500.0)), "micrometer")
    in_pixels = label_map(in_millimetres.array, Affine.from_spacing((0.5, 0.5)), "pixel")
    for labels in (in_micrometres, in_pixels):
        array, noticed = resampled(labels, in_millimetres)
        np.testing.assert_array_equal(array, in_millimetres.array)
        assert noticed == []


def test_beyond_the_prediction_there_is_background_and_a_notice():
    labels = label_map(np.full((4, 4), 3))
    array, (noticed,) = resampled(labels, label_map(np.zeros((6, 4), int)))
    np.testing.assert_array_equal(array, [[3] * 4] * 4 + [[0] * 4] * 2)
    assert "does not cover all of the reference" in noticed


def test_maps_that_do_not_meet_or_differ_in_dimension_are_refused():
    labels = label_map(np.ones((4, 4), int))
    with pytest.raises(DataError, match="do not meet in the world"):
        resampled(labels, label_map(labels.array, Affine.from_spacing((1.0, 1.0), (4.0, 0.0))))
    with pytest.raises(DataError, match="2 axes and the reference 3"):
        resampled(labels, label_map(np.ones((2, 2, 2), int)))


# --- A continuous segmentation ------------------------------------------------------------------


def circle(points: torch.Tensor) -> torch.Tensor:
    """Logits of a disc of radius 5 about the voxel (10, 10)."""
    inside = 5 - torch.linalg.norm(points - 10, dim=-1)
    return torch.stack([torch.zeros_like(inside), 10 * inside], dim=-1)


@pytest.fixture
def disc(analytic_field):
    """The disc in an image of 20 x 20 voxels of half a millimetre."""
    return analytic_field(circle, Grid((20, 20), Affine.from_spacing((0.5, 0.5))))


def test_a_field_is_rendered_on_the_grid_of_the_reference_and_not_sampled_from_the_image(disc):
    grid = disc.image_grid.scaled(8)
    reference = label_map(np.zeros(grid.shape, int), grid.affine)
    found = finish(iter_rendered(disc, reference))
    radius = np.linalg.norm(grid.centres_world() - 5.0, axis=1).reshape(grid.shape)
    np.testing.assert_array_equal(found == 1, radius < 2.5)
    in_micrometres = Affine.from_parts(1000 * grid.affine.linear, 1000 * grid.affine.origin)
    again = finish(iter_rendered(disc, LabelMap(reference.array, in_micrometres, "micrometer")))
    np.testing.assert_array_equal(again, found)


def test_beyond_its_image_a_field_has_no_labels(analytic_field):
    everywhere = analytic_field(
        lambda points: torch.stack([torch.zeros(len(points)), torch.ones(len(points))], dim=-1),
        Grid((4, 4), Affine.identity(2)),
    )
    noticed: list[object] = []
    found = finish(iter_rendered(everywhere, label_map(np.zeros((4, 7), int))), noticed.append)
    np.testing.assert_array_equal(found, [[1, 1, 1, 1, 0, 0, 0]] * 4)
    assert any(isinstance(report, Notice) for report in noticed)
    elsewhere = label_map(np.zeros((4, 4), int), Affine.from_spacing((1.0, 1.0), (9.0, 9.0)))
    with pytest.raises(DataError, match="do not meet"):
        finish(iter_rendered(everywhere, elsewhere))
    with pytest.raises(DataError, match="2D and the reference 3D"):
        finish(iter_rendered(everywhere, label_map(np.zeros((4, 4, 4), int))))


# --- Scores -------------------------------------------------------------------------------------


def test_two_boxes_on_other_grids_by_hand():
    """Voxels of 2 x 1 mm: the reference has 2 x 4 of them, the prediction, stored finer, half of these."""
    reference = label_map(block((6, 8), (2, 4), (2, 6)), Affine.from_spacing((2.0, 1.0)))
    finer = reference.grid.scaled(2)
    predicted = label_map(block(finer.shape, (4, 8), (4, 8)), finer.affine)
    agreement = compared(predicted, reference, Comparison(tolerance=1.0))
    assert agreement.class_names == ("label 1",)
    (scores,) = agreement.report.cases[0].classes.values()
    assert (scores.dice, scores.iou) == (pytest.approx(2 / 3), pytest.approx(1 / 2))
    assert (scores.volume_prediction, scores.volume_reference) == (pytest.approx(8), pytest.approx(16))
    assert scores.relative_volume_difference == pytest.approx(-0.5)
    # All voxels are surface: 4 of the reference lie 0, 0, 1, 2 columns off, in each of 2 rows.
    assert scores.hausdorff_95 == pytest.approx(np.percentile([0, 0, 1, 2] * 2, 95))
    assert scores.surface_dice == pytest.approx((4 + 6) / (4 + 8))


def test_the_tolerance_is_one_voxel_of_the_reference_along_its_finest_axis_unless_it_is_given():
    reference = label_map(block((6, 8), (2, 4), (2, 6)), Affine.from_spacing((2.0, 0.5)))
    assert compared(reference, reference).report.tolerance == 0.5
    assert compared(reference, reference, Comparison(tolerance=3.0)).report.tolerance == 3


def test_classes_are_those_that_one_of_the_maps_holds_under_their_names():
    predicted = label_map(block((9, 9), (1, 3), (1, 3)) + block((9, 9), (5, 8), (5, 8), label=7))
    reference = label_map(block((9, 9), (1, 3), (1, 3)) + block((9, 9), (1, 3), (6, 8), label=4))
    names = {1: "liver", 2: "spleen", 4: "liver", 7: ""}
    agreement = compared(predicted, reference, Comparison(class_names=names))
    assert agreement.class_names == ("liver", "liver (4)", "label 7")
    classes = agreement.report.cases[0].classes
    assert classes["liver"].dice == 1 and classes["liver (4)"].is_miss and classes["label 7"].is_false_alarm
    assert agreement.mean("dice") == pytest.approx(1 / 3)
    assert math.isnan(agreement.mean("volume_reference"))
    assert agreement.mean("volume_reference", "liver") == 4


def test_what_the_reference_ignores_counts_in_neither_map():
    reference = block((9, 9), (0, 9), (0, 4))
    predicted = label_map(reference + block((9, 9), (0, 9), (4, 9), label=2))
    reference[:, 4:] = 255
    for how in (Comparison(ignore_label=255), Comparison(ignore_label=255, as_objects=True)):
        agreement = compared(predicted, label_map(reference), how)
        (scores,) = agreement.report.cases[0].classes.values()
        assert scores.dice == 1 and scores.volume_prediction == 36


def test_numbers_of_objects_are_one_class():
    rng = np.random.default_rng(0)
    inside = block((40, 40), (5, 30), (5, 30)) > 0
    reference = np.where(inside, rng.integers(1, 60_000, inside.shape), 0)
    agreement = compared(
        label_map(inside.astype(np.uint8)), label_map(reference), Comparison(as_objects=True)
    )
    assert agreement.class_names == ("objects",)
    assert agreement.mean("dice") == 1


def test_single_objects_are_compared_too_and_a_mask_has_its_connected_parts():
    reference = block((9, 9), (1, 4), (1, 4)) + block((9, 9), (5, 8), (5, 8), label=7)
    mask = label_map((reference > 0).astype(np.uint8))
    report = compared(mask, label_map(reference), Comparison(as_objects=True)).report
    assert report.instances == {"ap_50": 1, "ap_mean": 1, "panoptic_quality": 1, "count_error": 0}
    merged = label_map(np.where(reference == 7, 2, reference + block((9, 9), (4, 5), (4, 5), label=1)))
    assert compared(merged, label_map(reference), Comparison(as_objects=True)).report.instances["ap_50"] == 1
    assert not compared(mask, mask).report.instances


def test_labels_that_number_objects_are_not_taken_for_classes():
    few = label_map(block((9, 9), (1, 3), (1, 3)) + block((9, 9), (5, 8), (5, 8), label=3))
    with pytest.raises(DataError, match="label 3, and the model knows 2 classes.*compared as one class"):
        compared(few, few, Comparison(classes=2))
    assert compared(few, few, Comparison(classes=2, as_objects=True)).mean("dice") == 1
    many = label_map(np.arange(1 + MOST_CLASSES + 1)[None])
    with pytest.raises(DataError, match=f"{MOST_CLASSES + 1} labels.*compared as one class"):
        compared(many, many)


@pytest.mark.parametrize(("one", "other"), [(1, 255), (255, 1), (255, 255), (1, 65535)])
def test_masks_of_black_and_white_are_one_class_and_that_is_said_once(one, other):
    guess, truth, nothing = (
        label_map(number * block((8, 8), *spans).astype(np.uint16))
        for number, spans in ((one, ((2, 6), (2, 5))), (other, ((2, 6), (2, 6))), (1, ((0, 0), (0, 0))))
    )
    said = []
    frames = [pair(guess, truth, "0"), pair(nothing, truth, "1"), pair(guess, nothing, "2")]
    how = Comparison(class_names={1: "disc"}, classes=1 if one == 1 else None)
    agreement = finish(iter_agreement("a", "b", frames, how), said.append)
    assert agreement.class_names == ("disc",)
    dice = [case.classes["disc"].dice for case in agreement.report.cases]
    assert dice == pytest.approx([2 * 12 / (12 + 16), 0, 0])
    white = max(one, other)
    assert [told.message for told in said if isinstance(told, Notice)] == [
        f"A mask of 0 and {white} is compared: {white} is read as disc."
    ]


def test_a_mask_of_black_and_white_is_not_compared_with_several_labels():
    two = label_map(block((9, 9), (1, 3), (1, 3)) + block((9, 9), (5, 8), (5, 8), label=2))
    mask = label_map(255 * (two.array > 0).astype(np.uint8))
    for one, other in ((two, mask), (mask, two)):
        with pytest.raises(DataError, match="A mask of 0 and 255 cannot be compared with 2 labels"):
            compared(one, other)
    with pytest.raises(DataError, match="label 255, and the model knows 2 classes"):
        compared(two, mask, Comparison(classes=2))
    assert compared(two, mask, Comparison(as_objects=True)).mean("dice") == 1


def test_two_empty_maps_are_nothing_to_score():
    empty = label_map(np.zeros((4, 4), int))
    with pytest.raises(DataError, match="nothing to score"):
        compared(empty, empty)


# --- Frames -------------------------------------------------------------------------------------


def two_frames() -> Agreement:
    """A frame that agrees, and one where the second class is missed and the first is rightly not there."""
    first = label_map(block((8, 8), (2, 4), (2, 4)), Affine.from_spacing((2.0, 0.5)))
    second = label_map(block((8, 8), (4, 6), (4, 6), label=2), first.affine)
    nothing = label_map(np.zeros((8, 8), np.uint8), first.affine)
    pairs = [pair(first, first, "0"), pair(nothing, second, "1")]
    return finish(iter_agreement("a, b", "truth", pairs, Comparison(class_names={1: "one", 2: "two"})))


def test_a_class_is_scored_in_every_frame_and_its_mean_is_over_all():
    agreement = two_frames()
    assert [case.name for case in agreement.report.cases] == ["0", "1"]
    assert [[s.dice for s in case.classes.values()] for case in agreement.report.cases] == [[1, 1], [1, 0]]
    assert (agreement.mean("dice", "one"), agreement.mean("dice", "two")) == (1, 0.5)
    assert agreement.mean("volume_reference", "two") == pytest.approx(2)
    assert agreement.mean("hausdorff_95", "two") == 0


def test_the_same_notice_for_every_frame_is_given_once_and_progress_counts_frames():
    small, large = label_map(np.ones((3, 3), int)), label_map(np.ones((4, 4), int))
    reports: list[object] = []
    pairs = [pair(small, large, str(i)) for i in range(3)]
    finish(iter_agreement("one", "other", pairs, Comparison()), reports.append)
    assert len([report for report in reports if isinstance(report, Notice)]) == 1
    stages = {(r.stage, r.done, r.total) for r in reports if isinstance(r, Progress)}
    assert stages == {("Scoring frames", done, 3) for done in range(3)}


# --- The table ----------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_a_row_for_each_frame_and_class_and_units_and_tolerance_in_its_header(tmp_path):
    write_agreement(tmp_path / "scores.csv", two_frames())
    written = rows(tmp_path / "scores.csv")
    assert list(written[0]) == [
        "prediction",
        "reference",
        "frame",
        "class",
        "dice",
        "iou",
        "hausdorff 95 [mm]",
        "surface dice at 0.5 mm",
        "area of prediction [mm^2]",
        "area of reference [mm^2]",
        "area difference [mm^2]",
        "area difference [%]",
    ]
    assert [(r["frame"], r["class"]) for r in written] == [
        ("0", "one"),
        ("0", "two"),
        ("1", "one"),
        ("1", "two"),
    ]
    assert {(r["prediction"], r["reference"]) for r in written} == {("a, b", "truth")}
    missed = list(written[-1].values())[4:]
    assert missed == ["0", "0", "", "0", "0", "4", "-4", "-100"]
    assert len(missed) == len(METRICS)


def test_the_csv_of_volumes_speaks_of_volumes_and_of_micrometres(tmp_path):
    cube = label_map(block((4, 4, 4), (0, 2), (0, 2), (0, 2)), unit="micrometer")
    write_agreement(tmp_path / "scores.csv", compared(cube, cube))
    (row,) = rows(tmp_path / "scores.csv")
    assert row["volume of reference [um^3]"] == "8" and row["surface dice at 1 um"] == "1"


def test_a_csv_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(ConfigError, match=r"scores\.csv cannot be written"):
        write_agreement(tmp_path / "scores.csv", two_frames())


def test_a_metric_that_is_added_to_the_table_stands_in_every_file(monkeypatch, tmp_path):
    precision = Metric(
        key="precision",
        title="Precision",
        meaning="The share of the prediction that is right.",
        measure=lambda pair: np.count_nonzero(pair.predicted & pair.reference) / max(1, pair.predicted.sum()),
    )
    monkeypatch.setitem(METRICS, precision.key, precision)
    predicted, reference = block((8, 8), (2, 6), (2, 6)), block((8, 8), (2, 6), (2, 5))
    agreement = compared(label_map(predicted), label_map(reference))
    write_agreement(tmp_path / "scores.csv", agreement)
    (row,) = rows(tmp_path / "scores.csv")
    assert row["precision"] == "0.75"
    assert agreement.report.as_dict()["mean"]["precision"] == 0.75
    (tmp_path / "scores.json").write_text(json.dumps(agreement.report.as_dict()), encoding="utf-8")
    assert read_report(tmp_path / "scores.json").mean("precision") == 0.75
    assert "Precision" in table(agreement.report).splitlines()[0]
