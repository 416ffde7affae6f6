"""The data sets of the paper as their archives hold them, laid out so that `find_cases` reads them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from swipe_core.data import SPLITS
from swipe_core.data.cases import Case, split_cases
from swipe_core.errors import ConfigError, DataError, nearest_name
from swipe_core.images import (
    IMAGE_SUFFIXES,
    LabelMap,
    image_stem,
    image_suffix,
    read_image,
    read_label_map,
    write_label_map,
)
from swipe_core.progress import Progress

DEPTH = 4  # folders below the one that is given are searched so far down
LIGHT = 127  # masks are black and white; JPEG makes neither of them exact
LAST_CT = 500  # AMOS numbers CT up to here, and MRI from here on
# AMOS's classes in the order of BCV's: what BCV lacks (duodenum, bladder, prostate) is background.
AMOS_TO_BCV = {**{label: label for label in range(1, 10)}, 10: 11, 11: 12, 12: 13, 13: 0, 14: 0, 15: 0}


@dataclass(frozen=True)
class Archive:
    """How a data set lies in its archive.

    Attributes
    ----------
    title
        For people.
    images, labels
        Names of the folders with the images and with their labels, which lie side by side.
    ndim
        2 for images, 3 for volumes.
    number
        Finds in the name of a file what an image and its labels have in common.
    is_wanted
        Whether a case, by that part of its name, belongs to the paper's data.
    relabel
        From the archive's classes to those of the configuration; None: they agree.
    """

    title: str
    images: str
    labels: str
    ndim: int
    number: str = r".+"
    is_wanted: Callable[[str], bool] = lambda number: True
    relabel: Mapping[int, int] | None = None


ARCHIVES: dict[str, Archive] = {
    "kvasir-sessile": Archive("Kvasir-Sessile", "images", "masks", 2),
    "cvc-clinicdb": Archive("CVC-ClinicDB", "Original", "Ground Truth", 2),
    "bcv": Archive("BCV", "img", "label", 3, number=r"\d+$"),
    "amos": Archive(
        "AMOS",
        "imagesTr",
        "labelsTr",
        3,
        number=r"\d+$",
        is_wanted=lambda number: int(number) <= LAST_CT,
        relabel=AMOS_TO_BCV,
    ),
}


def iter_arrange(
    name: str, source: Path, target: Path, *, seed: int = 0, copies: bool = False
) -> Generator[Progress, None, dict[str, int]]:
    """Lay an unpacked archive out as train/, val/ and test/, 60:20:20, each with images/ and labels/.

    Images, and the labels of volumes that need no change, are links to the archive's files where the disk
    allows it. Masks become PNG files of 0 and 1. The target appears whole or not at all. What is missing is
    told at once, not with the first case.

    Parameters
    ----------
    name
        One of `ARCHIVES`.
    source
        Holds the archive's two folders, perhaps some folders further down.
    target
        Must be new or empty.
    seed
        Of the split.
    copies
        Copy the files in place of linking them.

    Returns
    -------
    The number of cases of each split.

    Raises
    ------
    ConfigError
        When there is no such archive.
    DataError
        When a folder or a file that is needed is missing, or the target holds something.
    ImageError
        When a mask cannot be read.
    """
    if name not in ARCHIVES:
        raise ConfigError(
            f"There is no archive {name!r}, only {', '.join(ARCHIVES)}.{nearest_name(name, ARCHIVES)}"
        )
    archive, target = ARCHIVES[name], Path(os.path.abspath(target))
    splits = split_cases(_find_pairs(archive, source), seed)
    _check_new(target)
    return _iter_lay_out(archive, splits, target, copies)


def _iter_lay_out(
    archive: Archive, splits: Mapping[str, Sequence[Case]], target: Path, copies: bool
) -> Generator[Progress, None, dict[str, int]]:
    total, done = sum(map(len, splits.values())), 0
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        for split in SPLITS:
            for case in splits[split]:
                _lay_out(archive, case, draft / split, copies)
                done += 1
                yield Progress(f"Arranging {archive.title}", done, total)
        if target.is_dir():
            target.rmdir()
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return {split: len(splits[split]) for split in SPLITS}


def _check_new(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"{target} is there already and holds something: give a new folder.")


def _find_pairs(archive: Archive, source: Path) -> list[Case]:
    """The wanted cases, by the names of their images."""
    folder = _folder_with(archive, source)
    images, labels = (_by_number(archive, folder / part) for part in (archive.images, archive.labels))
    lonely = sorted(images.keys() ^ labels.keys())
    if lonely:
        here, there = (
            (archive.images, archive.labels) if lonely[0] in images else (archive.labels, archive.images)
        )
        raise DataError(
            f"{folder / here} holds {(images | labels)[lonely[0]].name}, and {folder / there} nothing that "
            f"belongs to it ({len(lonely)} such files in all): unpack the archive of {archive.title} anew."
        )
    if not images:
        raise DataError(
            f"{folder / archive.images} holds no images of {archive.title}: unpack its archive there."
        )
    return [Case(image_stem(images[number]), images[number], labels[number]) for number in sorted(images)]


def _folder_with(archive: Archive, source: Path) -> Path:
    """The first folder, from `source` down, that holds the archive's two folders."""
    if not source.is_dir():
        raise DataError(f"There is no folder {source}: give the one that {archive.title} was unpacked to.")
    level = [source]
    for _ in range(DEPTH):
        for folder in level:
            if (folder / archive.images).is_dir() and (folder / archive.labels).is_dir():
                return folder
        level = [child for folder in level for child in sorted(folder.iterdir()) if child.is_dir()]
    raise DataError(
        f"{source} holds no folder with {archive.images}/ and {archive.labels}/, as {archive.title} has: "
        "give the folder that its archive was unpacked to."
    )


def _by_number(archive: Archive, folder: Path) -> dict[str, Path]:
    """The wanted images of a folder by what their names have in common with their labels'."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(IMAGE_SUFFIXES):
            continue
        match = re.search(archive.number, image_stem(path))
        if match is not None and archive.is_wanted(match.group()):
            found[match.group()] = path
    return found


def _lay_out(archive: Archive, case: Case, folder: Path, copies: bool) -> None:
    image_path = folder / "images" / f"{case.name}{image_suffix(case.image_path)}"
    _link(case.image_path, image_path, copies)
    suffix = ".png" if archive.ndim == 2 else image_suffix(case.label_path)
    label_path = folder / "labels" / f"{case.name}{suffix}"
    if archive.ndim == 3 and archive.relabel is None:
        _link(case.label_path, label_path, copies)
        return
    label_path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(label_path, _mask(case) if archive.ndim == 2 else _relabelled(archive, case))


def _link(source: Path, path: Path, copies: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not copies:
        try:
            os.link(os.path.realpath(source), path)  # not a link to a link, which may lead nowhere from there
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(source, path)


def _mask(case: Case) -> LabelMap:
    """1 where a black and white picture is rather white; of values 0 and 1 alone, where it is 1."""
    picture = read_image(case.label_path, ndim=2)
    channels = picture.array.shape[-1]
    opaque = picture.array[..., : channels - 1 if channels in (2, 4) else channels]
    light = opaque.max(axis=-1)
    foreground = light > (LIGHT if light.max() > 1 else 0)
    return LabelMap(foreground.astype(np.uint8), picture.affine, picture.unit)


def _relabelled(archive: Archive, case: Case) -> LabelMap:
    labels = read_label_map(case.label_path, ndim=3)
    assert archive.relabel is not None
    foreign = set(np.unique(labels.array).tolist()) - {0, *archive.relabel}
    if foreign:
        raise DataError(
            f"{case.label_path} holds the label {min(foreign)}, which {archive.title} does not have: unpack "
            "its archive anew."
        )
    table = np.zeros(1 + max(archive.relabel), np.uint8)
    table[list(archive.relabel)] = list(archive.relabel.values())
    return replace(labels, array=table[labels.array])
