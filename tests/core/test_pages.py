"""A model's page says what its card, its scores and those who looked at its failures say, and no more."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from class_scores import class_scores

from swipe_core.checkpoints.card import ModelCard
from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.checkpoints.summary import TrainingSummary
from swipe_core.coordinates import Affine
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import LabelledImage, read_labelled
from swipe_core.data.labels import LabelConfig
from swipe_core.errors import CheckpointError, ConfigError
from swipe_core.evaluation.figures import case_sheet
from swipe_core.evaluation.report import CaseScores, EvaluationReport
from swipe_core.files.atomic import write_text
from swipe_core.images import LabelMap, MedicalImage
from swipe_core.measure.scores import ClassScores
from swipe_core.pictures import CLASS_COLOURS, sheets
from swipe_core.prediction.predictor import Predictor
from tools.evidence import Evidence, dice_histogram, read_failures
from tools.pages import model_page, page_name

CARD = ModelCard(
    title="Cells and walls",
    description="Finds both.",
    data="Eight pictures.",
    licence="CC BY-SA 4.0, as the images and labels it was trained on",
    attribution="A. Nobody, Nowhere 1 (2020).",
    intended_use="Teaching.",
    limits="Nothing but these.",
    validation="Three further pictures.",
)
SUMMARY = TrainingSummary(
    step=1634,
    steps=4000,
    minutes=29.77,
    training_cases=190,
    validation_cases=3,
    device="cuda",
    versions={"torch": "2.13.0"},
)


def scores(dice: float, in_reference: bool = True, in_prediction: bool = True) -> ClassScores:
    distance = 1.25 if in_reference == in_prediction else math.nan
    return class_scores(dice, dice / 2, distance, dice / 4, in_reference, in_prediction)


MISSED, FALSE_ALARM = scores(0.0, in_prediction=False), scores(0.0, in_reference=False)


def report_on(**classes: list[ClassScores]) -> EvaluationReport:
    cases = zip(*classes.values(), strict=True)
    return EvaluationReport(
        tuple(
            CaseScores(f"case_{i}", dict(zip(classes, case, strict=True)), "millimeter")
            for i, case in enumerate(cases)
        )
    )


@pytest.fixture(scope="module")
def content(tiny_config) -> CheckpointContent:
    return tiny_config().checkpoint_content(SUMMARY).model_copy(update={"name": "cells", "card": CARD})


def page(content: CheckpointContent, report: EvaluationReport, failures=None, **options) -> str:
    evidence = Evidence(report, report.worst(10), failures or {}, "../images/worst.png", "../images/dice.png")
    return model_page(content, evidence, **options)


# --- The page -----------------------------------------------------------------------------------


def test_everything_on_the_card_stands_on_the_page(content):
    text = page(content, report_on(cell=[scores(0.5)]))
    assert text.startswith("# Cells and walls\n")
    for field in ("description", "data", "licence", "attribution", "intended_use", "limits", "validation"):
        assert getattr(CARD, field) in text
    assert "](../images/worst.png)" in text and "](../images/dice.png)" in text


def test_the_table_is_over_the_cases_that_hold_the_class(content):
    dice = [0.9, 0.5, 0.4]
    text = page(content, report_on(cell=[*map(scores, dice), FALSE_ALARM], wall=[scores(1.0)] * 4))
    cell, wall = (cells(line) for line in text.splitlines() if line.startswith(("| cell", "| wall")))
    assert cell == ["cell", "3", "**0.600**", "0.216", "0.500", "0.450 to 0.700", "0.300", "1.25", "0.150"]
    assert wall[:3] == ["wall", "4", "**1.000**"]
    assert "HD95 [mm]" in text and "Surface Dice (1 mm)" in text


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_false_alarms_are_told_of_classes_that_some_case_lacks_and_of_no_others(content):
    assert "without" not in page(content, report_on(cell=[scores(0.5), MISSED]))
    text = page(content, report_on(cell=[scores(0.8), FALSE_ALARM], wall=[scores(1.0)] * 2))
    assert "- 1 case without cell: something marked in 1 (100 %)." in text
    assert "the mean Dice is 0.400 over all 2 cases." in text
    assert "without wall" not in text


def test_a_class_that_no_case_holds_has_a_row_without_numbers(content):
    text = page(content, report_on(cell=[FALSE_ALARM]))
    (row,) = [cells(line) for line in text.splitlines() if line.startswith("| cell")]
    assert row == ["cell", "0", "**–**", "–", "–", "– to –", "–", "–", "–"]


def test_the_training_is_that_of_the_checkpoint(content):
    text = page(content, report_on(cell=[scores(0.5)]), configuration="nuclei")
    rows = dict(cells(line) for line in text.splitlines() if line.count("|") == 3)
    assert rows["steps"] == "1634 of 4000"
    assert (rows["minutes"], rows["device"]) == ("29.77", "cuda")
    assert rows["cases"] == "190 training, 3 validation"
    assert rows["configuration"] == "`nuclei.yaml`"
    assert rows["command"] == "`swipe train nuclei --data DATA_DIR --output runs/cells`"


def test_what_the_checkpoint_does_not_say_is_left_out(content):
    silent = content.model_copy(update={"summary": TrainingSummary()})
    text = page(silent, report_on(cell=[scores(0.5)]))
    assert "does not say how it was trained" in text
    assert "train.py" not in text and "None" not in text
    assert "| command |" not in page(content, report_on(cell=[scores(0.5)]))


def test_the_worst_cases_are_numbered_with_what_went_wrong(content):
    report = report_on(cell=[scores(0.75), FALSE_ALARM, MISSED, scores(0.0)])
    lines = page(content, report, {"case_2": "Too pale.\n", "case_0": "A corner."}).splitlines()[-4:]
    assert lines == [
        "1. `case_2`: Dice 0.00 (no cell marked). Too pale.",
        "2. `case_3`: Dice 0.00 (cell marked, but elsewhere)",
        "3. `case_1`: Dice 0.00 (cell marked where there is none)",
        "4. `case_0`: Dice 0.75. A corner.",
    ]


def test_of_several_classes_each_that_a_case_holds_is_told(content):
    report = report_on(cell=[scores(0.75)] * 2, wall=[MISSED, scores(1.0, False, False)])
    lines = page(content, report).splitlines()[-2:]
    assert lines == [
        "1. `case_0`: Dice 0.38 (cell 0.75, no wall marked)",
        "2. `case_1`: Dice 0.75 (cell 0.75)",
    ]


@pytest.mark.parametrize(
    ("licence", "named"),
    [
        (CARD.licence, "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/)"),
        ("CC0 1.0", "[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)"),
        ("MIT, as ever", "MIT"),
    ],
)
def test_under_the_sheet_stand_source_change_and_licence(content, licence, named):
    card = CARD.model_copy(update={"licence": licence})
    text = page(content.model_copy(update={"card": card}), report_on(cell=[scores(0.5)]))
    after = text[text.index("](../images/worst.png)") :].splitlines()[2]
    assert after.startswith("*Images and reference labels: A. Nobody, Nowhere 1 (2020). Changed:")
    assert after.endswith(f"are under {named}.*")


def test_a_model_without_a_card_has_no_page(content):
    with pytest.raises(CheckpointError, match="cells has no card"):
        page(content.model_copy(update={"card": None}), report_on(cell=[scores(0.5)]))


def test_a_bar_in_a_name_does_not_part_a_cell(content):
    text = page(content, report_on(**{"cell|wall": [scores(0.5)]}))
    assert r"| cell\|wall | 1 |" in re.sub(" +", " ", text)


@pytest.mark.parametrize("name", ["../cells", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_file_name_is_refused(content, name):
    assert page_name(content) == "cells"
    with pytest.raises(ConfigError, match="cannot be a file's name"):
        page_name(content.model_copy(update={"name": name}))


def test_a_page_is_written_whole_with_its_folder_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "cells.md"
    write_text(path, "fünf\n")
    assert path.read_bytes() == "fünf\n".encode()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigError, match=r"cells\.md cannot be written: No space left"):
        write_text(path, "six\n")
    assert [file.name for file in path.parent.iterdir()] == ["cells.md"]
    assert path.read_bytes() == "fünf\n".encode()


# --- What people say of failures ----------------------------------------------------------------


def test_failures_are_read_and_none_are_needed(tmp_path):
    path = tmp_path / "cells.failures.yaml"
    assert read_failures(path, ["one"]) == {}
    path.write_text("", encoding="utf-8")
    assert read_failures(path, ["one"]) == {}
    path.write_text('one: "Too pale: a wall."\n"02": A corner.\n', encoding="utf-8")
    assert read_failures(path, ["one", "02", "three"]) == {"one": "Too pale: a wall.", "02": "A corner."}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- one", "must map names of cases to sentences"),
        ("one: [a, b]", "must map names of cases to sentences"),
        ("02: A corner.", "quotes round a name that is a number"),
        ("one: Pale: a wall.", "cannot be read as YAML"),
        ("one: Pale.\none: A wall.", "cannot be read as YAML ('one' stands twice in line 2)"),
        ("one: 2020-99-99", "cannot be read as YAML (it holds a value that cannot be read"),
        ("one: " + "[" * 5000, "cannot be read as YAML (it is nested too deeply)"),
        (b"\xff\xfe\xfa", "cannot be read as a text file"),
        ("onne: Pale.", "names 'onne', which is no validation case. Did you mean 'one'?"),
    ],
)
def test_a_file_of_failures_that_cannot_be_used_is_named(tmp_path, text, said):
    path = tmp_path / "cells.failures.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        read_failures(path, ["one", "02"])
    assert str(path) in str(error.value) and said in str(error.value)


# --- Pictures -----------------------------------------------------------------------------------


def test_a_histogram_counts_every_case_that_holds_the_class_once():
    dice = [0.0, 0.05, 0.1, 0.85, 1.0]
    counts = dice_histogram(report_on(cell=[*map(scores, dice), FALSE_ALARM]))["cell"]
    assert sum(counts.values()) == len(dice)
    assert (counts["0.0-0.1"], counts["0.1-0.2"], counts["0.8-0.9"], counts["0.9-1.0"]) == (2, 1, 1, 1)


@pytest.fixture(scope="module")
def predictor(disc_run) -> Predictor:
    return Predictor.load(disc_run / "best.safetensors", device="cpu")


@pytest.fixture
def disc(disc_folder, predictor) -> LabelledImage:
    (case,) = find_cases(disc_folder, "val")
    return read_labelled(case, 2, predictor.content.labels)


@pytest.fixture
def titles(monkeypatch) -> list[str]:
    """The titles that a sheet is given, in its order."""
    given: list[str] = []
    plain = sheets._caption

    def recorded(text, width, lines):
        given.append(text.replace("\n", " "))
        return plain(text, width, lines)

    monkeypatch.setattr(sheets, "_caption", recorded)
    return given


def test_cases_of_a_sheet_are_numbered_along_the_rows(predictor, disc, titles):
    cases = [replace(disc, name=name) for name in ("one", "two", "three")]
    sheet = case_sheet(predictor, cases, columns=2, size=160, numbered=True)
    assert [title for title in titles if title[:1].isdigit()] == ["1. one", "2. two", "3. three"]
    assert titles.count("reference") == 3
    single = case_sheet(predictor, cases, size=160)
    assert sheet.shape[1] > 1.9 * single.shape[1] and sheet.shape[0] < single.shape[0]
    assert "one" in titles


def test_a_sheet_of_small_panels_is_small(predictor, disc):
    small, large = (case_sheet(predictor, [disc], size=size).size for size in (160, 320))
    assert small < 0.35 * large


def test_unlabelled_voxels_neither_count_nor_show_on_a_sheet(predictor, disc, titles):
    labels = disc.labels.array.copy()
    labels[:14] = 255
    scribble = replace(disc, labels=replace(disc.labels, array=labels))
    content = predictor.content.model_copy(update={"labels": LabelConfig(ignore_label=255)})
    case_sheet(Predictor(predictor.model, content), [scribble])
    assert titles[-1].startswith("prediction, Dice 0.9")


@pytest.fixture
def volume_sheet(volume_checkpoint, monkeypatch):
    """A function from a reference and a prediction of one volume to its sheet."""
    predictor, affine = Predictor.load(volume_checkpoint, device="cpu"), Affine.identity(3)

    def draw(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        image = MedicalImage(np.zeros((*reference.shape, 1), np.float32), affine, "pixel")
        rendering = _Rendering(LabelMap(predicted, affine, "pixel"))
        monkeypatch.setattr(predictor, "field", lambda image: rendering)
        labels = LabelMap(reference, affine, "pixel")
        return case_sheet(predictor, [LabelledImage("volume", image, labels)])

    return draw


class _Rendering:
    """A field that has one rendering."""

    def __init__(self, labels: LabelMap) -> None:
        self.labels = labels

    def render(self, grid: object) -> LabelMap:
        return self.labels


def test_a_class_that_is_in_neither_map_does_not_raise_the_dice_of_a_sheet(volume_sheet, titles):
    """A prediction of class 1 alone, twice as large as the reference: 2/3, and not the mean with 1."""
    reference, predicted = np.zeros((2, 4, 16, 16), np.uint8)
    reference[2, 4:8, 4:8] = predicted[2, 4:8, 4:12] = 1
    volume_sheet(reference, predicted)
    assert titles[-1] == "prediction, Dice 0.67"


def test_a_false_alarm_in_a_volume_is_shown_in_its_slice(volume_sheet):
    nothing, alarm = np.zeros((2, 4, 16, 16), np.uint8)
    alarm[2, 4:8, 4:8] = 1
    paint = tuple(bytes.fromhex(CLASS_COLOURS[0][1:]))
    legend, shown = ((volume_sheet(nothing, p) == paint).all(-1).sum() for p in (nothing, alarm))
    assert shown > 2 * legend
