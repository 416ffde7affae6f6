"""Segment images with a trained model, at their own or any other resolution."""

from __future__ import annotations

import argparse
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from swipe_core.bundled import bundled_checkpoints, find_checkpoint
from swipe_core.card import ModelCard
from swipe_core.checkpoints import load_checkpoint
from swipe_core.command_line import columns, exit_code, finish_under_bar
from swipe_core.description import ModelDescription, describe_checkpoint
from swipe_core.errors import SwipeError
from swipe_core.inference_options import add_inference_options, changed_config
from swipe_core.outputs import check_outputs, find_images, iter_segment_file
from swipe_core.predictor import Predictor
from swipe_core.request import Request, Span

EPILOG = """\
examples:
  python scripts/predict.py --list
  python scripts/predict.py nuclei cells/ --output labels --objects
  python scripts/predict.py runs/nuclei/best.safetensors cell.png --output labels --factor 4
  python scripts/predict.py runs/liver/best.safetensors ct.nii.gz --output labels --spacing 0.5 0.5 0.5
  python scripts/predict.py hippocampus mri.nii.gz --output labels --region 10:30 : 5:45
  python scripts/predict.py nuclei movie.tif --output labels --frames --probability nucleus

labels have the kind of file that the image had where that can hold labels, with its position and
spacing where it has them (TIFF: the spacing, PNG: neither); 2D images get a picture NAME_overlay.png
besides. Numbers for axes are in the order z y x.
"""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", metavar="MODEL", help="a .safetensors file that train.py wrote, or a name of --list")
    add("images", metavar="IMAGE_OR_DIR", nargs="+", help="image files, or folders of them")
    add("--output", required=True, metavar="DIR", help="folder for the label files")
    add("--list", action=_List, help="print the models that come with the program, and end")
    add("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)")
    what = parser.add_argument_group("what is segmented")
    what.add_argument(
        "--region",
        type=_span,
        nargs="+",
        metavar="START:STOP",
        help="a part of the image alone: its first voxel and the one behind its last, for each axis of the "
        "image; an end that is left out is that of the image",
    )
    what.add_argument("--frames", action="store_true", help="3D images with a 2D model, frame by frame")
    how = parser.add_argument_group("how")
    size = how.add_mutually_exclusive_group()
    size.add_argument("--factor", type=float, metavar="F", help="F times as many voxels along each axis")
    size.add_argument(
        "--spacing",
        type=float,
        nargs="+",
        metavar="S",
        help="voxel spacing of the labels, in the image's unit",
    )
    how.add_argument(
        "--method",
        choices=("mise", "dense"),
        help="mise: refine at boundaries only (default); dense: ask at every voxel",
    )
    add_inference_options(how)
    more = parser.add_argument_group("what is written besides the labels")
    more.add_argument(
        "--objects", action="store_true", help="NAME_objects: each object by a number of its own, and a .csv"
    )
    more.add_argument(
        "--probability",
        action="append",
        default=[],
        metavar="CLASS",
        help="NAME_probability_CLASS, in [0, 1]",
    )
    more.add_argument(
        "--uncertainty",
        action="store_true",
        help="NAME_uncertainty: 1 where two classes are equally probable",
    )
    return parser.parse_args(arguments)


class _List(argparse.Action):
    """Like --help: prints, and ends before anything else is looked at."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(models_table([describe_checkpoint(path) for path in bundled_checkpoints().values()]))
        parser.exit()


def models_table(models: list[ModelDescription]) -> str:
    """The models and their cards, as text."""
    rows = [("name", "finds", "images", "classes", "validation Dice", "MB", "licence")]
    for model in models:
        dice = model.card.dice if model.card else {}
        rows.append(
            (
                model.name,
                model.card.title if model.card else "",
                f"{model.ndim}D, {model.channels} channel{'s' * (model.channels > 1)}",
                ", ".join(model.class_names),
                ", ".join(f"{name} {value:.3f}" for name, value in dice.items()),
                f"{model.bytes / 1e6:.1f}",
                model.card.licence.split(",")[0] if model.card else "",
            )
        )
    cards = [_card_text(model.name, model.card) for model in models if model.card]
    return "\n\n".join([columns(rows), *cards])


def _card_text(name: str, card: ModelCard) -> str:
    told = {
        "trained on": card.data,
        "validated on": card.validation,
        "intended use": card.intended_use,
        "limits": card.limits,
        "to be named": card.attribution,
    }
    wrap = partial(textwrap.fill, width=100, initial_indent="  ", subsequent_indent="    ")
    return "\n".join([name, *(wrap(f"{title}: {text}") for title, text in told.items())])


def _span(text: str) -> Span:
    first, colon, last = text.partition(":")
    if not colon or not all(end.isdecimal() or not end for end in (first, last)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no START:STOP of whole numbers, such as 10:60 or 10: or :"
        )
    return int(first) if first else None, int(last) if last else None


def requested(options: argparse.Namespace) -> Request:
    """What the options ask for."""
    return Request(
        factor=options.factor,
        spacing=None if options.spacing is None else tuple(options.spacing),
        method=options.method,
        region=None if options.region is None else tuple(options.region),
        frames=options.frames,
        objects=options.objects,
        probability=tuple(dict.fromkeys(options.probability)),
        uncertainty=options.uncertainty,
    )


def segment_all(predictor: Predictor, images: list[Path], request: Request, folder: Path) -> int:
    """Segment one image after the other; one that fails does not keep the others. An exit code."""
    failures = 0
    with tqdm(images, unit="image", dynamic_ncols=True) as bar:
        for path in bar:
            try:
                work = iter_segment_file(predictor, path, request, folder)
                target, answer = finish_under_bar(work, unit="block", inner=True)
                objects = "" if answer.measurements is None else f"  {len(answer.measurements)} objects"
                bar.write(f"{target}  {' x '.join(map(str, answer.segmentation.shape))}{objects}")
            except SwipeError as error:
                failures += 1
                bar.write(f"error: {error}", file=sys.stderr)
    if failures:
        print(f"{failures} of {len(images)} images failed", file=sys.stderr)
    return 2 if failures else 0


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked before the work, then segment."""
    request, folder = requested(options), Path(options.output)
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    request.check(checkpoint.content)
    config = changed_config(checkpoint.content.inference, options)
    predictor = Predictor.load(checkpoint, device=options.device, config=config)
    images = find_images(options.images)
    check_outputs(images, folder, request, request.image_ndim(checkpoint.content))
    folder.mkdir(parents=True, exist_ok=True)
    return segment_all(predictor, images, request, folder)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(
        lambda: run(options),
        place=options.output,
        stopped=lambda: f"labels that are finished stay in {options.output}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
