"""Whether another process of this machine still runs."""

from __future__ import annotations

import psutil

# A start is told in seconds since 1970, as the clock of the machine counts them: it may be set a little.
TOLERANCE_SECONDS = 2.0


def is_alive(pid: int, started: float | None = None) -> bool:
    """Whether this machine runs a process of that number; one that only waits to be buried is dead.

    Parameters
    ----------
    started
        What `start_of` told of it once: a later process of the same number is another one.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return started is None or abs(process.create_time() - started) <= TOLERANCE_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it runs, under another account
        return True


def start_of(pid: int) -> float | None:
    """When a process started, in seconds since 1970; None where it does not run or does not tell."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
