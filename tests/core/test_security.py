"""What SECURITY.md promises: no code from a file, no path from one, and no connection."""

from __future__ import annotations

import ast
import json
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swipe_core.checkpoints.file import Checkpoint, load_checkpoint, save_checkpoint
from swipe_core.checkpoints.header import describe_checkpoint
from swipe_core.cli import main as swipe
from swipe_core.errors import SwipeError
from swipe_core.images import IMAGE_SUFFIXES, read_image, read_label_map
from swipe_core.networks.swipe.build import build_swipe
from swipe_core.training.config import dump_config, load_config

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    *("torch.load", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "os.system"),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader"),
}
OUTSIDE = "../../outside"


# --- No code from a file ------------------------------------------------------------------------


def faults_of(source: str) -> Iterator[str]:
    """What in a program could run what a file says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from FORBIDDEN_MODULES & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            yield from FORBIDDEN_MODULES & {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Attribute):
            yield from FORBIDDEN_ATTRIBUTES & {ast.unparse(node)}
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield from FORBIDDEN_CALLS & {node.func.id}
            for keyword in node.keywords:
                is_false = isinstance(keyword.value, ast.Constant) and not keyword.value.value
                if keyword.arg == "allow_pickle" and not is_false:
                    yield "allow_pickle"
                if keyword.arg == "shell" and not is_false:
                    yield "shell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_program_of_ours_could_run_what_a_file_says(path):
    assert list(faults_of(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "program",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "yaml.load(text, Loader=x)",
        "class A(yaml.FullLoader): pass",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=given)",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_a_program_that_could_would_be_found(program):
    assert list(faults_of(program))


def test_our_own_evaluation_of_networks_and_windows_is_no_fault():
    assert not list(
        faults_of("model.eval()\napplication.exec()\nre.compile('a')\nnp.load(a, allow_pickle=False)")
    )


class Bomb:
    """Its pickle makes a file when it is read back: the stand-in for anything worse."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def pickled(path: Path, bomb: Bomb) -> None:
    path.write_bytes(pickle.dumps(bomb))


def torch_saved(path: Path, bomb: Bomb) -> None:
    torch.save({"weights": torch.zeros(3), "bomb": bomb}, path)


def array_of_objects(path: Path, bomb: Bomb) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([bomb], dtype=object), allow_pickle=True)


READERS: dict[str, Callable[[Path], object]] = {
    ".pt": load_checkpoint,
    ".safetensors": load_checkpoint,
    ".npy": read_image,
    ".yaml": load_config,
    **dict.fromkeys(IMAGE_SUFFIXES, read_image),
}


@pytest.mark.parametrize("write", [pickled, torch_saved, array_of_objects])
@pytest.mark.parametrize("suffix", READERS)
def test_a_pickle_is_refused_under_any_name_and_never_run(tmp_path, suffix, write):
    path, trace = tmp_path / f"file{suffix}", tmp_path / "executed"
    write(path, Bomb(trace))
    readers = {READERS[suffix]} | ({describe_checkpoint} if READERS[suffix] is load_checkpoint else set())
    for read in readers | ({read_label_map} if READERS[suffix] is read_image else set()):
        with pytest.raises(SwipeError):
            read(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [TRACE]",
        "!!python/object/new:pathlib.Path [TRACE]",
        "name: !!python/name:os.system\npreprocessing: {}",
        "name: !!python/object/apply:os.mkdir [TRACE]\npreprocessing: {}",
    ],
)
def test_objects_in_a_configuration_are_refused_and_never_made(tmp_path, text):
    path, trace = tmp_path / "mine.yaml", tmp_path / "executed"
    path.write_text(text.replace("TRACE", trace.as_posix()), encoding="utf-8")
    with pytest.raises(SwipeError, match="could not determine a constructor"):
        load_config(path)
    with pytest.raises(SwipeError):
        load_config("sessile", [("name", text.splitlines()[0].removeprefix("name: "))])
    assert not trace.exists()


# --- No path from a file ------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path, tiny_config) -> Path:
    """A model that calls itself and its class by paths."""
    config = tiny_config({"name": OUTSIDE, "labels.class_names": (OUTSIDE,)})
    path = tmp_path / "models" / "model.safetensors"
    save_checkpoint(path, Checkpoint(config.checkpoint_content(), build_swipe(config.model).state_dict()))
    return path


def save_noise(path: Path, levels: int = 256) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, levels, (32, 32), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_the_names_in_a_checkpoint_lead_no_output_out_of_its_folder(checkpoint, tmp_path):
    image, output = save_noise(tmp_path / "images" / "..cell..png"), tmp_path / "a" / "b" / "output"
    before = files_in(tmp_path)
    command = [str(checkpoint), str(image), "--output", str(output), "--device", "cpu", "--objects"]
    assert swipe(["predict", *command, "--probability", OUTSIDE, "--uncertainty"]) == 0
    written = files_in(tmp_path) - before
    assert len(written) == 7  # labels, overlay, objects, their table, two maps, and the journal of the folder
    assert {path.parent for path in written} == {output}


def test_the_names_in_a_configuration_lead_no_output_out_of_the_run(tiny_config, tmp_path):
    config = tiny_config(
        {"name": OUTSIDE, "labels.class_names": (OUTSIDE,), "training.steps": 1, "training.validate_every": 1}
    )
    (tmp_path / "mine.yaml").write_text(dump_config(config), encoding="utf-8")
    for split in ("train", "val"):
        save_noise(tmp_path / "data" / split / "images" / "a...png")
        save_noise(tmp_path / "data" / split / "labels" / "a...png", levels=2)
    before, run = files_in(tmp_path), tmp_path / "a" / "b" / "run"
    command = [str(tmp_path / "mine.yaml"), "--data", str(tmp_path / "data"), "--output", str(run)]
    assert swipe(["train", *command, "--device", "cpu"]) == 0
    written = files_in(tmp_path) - before
    assert run / "best.safetensors" in written
    assert all(run in path.parents for path in written)
    assert load_checkpoint(run / "best.safetensors").content.name == OUTSIDE


def test_the_name_of_a_tensor_is_no_path(checkpoint, tmp_path):
    whole = checkpoint.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    name = next(name for name in header if name.startswith("model."))
    header[f"model.{OUTSIDE}"] = header.pop(name)
    spoilt = json.dumps(header).encode()
    path = tmp_path / "a" / "b" / "spoilt.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(len(spoilt).to_bytes(8, "little") + spoilt + whole[8 + size :])
    before = files_in(tmp_path)
    with pytest.raises(SwipeError):
        load_checkpoint(path).build()
    assert files_in(tmp_path) == before


# --- No network ---------------------------------------------------------------------------------


def test_a_prediction_opens_no_connection(checkpoint, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    with pytest.raises(AssertionError, match="connection"):
        socket.socket()
    image = save_noise(tmp_path / "images" / "cell.png")
    command = [str(checkpoint), str(image), "--output", str(tmp_path / "output"), "--device", "cpu"]
    assert swipe(["predict", *command]) == 0
