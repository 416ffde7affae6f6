"""Measurements of the agreement of label maps, and of single objects; and the headings of their tables."""

from typing import Literal

from swipe_core.images.units import symbol_of

Quantity = Literal["number", "percent", "length", "area", "size"]
"""What is measured: in no unit, as a share of 1 that tables show in percent, or in units of the world."""


def heading(text: str, quantity: Quantity, unit: str, ndim: int, *, is_plain: bool = False) -> str:
    """Return the heading of a column of measurements with its unit, such as ``"area [µm²]"``.

    `text`: in which "{size}" becomes "area" or "volume".
    `unit`: of the world, such as ``"micrometer"``.
    `ndim`: of the space: sizes are areas in 2D.
    `is_plain`: write ASCII alone, for files that other programs read: ``"area [um^2]"``.
    """
    symbol = symbol_of(unit, is_plain=is_plain)
    text = text.replace("{size}", "area" if ndim == 2 else "volume")
    match quantity:
        case "number":
            return text
        case "percent":
            return f"{text} [%]"
        case "length":
            return f"{text} [{symbol}]"
        case "area":
            return f"{text} [{symbol}{'^2' if is_plain else '²'}]"
        case "size":
            return f"{text} [{symbol}{f'^{ndim}' if is_plain else '²' if ndim == 2 else '³'}]"
