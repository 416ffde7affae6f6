"""YAML files that come with the package, by name, or anybody's, by path."""

from importlib.resources.abc import Traversable
from pathlib import Path

from swipe_core.errors import ConfigError, nearest_name

SUFFIXES = (".yaml", ".yml")


def shipped_names(folder: Traversable) -> list[str]:
    """Return the names of the YAML files in a folder of a package, without their ending."""
    files = (file.name for file in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def read_shipped(folder: Traversable, noun: str, name_or_path: str | Path) -> tuple[str, str]:
    """Return what to call a file in messages, and its text.

    Raises `ConfigError` when there is no such file, or it is no text.

    `folder`: the folder of a package.
    `noun`: what its files hold.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise ConfigError(f"There is no {noun} file {path}: give a YAML file or a shipped name.")
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as text ({error}).") from error
    names = shipped_names(folder)
    if name not in names:
        raise ConfigError(
            f"There is no shipped {noun} {name!r}; there are {', '.join(names)}, or give a file that ends in "
            f".yaml.{nearest_name(name, names)}"
        )
    return name, (folder / f"{name}.yaml").read_text(encoding="utf-8")
