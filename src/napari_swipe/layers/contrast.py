"""In which contrast an image opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from swipe_core.images import MedicalImage

SOFT_TISSUE = (-160.0, 240.0)  # Hounsfield units: a window of 400 around 40
PERCENTILES = (0.5, 99.5)
LOOKED_AT = 2**20  # values
AIR, DENSEST = -500.0, 3100.0  # what lies between the percentiles of a CT: much air, and no phase or velocity


def opening_contrast(image: MedicalImage) -> tuple[float, float] | None:
    """Return black and white of an image as it opens; None where napari's own are right (bytes, constants).

    A volume of a patient that holds the values of air in Hounsfield units is a CT, and opens in the window
    of soft tissue. Of others the darkest and the brightest few voxels are left out.
    """
    array = image.array
    if array.dtype.itemsize == 1:
        return None
    values = array.reshape(-1)[:: max(1, array.size // LOOKED_AT)]
    low, high = (float(value) for value in np.percentile(values.astype(np.float64), PERCENTILES))
    if image.space.is_anatomical and image.ndim == 3 and low < AIR and 0 < high < DENSEST:
        return SOFT_TISSUE
    if not low < high:
        low, high = float(array.min()), float(array.max())
    return (low, high) if low < high else None
