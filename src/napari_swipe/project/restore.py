"""The images of a project, with what was painted on them, as layers again."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels

from napari_swipe.annotate.pair import Split
from napari_swipe.layers.axes import AxisRoles
from napari_swipe.layers.data import LayerData, image_layer_data, label_layer_data
from napari_swipe.layers.field import OutputAxes
from napari_swipe.layers.metadata import LayerMetadata, metadata_of
from napari_swipe.layers.source import LayerSource
from swipe_core.data.labels import IGNORED
from swipe_core.errors import DataError, SwipeError
from swipe_core.progress import Notice, Progress

if TYPE_CHECKING:
    from napari import Viewer

    from swipe_core.data.labelled import LabelledImage
    from swipe_core.project import PairRecord, Project


@dataclass(frozen=True, eq=False)
class RestoredPair:
    """An image and its annotation, ready to be shown."""

    folder: Path
    """Of the project."""
    name: str
    record: str
    """`name` and `record`: of the pair as it is shown, and of the one in the project that it comes from."""
    split: Split
    image: LayerData | None = None
    labels: LayerData | None = None
    """`image` and `labels`: None where the viewer has them as layers already."""
    corrected: np.ndarray | None = None
    """Where a model was corrected, as the labels; or None."""

    def show(self, viewer: Viewer) -> tuple[Image, Labels] | None:
        """Return the layers, made where the viewer lacks them; None where one was deleted just now."""
        image = self._shown(viewer, "image", self.image)
        labels = None if image is None else self._shown(viewer, "labels", self.labels)
        return None if image is None or labels is None else (image, labels)

    def _shown(self, viewer: Viewer, kind: str, made: LayerData | None) -> Any:
        found = marked_layers(viewer, self.folder, kind).get(self.name)
        if found is not None or made is None:
            return found
        data, arguments, _ = made
        mark = LayerMetadata(pair=(str(self.folder), self.name, kind)).entries
        metadata = {**arguments.get("metadata", {}), **mark}
        return getattr(viewer, f"add_{kind}")(data, **(arguments | {"metadata": metadata}))


def marked_layers(viewer: Viewer, folder: Path, kind: str) -> dict[str, Any]:
    """Return the layers of one kind that belong to pairs of a project, by the pair's name."""
    keys = [(metadata_of(layer).pair, layer) for layer in viewer.layers]
    return {key[1]: layer for key, layer in keys if key is not None and key[::2] == (str(folder), kind)}


def mark(image: Image, labels: Labels, folder: Path, name: str) -> None:
    """Note in two layers which pair of a project they are."""
    for layer, kind in ((image, "image"), (labels, "labels")):
        layer.metadata.update(LayerMetadata(pair=(str(folder), name, kind)).entries)


@dataclass(frozen=True, eq=False)
class Opened:
    """A project that was read, with what is to be shown of it."""

    project: Project
    pairs: Sequence[RestoredPair]
    faults: Mapping[str, str]
    """Why pairs cannot be shown, in sentences, by their names; the files of these stay as they are."""
    log: Sequence[Mapping[str, Any]]
    """The lines of the log of the last round."""


def iter_open(folder: Path, present: Mapping[str, Image]) -> Generator[Progress | Notice, None, Opened]:
    """Open a project and read its pairs; yields progress.

    A stack of pictures comes back from its file with the painted frames, or, where the file is gone, as
    one pair for each painted frame.

    A `ProjectError` is raised when there is no project in the folder, or it cannot be read.

    `present`: the images that a viewer has as layers already, with their labels, by the names of the pairs.
    """
    from swipe_core.project import Project
    from swipe_core.training.folder import RunFolder

    project = Project.open(folder)
    pairs, faults, records = list[RestoredPair](), dict[str, str](), project.record.pairs
    for done, record in enumerate(records):
        yield Progress("Opening the project", done, len(records))
        try:
            if record.name in present:
                pairs.append(_present(project, record, present[record.name]))
            else:
                pairs += _restored(project, record)
        except SwipeError as error:
            faults[record.name] = str(error)
    if project.notice:
        yield Notice(project.notice)
    runs = project.runs()
    return Opened(project, pairs, faults, RunFolder(runs[-1]).records() if runs else ())


def _restored(project: Project, record: PairRecord) -> list[RestoredPair]:
    """Return what a pair of the project comes back as: one, or one for each frame."""
    if record.frames == [[]]:
        return [_single(project, record, (), record.name, record.labels)]
    stack = _stack(project, record) if "frame" in (record.axes or ()) else None
    if stack is not None:
        return [stack]
    names = {tuple(frame): project.case_name(record.name, tuple(frame)) for frame in record.frames}
    return [_single(project, record, frame, name, f"{name} annotation") for frame, name in names.items()]


def _case(project: Project, record: PairRecord, frame: tuple[int, ...]) -> LabelledImage:
    """Read a case, whose labels are brought to the scheme of the project where they do not follow it."""
    try:
        return project.read_case(record.name, frame)
    except DataError:
        project.adapt_labels(record.name, frame)
        return project.read_case(record.name, frame)


def _source(record: PairRecord, layer: Image) -> LayerSource | None:
    """Return a layer with the axes that the project knows; None where it has others."""
    if record.axes is None or len(record.axes) != layer.ndim:
        return None
    return LayerSource.from_layer(layer, AxisRoles(tuple(record.axes), bool(layer.rgb)))


def _present(project: Project, record: PairRecord, image: Image) -> RestoredPair:
    """Return a pair whose layers are there, with what these do not say: where a model was corrected."""
    source, corrected = _source(record, image), None
    if source is not None:
        axes = OutputAxes.of(source)
        corrected = np.zeros(axes.shape(source.spatial_shape), bool)
        with suppress(SwipeError):
            for frame in map(tuple, record.frames):
                found = project.read_case(record.name, frame).corrected
                corrected[axes.part(frame)] = False if found is None else found
    kept = corrected if corrected is not None and corrected.any() else None
    return RestoredPair(project.folder, record.name, record.name, record.split, corrected=kept)


def _single(
    project: Project, record: PairRecord, frame: tuple[int, ...], name: str, labels_name: str
) -> RestoredPair:
    case, scheme = _case(project, record, frame), project.record.scheme
    image = image_layer_data(case.image)
    image[1].update(name=name, metadata=image[1]["metadata"] | {"path": record.source})
    data, arguments, _ = label_layer_data(case.labels, labels_name)
    # As a prediction that was corrected: no voxel is without an annotation.
    is_whole = scheme is not None and scheme.unpainted == "ignored" and not (data == IGNORED).any()
    arguments["metadata"] = LayerMetadata(is_annotation=True, is_whole=bool(is_whole)).entries
    labels = (data if scheme is None else scheme.to_painted(data), arguments, "labels")
    return RestoredPair(project.folder, name, record.name, record.split, image, labels, case.corrected)


def _stack(project: Project, record: PairRecord) -> RestoredPair | None:
    """Return a stack as its file has it, with the frames that were painted; None where it cannot be had."""
    from swipe_core.images import read_image

    scheme, path = project.record.scheme, Path(record.source)
    if not path.is_file() or scheme is None:
        return None
    try:
        data, arguments, kind = image_layer_data(read_image(path))
    except SwipeError:
        return None
    arguments["name"] = record.name
    source = _source(record, Image(data, **arguments))
    if source is None:
        return None
    axes = OutputAxes.of(source)
    painted = np.zeros(axes.shape(source.spatial_shape), np.uint8)
    corrected = np.zeros(painted.shape, bool)
    for frame in map(tuple, record.frames):
        case = _case(project, record, frame)
        painted[axes.part(frame)] = scheme.to_painted(case.labels.array)
        if case.corrected is not None:
            corrected[axes.part(frame)] = case.corrected
    metadata = LayerMetadata(is_annotation=True).entries
    labels = (painted, axes.arguments() | {"name": record.labels, "metadata": metadata}, "labels")
    kept = corrected if corrected.any() else None
    return RestoredPair(
        project.folder, record.name, record.name, record.split, (data, arguments, kind), labels, kept
    )
