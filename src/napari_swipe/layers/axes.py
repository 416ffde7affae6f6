"""What the axes of a layer are: space, channels, or frames that are segmented one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_swipe.layers.metadata import metadata_of
from swipe_core.errors import ImageError, SwipeError
from swipe_core.images.channels import Channels
from swipe_core.images.formats import TIFF, named_format

if TYPE_CHECKING:
    from napari.layers import Image


Role = Literal["space", "channel", "frame"]
ROLES: tuple[Role, ...] = ("space", "channel", "frame")
CHANNEL_NAMES = ("channel", "channels", "c", "ch", "colour")
TIME_NAMES = ("t", "time", "frame", "frames")
FRAME_NAMES = (*CHANNEL_NAMES, *TIME_NAMES)
DEPTH_NAMES = ("z", "depth", "slice", "slices", "plane", "planes")


@dataclass(frozen=True)
class AxisRoles:
    """The role of each axis of a layer's data, in order; the colour axis of an RGB layer is not one."""

    roles: tuple[Role, ...]
    """One for each axis."""
    rgb: bool = False
    """Whether colours follow as a last axis, which napari does not count."""

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial axes, in order: (y, x) or (z, y, x)."""
        return tuple(axis for axis, role in enumerate(self.roles) if role == "space")

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(axis for axis, role in enumerate(self.roles) if role == "frame")

    def channel_like(self, labels: Sequence[str]) -> int | None:
        """The axis of the channels, or else one that is called so, which is segmented frame by frame."""
        named = [axis for axis in self.frames if labels[axis].lower() in CHANNEL_NAMES]
        return self.channel if self.channel is not None else next(iter(named), None)

    def with_role(self, axis: int, role: Role) -> AxisRoles:
        """The same with another role for an axis."""
        return replace(self, roles=(*self.roles[:axis], role, *self.roles[axis + 1 :]))

    @property
    def channel(self) -> int | None:
        """The axis of the channels, if one of those that napari counts."""
        return self.roles.index("channel") if "channel" in self.roles else None

    def check(self, ndim: int, name: str) -> None:
        """See that a model of `ndim` axes can be used.

        An `ImageError` is raised when there are not as many spatial axes, or several of channels.
        """
        if len(self.space) != ndim:
            raise ImageError(
                f"{name} has {len(self.space)} spatial {'axis' if len(self.space) == 1 else 'axes'} as set "
                f"here, and the model is {ndim}D: set the roles of the axes so that {ndim} are spatial, or "
                "pick another model."
            )
        if self.roles.count("channel") + self.rgb > 1:
            raise ImageError(f"{name} can have one channel axis only: set the others to frames.")


def guess_roles(
    shape: Sequence[int], labels: Sequence[str], rgb: bool, model_ndim: int, model_channels: Channels
) -> AxisRoles:
    """The most likely roles for a model.

    The last axes are space, as many as the model has. An axis called channel, or one before them whose
    length is the model's number of channels, holds the channels if the model wants several; three pictures
    without a name are no colours. All others are frames: a stack of pictures for a 2D model, points in
    time, or channels one by one.

    `shape`: of the layer's data, without the colour axis of an RGB layer.
    `labels`: the layer's axis labels.
    """
    axes = list(range(len(shape)))
    channel = None
    count = model_channels.count
    if (count > 1 or "colour" in labels) and not rgb and len(axes) > model_ndim:
        named = [axis for axis in axes if labels[axis].lower() in CHANNEL_NAMES]
        fitting = [axis for axis in axes if shape[axis] == count and axis < len(axes) - model_ndim]
        fitting = [] if model_channels.is_colour else fitting
        channel = next(iter([*named, *fitting]), None)
    others = [axis for axis in axes if axis != channel]
    # A channel axis is no frame to lose: with a grey model each channel is segmented by itself.
    spatial = set([axis for axis in others if labels[axis].lower() not in CHANNEL_NAMES][-model_ndim:])
    roles: list[Role] = [
        "channel" if axis == channel else "space" if axis in spatial else "frame" for axis in axes
    ]
    return AxisRoles(tuple(roles), rgb)


NAMES = {"C": "channel", "S": "colour", "T": "time", "Z": "z", "Y": "y", "X": "x"}

Axes = tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]
"""Lengths and names of the axes, and names of the channels."""


def axis_labels(layer: Image) -> tuple[str, ...]:
    """Return the layer's own labels where somebody set them, else those of its file."""
    own = tuple(str(label) for label in layer.axis_labels)
    found = _found(layer)
    return own if found is None or not all(label.startswith("-") for label in own) else found[1]


def channel_names(layer: Image) -> tuple[str, ...]:
    """Return what the reader of the layer, or its file, calls the channels."""
    found = _found(layer)
    return tuple(metadata_of(layer).channels) or (found[2] if found else ())


def _found(layer: Image) -> Axes | None:
    path = Path(layer.source.path or "")
    is_colour = getattr(layer, "rgb", False)  # labels have no colours
    if is_colour or named_format(path) is not TIFF or not path.is_file():
        return None
    found = _of_file(path, path.stat().st_mtime_ns)
    return found if found is not None and found[0] == tuple(layer.data.shape) else None


@lru_cache(maxsize=64)
def _of_file(path: Path, changed: int) -> Axes | None:
    from swipe_core.images.tiff_series import tiff_axes

    try:
        letters, shape, kinds = tiff_axes(path)
    except SwipeError:  # whoever reads it will say so
        return None
    return shape, tuple(NAMES.get(letter, letter.lower()) for letter in letters), kinds.names
