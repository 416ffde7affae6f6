"""The header of a checkpoint, which describes the model: read in a moment, and without torch.

A safetensors file begins with the length of its header (8 bytes, little-endian) and the header, in JSON.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AliasGenerator,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from swipe_core.checkpoints.card import ModelCard
from swipe_core.errors import CheckpointError, field_path
from swipe_core.images.channels import ChannelAxis, Channels, channels_taken
from swipe_core.inference.config import InferenceConfig
from swipe_core.networks.catalogue import SWIPE, title_of
from swipe_core.pictures.overlays import default_colours

FORMAT = "swipe-checkpoint"
VERSION = 1
DECIMAL = re.compile("[0-9]{1,9}")
LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself has it
UNDECIDED = "auto"  # what the header says of an orientation that was never decided
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


# Where the fields of a description stand in the JSON of a checkpoint's content.
SECTIONS = {
    "model": ("network", "ndim", "channels"),
    "labels": ("class_names", "class_colours"),
    "preprocessing": (
        "intensity",
        "window",
        "spacing",
        "spacing_unit",
        "size",
        "crop_size",
        "orientation",
        "channel_axis",
    ),
}


def _place(field: str) -> str | AliasPath:
    """Return where a field stands in the content of a checkpoint."""
    return next((AliasPath(section, field) for section, names in SECTIONS.items() if field in names), field)


class ModelDescription(BaseModel):
    """What can be known of a trained model without loading it.

    These fields are read from the content of a checkpoint, which
    `swipe_core.checkpoints.file.CheckpointContent` writes; all others may come and go with other versions.

    Attributes
    ----------
    bytes
        The size of the file.
    ndim, channels
        Spatial axes and channels of the images it takes.
    network
        Which one it is, by name; the name may be of a network that other versions have.
    class_names, class_colours
        Of the classes 1, 2, ...; a colour ``"#rrggbb"`` for each, the palette's where it has none.
    intensity, window, spacing, spacing_unit, size, crop_size, channel_axis
        What images are brought to, as in `swipe_core.data.preprocessing.PreprocessingConfig`.
    orientation
        The anatomical orientation of its volumes, such as ``"RAS"``; None where it states none.
    card
        None where the model was not released with one.
    inference
        The settings that it is used with.
    """

    model_config = ConfigDict(
        frozen=True, alias_generator=AliasGenerator(validation_alias=_place), populate_by_name=True
    )

    name: str
    path: Path
    bytes: int
    ndim: int
    channels: int
    network: str = SWIPE  # the only one when headers did not name it
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    class_colours: Annotated[tuple[Colour, ...], Field(validate_default=True)] = ()
    intensity: str
    window: tuple[float, float] | None = None
    spacing: tuple[float, ...] | None = None
    spacing_unit: str | None = None
    size: tuple[int, ...] | None = None
    crop_size: tuple[int, ...] | None = None
    orientation: str | None = None
    channel_axis: ChannelAxis | None = None
    card: ModelCard | None = None
    inference: InferenceConfig = InferenceConfig()

    @field_validator("inference", mode="wrap")
    @classmethod
    def _known_settings(cls, values: Any, validate: Callable[[Any], InferenceConfig]) -> InferenceConfig:
        try:
            return validate(values)
        except ValidationError:  # another version has other settings
            return InferenceConfig()

    @field_validator("class_colours", mode="before")
    @classmethod
    def _with_palette(cls, colours: Any, info: Any) -> Any:
        return colours or default_colours(len(info.data.get("class_names", ())))

    @field_validator("orientation")
    @classmethod
    def _decided(cls, orientation: str | None) -> str | None:
        return None if orientation == UNDECIDED else orientation

    @field_validator("card", mode="before")
    @classmethod
    def _known_fields(cls, card: Any) -> Any:
        if not isinstance(card, Mapping):
            return card
        return {name: value for name, value in card.items() if name in ModelCard.model_fields}

    @property
    def channel_kinds(self) -> Channels:
        """Return how many channels it takes, and of which kind."""
        return channels_taken(self.ndim, self.channels, self.channel_axis)

    @property
    def needs_size(self) -> bool:
        """Whether it must be known how large an image's voxels are."""
        return self.spacing is not None and self.spacing_unit not in (None, "pixel")

    @property
    def network_title(self) -> str:
        """Return what people call the network."""
        return title_of(self.network)


def describe_checkpoint(path: str | Path) -> ModelDescription:
    """Return what a checkpoint holds, from its header; fields that are not known here are passed over.

    Raises
    ------
    CheckpointError
        When there is no such file, or it is cut short, damaged, of another kind, or of a newer version.
    """
    path = Path(path)
    metadata = _metadata(path)
    check_format(path, metadata)
    try:
        content = TypeAdapter(dict[str, Any]).validate_json(metadata.get("content", ""))
        return ModelDescription.model_validate({**content, "path": path, "bytes": path.stat().st_size})
    except ValidationError as error:
        raise unusable(path, error) from error


def unsuitable(description: ModelDescription, ndim: int, channels: Channels) -> str | None:
    """Return why an image cannot be given to a model, in a sentence; None where it can.

    `ndim`: spatial axes of what the model would be given. A volume can be segmented by a 2D model frame by
    frame: then ask with the 2 axes that are left of it.
    `channels`: of the image; `Channels.fits` says which serve which model.
    """
    if ndim != description.ndim:
        return f"{description.name} is a model for {description.ndim}D images, and this one is {ndim}D."
    wanted = description.channel_kinds
    if channels.fits(wanted):
        return None
    return f"{description.name} is a model for images of {wanted}, and this one has {channels}."


def check_format(path: Path, metadata: Mapping[str, str]) -> None:
    """Check that a safetensors file is a checkpoint that this program can read.

    Raises
    ------
    CheckpointError
        Otherwise.
    """
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file, but no SwIPE checkpoint: give a file that `swipe train` wrote."
        )
    version = metadata.get("version", "")
    if not DECIMAL.fullmatch(version) or int(version) > VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {version or '?'} and this program reads up to {VERSION}: "
            "update napari-swipe."
        )


def damaged(path: Path) -> CheckpointError:
    """Return the error for a file that is no whole safetensors file."""
    return CheckpointError(
        f"{path} is not a whole safetensors file (cut short, damaged, or another format): "
        "copy or download it again."
    )


def unusable(path: Path, error: ValidationError) -> CheckpointError:
    """Return the error for a checkpoint whose header has a wrong field."""
    first = error.errors()[0]
    where = ".".join(field_path(first["loc"])) or "header"
    return CheckpointError(
        f"{path} has an unusable {where} ({first['msg']}): the file was altered or made by another "
        "version; use another copy or update napari-swipe."
    )


def _metadata(path: Path) -> dict[str, str]:
    """Return the texts in the header of a safetensors file that is as long as its header says."""
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}: give the path of a .safetensors file.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, LONGEST_HEADER):
                raise damaged(path)
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if 8 + length + end != size or not all(isinstance(text, str) for text in metadata.values()):
            raise damaged(path)
    # Whatever valid JSON may hold in the place of what belongs there.
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise damaged(path) from error
    return metadata
