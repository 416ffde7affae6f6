"""Pictures of what a model does: a boundary ever closer, cases beside their reference, Dice, attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Integer, UInt8
from scipy import ndimage

from swipe_core.data.labelled import LabelConfig, LabelledImage
from swipe_core.evaluation.report import CaseScores, EvaluationReport
from swipe_core.images import MedicalImage
from swipe_core.inference.field import OccupancyField
from swipe_core.metrics import score_labels
from swipe_core.model.embeddings import stage_weights
from swipe_core.pictures import Panel, contact_sheet, default_colours, fitted_shape, overlay, to_rgb
from swipe_core.predictor import Predictor

Picture = UInt8[np.ndarray, "height width 3"]
PANEL_SIZE = 360
OUTLINE = 3
LETTER_WIDTH = 8  # pixels, in titles
CASE_GAP = 16  # pixels between cases side by side


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


def case_sheet(
    predictor: Predictor,
    cases: Sequence[LabelledImage],
    *,
    columns: int = 1,
    size: int = PANEL_SIZE,
    numbered: bool = False,
) -> Picture:
    """For each case the image, its reference and the prediction with its Dice, over the classes in either.

    Volumes are segmented whole and shown in the slice with the most reference foreground, or predicted
    foreground where the reference holds none.

    Parameters
    ----------
    columns
        Cases side by side; they are read along the rows.
    size
        Pixels along the longer side of each picture.
    numbered
        Write 1, 2, ... before the names.
    """
    labels = predictor.content.labels
    colours = list(labels.class_colours or default_colours(len(labels.class_names)))
    blocks = []
    for number, case in enumerate(cases, start=1):
        head = f"{number}. " if numbered else ""
        title = head + _shortened(case.name, max(12, size // LETTER_WIDTH - len(head)))
        predicted = predictor.field(case.image).render(case.image.grid).array
        blocks.append(_case_panels(case, predicted, title, labels, colours, size))
    rows = [_side_by_side(blocks[i : i + columns]) for i in range(0, len(blocks), columns)]
    return contact_sheet(rows, dict(zip(labels.class_names, colours, strict=True)))


def _case_panels(
    case: LabelledImage,
    predicted: Integer[np.ndarray, "*shape"],
    title: str,
    labels: LabelConfig,
    colours: Sequence[str],
    size: int,
) -> list[Panel]:
    """Image, reference and prediction of one case."""
    reference = case.labels.array
    if labels.ignore_label is not None:
        reference = np.where(reference == labels.ignore_label, 0, reference)
    dice = _held_dice(case, predicted, labels)
    shown = _fullest_slice(reference if reference.any() else predicted)
    image = case.image.array[shown]
    shape = fitted_shape(image.shape[:2], size)
    outline = max(1, 2 * size // PANEL_SIZE)
    plain = overlay(image, np.zeros(shape, np.uint8), shape=shape)
    expected, found = (
        overlay(image, array[shown], colours, outline, shape=shape) for array in (reference, predicted)
    )
    return [Panel(plain, title), Panel(expected, "reference"), Panel(found, f"prediction, Dice {dice:.2f}")]


def _held_dice(case: LabelledImage, predicted: Integer[np.ndarray, "*shape"], labels: LabelConfig) -> float:
    """`CaseScores.held_dice` of a prediction."""
    reference, spacing = case.labels.array, case.image.spacing
    scores = score_labels(predicted, reference, spacing, labels.classes, ignore_label=labels.ignore_label)
    by_name = dict(zip(labels.class_names, scores, strict=True))
    return CaseScores(case.name, by_name, case.image.unit).held_dice


def _side_by_side(blocks: Sequence[Sequence[Panel]]) -> list[Panel]:
    """The panels of several cases in one row, parted by a wider gap."""
    gap = Panel(np.full((1, CASE_GAP, 3), 255, np.uint8))
    row = list(blocks[0])
    for block in blocks[1:]:
        row += [gap, *block]
    return row


def dice_histogram(report: EvaluationReport) -> dict[str, dict[str, int]]:
    """By class, how many of the cases that hold it have a Dice in each tenth, for `write_bars`.

    The last tenth includes 1; the others do not include their upper end.
    """
    ends = np.linspace(0, 1, 11)
    tenths = [f"{low:.1f}-{high:.1f}" for low, high in pairwise(ends)]
    counts = {}
    for name in report.class_names:
        dice = [case.classes[name].dice for case in report.holding(name).cases]
        counts[name] = dict(zip(tenths, np.histogram(dice, ends)[0].tolist(), strict=True))
    return counts


def attention_sheet(field: OccupancyField, image: MedicalImage) -> Picture:
    """Which scale decided where: the MEA weight of each stage (Fig. 3 of the supplement of the paper).

    Of the first window of the field; a 2D image that was encoded whole is shown whole.

    Raises
    ------
    ValueError
        When the model has no MEA, or the image is a volume.
    """
    attention = stage_weights(field.windows[0].encoding)
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


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 3] + "..."
