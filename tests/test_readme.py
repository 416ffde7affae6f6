"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swipe_core import LabelMap, Predictor, read_label_map
from swipe_core.cli.commands import COMMANDS
from swipe_core.training.config import config_names

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    noise = np.random.default_rng(0).integers(0, 255, (90, 100), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cell.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert read_label_map("cell_4x.tif", ndim=2).shape == (360, 400)
    background, nucleus = map(float, re.findall(r"\d\.\d+(?:e-\d+)?", capsys.readouterr().out))
    assert background + nucleus == pytest.approx(1.0, abs=1e-4)


def test_the_commands_and_configurations_that_the_readme_shows_are_understood():
    lines = [line.split("#")[0] for line in README.splitlines()]
    shown = [shlex.split(line)[1:] for line in lines if line.startswith("    swipe ")]
    assert {"train", "predict", "evaluate", "configure", "figures", "models", "doctor", "export"} == {
        name for name, *_ in shown
    }
    for name, *words in shown:
        options = COMMANDS[name].parse(words)
        if name == "train" and not options.config.endswith(".yaml"):
            assert options.config in config_names()


def test_the_scripts_that_the_readme_names_exist():
    scripts = re.findall(r"python (scripts|tools)/(\w+\.py)", README)
    assert ("scripts", "bootstrap.py") in scripts
    for folder, script in scripts:
        assert (Path(__file__).parents[1] / folder / script).is_file()


def test_the_pictures_and_pages_that_the_readme_links_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parents[1] / link).exists(), link


def test_every_public_name_can_be_imported():
    import swipe_core

    for name in swipe_core.__all__:
        assert getattr(swipe_core, name) is not None
    assert swipe_core.Predictor is Predictor and swipe_core.LabelMap is LabelMap
