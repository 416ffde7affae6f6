"""Settings of inference as options of a script."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from swipe_core.errors import ConfigError
from swipe_core.inference.config import InferenceConfig

NUMBERS = ("threshold", "confidence", "smoothing", "overlap")
AXES = "mirrored_axes"


def add_inference_options(group: argparse._ActionsContainer) -> None:
    """Add ``--threshold`` and its like; what is not given stays as the model has it."""
    fields = InferenceConfig.model_fields
    for name in NUMBERS:
        group.add_argument(f"--{name}", type=float, metavar="X", help=fields[name].description)
    group.add_argument(
        _option(AXES), type=int, nargs="*", metavar="A", help=f"{fields[AXES].description}; none: not at all"
    )


def changed_config(config: InferenceConfig, options: argparse.Namespace) -> InferenceConfig:
    """The settings of a model with those that the options change.

    Raises
    ------
    ConfigError
        When a number is out of its range.
    """
    given = {name: getattr(options, name) for name in (*NUMBERS, AXES)}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        return InferenceConfig.model_validate(config.model_dump() | changes)
    except ValidationError as error:
        fault = error.errors()[0]
        option = _option(str(fault["loc"][0]))
        raise ConfigError(f"{option} cannot be {fault['input']:g} ({fault['msg']}).") from error


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")
