"""Every shipped study from its first training to its last picture, on a toy budget.

Networks are tiny, and so are the images; rows, conditions, charts and whatever a row switches stay.
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import save_picture
from tiny_networks import TINY

from studies.campaign import Choice, plan_campaign
from studies.study import Setting, Study, load_study, study_names
from studies.trial import iter_trial
from swipe_core.progress import finish
from swipe_core.training.config import load_config

# What the ablation is about.
SWITCHES = {"overreach", "connectivity", "receptive_field", "blocks"}
TOY = {
    "training.steps": 1,
    "training.warmup_steps": 0,
    "batch.size": 2,
    "batch.points": 20,
    "sampling.foreground_points": 20,
    "sampling.background_points": 20,
    "augmentation.rotation": 0,
    "augmentation.scale": 0,
}
TOY_SIZE = {
    2: {"preprocessing.size": [32, 32]},
    3: {"preprocessing.spacing": [1, 1, 1], "preprocessing.crop_size": [32, 32, 48]},
}
CASES = {"train": 2, "val": 1}

needs_monai = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("monai", "einops")),
    reason="UNETR needs MONAI and einops",
)


def toy(setting: Setting) -> Setting:
    """The same task with tiny networks, and for one step."""
    ndim = load_config(setting.config).model.ndim
    tiny = {
        name: {f"model.{field}": value for field, value in fields.items() if field not in SWITCHES}
        for (name, axes), fields in TINY.items()
        if axes == ndim
    }
    return setting.model_copy(update={"network_changes": tiny, "changes": {**TOY, **TOY_SIZE[ndim]}})


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """Data sets of the studies' names, each with a few made-up cases that hold every class."""
    root = tmp_path_factory.mktemp("data")
    for name in study_names():
        for setting in load_study(name).settings.values():
            config = load_config(setting.config)
            for data in filter(None, (setting.data, setting.other_data)):
                if not (root / data).exists():
                    write_data_set(root / data, config.model.ndim, config.labels.classes)
    return root


def write_data_set(folder: Path, ndim: int, classes: int) -> None:
    random = np.random.default_rng(0)
    for split, count in CASES.items():
        for number in range(count):
            labels = np.zeros((32, 40) if ndim == 2 else (30, 32, 40), np.uint8)
            # Classes side by side along the last axis, with background around them.
            span = labels[..., 4:36].shape[-1] // (classes - 1)
            for klass in range(1, classes):
                start = 4 + (klass - 1) * span
                labels[..., 8:24, start : start + span] = klass
            image = np.clip(60 + 10 * labels.astype(int) + random.integers(0, 20, labels.shape), 0, 255)
            part, case = folder / split, f"{split}{number}"
            if ndim == 2:
                save_picture(part / "images" / f"{case}.png", image)
                save_picture(part / "labels" / f"{case}.png", labels)
                continue
            for kind, array in (("images", image.astype(np.int16)), ("labels", labels)):
                (part / kind).mkdir(parents=True, exist_ok=True)
                volume = nibabel.Nifti1Image(array.transpose(), np.eye(4))
                volume.header.set_xyzt_units("mm")
                nibabel.save(volume, part / kind / f"{case}.nii.gz")


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Where the runs lie that studies share."""
    return tmp_path_factory.mktemp("studies")


def toy_study(name: str, setting: str) -> Study:
    study = load_study(name)
    return study.model_copy(update={"settings": {setting: toy(study.settings[setting])}})


STUDIES = [
    pytest.param(
        name,
        setting,
        marks=needs_monai if any(row.network == "unetr" for row in load_study(name).rows) else (),
    )
    for name in study_names()
    for setting in load_study(name).settings
    if setting in ("kvasir196", "hippocampus") or name == "study2_robustness_3d"
]


@pytest.mark.parametrize(("name", "setting"), STUDIES)
def test_a_shipped_study_runs_whole(name, setting, data_root, output):
    study = toy_study(name, setting)
    campaign = plan_campaign([study], Choice(setting=setting), {}, data_root, output, "cpu")
    results = [finish(iter_trial(trial)) for trial in campaign.trials]
    assert [message for result in results for message in result.messages] == []
    assert campaign.trials == []

    (table,) = finish(campaign.iter_write({}))
    text = table.read_text(encoding="utf-8")
    assert all(f"| {row.name} " in text for row in study.rows)
    assert "not trained yet" not in text and "not judged yet" not in text
    with (table.parent / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    judged = [(row.name, c.name) for row in study.rows for c in study.conditions if c.concerns(row)]
    assert sorted((line["row"], line["condition"]) for line in lines) == sorted(judged)
    assert all(0 <= float(line["dice"]) <= 1 for line in lines)
    pictures = {"dice", "cases", "attention", *(chart.name for chart in study.charts)}
    assert pictures == {path.stem for path in table.parent.glob("*.png")}
