"""Write the boundary of a segmentation to a file: a mesh, contours, or what was measured from them."""

import argparse
import sys
from pathlib import Path

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.options import changed_config
from swipe_core.cli.shared import exit_code, finish_under_bar, prepare_file
from swipe_core.errors import ConfigError
from swipe_core.export.exporting import Exported, iter_export
from swipe_core.export.formats import export_format
from swipe_core.images import read_image
from swipe_core.inference.boundary import check_tolerance
from swipe_core.pictures import default_colours
from swipe_core.prediction.predictor import Predictor
from swipe_core.prediction.request import Request


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked before the work, then encode the image and write the file."""
    path = Path(options.output)
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    request = Request(
        region=None if options.region is None else tuple(options.region), channels=tuple(options.channels)
    )
    request.check(checkpoint.content)
    ndim = request.image_ndim(checkpoint.content)
    kind = export_format(path, ndim, options.kind)
    if options.tolerance is not None:
        check_tolerance(options.tolerance)
    prepare_file(path, "--output")
    config = changed_config(checkpoint.content.inference, options)
    predictor = Predictor.load(checkpoint, device=options.device, config=config)
    image = request.part_of(read_image(options.image, ndim=ndim))
    _check_slices(options.slices, image.shape)
    field = finish_under_bar(predictor.iter_field(image))
    labels = checkpoint.content.labels
    exported: Exported = finish_under_bar(
        iter_export(
            field,
            path,
            title=Path(options.image).name,
            colours=labels.class_colours or default_colours(len(labels.class_names)),
            tolerance=options.tolerance,
            slices=options.slices,
            kind=kind,
            source=Path(options.image),
        )
    )
    print("\n".join(exported.lines), file=sys.stderr)
    for written in exported.paths:
        print(written)
    return 0


def _check_slices(slices: list[int] | None, shape: tuple[int, ...]) -> None:
    if slices and (len(shape) != 3 or not all(0 <= index < shape[0] for index in slices)):
        has = f"slices 0 to {shape[0] - 1}" if len(shape) == 3 else "no slices"
        raise ConfigError(f"--slice counts from 0 on along the first axis, and the image has {has}.")


def main(options: argparse.Namespace) -> int:
    return exit_code(
        lambda: run(options), place=options.output, stopped=lambda: f"{options.output} was not written"
    )
