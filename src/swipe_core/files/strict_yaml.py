"""YAML files as typed records, of a strict YAML: names as keys, none twice, no merging, plain objects."""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from swipe_core.errors import ConfigError, field_path, nearest_name

MERGE_TAG = "tag:yaml.org,2002:merge"
TAB = r"'\t'"  # as PyYAML shows it
SHOWN = reprlib.Repr()  # a value may be of any length
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxlist, SHOWN.maxtuple = 1, 80, 10, 10
Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """Maps, lists and scalars; of two equal keys the usual loader forgets the first without a word."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if key.tag == MERGE_TAG:  # merges of merges grow without bounds
                raise ConstructorError(problem="it merges maps with '<<'", problem_mark=key.start_mark)
            name = self.construct_object(key) if isinstance(key, ScalarNode) else None
            if not isinstance(name, str):
                raise ConstructorError(problem="it holds a key that is no name", problem_mark=key.start_mark)
            if name in seen:
                raise ConstructorError(problem=f"{name!r} stands twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def fault_of(error: yaml.YAMLError) -> str:
    """Return what is wrong with a text, and where: ``"'title' stands twice in line 2"``."""
    problem = getattr(error, "problem", None) or "it holds characters that YAML does not allow"
    mark = getattr(error, "problem_mark", None)
    return f"{problem} in line {mark.line + 1}" if mark is not None else problem


def read_yaml(text: str) -> Any:
    """Return the one document in a YAML text.

    Raises `yaml.YAMLError` when the text is no YAML or nested too deeply, a key is no text or stands twice in
    its map, maps are merged, or a value is not what its tag says.
    """
    try:
        loader = _StrictLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecursionError as error:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from error
    # What PyYAML's readers of tagged scalars and of dates come upon.
    except (ValueError, OverflowError, LookupError, AttributeError, TypeError) as error:
        raise yaml.MarkedYAMLError(problem=f"it holds a value that cannot be read ({error})") from error


def read_fields(text: str, source: str, examples: str) -> dict[str, Any]:
    """Return the fields of a YAML text.

    Raises `ConfigError` when it is no YAML, or no map.

    `source`: what to call the text in messages.
    `examples`: what it should hold, such as ``"fields such as 'title:'"``.
    """
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        fault = fault_of(error)
        remedy = "indent with spaces" if TAB in fault else "correct it there"
        raise ConfigError(f"{source} is not a usable YAML file: {fault}; {remedy}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold {examples}.")
    return values


def validated(
    model: type[Model],
    values: Any,
    source: str,
    known_fields: Callable[[Sequence[str]], Iterable[str]] | None = None,
) -> Model:
    """Return values as a record.

    Raises `ConfigError` when they are not such a record: of the first fault, with the nearest name for an
    unknown field.

    `known_fields`: the fields of the section that some names lead to; by default `model` is taken to have no
    sections.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        location = field_path(fault["loc"])
        field = ".".join(location)
        reason = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            known = model.model_fields if known_fields is None else known_fields(location[:-1])
            hint = nearest_name(location[-1], known) or " Take it out."
            sentence = f"there is no field {field!r}.{hint}"
        elif fault["type"] == "missing":
            sentence = f"the field {field!r} is missing; add it."
        else:
            value = fault["input"]
            shown = (
                SHOWN.repr(value) if isinstance(value, (str, int, float, list, tuple)) else "used as given"
            )
            sentence = f"{field or 'the configuration'} cannot be {shown} ({reason})."
        raise ConfigError(f"{source}: {sentence}") from error


def read_model(path: Path, model: type[Model], noun: str) -> Model:
    """Return the record that a YAML file holds.

    Raises `ConfigError` when there is no such file, it is no YAML, or a field is missing, unknown, unusable
    or there twice.

    `noun`: what it is called in messages, as in ``"The card"``.
    """
    source = f"{noun} {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} cannot be read as a text file ({error}).") from error
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    examples = "fields such as " + " and ".join(f"'{name}:'" for name in required[:2])
    return validated(model, read_fields(text, source, examples), source)
