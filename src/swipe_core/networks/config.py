"""What every network's configuration says, whatever the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class NetworkConfig(BaseModel):
    """The fields that all networks share; each network adds its own, and its name as `network`.

    Attributes
    ----------
    network
        Which network this is: the name by which configurations and checkpoints choose it.
    weightless_fields
        Fields that no weight depends on.
    volume_defaults
        What the 3D network has in place of the defaults, which are those of the 2D one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    weightless_fields: ClassVar[tuple[str, ...]] = ()
    volume_defaults: ClassVar[Mapping[str, Any]] = {}

    network: str
    ndim: Literal[2, 3] = Field(2, description="2 for images, 3 for volumes")
    channels: int = Field(3, ge=1, description="channels of the input image")
    classes: int = Field(2, ge=2, le=256, description="background and the foreground classes")

    @model_validator(mode="before")
    @classmethod
    def _in_volumes(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("ndim") == 3:
            return {**cls.volume_defaults, **values}
        return values

    @property
    def answers_per_point(self) -> int:
        """How often the network is asked about each point that it learns from."""
        return 1

    def same_network(self, other: NetworkConfig) -> bool:
        """Whether weights of one fit the other: all but the fields that have none agrees."""
        if type(self) is not type(other):
            return False
        return self == other.model_copy(update={name: getattr(self, name) for name in self.weightless_fields})

    def least_tensors(self) -> int:
        """A number that the network surely has no fewer tensors than, told without building it."""
        return 0

    def fault_with_crop(self, crop_size: Sequence[int] | None) -> str | None:
        """Why the network cannot learn from crops of a size (None: whole images); None where it can."""
        return None
