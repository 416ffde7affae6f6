"""One training per folder: two processes that wrote the same files would ruin both of their runs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from swipe_core.errors import ConfigError
from swipe_core.training.processes import is_alive, start_of


@dataclass(frozen=True)
class Holder:
    """The process that trains in a folder, as its lock file tells.

    Attributes
    ----------
    started
        What tells the process from a later one of the same number: ticks from the start of the machine
        to its own start. None where the system does not tell.
    """

    pid: int
    host: str
    started: str | None = None

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(os.getpid(), socket.gethostname(), start_of(os.getpid()))

    @property
    def is_alive(self) -> bool:
        """Whether it may still train: a process of another machine cannot be asked."""
        if self.host != socket.gethostname():
            return True
        if not is_alive(self.pid):
            return False
        return self.started is None or self.started == start_of(self.pid)


class RunLock:
    """A file that exists while a process trains in its folder, and says which one.

    It outlives a process that is killed; the next one sees that its holder is dead and takes it over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """See that no living process holds the lock.

        Raises
        ------
        ConfigError
            When one does, or one of another machine might.
        """
        holder = self.holder()
        if holder is None or not holder.is_alive:
            return
        if holder.host == socket.gethostname():
            raise ConfigError(
                f"Process {holder.pid} trains in {self.path.parent} already: wait for its end, stop it, or "
                "choose another folder."
            )
        raise ConfigError(
            f"Process {holder.pid} on the machine {holder.host} trains in {self.path.parent}, or was killed "
            f"there: choose another folder, or delete {self.path} if that run is dead."
        )

    def acquire(self) -> None:
        """Take the lock, also from a dead process.

        Raises
        ------
        ConfigError
            When another process holds it, or the folder cannot be written.
        """
        self.check()
        try:
            self._remove_stale()
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            self.check()
            raise ConfigError(f"Another process has just begun to train in {self.path.parent}.") from None
        except OSError as error:
            raise ConfigError(
                f"The folder {self.path.parent} cannot be written ({error.strerror}): choose another one."
            ) from error
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Holder.here())) + "\n")

    def release(self) -> None:
        """Give the lock back, unless it is no longer this process's."""
        if self.holder() == Holder.here():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def holder(self) -> Holder | None:
        """Who holds the lock; None where there is none, or one that nobody finished writing."""
        for _ in range(3):
            try:
                return Holder(**json.loads(self.path.read_text(encoding="utf-8")))
            except (ValueError, TypeError):
                time.sleep(0.05)  # another process may be about to write it
            except OSError:
                return None
        return None

    def _remove_stale(self) -> None:
        """Remove the lock of a dead process, and only that one.

        Moving is done by one process alone: of several that found the same dead holder, those that come
        later move nothing, or move the fresh lock of the first and put it back.
        """
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            os.replace(self.path, aside)
        except FileNotFoundError:
            return
        holder = RunLock(aside).holder()
        if holder is not None and holder.is_alive:
            os.replace(aside, self.path)
            raise FileExistsError(str(self.path))
        aside.unlink()
