"""Sheets that show what a model does: a boundary ever closer, cases beside their reference, attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, UInt8
from scipy import ndimage

from swipe_core.data.labelled import LabelledImage
from swipe_core.images import MedicalImage
from swipe_core.inference.field import OccupancyField
from swipe_core.metrics import dice
from swipe_core.pictures import Panel, contact_sheet, default_colours, fitted_shape, overlay, to_rgb
from swipe_core.predictor import Predictor

Picture = UInt8[np.ndarray, "height width 3"]
PANEL_SIZE = 360
OUTLINE = 3


def zoom_sheet(
    field: OccupancyField, image: MedicalImage, *, width: int = 32, factors: Sequence[int] = (1, 4, 16)
) -> Picture:
    """The part of an image with the longest boundary, and the same field sampled ever finer there.

    The first label panel, at 1x, is what an enlarged raster looks like. A volume is shown in the
    slice with the most foreground.

    Parameters
    ----------
    width
        Of the part, in voxels of the image.
    factors
        Samples per voxel, along each axis of the picture.
    """
    labels = field.render(image.grid).array
    start, size = _longest_boundary(labels, width)
    crop = image.array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
    picture = _plane(crop)
    shape = fitted_shape(picture.shape[:2], PANEL_SIZE)
    panels = [Panel(overlay(picture, np.zeros(shape, np.uint8), shape=shape), "image")]
    for factor in factors:
        in_plane = [float(factor) if n > 1 else 1.0 for n in size]
        part = field.render(image.grid.window(start, size).scaled(in_plane))
        panels.append(
            Panel(
                overlay(picture, _plane(part.array), outline=OUTLINE, shape=shape),
                f"labels at {factor}x: {part.evaluated_points} points asked",
            )
        )
    return contact_sheet([panels])


def case_sheet(predictor: Predictor, cases: Sequence[LabelledImage]) -> Picture:
    """A row per case: the image, its reference and the prediction with its Dice.

    Volumes are segmented whole and shown in the slice with the most reference foreground.
    """
    names = predictor.content.labels.class_names
    colours = list(predictor.content.labels.class_colours or default_colours(len(names)))
    rows = []
    for case in cases:
        predicted = predictor.field(case.image).render(case.image.grid).array
        reference = case.labels.array
        score = np.mean([dice(predicted == c, reference == c) for c in range(1, len(names) + 1)])
        shown = _fullest_slice(reference)
        image = case.image.array[shown]
        shape = fitted_shape(image.shape[:2], PANEL_SIZE)
        plain = overlay(image, np.zeros(shape, np.uint8), shape=shape)
        rows.append(
            [
                Panel(plain, _shortened(case.name)),
                Panel(overlay(image, reference[shown], colours, shape=shape), "reference"),
                Panel(
                    overlay(image, predicted[shown], colours, shape=shape), f"prediction, Dice {score:.2f}"
                ),
            ]
        )
    return contact_sheet(rows, dict(zip(names, colours, strict=True)))


def attention_sheet(field: OccupancyField, image: MedicalImage) -> Picture:
    """Which scale decided where: the MEA weight of each stage (Fig. 3 of the supplement of the paper).

    Of the first window of the field; a 2D image that was encoded whole is shown whole.

    Raises
    ------
    ValueError
        When the model has no MEA, or the image is a volume.
    """
    attention = field.windows[0].embeddings.attention
    if attention is None or image.ndim != 2:
        raise ValueError("An attention sheet needs a 2D image and a model with fusion: attention.")
    weights = attention[0].cpu().numpy()
    shape = fitted_shape(image.shape, PANEL_SIZE)
    panels = [Panel(overlay(image.array, np.zeros(shape, np.uint8), shape=shape), "image")]
    for stage, weight in enumerate(weights, start=2):
        shade = to_rgb(weight[..., None], window=(0.0, float(weights.max())))
        enlarged = overlay(shade, np.zeros(shape, np.uint8), shape=shape)
        panels.append(Panel(enlarged, f"weight of F{stage}, {weight.min():.2f} to {weight.max():.2f}"))
    return contact_sheet([panels])


def _longest_boundary(
    labels: Integer[np.ndarray, "*shape"], width: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and size of the window, one voxel thick in a volume, with the most boundary in it."""
    size = [min(width, n) for n in labels.shape]
    shown = _fullest_slice(labels)
    start = [0] * labels.ndim
    if labels.ndim == 3:
        start[0], size[0] = int(shown[0]), 1
    plane = labels[shown]
    edges = (ndimage.maximum_filter(plane, 3) != ndimage.minimum_filter(plane, 3)).astype(np.float64)
    in_plane = size[-2:]
    density = ndimage.uniform_filter(edges, in_plane, mode="constant")
    centre = np.unravel_index(int(density.argmax()), density.shape)
    for axis, (middle, extent, length) in enumerate(zip(centre, in_plane, plane.shape, strict=True)):
        start[labels.ndim - 2 + axis] = int(np.clip(middle - extent // 2, 0, length - extent))
    return tuple(start), tuple(size)


def _fullest_slice(labels: Integer[np.ndarray, "*shape"]) -> tuple[int, ...]:
    """Index of the slice along the first axis with the most foreground; nothing to choose in 2D."""
    if labels.ndim == 2:
        return ()
    return (int((labels > 0).sum(axis=(1, 2)).argmax()),)


def _plane(array: np.ndarray) -> np.ndarray:
    """A one-voxel-thick crop without its thin first axis."""
    return array[0] if array.shape[0] == 1 and array.ndim > 2 else array


def _shortened(name: str, length: int = 40) -> str:
    return name if len(name) <= length else name[: length - 3] + "..."
