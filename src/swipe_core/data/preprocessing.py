"""From an image of any intensity range and spacing to the tensor a network takes.

The paper: 2D intensities to [-1, 1]; 3D CT re-spaced to 0.76 x 0.76 x 3 mm, clipped to
[-1000, 1000] HU and brought to [0, 1] (Table 1 of the supplement of Zhang et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, field_validator, model_validator
from torch import Tensor

from swipe_core.compute.memory import out_of_memory_as
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError
from swipe_core.images import MedicalImage, Space
from swipe_core.images.channels import ChannelAxis, Channels, channels_taken
from swipe_core.images.orientation import UNDECIDED, is_orientation, oriented
from swipe_core.images.stored import StoredImage
from swipe_core.images.units import PIXEL, conversion, symbol_of, unit_named

MOST_VOXELS = 2**31  # of an image that a network takes at once
OUTLIER_PERCENTILES = (0.5, 99.5)
RANKED = ("standardise", "range")  # intensities that go by these
USUAL_UNITS = ("millimeter", "micrometer")
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"


class PreprocessingConfig(BaseModel):
    """The form of the images that a network was trained on, to which every image is brought.

    `ndim` and `channels`: of the tensor.
    `intensity` {"window", "standardise", "range", "unit"}: ``"window"`` maps `window` to [0, 1] and clips.
    ``"range"`` maps the 0.5 and 99.5 percentiles of every channel of every image to [-1, 1] and clips.
    ``"standardise"`` gives every channel of every image mean 0 and standard deviation 1, after clipping it to
    its 0.5 and 99.5 percentiles. ``"unit"`` maps to [-1, 1]: 8-bit images by their full range, all others by
    the least and the greatest value of the image, since most microscopes use 12 of 16 bits.
    `window` (low, high), optional: in the intensity of the file (HU for CT); required for, and only for,
    ``"window"``.
    `spacing`: re-space to about this, in array-axis order and in `spacing_unit`.
    `spacing_unit`: a unit of length, or ``"pixel"`` for a model of images that have none. A training records
    it; where it is missing, as in older models, `likely_unit` decides.
    `size`: resize the whole image to this many voxels, in array-axis order. Not with `spacing`.
    `crop_size`: train on crops, and infer in windows, of this many voxels; None: on the whole image.
    `orientation`: the anatomical orientation of the network's volumes, such as ``"RAS"`` (see
    `swipe_core.images.orientation`): images that state theirs are brought to it by permuting and flipping
    their axes. None where the training images stated none. ``"auto"``, in a configuration: decided by the
    training images; a model that still says so was trained by an earlier version, and takes images as they
    are stored.
    `channel_axis`: what the channels of the training images are; None: colours where a 2D network takes
    three.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ndim: Literal[2, 3]
    channels: int = Field(ge=1)
    intensity: Literal["window", "standardise", "range", "unit"] = "unit"
    window: tuple[FiniteFloat, FiniteFloat] | None = None
    spacing: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] | None = None
    spacing_unit: str | None = None
    size: tuple[PositiveInt, ...] | None = None
    crop_size: tuple[PositiveInt, ...] | None = None
    orientation: str | None = UNDECIDED
    channel_axis: ChannelAxis | None = None

    @field_validator("spacing_unit")
    @classmethod
    def _is_a_unit(cls, unit: str | None) -> str | None:
        if unit is None or unit == PIXEL or unit_named(unit) != PIXEL:
            return None if unit is None else unit_named(unit)
        raise ValueError(f"`spacing_unit` is a unit of length, such as millimeter, or pixel; got {unit!r}.")

    @model_validator(mode="after")
    def _fits_together(self) -> PreprocessingConfig:
        stated = None if self.orientation == UNDECIDED else self.orientation
        if stated is not None and not (self.ndim == 3 and is_orientation(stated)):
            raise ValueError(
                "`orientation` is three letters such as RAS or LPS for a network of three axes, auto, or "
                f"nothing; got {stated!r} for ndim {self.ndim}."
            )
        if (self.intensity == "window") != (self.window is not None):
            raise ValueError("`window` goes with intensity: window, and only with it.")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"`window` needs a low and a higher value; got {self.window}.")
        if self.spacing is not None and self.size is not None:
            raise ValueError("`spacing` and `size` exclude each other; give one of them.")
        for name in ("spacing", "size", "crop_size"):
            value = getattr(self, name)
            if value is not None and len(value) != self.ndim:
                raise ValueError(
                    f"`{name}` needs {self.ndim} numbers for ndim {self.ndim}; got {len(value)}."
                )
        for name in ("size", "crop_size"):
            voxels = math.prod(getattr(self, name) or ())
            if voxels > MOST_VOXELS:
                raise ValueError(f"`{name}` makes {voxels:.3g} voxels, more than any memory holds; lower it.")
        return self

    @property
    def spacing_text(self) -> str:
        """The spacing as a message names it: ``"1 x 1 x 1 mm"``."""
        return (
            f"{' x '.join(f'{step:g}' for step in self.spacing or ())} {symbol_of(self.spacing_unit or '')}"
        )

    @property
    def channel_kinds(self) -> Channels:
        """The channels that the network takes."""
        return channels_taken(self.ndim, self.channels, self.channel_axis)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A tensor for a network, and the way back to the world."""

    tensor: Float[Tensor, "channels *shape"]
    """(channels, *shape) float32"""
    affine: Affine
    """Voxel frame of the tensor to world."""
    unit: str
    """Of the world."""
    name: str = "The image"
    """What to call it in a message to the user."""
    space: Space = Space()
    """What is known of the world."""

    @property
    def ndim(self) -> int:
        return self.affine.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, without channels."""
        return tuple(self.tensor.shape[1:])

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, self.affine)


def preprocess(image: MedicalImage, config: PreprocessingConfig) -> PreparedImage:
    """Turn the axes, fit the channels, resample, then bring the intensities to their range.

    The extent of the image in the world stays as it is: voxel borders are kept and centres move (see
    `Grid.resized`). Smaller images are smoothed against aliasing. Raises `ImageError` when the image has
    other axes or channels than the network, or values that are not finite. `Channels.fits` says which
    channels serve which network.
    """
    if image.ndim != config.ndim:
        raise ImageError(f"{image.name} is {image.ndim}D, and this model is for {config.ndim}D images.")
    image = oriented(image, config.orientation)
    array = fitted_channels(image, config.channel_kinds)
    grid = target_grid(image, config)
    size = " x ".join(map(str, grid.shape))
    with out_of_memory_as(
        f"{image.name} brought to {size} voxels, as the model wants it, does not fit into memory: crop it, "
        "or correct its spacing."
    ):
        array = _resample(array, grid.shape)
        array = scaled(array, config, intensity_statistics(array, config, image.array.dtype))
        tensor = channels_first(array)
    return PreparedImage(tensor, grid.affine, image.unit, image.name, image.space)


def resampled(image: MedicalImage, grid: Grid) -> MedicalImage:
    """Return the same image on another lattice over the same space, with values of the same kind.

    Linear interpolation, after smoothing along axes that become coarser.
    """
    array = _resample(image.array.astype(np.float32), grid.shape)
    if np.issubdtype(image.array.dtype, np.integer):
        array = np.rint(array)
    return replace(image, array=array.astype(image.array.dtype), affine=grid.affine)


def channels_first(array: Float32[np.ndarray, "*shape channels"]) -> Float[Tensor, "channels *shape"]:
    """Return an image as a network takes it."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0)))


def fitted_channels(image: MedicalImage, taken: Channels) -> Float32[np.ndarray, "*shape channels"]:
    """Return the intensities of an image, or of a part of it, in as many channels as a network takes.

    Raises `ImageError` when its channels do not suit the network, or values are not finite.
    """
    array = _fit_channels(image, taken)
    if not np.isfinite(array).all():
        raise ImageError(f"{image.name} has values that are NaN, infinite or too large; replace them first.")
    return array


def target_grid(image: MedicalImage | StoredImage, config: PreprocessingConfig) -> Grid:
    """Return the lattice that an image is brought to.

    Raises `ImageError` when the model works at a spacing, and nothing says how large the image's voxels are.
    """
    grid = image.grid
    if config.size is not None:
        return grid.resized(config.size)
    if config.spacing is None:
        return grid
    if config.spacing_unit == PIXEL and image.unit != PIXEL:  # such a model knows voxels alone
        return grid.resized([max(1, round(n / s)) for n, s in zip(grid.shape, config.spacing, strict=True)])
    if image.unit == PIXEL and config.spacing_unit not in (None, PIXEL):
        raise ImageError(
            f"{image.name} does not state how large its voxels are, and the model works at a spacing of "
            f"{config.spacing_text}: store the image with its voxel spacing and unit, as OME-TIFF or "
            "NIfTI, or open it in napari and set both under Spacing."
        )
    factor = conversion(config.spacing_unit or likely_unit(image, config.spacing), image.unit)
    return grid.respaced([step * factor for step in config.spacing])


def likely_unit(image: MedicalImage | StoredImage, spacing: Sequence[float]) -> str:
    """Return the unit of a spacing that does not state it, of a model for such an image.

    It is the image's, millimetres, or micrometres: in which the spacing comes nearest to the image's own.
    """
    if image.unit == PIXEL:
        return PIXEL

    def distance(unit: str) -> float:
        steps = np.asarray(image.spacing) * conversion(image.unit, unit)
        return float(np.abs(np.log(steps / np.asarray(spacing)).mean()))

    return min((image.unit, *USUAL_UNITS), key=distance)


def _fit_channels(image: MedicalImage, taken: Channels) -> Float32[np.ndarray, "*shape channels"]:
    kinds = image.channel_kinds
    if not kinds.fits(taken):
        raise ImageError(f"{image.name} has {kinds}; this model takes {taken}: {kinds.remedy(taken)}.")
    with np.errstate(over="ignore"):  # becomes infinite, which the caller looks for
        array = image.array.astype(np.float32)
    if image.channels == taken.count:
        return array
    if image.channels == 1:
        return np.repeat(array, taken.count, axis=-1)
    return (array @ np.asarray(LUMINANCE, np.float32))[..., None]


def _resample(
    array: Float32[np.ndarray, "*source channels"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "*shape channels"]:
    if array.shape[:-1] == shape:
        return array
    from skimage.transform import resize

    return resize(
        array, (*shape, array.shape[-1]), order=1, mode="edge", anti_aliasing=True, preserve_range=True
    )


@dataclass(frozen=True)
class IntensityStatistics:
    """The numbers of a whole image by which its intensities are scaled."""

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """`low` and `high`: the least and the greatest value, or the percentiles, of each channel; one number for
    all channels with ``"unit"``, none with ``"window"``.
    """
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    """`mean` and `deviation`: of each channel between them, with ``"standardise"``."""


def intensity_statistics(
    array: Float32[np.ndarray, "*shape channels"], config: PreprocessingConfig, dtype: np.dtype
) -> IntensityStatistics:
    """Compute the statistics of a whole image whose file has numbers of `dtype`."""
    if config.intensity in RANKED:
        axes = tuple(range(array.ndim - 1))
        low, high = np.percentile(array, OUTLIER_PERCENTILES, axis=axes)
        if config.intensity == "range":
            return IntensityStatistics(tuple(low.tolist()), tuple(high.tolist()))
        clipped = np.clip(array, low.astype(np.float32), high.astype(np.float32))
        # Double precision for the sums.
        mean, deviation = clipped.mean(axis=axes, dtype=np.float64), clipped.std(axis=axes, dtype=np.float64)
        return IntensityStatistics(*(tuple(values.tolist()) for values in (low, high, mean, deviation)))
    if config.window is not None:
        return IntensityStatistics()
    # Over all channels at once, which keeps colours.
    full = full_range(dtype) or (float(array.min()), float(array.max()))
    return IntensityStatistics(full[:1], full[1:])


def full_range(dtype: np.dtype) -> tuple[float, float] | None:
    """Return the range of 8-bit numbers, which need not be looked at; None for all others."""
    if dtype not in (np.uint8, np.int8):
        return None
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def scaled(
    array: Float32[np.ndarray, "*shape channels"],
    config: PreprocessingConfig,
    statistics: IntensityStatistics,
) -> Float32[np.ndarray, "*shape channels"]:
    """Bring an image, or a part of it, to the range of intensities that a network was trained on."""
    if config.window is not None:
        low, high = config.window
        return np.clip((array - np.float32(low)) / np.float32(high - low), 0, 1)
    least, greatest = np.asarray(statistics.low, np.float32), np.asarray(statistics.high, np.float32)
    if config.intensity == "standardise":
        deviation = np.asarray(statistics.deviation, np.float64)
        # A constant channel becomes 0, as does one whose differences single precision does not hold.
        has_contrast = deviation >= np.finfo(np.float32).tiny
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=has_contrast)
        shifted = np.clip(array, least, greatest) - np.asarray(statistics.mean, np.float32)
        return (shifted * scale.astype(np.float32)).astype(np.float32)
    if config.intensity == "range":
        array = np.clip(array, least, greatest)
    # A constant image becomes -1, as black is.
    half_range = (greatest - least) / 2
    return (array - least) / np.where(half_range > 0, half_range, np.float32(1)) - 1
