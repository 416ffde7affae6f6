"""`StoredImage`: an image on disk that is read part by part, and so may be larger than memory."""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from swipe_core.blocks import Block, cut_chunks
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError, readable_bytes
from swipe_core.images.channels import ChannelAxis, Channels
from swipe_core.images.decoding import decoding, plain
from swipe_core.images.formats import imported, named_format, suffixes_with
from swipe_core.images.medical_image import MedicalImage, Space, require_inside
from swipe_core.images.orientation import Reorientation
from swipe_core.images.source import ImageSource
from swipe_core.images.tiff import arranged, coloured, require_whole
from swipe_core.images.tiff_series import ALPHA, calibration, channel_kinds, kept_axes, picture_of
from swipe_core.images.zarr_folder import (
    CHANNEL,
    ZARR_SUFFIXES,
    ZarrImage,
    is_zarr,
    open_zarr_image,
    zarr_module,
)

if TYPE_CHECKING:
    from tifffile import TiffFile

# What is stored in larger pieces cannot be read part by part: each piece is unpacked as a whole.
MOST_CHUNK_BYTES = 2**30
Slices = tuple[slice, ...]
Voxels = Callable[[Slices], np.ndarray]
"""Reads the voxels of spatial axes in order, as (*shape, channels)."""


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image of two or three dimensions whose voxels stay on disk until they are asked for."""

    shape: tuple[int, ...]
    """Spatial shape in voxels, (y, x) or (z, y, x)."""
    channels: int
    dtype: np.dtype
    """`channels` and `dtype`: of what is read."""
    affine: Affine
    """Voxel frame to world, in the same order of axes."""
    unit: str
    """Of the world, as in `MedicalImage`."""
    chunks: tuple[int, ...]
    """Spatial shape of the pieces that are unpacked at once."""
    identity: str
    """A digest that another image, or the same file after a change, does not have: of the size and the date
    of the file, or of the metadata of a zarr folder.
    """
    path: Path | None
    """The file or folder; None for an image that is none."""
    voxels: Voxels
    """Reads the whole image's voxels."""
    first: tuple[int, ...]
    """Voxel of the whole image at which this part of it begins."""
    space: Space = Space()
    channel_axis: ChannelAxis = "channel"
    channel_names: tuple[str, ...] = ()
    """`space`, `channel_axis` and `channel_names`: as in `MedicalImage`."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """World distance between neighbouring voxels along each axis."""
        return self.affine.spacing

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, self.affine)

    @property
    def name(self) -> str:
        """What to call it in a message to the user."""
        return str(self.path) if self.path else "The image"

    def read(self, start: Sequence[int], shape: Sequence[int]) -> MedicalImage:
        """Read a part of the image, in its place in the world: `shape` voxels from the voxel `start` on."""
        part = self.window(start, shape)
        array = plain(self.voxels(_span(part.first, part.shape)))
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            where = " x ".join(f"{a}:{a + n}" for a, n in zip(part.first, part.shape, strict=True))
            raise ImageError(
                f"{self.name} has NaN or infinite values among its voxels {where}; replace them."
            )
        return MedicalImage(
            array, part.affine, self.unit, self.path, self.space, self.channel_axis, self.channel_names
        )

    @property
    def channel_kinds(self) -> Channels:
        """What the channels are."""
        return Channels(self.channels, self.channel_axis, self.channel_names)

    def with_channels(self, chosen: Sequence[str]) -> StoredImage:
        """As `MedicalImage.with_channels`; nothing is read."""
        positions = self.channel_kinds.positions(chosen, self.name)
        channels, voxels = self.channel_kinds.chosen(positions), self.voxels
        return replace(
            self,
            channels=len(positions),
            voxels=lambda slices: voxels(slices)[..., positions],
            channel_axis=channels.axis,
            channel_names=channels.names,
        )

    def window(self, start: Sequence[int], shape: Sequence[int]) -> StoredImage:
        """Return a part of the image as an image of its own; nothing is read."""
        require_inside(self.name, self.shape, start, shape)
        first = tuple(int(a + b) for a, b in zip(self.first, start, strict=True))
        grid = self.grid.window(start, shape)
        return replace(self, shape=grid.shape, affine=grid.affine, first=first)

    def reoriented(self, orientation: str) -> StoredImage:
        """Return the same voxels at the same places, their axes permuted and flipped; nothing is read.

        The world must be anatomical; `swipe_core.images.orientation` says what an orientation is.
        """
        change = Reorientation.between(self.affine, orientation)

        def voxels(slices: Slices) -> np.ndarray:
            own = change.slices(slices, self.shape)
            moved = tuple(slice(s.start + a, s.stop + a) for s, a in zip(own, self.first, strict=True))
            return change.array(self.voxels(moved))

        return replace(
            self,
            shape=tuple(self.shape[old] for old in change.order),
            affine=change.affine(self.affine, self.shape),
            chunks=tuple(self.chunks[old] for old in change.order),
            voxels=voxels,
            first=(0,) * self.ndim,
        )

    def parts(self, voxels: int) -> Iterator[Block]:
        """Return parts of about so many voxels that cover the image, chunk after chunk as they are stored."""
        return cut_chunks(self.shape, self.chunks, voxels)


def open_stored_image(path: str | Path | ImageSource, ndim: int | None = None) -> StoredImage:
    """Open an image that is read part by part.

    A zarr array or an OME-Zarr image (0.4 or 0.5, its finest level), or a picture of a TIFF at its full
    resolution. Of a TIFF that is compressed in strips each strip is unpacked whole, as often as a
    part of it is asked for: tiles are faster. Where nothing is compressed nothing is unpacked.

    `path` and `ndim`: as in `read_image`.
    """
    source = ImageSource.of(path)
    path = source.path
    if is_zarr(path):
        return _of_zarr(path, open_zarr_image(path, ndim))
    kind = named_format(path)
    if kind is None or not kind.part_reader:
        *known, last = (*reversed(ZARR_SUFFIXES), *suffixes_with("part_reader"))
        raise ImageError(
            f"{path} cannot be read part by part; images of {', '.join(known)} and {last} can be."
        )
    if not path.is_file() or path.stat().st_size == 0:
        raise ImageError(f"{path} is no file, or an empty one; name an image file.")
    image: StoredImage = imported(kind.part_reader)(source, ndim)
    return image


def _of_zarr(path: Path, image: ZarrImage) -> StoredImage:
    array, axes, spatial = image.array, image.axes, image.spatial
    kept = spatial + (CHANNEL if CHANNEL in axes else "")
    chunks = dict(zip(axes, array.chunks, strict=True))
    size = dict(zip(axes, array.shape, strict=True))
    _require_small_pieces(path, array.chunks, array.dtype)

    def voxels(slices: Slices) -> np.ndarray:
        spans = dict(zip(spatial, slices, strict=True))
        index = tuple(spans.get(axis, slice(None)) for axis in axes)
        with decoding(path, "zarr"):
            stored = np.asarray(array[index])
        return _numbers(arranged(stored, axes.upper(), kept.upper()))

    described = [file.read_bytes() for file in image.metadata]
    dates = [str(file.stat().st_mtime_ns) for file in image.metadata]
    return StoredImage(
        shape=tuple(size[axis] for axis in spatial),
        channels=size.get(CHANNEL, 1),
        dtype=np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("="),
        affine=image.affine,
        unit=image.unit,
        chunks=tuple(min(chunks[axis], size[axis]) for axis in spatial),
        identity=_digest([*described, *dates]),
        path=path,
        voxels=voxels,
        first=(0,) * len(spatial),
        channel_names=image.channel_names,
    )


def open_tiff(source: ImageSource, ndim: int | None) -> StoredImage:
    """Open a picture of a TIFF at its full resolution."""
    from tifffile import TiffFile

    path = source.path
    with decoding(path, "TIFF"):
        tiff = TiffFile(path)
    try:
        part = source.part if isinstance(source.part, int) else None
        voxels = _TiffVoxels(path, tiff, ndim, part)
    except BaseException:
        tiff.close()
        raise
    weakref.finalize(voxels, tiff.close)
    one = voxels(tuple(slice(0, 1) for _ in voxels.shape))
    with decoding(path, "TIFF"):
        spacing, unit = calibration(tiff, voxels.series)
        is_palette = voxels.kept[-1] == "X" and one.shape[-1] > 1
        kinds = channel_kinds(tiff, voxels.series, voxels.kept, is_palette=is_palette)
    state, which = path.stat(), [] if part is None else [str(part)]
    return StoredImage(
        shape=voxels.shape,
        channels=one.shape[-1],
        dtype=plain(one).dtype,
        affine=Affine.from_spacing(spacing[3 - len(voxels.shape) :]),
        unit=unit,
        chunks=voxels.chunks,
        identity=_digest([str(state.st_size), str(state.st_mtime_ns), str(voxels.shape), *which]),
        path=path,
        voxels=voxels,
        first=(0,) * len(voxels.shape),
        channel_axis=kinds.axis,
        channel_names=kinds.names,
    )


class _TiffVoxels:
    """Reads from the strips or tiles of a series of a TIFF, which is closed with the last user."""

    def __init__(self, path: Path, tiff: TiffFile, ndim: int | None, part: int | None) -> None:
        with decoding(path, "TIFF"):
            self.series = series = picture_of(path, tiff, part)
            self.page, self.is_imagej = series.keyframe, tiff.is_imagej
            require_whole(path, tiff, series)
            self.path, self.axes = path, str(series.axes)
            stored, size = series.dtype, dict(zip(series.axes, series.shape, strict=True))
        self.kept = kept_axes(series.shape, stored, self.axes, ndim, path)
        self.spatial = self.kept if self.kept[-1] == "X" else self.kept[:-1]
        self.shape = tuple(int(size[axis]) for axis in self.spatial)
        with decoding(path, "TIFF"):
            self.array, pieces = self._array(tiff, series)
        chunks = dict(zip(self.axes, pieces, strict=True))
        self.chunks = tuple(min(chunks[axis], size[axis]) for axis in self.spatial)
        self.alphas = self.page.extrasamples if "S" in self.axes else ()

    def _array(self, tiff: TiffFile, series: Any) -> tuple[Any, Sequence[int]]:
        """Return what is sliced for the voxels, and the pieces in which it is unpacked."""
        if series.dataoffset is not None and self.page.is_memmappable:
            dtype = series.dtype.newbyteorder(tiff.byteorder)
            mapped = np.memmap(self.path, dtype, "r", series.dataoffset, tuple(series.shape))
            rows = [
                1 if axis in self.spatial[:-1] else n
                for axis, n in zip(series.axes, series.shape, strict=True)
            ]
            return mapped, rows
        zarr = zarr_module(self.path)
        array = zarr.open_array(series.aszarr(level=0), mode="r")
        _require_small_pieces(self.path, array.chunks, array.dtype)
        return array, array.chunks

    def __call__(self, slices: Slices) -> np.ndarray:
        spans = dict(zip(self.spatial, slices, strict=True))
        try:
            with decoding(self.path, "TIFF"):
                part = np.asarray(self.array[tuple(spans.get(axis, slice(None)) for axis in self.axes)])
                part, axes = coloured(part, self.axes, self.page, self.is_imagej)
        except ImageError as error:
            if "imagecodecs" not in str(error):
                raise
            packing = getattr(self.page.compression, "name", self.page.compression)
            raise ImageError(
                f"{self.path} is compressed in a way ({packing}) of which no parts can be read here; run: "
                "pip install imagecodecs, or export it deflated, in tiles."
            ) from error
        kept = self.kept + "S" * (axes != self.axes)
        array = _numbers(arranged(part, axes, kept))
        alphas = sum(extra in ALPHA for extra in self.alphas)
        return array[..., :-alphas] if alphas else array


def _numbers(array: np.ndarray) -> Shaped[np.ndarray, "*shape channels"]:
    """Return bits as black and white."""
    return array.astype(np.uint8) * 255 if array.dtype == bool else array


def _require_small_pieces(path: Path, chunks: Sequence[int], dtype: np.dtype) -> None:
    size = math.prod(chunks) * dtype.itemsize
    if size > MOST_CHUNK_BYTES:
        raise ImageError(
            f"{path} is stored in pieces of {readable_bytes(size)}, each of which must be unpacked whole; "
            "export it in tiles or chunks of about a megabyte."
        )


def _span(start: Sequence[int], shape: Sequence[int]) -> Slices:
    return tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))


def _digest(pieces: Sequence[str | bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update((piece.encode() if isinstance(piece, str) else piece) + b"\n")
    return digest.hexdigest()
