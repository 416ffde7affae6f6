"""The folder of a run: what lies where, and how it is written."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swipe_core.checkpoints.file import Checkpoint, save_checkpoint
from swipe_core.errors import ConfigError, TrainingError
from swipe_core.files.atomic import atomic_write
from swipe_core.pictures import write_curves
from swipe_core.training.config import ExperimentConfig, dump_config
from swipe_core.training.lock import RunLock

# Drafts of the files of a run, as `atomic_write` names them; older versions called some of them ".tmp".
UNFINISHED = re.compile(
    r"\.(best\.safetensors|last\.safetensors|config\.yaml|log\.jsonl|curves\.png|run\.lock)\.\d+\.(partial|tmp)"
)


@dataclass(frozen=True)
class RunFolder:
    """``best.safetensors``, ``last.safetensors``, ``config.yaml``, ``log.jsonl`` and ``curves.png``.

    While a process trains in it there is ``run.lock``, too.
    """

    path: Path

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def lock(self) -> RunLock:
        return RunLock(self.path / "run.lock")

    def check(self, *, resume: bool) -> None:
        """Check that the folder holds no run unless one is to be resumed, and that none goes on.

        Raises
        ------
        ConfigError
            Otherwise, when the run in it cannot be resumed, or when the folder cannot be made.
        """
        self.lock.check()
        if resume and self.best.exists() and not self.last.exists():
            raise ConfigError(
                f"{self.path} holds a model without {self.last.name}, from which its run could go on: choose "
                "another folder."
            )
        if not resume and (self.last.exists() or self.best.exists()):
            raise ConfigError(
                f"{self.path} already holds a run: add --resume to continue it, or choose another folder."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The folder {self.path} cannot be written ({error.strerror}).") from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out, and leave no unfinished file behind, whatever happens inside."""
        with self.lock.held():
            self._remove_unfinished()
            try:
                yield
            finally:
                self._remove_unfinished()

    def begin(self, config: ExperimentConfig, step: int, *, validated: bool) -> None:
        """Write the configuration, and keep of the log what lies before the state of the run.

        `step` and `validated`: how far that state is, and whether it knows of the validation at that step.
        """
        kept = [
            record
            for record in self.records()
            if record["step"] < step
            or (record["step"] == step and (validated or record["kind"] != "validation"))
        ]
        self._replace(self.log_file, "".join(json.dumps(record) + "\n" for record in kept if step))
        self._replace(self.path / "config.yaml", dump_config(config))

    def state_mark(self) -> tuple[int, int] | None:
        """Return what changes whenever last.safetensors is written; None where there is none."""
        try:
            status = self.last.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def save(self, path: Path, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, as `save_checkpoint` does, but not into a folder that somebody removed.

        Raises `TrainingError` when the folder is gone, and `CheckpointError` when the folder cannot be
        written or the disk is full; an older file stays as it was.
        """
        if not self.path.is_dir():
            raise TrainingError(f"The folder {self.path} was removed: the training in it cannot go on.")
        save_checkpoint(path, checkpoint)

    def with_what_is_kept(self, sentence: str) -> str:
        """Return a sentence on what ends a run, with what is left of it."""
        kept = f"; {self.last} keeps the last good state." if self.last.exists() else "."
        return sentence.removesuffix(".") + kept

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Add a line with a "kind" and a "step" to the log; raise `TrainingError` where that fails."""
        with self._writing(self.log_file), self.log_file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(dict(record)) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Return all lines of the log so far, but for those that a killed run left unfinished."""
        if not self.log_file.exists():
            return []
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return [record for record in map(_parsed, lines) if record is not None]

    def draw_curves(self) -> None:
        """Draw loss and validation Dice against steps."""
        curves = [
            {"step": record["step"], "loss": record["losses"]["total"]}
            if record["kind"] == "step"
            else {"step": record["step"], "validation_dice": record["mean_dice"]}
            for record in self.records()
            if record["kind"] in ("step", "validation")
        ]
        write_curves(curves, self.path / "curves.png")

    def _replace(self, path: Path, text: str) -> None:
        """Write a file so that it holds either the old text or the whole new one."""
        with self._writing(path), atomic_write(path) as draft:
            draft.write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            sentence = f"{path} cannot be written ({error.strerror or error}): free some space, or see to it."
            raise TrainingError(self.with_what_is_kept(sentence)) from error

    def _remove_unfinished(self) -> None:
        """Remove what this run, or one that was killed, did not finish writing."""
        with contextlib.suppress(OSError):
            for path in self.path.iterdir():
                if UNFINISHED.fullmatch(path.name):
                    path.unlink(missing_ok=True)


def _parsed(line: str) -> dict[str, Any] | None:
    """Return a line of the log as a record; None where it is not a whole one."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and {"kind", "step"} <= record.keys() else None
