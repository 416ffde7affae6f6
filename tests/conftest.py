"""What every test stands on: checked array shapes, one thread, real data, and no hidden GPU or screen."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

# Before torch is first imported: its threads spin, and small tensors gain nothing from them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# From here on beartype checks the shapes and types in the annotations of the core at every call; an
# int may stand for a float, as PEP 484 has it. The hook wants the checker's name in a module.
checker = ModuleType("swipe_type_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
install_import_hook("swipe_core", f"{checker.__name__}.check")

WINDOW_FIXTURES = {"qapp", "qtbot", "make_napari_viewer", "make_napari_viewer_proxy"}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; the test is skipped where there is none."""
    folder = Path(__file__).parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return folder.resolve()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_gpu():
        _skip(on_gpu, "needs a CUDA device")
    in_window = [item for item in items if WINDOW_FIXTURES & set(getattr(item, "fixturenames", ()))]
    if in_window and not _has_screen():
        _skip(in_window, "needs a screen, or Xvfb")


def _skip(items: list[pytest.Item], reason: str) -> None:
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_screen() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or shutil.which("Xvfb"))
