"""Measure what decoding, rendering, inference, zooming, training and memory cost on this machine."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks are not part of the package

from benchmarks.plan import Plan, Subject
from benchmarks.suite import OF_AN_IMAGE, SECTIONS, measure
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.arguments import add_device, text_parser
from swipe_core.cli.shared import exit_code, finish_under_bar, prepare_file, until_unread
from swipe_core.compute.devices import choose_device
from swipe_core.errors import ConfigError, ImageError, nearest_name
from swipe_core.files.atomic import write_text

REPEATS, QUICK_REPEATS = 5, 2


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    samples = f"CHECKPOINT and IMAGE take the place of the samples in {', '.join(OF_AN_IMAGE)}."
    parser = text_parser(str(__doc__), samples)
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?", help="a .safetensors file, or a model's name"
    )
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="an image file")
    parser.add_argument(
        "--only", nargs="+", metavar="SECTION", default=list(SECTIONS), help=f"some of {', '.join(SECTIONS)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and few repeats: to see that it works"
    )
    parser.add_argument(
        "--repeats", type=int, metavar="N", help=f"default: {REPEATS}, or {QUICK_REPEATS} with --quick"
    )
    parser.add_argument(
        "--factors",
        type=float,
        nargs="+",
        metavar="F",
        help="resolutions to render; default: 1 2 4 8 16, in 3D 1 2 4",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="images per training step; default: the preset's 12"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="that torch computes with; default: torch's own"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    parser.add_argument(
        "--ratios", metavar="FILE", help="write the ratios, without seconds, to this Markdown file"
    )
    add_device(parser)
    return parser.parse_args(arguments)


def check(options: argparse.Namespace) -> None:
    """Check what can be checked before the work.

    Raises
    ------
    ConfigError
        When a section is unknown, a number is unusable, or a file cannot be written.
    CheckpointError, ImageError
        When there is no such file.
    """
    for name in options.only:
        if name not in SECTIONS:
            near = nearest_name(name, SECTIONS)
            raise ConfigError(f"--only takes some of {', '.join(SECTIONS)}; got {name}.{near}")
    for factor in options.factors or ():
        if not 0 < factor < math.inf:
            raise ConfigError(f"--factors must be numbers above 0; got {factor:g}.")
    if options.factors and sorted(set(options.factors)) != options.factors:
        raise ConfigError("--factors must grow, since each is compared with the one before.")
    for name in ("repeats", "batch", "threads"):
        number = getattr(options, name)
        if number is not None and number < 1:
            raise ConfigError(f"--{name} must be 1 or more; got {number}.")
    if options.checkpoint is not None and options.image is None:
        raise ConfigError("A CHECKPOINT needs an IMAGE to use it on: give both, or neither for the samples.")
    if options.checkpoint is not None:
        find_checkpoint(options.checkpoint)
    if options.image is not None and not Path(options.image).exists():
        raise ImageError(f"There is no image {options.image}.")
    for name in ("json", "ratios"):
        if getattr(options, name):
            prepare_file(Path(getattr(options, name)), f"--{name}")


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the options ask for."""
    subject = None
    if options.checkpoint is not None:
        subject = Subject(Path(options.image).name, options.checkpoint, Path(options.image))
    return Plan(
        device=choose_device(options.device),
        repeats=options.repeats or (QUICK_REPEATS if options.quick else REPEATS),
        quick=options.quick,
        subject=subject,
        factors=tuple(options.factors) if options.factors else None,
        batch=options.batch,
    )


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write the files that the options name."""
    check(options)
    plan = plan_of(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    result = finish_under_bar(measure(plan, options.only), unit="work")
    print(result.markdown())
    print()
    print(result.ratios().partition("\n\n")[2])
    if options.json:
        write_text(options.json, json.dumps(result.values(), indent=1) + "\n")
    if options.ratios:
        write_text(options.ratios, result.ratios() + "\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(
        lambda: run(options),
        place=options.json or options.ratios or options.image or "the benchmark",
        stopped=lambda: "nothing was measured to the end",
    )


if __name__ == "__main__":
    raise SystemExit(until_unread(main))
