"""Units of length, under the many names that files give them."""

import math
from collections.abc import Collection, Sequence

PIXEL = "pixel"
"""The unit of a world in which nothing says how long anything is."""

_PREFIXES = {
    **{"yotta": ("Y", 24), "zetta": ("Z", 21), "exa": ("E", 18), "peta": ("P", 15), "tera": ("T", 12)},
    **{"giga": ("G", 9), "mega": ("M", 6), "kilo": ("k", 3), "hecto": ("h", 2), "deca": ("da", 1)},
    **{"": ("", 0), "deci": ("d", -1), "centi": ("c", -2), "milli": ("m", -3), "micro": ("u", -6)},
    **{"nano": ("n", -9), "pico": ("p", -12), "femto": ("f", -15), "atto": ("a", -18)},
    **{"zepto": ("z", -21), "yocto": ("y", -24)},
}
_OTHERS = {
    "angstrom": ("angstrom", 1e-10),
    "inch": ("in", 0.0254),
    "foot": ("ft", 0.3048),
    "yard": ("yd", 0.9144),
    "mile": ("mi", 1609.344),
}

METRES = {f"{prefix}meter": float(f"1e{power}") for prefix, (_, power) in _PREFIXES.items()} | {
    name: metres for name, (_, metres) in _OTHERS.items()
}
"""How long each unit is. The names are those of OME-Zarr, which napari's units know too."""

SYMBOLS = {f"{prefix}meter": f"{symbol}m" for prefix, (symbol, _) in _PREFIXES.items()} | {
    name: symbol for name, (symbol, _) in _OTHERS.items()
}
"""How each unit is written after a number, in plain ASCII."""

_WRITTEN = {PIXEL: "px", "micrometer": "µm", "angstrom": "Å"}
_NAMES = {symbol: unit for unit, symbol in SYMBOLS.items()} | {
    "micron": "micrometer",
    "microns": "micrometer",
    "\N{MICRO SIGN}m": "micrometer",
    "\N{GREEK SMALL LETTER MU}m": "micrometer",
    "\\u00b5m": "micrometer",  # ImageJ escapes what is not ASCII
    "\N{ANGSTROM SIGN}": "angstrom",
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": "angstrom",
    "\\u00c5": "angstrom",
    "a": "angstrom",
    "inches": "inch",
    '"': "inch",
    "feet": "foot",
}


def unit_named(name: str | None) -> str:
    """Return one of the keys of `METRES` for any usual spelling, else ``"pixel"``.

    Case matters only between "Mm" and "mm" and the like.
    """
    given = (name or "").strip()
    for spelling in (given, given.lower()):
        found = _NAMES.get(spelling, spelling.replace("metre", "meter"))
        for unit in (found, found.removesuffix("s")):
            if unit in METRES:
                return unit
    return PIXEL


def symbol_of(unit: str, *, is_plain: bool = True) -> str:
    """Return a unit as it is written after a number; one that is no length by its name.

    It is in ASCII, or, where it is not `is_plain`, as people write it: "µm", "px".
    """
    plain = SYMBOLS.get(unit, unit)
    return plain if is_plain else _WRITTEN.get(unit, plain)


def conversion(unit: str, target: str) -> float:
    """Return how many `target` one `unit` is; 1 between units that are no lengths."""
    if unit not in METRES or target not in METRES or unit == target:
        return 1.0
    # A quotient of decimal numbers, rounded so that 1 centimeter is exactly 10 millimeter.
    return float(f"{METRES[unit] / METRES[target]:.12g}")


def common_unit(units: Sequence[str]) -> tuple[str, tuple[float, ...]]:
    """Return one unit for axes that each have their own, that of the last axis, and the factors to it.

    Where one axis has no unit of length there is none for all: it is the pixel.
    """
    if not units or any(unit not in METRES for unit in units):
        return PIXEL, (1.0,) * len(units)
    return units[-1], tuple(conversion(unit, units[-1]) for unit in units)


def writable_unit(unit: str, known: Collection[str]) -> str:
    """Return the unit in which a format states lengths: their own if known, else the nearest in size."""
    if unit not in METRES:
        return unit
    return min(known, key=lambda name: abs(math.log(METRES[name] / METRES[unit])))
