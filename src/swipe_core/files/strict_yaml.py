"""YAML in which nothing is lost and nothing grows: names as keys, none twice, no merging, plain objects."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

MERGE_TAG = "tag:yaml.org,2002:merge"


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
    """What is wrong with a text, and where: ``"'title' stands twice in line 2"``."""
    problem = getattr(error, "problem", None) or "it holds characters that YAML does not allow"
    mark = getattr(error, "problem_mark", None)
    return f"{problem} in line {mark.line + 1}" if mark is not None else problem


def read_yaml(text: str) -> Any:
    """The one document in a YAML text.

    Raises
    ------
    yaml.YAMLError
        When the text is no YAML or nested too deeply, a key is no text or stands twice in its map, maps
        are merged, or a value is not what its tag says.
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
