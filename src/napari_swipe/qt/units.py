"""Numbers with their units, as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swipe_core.checkpoints.header import ModelDescription


def short_unit(unit: str) -> str:
    """A unit as it is written after a number."""
    from swipe_core.images.units import symbol_of

    return symbol_of(unit, is_plain=False)


def spacing_text(model: ModelDescription) -> str:
    """The spacing that a model brings images to: "1 × 1 × 1 mm"."""
    steps = " × ".join(f"{step:g}" for step in model.spacing or ())
    return f"{steps} {short_unit(model.spacing_unit or '')}".rstrip()


def readable_factor(factor: float) -> str:
    """A resolution beside that of the image: "4x", "1/2x"."""
    return f"{factor:.3g}x" if factor > 0.995 else f"1/{1 / factor:.3g}x"


def duration(seconds: float) -> str:
    """A span of time: "0.4 s", "12 s", "3 min", "2.5 h"."""
    if seconds < 1:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
