"""Zarr folders of strangers: opened without running anything in them, with the axes that OME-Zarr states."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from swipe_core.coordinates import Affine
from swipe_core.errors import ImageError
from swipe_core.images.decoding import decoding, extra_library
from swipe_core.images.formats import image_suffix
from swipe_core.images.units import common_unit, unit_named

if TYPE_CHECKING:
    from zarr import Array, Group

ZARR_SUFFIXES = (".ome.zarr", ".zarr")
METADATA_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
SPATIAL, CHANNEL = "zyx", "c"
MOST_COLOURS = 4  # channels of an array that does not name its axes
# Codecs that only unpack numbers: those of numcodecs also know pickles, which may run anything.
SAFE_CODECS = {
    *("bytes", "endian", "transpose", "sharding_indexed", "crc32c", "crc32", "adler32", "fletcher32"),
    *("blosc", "zstd", "gzip", "zlib", "bz2", "lzma", "lz4", "shuffle", "delta", "packbits", "bitround"),
    *("fixedscaleoffset", "quantize", "astype", "jenkins_lookup3", "zfpy", "pcodec"),
}


@dataclass(frozen=True, eq=False)
class ZarrImage:
    """An array of a zarr folder, and what its axes are."""

    array: Array
    """Of real numbers; nothing of it has been read."""
    axes: str
    """A letter for each axis of the array: z, y, x, c for channels, t and others of length 1."""
    affine: Affine
    """Voxel frame of the spatial axes, in (z, y, x) order, to the world."""
    unit: str
    metadata: tuple[Path, ...]
    """Its own description and those above it."""
    channel_names: tuple[str, ...] = ()
    """One for each channel, or none."""

    @property
    def spatial(self) -> str:
        return "".join(axis for axis in SPATIAL if axis in self.axes)


def zarr_module(path: Path) -> ModuleType:
    """Import zarr; `path` is what it is needed for, as for `extra_library`."""
    return extra_library("zarr", "scale", path)


def is_zarr(path: Path) -> bool:
    """Whether a folder holds zarr's metadata, or a path is called as one."""
    named = path.name.lower().endswith(ZARR_SUFFIXES)
    return named or any((path / name).is_file() for name in METADATA_FILES)


def is_store(path: Path) -> bool:
    """Whether an image is a folder of zarr; what is named as another kind of image is not looked into."""
    return not image_suffix(path) and is_zarr(path)


def pictures_in_store(path: Path) -> list[Path]:
    """Return the images in a folder of zarr: itself, the series of a converted file, or a plate's fields.

    Judged by the folder's own description, without zarr.
    """
    described = _described(path)
    if isinstance(plate := described.get("plate"), Mapping):
        wells = [path / str(well.get("path")) for well in plate.get("wells", [])]
        return [field for well in wells for field in _fields(well)]
    if "bioformats2raw.layout" in described and "multiscales" not in described:
        inner = [each for each in path.iterdir() if each.name.isdecimal() and is_zarr(each)]
        return sorted(inner, key=lambda each: int(each.name))
    return _fields(path) or [path]


def pyramids_in_store(path: Path) -> int:
    """Count the images that a folder of OME-Zarr describes as its own; the first is the one that is read."""
    described = _described(path).get("multiscales")
    return len(described) if isinstance(described, list) else 0


def _fields(well: Path) -> list[Path]:
    held = _described(well).get("well")
    images = held.get("images", []) if isinstance(held, Mapping) else []
    return [well / str(image.get("path")) for image in images]


def _described(path: Path) -> Mapping[str, Any]:
    """Return what OME-Zarr says of a folder; nothing where it cannot be read."""
    for name in ("zarr.json", ".zattrs"):
        try:
            text = json.loads((path / name).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if name == "zarr.json" and isinstance(text, dict):
            text = text.get("attributes", {})
        found = text.get("ome", text) if isinstance(text, dict) else {}
        return found if isinstance(found, dict) else {}
    return {}


def open_zarr_image(path: Path, ndim: int | None = None) -> ZarrImage:
    """Open the array of a zarr folder, or the finest level of an OME-Zarr 0.4 or 0.5 image.

    `ndim` {2, 3}, optional: how many spatial axes are needed. Where an array does not name its axes, a last
    or else a first one of at most 4 counts channels if that gives `ndim`, or 2, spatial axes.
    """
    node: Any = open_zarr(path)
    zarr = zarr_module(path)
    if isinstance(node, zarr.Array):
        axes = _axes_of(node, ndim, path)
        affine = Affine.from_spacing([1.0] * sum(axis in SPATIAL for axis in axes))
        return _checked(ZarrImage(node, axes, affine, "pixel", _metadata_files(path)), ndim, path)
    described = _described(path)
    if "plate" in described or "well" in described:
        raise ImageError(f"{path} is a plate of many images; name the folder of one of its fields.")
    multiscales = described.get("multiscales")
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    if not isinstance(first, Mapping):
        inner = path / "0"  # as bioformats2raw nests images
        if "bioformats2raw.layout" in described and inner.is_dir():
            return open_zarr_image(inner, ndim)
        raise ImageError(
            f"{path} is a zarr group that describes no image (multiscales); name the folder of an array."
        )
    return _checked(_finest(node, first, described, path), ndim, path)


def open_zarr(path: Path, mode: str = "r") -> Array | Group:
    """Open the array or group of a folder, whose codecs are known to run nothing."""
    zarr = zarr_module(path)
    if not path.is_dir():
        raise ImageError(f"{path} does not exist; name a zarr folder.")
    with decoding(path, "zarr"):
        return zarr.open(zarr.storage.LocalStore(path, read_only=mode == "r"), mode=mode)


def _finest(
    group: Group, multiscale: Mapping[str, Any], described: Mapping[str, Any], path: Path
) -> ZarrImage:
    with decoding(path, "OME-Zarr"):
        name = multiscale["datasets"][0]["path"]
        array = group[name]
        zarr = zarr_module(path)
        if not isinstance(array, zarr.Array):
            raise ValueError(f"{name} is no array")
        entries = [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in multiscale["axes"]]
        axes = "".join(_letter(entry) for entry in entries)
        if len(axes) != array.ndim:
            raise ValueError(f"{array.ndim} axes of voxels, called {axes}")
        scale, shift = _placement(multiscale, len(axes))
        units = [unit_named(entry.get("unit")) for entry in entries]
        where = [axes.index(axis) for axis in SPATIAL if axis in axes]
        unit, convert = common_unit([units[i] for i in where])
        spacing = [abs(scale[i]) * factor for i, factor in zip(where, convert, strict=True)]
        origin = [shift[i] * factor for i, factor in zip(where, convert, strict=True)]
        if not all(math.isfinite(step) and step > 0 for step in spacing) or not all(
            map(math.isfinite, origin)
        ):
            spacing, origin, unit = [1.0] * len(where), [0.0] * len(where), "pixel"
        names = _channel_names(described, array.shape[axes.index(CHANNEL)]) if CHANNEL in axes else ()
    files = _metadata_files(path, path / name)
    return ZarrImage(array, axes, Affine.from_spacing(spacing, origin), unit, files, names)


def _channel_names(described: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return what viewers are to call the channels; nothing unless each has a name."""
    channels = (described.get("omero") or {}).get("channels") or ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if len(names) == count and all(names) and len(set(names)) == count else ()


def _letter(axis: Mapping[str, Any]) -> str:
    """Return one letter for an axis: that of its kind where the kind is known, else that of its name."""
    if axis.get("type") in ("channel", "time"):
        return str(axis["type"])[0]
    return (str(axis.get("name", "?")) or "?")[0].lower()


def _placement(described: Mapping[str, Any], ndim: int) -> tuple[list[float], list[float]]:
    """Return scale and translation of the finest level: its own, then that of all levels."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    own = described["datasets"][0].get("coordinateTransformations") or []
    for transform in [*own, *(described.get("coordinateTransformations") or [])]:
        if transform.get("type") == "scale":
            factors = [float(number) for number in transform["scale"]]
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            shift = [a * b for a, b in zip(shift, factors, strict=True)]
        elif transform.get("type") == "translation":
            steps = [float(number) for number in transform["translation"]]
            shift = [a + b for a, b in zip(shift, steps, strict=True)]
    return scale, shift


def _axes_of(array: Array, ndim: int | None, path: Path) -> str:
    """Return the axes of an array that belongs to no OME-Zarr image."""
    names = getattr(array.metadata, "dimension_names", None)
    if names and all(names) and {str(name)[0].lower() for name in names} >= {"y", "x"}:
        return "".join(_letter({"name": name}) for name in names)
    shape = tuple(array.shape)
    needed = ndim or (
        2 if len(shape) == 3 and min(shape[0], shape[-1]) <= MOST_COLOURS else min(3, len(shape))
    )
    spatial = SPATIAL[-needed:]
    if len(shape) == needed:
        return spatial
    if len(shape) == needed + 1 and shape[-1] <= MOST_COLOURS:
        return spatial + CHANNEL
    if len(shape) == needed + 1 and shape[0] <= MOST_COLOURS:
        return CHANNEL + spatial
    raise ImageError(
        f"{path} is an array of shape {shape} that does not name its axes, and a {needed}D image has "
        f"{needed} axes and perhaps one of at most {MOST_COLOURS} channels; store it as OME-Zarr."
    )


def _checked(image: ZarrImage, ndim: int | None, path: Path) -> ZarrImage:
    """Return the image, unless it cannot be used here; of its numbers none has been decoded yet."""
    array, axes = image.array, image.axes
    if array.dtype.kind not in "biuf":
        raise ImageError(f"{path} holds {array.dtype} values; export real numbers instead.")
    unsafe = sorted(set(_codecs(array)) - SAFE_CODECS)
    if unsafe:
        raise ImageError(
            f"{path} is packed with {', '.join(unsafe)}, which is not opened since it might run a program; "
            "store it with a usual compression."
        )
    if min(array.shape, default=0) < 1:
        raise ImageError(f"{path} holds no voxels: its shape is {tuple(array.shape)}; export it again.")
    rest = [n for axis, n in zip(axes, array.shape, strict=True) if axis not in SPATIAL + CHANNEL]
    if len(set(axes)) < len(axes) or max(rest, default=1) > 1 or not {"y", "x"} <= set(axes):
        sizes = dict(zip(axes, array.shape, strict=True))
        several = f"{sizes['t']} time points: " if sizes.get("t", 1) > 1 else ""
        raise ImageError(
            f"{path} has {several}axes {axes} of sizes {tuple(array.shape)}; only depth, rows, columns and "
            "channels have a place here: split it."
        )
    image = _without_flat_depth(image, ndim)
    found = len(image.spatial)
    if ndim not in (None, found):
        raise ImageError(
            f"{path} is a {found}D image with axes {axes} of sizes {tuple(array.shape)}; "
            f"a {ndim}D image is needed here."
        )
    return image


def _without_flat_depth(image: ZarrImage, ndim: int | None) -> ZarrImage:
    """Return a volume of one slice as the picture that it is, unless a volume is asked for."""
    if ndim == 3 or "z" not in image.axes or image.array.shape[image.axes.index("z")] > 1:
        return image
    affine = Affine.from_spacing(image.affine.spacing[1:], image.affine.origin[1:].tolist())
    return replace(image, axes=image.axes.replace("z", "-"), affine=affine)


def _codecs(array: Array) -> list[str]:
    """Return what an array is packed with, in words of zarr or of numcodecs."""
    metadata: Mapping[str, Any] = array.metadata.to_dict()
    if metadata["zarr_format"] == 3:
        return _names(metadata["codecs"])
    packed = [*(metadata.get("filters") or ()), metadata.get("compressor")]
    found = [codec if isinstance(codec, Mapping) else codec.get_config() for codec in packed if codec]
    return [str(codec.get("id", "?")) for codec in found]


def _names(codecs: Sequence[Mapping[str, Any]]) -> list[str]:
    names = []
    for codec in codecs:
        inner = codec.get("configuration") or {}
        names += [str(codec["name"]).removeprefix("numcodecs.")]
        names += _names([*inner.get("codecs", ()), *inner.get("index_codecs", ())])
    return names


def _metadata_files(*folders: Path) -> tuple[Path, ...]:
    paths = [folder / name for folder in folders for name in METADATA_FILES]
    return tuple(path for path in paths if path.is_file())
