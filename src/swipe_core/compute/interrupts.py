"""Ctrl-C in the processes of a local cluster: a terminal sends it to all, but who began them ends them.

Dask imports this module in a process before anything else, and so it imports nothing that takes long.
"""

import signal


def dask_setup(worker: object) -> None:
    """Ignore it; Dask calls this when a process begins."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
