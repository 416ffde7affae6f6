"""What people look at: label maps over images, sheets of them, curves of a training, lines that compare.

Pictures are uint8 RGB arrays (height, width, 3) until `write_png` makes files of them. A slice of a
volume is drawn like an image; which slice is the caller's choice.
"""

from swipe_core.pictures.charts import write_curves, write_lines
from swipe_core.pictures.overlays import (
    CLASS_COLOURS,
    RGB,
    default_colours,
    fitted_shape,
    heat,
    overlay,
    to_rgb,
    write_png,
)
from swipe_core.pictures.sheets import Panel, contact_sheet

__all__ = [
    "CLASS_COLOURS",
    "RGB",
    "Panel",
    "contact_sheet",
    "default_colours",
    "fitted_shape",
    "heat",
    "overlay",
    "to_rgb",
    "write_curves",
    "write_lines",
    "write_png",
]
