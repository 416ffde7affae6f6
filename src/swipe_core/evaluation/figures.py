"""Pictures of what a model does: a boundary ever closer, cases beside their reference, Dice, attention."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, Shaped, UInt8
from scipy import ndimage

from swipe_core.data.labelled import LabelledImage
from swipe_core.data.labels import LabelConfig
from swipe_core.evaluation.report import CaseScores
from swipe_core.images import MedicalImage
from swipe_core.inference.field import OccupancyField
from swipe_core.measure.scores import score_labels
from swipe_core.pictures import Panel, contact_sheet, default_colours, fitted_shape, heat, overlay
from swipe_core.prediction.predictor import Predictor

Picture = UInt8[np.ndarray, "height width 3"]
PANEL_SIZE = 360  # pixels along the longer side of a picture
OUTLINE = 3
LETTER_WIDTH = 8  # pixels, in titles
CASE_GAP = 16  # pixels between cases side by side


def zoom_sheet(
    field: OccupancyField, image: MedicalImage, *, width: int = 32, factors: Sequence[int] = (1, 4, 16)
) -> Picture:
    """The part of an image with the longest boundary, and the same field sampled ever finer there.

    The first label panel, at 1x, is what an enlarged raster looks like. A volume is shown in the
    slice with the most foreground.

    `width`: of the part, in voxels of the image.
    `factors`: samples per voxel, along each axis of the picture.
    """
    start, size = _longest_boundary(field.render(image.grid).array, width)
    picture = _plane(image.array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))])
    shape = fitted_shape(picture.shape[:2], PANEL_SIZE)
    panels = [Panel(_plain(picture, shape), "image")]
    for factor in factors:
        in_plane = [float(factor) if n > 1 else 1.0 for n in size]
        part = field.render(image.grid.window(start, size).scaled(in_plane))
        drawn = overlay(picture, _plane(part.array), outline=OUTLINE, shape=shape)
        panels.append(Panel(drawn, f"labels at {factor}x: {part.evaluated_points} points asked"))
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

    Volumes are segmented whole and shown in the slice that `shown_slice` chooses. As many cases as there are
    `columns` stand side by side, with 1, 2, ... before their names if they are `numbered`.
    """
    labels = predictor.content.labels
    blocks = []
    for number, case in enumerate(cases, start=1):
        head = f"{number}. " if numbered else ""
        title = head + _shortened(case.name, max(12, size // LETTER_WIDTH - len(head)))
        predicted = predictor.field(case.image).render(case.image.grid).array
        score = f"prediction, Dice {_present_dice(case, predicted, labels):.2f}"
        shown = shown_slice(case, predicted, labels)
        panels = own_panels(case, shown, labels, title=title, size=size)
        blocks.append([*panels, label_panel(case.image, predicted, shown, labels, title=score, size=size)])
    rows = [_side_by_side(blocks[i : i + columns]) for i in range(0, len(blocks), columns)]
    return contact_sheet(rows, class_legend(labels))


def shown_slice(
    case: LabelledImage, predicted: Integer[np.ndarray, "*shape"], labels: LabelConfig
) -> tuple[int, ...]:
    """The number of the slice in which a volume is shown; nothing to choose in 2D.

    It is the one with the most foreground in the reference, or in the prediction where that holds none.
    """
    reference = _without_ignored(case.labels.array, labels)
    return _fullest_slice(reference if reference.any() else predicted)


def own_panels(
    case: LabelledImage, shown: tuple[int, ...], labels: LabelConfig, *, title: str, size: int = PANEL_SIZE
) -> list[Panel]:
    """The image of a case under a title, and its reference, in one slice."""
    plain = Panel(_plain(case.image.array[shown], _shape_of_plane(case.image, size)), title)
    reference = _without_ignored(case.labels.array, labels)
    return [plain, label_panel(case.image, reference, shown, labels, title="reference", size=size)]


def label_panel(
    image: MedicalImage,
    array: Integer[np.ndarray, "*shape"],
    shown: tuple[int, ...],
    labels: LabelConfig,
    *,
    title: str,
    size: int = PANEL_SIZE,
) -> Panel:
    """A label map over its image, in one slice."""
    outline = max(1, 2 * size // PANEL_SIZE)
    shape, colours = _shape_of_plane(image, size), list(class_legend(labels).values())
    return Panel(overlay(image.array[shown], array[shown], colours, outline, shape=shape), title)


def class_legend(labels: LabelConfig) -> dict[str, str]:
    """The colours of the classes by their names."""
    colours = labels.class_colours or default_colours(len(labels.class_names))
    return dict(zip(labels.class_names, colours, strict=True))


def _without_ignored(
    array: Integer[np.ndarray, "*shape"], labels: LabelConfig
) -> Integer[np.ndarray, "*shape"]:
    return array if labels.ignore_label is None else np.where(array == labels.ignore_label, 0, array)


def _shape_of_plane(image: MedicalImage, size: int) -> tuple[int, int]:
    """Of the picture of an image, or of a slice of a volume, whose voxels need not be square."""
    extent = [n * step for n, step in zip(image.shape[-2:], image.spacing[-2:], strict=True)]
    return fitted_shape(extent, size)


def _plain(image: Shaped[np.ndarray, "rows columns channels"], shape: tuple[int, int]) -> Picture:
    return overlay(image, np.zeros(shape, np.uint8), shape=shape)


def _present_dice(
    case: LabelledImage, predicted: Integer[np.ndarray, "*shape"], labels: LabelConfig
) -> float:
    """`CaseScores.present_dice` of a prediction."""
    reference, steps = case.labels.array, case.image.affine.linear
    scores = score_labels(predicted, reference, steps, labels.classes, ignore_label=labels.ignore_label)
    by_name = dict(zip(labels.class_names, scores, strict=True))
    return CaseScores(case.name, by_name, case.image.unit).present_dice


def _side_by_side(blocks: Sequence[Sequence[Panel]]) -> list[Panel]:
    """The panels of several cases in one row, parted by a wider gap."""
    gap = Panel(np.full((1, CASE_GAP, 3), 255, np.uint8))
    return [panel for block in blocks for panel in (gap, *block)][1:]


def attention_sheet(field: OccupancyField, image: MedicalImage) -> Picture:
    """Which scale decided where: the MEA weight of each stage (Fig. 3 of the supplement of the paper).

    A volume is shown in the slice with the most foreground that the field finds. Raises `ConfigError` when
    the model has no MEA.
    """
    shown = _fullest_slice(field.render(image.grid).array) if image.ndim == 3 else ()
    title = "Weight of each stage, from the finest (F2) to the coarsest (F5)"
    return contact_sheet([attention_panels(field, image, shown)], title=title)


def attention_panels(
    field: OccupancyField,
    image: MedicalImage,
    shown: tuple[int, ...] = (),
    *,
    title: str = "image",
    size: int = PANEL_SIZE,
) -> list[Panel]:
    """The image, and the MEA weight of each stage, black where it is 0 and bright where it is greatest.

    Of a volume they show the slice with the number `shown`. Raises `ConfigError` when the model has no MEA.
    """
    weights = _slice_attention(field, image, shown)
    plane = image.array[shown]
    shape = _shape_of_plane(image, size)
    panels = [Panel(_plain(plane, shape), title)]
    for stage, weight in enumerate(weights, start=2):
        words = f"F{stage}: {weight.min():.2f} to {weight.max():.2f}"
        panels.append(Panel(heat(weight, shape, float(weight.max())), words))
    return panels


def _slice_attention(
    field: OccupancyField, image: MedicalImage, shown: tuple[int, ...]
) -> Float[np.ndarray, "4 rows columns"]:
    """The weights across an image or a slice of a volume, as many as patches lie along its sides."""
    patch_size = getattr(field.windows[0].encoding, "patch_size", 1)
    counts = [max(1, round(n / patch_size)) for n in field.grid.shape[-2:]]
    centres = [
        (np.arange(count) + 0.5) * n / count - 0.5 for n, count in zip(image.shape[-2:], counts, strict=True)
    ]
    in_plane = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 2)
    points_voxel = np.hstack([np.full((len(in_plane), len(shown)), shown, float), in_plane])
    weights = field.attention(image.affine.apply(points_voxel))
    return weights.T.reshape(-1, *counts)


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
