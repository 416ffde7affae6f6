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
        What tells the process from a later one of the same number: seconds from 1970 to its start.
        None where the system does not tell.
    """

    pid: int
    host: str
    started: float | None = None

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(os.getpid(), socket.gethostname(), start_of(os.getpid()))

    @property
    def is_alive(self) -> bool:
        """Whether it may still train: a process of another machine cannot be asked."""
        return self.host != socket.gethostname() or is_alive(self.pid, self.started)


class RunLock:
    """A file that exists while a process trains in its folder, and says which one.

    It outlives a process that is killed; the next one sees that its holder is dead and takes it over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._acquired: Holder | None = None

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
        holder = Holder.here()
        try:
            self._remove_stale()
            self._place(holder)
        except FileExistsError:
            self.check()
            raise ConfigError(f"Another process has just begun to train in {self.path.parent}.") from None
        except OSError as error:
            raise ConfigError(
                f"The folder {self.path.parent} cannot be written ({error.strerror}): choose another one."
            ) from error
        self._acquired = holder

    def release(self) -> None:
        """Give back what `acquire` took, unless another process has it by now."""
        # This process is not asked again who it is: a laptop changes its name with its network.
        if self._acquired is not None and self.holder() == self._acquired:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._acquired = None

    def holder(self) -> Holder | None:
        """Who holds the lock; None where there is none, or one that nobody finished writing."""
        for _ in range(3):
            try:
                return _parsed(self.path.read_text(encoding="utf-8"))
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
        # Two links to one file, as a kill in `_place` leaves them, are not moved onto one another.
        self._aside.unlink(missing_ok=True)
        try:
            os.replace(self.path, self._aside)
        except FileNotFoundError:
            return
        holder = RunLock(self._aside).holder()
        self._aside.unlink()
        if holder is not None and holder.is_alive:
            self._place(holder)
            raise FileExistsError(str(self.path))

    def _place(self, holder: Holder) -> None:
        """Write the lock, whole at once, and over no other: `FileExistsError` where there is one."""
        _write(self._aside, holder, os.O_TRUNC)
        try:
            os.link(self._aside, self.path)
        except FileExistsError:
            raise
        except OSError:  # this file system has no links
            _write(self.path, holder, os.O_EXCL)
        finally:
            self._aside.unlink()

    @property
    def _aside(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")


def _write(path: Path, holder: Holder, flag: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | flag, 0o666)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(holder)) + "\n")


def _parsed(text: str) -> Holder:
    """A holder as it was written; `ValueError` or `TypeError` where that was not done to the end."""
    fields = dict(json.loads(text))
    started = fields.pop("started", None)
    # Older versions wrote a text, which counts from the start of the machine.
    holder = Holder(**fields, started=started if isinstance(started, float) else None)
    if not isinstance(holder.pid, int) or not isinstance(holder.host, str):
        raise TypeError("a process number and the name of a machine are needed")
    return holder
