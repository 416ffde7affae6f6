"""What becomes of images that are segmented: names that lose nothing, and the writing."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path

from swipe_core.compute.memory import out_of_memory_as
from swipe_core.errors import ImageError
from swipe_core.images import image_suffix, read_image, write_label_map, write_scalar_map
from swipe_core.images.finding import stem_of
from swipe_core.images.formats import VOLUME_SUFFIX, named_format
from swipe_core.images.raster import exif_orientation
from swipe_core.images.source import ImageSource
from swipe_core.images.zarr_folder import is_store
from swipe_core.measure.objects import write_object_table
from swipe_core.pictures import default_colours, fitted_shape, overlay, write_png
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request
from swipe_core.prediction.result import Result, iter_result
from swipe_core.progress import Notice, Progress

OVERLAY_SIZE = 2048  # pixels along the longer side of an overlay picture, at most
STORE_SUFFIX = ".ome.zarr"


def output_files(image: ImageSource, folder: Path, request: Request, ndim: int) -> dict[str, Path]:
    """Return the files that are written for an image, by what they are.

    Parameters
    ----------
    ndim
        Spatial axes of the image; in 2D there is an overlay.
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

    Parameters
    ----------
    own
        Files in the folder that are known to be former output, even among images.
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

    Parameters
    ----------
    image
        What was segmented, which gives the files their names and formats.
    colours
        Of the classes in the overlay; the palette's where not given.
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
