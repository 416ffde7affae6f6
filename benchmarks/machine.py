"""The machine that figures hold for."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch


@dataclass(frozen=True)
class Machine:
    """What to state beside every figure.

    Attributes
    ----------
    cores
        That this process may use.
    threads
        That torch computes with.
    memory_gb
        Of the whole machine.
    device
        Where networks run, by name.
    """

    cpu: str
    cores: int
    threads: int
    memory_gb: float
    system: str
    python: str
    torch: str
    device: str

    def __str__(self) -> str:
        on = "" if self.device == "cpu" else f"; networks on {self.device}"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return (
            f"{self.cpu}, {self.cores} cores, {threads}, {self.memory_gb:.0f} GiB, {self.system}, "
            f"Python {self.python}, torch {self.torch}{on}"
        )


def this_machine(device: torch.device) -> Machine:
    """The machine that this process runs on."""
    name = str(device)
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    return Machine(
        cpu=_cpu_name(),
        cores=_usable_cores(),
        threads=torch.get_num_threads(),
        memory_gb=psutil.virtual_memory().total / 2**30,
        system=platform.system(),
        python=platform.python_version(),
        torch=torch.__version__,
        device=name,
    )


def _cpu_name() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
