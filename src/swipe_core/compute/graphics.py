"""GPUs that torch could compute on, found without importing torch."""

import ctypes
import importlib.util
import platform
import re
from dataclasses import dataclass
from pathlib import Path

NVIDIA_LIBRARY = {"Windows": "nvcuda.dll"}.get(platform.system(), "libcuda.so.1")


@dataclass(frozen=True)
class NvidiaDriver:
    """NVIDIA's driver."""

    cuda: tuple[int, int]
    """The newest CUDA that it runs, major and minor."""
    gpus: tuple[str, ...]
    """Their names."""


def nvidia_driver() -> NvidiaDriver | None:
    """Return what NVIDIA's driver says; None where there is no driver or it finds no GPU."""
    try:
        driver = ctypes.CDLL(NVIDIA_LIBRARY)
    except OSError:
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDriverGetVersion(ctypes.byref(version))
    if failed or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    names = tuple(_gpu_name(driver, index) for index in range(count.value))
    return NvidiaDriver((version.value // 1000, version.value % 1000 // 10), names)


def _gpu_name(driver: ctypes.CDLL, index: int) -> str:
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), index)
    return name.value.decode(errors="replace")


def torch_built_for(kind: str) -> str | None:
    """Return the version of ``"cuda"`` or ``"hip"`` that the installed torch was built for, or None."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    source = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    built = re.search(rf"^{kind}\b[^=]*= ['\"]([\d.]+)", source, flags=re.MULTILINE)
    return built[1] if built else None


def has_apple_gpu() -> bool:
    """Whether this is a Mac with Apple's own processor, whose GPU torch calls mps."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"
