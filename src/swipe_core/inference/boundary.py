"""The boundary of a class as the zero set of a function of position, and points that lie on it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from swipe_core.errors import ConfigError
from swipe_core.inference.field import OccupancyField

Points = Float[np.ndarray, "points ndim"]
Scalars = Float[np.ndarray, " points"]
Evaluating = Generator[Any, None, Scalars]
"""Yields after every chunk of points; the values at all of them."""

BRACKETINGS = 16  # after as many halvings a jump of the field is found as exactly as a zero
PRECISION = 0.03  # of the tolerance, to which points are placed on the boundary
STEPS_OUT = 8
DIRECTIONS = 26  # in which the nearest boundary is looked for


def differences(scores: Float[np.ndarray, "points classes"], class_index: int) -> Scalars:
    """Return the score of a class less the largest of the others: positive inside."""
    others = np.delete(scores, class_index, axis=1).max(axis=1)
    return (scores[:, class_index] - others).astype(np.float64)


def check_tolerance(tolerance: float) -> None:
    """See that a tolerance is one.

    Raises `ConfigError` when it is not a number above 0.
    """
    if not 0 < tolerance < np.inf:
        raise ConfigError(f"The tolerance must be a number above 0; got {tolerance:g}.")


@dataclass(frozen=True, eq=False)
class Boundary:
    """Where a class begins and ends: the zero set of a function that is positive inside."""

    function: Callable[[Points], Scalars]
    """From points to values; a jump from positive to negative counts as a zero."""
    chunk_points: int
    """Given to `function` at once at most."""
    tolerance: float
    """How far from the boundary a point may lie, in the unit of the points."""

    @classmethod
    def of(cls, field: OccupancyField, class_index: int, tolerance: float) -> Boundary:
        """Return the boundary of a class of a field, as a function of the world."""
        return cls(
            lambda points: differences(field.scores(points), class_index), field.chunk_points, tolerance
        )

    def iter_values(self, points: Points) -> Evaluating:
        """Return the function at all points; yields after each chunk."""
        values = np.empty(len(points))
        for start in range(0, len(points), self.chunk_points):
            part = slice(start, start + self.chunk_points)
            values[part] = self.function(points[part])
            yield None
        return values

    def iter_zeros(self, start: Points, end: Points, at_start: Scalars, at_end: Scalars) -> Evaluating:
        """Return the share of the way from `start` to `end` at which the function is zero.

        By regula falsi in the variant "Illinois", which keeps the zero between two signs: it also finds where
        a function jumps.

        `at_start` and `at_end`: the function at both ends; where their signs agree, the share is not a
        number.
        """
        low, high = np.zeros(len(start)), np.ones(len(start))
        below, above = at_start.copy(), at_end.copy()
        share = np.where((below > 0) != (above > 0), below / _nonzero(below - above), np.nan)
        precision = PRECISION * self.tolerance / _nonzero(np.linalg.norm(end - start, axis=1))
        before = np.zeros(len(start))  # whose end moved last: where it moves again, the other one counts half
        left = np.flatnonzero(np.isfinite(share) & (below != 0) & (above != 0))
        for number in range(BRACKETINGS):
            if not left.size:
                break
            at = share[left][:, None]
            values = yield from self.iter_values((1 - at) * start[left] + at * end[left])
            is_low = (values > 0) == (below[left] > 0)
            nearer, farther = left[is_low], left[~is_low]
            above[nearer] *= np.where(before[nearer] > 0, 0.5, 1.0)
            below[farther] *= np.where(before[farther] < 0, 0.5, 1.0)
            before[left] = np.where(is_low, 1, -1)
            low[nearer], below[nearer] = share[nearer], values[is_low]
            high[farther], above[farther] = share[farther], values[~is_low]
            found = low[left] + (high - low)[left] * (below / _nonzero(below - above))[left]
            if number % 3 == 2:  # towards a jump, halving is the faster way
                found = (low[left] + high[left]) / 2
            moved = np.abs(found - share[left])
            share[left] = found
            is_near = (moved < precision[left]) | ((high - low)[left] < precision[left])
            left = left[~is_near & (values != 0)]
        return share

    def iter_offsets(self, points: Points, directions: Points, reach: Scalars, step: float) -> Evaluating:
        """Return how far the boundary is from points along a direction; not a number beyond `reach`.

        A zero within the first step is found by linear interpolation between two evaluations.

        `directions`: of length 1, roughly outwards: where the function is positive, it is followed forwards.
        `reach` and `step`: largest distance, and the first one that is tried; in the unit of the points.
        """
        here = yield from self.iter_values(points)
        side = np.where(here > 0, 1.0, -1.0)
        near, near_value = np.zeros(len(points)), here.copy()
        far, far_value = np.full(len(points), np.nan), np.full(len(points), np.nan)
        distance = np.minimum(step, reach)
        left = np.flatnonzero(here != 0)
        for _ in range(STEPS_OUT):
            if not left.size:
                break
            at = side[left] * distance[left]
            values = yield from self.iter_values(points[left] + at[:, None] * directions[left])
            is_over = (values > 0) != (here[left] > 0)
            crossed, beside = left[is_over], left[~is_over]
            far[crossed], far_value[crossed] = at[is_over], values[is_over]
            slope = (near_value[beside] - values[~is_over]) / _nonzero(
                distance[beside] - np.abs(near[beside])
            )
            guess = distance[beside] + 1.3 * np.abs(values[~is_over] / _nonzero(slope))
            near[beside], near_value[beside] = at[~is_over], values[~is_over]
            is_left = distance[beside] < reach[beside]
            limit = np.minimum(4 * distance[beside], reach[beside])
            distance[beside] = np.minimum(np.maximum(guess, 1.5 * distance[beside]), limit)
            left = beside[is_left]
        offsets = near + (far - near) * near_value / _nonzero(near_value - far_value)
        wide = np.flatnonzero(np.abs(far - near) > 1.01 * step)
        first, last = (points[wide] + each[wide, None] * directions[wide] for each in (near, far))
        share = yield from self.iter_zeros(first, last, near_value[wide], far_value[wide])
        offsets[wide] = near[wide] + share * (far - near)[wide]
        return np.where(here == 0, 0.0, offsets)

    def iter_nearest(self, points: Points, reach: Scalars) -> Evaluating:
        """Return where the boundary is nearest to points of a volume, among directions all around.

        Not a number where it is within reach of none.
        """
        around = _all_around()
        start = np.repeat(points, len(around), axis=0)
        directions, reach = np.tile(around, (len(points), 1)), np.repeat(reach, len(around))
        offsets = yield from self.iter_offsets(start, directions, reach, self.tolerance)
        far = np.nan_to_num(np.abs(offsets), nan=np.inf).reshape(len(points), len(around))
        best = np.arange(len(points)) * len(around) + far.argmin(axis=1)
        return start[best] + offsets[best, None] * directions[best]


def _all_around() -> Float[np.ndarray, "directions 3"]:
    """Return directions spread evenly over a sphere (a Fibonacci lattice)."""
    number = np.arange(DIRECTIONS) + 0.5
    height, angle = 1 - 2 * number / DIRECTIONS, np.pi * (1 + np.sqrt(5)) * number
    radius = np.sqrt(1 - height**2)
    return np.stack([height, radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _nonzero(values: Scalars) -> Scalars:
    """Return divisors, those of which are not zero."""
    return np.where(np.abs(values) < 1e-300, 1e-300, values)
