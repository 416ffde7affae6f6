"""From annotated layers to the cases of a project: what a training sees of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.source import LayerSource
from swipe_core.data.annotations import AnnotationScheme
from swipe_core.errors import DataError, ImageError, SwipeError
from swipe_core.inference.stack import Frame
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from swipe_core.data.labelled import LabelledImage
    from swipe_core.images import LabelMap, MedicalImage
    from swipe_core.project import Project


@dataclass(frozen=True, eq=False)
class PairSnapshot:
    """An image layer and what is painted on it, at one moment; the layers may change meanwhile."""

    name: str
    split: Literal["train", "val"]
    source: LayerSource
    labels_name: str
    painted: np.ndarray
    """Over the axes that labels have on this source (see `OutputAxes`)."""
    scheme: AnnotationScheme
    """What the numbers in it mean."""
    corrected: np.ndarray | None = None
    """Where the user corrected a model, as `painted`; None where nothing was corrected."""
    is_new_image: bool = False
    """Whether the image is another one than what was written, or lies elsewhere."""
    kept_scheme: AnnotationScheme | None = None
    """What its file goes on to mean, since a training is judged by it; None: as `scheme`."""

    @property
    def frames(self) -> list[Frame]:
        """Those in which something is painted; of a single image the one there is."""
        frames, axes = self.source.frames, OutputAxes.of(self.source)
        return frames if len(frames) == 1 else [f for f in frames if self.painted[axes.part(f)].any()]

    def labelled(self, frame: Frame) -> LabelledImage:
        """Return one frame with the classes of its voxels.

        Raises `DataError` when something is painted that has no class, and `ImageError` when the image cannot
        be read.
        """
        from swipe_core.data.labelled import LabelledImage
        from swipe_core.images import LabelMap

        image, part = self.source.image(frame), OutputAxes.of(self.source).part(frame)
        classes = self.scheme.to_classes(np.ascontiguousarray(self.painted[part]))
        corrected = None if self.corrected is None else np.ascontiguousarray(self.corrected[part])
        return LabelledImage(
            self.name, image, LabelMap(classes, image.affine, image.unit, space=image.space), corrected
        )


@dataclass(frozen=True)
class Unsaved:
    """A pair that is not on the disk as it is painted, the layer it is painted in, and why, in a sentence."""

    name: str
    layer: str
    reason: str
    waits: bool = False
    """Whether it will be saved without the user doing anything."""


class WaitsError(DataError):
    """A training that is judged by a pair could not read it; it is saved later."""


def unsaved_sentences(unsaved: Iterable[Unsaved]) -> list[str]:
    """Return which layers are not saved, one sentence for each reason."""
    layers: dict[str, list[str]] = {}
    for each in unsaved:
        layers.setdefault(each.reason, []).append(each.layer)
    return [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not saved: {reason}"
        for reason, names in layers.items()
    ]


def iter_write(
    project: Project, pairs: Sequence[PairSnapshot], keeps_frames: bool = False
) -> Generator[Progress, None, list[Unsaved]]:
    """Write what is painted into a project, frame by frame; pairs that left it meanwhile are passed over.

    What cannot be written keeps nothing else from being written; what was there of it stays whole.

    `keeps_frames`: leave the files of frames in which nothing is painted any more; else they are taken out.
    """
    total, done = sum(len(pair.frames) for pair in pairs), 0
    unsaved: list[Unsaved] = []
    for pair in pairs:
        frames, faults = pair.frames, list[SwipeError]()
        for frame in frames:
            if project.record.pair(pair.name) is None:
                break
            try:
                labelled = pair.labelled(frame)
                # Here an older writing of the same pairs ends, which is not to come after a newer one.
                yield Progress("Writing the project", done, total)
                _write(project, pair, frame, labelled)
            except SwipeError as error:
                faults.append(error)
            done += 1
        if project.record.pair(pair.name) is not None:
            try:
                if not keeps_frames and not faults:
                    for frame in {*project.written_frames(pair.name)} - {*frames}:
                        project.remove_case(pair.name, frame)
            except SwipeError as error:
                faults.append(error)
            unsaved += [
                Unsaved(pair.name, pair.labels_name, str(fault), isinstance(fault, WaitsError))
                for fault in faults[:1]
            ]
    yield Progress("Writing the project", total, total)
    return unsaved


def iter_write_all(project: Project, pairs: Sequence[PairSnapshot]) -> Generator[Progress, None, None]:
    """Write what is painted into a project, all of it.

    A `DataError` is raised when something cannot be written; all else is.
    """
    unsaved = yield from iter_write(project, pairs)
    if unsaved:
        raise DataError(unsaved_sentences(unsaved)[0])


def _write(project: Project, pair: PairSnapshot, frame: Frame, labelled: LabelledImage) -> None:
    is_there = project.has_image(pair.name, frame) and not pair.is_new_image
    image, labels = None if is_there else labelled.image, labelled.labels
    if image is not None:
        _check_finite(pair, image)
    if pair.kept_scheme is not None:
        labels = _kept(pair, labels, pair.kept_scheme)
    scheme = pair.kept_scheme or pair.scheme
    project.write_case(pair.name, frame, pair.split, image, labels, labelled.corrected, scheme)


def _check_finite(pair: PairSnapshot, image: MedicalImage) -> None:
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise ImageError(
            f"Its image {pair.source.name} has NaN or infinite values: replace them in the layer, or remove "
            "the pair."
        )


def _kept(pair: PairSnapshot, labels: LabelMap, scheme: AnnotationScheme) -> LabelMap:
    """Return the labels in the classes of the training that is judged by them."""
    try:
        return replace(labels, array=scheme.translated(labels.array, pair.scheme))
    except DataError as error:
        raise WaitsError(
            "a class is painted that the training, which is judged by it, does not know, so that this waits "
            "for its end."
        ) from error


def labelled_images(pairs: Sequence[PairSnapshot]) -> Iterator[LabelledImage]:
    """Return all frames in which something is painted, one at a time."""
    return (pair.labelled(frame) for pair in pairs for frame in pair.frames)
