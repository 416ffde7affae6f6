"""From annotated layers to the cases of a project: what a training sees of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_swipe._layer_field import OutputAxes
from napari_swipe._source import Frame, LayerSource
from swipe_core.annotations import AnnotationScheme
from swipe_core.errors import ProjectError
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from swipe_core.data.labelled import LabelledImage
    from swipe_core.project import Project


@dataclass(frozen=True, eq=False)
class PairSnapshot:
    """An image layer and what is painted on it, at one moment; the layers may change meanwhile.

    Attributes
    ----------
    painted
        Over the axes that labels have on this source (see `OutputAxes`).
    corrected
        Where the user corrected a model, as `painted`; None where nothing was corrected.
    is_new_image
        Whether the image is another one than what was written, or lies elsewhere.
    """

    name: str
    split: Literal["train", "val"]
    source: LayerSource
    labels_name: str
    painted: np.ndarray
    corrected: np.ndarray | None = None
    is_new_image: bool = False

    @property
    def frames(self) -> list[Frame]:
        """Those in which something is painted; of a single image the one there is."""
        frames, axes = self.source.frames, OutputAxes.of(self.source)
        return frames if len(frames) == 1 else [f for f in frames if self.painted[axes.part(f)].any()]

    def labelled(self, frame: Frame, scheme: AnnotationScheme) -> LabelledImage:
        """One frame with the classes of its voxels.

        Raises
        ------
        DataError
            When something is painted that has no class.
        ImageError
            When the image cannot be read.
        """
        from swipe_core.data.labelled import LabelledImage
        from swipe_core.images import LabelMap

        image, part = self.source.image(frame), OutputAxes.of(self.source).part(frame)
        classes = scheme.to_classes(np.ascontiguousarray(self.painted[part]))
        corrected = None if self.corrected is None else np.ascontiguousarray(self.corrected[part])
        return LabelledImage(
            self.name, image, LabelMap(classes, image.affine, image.unit, space=image.space), corrected
        )


def iter_write(
    project: Project, scheme: AnnotationScheme, pairs: Sequence[PairSnapshot], keeps_frames: bool = False
) -> Generator[Progress, None, None]:
    """Write what is painted into a project, frame by frame; pairs that left it meanwhile are passed over.

    Parameters
    ----------
    keeps_frames
        Leave the files of frames in which nothing is painted any more; else they are taken out.

    Raises
    ------
    SwipeError
        When something cannot be read, or the disk refuses; what was there before stays whole.
    """
    total, done = sum(len(pair.frames) for pair in pairs), 0
    for pair in pairs:
        frames = pair.frames
        for frame in frames:
            try:
                _write(project, pair, frame, scheme)
            except ProjectError:
                if _written_frames(project, pair.name) is not None:
                    raise
                break
            done += 1
            yield Progress("Writing the project", done, total)
        written = None if keeps_frames else _written_frames(project, pair.name)
        for frame in written or ():
            if frame not in frames:
                project.remove_case(pair.name, frame)


def _write(project: Project, pair: PairSnapshot, frame: Frame, scheme: AnnotationScheme) -> None:
    labelled = pair.labelled(frame, scheme)
    is_there = project.has_image(pair.name, frame) and not pair.is_new_image
    image = None if is_there else labelled.image
    project.write_case(pair.name, frame, pair.split, image, labelled.labels, labelled.corrected)


def _written_frames(project: Project, name: str) -> list[Frame] | None:
    """Those of a pair; None where it left the project."""
    pairs = {record.name: record for record in project.record.pairs}
    return [tuple(frame) for frame in pairs[name].frames] if name in pairs else None


def labelled_images(pairs: Sequence[PairSnapshot], scheme: AnnotationScheme) -> Iterator[LabelledImage]:
    """All frames in which something is painted, one at a time."""
    return (pair.labelled(frame, scheme) for pair in pairs for frame in pair.frames)
