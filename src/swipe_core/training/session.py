"""The record of a session in the log of a run: versions, device, command and configuration."""

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
    """Return the line of log.jsonl on a session that begins at `step`."""
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
    """Return the versions of this project, torch and Python."""
    return {
        "napari-swipe": swipe_core.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def config_digest(config: ExperimentConfig) -> str:
    """Return a digest that equal configurations share, and no others."""
    return hashlib.sha256(dump_config(config).encode()).hexdigest()[:16]


def command_line(words: Sequence[str]) -> str:
    """Return words as they are typed into the shell of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def device_name(device: torch.device) -> str:
    """Return a device as its maker calls it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()}, {torch.get_num_threads()} threads)"


def source_revision() -> str | None:
    """Return the git commit of the sources; None for an installed package, and where there is no git."""
    try:
        lines = subprocess.run(
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
    is_ours = len(lines) == 2 and Path(lines[1]).resolve() == PACKAGE.parents[1].resolve()
    return lines[0] if is_ours else None
