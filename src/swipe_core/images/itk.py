"""NRRD and MetaImage files, through SimpleITK: the extra ``medical``."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from swipe_core.errors import ImageError
from swipe_core.images.channels import ChannelAxis
from swipe_core.images.decoding import SILENT_CONSOLE, decoding, extra_library, reason, require_room
from swipe_core.images.formats import ImageHeader
from swipe_core.images.medical_image import LPS_TO_RAS, LabelMap, MedicalImage, placed, reversed_axes
from swipe_core.images.units import (
    METRES,
    PIXEL,
    common_unit,
    conversion,
    symbol_of,
    unit_named,
    writable_unit,
)

if TYPE_CHECKING:
    from SimpleITK import Image, ImageFileReader


LONGEST_HEADER = 2**20  # bytes
BLOCK = 2**20
PATIENT = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
ANATOMICAL_SPACES = {
    name
    for space in PATIENT
    for full in (space, f"{space}-time")
    for name in (full, "".join(word[0] for word in full.split("-")))  # and "ras", "rast"
}
SCANNER_SPACES = {"scanner-xyz", "scanner-xyz-time"}
DATA_FILE = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=.*\n?", re.MULTILINE | re.IGNORECASE)


def nrrd_fields(path: Path) -> dict[str, str]:
    """Return the fields of an NRRD's header, by name in lower case."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER).replace(b"\r\n", b"\n")
    return _fields(start.split(b"\n\n", 1)[0], ": ")


def metaimage_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a MetaImage's header, by name in lower case, and where it ends."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
    last = DATA_FILE.search(start)
    if last is None:
        raise ImageError(
            f"{path} is damaged or not a MetaImage file: its header does not name what holds the voxels; "
            "export it again."
        )
    return _fields(start[: last.end()], "="), last.end()


def _fields(header: bytes, separator: str) -> dict[str, str]:
    lines = header.decode("utf-8", "replace").splitlines()
    pairs = (line.partition(separator) for line in lines if not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, found, value in pairs if found}


def check_metaimage(path: Path, size: int) -> None:
    """See that a MetaImage has as many bytes of voxels as its header promises.

    Of compressed voxels that are damaged ITK reads what is left, and says nothing. What is in many files, in
    text or behind a foreign header is left to ITK.
    """
    fields, start = metaimage_fields(path)
    name = fields["elementdatafile"]
    is_local, flags = name.lower() == "local", ("true", "1")
    is_plain = fields.get("binarydata", "true").lower() in flags and fields.get("headersize", "0") == "0"
    if not is_plain or (not is_local and (name.lower().startswith("list") or "%" in name)):
        return
    data, start = (path, start) if is_local else (path.parent / name, 0)
    if not data.is_file():
        raise ImageError(f"{path} says that its voxels are in {name}, which is not there; copy it too.")
    is_packed = fields.get("compresseddata", "").lower() in flags
    found = _unpacked_size(data, start, size) if is_packed else data.stat().st_size - start
    if found < size:
        raise ImageError(
            f"{data} is damaged or cut short: it holds {max(found, 0)} of {size} bytes of voxels; copy or "
            "export it again."
        )


def _unpacked_size(data: Path, start: int, needed: int) -> int:
    """Count the bytes behind `start` once they are unpacked; 0 where they are damaged or end too early.

    A few bytes may become any number of them: never more than a block is held, and what goes beyond the
    needed ones is not unpacked.
    """
    stream, size = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with data.open("rb") as file:
        file.seek(start)
        try:
            while size <= needed and not stream.eof:
                packed = stream.unconsumed_tail or file.read(BLOCK)
                if not packed:
                    return 0
                size += len(stream.decompress(packed, BLOCK))
        except zlib.error:
            return 0
    return size


def restate_header(path: Path, changed: Mapping[bytes, bytes]) -> None:
    """Replace lines at the beginning of a file by others, once each."""
    content = path.read_bytes()
    for line, other in changed.items():
        content = content.replace(line, other, 1)
    path.write_bytes(content)


# The decoder is chosen by the suffix, as for every other format here, and not by trying them all.
DECODERS = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
NRRD = (".nrrd", ".nhdr")
TURNED = ("transformmatrix", "rotation", "orientation")  # the names that MetaImage has for a direction
NOT_ANATOMICAL = "Axes are not anatomical"  # in a MetaImage's comment
KINDS = {"NrrdImageIO": "NRRD", "MetaImageIO": "MetaImage", "GDCMImageIO": "DICOM"}
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')  # the strings of a field such as "mm" "mm" "um"
SEGMENT, NRRD_KIND = "Segment0_", "NRRD_kinds[pixel]"  # the first is 3D Slicer's


def read_itk(path: Path, ndim: int | None = None, as_labels: bool = False) -> MedicalImage:
    """Read an NRRD or a MetaImage.

    The world is turned from ITK's (left, posterior, superior) to ours. What has no place in a
    patient stays as it is: 2D images, and an NRRD without a named space. The parts of a voxel, or a
    fourth axis, become channels. Where `ndim` is 2, a volume of a single slice is a 2D image.
    """
    reader = file_reader(path)
    is_metaimage = reader.GetImageIO() == "MetaImageIO"
    with itk_decoding(path, reader.GetImageIO()):
        if is_metaimage:
            metaimage_fields(path)
        reader.ReadImageInformation()
        shape, itemsize = (*reader.GetSize(), reader.GetNumberOfComponents()), _itemsize(reader, path)
        if is_metaimage:
            check_metaimage(path, math.prod(shape) * itemsize)
        require_room(path, shape, itemsize)
        image = reader.Execute()
    world = _stated_nrrd(path, reader) if path.suffix.lower() in NRRD else _stated_metaimage(path, image)
    unit, factors = common_unit(world.units[: image.GetDimension()])
    found = placed(
        channels_last(image, path),
        _world_matrix(image, factors, world.is_anatomical),
        unit,
        path,
        ndim,
        is_flat=image.GetDimension() == 2,
        is_anatomical=world.is_anatomical,
    )
    return replace(found, channel_axis=_channel_axis(reader, image))


def read_itk_header(path: Path) -> ImageHeader:
    """Read a header: a fourth axis and the parts of a voxel are channels."""
    reader = file_reader(path)
    with itk_decoding(path, reader.GetImageIO()):
        reader.ReadImageInformation()
        size, parts = reader.GetSize(), reader.GetNumberOfComponents()
        pixels = simpleitk(path).GetPixelIDValueAsString(reader.GetPixelID())
    times = int(np.prod(size[3:], dtype=np.int64))
    return ImageHeader(channels=times * parts, is_integer="integer" in pixels)


def simpleitk(path: Path) -> ModuleType:
    """Import SimpleITK, its warnings off, since its errors say the same; `path` is what it is needed for."""
    library = extra_library("SimpleITK", "medical", path)
    library.ProcessObject.GlobalWarningDisplayOff()
    return library


def file_reader(path: Path) -> ImageFileReader:
    """Return a reader for one file, with the decoder of its suffix."""
    reader = simpleitk(path).ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(DECODERS[path.suffix.lower()])
    return reader


def _itemsize(reader: ImageFileReader, path: Path) -> int:
    """Return the bytes of a number, from the name of its type: ``"16-bit signed integer"``."""
    bits = re.search(r"(\d+)-bit", simpleitk(path).GetPixelIDValueAsString(reader.GetPixelID()))
    return int(bits.group(1)) // 8 if bits else 1


@contextmanager
def itk_decoding(path: Path, decoder: str) -> Iterator[None]:
    """As `decoding`; the decoders of MetaImage and DICOM are not ITK's own, and print whatever they meet."""
    console = nullcontext() if decoder == "NrrdImageIO" else SILENT_CONSOLE
    with decoding(path, KINDS[decoder]), console:
        yield


def _world_matrix(image: Image, factors: Sequence[float], is_anatomical: bool) -> Float[np.ndarray, "4 4"]:
    """Return the matrix from (x, y, z) voxels to our (x, y, z) world, of an image of two axes or more."""
    ndim, kept = image.GetDimension(), min(image.GetDimension(), 3)
    direction = np.reshape(image.GetDirection(), (ndim, ndim))
    matrix = np.eye(4)
    matrix[:kept, :kept] = (direction * image.GetSpacing())[:kept, :kept]
    matrix[:kept, 3] = image.GetOrigin()[:kept]
    matrix[:kept] *= np.reshape(factors, (kept, 1))
    return LPS_TO_RAS @ matrix if is_anatomical else matrix


def channels_last(image: Image, path: Path) -> Shaped[np.ndarray, "z y x channels"]:
    """Return the numbers of an image; a 2D one has a single slice."""
    stored = simpleitk(path).GetArrayFromImage(image)
    if stored.dtype.kind not in "biuf":
        raise ImageError(f"{path} holds {stored.dtype} values; real numbers are needed here.")
    parts, axes = image.GetNumberOfComponentsPerPixel(), stored.shape[: image.GetDimension()]
    spatial, times = (1, *axes)[-3:], int(np.prod(axes[:-3], dtype=np.int64))
    if times > 1 and parts > 1:
        raise ImageError(
            f"{path} has {times} times of voxels with {parts} parts, and only one of both can be channels; "
            "split the file."
        )
    return stored.reshape(times, *spatial, parts).transpose(1, 2, 3, 4, 0).reshape(*spatial, times * parts)


def _channel_axis(reader: ImageFileReader, image: Image) -> ChannelAxis:
    """A fourth axis counts points in time; a voxel's parts are colours where the file says so."""
    if image.GetDimension() > 3:
        return "time"
    if any(key.startswith(SEGMENT) for key in reader.GetMetaDataKeys()):
        return "layer"
    kind = reader.GetMetaData(NRRD_KIND) if reader.HasMetaDataKey(NRRD_KIND) else ""
    return "colour" if "color" in kind.lower() and image.GetNumberOfComponentsPerPixel() == 3 else "channel"


@dataclass(frozen=True)
class _World:
    """What a header states of the world: whether it is the patient's, and the unit along x, y and z."""

    is_anatomical: bool
    units: tuple[str, str, str]


def _stated_nrrd(path: Path, reader: ImageFileReader) -> _World:
    """Patients and scanners are measured in millimetres where the file does not say otherwise."""
    fields = nrrd_fields(path)
    # Of an image in time ITK writes no more of its own space than that it has four axes.
    space = fields.get("space", "LPST" if fields.get("space dimension") == "4" else "").lower()
    keys = [f"NRRD_units[{axis}]" for axis in range(3)]
    of_axes = [reader.GetMetaData(key) if reader.HasMetaDataKey(key) else "" for key in keys]
    named = QUOTED.findall(fields.get("space units", "")) or of_axes
    if not any(named) and space in ANATOMICAL_SPACES | SCANNER_SPACES:
        named = ["mm"] * 3
    x, y, z = ([unit_named(name) for name in named] + [PIXEL] * 3)[:3]
    return _World(space in ANATOMICAL_SPACES and reader.GetDimension() >= 3, (x, y, z))


def _stated_metaimage(path: Path, image: Image) -> _World:
    """ITK's world is in millimetres, unless the file says otherwise or knows no distances."""
    fields, _ = metaimage_fields(path)
    is_turned = image.GetDimension() >= 3 and any(name in fields for name in TURNED)
    is_anatomical = is_turned and fields.get("comment") != NOT_ANATOMICAL
    has_spacing = is_anatomical or any(step != 1 for step in image.GetSpacing())
    unit = unit_named(fields.get("distanceunits") or ("mm" if has_spacing else ""))
    return _World(is_anatomical, (unit, unit, unit))


def write_itk(path: Path, label_map: LabelMap) -> None:
    """Write a label map as NRRD, in its own unit, or as MetaImage, whose unit is the millimetre; compressed.

    A label map whose world is not the patient's is not turned, and the file says so.
    """
    library = simpleitk(path)
    ndim, is_nrrd = label_map.ndim, path.suffix.lower() in NRRD
    is_anatomical = label_map.space.is_anatomical and ndim == 3
    unit = label_map.unit if is_nrrd else writable_unit(label_map.unit, ("millimeter",))
    matrix = reversed_axes(label_map.affine.matrix).matrix * conversion(label_map.unit, unit)
    if is_anatomical:
        matrix = LPS_TO_RAS @ matrix
    spacing = np.linalg.norm(matrix[:ndim, :ndim], axis=0)
    image = library.GetImageFromArray(np.ascontiguousarray(label_map.array))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:ndim, ndim].tolist())
    image.SetDirection((matrix[:ndim, :ndim] / spacing).ravel().tolist())
    if unit in METRES and not is_nrrd:
        image.SetMetaData("ITK_VoxelUnits", symbol_of(unit))
    try:
        library.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise ImageError(f"{label_map.path} cannot be written ({reason(error)}).") from error
    _restate(path, unit, ndim, is_anatomical, is_nrrd)


def _restate(path: Path, unit: str, ndim: int, is_anatomical: bool, is_nrrd: bool) -> None:
    """Say in a header what ITK cannot: the unit of an NRRD, and that axes are not the patient's."""
    changed: dict[bytes, bytes] = {}
    if is_nrrd and unit in METRES:
        units = " ".join([f'"{symbol_of(unit)}"'] * ndim)
        changed[b"\nkinds: "] = f"\nspace units: {units}\nkinds: ".encode()
    if ndim == 3 and not is_anatomical:
        replaced = (b"\nspace: left-posterior-superior\n", b"\nspace dimension: 3\n")
        comment = (b"ObjectType = Image\n", f"ObjectType = Image\nComment = {NOT_ANATOMICAL}\n".encode())
        changed.update([replaced if is_nrrd else comment])
    restate_header(path, changed)
