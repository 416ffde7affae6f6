"""What can go wrong through a user's input: one clear sentence each, and no traceback.

Scripts and widgets catch `SwipeError` and show its text; every other exception is a
fault of ours and is left to surface.
"""

import difflib
from collections.abc import Iterable, Sequence

NETWORK_TAG = "network "  # before the name of a network, where pydantic tells their configurations apart


class SwipeError(Exception):
    """A mistake the user can mend. Its text says what was expected, what came, what to do."""


class ImageError(SwipeError):
    """An image or label file that cannot be read or written as asked."""


class DataError(SwipeError):
    """A data set whose folders, pairs or labels do not fit together."""


class ConfigError(SwipeError):
    """A configuration with an unknown field or an unusable value."""


class CheckpointError(SwipeError):
    """A checkpoint that is damaged, foreign, newer than this program, or unsuited to its use."""


class TrainingError(SwipeError):
    """A training run that cannot go on."""


class ProjectError(SwipeError):
    """A folder of an annotation project that cannot be made, opened or written."""


class DeviceError(SwipeError):
    """A device that this machine does not have."""


def field_path(location: Sequence[str | int]) -> list[str]:
    """The names that lead to a field of a configuration, from where pydantic found a fault.

    Between the section `model` and its fields it puts the tag of the network, which no file has.
    """
    return [part for part in map(str, location) if not part.startswith(NETWORK_TAG)]


def nearest_name(name: str, known: Iterable[str]) -> str:
    """A hint such as ``" Did you mean 'steps'?"``, or an empty string where nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def listed(words: Iterable[str], last: str = "and") -> str:
    """Return words as a sentence lists them: "a, b and c"."""
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end


def first_few(words: Sequence[object], most: int = 5, between: str = ", ") -> str:
    """Return the first of many words, and how many more there are: "a, b and 3 more"."""
    shown, rest = between.join(map(str, words[:most])), len(words) - most
    return f"{shown} and {rest} more" if rest > 0 else shown


def readable_bytes(count: float) -> str:
    """Return a size in memory as people read it: "3.1 MB"."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    count = float(f"{count:.3g}")
    power = min(len(units) - 1, max(0, len(str(int(count))) - 1) // 3)
    return f"{count / 1000**power:.3g} {units[power]}"
