"""The two forms of a NIfTI header, each of which places the voxels in a world of its own.

The sform is any affine, the qform a rotation with the spacing of the header; each has a code, which is 0
where the form says nothing. Programs choose by rules of their own: nibabel takes the sform, ITK often the
qform. So labels carry both forms of their image, each composed with the way from the labels' voxels to the
image's: whichever form a program takes, the two lie over each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from swipe_core.coordinates import Affine
from swipe_core.images.units import conversion

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

SCANNER, ALIGNED = 1, 2  # codes
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class NiftiForms:
    """Where the header of an image puts its voxels; matrices lead from (x, y, z) voxels to such worlds."""

    affine: Affine
    unit: str
    """`affine` and `unit`: of the image, as in `MedicalImage`."""
    sform: Float[np.ndarray, "4 4"]
    sform_code: int
    qform: Float[np.ndarray, "4 4"]
    qform_code: int
    """`sform`, `sform_code`, `qform` and `qform_code`: of the header. Where both codes are 0, what nibabel
    takes in place of the sform, and ITK in place of the qform: one centres the volume, the other begins at 0.
    """
    spacing: Float[np.ndarray, "3"]
    """(3,): Along x, y and z, in the header's own field, with which the sform need not agree."""
    unit_code: int
    """That of the unit of length in the header; 0 where it states none."""

    @classmethod
    def read(cls, header: Nifti1Header, affine: Affine, unit: str, unit_code: int) -> NiftiForms:
        """Read the forms of a header, whose image has an affine in our order of axes."""
        sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
        spacing = np.abs(np.array(header["pixdim"][1:4], np.float64))
        return cls(
            affine=affine,
            unit=unit,
            sform=header.get_sform() if sform_code else header.get_base_affine(),
            sform_code=sform_code,
            qform=_qform(header) if qform_code else np.diag([*(spacing * (-1, -1, 1)), 1.0]),
            qform_code=qform_code,
            spacing=spacing,
            unit_code=unit_code,
        )

    def composed(self, affine: Affine, unit: str) -> NiftiForms:
        """Return the forms of other voxels of as many axes, which have this affine to the image's world."""
        factor = Affine.from_spacing([conversion(unit, self.unit)] * affine.ndim)
        to_voxels = in_xyz(self.affine.inverse() @ factor @ affine)
        codes = (self.sform_code, self.qform_code)
        if codes == (0, 0) and not np.allclose(to_voxels, np.eye(4), atol=TOLERANCE):
            codes = (ALIGNED, SCANNER)  # only so can a part of the image be placed
        qform = self.qform @ to_voxels
        return NiftiForms(
            affine=affine,
            unit=unit,
            sform=self.sform @ to_voxels,
            sform_code=codes[0],
            qform=qform,
            qform_code=codes[1] if is_shearless(Affine(qform)) else 0,
            spacing=np.linalg.norm(np.diag(self.spacing) @ to_voxels[:3, :3], axis=0),
            unit_code=self.unit_code,
        )

    @property
    def stated(self) -> list[Float[np.ndarray, "4 4"]]:
        """The matrices of those forms that say something."""
        forms = ((self.sform, self.sform_code), (self.qform, self.qform_code))
        return [matrix for matrix, code in forms if code]

    def write(self, header: Nifti1Header) -> None:
        """Set them in a header, and the spacing with them."""
        if self.qform_code:
            header.set_qform(self.qform, self.qform_code)
        if self.sform_code:
            header.set_sform(self.sform, self.sform_code)
        header["sform_code"], header["qform_code"] = self.sform_code, self.qform_code
        header["pixdim"][1:4] = self.spacing


def _qform(header: Nifti1Header) -> Float[np.ndarray, "4 4"]:
    """Return the matrix of the qform; a quaternion that is too long is shortened, as by ITK."""
    fields = [f"quatern_{axis}" for axis in "bcd"]
    length = np.linalg.norm([float(header[field]) for field in fields])
    if length > 1:
        header = header.copy()
        for field in fields:
            header[field] = header[field] / length
    return header.get_qform()


def in_xyz(affine: Affine) -> Float[np.ndarray, "4 4"]:
    """Return an affine in (z, y, x) or (y, x) order as a matrix in (x, y, z) order, of three axes always."""
    matrix = np.eye(4)
    kept = [*range(affine.ndim), 3]
    order = [*reversed(range(affine.ndim)), affine.ndim]
    matrix[np.ix_(kept, kept)] = affine.matrix[np.ix_(order, order)]
    return matrix


def is_shearless(affine: Affine) -> bool:
    """Whether the axes are at right angles to each other."""
    return np.allclose(affine.direction.T @ affine.direction, np.eye(affine.ndim), atol=TOLERANCE)
