"""NIfTI: (x, y, z) arrays in a right-anterior-superior world, here turned to (z, y, x)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images.decoding import decoding, plain
from swipe_core.images.medical_image import LabelMap, MedicalImage
from swipe_core.images.units import conversion

UNITS = {"unknown": "millimeter", "mm": "millimeter", "micron": "micrometer", "meter": "meter"}
CODES = {"millimeter": "mm", "micrometer": "micron", "meter": "meter", "pixel": "unknown"}


def read_nifti(path: Path, ndim: int | None = None, as_labels: bool = False) -> MedicalImage:
    """Read an image of NIfTI-1 or NIfTI-2, scaled by its slope and intercept.

    The affine is the sform, or the qform where there is no sform. A fourth axis, the
    vector axis (the fifth) and the parts of an RGB voxel become channels. Millimetres are
    assumed where the file does not know its unit.

    Parameters
    ----------
    path : Path
    ndim : int, optional
        With 2, a volume of a single slice is a 2D image. Else as many as the file has.
    as_labels : bool
        Makes no difference here.

    Raises
    ------
    ImageError
        When the file is damaged, has axes that cannot be placed, or a singular affine.
    """
    import nibabel
    from nibabel.nifti1 import Nifti1Image

    with decoding(path, "NIfTI"):
        nifti = nibabel.load(path, mmap=False)
        if not isinstance(nifti, Nifti1Image):
            raise ImageError(f"{path} is a file of type {type(nifti).__name__}, not NIfTI; convert it first.")
        stored = np.asanyarray(nifti.dataobj)
        matrix = np.array(nifti.affine, dtype=np.float64)
        unit = UNITS[nifti.header.get_xyzt_units()[0]]
    array = _channels_last(stored, path)
    if stored.ndim == 2 or (ndim == 2 and array.shape[0] == 1):
        array, matrix = array[0], _plane(matrix)
    if ndim not in (None, array.ndim - 1):
        raise ImageError(
            f"{path} is a {array.ndim - 1}D image of shape {array.shape[:-1]}; a {ndim}D one is needed here."
        )
    affine = _reversed(matrix)
    if not _is_invertible(affine):
        raise ImageError(f"{path} has an affine that does not place its voxels in space; repair its header.")
    return MedicalImage(plain(array), affine, unit, path)


def _channels_last(
    stored: Shaped[np.ndarray, "x *others"], path: Path
) -> Shaped[np.ndarray, "z y x channels"]:
    names = [name for name in stored.dtype.names or () if name in "RGB"]
    values = np.stack([stored[name] for name in names], axis=-1) if names else stored[..., None]
    if values.dtype.kind not in "biuf":
        raise ImageError(f"{path} holds {values.dtype} values; real numbers are needed here.")
    spatial = (*stored.shape, 1, 1)[:3]
    others = (*stored.shape[3:], values.shape[-1])
    if sum(n > 1 for n in others) > 1:
        raise ImageError(
            f"{path} has shape {stored.shape}: only one axis after the third can be channels; split the file."
        )
    return values.reshape(*spatial, max(others)).transpose(2, 1, 0, 3)


def _plane(matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 3"]:
    """The in-plane part of an affine in (x, y); of a slice that is tilted in space, its spacing."""
    if not matrix[2, :2].any():
        return matrix[np.ix_([0, 1, 3], [0, 1, 3])]
    return Affine.from_spacing(np.linalg.norm(matrix[:3, :2], axis=0).tolist()).matrix


def _reversed(matrix: Float[np.ndarray, "rows rows"]) -> Affine:
    """The affine with its voxel and its world axes both in the opposite order."""
    order = [*reversed(range(len(matrix) - 1)), len(matrix) - 1]
    return Affine(matrix[np.ix_(order, order)])


def _is_invertible(affine: Affine) -> bool:
    volume = np.prod(affine.spacing)
    return bool(np.isfinite(affine.matrix).all() and abs(np.linalg.det(affine.linear)) > 1e-6 * volume)


def write_nifti(path: Path, label_map: LabelMap) -> None:
    """Write a label map; its affine is exact to the single precision of the format.

    The sform holds the affine always, the qform where it can (no shear). Units that NIfTI
    lacks are written as millimetres.
    """
    from nibabel.nifti1 import Nifti1Image

    unit = label_map.unit if label_map.unit in CODES else "millimeter"
    kept = [*range(label_map.ndim), 3]
    matrix = np.eye(4)
    matrix[np.ix_(kept, kept)] = _reversed(label_map.affine.matrix).matrix
    matrix[:3] *= conversion(label_map.unit, unit)
    nifti = Nifti1Image(np.ascontiguousarray(label_map.array).T, matrix)
    nifti.set_sform(matrix, code="scanner")
    nifti.set_qform(matrix, code="scanner" if _is_shearless(Affine(matrix)) else "unknown")
    nifti.header.set_xyzt_units(xyz=CODES[unit])
    nifti.to_filename(path)


def _is_shearless(affine: Affine) -> bool:
    return np.allclose(affine.direction.T @ affine.direction, np.eye(affine.ndim), atol=1e-6)
