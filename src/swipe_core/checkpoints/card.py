"""The card of a trained model: what it is for, where it comes from, and what it must not be used for."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
    """Return a card from a YAML file.

    Raises `ConfigError` when there is no such file, it is no YAML, or a field is missing, unknown, unusable
    or there twice.
    """
    from swipe_core.files.strict_yaml import read_model

    return read_model(Path(path), ModelCard, "The card")
