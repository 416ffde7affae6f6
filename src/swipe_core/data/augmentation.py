"""Random variation of training images: drawing the parameters is apart from applying them.

`draw_spatial` and `draw_appearance` spend the randomness of a `torch.Generator` on small frozen
objects; `SpatialTransform` and `Appearance` then act without any. Points follow the image by the
exact transform that warps it, so label maps are never interpolated.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy import ndimage
from torch import Tensor

from swipe_core.coordinates import Affine, sample_at
from swipe_core.data.appearance import Appearance
from swipe_core.errors import ConfigError

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
Padding = Literal["border", "zeros", "reflection"]

TRUNCATION = 4.0  # deviations at which a Gaussian ends; scipy's own, and so that of preprocessing
LEAST_DEVIATION = 0.2  # voxels, of a Gaussian that is worth its time: a neighbour weighs 4e-6 in it


class AugmentationConfig(BaseModel):
    """The variations of training images: how often, and by how much.

    The defaults are those of the paper's 2D experiments (supplement: flips and rotation of at most
    30 degrees and colour jitter, each with probability 0.5). Where an image has no third colour
    channel, saturation and hue are left alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: Probability = Field(0.5, description="Probability of a mirror image, for each axis by itself.")
    flip_axes: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="Array axes that may be mirrored, 0 first; None: all of them."
    )
    rotation: Probability = Field(0.5, description="Probability of a rotation.")
    rotation_degrees: float = Field(30.0, ge=0, le=180, description="Largest angle, either way.")
    scale: Probability = Field(0.0, description="Probability of a change of size.")
    scale_range: Range = Field((0.8, 1.25), description="Smallest and largest magnification.")
    padding: Padding = Field("border", description="What lies outside the image.")
    colour: Probability = Field(0.5, description="Probability of a change of colour, all parts together.")
    brightness: float = Field(0.2, ge=0, description="Largest shift, in standard deviations of the image.")
    contrast: float = Field(0.2, ge=0, lt=1, description="Largest relative change of the deviation.")
    saturation: float = Field(0.2, ge=0, le=1, description="Largest relative change of the saturation.")
    hue: float = Field(0.05, ge=0, le=0.5, description="Largest turn of the hue; 1 is the whole circle.")
    tint: float = Field(0.0, ge=0, lt=1, description="Largest relative change of each colour by itself.")
    blur: Probability = Field(0.0, description="Probability of a loss of sharpness.")
    blur_deviation: float = Field(1.5, gt=0, description="Largest deviation of the blur, in voxels.")
    intensity: Probability = Field(0.0, description="Probability of a gamma curve with noise.")
    gamma_range: Range = Field((0.7, 1.5), description="Smallest and largest exponent.")
    noise: float = Field(0.1, ge=0, description="Largest noise, in standard deviations of the image.")

    @field_validator("scale_range", "gamma_range")
    @classmethod
    def _rises(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError(f"a range goes from small to large; got {limits[0]} to {limits[1]}")
        return limits


@dataclass(frozen=True, eq=False)
class SpatialTransform:
    """A crop, flip, rotation and change of size of an image, and of the points that belong to it."""

    affine: Affine
    """From the voxel frame of the output to the voxel frame of the source."""
    output_shape: tuple[int, ...]
    source_shape: tuple[int, ...]
    """`output_shape` and `source_shape`: spatial shapes in array-axis order."""
    padding: Padding = "border"
    """What the output shows where it reaches beyond the source."""

    def apply_image(self, image: Float[Tensor, "channels *source"]) -> Float[Tensor, "channels *output"]:
        """Warp an image by linear interpolation, smoothed before where voxels become larger.

        A pure crop or flip inside the source copies its voxels bit by bit; a pure crop is a view.
        """
        if self._copies_voxels():
            return self._crop_and_flip(image)
        box, smoothed = self._smoothed(image)
        shift = Affine.from_parts(np.eye(self.affine.ndim), [-part.start for part in box])
        source_image = Affine.image_from_voxel(smoothed.shape[1:]) @ shift @ self.affine
        return sample_at(smoothed, _lattice(source_image, self.output_shape).to(image), self.padding)

    def to_output_image(self, points_source: Float[Tensor, "*points ndim"]) -> Float[Tensor, "*points ndim"]:
        """Bring points of the source's image frame to the output's image frame.

        Points that the crop leaves out land beyond [-1, 1].
        """
        return self._source_from_output().inverse().apply(points_source)

    def to_source_image(self, points_output: Float[Tensor, "*points ndim"]) -> Float[Tensor, "*points ndim"]:
        """The inverse of `to_output_image`: the source coordinate p^S of points of the output."""
        return self._source_from_output().apply(points_output)

    def _source_from_output(self) -> Affine:
        to_voxel = Affine.image_from_voxel(self.output_shape).inverse()
        return Affine.image_from_voxel(self.source_shape) @ self.affine @ to_voxel

    def _smoothed(self, image: Tensor) -> tuple[tuple[slice, ...], Tensor]:
        """The part of an image that the output shows, smoothed against aliasing as preprocessing smooths."""
        step = abs(np.linalg.det(self.affine.linear)) ** (1 / self.affine.ndim)
        deviation = (step - 1) / 2  # of a resampled image, too
        if deviation < LEAST_DEVIATION:
            return tuple(slice(0, n) for n in self.source_shape), image
        box = self._box_shown(margin=math.ceil(TRUNCATION * deviation) + 1)
        part = image[(slice(None), *box)].numpy()
        deviations = (0.0, *[deviation] * len(box))
        smoothed = ndimage.gaussian_filter(part, deviations, mode="nearest", truncate=TRUNCATION)
        return box, torch.from_numpy(smoothed)

    def _box_shown(self, margin: int) -> tuple[slice, ...]:
        """The voxels of the source about what the output shows; along axes that it reaches beyond, all."""
        last = np.asarray(self.output_shape) - 1
        corners = self.affine.apply(np.array(list(itertools.product(*((0, n) for n in last))), float))
        low = np.floor(corners.min(axis=0)).astype(int) - margin
        high = np.ceil(corners.max(axis=0)).astype(int) + margin + 1
        return tuple(
            slice(int(a), int(b)) if a >= 0 and b <= n else slice(0, n)
            for a, b, n in zip(low, high, self.source_shape, strict=True)
        )

    def _copies_voxels(self) -> bool:
        signs = np.diag(self.affine.linear)
        first = self.affine.origin
        last = first + signs * (np.asarray(self.output_shape) - 1)
        return bool(
            np.array_equal(self.affine.linear, np.diag(np.sign(signs)))
            and np.array_equal(first, np.round(first))
            and np.all(np.minimum(first, last) >= 0)
            and np.all(np.maximum(first, last) < self.source_shape)
        )

    def _crop_and_flip(self, image: Tensor) -> Tensor:
        mirrored = np.diag(self.affine.linear) < 0
        sizes = np.asarray(self.output_shape)
        starts = self.affine.origin.astype(int) - mirrored * (sizes - 1)
        crop = [slice(int(a), int(a + n)) for a, n in zip(starts, sizes, strict=True)]
        axes = [int(axis) + 1 for axis in np.flatnonzero(mirrored)]
        cropped = image[(slice(None), *crop)]
        return cropped.flip(axes) if axes else cropped


def draw_spatial(
    config: AugmentationConfig | None,
    source_shape: Sequence[int],
    output_shape: Sequence[int],
    centre_voxel: Sequence[float] | np.ndarray,
    spacing: Sequence[float],
    generator: torch.Generator,
) -> SpatialTransform:
    """Draw a crop about a point, flipped, rotated and scaled about that point.

    Raises `ConfigError` when `flip_axes` names an axis that the image does not have.

    `config`: None: the crop alone, and no randomness is spent.
    `source_shape` and `output_shape`: spatial shapes; voxels keep their size, so the output may be smaller or
    larger.
    `centre_voxel`: the point of the source, in its voxel frame, that the middle of the output shows. Without
    rotation and scaling the crop is moved by at most half a voxel to lie on whole voxels, which keeps the
    image as sharp as it was.
    `spacing`: world units per voxel. Rotations are rigid in the world, whatever the spacing.
    `generator`: on the CPU.
    """
    ndim = len(source_shape)
    world = np.eye(ndim) if config is None else _draw_world_map(config, ndim, generator)
    # World steps to voxel steps. Exactly 1 on the diagonal where nothing turns or scales.
    linear = world * np.asarray(spacing, float) / np.asarray(spacing, float)[:, None]
    middle = (np.asarray(output_shape, float) - 1) / 2
    origin = np.asarray(centre_voxel, float) - linear @ middle
    if np.array_equal(np.abs(linear), np.eye(ndim)):
        origin = np.floor(origin + 0.5)
    return SpatialTransform(
        affine=Affine.from_parts(linear, origin),
        output_shape=tuple(int(n) for n in output_shape),
        source_shape=tuple(int(n) for n in source_shape),
        padding="border" if config is None else config.padding,
    )


def _draw_world_map(
    config: AugmentationConfig, ndim: int, generator: torch.Generator
) -> Float[np.ndarray, "ndim ndim"]:
    """World offsets in the output to world offsets in the source."""
    axes = range(ndim) if config.flip_axes is None else config.flip_axes
    if any(axis >= ndim for axis in axes):
        raise ConfigError(
            f"flip_axes must name axes 0 to {ndim - 1} of a {ndim}D image; got {list(axes)}: "
            "leave the others out."
        )
    mirrored = torch.rand(ndim, generator=generator).numpy() < config.flip
    signs = np.where(mirrored & np.isin(np.arange(ndim), axes), -1.0, 1.0)
    # Every number is drawn whether used or not, so that one setting never shifts the others' draws.
    angle = _either_way(math.radians(config.rotation_degrees), generator)
    rotation = _rotation(ndim, angle, generator)
    magnification = _log_uniform(config.scale_range, generator)
    rotates, scales = _happens(config.rotation, generator), _happens(config.scale, generator)
    world = rotation if rotates else np.eye(ndim)
    return world * signs / (magnification if scales else 1.0)


def _rotation(ndim: int, angle: float, generator: torch.Generator) -> Float[np.ndarray, "ndim ndim"]:
    """Rotation by `angle` (radians) in the plane, or about an axis uniform on the sphere."""
    planes = torch.randn(ndim * (ndim - 1) // 2, generator=generator, dtype=torch.float64)
    turn = torch.zeros(ndim, ndim, dtype=torch.float64)
    rows, columns = torch.triu_indices(ndim, ndim, offset=1)
    turn[rows, columns] = angle * planes / planes.norm()
    return torch.linalg.matrix_exp(turn - turn.T).numpy()


def _lattice(affine: Affine, shape: Sequence[int]) -> Float[Tensor, "*shape ndim"]:
    """All voxels of an array, mapped; summed axis by axis, which is cheaper than a product per voxel."""
    points = torch.from_numpy(affine.origin.astype(np.float32))
    for axis, size in enumerate(shape):
        step = torch.from_numpy(affine.linear[:, axis].copy())
        along = (torch.arange(size, dtype=torch.float64)[:, None] * step).float()
        points = points + along.reshape(*([1] * axis), size, *([1] * (len(shape) - axis - 1)), -1)
    return points


def draw_appearance(
    config: AugmentationConfig | None, is_colour: bool, generator: torch.Generator
) -> Appearance:
    """Draw a change of appearance for an image.

    None draws no change and spends no randomness; saturation and hue vary only where the channels are
    red, green and blue.
    """
    if config is None:
        return Appearance()
    drawn = Appearance(
        gamma=_log_uniform(config.gamma_range, generator),
        contrast=1 + _either_way(config.contrast, generator),
        brightness=_either_way(config.brightness, generator),
        saturation=1 + _either_way(config.saturation, generator),
        hue=_either_way(config.hue, generator),
        noise=_uniform(0.0, config.noise, generator),
        noise_seed=int(torch.randint(2**31, (), generator=generator)),
    )
    colours, grades = _happens(config.colour, generator), _happens(config.intensity, generator)
    if not colours:
        drawn = replace(drawn, contrast=1.0, brightness=0.0)
    if not (colours and is_colour):
        drawn = replace(drawn, saturation=1.0, hue=0.0)
    if not grades:
        drawn = replace(drawn, gamma=1.0, noise=0.0, noise_seed=0)
    # Later than all others, so that runs without them draw what they always drew.
    if config.tint > 0 and colours and is_colour:
        drawn = replace(drawn, tint=tuple(1 + _either_way(config.tint, generator) for _ in range(3)))
    if config.blur > 0 and _happens(config.blur, generator):
        drawn = replace(drawn, blur=_uniform(0.0, config.blur_deviation, generator))
    return drawn


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _either_way(limit: float, generator: torch.Generator) -> float:
    return _uniform(-limit, limit, generator)


def _log_uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    return math.exp(_uniform(math.log(limits[0]), math.log(limits[1]), generator))


def _happens(probability: float, generator: torch.Generator) -> bool:
    return _uniform(0.0, 1.0, generator) < probability
