"""What a user requests of an image: which part of it, how finely, and what besides the classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from swipe_core.checkpoints.file import CheckpointContent
from swipe_core.coordinates import Grid
from swipe_core.errors import CheckpointError, ConfigError, ImageError, nearest_name
from swipe_core.images import MedicalImage
from swipe_core.images.stored import StoredImage
from swipe_core.inference.field import Method

Channelled = TypeVar("Channelled", MedicalImage, StoredImage)

MOST_VOXELS = 2**40  # labels of a terabyte
UNCERTAINTY = "uncertainty"

Span = tuple[int | None, int | None]
"""First voxel, and the one behind the last, along an axis; None for the ends of the image."""


@dataclass(frozen=True)
class Request:
    """A request that holds for every image of a call, with numbers in array-axis order.

    Attributes
    ----------
    factor
        Times as many voxels as the image along each axis; of a stack along the axes of its frames.
    spacing
        World units between the voxels of the result instead, one for each axis of the model.
    method
        As in `OccupancyField.render`.
    region
        The part of the stored image that is segmented, by itself: one span for each of its axes.
    frames
        The image is a stack along its first axis, whose frames a 2D model segments one by one.
    objects
        Number the objects, which are connected parts of a class where the model does not tell them apart, and
        measure them.
    instances
        Number the objects, frame by frame, as `iter_objects` of `swipe_core.inference.instances` does.
    probability
        Classes, or ``"background"``, whose probability is mapped.
    uncertainty
        Map how close the two most probable classes are.
    channels
        Numbers, from 1 on, or names of the channels, or points in time, that are given to the model, in its
        order; of all images all of them where none is named.
    """

    factor: float | None = None
    spacing: tuple[float, ...] | None = None
    method: Method | None = None
    region: tuple[Span, ...] | None = None
    frames: bool = False
    objects: bool = False
    instances: bool = False
    probability: tuple[str, ...] = ()
    uncertainty: bool = False
    channels: tuple[str, ...] = ()

    def image_ndim(self, content: CheckpointContent) -> int:
        """Spatial axes that the images must have."""
        return content.model.ndim + self.frames

    @property
    def map_names(self) -> tuple[str, ...]:
        """The names of the maps in a `Result`."""
        names = [f"probability_{name}" for name in self.probability]
        return (*names, UNCERTAINTY) if self.uncertainty else tuple(names)

    def check(self, content: CheckpointContent) -> None:
        """See that it can be answered by a model, before any image is read.

        Raises
        ------
        ConfigError
            When a number is unusable, there are more or fewer of them than axes or channels, or the model
            has no such class.
        CheckpointError
            When frames are asked of a 3D model.
        """
        ndim = content.model.ndim
        if self.frames and ndim != 2:
            raise CheckpointError(
                f"{content.name} is a {ndim}D model: it takes a stack as a whole, not in frames."
            )
        self._check_size(ndim)
        self._check_channels(content)
        axes = self.image_ndim(content)
        if self.region is not None and len(self.region) != axes:
            raise ConfigError(f"The region needs {axes} spans for {axes}D images; got {len(self.region)}.")
        known = ("background", *content.labels.class_names)
        for name in self.probability:
            if name not in known:
                raise ConfigError(
                    f"{content.name} has no class {name!r}; choose one of {', '.join(known)}."
                    f"{nearest_name(name, known)}"
                )

    def _check_channels(self, content: CheckpointContent) -> None:
        expected = content.preprocessing.channel_kinds
        fitting = (expected.count, 1) if expected.is_colour else (expected.count,)
        if self.channels and len(self.channels) not in fitting:
            given = " ".join(self.channels)
            raise ConfigError(f"{content.name} takes {expected}: choose as many with --channel; got {given}.")

    def _check_size(self, ndim: int) -> None:
        if self.factor is not None and not 0 < self.factor < math.inf:
            raise ConfigError(f"The factor must be a number above 0; got {self.factor:g}.")
        if self.spacing is None:
            return
        given = " ".join(f"{step:g}" for step in self.spacing)
        if not all(0 < step < math.inf for step in self.spacing):
            raise ConfigError(f"The spacing needs numbers above 0; got {given}.")
        if len(self.spacing) != ndim:
            raise ConfigError(f"The spacing needs {ndim} numbers for a {ndim}D model; got {given}.")

    def part_of(self, image: MedicalImage) -> MedicalImage:
        """The region and the channels of an image that are to be segmented.

        Raises
        ------
        ImageError
            When a channel is not there, or the region is empty or reaches beyond the image.
        """
        image = self.with_channels(image)
        return image if self.region is None else image.window(*self.span_in(image.shape))

    def with_channels(self, image: Channelled) -> Channelled:
        """An image with the channels alone that are to be segmented."""
        return image.with_channels(self.channels) if self.channels else image

    def span_in(self, shape: Sequence[int]) -> tuple[list[int], list[int]]:
        """First voxel and shape of the region in an image of this shape; they may not fit into it."""
        region = self.region or ((None, None),) * len(shape)
        spans = zip(region, shape, strict=True)
        ends = [(first or 0, n if last is None else last) for (first, last), n in spans]
        return [first for first, _ in ends], [last - first for first, last in ends]

    def grid_of(self, image: Grid) -> Grid:
        """The lattice of the result for an image, or for a frame of a stack.

        Raises
        ------
        ImageError
            When no machine could hold that many voxels, or a spacing leaves but one.
        """
        factors = [self.factor or 1.0] * image.ndim
        if self.spacing is not None:
            factors = [own / step for own, step in zip(image.spacing, self.spacing, strict=True)]
        voxels = math.prod(max(1.0, n * f) for n, f in zip(image.shape, factors, strict=True))
        if voxels > MOST_VOXELS:
            raise ImageError(f"The labels would have {voxels:.3g} voxels: {self.advice}.")
        if self.spacing is not None and all(n * f < 1 for n, f in zip(image.shape, factors, strict=True)):
            own = " ".join(f"{step:g}" for step in image.spacing)
            raise ImageError(
                "The labels would be a single voxel, larger than the image: give a spacing in the image's "
                f"unit, in which its own is {own}."
            )
        return image.scaled(factors) if self.spacing is None else image.respaced(self.spacing)

    @property
    def advice(self) -> str:
        """Words on how to request fewer voxels."""
        coarser = "a coarser spacing" if self.spacing is not None else f"a factor below {self.factor or 1:g}"
        return f"use {coarser}, or a region of the image"
