"""What can go wrong through a user's input: one clear sentence each, and no traceback.

Scripts and widgets catch `SwipeError` and show its text; every other exception is a
fault of ours and is left to surface.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def nearest_name(name: str, known: Iterable[str]) -> str:
    """A hint such as ``" Did you mean 'steps'?"``, or an empty string where nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""
