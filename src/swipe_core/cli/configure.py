"""Write a configuration that suits a data set, as the Train dock of napari would suggest it."""

import argparse
from pathlib import Path

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.checkpoints.library import find_checkpoint
from swipe_core.cli.shared import exit_code, finish_under_bar
from swipe_core.compute.devices import choose_device
from swipe_core.data.cases import find_cases, has_split
from swipe_core.data.census import iter_census
from swipe_core.data.labelled import read_labelled
from swipe_core.data.labels import IGNORED, LabelConfig
from swipe_core.errors import ConfigError
from swipe_core.files.atomic import atomic_write
from swipe_core.networks.catalogue import SWIPE, Preset
from swipe_core.training.config import ExperimentConfig, dump_config
from swipe_core.training.suggestion import suggest, suggest_fine_tuning, summarise, would_teach

SAMPLED_CASES = 20  # cases that a suggestion goes by


def suggested(options: argparse.Namespace) -> ExperimentConfig:
    """Return the configuration for the data, the start and the device that are named."""
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
    content = None if options.start is None else load_checkpoint(find_checkpoint(options.start)).content
    if content is not None and not would_teach(content, labels):
        finish_under_bar(iter_census(cases, content.model.ndim, labels), unit="file", inner=True)
        return suggest_fine_tuning(content, labels, len(cases), device, options.minutes, name)
    finish_under_bar(iter_census(cases, options.ndim, labels), unit="file", inner=True)
    sampled = cases[:: max(1, len(cases) // SAMPLED_CASES)]
    summary = summarise((read_labelled(c, options.ndim, labels) for c in sampled), labels.ignore_label)
    network = options.network or SWIPE
    preset: Preset = options.preset or "quick"
    return suggest(summary, labels, preset, device, options.minutes, name, network, content)


def run(options: argparse.Namespace) -> int:
    """Write the configuration, and print where it is."""
    path = Path(options.output)
    config = suggested(options)
    try:
        with atomic_write(path) as draft:
            draft.write_text(dump_config(config), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}).") from error
    print(path)
    return 0


def main(options: argparse.Namespace) -> int:
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "nothing is written")
