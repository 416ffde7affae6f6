"""From the (x, y, z) axes of medical formats to arrays in (z, y, x) order in one anatomical world.

The world is NIfTI's: its axes point to the right, to the front and to the head of the patient (RAS),
and it is in (z, y, x) order too. ITK and DICOM count to the left and to the back instead (LPS).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images.channels import stack_refused
from swipe_core.images.decoding import plain
from swipe_core.images.medical_image import MedicalImage, Space

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From ITK's and DICOM's world in (x, y, z) order to ours, and back."""


def placed(
    array: Shaped[np.ndarray, "z y x channels"],
    matrix: Float[np.ndarray, "4 4"],
    unit: str,
    path: Path,
    ndim: int | None = None,
    is_flat: bool = False,
    *,
    is_anatomical: bool,
    frames: str = "slices",
) -> MedicalImage:
    """Return an image from its voxels and the matrix of its header.

    Parameters
    ----------
    array : (z, y, x, channels)
    matrix : (4, 4)
        (x, y, z) voxels to (x, y, z) world.
    unit, path
        As in `MedicalImage`.
    ndim : int, optional
        How many axes are needed. With 2, a volume of a single slice is a 2D image.
    is_flat : bool
        Whether the file itself calls its single slice a 2D image.
    is_anatomical : bool
        Whether the file states where right, front and head of the patient are. A 2D image has no such axes.
    frames : str
        What the first of three axes counts, in messages.
    """
    if is_flat or (ndim == 2 and array.shape[0] == 1):
        array, matrix = array[0], _plane(matrix)
    found = array.ndim - 1
    if (ndim, found) == (2, 3):
        sizes = " x ".join(map(str, array.shape[1:-1]))
        raise stack_refused(path, f"a stack of {array.shape[0]} {frames} of {sizes} voxels")
    if ndim not in (None, found):
        raise ImageError(
            f"{path} is a {found}D image of shape {array.shape[:-1]}; a {ndim}D one is needed here."
        )
    affine = reversed_axes(matrix)
    if not _is_invertible(affine):
        raise ImageError(f"{path} has an affine that does not place its voxels in space; repair its header.")
    return MedicalImage(plain(array), affine, unit, path, Space(is_anatomical and found == 3))


def reversed_axes(matrix: Float[np.ndarray, "rows rows"]) -> Affine:
    """Return the affine with its voxel and its world axes both in the opposite order."""
    order = [*reversed(range(len(matrix) - 1)), len(matrix) - 1]
    return Affine(matrix[np.ix_(order, order)])


def _plane(matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 3"]:
    """Return the in-plane part of an affine in (x, y); of a slice that is tilted in space, its spacing."""
    if not matrix[2, :2].any():
        return matrix[np.ix_([0, 1, 3], [0, 1, 3])]
    return Affine.from_spacing(np.linalg.norm(matrix[:3, :2], axis=0).tolist()).matrix


def _is_invertible(affine: Affine) -> bool:
    if not np.isfinite(affine.matrix).all():
        return False
    with np.errstate(over="ignore", under="ignore"):  # where a volume is no number, it is not invertible
        return bool(abs(np.linalg.det(affine.linear)) > 1e-6 * np.prod(affine.spacing))
