"""What goes wrong in single cases, in sentences that people wrote after looking."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from swipe_core.errors import ConfigError, nearest_name
from swipe_core.files.strict_yaml import fault_of, read_yaml

FORM = (
    "each line is 'case name: sentence', with quotes round a name that is a number and round a sentence with "
    "a colon"
)


def read_failures(path: str | Path, case_names: Iterable[str]) -> dict[str, str]:
    """What goes wrong in single cases, from a YAML file that maps names to sentences; {} without a file.

    Raises
    ------
    ConfigError
        When the file is no such map, or names a case twice or one that is none of `case_names`.
    """
    import yaml

    path, known = Path(path), list(case_names)
    if not path.exists():
        return {}
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read as YAML ({fault_of(error)}): {FORM}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a text file ({error}).") from error
    values = {} if values is None else values
    if not isinstance(values, dict) or not all(isinstance(v, str) for pair in values.items() for v in pair):
        raise ConfigError(f"{path} must map names of cases to sentences: {FORM}.")
    for name in values:
        if name not in known:
            hint = nearest_name(name, known)
            raise ConfigError(f"{path} names {name!r}, which is no validation case.{hint}")
    return values
