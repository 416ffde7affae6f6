"""Formats of images that are not read here, known by their names or their first bytes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

MICROSCOPY = "export it as OME-TIFF"
PICTURE = "export it as PNG or TIFF"
MEDICAL = "export it as NIfTI or NRRD"
ARRAY = "save it as TIFF or NIfTI"
MOVIE = "export its frames as a TIFF stack"
REMEDIES = {
    MICROSCOPY: ".czi .zvi .nd2 .lif .lof .lsm .oib .oif .oir .vsi .ets .svs .ndpi .ndpis .scn .mrxs .bif "
    ".dv .r3d .ims .stk .ics .ids .sld .sldy .qptiff .mrc .xrm .ipl .gel .spe .btf .tf2 .tf8 .n5",
    PICTURE: ".gif .webp .jp2 .j2k .jpx .jpc .jxl .jxr .heic .heif .avif .tga .ppm .pgm .pbm .pnm .exr .psd "
    ".jfif .jpe .dib .dng .cr2 .nef .arw .raw .pcx .tif.gz .tiff.gz",
    MEDICAL: ".hdr .img .hdr.gz .img.gz .mgz .mgh .mnc .minc .gipl .gipl.gz .vti .ima .dicom .dcm.gz "
    ".nrrd.gz .rec .nii.bz2 .nii.zst .nii.zip .ecat .brik .brik.gz",
    ARRAY: ".npy .npz .h5 .hdf5 .mat .b2nd .zarr.zip",
    MOVIE: ".mp4 .avi .mov .mkv .mpg .mpeg .wmv .webm .m4v",
}
FOREIGN = {suffix: remedy for remedy, suffixes in REMEDIES.items() for suffix in suffixes.split()}
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
NIFTI, NIFTI_PLACE = (b"n+1\0", b"ni1\0"), 344
# Headers whose voxels lie in another file beside them.
DETACHED = (".mhd", ".nhdr", ".hdr")
VOXELS = (".raw", ".zraw", ".raw.gz", ".img", ".img.gz", ".gz", ".bil", ".bsq", ".bip")


def foreign_format(path: Path) -> str | None:
    """What a file is that cannot be read here, and what to do, as a phrase; None for what is no image."""
    suffix = max((suffix for suffix in FOREIGN if path.name.lower().endswith(suffix)), key=len, default="")
    if suffix:
        return f"is of a format that is not read here ({suffix}): {FOREIGN[suffix]}"
    try:
        with path.open("rb") as file:
            begin = file.read(NIFTI_PLACE + 4)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    found = next((kind for mark, kind in SIGNATURES.items() if begin.startswith(mark)), None)
    if found is None and begin[NIFTI_PLACE:] in NIFTI:
        found = ".nii"
    return f"looks like a {found} file, and is not called one: add the ending to its name" if found else None


def is_voxels_of_header(name: str, names: Collection[str]) -> bool:
    """Whether a file holds the voxels of one of the headers beside it."""
    suffix = max((suffix for suffix in VOXELS if name.lower().endswith(suffix)), key=len, default="")
    stem = name[: len(name) - len(suffix)]
    return bool(suffix) and any(f"{stem}{header}" in names for header in DETACHED)
