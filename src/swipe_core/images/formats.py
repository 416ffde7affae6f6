"""Every file format of images: what its files are called, what they can hold, and where the code is.

A new format is one module with its functions, and one `Format` in `FORMATS`. This module imports none of
them: the plugin looks at the names of files as napari starts, and must not wait for torch.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

CODE = "swipe_core.images."
VOLUME_SUFFIX = ".nii.gz"  # of files that can hold any labels and any map

VOXELS = (".raw", ".zraw", ".raw.gz", ".img", ".img.gz", ".gz", ".bil", ".bsq", ".bip")  # beside a header


@dataclass(frozen=True)
class Format:
    """A file format of images.

    Functions are named as ``"module:function"``, and imported when they are called; an empty name says that
    the format cannot do this. They raise an `ImageError` for what is wrong with a file.
    """

    name: str
    """What people call it."""
    suffixes: tuple[str, ...]
    """How its files end, in lower case."""
    reader: str
    """``(path, ndim, as_labels) -> MedicalImage``, where `ndim` is the number of spatial axes that are
    needed, or None, and `as_labels` asks for stored numbers rather than intensities.
    """
    header_reader: str = ""
    """``(path) -> ImageHeader``, which reads no voxels."""
    label_writer: str = ""
    stack_writer: str = ""
    image_writer: str = ""
    map_writer: str = ""
    """`label_writer`, `stack_writer`, `image_writer` and `map_writer`: ``(path, label_map)`` or the like: of
    a `LabelMap`, of one whose first axis counts pictures, of a `MedicalImage` and of a `ScalarMap`. The path
    is a draft; `read_image` and its like see to the rest.
    """
    labels_as: str = VOLUME_SUFFIX
    maps_as: str = VOLUME_SUFFIX
    """`labels_as` and `maps_as`: the suffix of files of labels, or of maps, that belong to an image of a
    format that cannot hold them.
    """
    part_reader: str = ""
    """``(source, ndim) -> StoredImage``, which is read part by part, and may be larger than memory."""
    world: str = ""
    """In whose sense the files state where they lie; empty where they state no more than a spacing."""
    voxel_suffixes: tuple[str, ...] = ()
    """How the files end that may hold the voxels of a header of this format."""
    other_suffixes: tuple[str, ...] = ()
    """Names that files may have besides; these go by their content."""


NIFTI = Format(
    "NIfTI",
    (".nii", ".nii.gz"),
    reader=CODE + "nifti:read_nifti",
    header_reader=CODE + "nifti:read_nifti_header",
    label_writer=CODE + "nifti:write_nifti",
    image_writer=CODE + "nifti:write_nifti",
    map_writer=CODE + "nifti:write_nifti",
    world="NIfTI",
)
TIFF = Format(
    "TIFF",
    (".tif", ".tiff", ".ome.tif", ".ome.tiff"),
    reader=CODE + "tiff:read_tiff",
    label_writer=CODE + "tiff:write_tiff",
    stack_writer=CODE + "tiff:write_tiff_stack",
    image_writer=CODE + "tiff:write_tiff_image",
    map_writer=CODE + "tiff:write_tiff",
    part_reader=CODE + "stored:open_tiff",
)
PNG = Format(
    "PNG",
    (".png",),
    reader=CODE + "raster:read_raster",
    label_writer=CODE + "raster:write_png",
    image_writer=CODE + "raster:write_png_image",
    maps_as=".tif",
)
PICTURE = Format(
    "JPEG and BMP",
    (".jpg", ".jpeg", ".bmp"),
    reader=CODE + "raster:read_raster",
    labels_as=".png",
    maps_as=".tif",
)
NRRD = Format(
    "NRRD",
    (".nrrd",),
    reader=CODE + "itk:read_itk",
    header_reader=CODE + "itk:read_itk_header",
    label_writer=CODE + "itk:write_itk",
    world="ITK",
)
NRRD_HEADER = replace(
    NRRD,
    name="NRRD with voxels in a file of their own",
    suffixes=(".nhdr",),
    label_writer="",
    labels_as=".nrrd",
    voxel_suffixes=VOXELS,
)
METAIMAGE = replace(NRRD, name="MetaImage", suffixes=(".mha",))
METAIMAGE_HEADER = replace(
    NRRD_HEADER,
    name="MetaImage with voxels in a file of their own",
    suffixes=(".mhd",),
    labels_as=".mha",
)
DICOM = Format(
    "DICOM", (".dcm",), reader=CODE + "dicom:read_dicom", other_suffixes=(".dicom", ".dic", ".ima")
)
FORMATS = (NIFTI, TIFF, PNG, PICTURE, NRRD, NRRD_HEADER, METAIMAGE, METAIMAGE_HEADER, DICOM)
IMAGE_SUFFIXES = tuple(suffix for kind in FORMATS for suffix in kind.suffixes)
"""Suffixes of the files that can be read, in lower case; the case of a file's own does not matter."""


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its voxels, and `MedicalImage` has no room for.

    The defaults are those of a format that does not say.
    """

    channels: int | None = None
    """How long the last axis of `MedicalImage.array` is, if known."""
    is_integer: bool = False
    """Whether whole numbers are stored, and meant: without a slope or an intercept."""
    is_declared_labels: bool = False
    """Whether the file calls itself a label map."""


def imported(function: str) -> Callable[..., Any]:
    """Import a function by its name, ``"module:function"``."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def named_format(path: str | os.PathLike[str]) -> Format | None:
    """Return the format that a file has by its name, if it has one."""
    suffix = image_suffix(path).lower()
    return next((kind for kind in FORMATS if suffix in kind.suffixes), None)


def image_format(path: Path) -> Format | None:
    """Return the format of a file, or of a folder, which must hold DICOM; None of what is no image.

    A file is judged by its content where its name does not say what it is.
    """
    if path.is_dir():
        return DICOM if holds_dicom(path) else None
    named = named_format(path)
    if named is None and image_suffix(path).lower() in ("", *DICOM.other_suffixes) and is_dicom(path):
        return DICOM
    return named


def image_suffix(path: str | os.PathLike[str]) -> str:
    """Return the longest known suffix of a file's name as the file spells it (``".nii.gz"``), else ``""``."""
    name = Path(path).name
    known = (suffix for kind in FORMATS for suffix in (*kind.suffixes, *kind.other_suffixes))
    length = max((len(suffix) for suffix in known if name.lower().endswith(suffix)), default=0)
    return name[len(name) - length :]


def image_stem(path: str | os.PathLike[str]) -> str:
    """Return a file's name without its known suffix: ``"a"`` for ``a.nii.gz``, ``"a.b"`` for ``a.b.png``."""
    return Path(path).name.removesuffix(image_suffix(path))


def suffixes_with(function: str) -> tuple[str, ...]:
    """Return the suffixes of all formats that have a function, such as ``"label_writer"``."""
    return tuple(suffix for kind in FORMATS if getattr(kind, function) for suffix in kind.suffixes)


# DICOM, known by a glance and without any library

GLANCES = 64  # files of a folder that are looked at; scanners put nothing but DICOM into theirs
MARK, MARK_PLACE = b"DICM", 128
# How files begin that have no mark, as before 1993: the first elements of a data set, in little endian.
BARE_BEGINNING = re.compile(rb"\x08\x00[\x00\x01\x05\x08\x16\x18]\x00(UL|CS|UI|[\x02-\x40]\x00\x00\x00)")


def is_dicom(path: Path) -> bool:
    """Whether a file is called .dcm, or has DICOM's mark, or begins as DICOM does without one."""
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as file:
            start = file.read(MARK_PLACE + len(MARK))
    except OSError:
        return False
    return start[MARK_PLACE:] == MARK or BARE_BEGINNING.match(start) is not None


def holds_dicom(folder: Path) -> bool:
    """Whether one of the first files of a folder is DICOM; False for what is no folder."""
    return folder.is_dir() and any(map(is_dicom, itertools.islice(_files(folder), GLANCES)))


def holds_dicom_inside(folder: Path) -> bool:
    """Whether a folder, or one of the first folders inside it, holds DICOM."""
    folders = itertools.islice(os.walk(folder), GLANCES)
    return any(holds_dicom(Path(inside)) for inside, _, _ in folders)


def dicom_files(folder: Path) -> Iterator[Path]:
    """Return the DICOM files that lie in a folder."""
    return filter(is_dicom, _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


# Folders of labels that this program wrote, known without reading them and without zarr

LABEL_STORE = "swipe labels"  # what a `LabelStore` calls itself


def is_label_folder(path: Path) -> bool:
    """Whether a folder calls itself one of a `LabelStore`, by a glance at its metadata."""
    described = path / "zarr.json"
    return described.is_file() and json.dumps(LABEL_STORE) in described.read_text("utf-8", errors="replace")


# What is no image that can be read here

MICROSCOPY = "export it as OME-TIFF"
FLAT = "export it as PNG or TIFF"
MEDICAL = "export it as NIfTI or NRRD"
ARRAY = "save it as TIFF or NIfTI"
MOVIE = "export its frames as a TIFF stack"
REMEDIES = {
    MICROSCOPY: ".czi .zvi .nd2 .lif .lof .lsm .oib .oif .oir .vsi .ets .svs .ndpi .ndpis .scn .mrxs .bif "
    ".dv .r3d .ims .stk .ics .ids .sld .sldy .qptiff .mrc .xrm .ipl .gel .spe .btf .tf2 .tf8 .n5",
    FLAT: ".gif .webp .jp2 .j2k .jpx .jpc .jxl .jxr .heic .heif .avif .tga .ppm .pgm .pbm .pnm .exr .psd "
    ".jfif .jpe .dib .dng .cr2 .nef .arw .raw .pcx .tif.gz .tiff.gz",
    MEDICAL: ".hdr .img .hdr.gz .img.gz .mgz .mgh .mnc .minc .gipl .gipl.gz .vti .ima .dicom .dcm.gz "
    ".nrrd.gz .rec .nii.bz2 .nii.zst .nii.zip .ecat .brik .brik.gz",
    ARRAY: ".npy .npz .h5 .hdf5 .mat .b2nd .zarr.zip",
    MOVIE: ".mp4 .avi .mov .mkv .mpg .mpeg .wmv .webm .m4v",
}
UNREAD = {suffix: remedy for remedy, suffixes in REMEDIES.items() for suffix in suffixes.split()}
# First bytes of pictures, whatever their names.
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
    b"NRRD0": ".nrrd",
    b"GIF8": ".gif",
    b"\0\0\0\x0cjP  ": ".jp2",
    b"\x89HDF\r\n": ".h5",
    b"\x93NUMPY": ".npy",
}
NIFTI_MARKS, NIFTI_PLACE = (b"n+1\0", b"ni1\0"), 344


def unread_image(path: Path, names: Collection[str]) -> str | None:
    """Say what an image is that cannot be read here, and what to do, as a phrase; None for what is no image.

    The phrase is empty for a file with the voxels of a header beside it, which is a part of that image.

    `names`: of all files of the folder.
    """
    if _is_voxels_of_header(path.name, names):
        return ""
    suffix = max((suffix for suffix in UNREAD if path.name.lower().endswith(suffix)), key=len, default="")
    if suffix:
        return f"is of a format that is not read here ({suffix}): {UNREAD[suffix]}"
    try:
        with path.open("rb") as file:
            begin = file.read(NIFTI_PLACE + 4)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    found = next((kind for mark, kind in SIGNATURES.items() if begin.startswith(mark)), None)
    if found is None and begin[NIFTI_PLACE:] in NIFTI_MARKS:
        found = ".nii"
    return f"looks like a {found} file, and is not called one: add the ending to its name" if found else None


def _is_voxels_of_header(name: str, names: Collection[str]) -> bool:
    suffix = max((suffix for suffix in VOXELS if name.lower().endswith(suffix)), key=len, default="")
    headers = [suffix for kind in FORMATS if kind.voxel_suffixes for suffix in kind.suffixes]
    stem = name[: len(name) - len(suffix)]
    # The last is Analyze's, which is not read here and is named by its header.
    return bool(suffix) and any(f"{stem}{header}" in names for header in (*headers, ".hdr"))
