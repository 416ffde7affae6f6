"""Which files are segmented, and what becomes of them: names that lose nothing, and the writing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path

from swipe_core.answer import Answer, iter_answer
from swipe_core.dicom_files import holds_dicom
from swipe_core.errors import ImageError
from swipe_core.images import IMAGE_SUFFIXES, image_stem, image_suffix, read_image, write_label_map
from swipe_core.images.files import WRITERS
from swipe_core.images.zarr_folder import ZARR_SUFFIXES, is_zarr
from swipe_core.inference import maps
from swipe_core.memory import explained
from swipe_core.objects import write_object_table
from swipe_core.pictures import default_colours, fitted_shape, overlay, write_png
from swipe_core.predictor import Predictor
from swipe_core.progress import Notice, Progress
from swipe_core.request import Request

OVERLAY_SIZE = 2048  # pixels along the longer side of an overlay picture, at most
# What can hold labels, or fractions, in the place of a format that cannot.
LABEL_SUFFIXES = {".jpg": ".png", ".jpeg": ".png", ".bmp": ".png", ".nhdr": ".nrrd", ".mhd": ".mha"}
MAP_SUFFIXES = {".png": ".tif", ".jpg": ".tif", ".jpeg": ".tif", ".bmp": ".tif"}
VOLUME_SUFFIX = ".nii.gz"


STORE_SUFFIX = ".ome.zarr"


def is_store(path: Path) -> bool:
    """Whether an image is a folder of zarr; what is named as another kind of image is not looked into."""
    return not image_suffix(path) and is_zarr(path)


def find_images(
    paths: Sequence[str | Path], *, stores: bool = False, left_out: Collection[Path] = ()
) -> list[Path]:
    """Files as given, the images in folders as given, in order; a folder of DICOM files is one image.

    Parameters
    ----------
    stores
        Whether a folder of zarr is one image, too.
    left_out
        Files that are no images where they lie in such a folder: what was made of its images before.

    Raises
    ------
    ImageError
        When a path does not exist, a folder holds no image, or two images would share a label file.
    """
    images = [image for path in paths for image in _images_at(Path(path), stores, left_out)]
    names = Counter(_stem(image) for image in images)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ImageError(
            f"Labels are named after their image, and several images are called {twice[0]}: "
            "segment them into different folders."
        )
    return images


def _images_at(path: Path, stores: bool, left_out: Collection[Path]) -> Iterator[Path]:
    if not path.exists():
        raise ImageError(f"There is no file or folder {path}.")
    if path.is_file() or (stores and is_store(path)) or holds_dicom(path):
        yield path if path.name else path.resolve()
        return
    inside = [f for f in sorted(path.iterdir()) if not f.name.startswith(".") and _is_image(f, stores)]
    made = {file.name for file in left_out} if _is_folder_of(path, left_out) else set()
    images = [image for image in inside if image.name not in made]
    if not images:
        raise ImageError(f"The folder {path} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
    yield from images


def _is_image(path: Path, stores: bool) -> bool:
    """Whether something in a folder goes for an image by its name."""
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        return path.is_file()
    return stores and path.is_dir() and is_store(path)


def _is_folder_of(folder: Path, files: Collection[Path]) -> bool:
    first = next(iter(files), None)
    return first is not None and first.parent.resolve() == folder.resolve()


def _stem(image: Path) -> str:
    """The name of an image without its kind."""
    lower = image.name.lower()
    store = next((suffix for suffix in ZARR_SUFFIXES if lower.endswith(suffix)), None)
    return image_stem(image) if store is None else image.name[: -len(store)]


def output_files(image: Path, folder: Path, request: Request, ndim: int) -> dict[str, Path]:
    """What is written for an image, by what it is.

    Parameters
    ----------
    ndim
        Spatial axes of the image; in 2D there is an overlay.
    """
    stem = _stem(image)
    labels = _label_suffix(image)
    files = {"labels": folder / (stem + labels)}
    if ndim == 2:
        files["overlay"] = folder / f"{stem}_overlay.png"
    if request.objects:
        files["objects"] = folder / f"{stem}_objects{labels}"
        files["table"] = folder / f"{stem}_objects.csv"
    for name in request.map_names:
        spelled = re.sub(r"[^\w.+-]+", "_", name)  # class names may hold what file names may not
        files[name] = folder / f"{stem}_{spelled}{_map_suffix(image)}"
    return files


def check_outputs(
    images: Sequence[Path], folder: Path, request: Request, ndim: int, own: Collection[Path] = ()
) -> None:
    """See that no image is lost, whether it is segmented now or only lies beside one that is.

    Files in a folder without images of this call are taken for former output, and replaced.

    Parameters
    ----------
    own
        Files in the folder that are known to be former output, even among images.

    Raises
    ------
    ImageError
        When a file to be written is one of the images, exists already in a folder with images, or
        is to be written twice.
    """
    resolved = _resolved(images)
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
    """Where paths lead to; a folder is asked once, however many files are in it."""
    parents: dict[Path, Path] = {}
    for path in paths:
        if path.parent not in parents:
            parents[path.parent] = path.parent.resolve()
    plain = ((parents[path.parent] / path.name, path) for path in paths)
    return [path.resolve() if path.name == ".." or path.is_symlink() else at for at, path in plain]


def write_answer(
    answer: Answer, image: Path, folder: Path, request: Request, colours: Sequence[str] | None = None
) -> Path:
    """Write all that was asked for; returns the file of the labels.

    Parameters
    ----------
    image
        The file that was segmented, which gives the files their names and formats.
    colours
        Of the classes in the overlay; the palette's where not given.

    Raises
    ------
    ImageError
        When a file cannot be written, or memory does not suffice.
    """
    segmentation = answer.segmentation
    files = output_files(image, folder, request, answer.image.ndim)
    with explained(f"What is to be written of {image} does not fit into memory: {request.advice}."):
        write_label_map(files["labels"], segmentation)
        if answer.objects is not None and answer.measurements is not None:
            write_label_map(files["objects"], answer.objects)
            write_object_table(files["table"], answer.measurements, segmentation.unit, segmentation.ndim)
        for name, scalar_map in answer.maps.items():
            maps.write_scalar_map(files[name], scalar_map)
        if "overlay" in files:
            shape = fitted_shape(segmentation.shape, min(OVERLAY_SIZE, max(segmentation.shape)))
            painted = list(colours or default_colours(len(segmentation.class_names)))
            write_png(files["overlay"], overlay(answer.image.array, segmentation.array, painted, shape=shape))
    return files["labels"]


def iter_segment_file(
    predictor: Predictor, path: Path, request: Request, folder: Path
) -> Generator[Progress | Notice, None, tuple[Path, Answer]]:
    """Read, segment and write one image; returns its label file, and what is in it.

    Raises
    ------
    SwipeError
        When the image cannot be read or does not suit the model, or a file cannot be written.
    """
    image = read_image(path, ndim=request.image_ndim(predictor.content))
    answer = yield from iter_answer(predictor, image, request)
    colours = predictor.content.labels.class_colours
    return write_answer(answer, path, folder, request, colours), answer


def _targets(
    images: Sequence[Path], folder: Path, request: Request, ndim: int
) -> Iterator[tuple[Path, Path]]:
    for image in images:
        for target in output_files(image, folder, request, ndim).values():
            yield image, target


def _label_suffix(image: Path) -> str:
    """The ending of a label file for an image: its own where that can hold labels."""
    if is_store(image):
        return STORE_SUFFIX
    suffix = image_suffix(image)
    if suffix.lower() in WRITERS:
        return suffix
    return LABEL_SUFFIXES.get(suffix.lower(), VOLUME_SUFFIX)


def _map_suffix(image: Path) -> str:
    """The ending of a file of fractions: the image's own where that can hold them."""
    suffix = image_suffix(image)
    if suffix.lower() in maps.WRITERS:
        return suffix
    return MAP_SUFFIXES.get(suffix.lower(), VOLUME_SUFFIX)
