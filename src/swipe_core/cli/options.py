"""The settings of inference as options of a command."""

import argparse

from pydantic import ValidationError

from swipe_core.errors import ConfigError
from swipe_core.inference.config import SETTINGS, InferenceConfig


def add_inference_options(group: argparse._ActionsContainer) -> None:
    """Add ``--threshold`` and its like; what is not given stays as the model has it."""
    for setting in SETTINGS.values():
        if setting.choices:
            group.add_argument(setting.option, choices=setting.choices, help=setting.description)
        elif setting.takes_axes:
            words = f"{setting.description}; none: not at all"
            group.add_argument(setting.option, type=int, nargs="*", metavar="A", help=words)
        else:
            group.add_argument(setting.option, type=float, metavar="X", help=setting.description)


def changed_config(config: InferenceConfig, options: argparse.Namespace) -> InferenceConfig:
    """Return the settings of a model with those that the options change.

    Raises `ConfigError` when a number is out of its range.
    """
    given = {name: getattr(options, name) for name in SETTINGS}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        return InferenceConfig.model_validate(config.model_dump() | changes)
    except ValidationError as error:
        fault = error.errors()[0]
        option = SETTINGS[str(fault["loc"][0])].option
        raise ConfigError(f"{option} cannot be {fault['input']:g} ({fault['msg']}).") from error
