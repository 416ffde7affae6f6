"""Make a copy of a data set in which only a few strokes are painted, as by a person in a hurry."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # studies are not part of the package

from studies.scribbles import UNPAINTED, scribble
from swipe_core.cli.arguments import text_parser
from swipe_core.cli.shared import columns, exit_code, finish_under_bar, until_unread
from swipe_core.data import SPLITS
from swipe_core.data.cases import Case, find_cases, share_of_cases
from swipe_core.errors import ConfigError, DataError
from swipe_core.images import LabelMap, image_suffix, read_label_map, write_label_map
from swipe_core.images.formats import named_format
from swipe_core.progress import Progress

EPILOG = f"""\
examples:
  python scripts/scribble.py data/polyps scribbled --cases 5 --voxels 200
  python scripts/scribble.py data/polyps scribbled --split val --voxels full
  python scripts/scribble.py data/nuclei scribbled --cases 5 --instances
  swipe train polyp --data scribbled --output runs/few --labels.ignore_label {UNPAINTED}

what is not painted is {UNPAINTED} in the new label maps, so a configuration needs labels.ignore_label
{UNPAINTED}, and of a map of single objects --instances makes one class: labels.instances must be false.
"""
# Their voxels lie in a file of another name.
DETACHED = (".nhdr", ".mhd")
# Labels in formats that are only read become this, by their number of axes.
LABEL_SUFFIXES = {2: ".png", 3: ".nii.gz"}
Painted = list[tuple[Case, list[int]]]


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = text_parser(str(__doc__), EPILOG)
    parser.add_argument("data", metavar="DATA_DIR", help="folder with images/ and labels/, or with splits")
    parser.add_argument(
        "output", metavar="OUTPUT_DIR", help="folder for the copy, which gets OUTPUT_DIR/SPLIT"
    )
    parser.add_argument(
        "--split", default="train", choices=SPLITS, help="part of the data to copy (default: train)"
    )
    parser.add_argument(
        "--cases",
        type=int,
        metavar="N",
        help="copy N cases, drawn from those that hold every class (default: every case of the split)",
    )
    parser.add_argument(
        "--voxels",
        default="200",
        metavar="V",
        help="paint at most V voxels of each class in each case; full: keep the labels whole (default: 200)",
    )
    parser.add_argument(
        "--instances", action="store_true", help="labels number single objects: all become class 1"
    )
    parser.add_argument(
        "--ndim", type=int, choices=(2, 3), help="how many axes the images have, where files may mean either"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the cases and of the strokes (default: 0)"
    )
    return parser.parse_args(arguments)


def voxels_asked(text: str) -> int | None:
    """The number of voxels to paint, None for full labels."""
    if text == "full":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(f"--voxels must be a whole number above 0, or full; got {text!r}.")
    return int(text)


def classes_of_cases(
    cases: list[Case], options: argparse.Namespace
) -> Generator[Progress, None, list[np.ndarray]]:
    """Which classes each case holds, in order; unlabelled voxels are passed over."""
    held = []
    for done, case in enumerate(cases, start=1):
        labels = read_label_map(case.label_path, options.ndim, options.instances).array
        held.append(np.setdiff1d(np.unique(labels), [UNPAINTED]))
        yield Progress("Reading labels", done, len(cases))
    return held


def choose_cases(
    cases: list[Case], held: list[np.ndarray], options: argparse.Namespace
) -> tuple[list[Case], int]:
    """The cases to copy, and how many classes there are in the whole split, the background included."""
    present = np.unique(np.concatenate(held))
    if not (present > 0).any():
        raise DataError(
            f"The labels of {options.data} ({options.split}) hold no class to paint: give a data set with "
            "objects, and for masks of 0 and 255 say --instances."
        )
    classes = int(present.max()) + 1
    if options.cases is None:
        return cases, classes
    complete = [case for case, numbers in zip(cases, held, strict=True) if len(numbers) == classes]
    if options.cases > len(complete):
        raise DataError(
            f"{options.cases} cases are asked for, and of the {len(cases)} in {options.data} "
            f"({options.split}) only {len(complete)} hold every class from 0 to {classes - 1}: ask for "
            "fewer, or for single objects say --instances."
        )
    return share_of_cases(complete, options.cases / len(complete), options.seed), classes


def strokes_generator(seed: int, name: str) -> torch.Generator:
    """A case has the same strokes whichever others are drawn beside it."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def copy_cases(
    cases: list[Case], classes: int, voxels: int | None, target: Path, options: argparse.Namespace
) -> Generator[Progress, None, Painted]:
    """Write images and painted labels to a folder; returns the voxels of each case and class."""
    for name in ("images", "labels"):
        (target / name).mkdir(parents=True)
    painted: Painted = []
    for done, case in enumerate(cases, start=1):
        labels = read_label_map(case.label_path, options.ndim, options.instances)
        array = labels.array
        if voxels is not None:
            array = scribble(array, classes, voxels, strokes_generator(options.seed, case.name))
        shutil.copyfile(case.image_path, target / "images" / case.image_path.name)
        path = target / "labels" / label_name(case, labels)
        write_label_map(path, LabelMap(array, labels.affine, labels.unit))
        counts = np.bincount(array[array != UNPAINTED].ravel().astype(np.int64), minlength=classes)
        painted.append((case, counts.tolist()))
        yield Progress("Painting", done, len(cases))
    return painted


def label_name(case: Case, labels: LabelMap) -> str:
    """The name of a label file, in its own format if that can be written."""
    suffix = image_suffix(case.label_path)
    stem = case.label_path.name.removesuffix(suffix)
    kind = named_format(case.label_path)
    return stem + (suffix if kind and kind.label_writer else LABEL_SUFFIXES[labels.ndim])


def table(painted: Painted, classes: int) -> str:
    """Painted voxels of each case and class, as text."""
    rows: list[tuple[str, ...]] = [("case", "background", *(f"class {k}" for k in range(1, classes)))]
    rows += [(case.name, *map(str, counts)) for case, counts in painted]
    totals = np.sum([counts for _, counts in painted], axis=0)
    return columns([*rows, ("all", *map(str, totals))])


def run(options: argparse.Namespace) -> int:
    """Choose cases, paint, move the finished copy into its place, and print what it holds."""
    voxels = voxels_asked(options.voxels)
    if options.cases is not None and options.cases < 1:
        raise ConfigError(f"--cases must be 1 or more; got {options.cases}.")
    place = Path(options.output) / options.split
    if place.exists():
        raise ConfigError(f"{place} exists already: name another folder, or remove it.")
    cases = find_cases(options.data, options.split, options.seed)
    held = finish_under_bar(classes_of_cases(cases, options), unit="case", inner=True)
    cases, classes = choose_cases(cases, held, options)
    for case in cases:
        if image_suffix(case.image_path).lower() in DETACHED:
            raise DataError(
                f"{case.image_path} keeps its voxels in another file, which would stay behind: convert the "
                "images to .nrrd or .mha."
            )
    Path(options.output).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output, prefix=".scribbles-") as draft:
        target = Path(draft) / options.split
        work = copy_cases(cases, classes, voxels, target, options)
        painted = finish_under_bar(work, unit="case", inner=True)
        os.replace(target, place)
    print(f"{len(cases)} cases of {options.data} ({options.split}) in {place}, painted voxels:")
    print(table(painted, classes))
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "nothing is written")


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
