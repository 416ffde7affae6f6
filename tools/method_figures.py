"""Draw the pictures of docs/method.md from a model and a sample that come with the package.

python tools/method_figures.py --output docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from swipe_core import Predictor, read_image
from swipe_core.data.preprocessing import preprocess
from swipe_core.images import MedicalImage
from swipe_core.inference.extraction import iter_extract
from swipe_core.inference.field import OccupancyField
from swipe_core.networks.swipe.embeddings import FullEmbeddings
from swipe_core.pictures.overlays import new_figure, rendered, write_png
from swipe_core.progress import finish
from swipe_core.samples import SAMPLES

BOUNDARY, GRID, POINTS = "#00d5ff", "#ffffff", "#ffe600"


def principal_colours(embeddings: np.ndarray) -> np.ndarray:
    """Return the three principal components of embeddings (d, *grid) as colours in [0, 1]."""
    rows = embeddings.reshape(len(embeddings), -1).T
    rows = rows - rows.mean(0)
    components = rows @ np.linalg.svd(rows, full_matrices=False)[2][:3].T
    low, high = np.percentile(components, [2, 98], axis=0)
    return np.clip((components - low) / (high - low), 0, 1).reshape(*embeddings.shape[1:], 3)


def encoding_picture(image: MedicalImage, predictor: Predictor, field: OccupancyField) -> np.ndarray:
    """Image and patches, embeddings, the function, and its boundary."""
    prepared = preprocess(image, predictor.content.preprocessing)
    with torch.no_grad():
        encoding = predictor.model.encode(prepared.tensor[None])
    assert isinstance(encoding, FullEmbeddings)
    rows, columns = encoding.patch_grid
    height, width = image.shape
    lattice = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).reshape(-1, 2)
    probability = field.probabilities(lattice.astype(float))[:, 1].reshape(height, width)
    figure = new_figure(1480, 380, layout="constrained")
    axes = figure.subplots(1, 4)
    shown = {"extent": (0, columns, rows, 0), "aspect": height / width * columns / rows}
    for place in axes:
        place.set(xticks=[], yticks=[])
    axes[0].imshow(image.array, **shown)
    axes[0].hlines(range(rows + 1), 0, columns, GRID, linewidth=0.5)
    axes[0].vlines(range(columns + 1), 0, rows, GRID, linewidth=0.5)
    axes[1].imshow(principal_colours(encoding.patch[0].numpy()), **shown)
    axes[2].imshow(probability, cmap="magma", vmin=0, vmax=1, **shown)
    axes[3].imshow(image.array, **shown)
    y, x = (np.arange(height) + 0.5) / height * rows, (np.arange(width) + 0.5) / width * columns
    axes[3].contour(x, y, probability, [0.5], colors=BOUNDARY, linewidths=2)
    titles = (
        f"1. {rows} x {columns} patches",
        f"2. one embedding each ({encoding.patch.shape[1]} numbers)",
        "3. a function: the probability at any point",
        "4. its boundary",
    )
    for place, title in zip(axes, titles, strict=True):
        place.set_title(title, fontsize=12)
    return rendered(figure)


def points_picture(image: MedicalImage, field: OccupancyField, factor: int) -> np.ndarray:
    """The points that are evaluated for labels `factor` times as fine, level by level."""
    asked = list[np.ndarray]()

    def classify(points: np.ndarray) -> np.ndarray:
        places = (points + 0.5) / factor - 0.5
        asked.append(places)
        return field.probabilities(places).argmax(-1)

    shape = tuple(factor * n for n in image.shape)
    labels = finish(iter_extract(classify, shape, stride=8 * factor), lambda _: None).labels
    first, every = asked[0], np.concatenate(asked)
    figure = new_figure(1480, 430, layout="constrained")
    axes = figure.subplots(1, 3)
    count = f"{len(every):,} of {labels.size:,} points"
    for place, points, title in zip(
        axes,
        (first, every, None),
        (
            f"a coarse lattice, {len(first):,} points",
            f"then only where classes change: {count}",
            f"labels {factor} times as fine",
        ),
        strict=True,
    ):
        place.imshow(image.array, alpha=0.6 if points is not None else 1)
        place.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5), facecolor="black")
        place.set(xticks=[], yticks=[])
        place.set_title(title, fontsize=12)
        if points is not None:
            place.scatter(points[:, 1], points[:, 0], s=2, c=POINTS, linewidths=0)
    fine = (np.arange(shape[0]) + 0.5) / factor - 0.5, (np.arange(shape[1]) + 0.5) / factor - 0.5
    axes[2].contour(fine[1], fine[0], labels, [0.5], colors=BOUNDARY, linewidths=1.5)
    return rendered(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help="folder for the PNG files")
    folder = parser.parse_args().output
    image = read_image(SAMPLES["polyp"].image_path)
    predictor = Predictor.load("polyp", device="cpu")
    field = predictor.field(image)
    write_png(folder / "method_encoding.png", encoding_picture(image, predictor, field))
    write_png(folder / "method_points.png", points_picture(image, field, factor=4))


if __name__ == "__main__":
    main()
