"""One training per folder: two processes that wrote the same files would ruin both of their runs."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from swipe_core.errors import ConfigError

PATIENCE = 0.2  # seconds: another process may be looking whether the lock is free


class RunLock:
    """A lock file in the folder of a run, which lasts no longer than the process that holds it.

    The file names that process for people, as JSON with the fields "pid" and "host".
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_held(self) -> bool:
        """Whether a run goes on in the folder, in this process or another one."""
        if not self.path.exists():
            return False
        try:
            with self._file_lock():
                return False
        except Timeout:
            return True
        except OSError:  # a folder that cannot be written, where no run can be
            return False

    def check(self) -> None:
        """Check that no run goes on in the folder.

        Raises `ConfigError` when one does.
        """
        if self.is_held:
            raise self._held()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, also where a process that was killed left its file behind.

        Raises `ConfigError` when a run goes on in the folder, or the folder cannot be written.
        """
        lock = self._file_lock()
        try:
            lock.acquire()
        except Timeout:
            raise self._held() from None
        except OSError as error:
            raise ConfigError(
                f"The folder {self.path.parent} cannot be written ({error.strerror}): choose another one."
            ) from error
        with suppress(OSError):  # Windows locks the text, too
            self.path.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n", encoding="utf-8"
            )
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes the file on release
                self.path.unlink()
            lock.release()

    def holder(self) -> tuple[int, str] | None:
        """Return the number and the machine of the process that the file names; None where it names none."""
        try:
            fields = json.loads(self.path.read_text(encoding="utf-8"))
            return int(fields["pid"]), str(fields["host"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _file_lock(self) -> FileLock:
        # A run may begin in one thread and be closed in another one.
        return FileLock(self.path, timeout=PATIENCE, thread_local=False)

    def _held(self) -> ConfigError:
        pid, host = self.holder() or (None, socket.gethostname())
        process = "Another process" if pid is None else f"Process {pid}"
        machine = "" if host == socket.gethostname() else f" on the machine {host}"
        return ConfigError(
            f"{process}{machine} trains in {self.path.parent} already: wait for its end, stop it, or choose "
            "another folder."
        )
