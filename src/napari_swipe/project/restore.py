"""The images of a project, with what was painted on them, as layers again."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swipe.annotate.layers import IS_ANNOTATION, IS_WHOLE
from napari_swipe.layers.data import LayerData, image_layer_data, label_layer_data
from swipe_core.data.labels import IGNORED
from swipe_core.errors import DataError, SwipeError
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
    name, record
        Of the pair as it is shown, and of the one in the project that it comes from.
    image, labels
        None where the viewer has them as layers already.
    corrected
        Where a model was corrected, as the labels; or None.
    """

    name: str
    split: Literal["train", "val"]
    image: LayerData | None
    labels: LayerData | None
    key: tuple[str, str]
    record: str
    corrected: np.ndarray | None = None

    def show(self, viewer: Viewer) -> tuple[Image, Labels] | None:
        """The layers, made where the viewer does not have them yet; None where one was deleted just now."""
        image = self._shown(viewer, "image", self.image)
        labels = None if image is None else self._shown(viewer, "labels", self.labels)
        return None if image is None or labels is None else (image, labels)

    def _shown(self, viewer: Viewer, kind: str, made: LayerData | None) -> Any:
        found = marked_layers(viewer, Path(self.key[0]), kind).get(self.key[1])
        if found is not None or made is None:
            return found
        data, arguments, _ = made
        metadata = {**arguments.get("metadata", {}), PAIR: (*self.key, kind)}
        return getattr(viewer, f"add_{kind}")(data, **(arguments | {"metadata": metadata}))


def marked_layers(viewer: Viewer, folder: Path, kind: str) -> dict[str, Any]:
    """The layers of one kind that belong to pairs of a project, by the pair's name."""
    keys = [(layer.metadata.get(PAIR), layer) for layer in viewer.layers]
    return {key[1]: layer for key, layer in keys if key is not None and key[::2] == (str(folder), kind)}


def mark(image: Image, labels: Labels, folder: Path, name: str) -> None:
    """Note in two layers which pair of a project they are."""
    image.metadata[PAIR] = (str(folder), name, "image")
    labels.metadata[PAIR] = (str(folder), name, "labels")


def iter_restore(
    project: Project, present: Mapping[str, Image]
) -> Generator[Progress, None, tuple[tuple[RestoredPair, ...], dict[str, str]]]:
    """Read the pairs of a project; yields progress.

    A stack of pictures comes back from its file with the painted frames, or, where the file is gone, as
    one pair for each painted frame.

    Parameters
    ----------
    present
        The images that a viewer has as layers already, with their labels, by the names of the pairs.

    Returns
    -------
    pairs
    faults
        Why pairs cannot be read, in sentences, by their names; the files of these stay as they are.
    """
    restored: list[RestoredPair] = []
    faults: dict[str, str] = {}
    records = project.record.pairs
    for done, record in enumerate(records):
        yield Progress("Opening the project", done, len(records))
        try:
            if record.name in present:
                restored.append(_present(project, record, present[record.name]))
            else:
                restored += _pairs(project, record)
        except SwipeError as error:
            faults[record.name] = str(error)
    return tuple(restored), faults


def _pairs(project: Project, record: PairRecord) -> list[RestoredPair]:
    """What a pair of the project comes back as: one, or one for each frame."""
    if record.frames == [[]]:
        return [_single(project, record, (), record.name)]
    stack = _stack(project, record) if "frame" in (record.axes or ()) else None
    if stack is not None:
        return [stack]
    frames = map(tuple, record.frames)
    return [_single(project, record, frame, project.case_name(record.name, frame)) for frame in frames]


def _case(project: Project, record: PairRecord, frame: tuple[int, ...]) -> LabelledImage:
    """A case, whose labels are brought to the scheme of the project where they do not follow it."""
    try:
        return project.read_case(record.name, frame)
    except DataError:
        project.adapt_labels(record.name, frame)
        return project.read_case(record.name, frame)


def _present(project: Project, record: PairRecord, image: Image) -> RestoredPair:
    """A pair whose layers are there: what they do not tell is where a model was corrected."""
    from napari_swipe.layers.axes import AxisRoles
    from napari_swipe.layers.field import OutputAxes
    from napari_swipe.layers.source import LayerSource

    corrected = None
    if record.axes is not None and len(record.axes) == image.ndim:
        source = LayerSource.from_layer(image, AxisRoles(tuple(record.axes), bool(image.rgb)))
        axes = OutputAxes.of(source)
        corrected = np.zeros(axes.shape(source.spatial_shape), bool)
        with suppress(SwipeError):
            for frame in map(tuple, record.frames):
                found = project.read_case(record.name, frame).corrected
                corrected[axes.part(frame)] = False if found is None else found
    is_corrected = corrected is not None and corrected.any()
    key = (str(project.folder), record.name)
    kept = corrected if is_corrected else None
    return RestoredPair(record.name, record.split, None, None, key, record.name, kept)


def _single(project: Project, record: PairRecord, frame: tuple[int, ...], name: str) -> RestoredPair:
    case = _case(project, record, frame)
    image, arguments, kind = image_layer_data(case.image)
    title = record.name if not frame else name
    arguments |= {"name": title, "metadata": arguments["metadata"] | {"path": record.source}}
    return RestoredPair(
        name,
        record.split,
        (image, arguments, kind),
        _labels(project, case, _labels_name(record, frame, name)),
        (str(project.folder), name),
        record.name,
        case.corrected,
    )


def _labels_name(record: PairRecord, frame: tuple[int, ...], name: str) -> str:
    return record.labels if not frame else f"{name} annotation"


def _labels(project: Project, case: LabelledImage, name: str) -> LayerData:
    scheme = project.record.scheme
    data, arguments, kind = label_layer_data(case.labels, name)
    # As a prediction that was corrected: no voxel is without an annotation.
    is_whole = scheme is not None and scheme.unpainted == "ignored" and not (data == IGNORED).any()
    arguments["metadata"] = {IS_ANNOTATION: True, IS_WHOLE: bool(is_whole)}
    return (data if scheme is None else scheme.to_painted(data)), arguments, kind


def _stack(project: Project, record: PairRecord) -> RestoredPair | None:
    """A stack as its file has it, with the frames that were painted; None where it cannot be had."""
    from napari.layers import Image as ImageLayer

    from napari_swipe.layers.axes import AxisRoles
    from napari_swipe.layers.field import OutputAxes
    from napari_swipe.layers.source import LayerSource
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
        case = _case(project, record, frame)
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
        record.name,
        corrected if corrected.any() else None,
    )
