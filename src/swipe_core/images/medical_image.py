"""The nouns that files hold: an image, a label map, and a map of a quantity.

Arrays are in (z, y, x) order, and so is the world. An anatomical one is NIfTI's: its axes point to the right,
to the front and to the head of the patient (RAS). ITK and DICOM count to the left and to the back (LPS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float32, Integer, Shaped

from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError
from swipe_core.images.channels import ChannelAxis, Channels, stack_refused
from swipe_core.images.decoding import plain
from swipe_core.images.nifti_forms import NiftiForms
from swipe_core.images.orientation import Reorientation

Raster = TypeVar("Raster", bound="_Raster")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From ITK's and DICOM's world in (x, y, z) order to ours, and back."""


@dataclass(frozen=True)
class Space:
    """What a file states of the world that its affine leads to, besides the unit."""

    is_anatomical: bool = False
    """Whether the world's axes are those of the patient: in (z, y, x) order to the head, to the front and to
    the right. Images of microscopes, photographs and plain arrays have no such axes.
    """
    lengths: str = ""
    """Where lengths hold, if not in what is pictured: ``"at the detector"`` of an X-ray image."""
    nifti: NiftiForms | None = None
    """The forms of the image's header where it is NIfTI, for labels to carry."""


class _Raster:
    """What images, label maps and scalar maps have in common: an array, and its place in the world."""

    array: np.ndarray
    affine: Affine

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """World distance between neighbouring voxels along each axis."""
        return self.affine.spacing

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, self.affine)

    def reoriented(self: Raster, orientation: str) -> Raster:
        """Return the same voxels at the same places, their axes permuted and flipped to an orientation.

        The world must be anatomical; `swipe_core.images.orientation` says what an orientation is.
        """
        change = Reorientation.between(self.affine, orientation)
        affine = change.affine(self.affine, self.shape)
        return replace(self, array=change.array(self.array), affine=affine)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class MedicalImage(_Raster):
    """An image of two or three dimensions, and where it lies in the world.

    Parameters
    ----------
    array : (*shape, channels)
        Intensities as the file has them, in native byte order. Spatial axes first, in
        (y, x) or (z, y, x) order; the channel axis is always there.
    affine : Affine
        Voxel frame to world; the world axes are in the same (z, y, x) order.
    unit : str
        Of the world: ``"millimeter"``, ``"micrometer"``, ... or ``"pixel"`` where unknown.
    path : Path, optional
        The file it came from.
    space : Space
        What is known of the world.
    channel_axis : str
        What the last axis counts: ``"colour"`` only where red, green and blue are declared.
    channel_names : tuple of str
        One for each, or none.
    """

    array: Shaped[np.ndarray, "*shape channels"]
    affine: Affine
    unit: str
    path: Path | None = None
    space: Space = Space()
    channel_axis: ChannelAxis = "channel"
    channel_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != self.affine.ndim + 1:
            raise ValueError(
                f"An image with a {self.affine.ndim}D affine needs as many spatial axes and one of channels; "
                f"got an array of shape {self.array.shape}."
            )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.affine.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, without channels."""
        return self.array.shape[:-1]

    @property
    def channels(self) -> int:
        return int(self.array.shape[-1])

    @property
    def channel_kinds(self) -> Channels:
        """What the channels are."""
        return Channels(self.channels, self.channel_axis, self.channel_names)

    def with_channels(self, chosen: Sequence[str]) -> MedicalImage:
        """Return the channels of these numbers, from 1 on, or names, in this order; three are colours.

        Raises
        ------
        ImageError
            When one of them is not there.
        """
        positions = self.channel_kinds.positions(chosen, self.name)
        channels = self.channel_kinds.chosen(positions)
        array = self.array[..., positions]
        return replace(self, array=array, channel_axis=channels.axis, channel_names=channels.names)

    @property
    def name(self) -> str:
        """What to call it in a message to the user."""
        return str(self.path) if self.path else "The image"

    def window(self, start: Sequence[int], shape: Sequence[int]) -> MedicalImage:
        """Return a part of the image, in its place in the world: `shape` voxels from the voxel `start` on.

        Raises
        ------
        ImageError
            When the part has no voxels, or reaches beyond the image.
        """
        require_inside(self.name, self.shape, start, shape)
        stop = [a + n for a, n in zip(start, shape, strict=True)]
        array = self.array[tuple(slice(first, last) for first, last in zip(start, stop, strict=True))]
        return replace(self, array=array, affine=self.grid.window(start, shape).affine)


def require_inside(name: str, whole: Sequence[int], start: Sequence[int], shape: Sequence[int]) -> None:
    """See that a part of an image has voxels, all of them inside it.

    Raises `ImageError` when it has not.
    """
    axes = zip(start, shape, whole, strict=True)
    if not all(a >= 0 and n > 0 and a + n <= length for a, n, length in axes):
        part = " x ".join(f"{a}:{a + n}" for a, n in zip(start, shape, strict=True))
        raise ImageError(
            f"{name} has {' x '.join(map(str, whole))} voxels, and the part {part} is not "
            "inside it: choose a first voxel from 0 on, and an end behind it and within the image."
        )


@dataclass(frozen=True, eq=False)
class LabelMap(_Raster):
    """One class, or one instance, per voxel.

    Parameters
    ----------
    array : (*shape) integer
        As many axes as the affine, in (y, x) or (z, y, x) order; 0 is background.
    affine, unit, path, space
        As in `MedicalImage`.
    """

    array: Integer[np.ndarray, "*shape"]
    affine: Affine
    unit: str
    path: Path | None = None
    space: Space = Space()

    def __post_init__(self) -> None:
        if self.array.ndim != self.affine.ndim or not np.issubdtype(self.array.dtype, np.integer):
            raise ValueError(
                f"A label map with a {self.affine.ndim}D affine needs an integer array of as many axes; "
                f"got {self.array.dtype} of shape {self.array.shape}."
            )


@dataclass(frozen=True, eq=False)
class ScalarMap(_Raster):
    """A quantity at each voxel, such as the probability of a class.

    Parameters
    ----------
    array : (*shape) float32
        As many axes as the affine, in (y, x) or (z, y, x) order, in the range of the quantity: [0, 1] for
        probabilities.
    affine, unit, path, space
        As in `MedicalImage`.
    name : str
        Of the quantity, in the user's words.
    """

    array: Float32[np.ndarray, "*shape"]
    affine: Affine
    unit: str
    name: str
    path: Path | None = None
    space: Space = Space()

    def __post_init__(self) -> None:
        if self.array.ndim != self.affine.ndim or self.array.dtype != np.float32:
            raise ValueError(
                f"A scalar map with a {self.affine.ndim}D affine needs a float32 array of as many axes; "
                f"got {self.array.dtype} of shape {self.array.shape}."
            )


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

    Raises `ImageError` when the image has other axes than needed, or the matrix is singular.

    `matrix` (4, 4): (x, y, z) voxels to (x, y, z) world.
    `ndim`: how many axes are needed. With 2, a volume of a single slice is a 2D image.
    `is_flat`: whether the file itself calls its single slice a 2D image.
    `is_anatomical`: whether the file states where right, front and head of the patient are. A 2D image has no
    such axes.
    `frames`: what the first of three axes counts, in messages.
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
