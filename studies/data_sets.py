"""Which data sets studies need, where they lie, and which of their cases are judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from studies.study import Setting, Study
from swipe_core.data import SPLITS
from swipe_core.data.cases import Case, find_cases, has_split
from swipe_core.errors import ConfigError, DataError, nearest_name

"""A case's name, and the bytes of its image and of its label map."""


def data_needed(study: Study, setting: Setting) -> tuple[str, ...]:
    """Names of the data sets that a study needs in a setting."""
    asked = any(condition.other_data for condition in study.conditions)
    other = (setting.other_data,) if asked and setting.other_data is not None else ()
    return (setting.data, *other)


def find_data(names: Iterable[str], given: Mapping[str, Path], root: Path | None) -> dict[str, Path]:
    """The folders of data sets by their names.

    Parameters
    ----------
    given
        Folders of single data sets.
    root
        Holds the folders of the others, each under its data set's name.

    Raises
    ------
    ConfigError
        When a folder is given for a data set that is not needed.
    DataError
        When it is not said where one lies, or it is not there.
    """
    wanted = tuple(dict.fromkeys(names))
    for name in given:
        if name not in wanted:
            raise ConfigError(
                f"--data {name}=... is of no use here: the data sets that are needed are {', '.join(wanted)}."
                f"{nearest_name(name, wanted)}"
            )
    return {name: _folder_of(name, given.get(name), root) for name in wanted}


def _folder_of(name: str, given: Path | None, root: Path | None) -> Path:
    ways = f"give its folder with --data {name}=DIR, or --data-root DIR where DIR holds a folder {name}"
    if given is None and root is None:
        raise DataError(f"The data set {name} is needed, and it is not said where it lies: {ways}.")
    folder = given if given is not None else Path(root or "") / name
    if not folder.is_dir():
        raise DataError(f"The data set {name} is needed, and there is no folder {folder}: {ways}.")
    return folder


def cases_by_split(folder: Path, seed: int) -> dict[str, list[Case]]:
    """The cases of all splits that a data set has.

    Parameters
    ----------
    seed
        Which 60:20:20 split a folder without split folders gets.

    Raises
    ------
    DataError
        When none is to be trained on, or none to be judged on.
    """
    cases = {
        split: find_cases(folder, split, seed)
        for split in SPLITS
        if split == "train" or has_split(folder, split, seed)
    }
    if len(cases) == 1:
        raise DataError(
            f"{folder} has cases to train on and none to judge on: add test/, or val/, or leave the folders "
            "of splits away to have the cases divided 60:20:20."
        )
    return cases


def judged_split(splits: Iterable[str]) -> str:
    """The part of its own data set that a network is judged on: ``"test"``, else ``"val"``."""
    return "test" if "test" in splits else "val"
