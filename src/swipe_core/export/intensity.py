"""How bright an image is inside of what was segmented: the mean, and how far sampling may have missed it."""

from collections.abc import Generator, Sequence

import numpy as np
from jaxtyping import Float

from swipe_core.images import MedicalImage
from swipe_core.images.channels import COLOURS
from swipe_core.inference.contours import places_inside
from swipe_core.inference.field import OccupancyField
from swipe_core.measure.outlines import Measured
from swipe_core.progress import Progress

ACROSS = (32, 256)  # places along each side of a box, in the first of two samplings: at least, and at most
OVERSAMPLED = 2.0  # places for each pixel
Flat = Float[np.ndarray, "_ 2"]


def intensity_inside(image: MedicalImage, rings_pixel: Sequence[Flat], index: int | None) -> list[Measured]:
    """Return the mean intensity inside of an outline, of each channel.

    `rings_pixel`: (x, y), where (0, 0) is the outer corner of the first pixel.
    `index`: the slice of a volume, along its first axis.
    """
    plane = image.array if index is None else image.array[index]
    rings = [ring[:, ::-1] - 0.5 for ring in rings_pixel]
    start = np.maximum(np.floor(rings[0].min(axis=0)).astype(int), 0)
    stop = np.ceil(rings[0].max(axis=0)).astype(int) + 2
    part = plane[start[0] : stop[0], start[1] : stop[1]]
    across = int(np.clip(OVERSAMPLED * np.ptp(rings[0], axis=0).max(), *ACROSS))
    means = [_means(part, [places_inside(rings, times * across) - start]) for times in (1, 2)]
    return _compared(image, *means)


def iter_class_intensities(
    field: OccupancyField, image: MedicalImage
) -> Generator[Progress, None, dict[int, list[Measured]]]:
    """Return the mean intensity inside of each class that is there, sampled at voxels and twice as finely."""
    means: list[dict[int, Float[np.ndarray, " channels"]]] = []
    for factor in (1, 2):
        labels = yield from field.iter_render(image.grid.scaled(factor))
        found = {}
        for index in range(1, 1 + len(field.class_names)):
            places = (np.argwhere(plane == index) for plane in labels.array)
            placed = (
                (np.insert(each, 0, number, axis=1) + 0.5) / factor - 0.5
                for number, each in enumerate(places)
                if len(each)
            )
            found[index] = _means(image.array, placed)
        means.append(found)
    return {index: _compared(image, mean, means[1][index]) for index, mean in means[0].items() if len(mean)}


def _means(array: np.ndarray, places: object) -> Float[np.ndarray, " channels"]:
    """The mean of each channel at places between voxels; empty where there are none."""
    from scipy.ndimage import map_coordinates

    total, count = np.zeros(array.shape[-1]), 0
    for each in places:  # type: ignore[attr-defined]
        values = [
            map_coordinates(array[..., channel], each.T, np.float64, order=1, mode="nearest").sum()
            for channel in range(array.shape[-1])
        ]
        total, count = total + values, count + len(each)
    return total / count if count else np.empty(0)


def _compared(image: MedicalImage, coarse: np.ndarray, fine: np.ndarray) -> list[Measured]:
    kinds = image.channel_kinds
    names = kinds.names or (COLOURS if kinds.is_colour else map(str, range(1, 1 + kinds.count)))
    titles = ["mean intensity"] if kinds.count == 1 else [f"mean intensity of {name}" for name in names]
    return [
        Measured(title, "number", float(value), float(abs(value - other)))
        for title, value, other in zip(titles, fine, coarse, strict=False)
    ]
