"""What the tests of the scripts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from swipe_core.checkpoints.file import load_checkpoint, save_checkpoint


@pytest.fixture(scope="session")
def seeded_checkpoint(disc_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model of the disc, as if it had been trained on the split of seed 7."""
    loaded = load_checkpoint(disc_run / "best.safetensors")
    summary = loaded.content.summary.model_copy(update={"split_seed": 7})
    content = loaded.content.model_copy(update={"summary": summary})
    path = tmp_path_factory.mktemp("seeded") / "best.safetensors"
    save_checkpoint(path, replace(loaded, content=content))
    return str(path)


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, str], None]:
    """A function that makes a name of a module behave as if Ctrl-C were pressed when it is called."""
    return lambda module, name: monkeypatch.setattr(module, name, _interrupted)


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The one line of the error stream that starts with ``error:``; there is no traceback."""

    def read() -> str:
        stderr = capsys.readouterr().err
        assert "Traceback" not in stderr
        # A progress bar returns to the start of its line before it is drawn again.
        lines = [part.strip() for line in stderr.splitlines() for part in line.split("\r")]
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, stderr
        return errors[0].removeprefix("error: ")

    return read
