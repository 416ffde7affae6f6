"""What the plugin writes into the metadata of layers, and reads there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer

    from swipe_core.images import Space

PREFIX = "swipe_"  # of the keys: the name of a field follows


@dataclass(frozen=True)
class LayerMetadata:
    """Notes of the plugin in the metadata of a layer."""

    space: Space | None = None
    """What its world is."""
    channels: tuple[str, ...] = ()
    """What its channels are called."""
    model: str | None = None
    """The model that segments such an image, by name."""
    base_level: int | None = None
    """Of labels that are decoded as they are looked at: which of the levels is the one to save."""
    of_image: object = None
    """Of labels that were made of a segmentation: the identity of the image layer."""
    is_map: bool = False
    """Whether it was made of a segmentation or a training, and is not to be segmented itself."""
    is_annotation: bool = False
    """Whether it was made to be painted on: its numbers, names and colours follow the scheme."""
    is_whole: bool = False
    """Whether every voxel of an annotation is labelled: what is erased is background."""
    pair: tuple[str, str, str] | None = None
    """The folder of a project, the pair in it, and which of its layers this is: "image" or "labels"."""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> LayerMetadata:
        """Return what stands in the metadata of a layer."""
        keys = {field.name: PREFIX + field.name for field in fields(cls)}
        return cls(**{name: metadata[key] for name, key in keys.items() if key in metadata})

    @property
    def entries(self) -> dict[str, Any]:
        """What is said here and is not a default, as entries of a layer's metadata."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {PREFIX + name: value for name, (value, default) in values.items() if value != default}


def metadata_of(layer: Layer) -> LayerMetadata:
    """Return what a layer says of itself."""
    return LayerMetadata.of(layer.metadata)
