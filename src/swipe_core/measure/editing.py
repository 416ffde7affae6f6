"""Single objects corrected by hand: joined, cut along a line, taken away.

Nothing is changed in place: each function returns where numbers change, and to what, as one step that can be
undone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from swipe_core.errors import ImageError

Change = tuple[tuple[Int[np.ndarray, " voxels"], ...], Integer[np.ndarray, " voxels"]]
"""The voxels that change, as indices along each axis, and the numbers that they get."""

STEP = 0.25  # voxels between the places of a line that are looked at


def voxels_of(
    path_voxel: Float[np.ndarray, "points ndim"], shape: Sequence[int]
) -> Int[np.ndarray, "voxels ndim"]:
    """Return the voxels of an array that a line passes through, each once, in the order of the line."""
    parts = [path_voxel[:1]]
    for start, stop in zip(path_voxel[:-1], path_voxel[1:], strict=True):
        count = max(1, int(np.ceil(np.linalg.norm(stop - start) / STEP)))
        parts.append(start + (stop - start) * (np.arange(1, count + 1) / count)[:, None])
    voxels = np.rint(np.concatenate(parts)).astype(np.int64)
    voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
    _, first = np.unique(voxels, axis=0, return_index=True)
    return voxels[np.sort(first)]


def crossed(
    objects: Integer[np.ndarray, "*shape"], path_voxel: Float[np.ndarray, "points ndim"]
) -> list[int]:
    """Return the numbers of the objects that a line passes through, in its order."""
    numbers = objects[tuple(voxels_of(path_voxel, objects.shape).T)].tolist()
    return [number for number in dict.fromkeys(numbers) if number]


def joined(objects: Integer[np.ndarray, "*shape"], numbers: Sequence[int]) -> Change:
    """Make several objects one, which has the number of the first.

    Raises
    ------
    ImageError
        When there are fewer than two.
    """
    if len(numbers) < 2:
        raise ImageError("Draw a line from one object into another to join them.")
    where = np.nonzero(np.isin(objects, numbers[1:]))
    return where, np.full(len(where[0]), numbers[0], objects.dtype)


def removed(objects: Integer[np.ndarray, "*shape"], numbers: Sequence[int]) -> Change:
    """Make objects background.

    Raises
    ------
    ImageError
        When there is none.
    """
    if not numbers:
        raise ImageError("Click on an object, or draw a line through several, to take them away.")
    where = np.nonzero(np.isin(objects, numbers))
    return where, np.zeros(len(where[0]), objects.dtype)


def cut(
    objects: Integer[np.ndarray, "*shape"],
    path_voxel: Float[np.ndarray, "points ndim"],
    spacing: Sequence[float] | None = None,
) -> Change:
    """Cut every object in two or more that a line passes through from side to side.

    The largest part keeps the number, the others get new ones. Of a volume the line lies in a slice: its two
    sides there are the seeds of a watershed through the rest of the object, along where it is thinnest.

    Parameters
    ----------
    spacing
        Of the voxels along each axis; alike by default.

    Raises
    ------
    ImageError
        When the line parts nothing.
    """
    line = voxels_of(path_voxel, objects.shape)
    places: list[tuple[np.ndarray, ...]] = []
    values: list[np.ndarray] = []
    free = int(objects.max(initial=0)) + 1
    for number in crossed(objects, path_voxel):
        (box,) = ndimage.find_objects((objects == number).astype(np.uint8))
        start = np.array([axis.start for axis in box])
        mask = objects[box] == number
        own = line - start
        inside = ((own >= 0) & (own < mask.shape)).all(axis=1)
        parts, count = _parts(mask, own[inside], spacing)
        sizes = np.bincount(parts[mask], minlength=count + 1)[1:]
        for part in np.argsort(-sizes, kind="stable")[1:] + 1:
            where = np.nonzero(parts == part)
            places.append(tuple(each + first for each, first in zip(where, start, strict=True)))
            values.append(np.full(len(where[0]), free, objects.dtype))
            free += 1
    if not places:
        raise ImageError("Draw the line through an object, from one side to the other, to cut it.")
    return tuple(np.concatenate(each) for each in zip(*places, strict=True)), np.concatenate(values)


def _parts(
    mask: Bool[np.ndarray, "*shape"],
    line: Int[np.ndarray, "voxels ndim"],
    spacing: Sequence[float] | None,
) -> tuple[Int[np.ndarray, "*shape"], int]:
    """Number what a line leaves of an object, the line itself given to the nearest part; and the count."""
    from skimage.segmentation import watershed

    wall = np.zeros(mask.shape, bool)
    wall[tuple(line.T)] = True
    around = np.ones((3,) * mask.ndim, bool)
    is_flat = [mask.ndim > 2 and len(np.unique(axis)) == 1 for axis in line.T]
    in_plane = np.zeros(mask.shape, bool)
    first = next((axis for axis, flat in enumerate(is_flat) if flat), None)
    slices = tuple(
        slice(line[0, axis], line[0, axis] + 1) if axis == first else slice(None) for axis in range(mask.ndim)
    )
    in_plane[slices] = True
    seeds, count = ndimage.label(mask & in_plane & ~wall)  # connected by faces, which no line lets through
    if count < 2:
        return mask.astype(np.int32), 1
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), spacing)[(slice(1, -1),) * mask.ndim]
    return watershed(-depth, seeds, connectivity=around, mask=mask), count
