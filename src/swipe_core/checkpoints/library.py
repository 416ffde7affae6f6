"""Checkpoints by name: those that ship with the package, those that a user added, and those in a folder."""

import hashlib
import os
import shutil
from pathlib import Path

from swipe_core.errors import CheckpointError, first_few, nearest_name
from swipe_core.files.atomic import atomic_write

SUFFIX = ".safetensors"
LIBRARY = "SWIPE_MODELS"  # the variable that names another folder of added models
DEPTH = 2  # folders below the one that is searched: runs/NAME, and one more


def bundled_checkpoints() -> dict[str, Path]:
    """Return the checkpoints that ship with the package, by name; README.md beside them has their sources."""
    folder = Path(__file__).parents[1] / "models"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def library_folder() -> Path:
    """Return where added models are: ``swipe-models`` in the home folder, or what SWIPE_MODELS names."""
    return Path(os.environ.get(LIBRARY) or Path.home() / "swipe-models").expanduser()


def added_checkpoints() -> dict[str, Path]:
    """Return the checkpoints that `add_checkpoint` keeps, by name."""
    return {path.stem: path for path in sorted(library_folder().glob(f"*{SUFFIX}")) if _is_candidate(path)}


def named_checkpoints() -> dict[str, Path]:
    """Return all checkpoints that have a name, first those that ship with the package, which keep theirs."""
    bundled = bundled_checkpoints()
    return bundled | {name: path for name, path in added_checkpoints().items() if name not in bundled}


def add_checkpoint(source: str | Path, name: str | None = None) -> Path:
    """Copy a checkpoint into the library, where it is found by its name; return the copy.

    Raises `CheckpointError` when there is no model, or more than one; when it is damaged, or the name is
    taken or is none.

    `source`: a file, or a folder such as that of a run, in which there is one model.
    `name`: the file's own name by default; of a run, whose files all have the same, its folder's.
    """
    from swipe_core.checkpoints.file import load_checkpoint

    found = checkpoints_in(source) if Path(source).is_dir() else [Path(source)]
    if len(found) != 1:
        which = f"{len(found)} models ({first_few([path.name for path in found])})" if found else "no model"
        raise CheckpointError(f"{source} holds {which}: give the path of one {SUFFIX} file.")
    load_checkpoint(found[0])  # a damaged one is refused
    own = found[0].resolve()
    name = name or (own.parent.name if own.stem in ("best", "last") else own.stem)
    if name != Path(name).name or name.startswith("."):
        raise CheckpointError(f"{name!r} is no name of a model: give one without a folder, such as liver.")
    if name in named_checkpoints():
        raise CheckpointError(f"There is a model {name} already: choose another name with --name.")
    target = library_folder() / f"{name}{SUFFIX}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as draft:
        shutil.copyfile(found[0], draft)
    return target


def remove_checkpoint(name: str) -> Path:
    """Delete a model that was added; return where it was.

    Raises `CheckpointError` when there is none of that name, or it ships with the package.
    """
    added = added_checkpoints()
    if name not in added:
        stays = " It comes with the program, and stays." if name in bundled_checkpoints() else ""
        raise CheckpointError(f"No model {name} was added.{stays or nearest_name(name, added)}")
    added[name].unlink()
    return added[name]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, by which two copies are known to be the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoints_in(folder: str | Path) -> list[Path]:
    """Return the checkpoints in a folder and two levels below, sorted; none where there is no such folder.

    Of a training run the best one counts: ``last.safetensors`` is left out where ``best.safetensors``
    lies beside it. Nothing is opened, so a file may turn out to be something else.
    """
    patterns = ("*/" * depth + f"*{SUFFIX}" for depth in range(DEPTH + 1))
    found = {path for pattern in patterns for path in Path(folder).glob(pattern) if _is_candidate(path)}
    return sorted(path for path in found if not _is_second(path, found))


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Return a checkpoint file by its path, or by the name of one that ships with the package or was added.

    Raises
    ------
    CheckpointError
        When there is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = named_checkpoints()
    name = str(name_or_path)
    if name not in known:
        raise CheckpointError(
            f"There is no checkpoint {name}: give the path of a {SUFFIX} file, or the name of a model that "
            f"comes with the program or was added ({', '.join(known)}).{nearest_name(name, known)}"
        )
    return known[name]


def _is_candidate(path: Path) -> bool:
    # A hidden file is one that is still being written.
    return path.is_file() and not path.name.startswith(".")


def _is_second(path: Path, found: set[Path]) -> bool:
    return path.name == "last.safetensors" and path.with_name("best.safetensors") in found
