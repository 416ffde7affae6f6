"""Learn from strokes in seconds, without a window: what the Train dock does while somebody paints."""

import argparse
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from swipe_core.checkpoints.file import save_checkpoint
from swipe_core.cli.shared import exit_code, finish_under_bar
from swipe_core.data.cases import Case, find_cases, has_split
from swipe_core.data.guess import MANY_LABELS
from swipe_core.data.labelled import parted, read_labelled
from swipe_core.data.labels import IGNORED, LabelConfig
from swipe_core.errors import ConfigError
from swipe_core.images import read_label_map
from swipe_core.progress import Notice, Progress, nested_progress
from swipe_core.training.strokes import STEPS, StrokeLearner, stroke_content

MORE = 2  # times the steps that somebody waits for in a window


def labels_of(cases: Sequence[Case], names: Sequence[str], are_objects: bool) -> tuple[LabelConfig, int]:
    """Return what the numbers in label files mean, and how many axes these have.

    `IGNORED` is not annotated. More than `MANY_LABELS` numbers count objects of one class, unless so many
    `names` are given. A file that holds `IGNORED` and numbers beyond it has an object of that number, and
    all of it is annotated.

    `are_objects`: whether they count objects, however few.
    """
    found, ndim = set[int](), 2
    for case in cases:
        array = read_label_map(case.label_path).array
        ndim, found = array.ndim, found | set(np.unique(array).tolist())
    highest = max(found - {IGNORED}, default=0)
    is_sparse = IGNORED in found and 0 < highest < IGNORED
    ignored = IGNORED if is_sparse else None
    if are_objects or highest > max(MANY_LABELS, len(names)):
        chosen = tuple(names[:1]) or ("object",)
        return LabelConfig(class_names=chosen, instances=True, ignore_label=ignored), ndim
    usual = ["foreground"] if highest < 2 else [f"class {number}" for number in range(1, highest + 1)]
    chosen = tuple(names or usual)
    if len(chosen) < highest:
        raise ConfigError(f"Label files hold classes up to {highest}: give {highest} names to --classes.")
    return LabelConfig(class_names=chosen, ignore_label=ignored), ndim


def iter_learn_from(
    cases: Sequence[Case], labels: LabelConfig, ndim: int, name: str, minutes: float | None
) -> Generator[Progress | Notice, None, StrokeLearner]:
    """Encode the cases one after the other, and learn from all; yields progress.

    `minutes`: of learning, at most; None: a fixed number of steps.
    """
    learner = StrokeLearner(stroke_content([read_labelled(cases[0], ndim, labels)], labels, name))
    for number, case in enumerate(cases):
        labelled = read_labelled(case, ndim, labels, objects=True)
        work = learner.iter_encode(case.name, labelled.image)
        yield from nested_progress(work, number, len(cases))
        classes = labelled.labels.array.astype(np.uint8)
        if labelled.objects is not None and labels.ignore_label is not None:
            classes = parted(classes, labelled.objects)
        learner.paint(case.name, classes)
        learner.release(case.name)
    begun = time.monotonic()
    for report in learner.iter_learn(MORE * STEPS[ndim]):
        yield report
        if minutes is not None and time.monotonic() - begun > 60 * minutes:
            break
    return learner


def run(options: argparse.Namespace) -> int:
    """Learn, write the model, and print where it is."""
    path = Path(options.output)
    cases = find_cases(options.data, "train" if has_split(options.data, "train") else None)
    labels, ndim = labels_of(cases, options.classes, options.instances)
    work = iter_learn_from(cases, labels, ndim, path.stem, options.minutes)
    learner = finish_under_bar(work, unit="step")
    save_checkpoint(path, learner.checkpoint())
    print(path)
    return 0


def main(options: argparse.Namespace) -> int:
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "nothing is written")
