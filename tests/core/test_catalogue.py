"""Laws of the catalogue: it lists the networks that there are, and says what cannot be had and why."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from swipe_core.errors import ConfigError
from swipe_core.networks.catalogue import CATALOGUE, check_dimension, hindrance, offered, title_of
from swipe_core.networks.registry import KINDS


def test_it_lists_the_networks_that_can_be_trained():
    assert set(CATALOGUE) == set(KINDS)


def test_the_default_comes_first_and_the_others_by_title():
    first, *others = CATALOGUE
    assert first == "swipe"
    assert others == sorted(others, key=lambda name: title_of(name).replace("-", "").lower())


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_dimension_is_offered_just_where_the_configuration_takes_it(name, ndim):
    try:
        KINDS[name].config(ndim=ndim, **KINDS[name].sizes.get(("paper", ndim), {}))
    except ValueError:
        taken = False
    else:
        taken = True
    assert (ndim in CATALOGUE[name].dimensions) == taken
    assert (hindrance(name, ndim) is None) == taken
    if taken:
        check_dimension(name, ndim)
    else:
        with pytest.raises(ConfigError):
            check_dimension(name, ndim)


def test_what_is_not_installed_is_named_and_nothing_else_is_kept_back(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "einops" else find(name))
    hindrances = {name: reason for name, reason in offered(3).items() if reason is not None}
    assert hindrances.keys() == {"pranet", "unetr"}
    assert hindrances["unetr"].endswith("pip install einops")
    assert "3D" in hindrances["pranet"]


def test_a_network_of_another_version_is_called_by_its_name():
    assert title_of("unet") == "U-Net" and title_of("net of tomorrow") == "net of tomorrow"


def test_asking_imports_neither_torch_nor_what_is_asked_for():
    """A dock asks while it is being drawn."""
    code = (
        "import sys; from swipe_core.networks.catalogue import offered; "
        "offered(2), offered(3); print(sorted({'torch', 'monai', 'einops', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


LINEAR = """
from typing import Literal
from swipe_core.networks.config import Kind, NetworkConfig, in_2d_and_3d
from swipe_core.networks.layers import convolution
from swipe_core.networks.segmenter import RasterSegmenter

class LinearConfig(NetworkConfig):
    network: Literal["linear"] = "linear"
    width: int = 3

class Linear(RasterSegmenter):
    class_layers = ("output.",)

    def __init__(self, config):
        super().__init__(config.ndim, config.channels, config.classes)
        self.output = convolution(config.ndim, config.channels, config.classes, config.width, bias=True)

    def logit_maps(self, images):
        return [self.output(images)]

KIND = Kind(LinearConfig, Linear, sizes=in_2d_and_3d({"width": 1}, {}), rates={2: 1e-3, 3: 1e-3})
"""
USE = """
import sys
import swipe_core.networks as networks
from swipe_core.networks.catalogue import CATALOGUE, NetworkEntry

networks.__path__.append(sys.argv[1])
CATALOGUE["linear"] = NetworkEntry("Linear", 1805, "One convolution.")

import torch
from swipe_core.networks.registry import KINDS, build_network
from swipe_core.training.config import parse_config

config = parse_config({"name": "x", "model": KINDS["linear"].fields("quick", 3, (16, 16, 16))})
model = build_network(config.model)
print(config.model.width, *model.decode(model.encode(torch.zeros(1, 3, 4, 5, 6)), torch.zeros(1, 7, 3)).shape)
"""


def test_a_network_is_one_file_and_one_entry(tmp_path):
    (tmp_path / "linear.py").write_text(LINEAR, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "1 1 7 2"), done.stderr
