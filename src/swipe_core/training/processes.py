"""Whether another process of this machine still runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":

    def is_alive(pid: int) -> bool:
        """Whether this machine runs a process of that number."""
        import ctypes

        query_limited_information, access_denied, still_active = 0x1000, 5, 259
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(query_limited_information, False, pid)
        if not handle:
            return ctypes.get_last_error() == access_denied  # it runs, under another account
        try:
            code = ctypes.c_ulong()
            return bool(kernel.GetExitCodeProcess(handle, ctypes.byref(code))) and code.value == still_active
        finally:
            kernel.CloseHandle(handle)

else:

    def is_alive(pid: int) -> bool:
        """Whether this machine runs a process of that number; one that only waits to be buried is dead."""
        if Path("/proc/self/stat").exists():
            return start_of(pid) is not None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it runs, under another account
            return True
        return True


def start_of(pid: int) -> str | None:
    """When a process started, as Linux tells; None elsewhere, and where it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # After the name, in brackets that may hold anything: the state, and 18 fields up to the start.
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]
