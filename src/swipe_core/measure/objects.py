"""Single objects of a segmentation: counted, measured, and written as a table.

`OBJECT_COLUMNS` is the one list of what tables show: an entry there stands in the CSV files and in the dock.
"""

import csv
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Integer

from swipe_core.coordinates import Affine
from swipe_core.images import LabelMap
from swipe_core.images.files import image_draft
from swipe_core.measure import Quantity, heading

FEW_POINTS = 64  # up to here all distances are found sooner than a hull


@dataclass(frozen=True)
class ObjectMeasurement:
    """One object; lengths in units of the world, components in array-axis order."""

    number: int
    """Its label among the numbered objects, from 1."""
    class_index: int
    class_name: str
    """`class_index` and `class_name`: of the class that it belongs to, from 1."""
    size: float
    """Area or volume: of a voxel, times their count."""
    centroid_world: tuple[float, ...]
    """Mean of the voxels' centres."""
    bounding_box_voxel: tuple[tuple[int, int], ...]
    """For each axis the first voxel, and the one after the last."""
    largest_diameter: float
    """The greatest distance between two of its points (Feret's), corners of the outermost voxels included. Of
    what was sampled it can be too large by a voxel's diagonal, and by no more.
    """
    touches_border: bool
    """Whether it reaches the edge of the array, and may go on beyond; axes of a single voxel have no edge."""


@dataclass(frozen=True)
class Column:
    """A column of the table of objects, in the dock and in CSV files."""

    title: str
    """Heading without the unit; "{size}" becomes "area" or "volume"."""
    value: Callable[[ObjectMeasurement], int | float | str | bool]
    """What stands in the row of an object."""
    quantity: Quantity = "number"
    """Its unit."""
    least_ndim: int = 2
    """A table of fewer axes lacks the column."""

    def heading(self, unit: str, ndim: int, *, is_plain: bool = False) -> str:
        """Return the heading with the unit, as `swipe_core.measure.heading`."""
        return heading(self.title, self.quantity, unit, ndim, is_plain=is_plain)

    def text(self, measurement: ObjectMeasurement, digits: int = 8) -> str:
        """Return a cell of the table, a number with so many digits."""
        value = self.value(measurement)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


OBJECT_COLUMNS = [
    Column("number", lambda found: found.number),
    Column("class", lambda found: found.class_name),
    Column("{size}", lambda found: found.size, "size"),
    Column("centroid z", lambda found: found.centroid_world[-3], "length", least_ndim=3),
    Column("centroid y", lambda found: found.centroid_world[-2], "length"),
    Column("centroid x", lambda found: found.centroid_world[-1], "length"),
    Column("largest diameter", lambda found: found.largest_diameter, "length"),
    Column("touches border", lambda found: found.touches_border),
]


def columns_of(ndim: int) -> list[Column]:
    """Return the columns of the table of objects in a space of so many axes."""
    return [column for column in OBJECT_COLUMNS if column.least_ndim <= ndim]


def number_objects(label_map: LabelMap, minimum: float = 0) -> LabelMap:
    """Give every connected object of every class a number of its own.

    Voxels are connected where they share a face, an edge or a corner; those of different classes
    never are. Numbers are consecutive over all classes, in the order of the objects' first voxels.

    `label_map`: classes; 0 is background.
    `minimum`: area or volume in units of the world: smaller objects become background.
    """
    from skimage.measure import label

    objects = label(label_map.array, background=0, connectivity=label_map.ndim)
    sizes = np.bincount(objects.ravel()) * _voxel_size(label_map.affine)
    # A sum of many voxels may miss a whole number by a rounding.
    is_kept = sizes >= minimum * (1 - 1e-9)
    is_kept[0] = False
    numbers = np.where(is_kept, np.cumsum(is_kept), 0).astype(np.int32)
    return LabelMap(numbers[objects], label_map.affine, label_map.unit, space=label_map.space)


def measure_objects(
    numbered: LabelMap, classes: LabelMap, class_names: Sequence[str]
) -> list[ObjectMeasurement]:
    """Measure the objects of `number_objects`, in the order of their numbers.

    Raises `ValueError` when the two maps have different shapes.

    `numbered`: objects 1, 2, ...; numbers that do not occur are passed over.
    `classes`: the class at each voxel of the same lattice; an object is of the class of its first voxel.
    `class_names`: of the classes 1, 2, ...
    """
    from scipy.ndimage import find_objects

    if numbered.shape != classes.shape:
        raise ValueError(f"Objects of shape {numbered.shape} cannot have classes of shape {classes.shape}.")
    return [
        _measured(number, box, numbered, classes, class_names)
        for number, box in enumerate(find_objects(numbered.array), start=1)
        if box is not None
    ]


def write_object_table(
    path: str | os.PathLike[str], measurements: Sequence[ObjectMeasurement], unit: str, ndim: int
) -> None:
    """Write a CSV of one row per object; its header names the units.

    The file appears whole or not at all; one of the same name is replaced. Raises `ImageError` when the
    folder is missing, or the disk refuses.

    `unit`: of the world, such as ``"millimeter"``.
    `ndim` {2, 3}: of the space.
    """
    with image_draft(Path(path)) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        columns = columns_of(ndim)
        table.writerow([column.heading(unit, ndim, is_plain=True) for column in columns])
        table.writerows([column.text(measurement) for column in columns] for measurement in measurements)


def _measured(
    number: int,
    box: tuple[slice, ...],
    numbered: LabelMap,
    classes: LabelMap,
    class_names: Sequence[str],
) -> ObjectMeasurement:
    mask = numbered.array[box] == number
    start = np.array([part.start for part in box])
    points_voxel = np.argwhere(mask)
    class_index = int(classes.array[tuple(points_voxel[0] + start)])
    centroid = numbered.affine.apply(points_voxel.mean(axis=0) + start)
    return ObjectMeasurement(
        number=number,
        class_index=class_index,
        class_name=_class_name(class_index, class_names),
        size=len(points_voxel) * _voxel_size(numbered.affine),
        centroid_world=tuple(centroid.tolist()),
        bounding_box_voxel=tuple((part.start, part.stop) for part in box),
        largest_diameter=_largest_diameter(mask, numbered.affine),
        touches_border=any(
            n > 1 and (part.start == 0 or part.stop == n) for part, n in zip(box, numbered.shape, strict=True)
        ),
    )


def _class_name(class_index: int, class_names: Sequence[str]) -> str:
    known = 1 <= class_index <= len(class_names)
    return class_names[class_index - 1] if known else f"class {class_index}"


def _voxel_size(affine: Affine) -> float:
    return float(abs(np.linalg.det(affine.linear)))


def _largest_diameter(mask: Bool[np.ndarray, "*shape"], affine: Affine) -> float:
    """The greatest distance in the world between two corners of a mask's voxels."""
    # Straight lines stay straight in the world: the hull can be found among the voxels.
    corners = _hull(_corners(_row_ends(mask))) @ affine.linear.T
    return max(_farthest(chunk, corners) for chunk in np.array_split(corners, 1 + len(corners) // 1000))


def _row_ends(mask: Bool[np.ndarray, "*shape"]) -> Integer[np.ndarray, "points ndim"]:
    """The first and the last voxel of every row along the last axis: the hull has no others."""
    rows = np.nonzero(mask.any(axis=-1))
    first = mask[rows].argmax(axis=-1)
    last = mask.shape[-1] - 1 - mask[rows][:, ::-1].argmax(axis=-1)
    return np.concatenate([np.stack([*rows, end], axis=-1) for end in (first, last)])


def _corners(points_voxel: Integer[np.ndarray, "points ndim"]) -> Integer[np.ndarray, "corners ndim"]:
    """The corners of voxels, half a voxel off, each once."""
    offsets = np.array(list(itertools.product((0, 1), repeat=points_voxel.shape[1])))
    corners = (points_voxel[:, None] + offsets).reshape(-1, points_voxel.shape[1])
    # As single numbers, which are sorted far sooner than rows are.
    shape = tuple(corners.max(axis=0) + 1)
    return np.stack(np.unravel_index(np.unique(np.ravel_multi_index(corners.T, shape)), shape), axis=-1)


def _hull(points: Integer[np.ndarray, "points ndim"]) -> Float[np.ndarray, "corners ndim"]:
    """The corners of the convex hull; voxels have an extent, so it is never flat."""
    points = points.astype(np.float64)
    if len(points) <= FEW_POINTS:
        return points
    from scipy.spatial import ConvexHull

    return points[ConvexHull(points).vertices]


def _farthest(points: Float[np.ndarray, "some ndim"], others: Float[np.ndarray, "points ndim"]) -> float:
    from scipy.spatial.distance import cdist

    return float(cdist(points, others).max())
