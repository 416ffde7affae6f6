"""The colours of classes."""

from __future__ import annotations

# Chosen by greatest least distance (CIEDE2000). The first eight keep apart for readers with red- or
# green-blindness too, and the first six from the colours of mucosa and from grey.
CLASS_COLOURS = (
    *("#00ddff", "#ffbb00", "#5577ff", "#449966", "#aaffaa", "#ee00bb", "#ff1111", "#ff8899"),
    *("#997722", "#ff9966", "#bb99ee", "#eeee55", "#99aa33", "#dd2255", "#00ddbb", "#9966aa"),
)


def default_colours(count: int) -> list[str]:
    """Return colours "#rrggbb" for classes 1 to `count`; beyond `CLASS_COLOURS` they come round again."""
    return [CLASS_COLOURS[index % len(CLASS_COLOURS)] for index in range(count)]
