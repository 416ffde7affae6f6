"""An image with its reference labels, read together and checked against each other."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from swipe_core.data.cases import Case
from swipe_core.errors import DataError
from swipe_core.images import LabelMap, MedicalImage, image_suffix, read_image, read_label_map

Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
AFFINE_TOLERANCE = 0.1  # voxels
# Formats whose files say where they lie; of two families the worlds may be told in different ways.
PLACED = ((".nii", ".nii.gz"), (".nrrd", ".nhdr", ".mha", ".mhd"))


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
        if self.instances and (self.ignore_label is not None or self.classes > 2):
            raise ValueError(
                "labels.instances makes one class of all labels: give one name, and no ignore_label"
            )
        return self

    @property
    def classes(self) -> int:
        """Number of classes, the background included."""
        return 1 + len(self.class_names)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One case in memory: the image as it was stored, and its labels on the same lattice.

    Attributes
    ----------
    corrected : (*shape) bool, optional
        The voxels whose labels the user corrected, on the same lattice; None where nothing says so.
    """

    name: str
    image: MedicalImage
    labels: LabelMap
    corrected: Bool[np.ndarray, "*shape"] | None = None


def read_labelled(case: Case, ndim: int, config: LabelConfig) -> LabelledImage:
    """Read a case and check that its files fit together.

    Raises
    ------
    ImageError
        When a file cannot be read.
    DataError
        When the image differs from its labels or corrections in shape or place, or a label lies outside
        the classes.
    """
    image = read_image(case.image_path, ndim=ndim)
    labels = read_label_map(case.label_path, ndim=ndim, instances=config.instances)
    _check_lattice(case.image_path, image, case.label_path, labels, "labels")
    _check_classes(case, labels.array, config)
    return LabelledImage(case.name, image, labels, _read_corrected(case, image))


def _read_corrected(case: Case, image: MedicalImage) -> Bool[np.ndarray, "*shape"] | None:
    if case.corrections_path is None:
        return None
    corrections = read_label_map(case.corrections_path, ndim=image.ndim)
    _check_lattice(case.image_path, image, case.corrections_path, corrections, "corrections")
    return corrections.array != 0


def _check_lattice(image_path: Path, image: MedicalImage, path: Path, label_map: LabelMap, kind: str) -> None:
    """See that a label map, which is of a `kind` that messages name, has the shape and place of its image."""
    if image.shape != label_map.shape:
        raise DataError(
            f"An image and its {kind} must have the same shape; {image_path} has {image.shape} "
            f"and {path} has {label_map.shape}: resample one of them or remove the pair."
        )
    shift = _shift_voxels(image_path, image, path, label_map)
    if shift > AFFINE_TOLERANCE:
        raise DataError(
            f"An image and its {kind} must lie in the same place; the affines of {image_path} and "
            f"{path} put them up to {shift:.1f} voxels apart: resample the {kind} onto the image, or correct "
            "the wrong affine."
        )


def _shift_voxels(image_path: Path, image: MedicalImage, path: Path, label_map: LabelMap) -> float:
    """How far apart two files lie that say where, and say it by more than a spacing; else 0."""
    suffixes = {image_suffix(each).lower() for each in (image_path, path)}
    if image.unit != label_map.unit or not any(suffixes <= set(family) for family in PLACED):
        return 0.0
    corners = np.array(list(itertools.product(*((0, n - 1) for n in image.shape))), dtype=np.float64)
    moved = (image.affine.inverse() @ label_map.affine).apply(corners) - corners
    return float(np.abs(moved).max())


def _check_classes(case: Case, array: np.ndarray, config: LabelConfig) -> None:
    foreign = np.setdiff1d(np.unique(array), np.arange(config.classes))
    if config.ignore_label is not None:
        foreign = foreign[foreign != config.ignore_label]
    if len(foreign):
        shown = ", ".join(str(v) for v in foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise DataError(
            f"{case.label_path} holds labels outside the {config.classes} classes 0 to {config.classes - 1} "
            f"({shown}): name more classes in labels.class_names, set labels.ignore_label for unlabelled "
            "voxels, or set labels.instances for a map of single objects."
        )
