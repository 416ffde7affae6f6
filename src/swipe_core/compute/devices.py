"""Which processor does the work."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from swipe_core.errors import DeviceError

DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """A device by name; ``auto`` takes a GPU where there is one.

    Raises `DeviceError` when the name is unknown or this machine has no such device.
    """
    kind = name.split(":")[0]
    if kind not in DEVICE_NAMES:
        raise DeviceError(f"A device is one of {', '.join(DEVICE_NAMES)}; got {name!r}.")
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind == "auto":
        return torch.device(next((d for d, there in available.items() if there), "cpu"))
    if not available.get(kind, True):
        raise DeviceError(f"This machine has no usable {kind} device: choose --device auto or cpu.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"{name!r} is no device: use {', '.join(DEVICE_NAMES)}, or cuda:0, cuda:1, ..."
        ) from error
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"This machine has {torch.cuda.device_count()} GPUs, numbered from 0; got {name!r}."
        )
    return device


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself, rather than emulating it more slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        if not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell
            return False
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


@contextmanager
def one_core_left() -> Iterator[None]:
    """Let torch compute on all cores of this machine but one, which a window needs.

    Its threads wait for one another by spinning: where one of them has to share its core, all are held up,
    and the whole becomes several times slower than with one thread less.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (psutil.cpu_count() or 2) - 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
