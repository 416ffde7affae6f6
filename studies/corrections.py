"""How fast strokes lead to a good segmentation: each is drawn where the answer is most wrong.

python -m studies.corrections DATA --images 10
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import LabelledImage
from swipe_core.data.labels import IGNORED, LabelConfig
from swipe_core.images import LabelMap, MedicalImage, read_image, read_label_map
from swipe_core.measure.metrics import dice
from swipe_core.progress import finish
from swipe_core.training.strokes import StrokeLearner, stroke_content

MOST_STROKES = 20
LENGTH = 25  # pixels of a stroke, at most
SHOWN = (2, 3, 5, 7, 12, 20)
WANTED = (0.85, 0.9)
ONE = LabelConfig(class_names=("object",), ignore_label=IGNORED)


def stroke_in(region: np.ndarray) -> tuple[int, slice]:
    """Return a run of pixels along a row, about the deepest place of the largest part of a region."""
    parts, count = ndimage.label(region)
    sizes = np.bincount(parts.ravel())[1:]
    largest = parts == 1 + int(sizes.argmax())
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    inside = np.flatnonzero(~largest[row])
    left, right = inside[inside < column], inside[inside > column]
    start = max(int(left[-1]) + 1 if len(left) else 0, int(column) - LENGTH // 2)
    stop = min(int(right[0]) if len(right) else len(largest[row]), int(column) + LENGTH // 2 + 1)
    return int(row), slice(start, stop)


def iter_scores(image: MedicalImage, reference: np.ndarray) -> Iterator[float]:
    """Give the Dice after the first stroke of each class, and after each that follows."""
    painted = np.full(reference.shape, IGNORED, np.uint8)
    for number in (1, 0):
        row, run = stroke_in(reference == number)
        painted[row, run] = number
    labels = LabelMap(painted, image.affine, image.unit, space=image.space)
    learner = StrokeLearner(stroke_content([LabelledImage("image", image, labels)], ONE, "strokes"))
    finish(learner.iter_encode("image", image))
    for _ in range(MOST_STROKES - 1):
        learner.paint("image", painted)
        finish(learner.iter_learn())
        answer = learner.quick_field("image").render().array == 1
        yield dice(answer, reference)
        wrong = answer != reference
        if not wrong.any():
            return
        row, run = stroke_in(wrong)
        painted[row, run] = reference[row, run]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--split", default="val", help="train, to choose settings by")
    options = parser.parse_args()
    cases = find_cases(options.data, options.split)
    scores = []
    for case in cases[:: max(1, len(cases) // options.images)][: options.images]:
        reference = read_label_map(case.label_path, instances=True).array > 0
        own = list(iter_scores(read_image(case.image_path), reference))
        scores.append(own + [own[-1]] * (MOST_STROKES - 1 - len(own)))
    table = np.array(scores)
    for strokes in SHOWN:
        after = table[:, strokes - 2]
        print(f"{strokes} strokes: mean Dice {after.mean():.3f}, median {np.median(after):.3f}")
    for wanted in WANTED:
        is_there = table >= wanted
        needed = np.where(is_there.any(axis=1), is_there.argmax(axis=1) + 2, MOST_STROKES + 1)
        never = int((needed > MOST_STROKES).sum())
        print(f"to {wanted}: median {np.median(needed):.0f} strokes, never in {never} of {len(table)}")


if __name__ == "__main__":
    main()
