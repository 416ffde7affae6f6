"""What a project remembers in ``project.yaml``, and names of layers as names of files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from itertools import chain, count
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from swipe_core.data.annotations import AnnotationScheme
from swipe_core.networks.catalogue import SWIPE

LONGEST = 120  # bytes in UTF-8: the systems allow 255, of which frames, endings and drafts need some
FRAME_DIGITS = 4
FRAMES = re.compile(rf"(?:_\d{{{FRAME_DIGITS},}})+")
FOREIGN = re.compile(r"[^\w -]+")
RESERVED = re.compile(r"(con|prn|aux|nul|conin|conout|(com|lpt)[0-9¹²³])", re.IGNORECASE)
# Endings of images, which a layer often has in its name.
ENDINGS = re.compile(r"\.(ome\.tiff?|tiff?|nii\.gz|nii|png|jpe?g|bmp|nrrd|nhdr|mha|mhd|dcm)$", re.IGNORECASE)


def file_name(text: str) -> str:
    """Return a name without an ending that is legal on Windows, macOS and Linux, for any text.

    Letters of all alphabets stay, in Unicode's composed form. There is no dot in it, so what follows the
    first one in the name of a file is its ending. A name of this kind becomes itself.
    """
    plain = FOREIGN.sub("_", ENDINGS.sub("", unicodedata.normalize("NFC", text)))
    short = plain.strip(" _-").encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore").rstrip(" _-")
    if not short:
        return "image"
    return f"{short}-1" if RESERVED.fullmatch(short) else short


def free_name(text: str, taken: Collection[str]) -> str:
    """Return a name for `text` whose cases can be mistaken for those of no other name, whatever their case.

    `taken`: names of other pairs, or the stems of files.
    """
    name = file_name(text)
    candidates = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(each for each in candidates if not any(_is_shared(each, other) for other in taken))


def case_name(pair: str, frame: Sequence[int] = ()) -> str:
    """Return the stem of a frame's files: ``"cells"``, or ``"movie_0007"``."""
    return "_".join((pair, *(f"{index:0{FRAME_DIGITS}d}" for index in frame)))


def frame_of(pair: str, stem: str) -> tuple[int, ...] | None:
    """Return the frame whose files have a stem: the inverse of `case_name`; None for stems of other pairs."""
    stem = unicodedata.normalize("NFC", stem)
    rest = stem.removeprefix(pair)
    if not stem.startswith(pair) or (rest and not FRAMES.fullmatch(rest)):
        return None
    return tuple(int(index) for index in rest.split("_")[1:])


def _is_shared(name: str, other: str) -> bool:
    name, other = (unicodedata.normalize("NFC", text).casefold() for text in (name, other))
    return frame_of(name, other) is not None or frame_of(other, name) is not None


Split = Literal["train", "val"]
Role = Literal["space", "channel", "frame"]


def _is_file_name(name: str) -> str:
    # It becomes a part of paths: one from elsewhere must not lead out of the folder.
    if file_name(name) != name:
        raise ValueError(f"{name!r} cannot be the name of a file")
    return name


def _readable(text: Any) -> Any:
    # Bytes in the name of a file that are no text have no place in one of UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


FilePath = Annotated[str, BeforeValidator(_readable)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PairRecord(_Record):
    """An image and the labels that are painted on it."""

    name: str
    """Of the pair, any text that no other pair of the project has."""
    split: Split
    source: FilePath
    """The file of the image; the name of a layer without a file."""
    labels: str
    """The name of the layer of labels."""
    axes: list[Role] | None = None
    """What the axes of the image's layer are; None where nobody knows."""
    frames: list[list[Annotated[int, Field(ge=0)]]] = []
    """Indices along the frame axes of what is in the data set; ``[[]]`` where there are no such axes."""
    stem: Annotated[str, AfterValidator(_is_file_name)] = file_name("")
    """What the names of its files begin with."""


class RoundRecord(_Record):
    """One training."""

    folder: Annotated[str, Field(pattern=r"^runs/[0-9]+$")]
    """``"runs/01"``."""
    started_from: str
    """What the weights were at its start, in words or as a path."""
    painted: dict[str, int] = {}
    """Voxels by class, as they were then."""
    step: int = 0
    minutes: float = 0.0
    """`step` and `minutes`: how far it came."""
    dice: float | None = None
    """Of the best validation; None without one."""
    state: Literal["running", "stopped", "finished", "failed"] = "running"
    message: str = ""
    """What ended it, if it failed."""


class TrainSettings(_Record):
    """The start of the next training, as a dock shows it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    preset: str | None = None
    """For a training from nothing, by name; None where it starts from `model`, the file of a checkpoint."""
    network: str = SWIPE
    """Of a training from nothing, by name."""
    model: FilePath | None = None
    minutes: float | None = None
    """How long it may take; None until somebody chose."""
    device: str | None = None
    """What computes; None until somebody chose."""


class FormerLabels(_Record):
    """Label files that were written when the project had another scheme, and not anew since."""

    scheme: AnnotationScheme
    """What the numbers in them mean."""
    digests: dict[str, str]
    """Of the files, by name. One with another content was written since, as the project says."""


class ProjectRecord(_Record):
    """A project, but for its data set and its runs."""

    version: Literal[1] = 1
    name: str
    scheme: AnnotationScheme | None = None
    ndim: Literal[2, 3] | None = None
    """`scheme` and `ndim`: None until something was chosen."""
    pairs: list[PairRecord] = []
    folders: list[FilePath] = []
    """Data sets that are trained on beside the own one."""
    settings: TrainSettings = TrainSettings()
    rounds: list[RoundRecord] = []
    kept: list[FilePath] = []
    """Models that the user kept."""
    former: list[FormerLabels] = []
    """Label files that mean something else than `scheme` says."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> ProjectRecord:
        for names in ([pair.name for pair in self.pairs], [pair.stem for pair in self.pairs]):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"two pairs are called {twice[0]}")
        return self

    def pair(self, name: str) -> PairRecord | None:
        """Return what is known of a pair, if there is one of this name."""
        return next((pair for pair in self.pairs if pair.name == name), None)
