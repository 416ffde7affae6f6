"""Units of length, under the many names that files give them."""

from __future__ import annotations

METRES = {
    "meter": 1.0,
    "centimeter": 1e-2,
    "millimeter": 1e-3,
    "micrometer": 1e-6,
    "nanometer": 1e-9,
}

_NAMES = {
    "m": "meter",
    "metre": "meter",
    "cm": "centimeter",
    "mm": "millimeter",
    "micron": "micrometer",
    "microns": "micrometer",
    "um": "micrometer",
    "\N{MICRO SIGN}m": "micrometer",
    "\N{GREEK SMALL LETTER MU}m": "micrometer",
    "\\u00b5m": "micrometer",  # ImageJ escapes what is not ASCII
    "nm": "nanometer",
}


def unit_named(name: str | None) -> str:
    """One of the keys of `METRES` for any usual spelling, else ``"pixel"``."""
    folded = (name or "").strip().lower()
    folded = _NAMES.get(folded, folded)
    return folded if folded in METRES else "pixel"


def conversion(unit: str, target: str) -> float:
    """How many `target` one `unit` is; 1 between units that are no lengths."""
    if unit not in METRES or target not in METRES or unit == target:
        return 1.0
    # A quotient of powers of ten, rounded so that 1 centimeter is exactly 10 millimeter.
    return float(f"{METRES[unit] / METRES[target]:.12g}")
