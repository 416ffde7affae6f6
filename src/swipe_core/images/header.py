"""What a file says of its voxels, read without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChannelAxis = Literal["channel", "time"]


@dataclass(frozen=True)
class ImageHeader:
    """What `MedicalImage` has no room for; the defaults are those of a format that does not say.

    Attributes
    ----------
    channel_axis
        What the last axis of `MedicalImage.array` counts.
    channels
        How long it is, if known.
    is_integer
        Whether whole numbers are stored, and meant: without a slope or an intercept.
    is_declared_labels
        Whether the file calls itself a label map.
    """

    channel_axis: ChannelAxis = "channel"
    channels: int | None = None
    is_integer: bool = False
    is_declared_labels: bool = False
