"""Write a configuration that suits a data set, as the Train dock of napari would suggest it."""

from __future__ import annotations

import argparse
from pathlib import Path

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.shared import exit_code, finish_under_bar
from swipe_core.compute.devices import choose_device
from swipe_core.data.annotations import IGNORED
from swipe_core.data.cases import find_cases, has_split
from swipe_core.data.census import iter_census
from swipe_core.data.labelled import LabelConfig, read_labelled
from swipe_core.errors import ConfigError
from swipe_core.files.atomic import draft_of
from swipe_core.networks.catalogue import CATALOGUE
from swipe_core.networks.registry import SWIPE
from swipe_core.training.config import ExperimentConfig, dump_config
from swipe_core.training.sizes import PRESETS
from swipe_core.training.suggestion import suggest, suggest_fine_tuning, summarise

EPILOG = f"""\
presets, for a training from nothing:
{chr(10).join(f"  {name:9} {words}" for name, words in PRESETS.items())}

networks:
{chr(10).join(f"  {name:9} {entry.title}, {entry.year}" for name, entry in CATALOGUE.items())}

examples:
  python scripts/configure.py quick --data scribbled --classes nucleus --sparse --output mine.yaml
  python scripts/train.py mine.yaml --data scribbled --output runs/mine --max-minutes 5

  python scripts/configure.py quick --network unet --data scribbled --classes nucleus --sparse --output u.yaml

  python scripts/configure.py --from polyp --data scribbled --classes polyp --sparse --output tune.yaml
  python scripts/train.py tune.yaml --data scribbled --output runs/tune --from polyp --max-minutes 5
"""
LOOKED_AT = 20  # cases that a suggestion goes by


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", nargs="?", choices=list(PRESETS), help="size of a new network")
    parser.add_argument(
        "--network",
        choices=list(CATALOGUE),
        metavar="NAME",
        help=f"the new network: {', '.join(CATALOGUE)} (default: {SWIPE})",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="fine-tune this model instead: a file, or a shipped name",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder as train.py takes it")
    parser.add_argument("--classes", required=True, nargs="+", metavar="NAME", help="classes 1, 2, ...")
    parser.add_argument("--ndim", type=int, choices=(2, 3), default=2, help="axes of the images (default: 2)")
    meaning = parser.add_mutually_exclusive_group()
    meaning.add_argument(
        "--sparse", action="store_true", help=f"voxels of {IGNORED} are unpainted, and teach nothing"
    )
    meaning.add_argument("--instances", action="store_true", help="labels number objects of one class")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="time budget (default: 10)")
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps")
    parser.add_argument("--output", required=True, metavar="FILE", help="YAML file to write")
    return parser.parse_args(arguments)


def suggested(options: argparse.Namespace) -> ExperimentConfig:
    """The configuration for the data, the start and the device that are named."""
    if (options.preset is None) == (options.start is None):
        raise ConfigError("Give either a preset, for a new network, or --from with the model to go on from.")
    if options.network is not None and options.start is not None:
        raise ConfigError("Give --network with a preset only: a model goes on with the network it has.")
    labels = LabelConfig(
        class_names=tuple(options.classes),
        instances=options.instances,
        ignore_label=IGNORED if options.sparse else None,
    )
    cases = find_cases(options.data, "train" if has_split(options.data, "train") else None)
    device, name = choose_device(options.device), Path(options.output).stem
    if options.start is not None:
        content = load_checkpoint(find_checkpoint(options.start)).content
        finish_under_bar(iter_census(cases, content.model.ndim, labels), unit="file", inner=True)
        return suggest_fine_tuning(content, labels, len(cases), device, options.minutes, name)
    finish_under_bar(iter_census(cases, options.ndim, labels), unit="file", inner=True)
    looked_at = cases[:: max(1, len(cases) // LOOKED_AT)]
    summary = summarise((read_labelled(c, options.ndim, labels) for c in looked_at), labels.ignore_label)
    network = options.network or SWIPE
    return suggest(summary, labels, options.preset, device, options.minutes, name, network)


def run(options: argparse.Namespace) -> int:
    """Write the configuration, and say where it is."""
    path = Path(options.output)
    config = suggested(options)
    try:
        with draft_of(path) as draft:
            draft.write_text(dump_config(config), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}).") from error
    print(path)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "nothing is written")
