"""The images of a project, with what was painted on them, as layers again."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swipe._annotation_layers import IS_ANNOTATION
from napari_swipe._layers import LayerData, image_layer_data, label_layer_data
from swipe_core.progress import Progress

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels

    from swipe_core.data.labelled import LabelledImage
    from swipe_core.project import PairRecord, Project

PAIR = "swipe_pair"  # metadata of layers: the project's folder, and the pair in it


@dataclass(frozen=True, eq=False)
class RestoredPair:
    """An image and its annotation, ready to be shown.

    Attributes
    ----------
    corrected
        Where a model was corrected, as the labels; or None.
    """

    name: str
    split: Literal["train", "val"]
    image: LayerData
    labels: LayerData
    key: tuple[str, str]
    corrected: np.ndarray | None = None

    def show(self, viewer: Viewer) -> tuple[Image, Labels]:
        """The layers, made where the viewer does not have them yet."""
        image = self._found(viewer, "image") or self._made(viewer, *self.image)
        labels = self._found(viewer, "labels") or self._made(viewer, *self.labels)
        return image, labels

    def _found(self, viewer: Viewer, kind: str) -> Any:
        return next((layer for layer in viewer.layers if layer.metadata.get(PAIR) == (*self.key, kind)), None)

    def _made(self, viewer: Viewer, data: Any, arguments: dict[str, Any], kind: str) -> Any:
        metadata = {**arguments.get("metadata", {}), PAIR: (*self.key, kind)}
        return getattr(viewer, f"add_{kind}")(data, **(arguments | {"metadata": metadata}))


def mark(image: Image, labels: Labels, folder: Path, name: str) -> None:
    """Note in two layers which pair of a project they are."""
    image.metadata[PAIR] = (str(folder), name, "image")
    labels.metadata[PAIR] = (str(folder), name, "labels")


def iter_restore(project: Project) -> Generator[Progress, None, tuple[RestoredPair, ...]]:
    """Read the pairs of a project; yields progress.

    A stack of pictures comes back from its file with the painted frames, or, where the file is gone, as
    one pair for each painted frame.

    Raises
    ------
    SwipeError
        When a file of the project cannot be read.
    """
    restored: list[RestoredPair] = []
    records = project.record.pairs
    for done, record in enumerate(records):
        yield Progress("Opening the project", done, len(records))
        if not record.frames:
            continue
        if record.frames == [[]]:
            restored.append(_single(project, record, (), record.name))
            continue
        stack = _stack(project, record)
        if stack is not None:
            restored.append(stack)
            continue
        for frame in map(tuple, record.frames):
            restored.append(_single(project, record, frame, project.case_name(record.name, frame)))
    return tuple(restored)


def _single(project: Project, record: PairRecord, frame: tuple[int, ...], name: str) -> RestoredPair:
    case = project.read_case(record.name, frame)
    image, arguments, kind = image_layer_data(case.image)
    title = record.name if not frame else name
    arguments |= {"name": title, "metadata": {"path": record.source}}
    return RestoredPair(
        name,
        record.split,
        (image, arguments, kind),
        _labels(project, case, _labels_name(record, frame, name)),
        (str(project.folder), name),
        case.corrected,
    )


def _labels_name(record: PairRecord, frame: tuple[int, ...], name: str) -> str:
    return record.labels if not frame else f"{name} annotation"


def _labels(project: Project, case: LabelledImage, name: str) -> LayerData:
    scheme = project.record.scheme
    data, arguments, kind = label_layer_data(case.labels, name)
    arguments["metadata"] = {IS_ANNOTATION: True}
    return (data if scheme is None else scheme.to_painted(data)), arguments, kind


def _stack(project: Project, record: PairRecord) -> RestoredPair | None:
    """A stack as its file has it, with the frames that were painted; None where it cannot be had."""
    from napari.layers import Image as ImageLayer

    from napari_swipe._axes import AxisRoles
    from napari_swipe._layer_field import OutputAxes
    from napari_swipe._source import LayerSource
    from swipe_core.errors import SwipeError
    from swipe_core.images import read_image

    path = Path(record.source)
    if not path.is_file() or record.axes is None or project.record.scheme is None:
        return None
    try:
        image = read_image(path)
    except SwipeError:
        return None
    data, arguments, kind = image_layer_data(image)
    arguments["name"] = record.name
    layer = ImageLayer(data, **arguments)
    if len(record.axes) != layer.ndim:
        return None
    source = LayerSource.from_layer(layer, AxisRoles(tuple(record.axes), bool(layer.rgb)))
    axes = OutputAxes.of(source)
    painted = np.zeros(axes.shape(source.spatial_shape), np.uint8)
    corrected = np.zeros(painted.shape, bool)
    for frame in map(tuple, record.frames):
        case = project.read_case(record.name, frame)
        painted[axes.part(frame)] = project.record.scheme.to_painted(case.labels.array)
        if case.corrected is not None:
            corrected[axes.part(frame)] = case.corrected
    place = axes.arguments() | {"name": record.labels, "metadata": {IS_ANNOTATION: True}}
    return RestoredPair(
        record.name,
        record.split,
        (data, arguments, kind),
        (painted, place, "labels"),
        (str(project.folder), record.name),
        corrected if corrected.any() else None,
    )
