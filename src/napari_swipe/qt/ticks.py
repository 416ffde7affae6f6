"""Ticks of an axis: where they are, and what they say."""

from __future__ import annotations

import math

Ticks = list[tuple[float, str]]

FEWEST_TICKS = 3
TICK_MARGIN = 0.06  # of the vertical range, where a number would be cut off
# Of every power of ten; the first that gives enough ticks is taken.
LOG_TICKS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0))


def log_ticks(low: float, high: float) -> Ticks:
    """Ticks of a logarithmic axis between two exponents of 10, but none where it ends."""
    ticks: Ticks = []
    margin = TICK_MARGIN * (high - low)
    for factors in LOG_TICKS:
        decades = range(math.floor(low), math.floor(high) + 1)
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        places = [(math.log10(value), f"{value:.3g}") for value in values]
        ticks = [(place, text) for place, text in places if low + margin <= place <= high - margin]
        if len(ticks) >= FEWEST_TICKS:
            return ticks
    return ticks
