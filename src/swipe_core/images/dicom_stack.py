"""Frames in the order of their places, their values, and the matrix that leads from them to the patient."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from swipe_core.errors import ImageError, first_few
from swipe_core.images.decoding import decoding, require_room
from swipe_core.images.dicom_frames import CONTRASTS, TIMES, Frame
from swipe_core.images.itk import itk_decoding, simpleitk
from swipe_core.images.medical_image import LPS_TO_RAS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


# Slices of a scanner are evenly spaced up to the rounding of their positions.
UNEVEN = 0.05
SAME_PLACE = 1e-3  # mm
SAME_DIRECTION = 1e-3


@dataclass(frozen=True, eq=False)
class Stack:
    """The frames of one volume, or pictures without a place."""

    places: list[list[Frame]]
    """Those at one place together, in the order of their contrast; places in the order in which they lie."""
    step: Float[np.ndarray, " 3"] | None
    """From place to place in the patient; None of pictures that have no place."""

    @property
    def first(self) -> Frame:
        return self.places[0][0]

    @property
    def counts_times(self) -> bool:
        """Whether frames at one place differ in time and in nothing else."""
        return self._differing <= TIMES

    @property
    def contrast_names(self) -> tuple[str, ...]:
        """What the frames at a place are, such as ``"EchoTime 80"``."""
        return tuple(
            ", ".join(
                f"{name} {text or f'{number:g}'}"
                for name, (number, text) in zip(CONTRASTS, frame.contrast, strict=True)
                if name in self._differing
            )
            for frame in self.places[0]
        )

    @property
    def _differing(self) -> set[str]:
        """The attributes in which frames at a place differ."""
        values = zip(*(frame.contrast for frame in self.places[0]), strict=True)
        return {name for name, each in zip(CONTRASTS, values, strict=True) if len(set(each)) > 1}

    @property
    def matrix(self) -> Float[np.ndarray, "4 4"]:
        """(x, y, z) voxels to (x, y, z) world."""
        first, matrix = self.first, np.eye(4)
        down, right = first.spacing.steps
        if self.step is None or first.position is None:
            return np.diag([right, down, first.thickness or 1.0, 1.0])
        matrix[:3, 0], matrix[:3, 1] = first.columns * right, first.rows * down
        matrix[:3, 2], matrix[:3, 3] = self.step, first.position
        return LPS_TO_RAS @ matrix if first.is_anatomical else matrix


def stack_of(frames: Sequence[Frame], source: Path) -> Stack:
    """Return the one volume that frames are, whatever their order, with copies of a frame left out.

    Several volumes, and slices that are missing, doubled or of different sizes, raise an `ImageError`, which
    names the source: the file or the folder that the frames come from.
    """
    frames = list({frame.identity: frame for frame in frames}.values())
    _check_one_volume(frames, source)
    first = frames[0]
    if first.position is None:
        if len({frame.path for frame in frames}) > 1:
            raise ImageError(
                f"{source} holds {len(frames)} pictures without a place in the patient, which make no "
                "volume; name the files one by one."
            )
        return Stack([[frame] for frame in frames], None)
    places = _places(frames)
    _check_contrasts(places, source)
    return Stack(places, _step(places, source))


def _check_one_volume(frames: Sequence[Frame], source: Path) -> None:
    """See that all frames are of one stack, size, spacing and orientation, and have a place or have none."""
    volumes: list[list[Frame]] = []
    for frame in frames:
        known = next((volume for volume in volumes if _are_of_one_volume(frame, volume[0])), None)
        if known is None:
            volumes.append([frame])
        else:
            known.append(frame)
    if len(volumes) > 1:
        sizes = [f"{len(each)} of {each[0].shape[0]} x {each[0].shape[1]} pixels" for each in volumes]
        raise ImageError(
            f"{source} holds slices of {len(volumes)} different orientations, sizes or stacks, as of a "
            f"localiser beside a volume: {first_few(sizes)}; put the slices of one into a folder of their "
            "own, or export it alone."
        )


def _are_of_one_volume(frame: Frame, other: Frame) -> bool:
    if (frame.shape, frame.stack) != (other.shape, other.stack):
        return False
    if (frame.position is None) != (other.position is None):
        return False
    directions = np.abs([frame.rows - other.rows, frame.columns - other.columns]).max()
    is_spaced_alike = np.allclose(frame.spacing.steps, other.spacing.steps, rtol=1e-3)
    return bool(directions < SAME_DIRECTION) and is_spaced_alike


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Sort frames along the normal of the first; those at one place lie together."""
    normal = frames[0].normal
    heights = (_positions(frames) @ normal).tolist()
    places: list[list[Frame]] = []
    last = -np.inf
    for height, _, frame in sorted(zip(heights, range(len(heights)), frames, strict=True)):
        if height - last < SAME_PLACE:
            places[-1].append(frame)
        else:
            places.append([frame])
        last = height
    return [sorted(place, key=lambda frame: frame.contrast) for place in places]


def _check_contrasts(places: Sequence[Sequence[Frame]], source: Path) -> None:
    """See that each place has one frame of every contrast, and that they can be told apart."""
    each = [tuple(frame.contrast for frame in place) for place in places]
    is_complete = len(set(each)) == 1 and len(set(each[0])) == len(each[0])
    spread = max(np.ptp(_positions(place), axis=0).max() for place in places)
    if max(len(place) for place in places) > 1 and not (is_complete and spread < SAME_PLACE):
        raise ImageError(
            f"{source} holds several slices at one place, as of several times or contrasts, which cannot be "
            "told apart everywhere; put the slices of one of them into a folder of their own."
        )


def _step(places: Sequence[Sequence[Frame]], source: Path) -> Float[np.ndarray, " 3"]:
    first = places[0][0]
    if len(places) == 1:
        return first.normal * (first.thickness or 1.0)
    steps = np.diff(_positions([place[0] for place in places]), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    mean = steps.mean(axis=0)
    if np.linalg.norm(steps - mean, axis=1).max() > UNEVEN * np.linalg.norm(mean):
        raise ImageError(
            f"{source} holds slices that are {lengths.min():g} to {lengths.max():g} mm apart, and evenly "
            "spaced ones are needed; see whether one is missing, and export the series again."
        )
    return mean


def _positions(frames: Sequence[Frame]) -> Float[np.ndarray, "frames 3"]:
    return np.array([frame.position for frame in frames if frame.position is not None])


RUN_LENGTH = "1.2.840.10008.1.2.5"  # the one compression that pydicom undoes by itself
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PALETTE, BRIGHT_IS_LOW = "PALETTE COLOR", "MONOCHROME1"
Values = Shaped[np.ndarray, "*axes"]
PIXEL_ATTRIBUTES = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)


def frame_values(
    dataset: Dataset, frames: Sequence[Frame]
) -> list[Shaped[np.ndarray, "rows columns channels"]]:
    """Return the values of all frames of a file: in the units of their rescaling, or RGB.

    Where nothing is rescaled, and a file says that its low values are bright (MONOCHROME1), as many X-ray
    images do, they are inverted: bright is bright in the array, too.

    The data set is read with its pixels, and the frames are all those of the file, in its own order.
    """
    path, samples = frames[0].path, int(dataset.get("SamplesPerPixel") or 1)
    shape = (len(frames), *frames[0].shape, samples)
    require_room(path, shape, max(1, int(dataset.BitsAllocated) // 8))
    with decoding(path, "DICOM"):
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

        stored = _stored(path, dataset).reshape(shape)
        if dataset.get("PhotometricInterpretation") == PALETTE:
            return list(apply_color_lut(stored[..., 0], dataset))
        if dataset.get("ModalityLUTSequence"):
            return list(apply_modality_lut(stored, dataset))
    if samples > 1:
        return list(stored)
    is_inverted = dataset.get("PhotometricInterpretation") == BRIGHT_IS_LOW and stored.dtype.kind in "iu"
    return [
        _inverted(values, dataset)
        if is_inverted and frame.rescaling == (1, 0)
        else _rescaled(values, *frame.rescaling)
        for values, frame in zip(stored, frames, strict=True)
    ]


def _inverted(stored: Values, dataset: Dataset) -> Values:
    """The least number that the stored bits can be for the greatest, and the other way round."""
    if stored.dtype.kind == "i":
        return ~stored
    return stored.dtype.type(2 ** int(dataset.BitsStored) - 1) - stored


def _rescaled(stored: Values, slope: float, intercept: float) -> Values:
    """Whole numbers stay whole where slope and intercept are; no value is rounded."""
    if (slope, intercept) == (1, 0):
        return stored
    values = stored * slope + intercept
    is_whole = stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    if not is_whole:
        return values
    limits = np.iinfo(np.int16)
    is_short = limits.min <= values.min() and values.max() <= limits.max
    return values.astype(np.int16 if is_short else np.int32 if stored.dtype.itemsize <= 2 else np.int64)


def _stored(path: Path, dataset: Dataset) -> Values:
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != RUN_LENGTH:
        return _decompressed(path, dataset)
    return pixel_array(dataset)


def _decompressed(path: Path, dataset: Dataset) -> Values:
    """Decoded by GDCM, from a file with nothing in it but pixels: it would rescale all frames alike."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    syntax = dataset.file_meta.TransferSyntaxUID
    bare = Dataset()
    for name in PIXEL_ATTRIBUTES:
        if name in dataset:
            bare[name] = dataset[name]
    bare.SOPClassUID, bare.SOPInstanceUID = SECONDARY_CAPTURE, generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    library = simpleitk(path)
    with tempfile.TemporaryDirectory() as folder, itk_decoding(path, "GDCMImageIO"):
        copy = Path(folder) / "pixels.dcm"
        bare.save_as(copy, enforce_file_format=True)
        try:
            image = library.ReadImage(str(copy), imageIO="GDCMImageIO")
        except RuntimeError as error:
            raise ImageError(
                f"{path} is compressed as {syntax.name}, and cannot be decoded here; export it uncompressed."
            ) from error
        return library.GetArrayFromImage(image)
