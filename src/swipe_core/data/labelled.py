"""An image with its reference labels, read together and checked against each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from scipy import ndimage

from swipe_core.coordinates import Affine
from swipe_core.data.cases import Case
from swipe_core.data.labels import IGNORED, LabelConfig
from swipe_core.errors import DataError
from swipe_core.images import LabelMap, MedicalImage, read_image, read_label_map
from swipe_core.images.formats import named_format
from swipe_core.images.nifti_forms import in_xyz
from swipe_core.images.orientation import orientation_of, oriented
from swipe_core.images.raster import exif_orientation, is_turned_by_exif
from swipe_core.images.units import PIXEL, conversion
from swipe_core.progress import Notice

AFFINE_TOLERANCE = 0.1  # voxels
WHITE = (255, 65535)  # of masks of black and white, in 8 and in 16 bits


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One case in memory: the image as it was stored, and its labels on the same lattice."""

    name: str
    image: MedicalImage
    labels: LabelMap
    corrected: Bool[np.ndarray, "*shape"] | None = None
    """(*shape) bool, optional: The voxels whose labels the user corrected, on the same lattice; None where
    nothing says so.
    """
    white: int | None = None
    """The number that stands for the class in the file, where that is a mask of black and white."""
    objects: Integer[np.ndarray, "*shape"] | None = None
    """(*shape), optional: The numbers of single objects, on the same lattice; 0 is the background. None where
    they were not read.
    """

    def oriented(self, orientation: str | None) -> LabelledImage:
        """Return the case with its axes permuted and flipped to an orientation, as `oriented` does."""
        image = oriented(self.image, orientation)
        if image is self.image:
            return self
        labels = replace(self.labels, affine=self.image.affine, space=self.image.space)

        def turned(array: np.ndarray) -> np.ndarray:
            return oriented(replace(labels, array=array), orientation).array

        return replace(
            self,
            image=image,
            labels=oriented(labels, orientation),
            corrected=None
            if self.corrected is None
            else turned(self.corrected.astype(np.uint8)).astype(bool),
            objects=None if self.objects is None else turned(self.objects),
        )


def read_labelled(
    case: Case, ndim: int, config: LabelConfig, *, others: bool = False, objects: bool = False
) -> LabelledImage:
    """Read a case and check that its files fit together.

    Raises `ImageError` when a file cannot be read, and `DataError` when the image differs from its labels or
    corrections in shape or place, or a label lies outside the classes.

    `others`: whether the labels may hold other numbers than those of the classes.
    `objects`: whether the numbers of single objects are kept, too, where label files have them.
    """
    image = read_image(case.image_path, ndim=ndim)
    labels, white = read_classes(case, ndim, config, others=others)
    labels = _fitting(case.image_path, image, case.label_path, labels, "labels")
    labels = replace(labels, affine=image.affine, unit=image.unit, space=image.space)
    numbers = None
    if objects and config.instances:
        numbers = _read_on(image, case, case.label_path, "labels")
        if config.ignore_label is not None:
            numbers = np.where(numbers == config.ignore_label, 0, numbers)
        numbers = single_objects(numbers)
    corrected = None
    if case.corrections_path is not None:
        corrected = _read_on(image, case, case.corrections_path, "corrections") != 0
    return LabelledImage(case.name, image, labels, corrected, white, numbers)


def read_classes(
    case: Case, ndim: int, config: LabelConfig, *, others: bool = False
) -> tuple[LabelMap, int | None]:
    """Read the label map of a case as classes; with the number of white, if it is a mask of black and white.

    Such a mask, of 0 and 255 or of 0 and 65535, becomes one of 0 and 1 where a single class is named. Raises
    `ImageError` when the file cannot be read, and `DataError` when a label lies outside the classes, unless
    there may be `others`.
    """
    is_sparse = config.instances and config.ignore_label is not None
    labels = read_label_map(case.label_path, ndim=ndim, instances=config.instances and not is_sparse)
    if is_sparse:
        classes = np.where(labels.array == config.ignore_label, IGNORED, labels.array > 0)
        return replace(labels, array=classes.astype(np.uint8)), None
    values = np.unique(labels.array)
    white = _white_of(values, config)
    if white is not None and config.classes == 2:
        return replace(labels, array=(labels.array == white).astype(np.uint8)), white
    if not others:
        _check_classes(case, values, config, white)
    return labels, None


def mask_notice(config: LabelConfig, white: int) -> Notice:
    """Return the notice, given once, of masks of black and white that were read as the only class."""
    name = config.class_names[0]
    return Notice(f"Label files hold 0 and {white}, and one class is named: {white} is read as {name}.")


def photograph_notice(case: Case) -> Notice | None:
    """Return the notice, given once, of photographs whose labels may be drawn in a viewer that turns them."""
    photographs = (path for path in (case.image_path, case.label_path) if exif_orientation(path) != 1)
    photograph = next(photographs, None)
    if photograph is None:
        return None
    return Notice(
        f"EXIF data turn {photograph} in viewers of photographs; here, as in napari, pixels are taken as "
        "they are stored: see that labels and images lie over each other, or save both turned "
        "(magick mogrify -auto-orient)."
    )


def _white_of(values: np.ndarray, config: LabelConfig) -> int | None:
    """The number of white where a label map holds nothing but black and white, else None."""
    foreground = values[values != 0].tolist()
    is_mask = len(foreground) == 1 and foreground[0] in WHITE and foreground[0] != config.ignore_label
    return foreground[0] if is_mask and not 0 < foreground[0] < config.classes else None


def single_objects(numbers: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
    """The objects of a map of numbers; where all have the same number, as in a mask, its connected parts."""
    is_mask = len(np.unique(numbers[numbers != 0])) == 1
    return ndimage.label(numbers, np.ones((3,) * numbers.ndim))[0] if is_mask else numbers


def parted(
    classes: Integer[np.ndarray, "*shape"], strokes: Integer[np.ndarray, "*shape"]
) -> UInt8[np.ndarray, "*shape"]:
    """Return classes in which background lies halfway between the strokes of neighbouring objects.

    Only where nobody painted: there is the border of two objects that touch, and else background.

    `classes`: 0, 1 or `IGNORED`.
    `strokes`: one in each object, with a number of its own; 0 where there is none.
    """
    nearest = ndimage.distance_transform_edt(strokes == 0, return_distances=False, return_indices=True)
    owner = strokes[tuple(nearest)]
    is_between = np.zeros(owner.shape, bool)
    for axis in range(owner.ndim):
        ahead = np.moveaxis(owner, axis, 0)
        np.moveaxis(is_between, axis, 0)[:-1] |= ahead[1:] != ahead[:-1]
    return np.where(is_between & (classes == IGNORED), 0, classes).astype(np.uint8)


def _read_on(image: MedicalImage, case: Case, path: Path, kind: str) -> Integer[np.ndarray, "*shape"]:
    """The numbers in a file that lies over the image of a case."""
    return _fitting(case.image_path, image, path, read_label_map(path, ndim=image.ndim), kind).array


def _fitting(image_path: Path, image: MedicalImage, path: Path, label_map: LabelMap, kind: str) -> LabelMap:
    """A label map, which is of a `kind` that messages name, if it has the shape and place of its image.

    One that only has its axes in another order, as NIfTI labels of a DICOM series may, is brought to the
    image's.
    """
    turned = _turned_to(image, label_map)
    if turned is not label_map and (
        image.shape != label_map.shape or _shift_voxels(image_path, image, path, label_map) > AFFINE_TOLERANCE
    ):
        label_map = turned
    if image.shape != label_map.shape:
        photograph = next((each for each in (image_path, path) if is_turned_by_exif(each)), None)
        if photograph is not None and image.shape == label_map.shape[::-1]:
            raise DataError(
                f"{image_path} has {image.shape} pixels and its {kind} {path} have {label_map.shape}: EXIF "
                f"data in {photograph} turn it by 90 degrees in viewers, and here, as in napari, pixels are "
                "taken as they are stored; save it with its pixels turned (magick mogrify -auto-orient), or "
                "turn the other back."
            )
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
    return label_map


def _turned_to(image: MedicalImage, label_map: LabelMap) -> LabelMap:
    """A label map in its image's orientation, where both state one and they differ; else as it is."""
    if not (image.space.is_anatomical and label_map.space.is_anatomical):
        return label_map
    orientation = orientation_of(image.affine)
    if orientation_of(label_map.affine) == orientation:
        return label_map
    turned = label_map.reoriented(orientation)
    return replace(turned, space=replace(turned.space, nifti=None))  # its forms are those of the old order


def _shift_voxels(image_path: Path, image: MedicalImage, path: Path, label_map: LabelMap) -> float:
    """The distance in voxels of two files that state where they lie, by more than a spacing; else 0.

    The two forms of a NIfTI header may put its voxels at different places, and programs that draw labels
    take the one or the other: labels that lie over their image in one of them do.
    """
    worlds = [kind.world if (kind := named_format(each)) else "" for each in (image_path, path)]
    is_alike = (image.unit == PIXEL) == (label_map.unit == PIXEL)
    is_of_a_patient = image.space.is_anatomical and label_map.space.is_anatomical
    # Of formats that state places in different ways only the worlds of patients are the same.
    if not is_alike or not (is_of_a_patient or (worlds[0] and worlds[0] == worlds[1])):
        return 0.0
    # Many programs copy an affine and forget its unit.
    factors = (1.0, conversion(label_map.unit, image.unit))
    pairs = itertools.product(_places(image), _places(label_map), factors)
    shifts = (_shift(image.shape, own, np.diag([f, f, f, 1.0]) @ other) for own, other, f in pairs)
    return min(shifts, default=0.0)


def _places(volume: MedicalImage | LabelMap) -> list[Float[np.ndarray, "4 4"]]:
    """The places where a file puts its (x, y, z) voxels; a NIfTI file states none, one or two."""
    forms = volume.space.nifti
    return [in_xyz(volume.affine)] if forms is None else forms.stated


def _shift(shape: Sequence[int], matrix: Float[np.ndarray, "4 4"], other: Float[np.ndarray, "4 4"]) -> float:
    """The way of the corner that is moved farthest from one matrix to the other, in voxels."""
    ends = ((0, n - 1) for n in (*shape[::-1], 1)[:3])
    corners = np.array(list(itertools.product(*ends)), dtype=np.float64)
    try:
        moved = (Affine(matrix).inverse() @ Affine(other)).apply(corners) - corners
    except np.linalg.LinAlgError:  # a form that places no voxels
        return math.inf
    return float(np.abs(moved).max())


def _check_classes(case: Case, values: np.ndarray, config: LabelConfig, white: int | None) -> None:
    """Refuse a label map that holds other `values` than those of the classes."""
    known = set(range(config.classes)) | {config.ignore_label}
    foreign = [value for value in values.tolist() if value not in known]
    if not foreign:
        return
    last = config.classes - 1
    if white is not None:
        raise DataError(
            f"{case.label_path} is a mask of 0 and {white}, and {last} classes are named: name a single "
            f"class for such masks, or give label files that hold the numbers 1 to {last}."
        )
    shown = ", ".join(str(v) for v in foreign[:5]) + (", ..." if len(foreign) > 5 else "")
    # Where nothing else marks an object, the numbers that no class has are the foreground.
    is_foreground = not any(0 < value < config.classes for value in values.tolist())
    unlabelled = "" if is_foreground else "set labels.ignore_label for unlabelled voxels, "
    raise DataError(
        f"{case.label_path} holds labels outside the {config.classes} classes 0 to {last} "
        f"({shown}): name more classes in labels.class_names, {unlabelled}or set labels.instances where all "
        "numbers but 0 are one class, such as numbers of single objects."
    )
