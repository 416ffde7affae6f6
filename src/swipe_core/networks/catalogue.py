"""The networks to choose from and their sizes, in words: for lists and forms, which must not wait for torch.

`swipe_core.networks.registry` has the same ones with their configurations.
"""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from swipe_core.errors import ConfigError, listed, nearest_name

SWIPE = "swipe"  # the network where none is named

Preset = Literal["quick", "standard", "paper"]
PRESETS: dict[Preset, str] = {
    "quick": "a small network that learns in minutes, on a CPU too",
    "standard": "a network about four times as large, for an hour on a GPU",
    "paper": "the network as large as in Zhang et al. 2023, for a day on a GPU",
}


@dataclass(frozen=True)
class NetworkEntry:
    """A network as people choose it."""

    title: str
    year: int
    """`title` and `year`: what it is called, and when it was published."""
    summary: str
    """What it is, what it is good at, and what it costs."""
    dimensions: tuple[int, ...] = (2, 3)
    """Axes of the images that it takes."""
    packages: tuple[str, ...] = ()
    """What it needs beside what this program needs anyhow, as pip calls it."""
    module: str = ""
    """Where its `KIND` is, below `swipe_core.networks`; by default it is called as the network."""


# SwIPE first, then by title.
CATALOGUE: dict[str, NetworkEntry] = {
    SWIPE: NetworkEntry(
        "SwIPE",
        2023,
        "A shape for each patch of the image, told at any place in it. Few parameters, outlines that stay "
        "smooth at any zoom, and the least data to learn from. The default.",
        module="swipe.build",
    ),
    "iosnet": NetworkEntry(
        "IOSNet",
        2022,
        "A small decoder asked at every point about the features there, from the finest to the coarsest. "
        "Sharp at any zoom; knows little of the whole, so it may see objects where there are none.",
    ),
    "ossnet": NetworkEntry(
        "OSS-Net",
        2021,
        "One code for the whole image, and a small patch of pixels around every point. Little memory, whole "
        "shapes; fine detail suffers, and every point costs more than in other networks.",
    ),
    "pixel_classifier": NetworkEntry(
        "Pixel classifier",
        2011,
        "Tells every point by its surroundings of some dozen pixels, by ready-made features. Learns from a "
        "few strokes in seconds; knows nothing of shapes, nor of the slices beside one.",
    ),
    "pranet": NetworkEntry(
        "PraNet",
        2020,
        "Made for polyps: a coarse guess of where the object is, then its border from coarse to fine. Many "
        "parameters for its work; 2D only.",
        dimensions=(2,),
    ),
    "res2unet": NetworkEntry(
        "Res2UNet",
        2021,
        "A U-Net with a deep Res2Net as its encoder, which sees objects of many sizes at once. Cheap for "
        "its number of parameters; a few images are little for it to learn from.",
    ),
    "unet": NetworkEntry(
        "U-Net",
        2015,
        "The classic: an answer for every pixel, from coarse and fine maps together. Learns fast and "
        "surely; needs the most memory and work of all, above all in 3D.",
    ),
    "unetr": NetworkEntry(
        "UNETR",
        2022,
        "A transformer over blocks of 16 voxels, with a decoder like a U-Net's. Sees a whole volume at "
        "once; by far the largest, wants much data, and volumes in windows of one size. 3D only.",
        dimensions=(3,),
        packages=("monai", "einops"),
    ),
}


def title_of(name: str) -> str:
    """Return what a network is called; its name where it is not known here."""
    return CATALOGUE[name].title if name in CATALOGUE else name


def hindrance(name: str, ndim: int) -> str | None:
    """Return why a network cannot be had here for images of a dimension; None where it can."""
    entry = CATALOGUE[name]
    if ndim not in entry.dimensions:
        return wrong_dimension(entry, ndim)
    missing = [package for package in entry.packages if importlib.util.find_spec(package) is None]
    if missing:
        return f"{entry.title} needs what is not installed here: pip install {' '.join(missing)}"
    return None


def offered(ndim: int) -> dict[str, str | None]:
    """Return all networks, each with its `hindrance` for images of a dimension."""
    return {name: hindrance(name, ndim) for name in CATALOGUE}


def check_dimension(name: str, ndim: int) -> None:
    """Check that there is such a network for images of a dimension, whether or not it can be had here.

    Raises
    ------
    ConfigError
        Otherwise, with those that there are.
    """
    if name not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise ConfigError(f"There is no network {name!r}, only {known}.{nearest_name(name, CATALOGUE)}")
    if ndim not in CATALOGUE[name].dimensions:
        fitting = [entry.title for entry in CATALOGUE.values() if ndim in entry.dimensions]
        reason = wrong_dimension(CATALOGUE[name], ndim).removesuffix(".")
        raise ConfigError(f"{reason}: choose {listed(fitting, 'or')}.")


def wrong_dimension(entry: NetworkEntry, ndim: int) -> str:
    """Say that images of a dimension are not for a network."""
    dimensions = listed((f"{n}D" for n in entry.dimensions), "or")
    return f"{entry.title} is for {dimensions} images, and these are {ndim}D."
