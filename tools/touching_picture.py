"""Draw where objects touch most: as annotators parted them, as connected parts, and as the model tells apart.

python tools/touching_picture.py data/nuclei --output docs/images/touching.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from swipe_core import Predictor
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import LabelledImage, read_labelled
from swipe_core.inference.instances import iter_objects
from swipe_core.measure.objects import number_objects
from swipe_core.pictures import Panel, contact_sheet, default_colours, overlay, write_png
from swipe_core.progress import finish

CROP, SIZE, SHOWN = 112, 280, 3  # pixels of an image, of a panel, and how many images
FINER = 3  # times as finely as the image labels are drawn
Box = tuple[slice, slice]


def crowded(labelled: LabelledImage) -> tuple[float, Box]:
    """Return how many pixels of an image lie between two objects, and the square that has most of them."""
    objects = labelled.objects
    largest, least = (each(objects, 3) for each in (ndimage.maximum_filter, ndimage.minimum_filter))
    apart = ((largest != least) & (least > 0)).astype(float)
    size = min(CROP, *objects.shape)
    density = ndimage.uniform_filter(apart, size, mode="constant")
    half = size // 2
    inner = density[half : objects.shape[0] - half + 1, half : objects.shape[1] - half + 1]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return float(inner.max()), (slice(row, row + size), slice(column, column + size))


def panels(predictor: Predictor, labelled: LabelledImage, box: Box) -> list[Panel]:
    """Return an image with each of the three, and how many objects there are."""
    field = predictor.field(labelled.image)
    fine = field.render(factor=FINER)
    found = {
        "annotators": np.kron(labelled.objects, np.ones((FINER, FINER), int)),
        "connected parts": number_objects(fine).array,
        "told apart": finish(iter_objects(field, fine)).array,
    }
    where = tuple(slice(part.start * FINER, part.stop * FINER) for part in box)
    image = labelled.image.array[box]
    return [
        Panel(
            overlay(image, numbers[where], default_colours(12), shape=(SIZE, SIZE), alpha=0.35),
            f"{name}: {len(np.unique(numbers[numbers > 0]))} in the image",
        )
        for name, numbers in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder of images and of labels that number single objects")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    predictor = Predictor.load("nuclei", device="cpu")
    cases = find_cases(options.data, "val")
    read = [read_labelled(case, 2, predictor.content.labels, objects=True) for case in cases]
    ordered = sorted(((*crowded(each), each) for each in read), key=lambda found: -found[0])
    write_png(
        options.output, contact_sheet([panels(predictor, each, box) for _, box, each in ordered[:SHOWN]])
    )


if __name__ == "__main__":
    main()
