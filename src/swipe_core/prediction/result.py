"""What becomes of an image: its labels, all that was requested besides, and the files of these."""

import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from swipe_core.compute.memory import out_of_memory_as
from swipe_core.coordinates import Affine, Grid
from swipe_core.errors import ImageError
from swipe_core.images import (
    LabelMap,
    MedicalImage,
    image_suffix,
    read_image,
    write_label_map,
    write_scalar_map,
)
from swipe_core.images.finding import stem_of
from swipe_core.images.formats import VOLUME_SUFFIX, named_format
from swipe_core.images.medical_image import ScalarMap
from swipe_core.images.raster import exif_orientation
from swipe_core.images.source import ImageSource
from swipe_core.images.zarr_folder import is_store
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.inference.instances import iter_objects
from swipe_core.inference.maps import iter_probability, iter_uncertainty
from swipe_core.inference.stack import iter_sampled, rendering_on
from swipe_core.measure.objects import ObjectMeasurement, measure_objects, number_objects, write_object_table
from swipe_core.pictures import default_colours, fitted_shape, overlay, write_png
from swipe_core.prediction.predictor import Predictor, notices_of_channels
from swipe_core.prediction.request import Request
from swipe_core.progress import EachNoticeOnce, Notice, Progress, map_reports, with_progress

Reports = Progress | Notice
MapSample = Callable[[OccupancyField], Generator[Any, None, ScalarMap]]
Raster = TypeVar("Raster", Segmentation, LabelMap, ScalarMap)


@dataclass(frozen=True, eq=False)
class Result:
    """All that was made of an image.

    Attributes
    ----------
    image
        The part of it that was segmented.
    maps
        By the names that `Request.map_names` gives.
    objects, measurements
        The objects by their numbers, and each of them measured; None where that was not asked for.
    """

    image: MedicalImage
    segmentation: Segmentation
    maps: Mapping[str, ScalarMap] = field(default_factory=dict)
    objects: LabelMap | None = None
    measurements: tuple[ObjectMeasurement, ...] | None = None


def iter_result(
    predictor: Predictor, image: MedicalImage, request: Request
) -> Generator[Reports, None, Result]:
    """Encode an image and sample it as asked; yields progress and notices.

    Of a stack that is segmented frame by frame, one frame is in memory at a time.

    Raises
    ------
    ImageError
        When the image does not suit the model or has not the region, or memory does not suffice.
    """
    part = request.part_of(image)
    yield from notices_of_channels(part.channel_kinds, predictor.content)
    frames = [_frame(part, number) for number in range(part.shape[0])] if request.frames else [part]
    grid = request.grid_of(frames[0].grid)
    whole = part.grid.resized((len(frames), *grid.shape)) if request.frames else grid
    size = f"{whole.voxels} voxels ({' x '.join(map(str, whole.shape))}) of labels"
    with out_of_memory_as(f"{image.name} with {size} does not fit into memory: {request.advice}."):
        results, each_once = list[Result](), EachNoticeOnce()
        for number, frame in enumerate(frames):
            work = _iter_frame(predictor, frame, grid, request)
            if request.frames:
                progress = Progress("Segmenting frames", number, len(frames))
                work = with_progress(map_reports(work, each_once), progress)
            results.append((yield from work))
        result = results[0]
        if request.frames:
            yield Progress("Segmenting frames", len(frames), len(frames))
            result = _stacked(part, whole, results)
        if request.objects:
            yield Progress("Measuring objects", 0, 1)
            objects, measurements = find_objects(result.segmentation, result.objects)
            result = replace(result, objects=objects, measurements=measurements)
            yield Progress("Measuring objects", 1, 1)
        return result


def find_objects(
    segmentation: Segmentation, objects: LabelMap | None = None
) -> tuple[LabelMap, tuple[ObjectMeasurement, ...]]:
    """The objects by their numbers, the connected ones by default, and each of them measured."""
    objects = number_objects(segmentation) if objects is None else objects
    return objects, tuple(measure_objects(objects, segmentation, segmentation.class_names))


def _iter_frame(
    predictor: Predictor, image: MedicalImage, grid: Grid, request: Request
) -> Generator[Reports, None, Result]:
    field = yield from predictor.iter_field(image)
    segmentation = yield from iter_sampled(field, rendering_on(grid, request.method))
    objects = None
    # Those of a stack are connected over its frames, where nothing tells them apart.
    if request.instances or (request.objects and field.tells_apart):
        objects = yield from iter_sampled(field, partial(iter_objects, segmentation=segmentation))
    maps = {}
    for name, sample in zip(request.map_names, _map_samples(request, grid, field.class_names), strict=True):
        maps[name] = yield from iter_sampled(field, sample)
    return Result(image, segmentation, maps, objects)


def _map_samples(request: Request, grid: Grid, class_names: Sequence[str]) -> list[MapSample]:
    """How the maps of a request are sampled: probabilities of classes, then the uncertainty."""
    known = ("background", *class_names)
    samples: list[MapSample] = [
        partial(iter_probability, grid=grid, class_index=known.index(name)) for name in request.probability
    ]
    return [*samples, partial(iter_uncertainty, grid=grid)] if request.uncertainty else samples


def _frame(stack: MedicalImage, number: int) -> MedicalImage:
    """A frame as an image of its own, at its spacing; where it lies in space is not for a 2D model."""
    return replace(stack, array=stack.array[number], affine=Affine.from_spacing(stack.spacing[1:]))


def _stacked(stack: MedicalImage, grid: Grid, frames: Sequence[Result]) -> Result:
    """The results of all frames as one for their stack."""

    def joined(rasters: Sequence[Raster]) -> Raster:
        return replace(rasters[0], array=np.stack([one.array for one in rasters]), affine=grid.affine)

    segmentations = [frame.segmentation for frame in frames]
    points = sum(one.evaluated_points for one in segmentations)
    segmentation = replace(joined(segmentations), evaluated_points=points)
    maps = {name: joined([frame.maps[name] for frame in frames]) for name in frames[0].maps}
    if frames[0].objects is None:
        return Result(stack, segmentation, maps)
    objects = [frame.objects for frame in frames if frame.objects is not None]
    counts = np.cumsum([0, *(one.array.max() for one in objects)])  # every frame has objects of its own
    numbered = [
        replace(one, array=np.where(one.array, one.array + count, 0))
        for one, count in zip(objects, counts.astype(np.int32), strict=False)
    ]
    return Result(stack, segmentation, maps, joined(numbered))


OVERLAY_SIZE = 2048  # pixels along the longer side of an overlay picture, at most
STORE_SUFFIX = ".ome.zarr"


def output_files(image: ImageSource, folder: Path, request: Request, ndim: int) -> dict[str, Path]:
    """Return the files that are written for an image, by what they are.

    `ndim`: spatial axes of the image; in 2D there is an overlay.
    """
    stem = stem_of(image)
    labels = _label_suffix(image.path)
    files = {"labels": folder / (stem + labels)}
    if ndim == 2:
        files["overlay"] = folder / f"{stem}_overlay.png"
    if request.objects or request.instances:
        files["objects"] = folder / f"{stem}_objects{labels}"
    if request.objects:
        files["table"] = folder / f"{stem}_objects.csv"
    for name in request.map_names:
        spelled = re.sub(r"[^\w.+-]+", "_", name)  # class names may hold what file names may not
        files[name] = folder / f"{stem}_{spelled}{_map_suffix(image.path)}"
    return files


def check_outputs(
    images: Sequence[ImageSource], folder: Path, request: Request, ndim: int, own: Collection[Path] = ()
) -> None:
    """See that no image is lost, whether it is segmented now or only lies beside one that is.

    Files in a folder without images of this call are taken for former output, and replaced. Raises
    `ImageError` when a file to be written is one of the images, exists already in a folder with images, or is
    to be written twice.

    `own`: files in the folder that are known to be former output, even among images.
    """
    resolved = _resolved([image.path for image in images])
    sources, parents = set(resolved), {source.parent for source in resolved}
    place = folder.resolve()
    among_images = place in parents
    own_names = {path.name for path in own}
    written: set[str] = set()
    for image, target in _targets(images, folder, request, ndim):
        real = place / target.name
        if real in sources or (target.is_symlink() and target.resolve() in sources):
            raise ImageError(
                f"Segmenting {image} would overwrite the image {target}: choose another output folder."
            )
        if among_images and target.name not in own_names and target.exists():
            raise ImageError(
                f"{target} exists already in the folder of the images: choose another output folder, "
                "or move it away."
            )
        if target.name in written:
            raise ImageError(
                f"{target} would be written twice: rename an image or segment it into another folder."
            )
        written.add(target.name)


def _resolved(paths: Sequence[Path]) -> list[Path]:
    """Resolve paths; a folder is resolved once, however many files are in it."""
    parents: dict[Path, Path] = {}
    for path in paths:
        if path.parent not in parents:
            parents[path.parent] = path.parent.resolve()
    plain = ((parents[path.parent] / path.name, path) for path in paths)
    return [path.resolve() if path.name == ".." or path.is_symlink() else at for at, path in plain]


def write_result(
    result: Result, image: ImageSource, folder: Path, request: Request, colours: Sequence[str] | None = None
) -> Path:
    """Write all that was asked for; returns the file of the labels.

    Raises `ImageError` when a file cannot be written, or memory does not suffice.

    `image`: what was segmented, which gives the files their names and formats.
    `colours`: of the classes in the overlay; the palette's where not given.
    """
    segmentation = result.segmentation
    files = output_files(image, folder, request, result.image.ndim)
    with out_of_memory_as(f"What is to be written of {image} does not fit into memory: {request.advice}."):
        write_label_map(files["labels"], segmentation)
        if result.objects is not None:
            write_label_map(files["objects"], result.objects)
        if result.measurements is not None:
            write_object_table(files["table"], result.measurements, segmentation.unit, segmentation.ndim)
        for name, scalar_map in result.maps.items():
            write_scalar_map(files[name], scalar_map)
        if "overlay" in files:
            shape = fitted_shape(segmentation.shape, min(OVERLAY_SIZE, max(segmentation.shape)))
            painted = list(colours or default_colours(len(segmentation.class_names)))
            write_png(files["overlay"], overlay(result.image.array, segmentation.array, painted, shape=shape))
    return files["labels"]


def iter_segment_file(
    predictor: Predictor, image: ImageSource, request: Request, folder: Path
) -> Generator[Progress | Notice, None, tuple[Path, Result]]:
    """Read, segment and write one image; returns its label file, and what is in it."""
    read = read_image(image, ndim=request.image_ndim(predictor.content))
    if exif_orientation(image.path) != 1:
        yield Notice(
            "Pictures that EXIF data turn in viewers of photographs are segmented as they are stored, as "
            "napari shows them: labels lie on the stored pixels."
        )
    result = yield from iter_result(predictor, read, request)
    colours = predictor.content.labels.class_colours
    return write_result(result, image, folder, request, colours), result


def _targets(
    images: Sequence[ImageSource], folder: Path, request: Request, ndim: int
) -> Iterator[tuple[ImageSource, Path]]:
    for image in images:
        for target in output_files(image, folder, request, ndim).values():
            yield image, target


def _label_suffix(image: Path) -> str:
    """The ending of a label file for an image: its own where that can hold labels."""
    if is_store(image):
        return STORE_SUFFIX
    kind = named_format(image)
    if kind is None:
        return VOLUME_SUFFIX
    return image_suffix(image) if kind.label_writer else kind.labels_as


def _map_suffix(image: Path) -> str:
    """Return the ending of a file of fractions: the image's own where that can hold them."""
    kind = named_format(image)
    if kind is None:
        return VOLUME_SUFFIX
    return image_suffix(image) if kind.map_writer else kind.maps_as
