"""The folder of a project with its ``project.yaml``, its configuration, and the runs of its rounds."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from swipe_core.errors import DataError, ProjectError
from swipe_core.files.atomic import atomic_write
from swipe_core.files.strict_yaml import fault_of, read_yaml
from swipe_core.project.records import ProjectRecord, RoundRecord, TrainSettings

FILE = "project.yaml"
VERSION = 1
RUN_DIGITS = 2
INSIDE = "./"  # before a path inside the project, which tells it from the name of a layer
BREAKS = ("\x85", "\u2028", "\u2029", "\ufeff")  # in a text, they are lost unless they are escaped


class ProjectFile:
    """A folder and the record in its ``project.yaml``, which is written anew with each change.

    What changes something raises `ProjectError` where the folder cannot be written; all then is as it was
    before. All methods may be called from several threads.
    """

    def __init__(self, folder: Path, record: ProjectRecord) -> None:
        self.folder = folder
        self._record = record
        self._lock = threading.RLock()

    @property
    def record(self) -> ProjectRecord:
        """What ``project.yaml`` says; every change makes another one."""
        return self._record

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._record.name

    @property
    def config_file(self) -> Path:
        """The configuration of the next round."""
        return self.folder / "config.yaml"

    @property
    def models(self) -> Path:
        """The folder of models that the user kept."""
        return self.folder / "models"

    def set_ndim(self, ndim: int) -> None:
        """Set how many spatial axes the images have that are trained on, 2 or 3."""
        self._change(ndim=ndim)

    def set_settings(self, settings: TrainSettings) -> None:
        """Remember what the next training starts from."""
        self._change(settings=settings)

    def set_folders(self, folders: Sequence[str | Path]) -> None:
        """Remember the data sets that are trained on beside the own one."""
        self._change(folders=[str(Path(folder).absolute()) for folder in folders])

    def write_config(self, text: str) -> None:
        """Write the configuration of the next round."""
        with writing(self.config_file), atomic_write(self.config_file) as draft:
            draft.write_text(text, encoding="utf-8")

    # Rounds and models

    def runs(self) -> list[Path]:
        """Return the folders of the rounds, in order."""
        folder = self.folder / "runs"
        found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        return sorted((path for path in found if path.name.isdecimal()), key=lambda path: int(path.name))

    def next_run(self) -> Path:
        """Return the folder of the next round: ``runs/01``, ``runs/02``, ...; it is not made."""
        noted = [Path(record.folder) for record in self._record.rounds]
        last = max((int(path.name) for path in (*self.runs(), *noted)), default=0)
        return self.folder / "runs" / f"{last + 1:0{RUN_DIGITS}d}"

    def latest_model(self) -> Path | None:
        """Return the best model of the last round that left one, or its last where nothing was validated."""
        files = (run / f"{kind}.safetensors" for run in reversed(self.runs()) for kind in ("best", "last"))
        return next((path for path in files if path.is_file()), None)

    def add_round(self, record: RoundRecord) -> None:
        """Note a round."""
        with self._lock:
            self._change(rounds=[*self._record.rounds, record])

    def update_round(self, folder: str, **changes: Any) -> None:
        """Change fields of the round in a folder, as ``"runs/01"``."""
        with self._lock:
            rounds = [
                RoundRecord.model_validate({**old.model_dump(), **changes}) if old.folder == folder else old
                for old in self._record.rounds
            ]
            self._change(rounds=rounds)

    def add_kept(self, model: str | Path) -> None:
        """Note a model that the user kept, by its file."""
        with self._lock:
            self._change(kept=list(dict.fromkeys([*self._record.kept, str(model)])))

    def _change(self, **fields: Any) -> None:
        """Take another record, once it is on the disk."""
        with self._lock:
            record = ProjectRecord.model_validate({**dict(self._record), **fields})
            if record != self._record or not (self.folder / FILE).exists():
                with writing(self.folder / FILE):
                    write_record(self.folder / FILE, record)
                self._record = record


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `ProjectError` where the disk refuses to write a path."""
    try:
        yield
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be written ({error.strerror or error}): free some space, or choose a folder that "
            "can be written."
        ) from error


def read_record(path: Path) -> ProjectRecord:
    """Return what a ``project.yaml`` says, with absolute paths.

    Raises `ProjectError` when it is missing, cannot be read, is damaged, or of a newer version; the file
    stays as it is.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProjectError(f"{path.parent} holds no project: choose a folder with a {path.name}.") from error
    except OSError as error:
        raise ProjectError(f"{path} cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is no text in UTF-8") from error
    except yaml.YAMLError as error:
        raise _damaged(path, fault_of(error)) from error
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise ProjectError(
            f"{path} has version {version} and this program reads up to {VERSION}: update napari-swipe."
        )
    try:
        record = ProjectRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise _damaged(path, f"its {where} is unusable, {first['msg']}") from error
    except DataError as error:  # of the scheme
        raise _damaged(path, str(error).rstrip(".")) from error
    return _with_paths(record, lambda text: _absolute(path.parent, text))


def write_record(path: Path, record: ProjectRecord) -> None:
    """Write a ``project.yaml``, whole or not at all.

    Paths inside the project are written relative to its folder, so that it can be moved. Raises `OSError`
    when the disk refuses; an older file stays as it was.
    """
    movable = _with_paths(record, lambda text: _relative(path.parent, text))
    values = movable.model_dump(mode="json", exclude=None if record.former else {"former"})
    text = _yaml(values, allow_unicode=True)
    if any(mark in text for mark in BREAKS):
        text = _yaml(values, allow_unicode=False)
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def _yaml(values: Any, *, allow_unicode: bool) -> str:
    return yaml.safe_dump(
        values, sort_keys=False, allow_unicode=allow_unicode, default_flow_style=None, width=100
    )


def _with_paths(record: ProjectRecord, change: Callable[[str], str]) -> ProjectRecord:
    """Return the record with another spelling of its paths."""
    return record.model_copy(
        update={
            "pairs": [pair.model_copy(update={"source": change(pair.source)}) for pair in record.pairs],
            "folders": [change(folder) for folder in record.folders],
            "kept": [change(model) for model in record.kept],
        }
    )


def _relative(folder: Path, text: str) -> str:
    """Spell a path inside the project from its folder on, as all systems do; all else stays as it is."""
    path = Path(text)
    is_inside = path.is_absolute() and path.is_relative_to(folder)
    return INSIDE + path.relative_to(folder).as_posix() if is_inside else text


def _absolute(folder: Path, text: str) -> str:
    return str(folder / text.removeprefix(INSIDE)) if text.startswith(INSIDE) else text


def _damaged(path: Path, fault: str) -> ProjectError:
    return ProjectError(f"{path} is no whole project file ({fault}): mend it, or bring back a copy.")
