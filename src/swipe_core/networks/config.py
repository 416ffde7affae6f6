"""What every network's configuration says, and `Kind`, the record of a network that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from swipe_core.networks.catalogue import CATALOGUE, Preset, wrong_dimension

if TYPE_CHECKING:
    from swipe_core.networks.segmenter import Segmenter

Sizes = Mapping[tuple[Preset, int], dict[str, Any]]
"""The fields of a configuration that are about the size, by preset and dimension."""

QUICK_RATE = 1e-3  # learning rate of "quick", whatever the network


class NetworkConfig(BaseModel):
    """The fields that all networks share; each network adds its own, and its name as `network`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    weightless_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that no weight depends on."""
    volume_defaults: ClassVar[Mapping[str, Any]] = {}
    """What the 3D network has in place of the defaults, which are those of the 2D one."""

    network: str
    """Which network this is: the name by which configurations and checkpoints choose it."""
    ndim: Literal[2, 3] = Field(2, description="2 for images, 3 for volumes")
    channels: int = Field(3, ge=1, description="channels of the input image")
    classes: int = Field(2, ge=2, le=256, description="background and the foreground classes")

    @model_validator(mode="before")
    @classmethod
    def _in_volumes(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("ndim") == 3:
            return {**cls.volume_defaults, **values}
        return values

    @field_validator("ndim")
    @classmethod
    def _has_dimension(cls, ndim: int) -> int:
        entry = CATALOGUE.get(str(cls.model_fields["network"].default))
        if entry is not None and ndim not in entry.dimensions:
            raise ValueError(wrong_dimension(entry, ndim).removesuffix("."))
        return ndim

    @property
    def answers_per_point(self) -> int:
        """How often the network is evaluated at each point that it learns from."""
        return 1

    def same_network(self, other: NetworkConfig) -> bool:
        """Return whether weights of one fit the other: all fields agree but those that have none."""
        if type(self) is not type(other):
            return False
        return self == other.model_copy(update={name: getattr(self, name) for name in self.weightless_fields})

    def least_tensors(self) -> int:
        """Return a number that the network surely has no fewer tensors than, without building it."""
        return 0

    @classmethod
    def fields_for_crop(cls, crop: Sequence[int]) -> Mapping[str, Any]:
        """Return the fields that depend on the size of the crops that are learned from, in voxels."""
        return {}

    def fault_with_crop(self, crop_size: Sequence[int] | None) -> str | None:
        """Return why the network cannot learn from crops of a size (None: whole images), if it cannot."""
        return None


@dataclass(frozen=True)
class Kind:
    """A kind of network; its entry in `swipe_core.networks.catalogue` has it in words."""

    config: type[NetworkConfig]
    """Its configuration."""
    build: Callable[[Any], Segmenter]
    """Makes it, freshly initialised. Seed torch before calling for a reproducible start."""
    sizes: Sizes
    """For every preset and dimension what differs from the configuration's defaults, which are about the size
    that Zhang et al. 2023 compare. SwIPE's smaller sizes were chosen by training; those of the others have
    fewer channels, in the proportions of their defaults.
    """
    rates: Mapping[int, float]
    """Peak learning rates by dimension, but for "quick": Table 1 of the supplement of Zhang et al. 2023, but
    for SwIPE in 3D (0.00075).
    """
    batches: Mapping[tuple[Preset, int], int] = field(default_factory=dict)
    """Images a step on a GPU, where a size needs fewer than other networks."""

    def fields(self, preset: Preset, ndim: int, crop: Sequence[int]) -> dict[str, Any]:
        """Return the fields of a section `model` that are about the size.

        `crop`: the size of what the network learns from, in voxels.
        """
        name = self.config.model_fields["network"].default
        chosen = {"network": name, "ndim": ndim} | self.sizes[preset, ndim]
        return chosen | dict(self.config.fields_for_crop(crop))

    def learning_rate(self, preset: Preset, ndim: int) -> float:
        """Return the peak learning rate of a training from nothing."""
        return QUICK_RATE if preset == "quick" else self.rates[ndim]


def in_2d_and_3d(quick: dict[str, Any], standard: dict[str, Any]) -> dict[tuple[Preset, int], dict[str, Any]]:
    """Return sizes that are the same in both dimensions, the defaults being those of the paper."""
    by_preset: dict[Preset, dict[str, Any]] = {"quick": quick, "standard": standard, "paper": {}}
    return {(preset, ndim): size for ndim in (2, 3) for preset, size in by_preset.items()}
