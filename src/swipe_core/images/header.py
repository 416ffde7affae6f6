"""What a file says of its voxels, read without them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageHeader:
    """What `MedicalImage` has no room for; the defaults are those of a format that does not say.

    Attributes
    ----------
    channels
        How long the last axis of `MedicalImage.array` is, if known.
    is_integer
        Whether whole numbers are stored, and meant: without a slope or an intercept.
    is_declared_labels
        Whether the file calls itself a label map.
    """

    channels: int | None = None
    is_integer: bool = False
    is_declared_labels: bool = False
