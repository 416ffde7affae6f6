"""What every test stands on: checked array shapes, one thread, real data, and no hidden GPU or screen."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Before torch is first imported: its threads spin, and small tensors gain nothing from them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

# From here on beartype checks the shapes and types in the annotations of the core at every call; an
# int may stand for a float, as PEP 484 has it. The hook wants the checker's name in a module.
checker = ModuleType("swipe_type_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
install_import_hook("swipe_core", f"{checker.__name__}.check")

if TYPE_CHECKING:
    from swipe_core.training.config import ExperimentConfig

pytest_plugins = ["analytic_fields"]

# A machine that others use too may take a second over what takes a millisecond.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# Started in the background of a shell, the tests and all their processes would be deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
WINDOW_FIXTURES = {"qapp", "qtbot", "make_napari_viewer", "make_napari_viewer_proxy"}


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A function from a command to its module; what the package does not hold lies in scripts or tools."""

    def load(name: str) -> ModuleType:
        if (ROOT / "src" / "swipe_core" / "cli" / f"{name}.py").is_file():
            return importlib.import_module(f"swipe_core.cli.{name}")
        places = (ROOT / folder / f"{name}.py" for folder in ("scripts", "tools"))
        place = next(path for path in places if path.is_file())
        spec = importlib.util.spec_from_file_location(name, place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; the test is skipped where there is none."""
    folder = Path(__file__).parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return folder.resolve()


# A whole SwIPE, but so small that a step takes some 20 ms on one core.
TINY = {
    "name": "discs",
    "model": {
        "ndim": 2,
        "channels": 1,
        "stem_stride": 2,
        "stem_channels": 4,
        "stem_outputs": 8,
        "blocks": (1, 1, 1, 1),
        "planes": (8, 8, 8, 8),
        "expansion": 1,
        "scale": 2,
        "receptive_field": False,
        "neck_width": 8,
        "embedding_width": 16,
        "cascade_stride": 4,
        "patch_size": 8,
        "patch_hidden": (16, 16),
        "image_hidden": (16, 16),
        "fourier_frequencies": 2,
        "overreach": 2,
        "connectivity": 4,
    },
    "preprocessing": {"intensity": "standardise"},
    "sampling": {
        "foreground_points": 400,
        "background_points": 400,
        "boundary_width": 3.0,
        "background_boundary_share": 0.5,
    },
    "augmentation": {"rotation": 0.0, "colour": 0.0},
    "batch": {"size": 4, "points": 512, "workers": 0},
    "training": {
        "precision": "float32",
        "steps": 80,
        "learning_rate": 0.02,
        "warmup_steps": 3,
        "validate_every": 80,
        "log_every": 1,
    },
}

TinyConfig = Callable[..., "ExperimentConfig"]


@pytest.fixture(scope="session")
def tiny_config() -> TinyConfig:
    """A function from changed fields, ``{"training.steps": 3}``, to a tiny experiment."""
    from swipe_core.training.config import parse_config

    def build(changes: Mapping[str, Any] | None = None) -> ExperimentConfig:
        values: dict[str, Any] = copy.deepcopy(TINY)
        for field, value in (changes or {}).items():
            *sections, last = field.split(".")
            node = values
            for section in sections:
                node = node.setdefault(section, {})
            node[last] = value
        return parse_config(values)

    return build


@pytest.fixture(scope="session")
def tiny_volume_config(tiny_config: TinyConfig) -> ExperimentConfig:
    """The same in 3D, with two classes and windows."""
    return tiny_config(
        {
            "name": "balls",
            "model.ndim": 3,
            "model.connectivity": 6,
            "model.patch_size": 4,
            "labels.class_names": ("one", "two"),
            "preprocessing.crop_size": (16, 16, 16),
            "batch.size": 2,
            "batch.points": 64,
        }
    )


def save_picture(path: Path, array: np.ndarray) -> None:
    """An array of whole numbers as PNG, its folder made."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def disc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one bright disc of radius 8.5 in noise, 32 x 32, the same in train/ and val/."""
    rows, columns = np.mgrid[:32, :32]
    disc = np.hypot(rows - 14, columns - 17) < 8.5
    noise = np.random.default_rng(0).normal(60, 10, disc.shape)
    folder = tmp_path_factory.mktemp("discs")
    for split in ("train", "val"):
        save_picture(folder / split / "images" / "disc.png", (noise + 120 * disc).clip(0, 255))
        save_picture(folder / split / "labels" / "disc.png", disc)
    return folder


@pytest.fixture(scope="session")
def disc_run(disc_folder: Path, tiny_config: TinyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that has learned the disc, in about 3 seconds."""
    from swipe_core.data.cases import find_cases
    from swipe_core.progress import finish
    from swipe_core.training.runner import Trainer

    folder = tmp_path_factory.mktemp("runs") / "disc"
    cases = {split: find_cases(disc_folder, split) for split in ("train", "val")}
    finish(Trainer(tiny_config(), cases["train"], cases["val"], folder).run())
    return folder


@pytest.fixture(scope="session")
def volume_checkpoint(tiny_volume_config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained 3D network whose three classes all occur."""
    import torch

    from swipe_core.checkpoints.file import Checkpoint, save_checkpoint
    from swipe_core.networks.swipe.build import build_swipe

    torch.manual_seed(0)
    config = tiny_volume_config
    content = config.checkpoint_content()
    path = tmp_path_factory.mktemp("volumes") / "untrained.safetensors"
    save_checkpoint(path, Checkpoint(content, build_swipe(config.model).state_dict()))
    return path


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
