"""Segment images with a trained model, at their own or any other resolution."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from swipe_core.command_line import exit_code, finish_under_bar
from swipe_core.coordinates import Grid
from swipe_core.errors import ConfigError, ImageError, SwipeError
from swipe_core.images import (
    IMAGE_SUFFIXES,
    MedicalImage,
    image_stem,
    image_suffix,
    read_image,
    write_label_map,
)
from swipe_core.inference.field import Method, Segmentation
from swipe_core.pictures import default_colours, fitted_shape, overlay, write_png
from swipe_core.predictor import Predictor

OVERLAY_SIZE = 2048  # pixels along the longer side of an overlay picture, at most
MOST_VOXELS = 2**40  # labels of a terabyte

EPILOG = """\
examples:
  python scripts/predict.py runs/nuclei/best.safetensors cells/ --output labels
  python scripts/predict.py runs/nuclei/best.safetensors cell.png --output labels --factor 4
  python scripts/predict.py runs/liver/best.safetensors ct.nii.gz --output labels --spacing 0.5 0.5 0.5

labels have the kind of file that the image had, with its position and spacing; 2D images get a
picture NAME_overlay.png besides.
"""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .safetensors file that train.py wrote")
    parser.add_argument("images", metavar="IMAGE_OR_DIR", nargs="+", help="image files, or folders of them")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the label files")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--factor", type=float, metavar="F", help="F times as many voxels along each axis (default: 1)"
    )
    size.add_argument(
        "--spacing",
        type=float,
        nargs="+",
        metavar="S",
        help="voxel spacing of the labels in the image's unit, as y x or z y x",
    )
    parser.add_argument(
        "--method",
        choices=("mise", "dense"),
        help="mise: refine at boundaries only (default); dense: ask at every voxel",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)"
    )
    return parser.parse_args(arguments)


def find_images(paths: list[str]) -> list[Path]:
    """Files as given, and the images in folders as given, in order.

    Raises
    ------
    ImageError
        When a path does not exist, a folder holds no image, or two images would share a label file.
    """
    images = [image for path in paths for image in _images_at(Path(path))]
    names = Counter(image_stem(image) for image in images)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ImageError(
            f"Labels are named after their image, and several images are called {twice[0]}: "
            "segment them into different folders."
        )
    return images


def _images_at(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise ImageError(f"There is no file or folder {path}.")
    if path.is_file():
        yield path
        return
    inside = [f for f in sorted(path.iterdir()) if f.is_file() and not f.name.startswith(".")]
    images = [f for f in inside if f.name.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        raise ImageError(f"The folder {path} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
    yield from images


def check_numbers(factor: float | None, spacing: list[float] | None) -> None:
    """See that --factor and --spacing are usable numbers.

    Raises
    ------
    ConfigError
        When one is not finite and above 0.
    """
    if factor is not None and not 0 < factor < math.inf:
        raise ConfigError(f"--factor must be a number above 0; got {factor:g}.")
    if spacing is not None and not all(0 < step < math.inf for step in spacing):
        raise ConfigError(f"--spacing needs numbers above 0; got {_joined(spacing)}.")


def check_axes(spacing: list[float] | None, ndim: int) -> None:
    """See that --spacing suits the model.

    Raises
    ------
    ConfigError
        When it has not one number for each axis.
    """
    if spacing is not None and len(spacing) != ndim:
        raise ConfigError(f"--spacing needs {ndim} numbers for a {ndim}D model; got {_joined(spacing)}.")


def output_files(image: Path, folder: Path, ndim: int) -> list[Path]:
    """The label file of an image, and in 2D its overlay."""
    files = [folder / (image_stem(image) + label_suffix(image))]
    return files + [folder / f"{image_stem(image)}_overlay.png"] if ndim == 2 else files


def check_output(images: list[Path], folder: Path, ndim: int) -> None:
    """See that no image is lost, whether it is segmented now or only lies beside one that is.

    Files in a folder without images of this call are taken for former output, and replaced.

    Raises
    ------
    ImageError
        When a file to be written is one of the images, exists already in a folder with images, or
        is to be written twice.
    """
    sources = {image.resolve() for image in images}
    among_images = folder.resolve() in {source.parent for source in sources}
    written: set[Path] = set()
    for image in images:
        for target in output_files(image, folder, ndim):
            if target.resolve() in sources:
                raise ImageError(
                    f"Segmenting {image} would overwrite the image {target}: choose another --output folder."
                )
            if among_images and target.exists():
                raise ImageError(
                    f"{target} exists already in the folder of the images: choose another --output folder, "
                    "or move it away."
                )
            if target in written:
                raise ImageError(
                    f"{target} would be written for two images: segment them into different folders."
                )
            written.add(target)


def output_grid(image: Grid, factor: float | None, spacing: list[float] | None) -> Grid:
    """The grid that was asked for.

    Raises
    ------
    ImageError
        When no machine could hold that many voxels.
    """
    factors = [factor or 1.0] * image.ndim
    if spacing is not None:
        factors = [own / asked for own, asked in zip(image.spacing, spacing, strict=True)]
    voxels = math.prod(max(1.0, n * f) for n, f in zip(image.shape, factors, strict=True))
    if voxels > MOST_VOXELS:
        raise ImageError(f"The labels would have {voxels:.3g} voxels: {advice(factor, spacing)}.")
    return image.scaled(factors) if spacing is None else image.respaced(spacing)


def advice(factor: float | None, spacing: list[float] | None) -> str:
    """How to ask for fewer voxels."""
    return "use a coarser --spacing" if spacing is not None else f"use a --factor below {factor or 1:g}"


def iter_segment(
    predictor: Predictor, image: MedicalImage, grid: Grid, method: Method | None
) -> Generator[Progress, None, Segmentation]:
    """Encode an image and render it; yields progress."""
    field = yield from predictor.iter_field(image)
    return (yield from field.iter_render(grid, method=method))


def segment(predictor: Predictor, path: Path, options: argparse.Namespace) -> tuple[Path, Segmentation]:
    """Read, encode, render and write one image.

    Raises
    ------
    SwipeError
        When the image is unsuitable, or does not fit into memory.
    """
    grid = None
    try:
        image = read_image(path, ndim=predictor.content.model.ndim)
        grid = output_grid(image.grid, options.factor, options.spacing)
        work = iter_segment(predictor, image, grid, options.method)
        segmentation = finish_under_bar(work, unit="block", inner=True)
        target = write(predictor, path, image, segmentation, Path(options.output))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        size = "" if grid is None else f" with {grid.voxels} voxels ({_shape(grid.shape)}) of labels"
        raise ImageError(
            f"{path}{size} does not fit into memory: {advice(options.factor, options.spacing)}."
        ) from error
    return target, segmentation


def write(
    predictor: Predictor, path: Path, image: MedicalImage, segmentation: Segmentation, folder: Path
) -> Path:
    """Write labels and overlay; returns the label file."""
    target, *pictures = output_files(path, folder, image.ndim)
    write_label_map(target, segmentation)
    for picture in pictures:
        colours = predictor.content.labels.class_colours or default_colours(len(segmentation.class_names))
        shape = fitted_shape(segmentation.shape, min(OVERLAY_SIZE, max(segmentation.shape)))
        write_png(picture, overlay(image.array, segmentation.array, colours, shape=shape))
    return target


def label_suffix(path: Path) -> str:
    """The ending of a label file for an image: its own, but PNG where that cannot hold labels."""
    suffix = image_suffix(path)
    return ".png" if suffix.lower() in (".jpg", ".jpeg", ".bmp") else suffix


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    # Torch has a class of its own for a GPU's memory, but none for the CPU's.
    own = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, own) or "DefaultCPUAllocator" in str(error)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _joined(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


def segment_all(predictor: Predictor, images: list[Path], options: argparse.Namespace) -> int:
    """Segment one image after the other; one that fails does not keep the others. An exit code."""
    failures = 0
    with tqdm(images, unit="image", dynamic_ncols=True) as bar:
        for path in bar:
            try:
                target, segmentation = segment(predictor, path, options)
                bar.write(f"{target}  {_shape(segmentation.shape)}")
            except SwipeError as error:
                failures += 1
                bar.write(f"error: {error}", file=sys.stderr)
    if failures:
        print(f"{failures} of {len(images)} images failed", file=sys.stderr)
    return 2 if failures else 0


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked before the work, then segment."""
    check_numbers(options.factor, options.spacing)
    predictor = Predictor.load(options.checkpoint, device=options.device)
    ndim = predictor.content.model.ndim
    check_axes(options.spacing, ndim)
    images = find_images(options.images)
    check_output(images, Path(options.output), ndim)
    Path(options.output).mkdir(parents=True, exist_ok=True)
    return segment_all(predictor, images, options)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(
        lambda: run(options),
        place=options.output,
        stopped=lambda: f"labels that are finished stay in {options.output}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
