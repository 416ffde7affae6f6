"""Small real data sets that ship with the package; see README.md beside this file for their sources."""

from __future__ import annotations

from pathlib import Path

from swipe_core.errors import DataError, nearest_name


def sample_folder(name: str) -> Path:
    """The folder of a sample data set: `train` and `val`, each with `images` and `labels`.

    Parameters
    ----------
    name : str
        ``"nuclei"``: eight fluorescence microscopy images; the labels are instance maps.

    Raises
    ------
    DataError
        When there is no sample of that name.
    """
    here = Path(__file__).parent
    known = sorted(folder.name for folder in here.iterdir() if (folder / "train").is_dir())
    if name not in known:
        raise DataError(
            f"There is no sample data set {name!r}; there is {', '.join(known)}.{nearest_name(name, known)}"
        )
    return here / name
