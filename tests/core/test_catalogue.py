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
