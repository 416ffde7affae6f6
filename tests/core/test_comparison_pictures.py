"""Pictures of a comparison: cases chosen in nobody's favour, charts of what was found, attention."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from class_scores import class_scores
from PIL import Image

from studies import charts, pictures
from studies.charts import write_dots
from studies.pictures import ACROSS, cases_at, write_pictures
from studies.results import FinishedRun
from studies.runs import narrowed
from studies.study import Chart, Condition, Point, Published, Row, Setting, Study
from swipe_core.coordinates import Affine
from swipe_core.data.cases import find_cases
from swipe_core.errors import ConfigError
from swipe_core.evaluation import figures
from swipe_core.evaluation.evaluate import evaluate
from swipe_core.evaluation.figures import attention_panels, attention_sheet
from swipe_core.evaluation.report import CaseScores, EvaluationReport
from swipe_core.images import MedicalImage, read_image
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.pictures import Panel, contact_sheet, heat, sheets, write_lines
from swipe_core.pictures import charts as drawn
from swipe_core.pictures.overlays import new_figure
from swipe_core.prediction.predictor import Predictor
from swipe_core.progress import Progress, finish
from swipe_core.training.config import load_config

PLAIN = "as trained"


def report(**dice: float) -> EvaluationReport:
    scores = {name: class_scores(dice=d, iou=d, hausdorff_95=1.0, surface_dice=d) for name, d in dice.items()}
    return EvaluationReport(tuple(CaseScores(name, {"disc": own}, "pixel") for name, own in scores.items()))


def study_of(rows: list[Row], **fields) -> Study:
    settings = {"discs": Setting(config="nuclei", data="discs")}
    return Study(name="discs", title="Discs", settings=settings, rows=tuple(rows), **fields)


def run_of(row: Row, seed: int = 0, parameters: int = 2_000_000, **scores: EvaluationReport) -> FinishedRun:
    return FinishedRun(
        row=row,
        seed=seed,
        config=load_config("nuclei"),
        checkpoint=Path("nowhere.safetensors"),
        data=Path("nowhere"),
        split="val",
        parameters=parameters,
        multiply_adds=5_000_000_000,
        minutes=1.0,
        scores={name.replace("_", " "): own for name, own in scores.items()},
    )


# --- Which cases are shown ------------------------------------------------------------------------


def test_cases_come_in_the_order_of_their_mean_over_networks():
    good = report(a=0.9, b=0.8, c=0.1, d=0.7, e=0.6)
    bad = report(a=0.1, b=0.8, c=0.2, d=0.7, e=0.6)
    assert cases_at([good, bad], (0, 0.25, 0.5, 0.75, 1)) == ["c", "a", "e", "d", "b"]


def test_the_choice_is_the_same_whoever_of_the_networks_is_which():
    reports = [report(a=0.9, b=0.8, c=0.3), report(a=0.1, b=0.85, c=0.4), report(a=0.5, b=0.2, c=0.95)]
    chosen = cases_at(reports, (0, 0.5, 1))
    assert all(cases_at(reports[i:] + reports[:i], (0, 0.5, 1)) == chosen for i in range(3))
    assert sorted(chosen) == ["a", "b", "c"]


def test_no_case_is_shown_twice_and_none_that_a_network_was_not_judged_on():
    assert cases_at([report(a=0.5, b=0.6), report(b=0.7)], (0.1, 0.5, 0.9)) == ["b"]
    assert cases_at([report(a=0.5), report(b=0.7)], (0.5,)) == []


def test_of_equal_cases_names_decide():
    assert cases_at([report(b=0.5, c=0.5, a=0.5)], (0, 0.5, 1)) == ["a", "b", "c"]


# --- Charts ---------------------------------------------------------------------------------------


ONE = Row(name="one", published=Published(parameters=3.0, dice=70.0))
TWO = Row(name="two", published=Published(dice=60.0))


@pytest.fixture
def lines(monkeypatch) -> dict[str, dict]:
    """What charts of lines are given, by the names of their files; nothing is drawn."""
    given: dict[str, dict] = {}

    def record(series, path, *labels, **options):
        given[path.name] = {"series": series, **options}

    monkeypatch.setattr(charts, "write_lines", record)
    monkeypatch.setattr(
        charts,
        "write_dots",
        lambda values, path, *_, **options: given.update({path.name: {"values": values, **options}}),
    )
    return given


def given_chart(**fields) -> Chart:
    return Chart(name="shares", title="Shares", x_label="%", **fields)


def test_a_chart_has_a_point_for_every_seed_where_its_row_stands(lines, tmp_path):
    line = (Point(x=10, row="one"), Point(x=100, row="two"))
    study = study_of([ONE, TWO], charts=(given_chart(lines={"all": line}),))
    finished = [run_of(ONE, seed, as_trained=report(a=0.5 + 0.1 * seed)) for seed in (0, 1)]
    finished.append(run_of(TWO, as_trained=report(a=0.8)))
    charts.write_charts(study, finished, tmp_path, True)
    found = lines["shares.png"]
    assert found["series"] == {"all": [(10, 50.0), (10, 60.0), (100, 80.0)]}
    assert found["published"] == {"all": [(10, 70.0), (100, 60.0)]}
    assert found["ticks"] == [10, 100]


def test_of_a_study_narrowed_to_a_row_the_chart_has_that_row_alone(lines, tmp_path):
    line = (Point(x=10, row="one"), Point(x=100, row="two"))
    study = narrowed(study_of([ONE, TWO], charts=(given_chart(lines={"all": line}),)), rows=["one"])
    charts.write_charts(study, [run_of(ONE, as_trained=report(a=0.5))], tmp_path, True)
    assert lines["shares.png"]["series"] == {"all": [(10, 50.0)]}
    assert lines["shares.png"]["published"] == {"all": [(10, 70.0)]}


def test_the_papers_numbers_are_left_out_where_the_data_are_others(lines, tmp_path):
    study = study_of([ONE], charts=(given_chart(lines={"all": (Point(x=1, row="one"),)}),))
    charts.write_charts(study, [run_of(ONE, as_trained=report(a=0.5))], tmp_path, False)
    assert not lines["shares.png"]["published"] and not lines["dice.png"]["published"]


@pytest.mark.parametrize(("x", "ours", "theirs"), [("parameters", 2.0, 3.0), ("multiply_adds", 5.0, None)])
def test_against_their_cost_rows_stand_in_the_papers_units(lines, tmp_path, x, ours, theirs):
    study = study_of([ONE], charts=(given_chart(x=x),))
    charts.write_charts(study, [run_of(ONE, as_trained=report(a=0.5))], tmp_path, True)
    assert lines["shares.png"]["series"] == {"one": [(ours, 50.0)]}
    assert lines["shares.png"]["published"] == ({} if theirs is None else {"one": [(theirs, 70.0)]})


def test_what_was_not_judged_yet_is_left_out_and_nothing_at_all_makes_no_picture(lines, tmp_path):
    line = (Point(x=10, row="one"), Point(x=100, row="two"))
    study = study_of([ONE, TWO], charts=(given_chart(lines={"both": line, "second": line[1:]}),))
    written = charts.write_charts(study, [run_of(ONE, as_trained=report(a=0.5)), run_of(TWO)], tmp_path, True)
    assert [path.name for path in written] == ["dice.png", "shares.png"]
    assert lines["shares.png"]["series"] == {"both": [(10, 50.0)]}
    assert lines["dice.png"]["values"] == {"one": {"measured": [50.0]}}
    assert charts.write_charts(study, [run_of(ONE), run_of(TWO)], tmp_path, True) == []


def test_where_networks_are_judged_in_several_ways_each_way_is_a_group(lines, tmp_path):
    conditions = (Condition(), Condition(name="far", output_size=(9, 9), published={"two": 55.0}))
    scores = {"as_trained": report(a=0.5), "far": report(a=0.4)}
    study = study_of([ONE, TWO], conditions=conditions)
    charts.write_charts(study, [run_of(ONE, **scores), run_of(TWO, **scores)], tmp_path, True)
    assert lines["dice.png"]["values"] == {
        PLAIN: {"one": [50.0], "two": [50.0]},
        "far": {"one": [40.0], "two": [40.0]},
    }
    assert lines["dice.png"]["published"] == {PLAIN: {"one": 70.0, "two": 60.0}, "far": {"two": 55.0}}


def test_a_line_goes_through_the_mean_of_its_seeds_and_the_papers_is_dashed_in_its_colour():
    axes = new_figure(200, 200).subplots()
    drawn._draw_series(axes, {"a": [(1, 2), (1, 4), (2, 8)]}, {"a": [(1, 5), (2, 6)]})
    ours, dots, theirs, legend = axes.lines
    np.testing.assert_array_equal(ours.get_xydata(), [[1, 3], [2, 8]])
    np.testing.assert_array_equal(dots.get_xydata(), [[1, 2], [1, 4], [2, 8]])
    np.testing.assert_array_equal(theirs.get_xydata(), [[1, 5], [2, 6]])
    assert (ours.get_linestyle(), theirs.get_linestyle()) == ("-", "--")
    assert ours.get_color() == theirs.get_color()
    assert legend.get_label() == "as published"


def test_charts_of_lines_and_dots_come_out_as_files(tmp_path):
    series = {"a": [(1.0, 50.0), (10.0, 60.0)], "b": [(3.0, 55.0)]}
    write_lines(series, tmp_path / "lines.png", "x", "y", "title", True, published=series, ticks=[1, 3, 10])
    values = {f"row {n}": {"first": [50.0 + n, 52.0], "second": [40.0]} for n in range(4)}
    write_dots(values, tmp_path / "dots.png", "Dice", published={"row 1": {"first": 70.0}})
    write_dots({"row": {"one": [1.0]}}, tmp_path / "small.png", "Dice")
    sizes = [np.asarray(Image.open(tmp_path / f"{name}.png")).shape for name in ("lines", "dots", "small")]
    assert sizes[0][:2] == (500, 800)
    assert sizes[1][0] > 2 * sizes[2][0]


# --- Sheets ---------------------------------------------------------------------------------------


def test_a_title_stands_above_a_sheet_that_is_else_the_same():
    panels = [[Panel(np.full((40, 300, 3), 9, np.uint8), "panel")]]
    plain, titled = contact_sheet(panels), contact_sheet(panels, title="A title of the whole")
    extra = titled.shape[0] - plain.shape[0]
    assert extra > 0
    np.testing.assert_array_equal(titled[extra + 8 :], plain[8:])
    assert (titled[: extra + 8] < 255).any()


def test_heat_is_black_at_nothing_and_bright_at_the_top_and_keeps_the_extent():
    values = np.zeros((4, 6))
    values[2:, 3:] = 0.5
    rgb = heat(values, (40, 60), 0.5).astype(int).sum(axis=-1)
    assert rgb.shape == (40, 60)
    assert rgb[:15, :25].max() < 30 and rgb[30:, 45:].min() > 600
    assert not heat(np.zeros((2, 2)), (4, 4), 0.0).astype(bool)[..., :2].any()


@pytest.fixture(scope="module")
def many_discs(disc_folder, tmp_path_factory) -> Path:
    """Six cases of the disc, darker and darker, so that networks find it harder and harder."""
    folder = tmp_path_factory.mktemp("many")
    source = disc_folder / "val"
    pixels = np.asarray(Image.open(source / "images" / "disc.png"))
    for part in ("images", "labels"):
        (folder / "val" / part).mkdir(parents=True)
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 1 + 40 * number, pixels.shape)
        shown = (pixels.astype(int) - noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(shown).save(folder / "val" / "images" / f"disc{number}.png")
        shutil.copy(source / "labels" / "disc.png", folder / "val" / "labels" / f"disc{number}.png")
    return folder


@pytest.fixture(scope="module")
def finished(disc_run, many_discs, tiny_config) -> list[FinishedRun]:
    """One network as three rows, of which the second has two seeds, and one row without scores."""
    checkpoint = disc_run / "best.safetensors"
    predictor = Predictor.load(checkpoint, device="cpu")
    scores = finish(evaluate(predictor, find_cases(many_discs, "val")))
    run = replace(run_of(Row(name="one")), config=tiny_config(), checkpoint=checkpoint, data=many_discs)
    judged = replace(run, scores={PLAIN: scores})
    two = Row(name="two")
    return [
        judged,
        replace(judged, row=two),
        replace(judged, row=two, seed=1, checkpoint=Path("nowhere.safetensors")),
        replace(judged, row=Row(name="three")),
        replace(run, row=Row(name="four")),
    ]


@pytest.fixture
def titles(monkeypatch) -> list[str]:
    """The titles that sheets are given, in their order."""
    given: list[str] = []
    plain = sheets._caption

    def recorded(text, width, lines):
        given.append(text.replace("\n", " "))
        return plain(text, width, lines)

    monkeypatch.setattr(sheets, "_caption", recorded)
    return given


@pytest.fixture
def loaded(monkeypatch) -> list[Path]:
    """The checkpoints that are loaded."""
    given: list[Path] = []
    load = Predictor.load

    def recorded(checkpoint, **options):
        given.append(checkpoint)
        return load(checkpoint, **options)

    monkeypatch.setattr(Predictor, "load", staticmethod(recorded))
    return given


ROWS = [Row(name=name) for name in ("one", "two", "three", "four")]


def test_each_row_segments_each_case_once_and_its_dice_stands_above(finished, tmp_path, titles, loaded):
    reports = list(iterated(write_pictures(study_of(ROWS), finished, tmp_path, device="cpu")))
    assert [path.name for path in reports.pop()] == ["dice.png", "cases.png", "attention.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"dice.png", "cases.png", "attention.png"}
    assert reports[-1] == Progress("Drawing cases", 15, 15)
    assert len(loaded) == 3  # once for each row, by its first seed
    scores = {case.name: case.present_dice for case in finished[0].scores[PLAIN].cases}
    chosen = cases_at([finished[0].scores[PLAIN]], pictures.QUANTILES)
    assert len(chosen) == 5
    for row in ("one", "two", "three"):
        told = [title for title in titles if title.startswith(f"{row}, ")]
        assert told == [f"{row}, Dice {scores[name]:.2f}" for name in chosen]
    assert (
        "Cases of val/, in the order of their mean Dice over all networks: those at 10, 30, 50, 70 and 90 %."
        in titles
    )


def iterated(work):
    """The reports of a generator, and last its result."""
    result = yield from work
    yield result


def test_many_networks_stand_in_several_lines_of_fewer_cases(finished, tmp_path, titles):
    rows = [Row(name=f"row{number}") for number in range(ACROSS)]
    runs = [replace(finished[0], row=row) for row in rows]
    finish(write_pictures(study_of(rows), runs[:6], tmp_path / "few", device="cpu"))
    few = titles.count("reference")
    finish(write_pictures(study_of(rows), runs, tmp_path / "many", device="cpu"))
    assert (few, titles.count("reference") - few) == (5, 3)
    shapes = {name: np.asarray(Image.open(tmp_path / name / "cases.png")).shape for name in ("few", "many")}
    assert shapes["few"][1] == shapes["many"][1]
    assert shapes["many"][0] > 1.1 * shapes["few"][0]  # three cases of two lines beside five of one


def test_without_scores_as_trained_there_are_no_sheets(finished, tmp_path, loaded):
    study = study_of(ROWS, conditions=(Condition(name="far", output_size=(9, 9)),))
    runs = [replace(run, scores={"far": report(a=0.5)}) for run in finished]
    assert [p.name for p in finish(write_pictures(study, runs, tmp_path, device="cpu"))] == ["dice.png"]
    assert finish(write_pictures(study, [], tmp_path, device="cpu")) == []
    assert not loaded


# --- Attention ------------------------------------------------------------------------------------


def test_attention_is_of_the_network_with_the_greatest_dice_among_those_that_have_it(finished, tiny_config):
    base = finished[0]
    other = tiny_config({"model.fusion": "addition"})
    runs = [
        replace(base, row=Row(name="low"), scores={PLAIN: report(a=0.5)}),
        replace(base, row=Row(name="high"), scores={PLAIN: report(a=0.7)}),
        replace(base, row=Row(name="best"), scores={PLAIN: report(a=0.9)}, config=other),
    ]
    best = pictures._attentive(runs, PLAIN)
    assert best is not None and best.row.name == "high"
    assert pictures._attentive(runs[2:], PLAIN) is None


@pytest.fixture
def heats(monkeypatch) -> list[np.ndarray]:
    """The weights that are shown."""
    given: list[np.ndarray] = []

    def record(values, shape, high):
        given.append(values)
        return heat(values, shape, high)

    monkeypatch.setattr(figures, "heat", record)
    return given


def test_an_image_that_was_encoded_whole_is_shown_with_the_weights_of_its_patches(
    disc_run, disc_folder, heats
):
    predictor = Predictor.load(disc_run / "best.safetensors", device="cpu")
    image = read_image(disc_folder / "val" / "images" / "disc.png", ndim=2)
    field = predictor.field(image)
    panels = attention_panels(field, image, size=64)
    assert [panel.rgb.shape for panel in panels] == [(64, 64, 3)] * 5
    weights = field.windows[0].encoding.stage_weights
    assert weights is not None
    np.testing.assert_allclose(np.stack(heats), weights[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(np.sum(heats, axis=0), 1, atol=1e-5)


def test_a_volume_is_shown_with_the_weights_of_the_patches_in_a_slice(volume_checkpoint, heats):
    predictor = Predictor.load(volume_checkpoint, device="cpu")
    array = np.random.default_rng(0).normal(size=(12, 16, 16, 1)).astype(np.float32)
    image = MedicalImage(array, Affine.from_spacing((3.0, 2.0, 1.0)), "millimeter")
    field = predictor.field(image)
    weights = field.windows[0].encoding.stage_weights
    assert weights is not None and len(field.windows) == 1
    for number in (0, 5, 11):
        heats.clear()
        panels = attention_panels(field, image, (number,), size=80)
        assert [panel.rgb.shape for panel in panels] == [(80, 40, 3)] * 5  # 1 mm by 2 mm
        np.testing.assert_allclose(np.stack(heats), weights[0].numpy()[:, number // 4], atol=1e-6)
    assert attention_sheet(field, image).ndim == 3


def test_a_network_without_attention_has_none_to_show(disc_folder, tiny_config):
    config = tiny_config({"model.fusion": "addition"})
    predictor = Predictor(build_swipe(config.model), config.checkpoint_content())
    image = read_image(disc_folder / "val" / "images" / "disc.png", ndim=2)
    with pytest.raises(ConfigError, match="no attention to show"):
        attention_sheet(predictor.field(image), image)
