"""What a run was made with: one record for every session, in the log of the run."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import swipe_core
from swipe_core.training.config import ExperimentConfig, dump_config

PACKAGE = Path(swipe_core.__file__).parent


def session_record(config: ExperimentConfig, device: torch.device, step: int) -> dict[str, Any]:
    """A line of log.jsonl: versions, device, command and configuration of a session that begins at `step`."""
    return {
        "kind": "session",
        "step": step,
        "versions": versions() | {"numpy": np.__version__},
        "revision": source_revision(),
        "system": platform.platform(),
        "device": device_name(device),
        "seed": config.training.seed,
        "command": command_line(sys.argv),
        "config_digest": config_digest(config),
    }


def versions() -> dict[str, str]:
    """Of this project, torch and Python."""
    return {
        "napari-swipe": swipe_core.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def config_digest(config: ExperimentConfig) -> str:
    """The same for equal configurations, and for no others."""
    return hashlib.sha256(dump_config(config).encode()).hexdigest()[:16]


def command_line(words: Sequence[str]) -> str:
    """Words as they are typed into the shell of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def device_name(device: torch.device) -> str:
    """A device as its maker calls it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()}, {torch.get_num_threads()} threads)"


def source_revision() -> str | None:
    """The git commit of the sources; None for an installed package, and where there is no git."""
    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD", "--show-toplevel"],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            timeout=3,
            check=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    # An environment may lie inside of some other project's repository.
    is_ours = len(told) == 2 and Path(told[1]).resolve() == PACKAGE.parents[1].resolve()
    return told[0] if is_ours else None
