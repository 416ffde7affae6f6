"""Laws of evaluation: scores are those of the rendered labels, in world units; nothing undefined leaks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from class_scores import class_scores
from PIL import Image

from swipe_core.data.cases import Case, find_cases
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import DataError
from swipe_core.evaluation.agreement import Comparison, FramePair, iter_agreement
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.evaluation.report import CaseScores, EvaluationReport, Origin, write_report
from swipe_core.images import read_image, read_label_map
from swipe_core.inference.config import InferenceConfig
from swipe_core.measure.metrics import agreement_metrics
from swipe_core.measure.scores import ClassScores, score_labels
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Notice, Progress, finish
from swipe_core.samples import SAMPLES
from swipe_core.training.folder import RunFolder
from swipe_core.training.validation import validate
from tools.evidence import check_cases, check_worst
from tools.scores_file import read_origin, read_report

NAN = math.nan


@pytest.fixture(scope="module")
def predictor(disc_run) -> Predictor:
    return Predictor.load(disc_run / "best.safetensors", device="cpu")


def report_of(*cases: dict[str, tuple[float, ...]]) -> EvaluationReport:
    """A report from the scores of each class that both maps hold, in the order of the metrics."""
    return EvaluationReport(
        tuple(
            CaseScores(
                f"case{i}",
                {name: class_scores(*scores) for name, scores in case.items()},
                "millimeter",
            )
            for i, case in enumerate(cases)
        )
    )


def found(dice: float) -> ClassScores:
    return class_scores(dice, dice, 1.0, dice)


MISSED = class_scores(0.0, 0.0, NAN, 0.0, in_prediction=False)
FALSE_ALARM = class_scores(0.0, 0.0, NAN, 0.0, in_reference=False)
RIGHTLY_EMPTY = ClassScores.absent()


def report_on(**scores: Sequence[ClassScores]) -> EvaluationReport:
    """A report from the scores of each class in case0, case1, ..."""
    cases = zip(*scores.values(), strict=True)
    return EvaluationReport(
        tuple(
            CaseScores(f"case{i}", dict(zip(scores, case, strict=True)), "pixel")
            for i, case in enumerate(cases)
        )
    )


# --- Means --------------------------------------------------------------------------------------


def test_means_are_over_classes_then_cases_and_by_class_over_cases():
    report = report_of(
        {"a": (1.0, 1.0, 0.0, 1.0), "b": (0.5, 0.4, 2.0, 0.2)},
        {"a": (0.7, 0.6, 4.0, 0.8), "b": (0.2, 0.1, 8.0, 0.4)},
    )
    assert report.mean("dice") == pytest.approx((0.75 + 0.45) / 2)
    assert report.mean("dice", "b") == pytest.approx(0.35)
    assert report.mean("hausdorff_95", "a") == pytest.approx(2)
    assert report.spread("dice") == pytest.approx(0.15)
    assert report.class_names == ("a", "b")


def test_undefined_distances_stay_out_of_every_mean():
    report = report_of({"a": (0.0, 0.0, NAN, 0.0), "b": (1.0, 1.0, 3.0, 1.0)}, {"a": (0.5, 0.3, NAN, 0.5)})
    assert report.cases[0].mean("hausdorff_95") == 3
    assert report.mean("hausdorff_95") == 3
    assert report.spread("hausdorff_95") == 0
    assert report.mean("dice") == 0.5


def test_a_distance_that_is_defined_nowhere_is_null_in_json():
    report = report_of({"a": (0.0, 0.0, NAN, 0.0)})
    assert math.isnan(report.mean("hausdorff_95"))
    written = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert written["mean"] == {"dice": 0, "iou": 0, "hausdorff_95": None, "surface_dice": 0}
    assert written["std"]["hausdorff_95"] is None
    assert written["cases"][0]["classes"]["a"]["hausdorff_95"] is None


# --- Where a class is, and where it is not ------------------------------------------------------


def test_dice_where_a_class_is_and_false_alarms_where_it_is_not_are_told_apart():
    presence = report_on(a=[found(0.9), found(0.5), MISSED, FALSE_ALARM, RIGHTLY_EMPTY]).presence("a")
    dice = [0.9, 0.5, 0.0]
    assert (presence.present, presence.absent, presence.false_alarms) == (3, 2, 1)
    assert presence.mean == pytest.approx(np.mean(dice))
    assert presence.sd == pytest.approx(np.std(dice))
    assert presence.median == 0.5
    assert presence.quartiles == pytest.approx((0.25, 0.7))
    assert presence.false_alarm_text("a") == "2 cases without a: something marked in 1 (50 %)"


def test_where_every_case_holds_a_class_its_dice_is_the_mean_of_the_report():
    report = report_on(a=[found(0.9), MISSED, found(0.3)])
    presence = report.presence("a")
    assert presence.mean == pytest.approx(report.mean("dice", "a"))
    assert presence.sd == pytest.approx(report.spread("dice"))
    assert (presence.present, presence.absent, presence.false_alarms) == (3, 0, 0)
    assert report.holding("a") == report


def test_a_class_that_no_case_holds_has_no_dice_there_and_null_in_json():
    report = report_on(a=[FALSE_ALARM, RIGHTLY_EMPTY, RIGHTLY_EMPTY])
    presence = report.presence("a")
    assert (presence.present, presence.absent, presence.false_alarms) == (0, 3, 1)
    assert all(map(math.isnan, (presence.mean, presence.sd, presence.median, *presence.quartiles)))
    written = json.loads(json.dumps(report.as_dict(), allow_nan=False))["presence"]["a"]
    assert (written["mean"], written["quartiles"], written["false_alarms"]) == (None, [None, None], 1)


def test_a_case_is_judged_by_the_classes_that_either_map_holds():
    report = report_on(
        a=[found(0.6), found(0.6), found(0.6), RIGHTLY_EMPTY],
        b=[found(0.8), RIGHTLY_EMPTY, FALSE_ALARM, RIGHTLY_EMPTY],
    )
    assert [case.present_dice for case in report.cases] == pytest.approx([0.7, 0.6, 0.3, 1.0])


def test_the_worst_cases_come_lowest_first_and_equals_by_name():
    report = report_on(a=[found(0.6), MISSED, found(0.9), FALSE_ALARM, RIGHTLY_EMPTY])
    assert [case.name for case in report.worst(3)] == ["case1", "case3", "case0"]
    assert len(report.worst(10)) == 5


def test_a_class_that_is_nowhere_and_was_marked_nowhere_counts_in_no_mean():
    report = report_on(a=[found(0.6), MISSED], b=[RIGHTLY_EMPTY] * 2, c=[found(0.2), RIGHTLY_EMPTY])
    assert report.held == ("a", "c")
    assert report.mean("dice") == pytest.approx((0.4 + 0.5) / 2)
    assert report.spread("dice") == pytest.approx(0.05)
    assert math.isnan(report.mean("dice", "b"))
    written = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert written["classes"]["b"] == dict.fromkeys(("dice", "iou", "hausdorff_95", "surface_dice"))
    assert [case["dice"] for case in written["cases"]] == pytest.approx([0.4, 0.5])
    assert math.isnan(report_on(b=[RIGHTLY_EMPTY]).mean("dice"))


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([found(0.5), RIGHTLY_EMPTY], ""),
        ([found(0.5), MISSED], "HD95 of a leaves out 1 case without a prediction"),
        (
            [MISSED, MISSED, FALSE_ALARM],
            "HD95 of a leaves out 2 cases without a prediction and 1 case without a reference",
        ),
    ],
)
def test_how_many_cases_have_no_distance_is_told(scores, said):
    assert report_on(a=scores).presence("a").left_out_text("a") == said


# --- Scores -------------------------------------------------------------------------------------


def saved(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def test_a_photograph_that_viewers_turn_is_told_of_once(predictor, disc_folder, tmp_path):
    (disc,) = find_cases(disc_folder, "val")
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(disc.image_path) as picture:
        picture.save(tmp_path / "turned.png", exif=exif)
    cases = [Case(name, tmp_path / "turned.png", disc.label_path) for name in ("one", "two")]
    said = []
    finish(evaluate(predictor, cases), said.append)
    (told,) = [each.message for each in said if isinstance(each, Notice)]
    assert told.startswith(f"EXIF data turn {tmp_path / 'turned.png'} in viewers of photographs")


def test_masks_of_black_and_white_are_scored_as_the_class_and_that_is_said_once(
    predictor, disc_folder, tmp_path
):
    (disc,) = find_cases(disc_folder, "val")
    mask = 255 * np.asarray(Image.open(disc.label_path))
    masks = [Case(name, disc.image_path, saved(tmp_path / f"{name}.png", mask)) for name in ("one", "two")]
    for classes in (None, ["foreground"]):
        said = []
        report = finish(evaluate(predictor, masks, classes=classes), said.append)
        assert [told.message for told in said if isinstance(told, Notice)] == [
            "Label files hold 0 and 255, and one class is named: 255 is read as foreground."
        ]
        (expected,) = finish(evaluate(predictor, [disc])).cases
        assert [case.classes for case in report.cases] == [expected.classes] * 2
    assert finish(validate(predictor, masks, predictor.content)) == finish(
        validate(predictor, [disc], predictor.content)
    )


def test_a_class_that_no_reference_holds_has_no_part_in_a_validation(predictor, disc_folder, tmp_path):
    (disc,) = find_cases(disc_folder, "val")
    names = LabelConfig(class_names=("never", "foreground", "nor this"))
    shifted = 2 * np.asarray(Image.open(disc.label_path))
    case = Case("shifted", disc.image_path, saved(tmp_path / "shifted.png", shifted))
    nothing = Case("nothing", disc.image_path, saved(tmp_path / "nothing.png", 0 * shifted))
    blind = Predictor(predictor.model, predictor.content)
    blind.model.patch_decoder.output.bias[0] += 1e3  # which finds nothing at all
    content = predictor.content.model_copy(update={"labels": names})
    said = []
    assert finish(validate(blind, [case, nothing], content), said.append) == {"foreground": 0.0}
    assert "No validation case of 2 holds a voxel of never, nor this, which has no part in" in str(said)
    assert finish(validate(blind, [nothing], content), said.append) == {}
    assert "no weights can be judged, and the last are kept" in str(said)


def test_scores_are_those_of_the_rendered_labels(predictor, disc_folder):
    (case,) = find_cases(disc_folder, "val")
    reports = list(evaluate(predictor, [case, case]))
    assert reports == [Progress("Evaluating", 1, 2), Progress("Evaluating", 2, 2)]
    report = finish(evaluate(predictor, [case]))
    rendered = predictor.field(read_image(case.image_path)).render().array
    expected = score_labels(rendered, read_label_map(case.label_path).array, (1.0, 1.0), classes=2)
    assert report.cases[0].classes == {"foreground": expected[0]}
    assert report.tolerance == 1
    assert (report.cases[0].name, report.cases[0].unit) == ("disc", "pixel")
    assert report.mean("dice") > 0.95 and report.mean("iou") > 0.9


def test_validation_in_training_and_evaluation_of_its_checkpoint_agree(disc_run, predictor, disc_folder):
    logged = [record for record in RunFolder(disc_run).records() if record["kind"] == "validation"]
    cases = find_cases(disc_folder, "val")
    report = finish(evaluate(predictor, cases))
    assert report.mean("dice") == pytest.approx(logged[-1]["mean_dice"], abs=1e-12)
    again = finish(validate(predictor, cases, predictor.content))
    assert again == {"foreground": pytest.approx(report.mean("dice"))}


def test_distances_are_in_the_unit_of_the_image(predictor, disc_folder, tmp_path):
    case = shifted_case(disc_folder, tmp_path, spacing=2.5)
    in_pixels = shifted_case(disc_folder, tmp_path / "pixels", spacing=None)
    report, plain = (finish(evaluate(predictor, [c])).cases[0] for c in (case, in_pixels))
    scores, reference = report.classes["foreground"], plain.classes["foreground"]
    assert (report.unit, plain.unit) == ("millimeter", "pixel")
    assert reference.hausdorff_95 > 1
    assert scores.hausdorff_95 == pytest.approx(2.5 * reference.hausdorff_95)
    assert scores.dice == reference.dice
    # A tolerance of 1 is less than a pixel of 2.5 mm.
    assert scores.surface_dice < reference.surface_dice
    widened = finish(evaluate(predictor, [case], tolerance=2.5)).cases[0]
    assert widened.classes["foreground"].surface_dice == pytest.approx(reference.surface_dice)


def test_a_sheared_volume_is_measured_along_its_own_axes_as_the_dock_measures_it(tmp_path):
    """A CT with a tilted gantry: across slices a surface is nearer than the lengths of the axes say."""
    affine = np.array([[1, 0, 0.9, 0], [0, 1, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]])
    sample = SAMPLES["hippocampus"]
    for name, path in (("image", sample.image_path), ("labels", sample.label_path)):
        array = np.asarray(nibabel.load(path).dataobj)
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    case = Case("tilted", tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz")
    predictor = Predictor.load("hippocampus", device="cpu")
    (scored,) = finish(evaluate(predictor, [case])).cases
    reference = read_label_map(case.label_path)
    predicted = predictor.field(read_image(case.image_path)).render().array
    pair = FramePair("0", lambda: reference, lambda labels: returning(predicted))
    names = dict(enumerate(predictor.content.labels.class_names, start=1))
    dock = finish(iter_agreement("", "", [pair], Comparison(tolerance=1.0, class_names=names)))
    by_lengths = score_labels(predicted, reference.array, reference.spacing, 3)
    assert scored.classes == dock.report.cases[0].classes
    assert scored.mean("hausdorff_95") != pytest.approx(
        np.mean([s.hausdorff_95 for s in by_lengths]), rel=0.01
    )
    assert scored.classes["anterior"].volume_reference == np.count_nonzero(reference.array == 1)


def returning(value):
    """A generator that has nothing to report."""
    yield from ()
    return value


def shifted_case(disc_folder: Path, folder: Path, spacing: float | None) -> Case:
    """The disc with labels two pixels off, as TIFF with a spacing in millimetres or as PNG."""
    (source,) = find_cases(disc_folder, "val")
    arrays = [np.asarray(Image.open(path)) for path in (source.image_path, source.label_path)]
    arrays[1] = np.roll(arrays[1], 2, axis=1)
    folder.mkdir(exist_ok=True)
    suffix = ".png" if spacing is None else ".tif"
    paths = [folder / f"{kind}{suffix}" for kind in ("image", "label")]
    for path, array in zip(paths, arrays, strict=True):
        if spacing is None:
            Image.fromarray(array).save(path)
        else:
            resolution = (1 / spacing, 1 / spacing)
            tifffile.imwrite(path, array, imagej=True, resolution=resolution, metadata={"unit": "mm"})
    return Case("shifted", *paths)


@pytest.mark.parametrize("work", [evaluate, lambda p, cases: validate(p, cases, p.content)])
def test_unlabelled_voxels_are_left_out(predictor, disc_folder, tmp_path, work):
    (source,) = find_cases(disc_folder, "val")
    rendered = predictor.field(read_image(source.image_path)).render().array
    labels = rendered.copy()
    labels[:16] = 255
    labels[20, 20] = 1 - labels[20, 20]
    Image.fromarray(labels).save(tmp_path / "labels.png")
    case = Case("scribble", source.image_path, tmp_path / "labels.png")
    content = predictor.content.model_copy(update={"labels": LabelConfig(ignore_label=255)})
    reading = Predictor(predictor.model, content)
    result = finish(work(reading, [case]))
    assert rendered[20, 20] == 1
    predicted = int((rendered[16:] == 1).sum())
    expected = 2 * (predicted - 1) / (2 * predicted - 1)
    found = result.mean("dice") if isinstance(result, EvaluationReport) else result["foreground"]
    assert found == pytest.approx(expected)
    with pytest.raises(DataError, match="ignore_label"):
        finish(work(predictor, [case]))


def test_a_class_that_neither_map_holds_counts_as_found_and_one_that_is_missed_as_nothing(
    predictor, disc_folder, tmp_path
):
    (disc,) = find_cases(disc_folder, "val")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "nothing.png")
    nothing = Case("nothing", disc.image_path, tmp_path / "nothing.png")
    blind = Predictor(predictor.model, predictor.content)
    blind.model.patch_decoder.output.bias[0] += 1e3
    right, missed = finish(evaluate(blind, [nothing, disc])).cases
    assert right.classes["foreground"] == RIGHTLY_EMPTY
    assert missed.classes["foreground"].is_miss
    assert missed.classes["foreground"].dice == 0
    assert math.isnan(missed.classes["foreground"].hausdorff_95)
    # What is chosen by it is not helped by cases in which there is nothing to find.
    assert finish(validate(blind, [nothing, disc], blind.content)) == {"foreground": 0.0}


def test_the_json_holds_means_and_every_case(predictor, disc_folder):
    (case,) = find_cases(disc_folder, "val")
    written = json.loads(json.dumps(finish(evaluate(predictor, [case, case])).as_dict()))
    assert set(written) == {"mean", "std", "classes", "presence", "tolerance", "cases"}
    assert set(written["mean"]) == set(written["classes"]["foreground"]) == set(agreement_metrics())
    assert [entry["name"] for entry in written["cases"]] == ["disc", "disc"]
    assert written["cases"][0]["dice"] == written["mean"]["dice"]
    assert written["std"]["dice"] == 0
    assert written["presence"]["foreground"]["present"] == 2


# --- A file of scores ---------------------------------------------------------------------------


def test_a_report_that_was_written_is_read_as_it_was(tmp_path):
    report = replace(report_on(a=[found(0.75), MISSED], b=[RIGHTLY_EMPTY, FALSE_ALARM]), tolerance=2.5)
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(report.as_dict(), allow_nan=False), encoding="utf-8")
    again = read_report(path)
    assert again.as_dict() == report.as_dict()
    assert again.cases[0] == report.cases[0] and math.isnan(again.cases[1].classes["a"].hausdorff_95)


def test_scores_of_an_older_version_are_read_and_their_volumes_are_unknown(tmp_path):
    report = report_on(a=[class_scores(0.75, 0.75, 1.0, 0.75, volume_prediction=3.0, volume_reference=4.0)])
    written = report.as_dict()
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(written, allow_nan=False), encoding="utf-8")
    assert read_report(path).cases[0].classes["a"].relative_volume_difference == -0.25
    for name in ("volume_prediction", "volume_reference"):
        del written["cases"][0]["classes"]["a"][name]
    path.write_text(json.dumps(written, allow_nan=False), encoding="utf-8")
    again = read_report(path)
    assert again == report_on(a=[found(0.75)]) and math.isnan(again.cases[0].classes["a"].volume_difference)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"cases": []}',
        '{"cases": [{"name": "a", "unit": "pixel", "classes": {}}]}',
        '{"cases": [{"name": "a", "unit": "pixel", "classes": {"a": {"dice": 1.0, "hausdorff_95": null}}}]}',
        '{"cases": [{"name": "a", "unit": "pixel", "classes": {"a": 3}}]}',
    ],
)
def test_a_file_without_scores_of_this_version_is_named(tmp_path, text):
    path = tmp_path / "scores.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"scores\.json holds no scores of this version"):
        read_report(path)


@pytest.mark.parametrize("factor", [None, (0.5, 1.0)])
def test_what_scores_are_of_is_read_as_it_was_written(tmp_path, factor):
    report = report_on(a=[found(0.75)])
    origin = Origin("discs, step 3", "val", factor, InferenceConfig(threshold=0.6, mirrored_axes=(0, 1)))
    write_report(tmp_path / "scores.json", report, origin)
    assert read_origin(tmp_path / "scores.json") == origin
    assert read_report(tmp_path / "scores.json") == report


def test_older_scores_do_not_say_what_they_are_of(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(report_on(a=[found(0.75)]).as_dict()), encoding="utf-8")
    assert read_origin(path) is None
    path.write_text('{"of": {"split": 3}}', encoding="utf-8")
    with pytest.raises(DataError, match="holds no scores of this version"):
        read_origin(path)


def test_a_file_of_scores_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="none.json cannot be read"):
        read_report(tmp_path / "none.json")


def test_scores_of_other_cases_or_classes_are_refused(disc_folder):
    cases = find_cases(disc_folder, "val")
    of_disc = EvaluationReport((CaseScores("disc", {"foreground": found(0.5)}, "pixel"),))
    check_cases(of_disc, cases, ("foreground",))
    with pytest.raises(DataError, match=r"of 2 cases and the data holds 1.*case0"):
        check_cases(report_on(foreground=[found(1.0)] * 2), cases, ("foreground",))
    with pytest.raises(DataError, match="of foreground, and the model finds disc"):
        check_cases(of_disc, cases, ("disc",))
    with pytest.raises(DataError, match="of 2 cases"):
        check_cases(EvaluationReport(of_disc.cases * 2), cases, ("foreground",))


def test_scores_are_believed_where_the_model_gives_the_same_and_refused_where_it_does_not(
    predictor, disc_folder
):
    cases = find_cases(disc_folder, "val")
    report = finish(evaluate(predictor, cases))
    assert list(check_worst(predictor, cases, report, 1)) == [Progress("Evaluating", 1, 1)]
    foreign = EvaluationReport((CaseScores("disc", {"foreground": found(0.5)}, "pixel"),))
    with pytest.raises(DataError, match=r"disc a Dice of 0\.500, and this model one of 0\.9"):
        finish(check_worst(predictor, cases, foreign, 1))
