"""Anatomical orientation: towards which sides of the patient the axes of an array grow.

An orientation is written as programs for NIfTI write it: three letters for the axes in (x, y, z) order, the
last array axis first. In ``"RAS"`` x grows to the right, y to the front (anterior) and z to the head
(superior); in ``"LPS"``, the order of most DICOM series, to the left, to the back and to the head. There are
48 of them. An oblique array has the nearest one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from swipe_core.coordinates import Affine

if TYPE_CHECKING:
    from swipe_core.images.medical_image import Space

CANONICAL = "RAS"
UNDECIDED = "auto"  # where training images have yet to decide
# Of the world's axes in (z, y, x) order: the letters of their negative and their positive ends.
ENDS = (("I", "S"), ("P", "A"), ("L", "R"))


@dataclass(frozen=True)
class Reorientation:
    """A change of an array's spatial axes that moves no voxel in the world."""

    order: tuple[int, ...]
    """Which old axis each new axis is."""
    flipped: tuple[int, ...]
    """The new axes along which the voxels come in the opposite order."""

    @classmethod
    def between(cls, affine: Affine, orientation: str) -> Reorientation:
        """Return what brings an array of three axes in an anatomical world to an orientation."""
        old, new = orientation_of(affine)[::-1], orientation[::-1]
        sides = {letter: axis for axis, ends in enumerate(ENDS) for letter in ends}
        old_sides = [sides[letter] for letter in old]
        order = tuple(old_sides.index(sides[letter]) for letter in new)
        return cls(order, tuple(axis for axis, letter in enumerate(new) if old[order[axis]] != letter))

    def array(self, array: Shaped[np.ndarray, "*axes"]) -> Shaped[np.ndarray, "*new_axes"]:
        """Return a view of an array; axes after the spatial ones stay."""
        others = range(len(self.order), array.ndim)
        return np.flip(array.transpose(*self.order, *others), self.flipped)

    def affine(self, affine: Affine, shape: Sequence[int]) -> Affine:
        """Return the affine of the new array, where the old one had a shape."""
        to_old, start = np.zeros((3, 3)), np.zeros(3)
        for new, old in enumerate(self.order):
            to_old[old, new] = -1.0 if new in self.flipped else 1.0
            start[old] = shape[old] - 1 if new in self.flipped else 0
        return affine @ Affine.from_parts(to_old, start)

    def slices(self, box: Sequence[slice], shape: Sequence[int]) -> tuple[slice, ...]:
        """Return where a box of the new array lies in the old one, which has a shape."""
        old: list[slice] = [slice(None)] * len(self.order)
        for new, axis in enumerate(self.order):
            start, stop, length = box[new].start, box[new].stop, shape[axis]
            is_flipped = new in self.flipped
            old[axis] = slice(length - stop, length - start) if is_flipped else slice(start, stop)
        return tuple(old)


@runtime_checkable
class Orientable(Protocol):
    """What lies in a world that may be anatomical: an image, a label map, an image on disk."""

    @property
    def space(self) -> Space: ...

    def reoriented(self, orientation: str) -> Any: ...


Placed = TypeVar("Placed", bound=Orientable)


def oriented(image: Placed, orientation: str | None) -> Placed:
    """Return an image with its axes permuted and flipped to an orientation, its voxels at their places.

    It is returned as it is where it does not state how its axes lie in the patient, or where the orientation
    is None or undecided.
    """
    if orientation in (None, UNDECIDED) or not image.space.is_anatomical:
        return image
    assert orientation is not None
    turned: Placed = image.reoriented(orientation)
    return turned


def is_orientation(text: str) -> bool:
    """Whether three letters name one side of each of the patient's three axes."""
    return len(text) == 3 and all(sum(text.count(letter) for letter in ends) == 1 for ends in ENDS)


def orientation_of(affine: Affine) -> str:
    """Return the nearest orientation of an array with three axes in an anatomical world."""
    direction = affine.direction  # a column for each array axis
    world_of = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(direction[world, axis]) for axis, world in enumerate(axes)),
    )
    return "".join(ENDS[world_of[axis]][int(direction[world_of[axis], axis] > 0)] for axis in (2, 1, 0))
