"""Cases: an image and its label map, found in the folders of data sets and divided into splits."""

import hashlib
import itertools
import json
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swipe_core.data import SPLITS
from swipe_core.errors import DataError, first_few, nearest_name
from swipe_core.images.formats import IMAGE_SUFFIXES, image_stem, is_dicom, named_format, unread_image

KINDS = ("images", "labels")
NAMED_AT_MOST = 3
MOST_MARKS, MARK_BYTES = 256, 2**16  # by which a model knows the cases that it was trained on

Identity = tuple[str, int, int]


@dataclass(frozen=True)
class Case:
    """One labelled image."""

    name: str
    """The stem that its files share."""
    image_path: Path
    label_path: Path
    corrections_path: Path | None = None
    """A map of what the user corrected after a look at a prediction: all voxels that are not 0."""


def find_cases(
    folder: str | Path | Sequence[str | Path], split: str | None = None, seed: int = 0
) -> list[Case]:
    """Find the cases of one or several data sets, or of one of their splits, sorted by name.

    Parameters
    ----------
    folder : path or sequence of paths
        Holds `train/`, `val/` or `test/` (any of them), each with `images/` and `labels/`; or
        `images/` and `labels/` themselves. Beside these there may be `corrections/`, for some of the
        images or for all. A label map, and one of corrections, has its image's stem, in whichever of
        Unicode's two ways an accent is written. Hidden files, and files that are no images, are
        passed over; images that cannot be read, or lie where no split is looked for, are errors. The
        cases of several data sets are joined; no two of these may share a name.
    split : {"train", "val", "test"}, optional
        None: every case; where one data set has split folders, in the order train, val, test. Of
        several data sets, those without the split are passed over as long as one has it.
    seed : int
        Which 60:20:20 split a folder without split folders gets; not used otherwise.

    Raises
    ------
    DataError
        When a folder, the split, or either file of a pair is missing, corrections have no image, a stem
        stands twice, or a link leads nowhere.
    """
    folders = _folders(folder)
    if split is not None and split not in SPLITS:
        raise DataError(f"A split is one of train, val, test; got {split!r}.{nearest_name(split, SPLITS)}")
    if not folders:
        raise DataError("No data set was given: give at least one folder that holds one.")
    missing = [path for path in folders if not path.is_dir()]
    if missing:
        raise DataError(f"There is no folder {missing[0]}: give the folder that holds the data set.")
    if len(folders) == 1:
        return _cases_of(folders[0], split, seed)
    return _joined([(path, _cases_of(path, split, seed)) for path in _having(folders, split, seed)])


def _folders(folder: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(folder)] if isinstance(folder, (str, Path)) else [Path(each) for each in folder]


def _having(folders: Sequence[Path], split: str | None, seed: int) -> list[Path]:
    """The data sets that have the split."""
    having = [path for path in folders if split is None or _has_split(path, split, seed)]
    if not having:
        raise DataError(
            f"None of the data sets {', '.join(map(str, folders))} has a {split!r} split: add {split}/ to "
            "one of them, or give another data set."
        )
    return having


def _joined(data_sets: Sequence[tuple[Path, list[Case]]]) -> list[Case]:
    for (one, cases), (other, more) in itertools.combinations(data_sets, 2):
        shared = {case.name for case in cases} & {case.name for case in more}
        if shared:
            raise DataError(
                f"Cases of several data sets need names of their own, and {one} and {other} share "
                f"{len(shared)} ({_some(shared)}): rename these files in one of the two, or leave one out."
            )
    return sorted((case for _, cases in data_sets for case in cases), key=lambda case: case.name)


def _cases_of(folder: Path, split: str | None, seed: int) -> list[Case]:
    """The cases of one data set."""
    present = [name for name in SPLITS if (folder / name).is_dir()]
    if not present:
        cases = _pair(folder)
        return cases if split is None else _part(folder, cases, split, seed)
    _check_only_splits(folder, present)
    if split is None:
        return [case for name in present for case in _pair(folder / name)]
    if split not in present:
        raise DataError(
            f"{folder} has no {split!r} folder, only {', '.join(present)}: ask for one of these, "
            f"or add {split}/."
        )
    return _pair(folder / split)


def _check_only_splits(folder: Path, present: Sequence[str]) -> None:
    """Refuse labelled images beside the split folders, where nobody would look for them."""
    others = [path for path in folder.iterdir() if path.name not in SPLITS and not path.name.startswith(".")]
    beside = {f"{path.name}/" for path in others if all((path / kind).is_dir() for kind in KINDS)}
    beside |= {"images/"} if all((folder / kind).is_dir() for kind in KINDS) else set()
    if beside:
        raise DataError(
            f"{folder} holds labelled images in {_some(beside)} beside {', '.join(present)}, and only "
            f"{', '.join(SPLITS)} are used: rename or move what is meant for one of them."
        )


def split_cases(cases: list[Case], seed: int = 0) -> dict[str, list[Case]]:
    """Divide cases 60:20:20 into train, val and test, each sorted as the cases came.

    Cases are ranked by a hash of the seed and their names. The result therefore does not depend
    on their order, on the machine or on a library's version, and one more case moves few others.
    """
    ranked = sorted(cases, key=lambda case: _rank(seed, case))
    train, val = round(0.6 * len(cases)), round(0.2 * len(cases))
    part_of: dict[Case, str] = dict.fromkeys(ranked, "test")
    part_of |= dict.fromkeys(ranked[:train], "train")
    part_of |= dict.fromkeys(ranked[train : train + val], "val")
    return {name: [case for case in cases if part_of[case] == name] for name in SPLITS}


def _rank(seed: int, case: Case) -> bytes:
    # A name may be bytes that are no text, which Python keeps as surrogates.
    return hashlib.sha256(f"{seed}:{case.name}".encode("utf-8", "surrogateescape")).digest()


def _part(folder: Path, cases: list[Case], split: str, seed: int) -> list[Case]:
    part = split_cases(cases, seed)[split]
    if not part:
        raise DataError(
            f"{folder} has {len(cases)} labelled images, too few for a {split!r} part of a 60:20:20 split: "
            "add images, or divide them yourself into train/, val/ and test/."
        )
    return part


def _pair(folder: Path) -> list[Case]:
    """The cases of one folder that holds `images/` and `labels/`, and perhaps `corrections/`."""
    images, labels = _files_by_stem(folder / "images"), _files_by_stem(folder / "labels")
    corrections = _files_by_stem(folder / "corrections") if (folder / "corrections").is_dir() else {}
    if not images and not labels:
        raise DataError(
            f"{folder} holds no labelled images: put at least one image into images/ and its label map, "
            "of the same name, into labels/."
        )
    _check_matched(folder, "images", images.keys() - labels.keys(), "labels")
    _check_matched(folder, "labels", labels.keys() - images.keys(), "images")
    _check_matched(folder, "corrections", corrections.keys() - images.keys(), "images")
    return [Case(stem, images[stem], labels[stem], corrections.get(stem)) for stem in sorted(images)]


def _check_matched(folder: Path, here: str, lonely: set[str], there: str) -> None:
    if lonely:
        raise DataError(
            f"{len(lonely)} of the files in {folder / here} have no file of the same name in {there}/ "
            f"({_some(lonely)}): add or rename the missing ones, or take these out."
        )


def _files_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}: a data set has images/ and labels/, or train/, val/ and test/ "
            "with these inside."
        )
    files: dict[str, Path] = {}
    unread: set[str] = set()
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    names = {path.name for path in visible}
    for path in visible:
        if not named_format(path) and (path.is_dir() or not is_dicom(path)):
            unread |= {path.name} if _holds_unread(path, names) else set()
            continue
        if path.is_symlink() and not path.exists():
            raise DataError(
                f"{path} is a link to a file that is not there: bring the file back, or remove the link."
            )
        if not path.is_file():
            continue
        # macOS writes an accent as a character of its own where most others do not.
        twin = files.setdefault(unicodedata.normalize("NFC", image_stem(path)), path)
        if twin != path:
            raise DataError(
                f"{folder} holds both {twin.name} and {path.name}, but the name without its ending must "
                "be unique: rename or remove one."
            )
    if unread:
        raise DataError(
            f"{folder} holds what cannot be read there ({_some(unread)}): put these images into it as files "
            f"of {', '.join(IMAGE_SUFFIXES)}, or take them out."
        )
    return files


def _holds_unread(path: Path, names: Collection[str]) -> bool:
    """Whether something in a folder of cases is an image of another format, or a folder of images."""
    if path.is_dir():
        return any(named_format(inside) for inside in path.iterdir())
    return bool(unread_image(path, names))


def _some(names: set[str]) -> str:
    return first_few(sorted(names), NAMED_AT_MOST)


def has_split(folder: str | Path | Sequence[str | Path], split: str, seed: int = 0) -> bool:
    """Return whether a data set, or one of several, has a split; `find_cases` reports what is wrong in it.

    A folder without split folders is divided by `seed`, and may be too small for every split.
    """
    return any(_has_split(path, split, seed) for path in _folders(folder))


def _has_split(folder: Path, split: str, seed: int) -> bool:
    if has_parts(folder):
        return (folder / split).is_dir()
    return folder.is_dir() and bool(split_cases(_pair(folder), seed)[split])


def share_of_cases(cases: Sequence[Case], share: float, seed: int = 0) -> list[Case]:
    """Return a share of the cases, at least one, as they came; a smaller share is part of a larger one.

    Cases are ranked as `split_cases` ranks them: one more case moves few others.

    `share`: in (0, 1]; 1 gives all of them.
    """
    order = sorted(range(len(cases)), key=lambda index: _rank(seed, cases[index]))
    kept = order[: max(1, round(share * len(cases)))]
    return [cases[index] for index in sorted(kept)]


def has_parts(folder: str | Path) -> bool:
    """Return whether a data set is divided into split folders."""
    return any((Path(folder) / name).is_dir() for name in SPLITS)


def identities(cases: Iterable[Case]) -> list[Identity]:
    """Return what tells cases apart without reading them: names, and the bytes of files.

    Label maps are compressed as a rule, so that one that was corrected hardly ever keeps its size.
    """
    return sorted((case.name, _size(case.image_path), _size(case.label_path)) for case in cases)


def _size(path: Path) -> int:
    """In bytes; 0 of an image that is a folder."""
    return path.stat().st_size if path.is_file() else 0


def marks_of(cases: Sequence[Case]) -> set[str]:
    """Return digests of some of the cases, up to `MOST_MARKS`, that stay wherever these are copied to.

    They are of the beginnings of the files: names alone would be the same in many data sets.
    """
    ranked = sorted(cases, key=lambda case: _rank(0, case))
    return {_mark(case) for case in ranked[:MOST_MARKS]}


def _mark(case: Case) -> str:
    digest = hashlib.sha256(json.dumps(identities([case])).encode())
    for path in (case.image_path, case.label_path):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(file.read(MARK_BYTES))
    return digest.hexdigest()[:12]


def holds_marked(cases: Iterable[Case], marks: Collection[str]) -> bool:
    """Return whether one of the cases is one of those of which `marks_of` gave the marks."""
    return any(_mark(case) in marks for case in cases)
