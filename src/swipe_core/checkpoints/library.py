"""Checkpoints by name: those that ship with the package, and those that lie in a folder."""

from __future__ import annotations

from pathlib import Path

from swipe_core.errors import CheckpointError, nearest_name

SUFFIX = ".safetensors"
DEPTH = 2  # folders below the one that is searched: runs/NAME, and one more


def bundled_checkpoints() -> dict[str, Path]:
    """Return the checkpoints that ship with the package, by name; README.md beside them has their sources."""
    folder = Path(__file__).parents[1] / "models"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def checkpoints_in(folder: str | Path) -> list[Path]:
    """Return the checkpoints in a folder and two levels below, sorted; none where there is no such folder.

    Of a training run the best one counts: ``last.safetensors`` is left out where ``best.safetensors``
    lies beside it. Nothing is opened, so a file may turn out to be something else.
    """
    patterns = ("*/" * depth + f"*{SUFFIX}" for depth in range(DEPTH + 1))
    found = {path for pattern in patterns for path in Path(folder).glob(pattern) if _is_candidate(path)}
    return sorted(path for path in found if not _is_second(path, found))


def find_checkpoint(name_or_path: str | Path) -> Path:
    """Return a checkpoint file by its path, or by the name of one that ships with the package.

    Raises
    ------
    CheckpointError
        When there is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    bundled = bundled_checkpoints()
    name = str(name_or_path)
    if name not in bundled:
        raise CheckpointError(
            f"There is no checkpoint {name}: give the path of a {SUFFIX} file, or the name of a model that "
            f"comes with the program ({', '.join(bundled)}).{nearest_name(name, bundled)}"
        )
    return bundled[name]


def _is_candidate(path: Path) -> bool:
    # A hidden file is one that is still being written.
    return path.is_file() and not path.name.startswith(".")


def _is_second(path: Path, found: set[Path]) -> bool:
    return path.name == "last.safetensors" and path.with_name("best.safetensors") in found
