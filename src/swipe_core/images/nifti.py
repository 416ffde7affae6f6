"""NIfTI: (x, y, z) arrays in a right-anterior-superior world, here turned to (z, y, x)."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from jaxtyping import Shaped

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images.channels import ChannelAxis
from swipe_core.images.decoding import decoding, require_room
from swipe_core.images.formats import ImageHeader
from swipe_core.images.medical_image import LabelMap, MedicalImage, ScalarMap, placed
from swipe_core.images.nifti_forms import SCANNER, NiftiForms, in_xyz, is_shearless
from swipe_core.images.units import conversion, writable_unit

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

UNITS = {1: "meter", 2: "millimeter", 3: "micrometer"}  # by the spatial bits of the header's code
SPATIAL_BITS = 7
GZIP_EXPANSION = 1032  # at most, by the limits of deflate
BLOCK = 2**20
LABEL_INTENT = 1002  # NIfTI's code for "every voxel is a number out of a set of labels"
NOT_ANATOMICAL = b"Axes are not anatomical"  # in the header's description
CODES = {unit: code for code, unit in UNITS.items()}
MILLIMETRES = CODES["millimeter"]


def read_nifti(path: Path, ndim: int | None = None, as_labels: bool = False) -> MedicalImage:
    """Read an image of NIfTI-1 or NIfTI-2, scaled by its slope and intercept.

    The affine is the sform, or the qform where there is no sform. A fourth axis, the
    vector axis (the fifth) and the parts of an RGB voxel become channels. A file without a
    unit is in millimetres, as all programs take it, unless it was written here of an image
    that has none. Where `ndim` is 2, a volume of a single slice is a 2D image.
    """
    with decoding(path, "NIfTI"):
        nifti = _load(path)
        stored = _stored(path, nifti)
        matrix = np.array(nifti.affine, dtype=np.float64)
        unit_code = int(nifti.header["xyzt_units"]) & SPATIAL_BITS
        is_marked = nifti.header["descrip"].item() == NOT_ANATOMICAL
        unit = UNITS.get(unit_code, "pixel" if is_marked else "millimeter")
        is_anatomical = _is_anatomical(nifti)
    values, is_flat = _channels_last(stored, path), stored.ndim == 2
    image = placed(values, matrix, unit, path, ndim, is_flat, is_anatomical=is_anatomical)
    forms = NiftiForms.read(nifti.header, image.affine, unit, unit_code)
    axis = _channel_axis(stored)
    return replace(image, space=replace(image.space, nifti=forms), channel_axis=axis)


def read_nifti_header(path: Path) -> ImageHeader:
    """Read a header."""
    from nibabel.arrayproxy import ArrayProxy

    with decoding(path, "NIfTI"):
        nifti = _load(path)
        others, dtype, on_disk = nifti.shape[3:], nifti.get_data_dtype(), nifti.dataobj
        # The header itself forgets them once it is read.
        is_scaled = isinstance(on_disk, ArrayProxy) and (on_disk.slope, on_disk.inter) != (1, 0)
        intent = int(nifti.header["intent_code"])
    return ImageHeader(
        channels=max([*others, len(dtype.names or "1")]),
        is_integer=dtype.kind in "iu" and not is_scaled,
        is_declared_labels=intent == LABEL_INTENT,
    )


def _is_anatomical(nifti: Nifti1Image) -> bool:
    """Whether a form says where the patient's axes are; what is written of other images denies it."""
    header = nifti.header
    has_form = bool(header["sform_code"] or header["qform_code"])
    return has_form and header["descrip"].item() != NOT_ANATOMICAL


def _load(path: Path) -> Nifti1Image:
    """Open a file: its header, and its voxels once they are needed."""
    import nibabel
    from nibabel.nifti1 import Nifti1Image

    nifti = nibabel.load(path, mmap=False)
    if not isinstance(nifti, Nifti1Image):
        raise ImageError(f"{path} is a file of type {type(nifti).__name__}, not NIfTI; convert it first.")
    return nifti


def _stored(path: Path, nifti: Nifti1Image) -> Shaped[np.ndarray, "x *others"]:
    """Read the voxels, scaled; of a compressed file the checksum is compared."""
    from nibabel.arrayproxy import ArrayProxy

    lazy = cast("ArrayProxy", nifti.dataobj)  # as of every file
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    size = path.stat().st_size
    most = size * GZIP_EXPANSION if is_compressed else size - lazy.offset
    require_room(path, lazy.shape, lazy.dtype.itemsize, most=most)
    if not is_compressed:
        return np.asanyarray(lazy)
    # nibabel stops behind the last voxel, and so never comes to the checksum at the end.
    with gzip.open(path) as stream:
        layout = (lazy.shape, lazy.dtype, lazy.offset, lazy.slope, lazy.inter)
        stored = np.asanyarray(ArrayProxy(stream, layout, mmap=False))
        _read_to_end(stream)
    return stored


def _read_to_end(stream: gzip.GzipFile) -> None:
    """Compare the checksum; what follows the compressed bytes, and is no member of its own, is no fault."""
    try:
        while stream.read(BLOCK):
            pass
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):
            raise


def _channel_axis(stored: Shaped[np.ndarray, "x *others"]) -> ChannelAxis:
    """Name the channels: by the standard the fourth axis is time, and the fifth the vector's parts."""
    if stored.dtype.names:
        return "colour"
    return "time" if stored.ndim > 3 and stored.shape[3] > 1 else "channel"


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


def write_nifti(path: Path, values: LabelMap | ScalarMap | MedicalImage) -> None:
    """Write a map or an image; its affine is exact to the single precision of the format.

    Several channels become the fourth axis, and colours of bytes RGB voxels.

    What was made of a NIfTI image has the forms of its header, with their codes. Else the sform
    holds the affine, and the qform where it can (no shear); lengths in units that NIfTI lacks are
    written in the nearest one. A label map has the intent "label", which tells other programs what
    it is. Of an image whose world has no anatomical axes, or no unit, the description says so,
    since the format implies them.
    """
    from nibabel.nifti1 import Nifti1Image

    array = (
        _channels_fourth(values) if isinstance(values, MedicalImage) else np.ascontiguousarray(values.array).T
    )
    nifti = Nifti1Image(array, None, dtype=array.dtype)  # without its type, nibabel refuses 64-bit ones
    forms = _forms_of(values)
    forms.write(nifti.header)
    nifti.header["xyzt_units"] = forms.unit_code
    if values.unit == "pixel" or (isinstance(values, MedicalImage) and not values.space.is_anatomical):
        nifti.header["descrip"] = NOT_ANATOMICAL
    if isinstance(values, LabelMap):
        nifti.header.set_intent(LABEL_INTENT)
    nifti.to_filename(path)


def _channels_fourth(image: MedicalImage) -> Shaped[np.ndarray, "x y *others"]:
    if image.array.dtype.kind not in "iuf" or image.array.dtype == np.float16:
        raise ImageError(
            f"{image.name}: a NIfTI file holds whole numbers, or real ones of 32 or 64 bits, and not "
            f"{image.array.dtype}; convert the image."
        )
    if image.channel_kinds.is_colour and image.array.dtype == np.uint8:
        voxels = np.ascontiguousarray(image.array).view([(letter, "u1") for letter in "RGB"])
        return voxels[..., 0].T
    first = np.moveaxis(image.array, -1, 0).T  # (x, y, channels) or (x, y, z, channels)
    if image.channels == 1:
        return first[..., 0]
    return first[:, :, None] if image.ndim == 2 else first


def _forms_of(values: LabelMap | ScalarMap | MedicalImage) -> NiftiForms:
    """Say where the header is to put the voxels."""
    source = values.space.nifti
    if source is not None and source.affine.ndim == values.ndim:
        forms = source.composed(values.affine, values.unit)
        is_silent = forms.unit_code == 0 and values.unit != "pixel" and isinstance(values, MedicalImage)
        return replace(forms, unit_code=MILLIMETRES) if is_silent else forms
    unit = writable_unit(values.unit, CODES)
    factor = Affine.from_spacing([conversion(values.unit, unit)] * values.ndim)
    matrix = in_xyz(factor @ values.affine)
    return NiftiForms(
        affine=values.affine,
        unit=values.unit,
        sform=matrix,
        sform_code=SCANNER,
        qform=matrix,
        qform_code=SCANNER if is_shearless(Affine(matrix)) else 0,
        spacing=np.linalg.norm(matrix[:3, :3], axis=0),
        unit_code=CODES.get(unit, 0),
    )
