"""A field as a file, ``.swipe``: what answers at every point, with neither the image nor its model at hand.

A safetensors file. Its tensors are the encoded windows, in half precision, and what decodes them; its header
says in JSON, field by field, what they are and where they lie. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from swipe_core.blocks import Block
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError
from swipe_core.files.tensors import tensor_digest
from swipe_core.images import Space
from swipe_core.inference.config import InferenceConfig
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.windows import EncodedWindow
from swipe_core.networks.encoding import CorrectedMaps, Encoding, FeatureMaps, LogitMap
from swipe_core.networks.ossnet import CodedImages
from swipe_core.networks.registry import AnyNetwork, build_network
from swipe_core.networks.segmenter import Segmenter
from swipe_core.networks.swipe.embeddings import Embeddings

SUFFIX = ".swipe"
FORMAT = "swipe-field"
VERSION = 1
MODEL_PREFIX = "model."
ENCODINGS = {kind.__name__: kind for kind in (Embeddings, FeatureMaps, CorrectedMaps, LogitMap, CodedImages)}

Names = tuple[str, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GridRecord(_Strict):
    """A `Grid`: its shape, and the matrix from its voxels to the world."""

    shape: tuple[int, ...]
    matrix: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, grid: Grid) -> GridRecord:
        return cls(shape=grid.shape, matrix=tuple(map(tuple, grid.affine.matrix.tolist())))

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, Affine(torch.tensor(self.matrix, dtype=torch.float64).numpy()))


class WindowRecord(_Strict):
    """An `EncodedWindow`, without its tensors."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    mirrored: tuple[int, ...]
    encoding: str
    """The kind of its encoding, a key of `ENCODINGS`."""
    numbers: dict[str, int | tuple[int, ...] | None]
    """The fields of the encoding that are no tensors."""


class FieldHeader(_Strict):
    """What stands in the file besides the tensors; see `OccupancyField`."""

    title: str
    """What the image was called."""
    model: AnyNetwork
    class_names: Names = Field(min_length=1)
    class_colours: Names
    inference: InferenceConfig
    temperature: float | None = Field(None, gt=0, allow_inf_nan=False)
    grid: GridRecord
    image_grid: GridRecord
    unit: str
    is_anatomical: bool
    lengths: str
    windows: tuple[WindowRecord, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> FieldHeader:
        if len(self.class_names) != len(self.class_colours):
            raise ValueError("there must be a colour for each class")
        if self.grid.grid.ndim != self.image_grid.grid.ndim:
            raise ValueError("both grids must have as many axes")
        return self


@dataclass(frozen=True, eq=False)
class SavedField:
    """A field that was read from a file, and how its classes are shown."""

    field: OccupancyField
    title: str
    class_colours: Names
    """``"#rrggbb"`` of the classes 1, 2, ..."""


def save_field(path: str | Path, field: OccupancyField, title: str, class_colours: Sequence[str]) -> None:
    """Write a field to a file. Encodings are stored in half precision, unless that does not hold their
    numbers.

    Parameters
    ----------
    title
        What the image is called.
    class_colours
        ``"#rrggbb"`` of the classes 1, 2, ...

    Raises
    ------
    OSError
        When the disk refuses; the file may be there in part then.
    """
    tensors = {MODEL_PREFIX + name: tensor for name, (_, tensor) in _decoding_tensors(field.model).items()}
    windows = []
    for number, window in enumerate(field.windows):
        encoding = window.encoding.for_decoding()
        numbers = {}
        for each in fields(encoding):
            value = getattr(encoding, each.name)
            parts = _tensors_of(each.name, value)
            tensors |= {f"{number}.{name}": _halved(tensor) for name, tensor in parts.items()}
            if not parts:
                numbers[each.name] = value
        windows.append(
            WindowRecord(
                start=window.block.start,
                shape=window.block.shape,
                mirrored=window.mirrored,
                encoding=type(encoding).__name__,
                numbers=numbers,
            )
        )
    header = FieldHeader(
        title=title,
        model=field.model.config,
        class_names=field.class_names,
        class_colours=tuple(class_colours),
        inference=field.config,
        temperature=field.temperature,
        grid=GridRecord.of(field.grid),
        image_grid=GridRecord.of(field.image_grid),
        unit=field.unit,
        is_anatomical=field.space.is_anatomical,
        lengths=field.space.lengths,
        windows=tuple(windows),
    ).model_dump_json()
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "content": header,
        "digest": _digest(header, whole),
    }
    Path(path).write_bytes(save(whole, metadata))


def open_field(path: str | Path) -> SavedField:
    """Read a field; it answers on the CPU, and has no tie to the file.

    Raises
    ------
    ImageError
        When there is no such file, or it is damaged, of another kind, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"There is no file {path}: give one that ends in {SUFFIX}.")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error
    if metadata.get("format") != FORMAT:
        raise ImageError(
            f"{path} is a safetensors file, but holds no segmentation: give one that `swipe export` wrote."
        )
    if metadata.get("version") != str(VERSION):
        raise ImageError(
            f"{path} has version {metadata.get('version', '?')} of the format and this program reads "
            f"{VERSION}: update napari-swipe."
        )
    content = metadata.get("content", "")
    if metadata.get("digest") != _digest(content, tensors):
        raise _damaged(path)
    try:
        return _restored(FieldHeader.model_validate_json(content), tensors)
    except (ValidationError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(path) from error


def _restored(header: FieldHeader, tensors: Mapping[str, Tensor]) -> SavedField:
    windows = tuple(
        EncodedWindow(Block(record.start, record.shape), _encoding(record, number, tensors), record.mirrored)
        for number, record in enumerate(header.windows)
    )
    field = OccupancyField(
        model=_decoder(header, tensors),
        windows=windows,
        grid=header.grid.grid,
        image_grid=header.image_grid.grid,
        unit=header.unit,
        class_names=header.class_names,
        config=header.inference,
        space=Space(is_anatomical=header.is_anatomical, lengths=header.lengths),
        temperature=header.temperature,
    )
    return SavedField(field, header.title, header.class_colours)


def _encoding(record: WindowRecord, number: int, tensors: Mapping[str, Tensor]) -> Encoding:
    values: dict[str, Any] = dict(record.numbers)
    prefix = f"{number}."
    several: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            field, _, place = name.removeprefix(prefix).partition(".")
            if place:
                several.setdefault(field, {})[int(place)] = tensor.float()
            else:
                values[field] = tensor.float()
    values |= {field: tuple(parts[place] for place in sorted(parts)) for field, parts in several.items()}
    return ENCODINGS[record.encoding](**values)


def _decoder(header: FieldHeader, tensors: Mapping[str, Tensor]) -> Segmenter:
    """The part of the network that decodes; there is nothing in the place of the others."""
    with torch.device("meta"):  # no memory is taken for what is not there
        model = build_network(header.model).eval()
        model.fold()
    for name, _ in list(model.named_children()):
        if name not in model.decoder_parts:
            setattr(model, name, nn.Identity())
    for name, (owner, expected) in _decoding_tensors(model).items():
        given = tensors[MODEL_PREFIX + name]
        if given.shape != expected.shape:
            raise ValueError(f"{name} has the shape {tuple(given.shape)}")
        attribute = name.rpartition(".")[2]
        if isinstance(expected, nn.Parameter):
            setattr(owner, attribute, nn.Parameter(given, requires_grad=False))
        else:
            setattr(owner, attribute, given)
    return model


def _decoding_tensors(model: Segmenter) -> dict[str, tuple[nn.Module, Tensor]]:
    """All parameters and buffers of what decodes, by name, each with the module that it belongs to."""

    def found() -> Iterator[tuple[str, tuple[nn.Module, Tensor]]]:
        for part in model.decoder_parts:
            for prefix, module in model.get_submodule(part).named_modules(prefix=part):
                for name, tensor in (
                    *module.named_parameters(recurse=False),
                    *module.named_buffers(recurse=False),
                ):
                    yield f"{prefix}.{name}", (module, tensor)

    return dict(found())


def _tensors_of(name: str, value: object) -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
        return {f"{name}.{place}": tensor for place, tensor in enumerate(value)}
    return {}


def _halved(tensor: Tensor) -> Tensor:
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor.float()


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(f"{header}\n{tensor_digest(tensors)}".encode()).hexdigest()


def _damaged(path: Path) -> ImageError:
    return ImageError(
        f"{path} is not a whole {SUFFIX} file (cut short, altered, or of another kind): export it anew."
    )
