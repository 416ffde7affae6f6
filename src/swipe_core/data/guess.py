"""What was most likely meant by what is painted: strokes or objects, classes or single objects."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int, Integer

from swipe_core.data.annotations import MOST_CLASSES, AnnotationScheme, Unpainted
from swipe_core.data.labels import BACKGROUND
from swipe_core.pictures.overlays import default_colours

MANY_LABELS = 8  # above it, labels are numbers of objects rather than of classes
FEW_LABELS = 3  # up to it, they are classes even if each is a single object
STROKE = 12.0  # elongation above which something was drawn with a brush: an ellipse of 1 to 4, a disc has pi
PLACES = 4  # planes that are looked at, and windows of each
WINDOW = 512  # side of a window, in pixels


def guess_scheme(
    painted: Sequence[Integer[np.ndarray, "*_"]], names: Mapping[int, str] = MappingProxyType({})
) -> AnnotationScheme:
    """Guess what was meant by what is painted.

    Strokes of a brush are long and thin, so that most of the image has no annotation yet; filled objects
    are compact, and what surrounds them is background. Many numbers, or several of which each is one
    compact object, count objects; so do numbers that share a name. Only samples of large arrays are looked
    at.

    `painted`: the layers, of two axes or more; they may differ in shape.
    `names`: of numbers in the layers, where they have any: unless numbers share one, as objects do that a
    model found, they are those of classes, and one called "background" is painted only where the rest is
    ignored.
    """
    highest = max((int(array.max()) for array in painted if array.size), default=0)
    if highest <= 0:
        return _scheme("ignored", 1, names)
    shared = Counter(name.strip() for label, name in names.items() if label > 0 and name.strip())
    if any(count > 1 for count in shared.values()):
        return _objects(next(iter(shared)) if len(shared) == 1 else "object")
    traces = list(_traces([array for array in painted if array.size and array.any()]))
    is_named = any(label in names for label in range(1, highest + 1))
    if highest > MOST_CLASSES or (not is_named and _are_objects(traces, highest)):
        return _objects("object")
    # Strokes come as two numbers at least, background and something; one alone may be a thin object.
    limit = STROKE if highest > 1 else 2 * STROKE
    if names.get(1, BACKGROUND) == BACKGROUND and (1 in names or _elongation(traces) > limit):
        return _scheme("ignored", max(1, min(highest - 1, MOST_CLASSES - 1)), names)
    return _scheme("background", highest, names)


@dataclass(frozen=True)
class _Trace:
    """The connected pieces of one number in one window."""

    label: int
    areas: Int[np.ndarray, " pieces"]
    elongations: np.ndarray
    """`areas` and `elongations`, (pieces,): pixels, and their number over the square of the largest half
    width.
    """


def _objects(name: str) -> AnnotationScheme:
    return AnnotationScheme((name,), tuple(default_colours(1)), "background", instances=True)


def _scheme(unpainted: Unpainted, classes: int, names: Mapping[int, str]) -> AnnotationScheme:
    first = 2 if unpainted == "ignored" else 1
    spare = ["foreground"] if classes == 1 else [f"class {number}" for number in range(1, classes + 1)]
    chosen: list[str] = []
    for label, other in enumerate(spare, start=first):
        name = names.get(label, "").strip()
        is_usable = name and name != BACKGROUND and name not in (*chosen, *spare)
        chosen.append(name if is_usable else other)
    return AnnotationScheme(tuple(chosen), tuple(default_colours(classes)), unpainted)


def _are_objects(traces: Sequence[_Trace], highest: int) -> bool:
    if highest > MANY_LABELS:
        return True
    labels = {trace.label for trace in traces}
    are_single = all(len(trace.areas) == 1 for trace in traces)
    return len(labels) > FEW_LABELS and are_single and _elongation(traces) <= STROKE


def _elongation(traces: Sequence[_Trace]) -> float:
    """The elongation of the piece that half of the painted pixels lie below."""
    areas = np.concatenate([trace.areas for trace in traces])
    elongations = np.concatenate([trace.elongations for trace in traces])
    order = np.argsort(elongations)
    below = np.cumsum(areas[order])
    return float(elongations[order][np.searchsorted(below, below[-1] / 2)])


def _traces(painted: Sequence[Integer[np.ndarray, "*_"]]) -> Iterator[_Trace]:
    planes = [plane for array in _evenly(painted) for plane in _planes(array)]
    for plane in _evenly(planes):
        for window in _windows(plane):
            labels = np.unique(window[window > 0])[: MANY_LABELS + 1]
            yield from (_trace(int(label), window == label) for label in labels)


def _trace(label: int, mask: Bool[np.ndarray, "height width"]) -> _Trace:
    from scipy import ndimage

    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    padded = np.pad(mask[box], 1)  # the edge of the image ends what is painted
    pieces, count = ndimage.label(padded, np.ones((3, 3)))
    distance = ndimage.distance_transform_edt(padded)
    half_widths = ndimage.maximum(distance, pieces, range(1, count + 1)) - 0.5
    areas = np.bincount(pieces.ravel())[1:]
    return _Trace(label, areas, areas / half_widths**2)


def _planes(painted: Integer[np.ndarray, "*_"]) -> list[Integer[np.ndarray, "height width"]]:
    """Some painted planes, across the axes along which the fewest are: people paint in planes."""
    if painted.ndim == 2:
        return [painted]
    axes = range(painted.ndim)
    profiles = [np.flatnonzero((painted != 0).any(axis=tuple({*axes} - {axis}))) for axis in axes]
    axis = min(axes, key=lambda axis: len(profiles[axis]))
    stack = np.moveaxis(painted, axis, 0)
    found = [plane for index in _evenly(profiles[axis]) for plane in _planes(stack[index])]
    return _evenly(found)


def _windows(plane: Integer[np.ndarray, "height width"]) -> Iterator[Integer[np.ndarray, "rows columns"]]:
    """All that is painted, or parts of a large plane about painted pixels."""
    rows, columns = (np.flatnonzero((plane != 0).any(axis=axis)) for axis in (1, 0))
    plane = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(plane.shape) <= WINDOW:
        yield plane
        return
    for row in _evenly(rows - rows[0]):
        found = np.flatnonzero(plane[row])
        corner = [max(0, int(at) - WINDOW // 2) for at in (row, found[len(found) // 2])]
        yield plane[corner[0] : corner[0] + WINDOW, corner[1] : corner[1] + WINDOW]


def _evenly(items: Sequence | np.ndarray) -> list:
    """At most `PLACES` of the items, spread over all of them."""
    chosen = np.linspace(0, len(items) - 1, min(PLACES, len(items))).round().astype(int)
    return [items[index] for index in chosen]
