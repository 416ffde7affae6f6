"""What the benchmark counts and how it compares; no test here looks at a second."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks import networks, suite
from benchmarks.decode import point_sets
from benchmarks.floor import MatrixProduct, counted, decoder_multiply_adds
from benchmarks.live import ZOOM, boundary_places, measure_live, screen_at
from benchmarks.memory import EncodeJob, MemoryCost, measure_alone
from benchmarks.networks import enlarged_classes
from benchmarks.plan import Plan, Subject, sample, untrained
from benchmarks.render import boundary_length, measure_rendering
from benchmarks.stopwatch import Timings, take_turns
from benchmarks.table import Table, figure, markdown
from benchmarks.training import PARTS, StepTrace, training_batches
from swipe_core.coordinates import Affine, Grid
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.progress import finish
from swipe_core.training.config import load_config
from swipe_core.training.learner import Learner

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def disc(disc_run, disc_folder) -> Subject:
    """A small network that knows the disc in its image."""
    return Subject("disc", str(disc_run / "best.safetensors"), disc_folder / "val" / "images" / "disc.png")


# --- Turns and ratios ---------------------------------------------------------------------------


def test_works_take_turns_and_the_first_turn_does_not_count():
    done = []
    works = {name: lambda name=name: done.append(name) for name in "ab"}
    reports = []
    timings = finish(take_turns(works, 3, CPU, "Timing"), reports.append)
    assert "".join(done) == "abababab"
    assert {name: len(each) for name, each in timings.seconds.items()} == {"a": 3, "b": 3}
    assert [(report.done, report.total) for report in reports] == [(n, 8) for n in range(1, 9)]


def test_a_ratio_is_the_median_of_those_of_each_turn():
    # In the second turn the machine was ten times slower: the medians' own ratio would be 3.
    timings = Timings({"slow": (2.0, 20.0, 6.0), "fast": (1.0, 10.0, 2.0)})
    assert timings.ratio("slow", "fast") == 2
    assert timings.median("slow") == 6


# --- Counting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "plain", "cached"), [("sessile", 409_088, 146_944), ("bcv", 747_520, None)]
)
def test_multiply_adds_of_a_decoder_are_those_that_it_makes(preset, plain, cached):
    config = load_config(preset)
    ndim = config.model.ndim
    with torch.device("meta"):
        model = build_swipe(config.model).eval()
        embeddings = model.encode(torch.zeros(1, config.model.channels, *[64] * ndim))
        points = torch.zeros(1, 10, ndim)
        by_definition, economical = decoder_multiply_adds(model.patch_decoder)
        assert counted(lambda: model.decode_plain(embeddings, points)) == 10 * by_definition
        assert counted(lambda: model.decode(embeddings, points, blending="nearest")) == 10 * economical
    assert by_definition == plain
    assert cached is None or economical == cached


def test_products_that_are_added_in_place_are_counted():
    first, second, third = torch.zeros(2, 5), torch.zeros(2, 3), torch.zeros(3, 5)
    assert counted(lambda: first.addmm_(second, third)) == 2 * 3 * 5


def test_a_product_of_matrices_costs_the_cube_of_their_size():
    product = MatrixProduct(CPU, torch.float32, quick=True)
    assert counted(product) == product.multiply_adds


# --- What is asked ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 60), (24, 30, 26)])
def test_points_are_as_many_as_asked_and_inside_the_image(shape):
    for points in point_sets(shape, 5000).values():
        assert points.shape == (5000, len(shape))
        assert (points >= -0.5).all() and (points <= np.asarray(shape) - 0.5).all()


def test_a_screen_lies_about_its_place_at_its_zoom():
    grid = Grid((20, 30, 40), Affine.from_spacing((3.0, 2.0, 1.0), (5.0, 6.0, 7.0)))
    screen = screen_at(np.array([4.0, 10.5, 20.0]), grid, ZOOM, (60, 80))
    assert screen.shape == (1, 60, 80)
    np.testing.assert_allclose(screen.spacing, (3, 2 / ZOOM, 1 / ZOOM))
    np.testing.assert_allclose(screen.centres_world().mean(axis=0), (4 * 3 + 5, 10.5 * 2 + 6, 20 + 7))


def test_boundaries_are_between_voxels_of_different_classes():
    labels = np.zeros((5, 6), np.uint8)
    labels[1:3, 2:5] = 2
    assert boundary_length(labels) == 2 * (2 + 3)
    places = boundary_places(labels, 100)
    assert len(places) == 10
    for place in places:
        ends = labels[tuple(np.floor(place).astype(int))], labels[tuple(np.ceil(place).astype(int))]
        assert set(ends) == {0, 2}


def test_an_untrained_preset_draws_a_boundary_and_sees_its_image_as_it_is():
    random = untrained("hippocampus", (16, 24, 16))
    field = random.predictor(CPU).field(random.image)
    assert field.grid.shape == (16, 24, 16) and len(field.windows) == 1


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 11, 6, 5), (2, 1, 3)])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_logits_enlarged_in_slabs_are_those_enlarged_at_once(shape, factor):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mode = {3: "bilinear", 4: "trilinear"}[len(shape)]
    whole = functional.interpolate(logits[None], scale_factor=factor, mode=mode, align_corners=False)
    torch.testing.assert_close(enlarged_classes(logits, factor), whole[0].argmax(dim=0).to(torch.uint8))


@pytest.mark.parametrize(
    ("missing", "there", "said"),
    [
        ((), ["U-Net", "UNETR"], ""),
        (("einops",), ["U-Net"], "not there: UNETR. pip install"),
        (("monai", "einops"), [], "not there: U-Net and UNETR. pip install"),
    ],
)
def test_networks_whose_packages_are_missing_are_left_out_in_words(monkeypatch, missing, there, said):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else name)
    assert networks.available(3) == there
    assert said in networks.left_out() and bool(networks.left_out()) == bool(missing)


# --- Sections -----------------------------------------------------------------------------------


def test_rendering_is_compared_by_points_and_agreement(disc):
    plan = Plan(CPU, repeats=1, quick=True, subject=disc, factors=(1.0, 2.0))
    (result,) = finish(measure_rendering(plan)).subjects
    first, second = result.costs
    assert (first.shape, second.shape) == ((32, 32), (64, 64))
    assert (first.dense_points, second.dense_points) == (32**2, 64**2)
    assert first.mise_points < first.dense_points and first.dice == second.dice == 1
    assert first.growth_points is None and second.growth_points == second.mise_points / first.mise_points
    assert second.dense_part == 1


def test_where_dense_rendering_takes_too_long_a_part_is_measured_and_marked(disc, monkeypatch):
    monkeypatch.setattr("benchmarks.render.QUICK_LONGEST", 0.0)
    plan = Plan(CPU, repeats=2, quick=True, subject=disc, factors=(8.0,))
    measured = finish(measure_rendering(plan))
    (cost,) = measured.subjects[0].costs
    assert cost.dense_part == pytest.approx(1 / 8, rel=0.2)
    assert cost.dense_points == pytest.approx(256**2, rel=1e-6) and cost.dice > 0.99
    assert f"| ~{cost.dense_points:,} " in markdown(measured.table())


def test_live_screens_are_decoded_at_few_of_their_pixels(disc):
    (cost,) = finish(measure_live(Plan(CPU, repeats=1, quick=True, subject=disc))).costs
    assert cost.places == 8 and cost.screen == (600, 800)
    assert 0 < cost.points_per_pixel < 0.2


def test_a_step_of_training_is_divided_into_its_parts(tiny_config, tmp_path):
    config = tiny_config({"preprocessing.size": (32, 32), "model.channels": 3, "batch.size": 2})
    _, batches = training_batches(config, tmp_path)
    learner = Learner(config, CPU)
    trace = StepTrace(CPU)
    with trace.watching(learner):
        learner.learn(batches[0], 0, 1e-3)
    seconds = trace.seconds()
    assert tuple(seconds) == PARTS[1:] and min(seconds.values()) >= 0
    assert sum(seconds.values()) == pytest.approx(trace.moments["end"] - trace.moments["start"])
    assert "encode" not in vars(learner.model)


def test_memory_is_measured_in_a_process_of_its_own():
    cost = measure_alone(EncodeJob(sample("nuclei"), "cpu", "encoding"))
    assert isinstance(cost, MemoryCost) and cost.work == "encoding"
    assert cost.process > 50 and cost.above >= 0 and cost.device is None


def test_sections_run_in_their_order_and_their_figures_are_json(disc, monkeypatch):
    import json

    plan = Plan(CPU, repeats=1, quick=True, subject=disc, factors=(1.0, 2.0))
    result = finish(suite.measure(plan, ["live", "render"]))
    assert list(result.sections) == ["render", "live"]
    values = json.loads(json.dumps(result.values()))
    assert values["machine"]["threads"] == torch.get_num_threads()
    assert values["live"]["costs"][0]["places"] == asdict(result.sections["live"])["costs"][0]["places"]
    told = result.ratios()
    assert "growth of MISE points per doubling" in told and " s |" not in told


# --- Words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,234"),
        (99.94, "99.9"),
        (1.004, "1.00"),
        (0.1234, "0.123"),
        (0.00012, "0.00012"),
        (0.0, "0.000"),
        (None, "-"),
        (float("nan"), "?"),
    ],
)
def test_a_figure_has_three_digits_that_count(value, text):
    assert figure(value) == text


def test_tables_are_markdown_with_their_notes():
    text = markdown(Table("Title", ("a", "long"), (("1", "2"),), ("A note.",)))
    assert text.splitlines() == [
        "## Title",
        "",
        "| a   | long |",
        "| :-- | :--- |",
        "| 1   | 2    |",
        "",
        "A note.",
    ]


def test_samples_are_plain_enough_for_another_process():
    import pickle

    subject = sample("polyp", (384, 384))
    assert pickle.loads(pickle.dumps(subject)) == subject
    assert subject.image(2).shape == (384, 384) and isinstance(subject.image_path, Path)
