"""The set-up script decides rightly what is there and what is missing; nothing is installed here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bootstrap.py"


@pytest.fixture
def bootstrap(tmp_path, monkeypatch) -> ModuleType:
    """The script as a module, with an empty environment folder and its installing replaced by a record."""
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.installed = []
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(module, "STAMP", tmp_path / "bootstrap.json")
    monkeypatch.setattr(module, "_runs", lambda python: True)
    monkeypatch.setattr(module, "_install", lambda python, extras: module.installed.append(set(extras)))
    return module


def test_an_environment_that_is_up_to_date_is_left_alone(bootstrap):
    bootstrap.prepare_environment({"test"})
    bootstrap.prepare_environment({"test"})
    bootstrap.prepare_environment(set())
    assert bootstrap.installed == [{"test"}]


def test_adding_an_extra_keeps_those_there_are(bootstrap):
    bootstrap.prepare_environment(set())
    bootstrap.prepare_environment({"test"})
    assert bootstrap.installed == [set(), {"test"}]


def test_a_change_of_the_constraints_makes_the_environment_stale(bootstrap, tmp_path, monkeypatch):
    bootstrap.prepare_environment(set())
    changed = tmp_path / "constraints.txt"
    changed.write_text("torch==0", "utf-8")
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", changed)
    bootstrap.prepare_environment(set())
    assert len(bootstrap.installed) == 2


def test_a_damaged_stamp_counts_as_none(bootstrap):
    bootstrap.STAMP.write_text("{", "utf-8")
    bootstrap.prepare_environment(set())
    assert bootstrap.installed == [set()]


def test_a_package_counts_as_installed_under_the_names_it_provides(bootstrap):
    listing = (
        "installed\tlibglib2.0-0t64\tlibglib2.0-0 (= 2.80.0-6), libgio\n"
        "config-files\txvfb\t\n"
        "installed\txauth\t\n"
    )
    assert bootstrap.installed_packages(listing) == {"libglib2.0-0t64", "libglib2.0-0", "libgio", "xauth"}


def test_an_old_python_is_refused_in_one_sentence(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert bootstrap.main(["test"]) == 1
    assert "Python 3.11 or newer is needed" in capsys.readouterr().err


def test_the_exit_code_and_the_arguments_are_those_of_the_command(bootstrap, monkeypatch):
    calls = []
    monkeypatch.setattr(bootstrap, "provide_packages", lambda packages, purpose: None)
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda command, **_: calls.append(command) or 5)
    assert bootstrap.main(["test", "--", "-k", "nothing", "tests/core"]) == 5
    assert calls[-1][1:] == ["-m", "pytest", *bootstrap.IN_PARALLEL, "-k", "nothing", "tests/core"]
