"""What the numbers in label files mean."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

BACKGROUND = "background"
IGNORED = 255  # among classes: a voxel without an annotation
COLOUR = "#[0-9a-fA-F]{6}"

Colour = Annotated[str, Field(pattern=f"^{COLOUR}$")]


class LabelConfig(BaseModel):
    """What the numbers in a label file mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_names: tuple[str, ...] = Field(
        ("foreground",), min_length=1, description="Names of the classes 1, 2, ...; 0 is the background."
    )
    class_colours: tuple[Colour, ...] | None = Field(
        None, description="'#rrggbb' for each class; the default palette where not given."
    )
    instances: bool = Field(False, description="Label files number single objects: all become class 1.")
    ignore_label: int | None = Field(None, description="Value of unlabelled voxels, which teach nothing.")

    @model_validator(mode="after")
    def _fits_together(self) -> LabelConfig:
        if self.class_colours is not None and len(self.class_colours) != len(self.class_names):
            raise ValueError(f"{len(self.class_names)} classes need as many class_colours")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("every class needs a name of its own")
        if self.ignore_label is not None and 0 <= self.ignore_label < self.classes:
            raise ValueError(
                f"ignore_label {self.ignore_label} is one of the classes 0 to {self.classes - 1}"
            )
        if self.instances and self.classes > 2:
            raise ValueError("labels.instances makes one class of all labels: give one name")
        return self

    @property
    def classes(self) -> int:
        """Number of classes, the background included."""
        return 1 + len(self.class_names)
