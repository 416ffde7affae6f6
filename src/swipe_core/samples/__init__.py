"""Small real data that ships with the package; see README.md beside this file for its sources."""

from dataclasses import dataclass
from pathlib import Path

from swipe_core.errors import DataError, nearest_name

FOLDER = Path(__file__).parent

POLYPGEN = "PolypGen, S. Ali et al. 2023, CC BY 4.0 (reduced in size)"
DECATHLON = "Medical Segmentation Decathlon, M. Antonelli et al. 2022, CC BY-SA 4.0"
DATA_SCIENCE_BOWL = "2018 Data Science Bowl (BBBC038v1), J. C. Caicedo et al. 2019, CC0"


@dataclass(frozen=True)
class Sample:
    """One image with its reference labels."""

    title: str
    """What is to be seen."""
    image_path: Path
    label_path: Path
    model: str
    """Name of the model that segments such images."""
    class_names: tuple[str, ...]
    """Of the reference's labels 1, 2, ...; none where its labels tell instances apart."""
    attribution: str
    """Who is to be named, and the licence."""


def _sample(title: str, image: str, label: str, model: str, classes: tuple[str, ...], source: str) -> Sample:
    folder, image_name = image.split("/")
    return Sample(
        title=title,
        image_path=FOLDER / folder / "images" / image_name,
        label_path=FOLDER / folder / "labels" / label,
        model=model,
        class_names=classes,
        attribution=source,
    )


SAMPLES = {
    "polyp": _sample("Polyp", "polyps/round.jpg", "round.png", "polyp", ("polyp",), POLYPGEN),
    "flat_polyp": _sample("Flat polyp", "polyps/flat.jpg", "flat.png", "polyp", ("polyp",), POLYPGEN),
    "hippocampus": _sample(
        "Hippocampus",
        "hippocampus/hippocampus.nii.gz",
        "hippocampus.nii.gz",
        "hippocampus",
        ("anterior", "posterior"),
        DECATHLON,
    ),
    "nuclei": _sample("Nuclei", "microscopy/nuclei.png", "nuclei.tif", "nuclei", (), DATA_SCIENCE_BOWL),
}
"""Single images, by name."""


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
    known = sorted(folder.name for folder in FOLDER.iterdir() if (folder / "train").is_dir())
    if name not in known:
        raise DataError(
            f"There is no sample data set {name!r}; there is {', '.join(known)}.{nearest_name(name, known)}"
        )
    return FOLDER / name
