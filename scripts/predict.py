"""Segment images with a trained model, at their own or any other resolution."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from swipe_core.coordinates import Grid
from swipe_core.errors import ImageError, SwipeError
from swipe_core.images import IMAGE_SUFFIXES, image_stem, image_suffix, read_image, write_label_map
from swipe_core.inference.field import OccupancyField, Segmentation
from swipe_core.pictures import default_colours, fitted_shape, overlay, write_png
from swipe_core.predictor import Predictor
from swipe_core.progress import finish

OVERLAY_SIZE = 2048  # pixels along the longer side of an overlay picture, at most

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


def output_grid(field: OccupancyField, factor: float | None, spacing: list[float] | None) -> Grid:
    """The grid that was asked for.

    Raises
    ------
    ImageError
        When `factor` or `spacing` does not suit the image.
    """
    if factor is not None and not 0 < factor < math.inf:
        raise ImageError(f"--factor must be a number above 0; got {factor:g}.")
    if spacing is None:
        return field.image_grid.scaled(factor or 1.0)
    if len(spacing) != field.ndim or not all(0 < step < math.inf for step in spacing):
        raise ImageError(
            f"--spacing needs {field.ndim} numbers above 0 for a {field.ndim}D image; got {spacing}."
        )
    return field.image_grid.respaced(spacing)


def segment(predictor: Predictor, path: Path, options: argparse.Namespace) -> tuple[Path, Segmentation]:
    """Read, encode, render and write one image.

    Raises
    ------
    SwipeError
        When the image is unsuitable, or its labels would overwrite it.
    """
    folder = Path(options.output)
    target = folder / (image_stem(path) + label_suffix(path))
    if target.resolve() == path.resolve():
        raise ImageError(f"The labels of {path} would overwrite it: choose another --output folder.")
    image = read_image(path, ndim=predictor.content.model.ndim)
    field = predictor.field(image)
    grid = output_grid(field, options.factor, options.spacing)
    segmentation = finish(field.iter_render(grid, method=options.method))
    write_label_map(target, segmentation)
    if image.ndim == 2:
        colours = predictor.content.labels.class_colours or default_colours(len(segmentation.class_names))
        longest = min(OVERLAY_SIZE, max(segmentation.shape))
        shape = fitted_shape(segmentation.shape, longest)
        picture = overlay(image.array, segmentation.array, colours, shape=shape)
        write_png(folder / f"{image_stem(path)}_overlay.png", picture)
    return target, segmentation


def label_suffix(path: Path) -> str:
    """The ending of a label file for an image: its own, but PNG where that cannot hold labels."""
    suffix = image_suffix(path)
    return ".png" if suffix.lower() in (".jpg", ".jpeg", ".bmp") else suffix


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        predictor = Predictor.load(options.checkpoint, device=options.device)
        images = find_images(options.images)
        Path(options.output).mkdir(parents=True, exist_ok=True)
    except SwipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: The folder {options.output} cannot be written ({error.strerror}).", file=sys.stderr)
        return 2
    failures = 0
    for path in tqdm(images, unit="image", dynamic_ncols=True):
        try:
            target, segmentation = segment(predictor, path, options)
            tqdm.write(f"{target}  {' x '.join(map(str, segmentation.shape))}")
        except SwipeError as error:
            failures += 1
            tqdm.write(f"error: {error}", file=sys.stderr)
    if failures:
        print(f"{failures} of {len(images)} images failed", file=sys.stderr)
    return 2 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
