"""The shipped studies: every row is a network that can be trained, and the numbers are the paper's."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from studies.archives import ARCHIVES
from studies.cost import parameter_count
from studies.study import Row, Setting, Study, load_study, study_names
from swipe_core.errors import ConfigError
from swipe_core.networks.config import NetworkConfig
from swipe_core.networks.registry import build_network
from swipe_core.training.config import ExperimentConfig, load_config

# Table 1 of the supplement: learning rates and batch sizes.
TUNED_2D = {
    "SwIPE": (0.0005, 12),
    "IOSNet": (0.0002, 16),
    "OSS-Net": (0.0005, 14),
    "PraNet": (0.001, 16),
    "Res2UNet": (0.001, 16),
    "U-Net": (0.00075, 12),
}
TUNED_3D = {
    "SwIPE": (0.00075, 6),
    "IOSNet": (0.001, 10),
    "OSS-Net": (0.001, 10),
    "UNETR": (0.001, 10),
    "Res2UNet": (0.001, 10),
    "U-Net": (0.0006, 4),
}
RASTER = {"unet", "pranet", "res2unet", "unetr"}

# What each row of the ablation adds to the one above it, in the paper's order.
ADDED = {
    "+ RFB-L": {"receptive_field"},
    "+ cascade": {"cascade"},
    "+ MEA": {"fusion"},
    "+ image decoder": {"image_decoder"},
    "+ image embedding and coordinate": {"condition_on_image"},
    "+ source coordinate": {"condition_on_source"},
    "+ SPO": {"overreach", "blending"},
}
REPLACED = {
    "CCT backbone": {"backbone"},
    "U-Net backbone": {"backbone"},
    "addition for MEA": {"fusion"},
    "concatenation for MEA": {"fusion"},
    "self-attention for MEA": {"fusion"},
    "SPO, N 0": {"overreach", "blending"},
    "SPO, N 4, con 4": {"overreach", "connectivity"},
    "SPO, N 4, con 8": {"overreach"},
    "SPO, N 8, con 4": {"connectivity"},
}

STUDIES = {name: load_study(name) for name in study_names()}
ROWS = [
    pytest.param(study, setting, row, id=f"{name}-{setting}-{row.name}")
    for name, study in STUDIES.items()
    for setting in study.settings
    for row in study.rows
]


def experiment(setting: Setting, row: Row) -> ExperimentConfig:
    return loaded(setting.config, json.dumps({"model.network": row.network, **row.changes_in(setting)}))


@cache
def loaded(name: str, changes: str) -> ExperimentConfig:
    return load_config(name, changes=json.loads(changes))


def row_of(study: str, name: str) -> Row:
    return next(row for row in STUDIES[study].rows if row.name == name)


@cache
def built(model: NetworkConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return build_network(model)


def different_fields(one: ExperimentConfig, other: ExperimentConfig) -> set[str]:
    """Fields of the network that differ; all else must agree."""
    assert one.model_copy(update={"model": other.model}) == other
    return {field for field, value in one.model if value != getattr(other.model, field)}


def test_the_studies_are_those_of_the_paper_and_one_beyond_it():
    assert list(STUDIES) == [
        *("study1_overall_2d", "study1_overall_3d", "study2_robustness_2d", "study2_robustness_3d"),
        *("study3_efficiency", "study4_ablation", "study5_beyond_2d"),
    ]


@pytest.mark.parametrize(("study", "setting", "row"), ROWS)
def test_every_row_can_be_trained_in_every_setting(study: Study, setting: str, row: Row):
    config = experiment(study.settings[setting], row)
    if config.model.network == "unetr" and importlib.util.find_spec("monai") is None:
        pytest.skip("UNETR needs MONAI")
    assert built(config.model).classes == config.labels.classes


@pytest.mark.parametrize(("study", "setting", "row"), ROWS)
def test_raster_networks_learn_from_masks_and_implicit_ones_from_points(study: Study, setting: str, row: Row):
    config = experiment(study.settings[setting], row)
    assert (config.batch.supervision == "masks") == (config.model.network in RASTER)


@pytest.mark.parametrize(("study", "setting", "row"), ROWS)
def test_whoever_is_compared_has_one_budget_and_sees_the_same_images(study: Study, setting: str, row: Row):
    first, config = (experiment(study.settings[setting], r) for r in (study.rows[0], row))
    own = {"case_share": config.training.case_share, "learning_rate": config.training.learning_rate}
    assert first.training.model_copy(update=own) == config.training
    for section in ("preprocessing", "labels", "augmentation", "sampling", "loss", "inference"):
        assert getattr(first, section) == getattr(config, section)
    if not study.settings[setting].is_published:
        assert config.batch.size == first.batch.size


@pytest.mark.parametrize(
    ("study", "setting", "steps"),
    [("study1_overall_2d", "sessile", 30_000), ("study1_overall_3d", "bcv", 50_000)],
)
def test_on_the_papers_data_every_network_has_the_papers_learning_rate_batch_size_and_steps(
    study: str, setting: str, steps: int
):
    rows = STUDIES[study].rows
    configs = {row.name: experiment(STUDIES[study].settings[setting], row) for row in rows}
    tuned = {name: (c.training.learning_rate, c.batch.size) for name, c in configs.items()}
    assert tuned == (TUNED_2D if study.endswith("2d") else TUNED_3D)
    assert {config.training.steps for config in configs.values()} == {steps}


@pytest.mark.parametrize("name", [name for name in STUDIES if not name.startswith(("study1", "study5"))])
def test_a_network_that_several_studies_name_is_one_configuration_and_trained_once(name: str):
    study = STUDIES[name]
    whole = STUDIES["study1_overall_3d" if name.endswith("3d") else "study1_overall_2d"]
    twins = {"+ SPO": "SwIPE"} | {row.name: row.name for row in whole.rows}
    shared = [(row, twins[row.name]) for row in study.rows if row.name in twins]
    assert shared
    for row, twin in shared:
        other = next(r for r in whole.rows if r.name == twin)
        assert row.published == other.published
        for setting, own in study.settings.items():
            assert experiment(own, row) == experiment(whole.settings[setting], other)


@pytest.mark.parametrize("setting", list(STUDIES["study4_ablation"].settings))
def test_each_row_of_the_ablation_adds_one_part_to_the_row_above(setting: str):
    study = STUDIES["study4_ablation"]
    rows = study.rows[: 1 + len(ADDED)]
    assert [row.name for row in rows] == ["none", *ADDED]
    for above, below in pairwise(rows):
        configs = [experiment(study.settings[setting], row) for row in (above, below)]
        assert different_fields(*configs) == ADDED[below.name]


def test_beyond_the_paper_one_thing_is_added_at_a_time():
    setting = STUDIES["study5_beyond_2d"].settings["kvasir196"]
    names = ["SwIPE", "+ point features", "+ pre-trained encoder"]
    configs = [experiment(setting, row_of("study5_beyond_2d", name)) for name in names]
    added = [different_fields(*pair) for pair in pairwise(configs)]
    assert added == [{"point_features", "top_down"}, {"backbone"}]


@pytest.mark.parametrize("setting", list(STUDIES["study4_ablation"].settings))
def test_each_alternative_replaces_one_part_of_the_whole_network(setting: str):
    study = STUDIES["study4_ablation"]
    whole = experiment(study.settings[setting], row_of("study4_ablation", "+ SPO"))
    alternatives = study.rows[1 + len(ADDED) :]
    assert {
        row.name: different_fields(whole, experiment(study.settings[setting], row)) for row in alternatives
    } == REPLACED


def test_without_any_part_only_the_coarsest_stage_and_the_patch_coordinate_decide():
    study = STUDIES["study4_ablation"]
    network = built(experiment(study.settings["sessile"], study.rows[0]).model)
    whole = built(experiment(study.settings["sessile"], row_of("study4_ablation", "+ SPO")).model)
    assert network.image_decoder is None and whole.image_decoder is not None
    assert (network.overreach, whole.overreach) == (0, 8)
    assert parameter_count(network) < parameter_count(whole)


@pytest.mark.parametrize("study", ["study1_overall_2d", "study1_overall_3d"])
def test_the_paper_puts_swipe_first_with_the_fewest_parameters(study: str):
    published = {row.name: row.published for row in STUDIES[study].rows}
    assert len(published) == 6
    assert max(published, key=lambda name: published[name].dice) == "SwIPE"
    assert min(published, key=lambda name: published[name].parameters) == "SwIPE"


def test_in_the_paper_every_added_part_helps_and_no_alternative_is_better():
    dice = [row.published.dice for row in STUDIES["study4_ablation"].rows]
    cumulative, alternatives = dice[: 1 + len(ADDED)], dice[1 + len(ADDED) :]
    assert cumulative == [76.44, 76.57, 78.19, 80.33, 80.92, 82.28, 83.75, 85.05]
    assert alternatives == [78.30, 79.94, 84.19, 83.58, 68.23, 83.75, 83.71, 83.94, 84.43]


def test_in_the_paper_swipe_is_the_most_robust_under_every_condition_that_has_several_rows():
    for study in ("study2_robustness_2d", "study2_robustness_3d"):
        tables = [condition.published for condition in STUDIES[study].conditions if condition.published]
        assert {max(table, key=table.get) for table in tables if len(table) > 1} == {"SwIPE"}
    sizes = {c.name: c.published for c in STUDIES["study2_robustness_2d"].conditions}
    assert sizes["input 896"] == {"PraNet": 43.92}
    assert sizes["other data"] == {"PraNet": 68.37, "IOSNet": 59.42, "SwIPE": 70.10}


def test_the_charts_hold_the_papers_lines():
    study = STUDIES["study3_efficiency"]
    dice = {row.name: row.published.dice for row in study.rows}
    lines = {
        chart.name: {name: [dice[point.row] for point in line] for name, line in chart.lines.items()}
        for chart in study.charts
    }
    assert lines["annotations"]["SwIPE"] == [58.07, 72.91, 81.02, 85.05]
    assert lines["annotations"]["IOSNet"] == [41.95, 54.31, 74.16, 78.37]
    assert lines["width"]["PraNet"] == [79.65, 81.08, 82.37, 81.24]
    assert lines["width"]["SwIPE"] == [80.58, 85.05, 85.34, 83.93]
    assert lines["depth"] == {
        "SwIPE": [82.04, 85.05, 84.52],
        "PraNet": [80.25, 81.30, 82.56],
        "IOSNet": [77.25, 78.37, 77.98],
    }


def test_backbones_have_the_parameters_that_the_chart_of_widths_says():
    study = STUDIES["study3_efficiency"]
    width = next(chart for chart in study.charts if chart.name == "width")
    for points in width.lines.values():
        for point in points:
            network = built(
                experiment(study.settings["sessile"], row_of("study3_efficiency", point.row)).model
            )
            parts = {"Swipe": "backbone", "PraNet": "encoder", "IOSNet": "scales"}
            backbone = getattr(network, parts[type(network).__name__])
            assert parameter_count(backbone) / 1e6 == pytest.approx(point.x, rel=0.05)


def test_every_row_of_the_efficiency_study_stands_in_a_chart():
    study = STUDIES["study3_efficiency"]
    shown = {point.row for chart in study.charts for line in chart.lines.values() for point in line}
    assert shown == {row.name for row in study.rows}


def test_the_page_about_comparisons_names_every_study_setting_and_archive():
    page = (Path(__file__).parents[2] / "docs" / "COMPARISON.md").read_text(encoding="utf-8")
    settings = {setting for study in STUDIES.values() for setting in study.settings}
    assert [name for name in (*STUDIES, *settings, *ARCHIVES) if f"`{name}`" not in page] == []


def test_what_the_papers_data_are_called_is_what_their_archives_become():
    published = [s for study in STUDIES.values() for s in study.settings.values() if s.is_published]
    names = {name for s in published for name in (s.data, s.other_data) if name is not None}
    assert names == set(ARCHIVES)


MINIMAL = """
name: small
title: A small study
settings: {discs: {config: nuclei, data: discs}}
rows: [{name: one}, {name: two, network: unet}]
"""


def refused(tmp_path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as error:
        load_study(path)
    return str(error.value)


def test_what_a_setting_changes_for_a_network_or_for_all_replaces_what_a_row_says():
    setting = Setting(
        config="nuclei",
        data="discs",
        changes={"training.steps": 3},
        network_changes={"unet": {"batch.size": 2, "training.steps": 9}},
    )
    changes = {"batch.size": 5, "training.learning_rate": 0.1, "training.steps": 7}
    assert Row(name="one", network="unet", changes=changes).changes_in(setting) == {
        "batch.size": 2,
        "training.learning_rate": 0.1,
        "training.steps": 3,
    }
    assert Row(name="two", changes=changes).changes_in(setting)["batch.size"] == 5


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("conditions: [{name: far, other_data: true}]", "setting 'discs' names no other_data"),
        ("conditions: [{rows: [three]}]", "speaks of 'three', which is no row"),
        ("charts: [{name: a, title: A, x_label: x}]", "a chart has lines"),
        (
            "charts: [{name: a, title: A, x_label: x, lines: {L: [{x: 1, row: three}]}}]",
            "chart 'a' speaks of 'three', which is no row",
        ),
    ],
)
def test_a_study_that_speaks_of_what_it_does_not_have_is_refused(tmp_path, more: str, told: str):
    assert told in refused(tmp_path, MINIMAL + more + "\n")


def test_an_unknown_network_is_refused_with_the_nearest_one(tmp_path):
    message = refused(tmp_path, MINIMAL.replace("network: unet", "network: unett"))
    assert "there is no network 'unett'" in message and message.endswith("Did you mean 'unet'?")
