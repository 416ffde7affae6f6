"""From two layers to the scores of one against the other: the work behind the button Evaluate."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_swipe.layers.axes import AxisRoles, Role, guess_roles
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.source import LayerSource
from napari_swipe.live.segmented import SegmentedLayer
from swipe_core.errors import DataError
from swipe_core.images.channels import Channels
from swipe_core.inference.stack import Frame
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari.layers import Labels

    from swipe_core.evaluation.agreement import Agreement, FramePair, Sampling
    from swipe_core.images import LabelMap
    from swipe_core.measure.calibration import Reliability

Reports = Progress | Notice


@dataclass(frozen=True, eq=False)
class ScoringJob:
    """What to compare, by its names, and how: see `swipe_core.evaluation.agreement.Comparison`.

    The continuous segmentation of an image is rendered on the reference's grid.
    """

    prediction: LayerSource | SegmentedLayer
    reference: LayerSource
    names: tuple[str, str]
    tolerance: float | None = None
    ignore_label: int | None = None
    as_objects: bool = False
    class_names: Mapping[int, str] | None = None


def iter_score(job: ScoringJob) -> Generator[Reports, None, Agreement]:
    """Read the layers frame by frame and score them; layers that cannot be compared are a `SwipeError`."""
    from swipe_core.evaluation.agreement import Comparison, iter_agreement

    prediction = job.prediction
    field = prediction.field if isinstance(prediction, SegmentedLayer) else None
    how = Comparison(
        tolerance=job.tolerance,
        ignore_label=job.ignore_label,
        as_objects=job.as_objects,
        class_names=job.class_names,
        classes=None if field is None else len(field.class_names),
    )
    return (yield from iter_agreement(*job.names, _frame_pairs(job), how))


def iter_reliability(job: ScoringJob) -> Generator[Reports, None, Reliability | None]:
    """Compare the probabilities of a segmentation with the reference; None where labels are compared."""
    from swipe_core.coordinates import Affine
    from swipe_core.images.units import conversion
    from swipe_core.measure.calibration import Reliability
    from swipe_core.prediction.calibration import judged

    prediction = job.prediction
    if not isinstance(prediction, SegmentedLayer) or job.as_objects:
        return None
    found = []
    fields = prediction.field.fields.values()
    for number, (field, frame) in enumerate(zip(fields, job.reference.frames, strict=True)):
        yield Progress("Judging probabilities", number, len(fields))
        reference = _read(job.reference, frame)
        factor = conversion(reference.unit, field.unit)
        scaled = Affine.from_spacing([factor] * reference.ndim) @ reference.affine
        found.append(judged(field, replace(reference, affine=scaled), job.ignore_label))
    known = [each for each in found if each is not None]
    if not known:
        return None
    logits, labels = (np.concatenate(each) for each in zip(*known, strict=True))
    return Reliability.of(logits, labels, prediction.field.first.temperature or 1.0)


def label_source(layer: Labels, ndim: int, like: OutputAxes | None = None) -> LayerSource:
    """Return a labels layer as images of `ndim` axes, or of the axes that the labels of a segmentation have.

    That it has not as many axes of space is a `DataError`.
    """
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    if like is not None and like.ndim == layer.ndim:
        roles: list[Role] = ["space" if axis in like.space else "frame" for axis in range(layer.ndim)]
        axes = AxisRoles(tuple(roles))
    else:
        axes = guess_roles(shape, layer.axis_labels, False, ndim, Channels(1))
    if len(axes.space) != ndim:
        raise DataError(
            f"{layer.name} has {len(axes.space)} axes of space and {ndim} are needed: compare volumes with "
            "volumes, and images with images."
        )
    return LayerSource.from_layer(layer, axes)


def _frame_pairs(job: ScoringJob) -> list[FramePair]:
    """Each frame of the reference with that of the prediction that has its index."""
    from swipe_core.evaluation.agreement import FramePair
    from swipe_core.evaluation.common_grid import iter_rendered

    prediction, reference = job.prediction, job.reference
    samplings: list[Sampling]
    if isinstance(prediction, SegmentedLayer):
        shape = prediction.job.source.frame_shape
        fields = prediction.field.fields.values()
        samplings = [partial(iter_rendered, field, as_objects=job.as_objects) for field in fields]
    else:
        shape = prediction.frame_shape
        samplings = [partial(_iter_labels, prediction, frame) for frame in prediction.frames]
    frames = reference.frames
    if [n for n in shape if n > 1] != [n for n in reference.frame_shape if n > 1]:
        raise DataError(
            f"{job.names[0]} has {_counted(shape)} and {job.names[1]} has {_counted(reference.frame_shape)}: "
            "every frame of one must have its own in the other."
        )
    names = [", ".join(map(str, frame)) for frame in frames] if len(frames) > 1 else [""]
    return [
        FramePair(name, partial(_read, reference, frame), sample)
        for name, frame, sample in zip(names, frames, samplings, strict=True)
    ]


def _iter_labels(
    source: LayerSource, frame: Frame, reference: LabelMap
) -> Generator[Reports, None, np.ndarray]:
    from swipe_core.evaluation.common_grid import iter_resampled

    return (yield from iter_resampled(_read(source, frame), reference))


def _read(source: LayerSource, frame: Frame) -> LabelMap:
    """One frame of a labels layer as it is now; a copy, since somebody may paint in it."""
    from swipe_core.images import LabelMap

    image = source.image(frame)
    array = np.array(image.array[..., 0])
    return LabelMap(array.astype(np.uint8) if array.dtype == bool else array, image.affine, image.unit)


def _counted(frame_shape: Sequence[int]) -> str:
    return f"{' x '.join(map(str, frame_shape))} frames" if frame_shape else "one frame"
