"""The doctor names what is missing and the remedy, also where almost everything is missing."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement as Parsed

import swipe_core
from swipe_core.cli import doctor, main
from swipe_core.compute import graphics
from swipe_core.compute.graphics import NvidiaDriver

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
OF_DEVELOPERS = {"all", "test", "dev", "docs"}


@pytest.fixture
def looked_at(monkeypatch):
    """Return what is found; the window is not opened."""

    def look(**replaced: object) -> dict[str, doctor.Finding]:
        monkeypatch.setattr(doctor, "_start_window", lambda: None)
        monkeypatch.setattr(doctor, "_window", lambda _: doctor.Finding("window", "ok", ""))
        for name, value in replaced.items():
            monkeypatch.setattr(doctor, name, value)
        return {finding.topic: finding for finding in doctor.findings()}

    return look


def test_json_and_text_say_the_same(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["doctor"]) == 0
    lines = " ".join(capsys.readouterr().out.split())
    assert all(f"{finding['state']} {finding['topic']} " in lines for finding in told["findings"])
    assert {"Python", "packages", "GPU", "models", "samples", "plugin", "Qt binding", "window"} <= {
        finding["topic"] for finding in told["findings"]
    }


def test_it_answers_where_no_other_package_is_installed():
    sources = str(Path(swipe_core.__file__).parents[1])
    only_python = [sys.executable, "-S", "-m", "swipe_core", "doctor"]
    ended = subprocess.run(
        only_python, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": sources}
    )
    assert ended.returncode == 2, ended.stderr
    assert "fault    models             No module named 'pydantic'" in ended.stdout
    assert "Needed, and not as it should be: napari-swipe, models and plugin." in ended.stdout


def test_what_is_missing_comes_with_its_remedy(looked_at):
    nothing = [doctor.Requirement(name, "1.0", extra) for name, extra in [("nothing", ""), ("none", "scale")]]
    found = looked_at(requirements=lambda: nothing, BINDINGS=(), nvidia_driver=lambda: None)
    assert found["nothing"] == doctor.Finding(
        "nothing", "fault", "not installed", 'pip install "nothing>=1.0"'
    )
    assert found["extra scale"].remedy == 'pip install "napari-swipe[scale]"'
    assert all(finding.remedy for finding in found.values() if finding.state != "ok")


def test_a_package_that_is_too_old_is_a_fault(looked_at):
    found = looked_at(requirements=lambda: [doctor.Requirement("numpy", "99", "")])
    assert found["numpy"].state == "fault" and "packages" not in found


@pytest.mark.parametrize(
    ("cuda", "driver", "state", "words"),
    [
        ("12.8", NvidiaDriver((12, 4), ("GPU A",)), "ok", "GPU A"),
        ("13.0", NvidiaDriver((12, 4), ("GPU A",)), "missing", "Update the driver"),
        (None, NvidiaDriver((12, 4), ("GPU A", "GPU B")), "missing", "torch for CUDA"),
        ("12.8", None, "missing", "install its driver"),
    ],
)
def test_a_gpu_counts_where_torch_and_the_driver_fit(looked_at, cuda, driver, state, words):
    found = looked_at(
        nvidia_driver=lambda: driver,
        torch_built_for=lambda kind: cuda if kind == "cuda" else None,
        has_apple_gpu=lambda: False,
    )["GPU"]
    assert found.state == state and words in found.found + found.remedy


class Driver(ctypes.CDLL):
    """NVIDIA's library, with two GPUs."""

    def __init__(self, _: str) -> None: ...

    def cuInit(self, flags):  # noqa: N802 - the library's name
        return 0

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12040
        return 0

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = 2
        return 0

    def cuDeviceGetName(self, name, length, index):  # noqa: N802
        name.value = f"GPU {index}".encode()
        return 0


def test_the_driver_is_asked_for_its_gpus_and_its_cuda(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", Driver)
    assert graphics.nvidia_driver() == NvidiaDriver((12, 4), ("GPU 0", "GPU 1"))
    monkeypatch.setattr(Driver, "cuInit", lambda self, flags: 100)  # no device
    assert graphics.nvidia_driver() is None


def test_torch_says_without_being_imported_what_it_was_built_for():
    import torch

    assert graphics.torch_built_for("cuda") == torch.version.cuda
    assert graphics.torch_built_for("hip") == torch.version.hip


def test_qt_that_cannot_open_a_window_is_told_of_by_its_reason(monkeypatch):
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    needs = "qt.qpa.plugin: From 6.5.0, xcb-cursor0 is needed to load the Qt xcb platform plugin."
    found = doctor._no_window(f"{needs}\nThis application failed to start.\n")
    assert found.found == needs and "libxcb-cursor0" in found.remedy
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "no screen" in doctor._no_window(needs).found


def test_every_extra_of_users_has_its_purpose():
    assert set(doctor.EXTRAS) | OF_DEVELOPERS == set(PROJECT["optional-dependencies"])


def test_requirements_are_read_as_packaging_reads_them():
    for extra, texts in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items():
        for text in texts:
            parsed, match = Parsed(text), doctor.REQUIREMENT.match(f"{text}; extra == '{extra}'")
            assert match["name"] == parsed.name and match["extra"] == (extra or None)
            assert f">={match['least']}" == str(parsed.specifier) or not parsed.specifier
