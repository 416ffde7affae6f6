"""What a project remembers in ``project.yaml``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from swipe_core.data.annotations import AnnotationScheme
from swipe_core.errors import DataError, ProjectError
from swipe_core.files.atomic import atomic_write
from swipe_core.files.strict_yaml import fault_of, read_yaml
from swipe_core.project.names import file_name

VERSION = 1
INSIDE = "./"  # before a path inside the project, which tells it from the name of a layer
BREAKS = ("\x85", "\u2028", "\u2029", "\ufeff")  # in a text, they are lost unless they are escaped
Split = Literal["train", "val"]
Scalar = bool | int | float | str | None
Role = Literal["space", "channel", "frame"]


def _is_file_name(name: str) -> str:
    # It becomes a part of paths: one from elsewhere must not lead out of the folder.
    if file_name(name) != name:
        raise ValueError(f"{name!r} cannot be the name of a file")
    return name


def _readable(text: Any) -> Any:
    # Bytes in the name of a file that are no text have no place in one of UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


FilePath = Annotated[str, BeforeValidator(_readable)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PairRecord(_Record):
    """An image and the labels that are painted on it.

    Attributes
    ----------
    name
        Of the pair, any text that no other pair of the project has.
    source
        The file of the image; the name of a layer without a file.
    labels
        The name of the layer of labels.
    axes
        What the axes of the image's layer are; None where that was not said.
    frames
        Indices along the frame axes of what is in the data set; ``[[]]`` where there are no such axes.
        The project's to say.
    stem
        What the names of its files begin with. The project's to say.
    """

    name: str
    split: Split
    source: FilePath
    labels: str
    axes: list[Role] | None = None
    frames: list[list[Annotated[int, Field(ge=0)]]] = []
    stem: Annotated[str, AfterValidator(_is_file_name)] = file_name("")


class RoundRecord(_Record):
    """One training.

    Attributes
    ----------
    folder
        ``"runs/01"``.
    started_from
        What the weights were at its start, in words or as a path.
    painted
        Voxels by class, as they were then.
    step, minutes
        How far it came.
    dice
        Of the best validation; None without one.
    message
        What ended it, if it failed.
    """

    folder: Annotated[str, Field(pattern=r"^runs/[0-9]+$")]
    started_from: str
    painted: dict[str, int] = {}
    step: int = 0
    minutes: float = 0.0
    dice: float | None = None
    state: Literal["running", "stopped", "finished", "failed"] = "running"
    message: str = ""


class FormerLabels(_Record):
    """Label files that were written when the project had another scheme, and not anew since.

    Attributes
    ----------
    scheme
        What the numbers in them mean.
    digests
        Of the files, by name. One with another content was written since, as the project says.
    """

    scheme: AnnotationScheme
    digests: dict[str, str]


class ProjectRecord(_Record):
    """All of a project that is not in its data set and its runs.

    Attributes
    ----------
    scheme, ndim
        None until something was chosen.
    folders
        Data sets that are trained on beside the own one.
    settings
        What the widgets showed, by the names that they chose.
    kept
        Models that the user kept.
    former
        Label files that mean something else than `scheme` says.

    Paths are absolute here. In the file those inside of the project are relative to its folder, so that
    it can be moved.
    """

    version: Literal[1] = 1
    name: str
    scheme: AnnotationScheme | None = None
    ndim: Literal[2, 3] | None = None
    pairs: list[PairRecord] = []
    folders: list[FilePath] = []
    settings: dict[str, Scalar | list[Scalar]] = {}
    rounds: list[RoundRecord] = []
    kept: list[FilePath] = []
    former: list[FormerLabels] = []

    @model_validator(mode="after")
    def _names_are_unique(self) -> ProjectRecord:
        for names in ([pair.name for pair in self.pairs], [pair.stem for pair in self.pairs]):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"two pairs are called {twice[0]}")
        return self


def read_record(path: Path) -> ProjectRecord:
    """What a ``project.yaml`` says.

    Raises
    ------
    ProjectError
        When it is missing, cannot be read, is damaged, or of a newer version; the file stays as it is.
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
    return _with_paths(_validated(path, values), lambda text: _absolute(path.parent, text))


def write_record(path: Path, record: ProjectRecord) -> None:
    """Write a ``project.yaml``, whole or not at all.

    Raises
    ------
    OSError
        When the disk refuses; an older file stays as it was.
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
    """The record with another spelling of its paths."""
    return record.model_copy(
        update={
            "pairs": [pair.model_copy(update={"source": change(pair.source)}) for pair in record.pairs],
            "folders": [change(folder) for folder in record.folders],
            "kept": [change(model) for model in record.kept],
        }
    )


def _relative(folder: Path, text: str) -> str:
    """A path inside the project from its folder on, as all systems spell it; all else as it is."""
    path = Path(text)
    is_inside = path.is_absolute() and path.is_relative_to(folder)
    return INSIDE + path.relative_to(folder).as_posix() if is_inside else text


def _absolute(folder: Path, text: str) -> str:
    """The inverse."""
    return str(folder / text.removeprefix(INSIDE)) if text.startswith(INSIDE) else text


def _validated(path: Path, values: Any) -> ProjectRecord:
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise ProjectError(
            f"{path} has version {version} and this program reads up to {VERSION}: update napari-swipe."
        )
    try:
        return ProjectRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise _damaged(path, f"its {where} is unusable, {first['msg']}") from error
    except DataError as error:  # of the scheme
        raise _damaged(path, str(error).rstrip(".")) from error


def _damaged(path: Path, fault: str) -> ProjectError:
    return ProjectError(f"{path} is no whole project file ({fault}): mend it, or bring back a copy.")
