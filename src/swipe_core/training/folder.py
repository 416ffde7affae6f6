"""The folder of a run: what lies where, and how it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swipe_core.errors import ConfigError
from swipe_core.pictures import write_curves
from swipe_core.training.config import ExperimentConfig, dump_config
from swipe_core.training.reports import StepReport, ValidationReport, as_record


@dataclass(frozen=True)
class RunFolder:
    """``best.safetensors``, ``last.safetensors``, ``config.yaml``, ``log.jsonl`` and ``curves.png``."""

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

    def prepare(self, *, resume: bool) -> None:
        """Make the folder, and see that it holds a run if and only if one is to be resumed.

        Raises
        ------
        ConfigError
            Otherwise, or when the folder cannot be made.
        """
        if resume and not self.last.exists():
            raise ConfigError(f"There is no run to resume in {self.path}: leave --resume out to start one.")
        if not resume and (self.last.exists() or self.best.exists()):
            raise ConfigError(
                f"{self.path} already holds a run: add --resume to continue it, or choose another folder."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not resume:
                self.log_file.write_text("", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"The folder {self.path} cannot be written ({error.strerror}).") from error

    def write_config(self, config: ExperimentConfig) -> None:
        """The whole configuration, as `load_config` reads it."""
        (self.path / "config.yaml").write_text(dump_config(config), encoding="utf-8")

    def log(self, report: StepReport | ValidationReport) -> None:
        """Add a line to the log."""
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(as_record(report)) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All lines of the log so far, but for one that a killed run left unfinished."""
        lines = self.log_file.read_text(encoding="utf-8").splitlines() if self.log_file.exists() else []
        return [record for record in map(_parsed, lines) if record is not None]

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that a resumed run will take again."""
        kept = [record for record in self.records() if record["step"] <= step]
        self.log_file.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def draw_curves(self) -> None:
        """Loss and validation Dice against steps, as a picture."""
        curves = [
            {"step": record["step"], "loss": record["losses"]["total"]}
            if record["kind"] == "step"
            else {"step": record["step"], "validation_dice": record["mean_dice"]}
            for record in self.records()
        ]
        write_curves(curves, self.path / "curves.png")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None
