"""A checkpoint as a package of bioimage.io (specification 0.5): probabilities on a fixed grid, as ONNX."""

import hashlib
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float32

from swipe_core.checkpoints.file import CheckpointContent, load_checkpoint
from swipe_core.checkpoints.graphs import OPSET, WholeImage, for_graphs, write_graph
from swipe_core.checkpoints.library import bundled_checkpoints
from swipe_core.checkpoints.onnx_export import grid_shape
from swipe_core.checkpoints.sharing import DOI, PAPER, licence_of, new_folder, page, require_card
from swipe_core.coordinates import Affine, Grid
from swipe_core.data.preprocessing import (
    PreprocessingConfig,
    channels_first,
    fitted_channels,
    resampled,
    target_grid,
)
from swipe_core.errors import CheckpointError
from swipe_core.images import MedicalImage, read_image
from swipe_core.images.orientation import oriented
from swipe_core.images.units import PIXEL
from swipe_core.pictures import default_colours, fitted_shape, overlay, write_png
from swipe_core.samples import SAMPLES

FORMAT = "0.5.4"
COVER = 400  # pixels along the edge
USE = """\
A package for programs of bioimage.io. It takes {image} and gives the probabilities {probabilities}
of the background and of {classes}, on a lattice over the same extent (axes batch, channel, {axes}).

{before} That is done inside.

The continuous field, other resolutions, larger images and other views need the program itself."""
BEFORE = {
    "unit": "Intensities are those of 8 bits, 0 to 255; bring others to that range first.",
    "standardise": "Any intensities will do; they are clipped at their outer percentiles and standardised.",
    "range": "Any intensities will do; their outer percentiles are brought to [-1, 1].",
    "window": "Intensities are those of the file, such as HU; they are clipped to the model's window.",
}


def export_bioimage_io(
    checkpoint: str | Path,
    folder: str | Path,
    shape: Sequence[int] | None = None,
    factor: float = 1.0,
    image: str | Path | None = None,
) -> list[Path]:
    """Write a package, as a folder and as the archive NAME.zip in it that is uploaded; return its files.

    Raises `ImageError` when the extra ``onnx`` is not installed, or the image cannot be used, and
    `CheckpointError` when the model has no card or no sample, the network cannot be written as ONNX, or the
    folder holds something.

    `shape`: voxels of the grid that goes in; None: those of the training, as `grid_shape` has it.
    `factor`: how many times as many voxels the probabilities have along each axis.
    `image`: from which the test tensors and the cover are made; None: the sample of the model.
    """
    loaded = load_checkpoint(checkpoint)
    content = loaded.content
    require_card(content)
    shape = grid_shape(content.preprocessing, shape)
    given = on_grid(
        read_image(_example(content, image), ndim=content.model.ndim), content.preprocessing, shape
    )
    tensor = channels_first(given)[None]
    lattice = Grid(shape, Affine.identity(len(shape))).scaled(factor).shape
    graph = WholeImage(for_graphs(loaded.build()), content.preprocessing, lattice)
    folder = new_folder(folder)
    write_graph(folder / "weights.onnx", graph, [tensor], (["image"], ["probabilities"]))
    with torch.inference_mode():
        probabilities = graph(tensor).numpy()
    np.save(folder / "image.npy", tensor.numpy())
    np.save(folder / "probabilities.npy", probabilities)
    write_png(folder / "cover.png", _cover(content, given, probabilities[0]))
    use = USE.format(
        image=f"`image` {(1, content.model.channels, *shape)}",
        probabilities=probabilities.shape,
        classes=", ".join(content.labels.class_names),
        axes=", ".join("zyx"[-len(shape) :]),
        before=BEFORE[content.preprocessing.intensity],
    )
    (folder / "README.md").write_text(page(content, use), encoding="utf-8")
    description = _description(content, folder, shape, lattice)
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    (folder / "rdf.yaml").write_text(text, encoding="utf-8")
    files = sorted(folder.iterdir())
    archive = folder / f"{content.name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as package:
        for file in files:
            package.write(file, file.name)
    return [archive, *files]


def on_grid(
    image: MedicalImage, config: PreprocessingConfig, shape: Sequence[int]
) -> Float32[np.ndarray, "*shape channels"]:
    """Return the middle of an image as a network of fixed size sees it, its intensities as they are.

    Where the image ends before the grid does, its last voxels are repeated.
    """
    image = oriented(image, config.orientation)
    array = fitted_channels(resampled(image, target_grid(image, config)), config.channel_kinds)
    for axis, (size, wanted) in enumerate(zip(array.shape, shape, strict=False)):
        start = (size - wanted) // 2
        array = np.take(array, np.clip(np.arange(start, start + wanted), 0, size - 1), axis=axis)
    return array


def _example(content: CheckpointContent, image: str | Path | None) -> str | Path:
    sample = next((sample.image_path for sample in SAMPLES.values() if sample.model == content.name), None)
    if image is None and sample is None:
        raise CheckpointError("Say with --image of which image the test of the package is to be made.")
    return image or sample or ""


def _cover(content: CheckpointContent, given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The middle slice, and what is found in it."""
    labels = probabilities.argmax(axis=0)
    if labels.ndim == 3:
        given, labels = given[len(given) // 2], labels[len(labels) // 2]
    if content.preprocessing.intensity == "unit":
        given = given.astype(np.uint8)
    colours = content.labels.class_colours or default_colours(len(content.labels.class_names))
    return overlay(given, labels, colours, shape=fitted_shape(given.shape[:2], COVER))


def _description(
    content: CheckpointContent, folder: Path, shape: Sequence[int], lattice: Sequence[int]
) -> dict[str, Any]:
    card, config = require_card(content), content.preprocessing

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}

    def tensor(name: str, channels: Sequence[str], sizes: Sequence[int]) -> dict[str, Any]:
        return {
            "id": name,
            "axes": [
                {"type": "batch", "size": 1},
                {"type": "channel", "channel_names": list(channels)},
                *(
                    {"type": "space", "id": axis, "size": size, **_step(config, number, size / shape[number])}
                    for number, (axis, size) in enumerate(zip("zyx"[-len(shape) :], sizes, strict=True))
                ),
            ],
            "test_tensor": file(f"{name}.npy"),
            "data": {"type": "float32"},
        }

    return {
        "format_version": FORMAT,
        "type": "model",
        "name": re.sub(r"[^A-Za-z0-9_+\-() ]", " ", card.title)[:64],
        "description": card.description[:512],
        "authors": [{"name": "The napari-swipe developers"}] if content.name in bundled_checkpoints() else [],
        "cite": [{"text": PAPER, "doi": DOI}],
        "license": licence_of(card),
        "tags": ["segmentation", "semantic-segmentation", f"{config.ndim}d", "napari", "swipe"],
        "covers": [file("cover.png")],
        "documentation": file("README.md"),
        "inputs": [tensor("image", _channel_names(config.channels), shape)],
        "outputs": [tensor("probabilities", ("background", *content.labels.class_names), lattice)],
        "weights": {"onnx": {**file("weights.onnx"), "opset_version": OPSET}},
        "config": {"napari-swipe": {"attribution": card.attribution, "limits": card.limits}},
    }


def _channel_names(count: int) -> list[str]:
    return ["red", "green", "blue"] if count == 3 else [f"channel{number}" for number in range(count)]


def _step(config: PreprocessingConfig, axis: int, factor: float) -> dict[str, Any]:
    """What one axis says of the size of its voxels."""
    if config.spacing is None or config.spacing_unit in (None, PIXEL):
        return {"scale": 1 / factor}
    return {"scale": config.spacing[axis] / factor, "unit": config.spacing_unit}
