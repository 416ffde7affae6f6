"""Write the boundary of a segmentation to a file: a mesh, contours, or what was measured from them."""

import argparse
import math
import sys
from pathlib import Path

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.options import changed_config
from swipe_core.cli.shared import exit_code, finish_under_bar, prepare_file
from swipe_core.errors import ConfigError
from swipe_core.export.exporting import Exported, iter_export
from swipe_core.export.formats import export_format
from swipe_core.images import MedicalImage, read_image
from swipe_core.inference.boundary import check_tolerance
from swipe_core.inference.field import OccupancyField
from swipe_core.inference.field_file import SUFFIX, open_field
from swipe_core.pictures import default_colours
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request

Opened = tuple[OccupancyField, str, tuple[str, ...], MedicalImage | None]
"""A field, what its image is called, the colours of its classes, and the image where it was read."""


def run(options: argparse.Namespace) -> int:
    """Encode an image, or open what was encoded before, and write the file."""
    path = Path(options.output)
    if options.tolerance is not None:
        check_tolerance(options.tolerance)
    if not 0 < options.factor < math.inf:
        raise ConfigError(f"--factor must be a number above 0; got {options.factor:g}.")
    field, title, colours, image = (_opened if options.checkpoint.endswith(SUFFIX) else _encoded)(
        options, path
    )
    exported: Exported = finish_under_bar(
        iter_export(
            field,
            path,
            title=title,
            colours=colours,
            tolerance=options.tolerance,
            slices=options.slices,
            kind=export_format(path, field.ndim, options.kind),
            source=None if options.image is None else Path(options.image),
            image=image,
            factor=options.factor,
        )
    )
    print("\n".join(exported.lines), file=sys.stderr)
    for written in exported.paths:
        print(written)
    return 0


def _opened(options: argparse.Namespace, path: Path) -> Opened:
    """The field in a file, under the settings that are asked for."""
    if options.image is not None or options.region is not None or options.channels:
        raise ConfigError(f"{options.checkpoint} holds a segmented image already: give it alone.")
    saved = open_field(options.checkpoint)
    export_format(path, saved.field.ndim, options.kind)
    prepare_file(path, "--output")
    _check_slices(options.slices, saved.field.image_grid.shape)
    field = saved.field.with_config(changed_config(saved.field.config, options))
    return field, saved.title, saved.class_colours, None


def _encoded(options: argparse.Namespace, path: Path) -> Opened:
    """The field of an image, by a model."""
    if options.image is None:
        raise ConfigError(
            f"Give the image, too: swipe export {options.checkpoint} IMAGE --output {path.name}"
        )
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    request = Request(
        region=None if options.region is None else tuple(options.region), channels=tuple(options.channels)
    )
    request.check(checkpoint.content)
    ndim = request.image_ndim(checkpoint.content)
    export_format(path, ndim, options.kind)
    prepare_file(path, "--output")
    config = changed_config(checkpoint.content.inference, options)
    predictor = Predictor.load(checkpoint, device=options.device, config=config)
    image = request.part_of(read_image(options.image, ndim=ndim))
    _check_slices(options.slices, image.shape)
    field = finish_under_bar(predictor.iter_field(image))
    labels = checkpoint.content.labels
    colours = labels.class_colours or default_colours(len(labels.class_names))
    return field, Path(options.image).name, tuple(colours), image


def _check_slices(slices: list[int] | None, shape: tuple[int, ...]) -> None:
    if slices and (len(shape) != 3 or not all(0 <= index < shape[0] for index in slices)):
        has = f"slices 0 to {shape[0] - 1}" if len(shape) == 3 else "no slices"
        raise ConfigError(f"--slice counts from 0 on along the first axis, and the image has {has}.")


def main(options: argparse.Namespace) -> int:
    return exit_code(
        lambda: run(options), place=options.output, stopped=lambda: f"{options.output} was not written"
    )
