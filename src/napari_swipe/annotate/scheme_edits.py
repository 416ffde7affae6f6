"""Changes to a scheme of classes, each a new scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from swipe_core.data.annotations import AnnotationScheme, Unpainted
from swipe_core.pictures.colours import default_colours


def with_class(scheme: AnnotationScheme, name: str | None = None) -> AnnotationScheme:
    """One class more, called "class N" and in the first colour of the palette that is free."""
    names = (*scheme.class_names, name or _free_name(scheme))
    palette = default_colours(len(names))
    free = [colour for colour in palette if colour not in scheme.class_colours]
    colours = (*scheme.class_colours, (free or palette[-1:])[0])
    return replace(scheme, class_names=names, class_colours=colours)


def without_last_class(scheme: AnnotationScheme) -> AnnotationScheme:
    return replace(scheme, class_names=scheme.class_names[:-1], class_colours=scheme.class_colours[:-1])


def renamed(scheme: AnnotationScheme, label: int, name: str) -> AnnotationScheme:
    """Another name for the class that is painted with a label.

    Raises
    ------
    DataError
        When the name is empty, "background", or that of another class.
    """
    names = list(scheme.class_names)
    names[_index(scheme, label)] = name
    return replace(scheme, class_names=tuple(names))


def recoloured(scheme: AnnotationScheme, label: int, colour: str) -> AnnotationScheme:
    """Another colour for the class that is painted with a label."""
    colours = list(scheme.class_colours)
    colours[_index(scheme, label)] = colour
    return replace(scheme, class_colours=tuple(colours))


def with_unpainted(scheme: AnnotationScheme, unpainted: Unpainted) -> AnnotationScheme:
    """The same classes with another meaning of what is not painted, and without numbers of objects."""
    return replace(scheme, unpainted=unpainted, instances=False)


def with_instances(scheme: AnnotationScheme) -> AnnotationScheme:
    """The first class alone, whose objects are numbered."""
    return AnnotationScheme(scheme.class_names[:1], scheme.class_colours[:1], "background", instances=True)


def reaching(scheme: AnnotationScheme, highest: int, names: Mapping[int, str]) -> AnnotationScheme:
    """As many classes as it takes for a label to have one, by the names that labels have already."""
    while highest > max(scheme.painted):
        name = names.get(max(scheme.painted) + 1, "").strip()
        is_usable = name and name not in scheme.class_names and name != "background"
        scheme = with_class(scheme, name if is_usable else None)
    return scheme


def label_of(scheme: AnnotationScheme, name: str | None) -> int:
    """The label that paints a name; the first one where there is none of it."""
    return next((label for label, known in scheme.painted.items() if known == name), 1)


def _free_name(scheme: AnnotationScheme) -> str:
    number = len(scheme.class_names) + 1
    while f"class {number}" in scheme.class_names:
        number += 1
    return f"class {number}"


def _index(scheme: AnnotationScheme, label: int) -> int:
    return label - 1 - (scheme.unpainted == "ignored")
