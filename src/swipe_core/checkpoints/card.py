"""The card of a trained model: what it is for, where it comes from, and what it must not be used for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swipe_core.errors import ConfigError, nearest_name

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class ModelCard(BaseModel):
    """What people should know of a trained model before they use it.

    Attributes
    ----------
    title, description
        What it finds, in a line and in a few sentences.
    data
        What it was trained on, with the number of cases.
    licence, attribution
        Under which terms the weights may be passed on, and who is to be named.
    intended_use, limits
        What it was made for, and what it was never tested on.
    dice
        Validation Dice by class name; under ``"mean"`` where only the mean over the classes is known.
    validation
        What the Dice was measured on, in a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Text
    description: Text
    data: Text
    licence: Text
    attribution: Text
    intended_use: Text
    limits: Text
    dice: dict[str, Share] = {}
    validation: str = ""


def read_card(path: str | Path) -> ModelCard:
    """A card from a YAML file.

    Raises
    ------
    ConfigError
        When there is no such file, it is no YAML, or a field is missing, unknown, unusable or there twice.
    """
    import yaml

    from swipe_core.files.strict_yaml import fault_of, read_yaml

    path = Path(path)
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The card {path} is not a usable YAML file: {fault_of(error)}; correct it there."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The card {path} cannot be read as a text file ({error}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"The card {path} must hold fields such as 'title:' and 'licence:'.")
    try:
        return ModelCard.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"The card {path} {_fault(error)}") from error


def _fault(error: ValidationError) -> str:
    """The first fault in words."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"lacks the field {field!r}: add it."
    if first["type"] == "extra_forbidden":
        return f"has an unknown field {field!r}.{nearest_name(field, ModelCard.model_fields)}"
    return f"has an unusable {field} ({first['msg']}): correct it."
