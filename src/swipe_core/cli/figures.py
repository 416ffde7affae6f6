"""Make pictures of what a trained model does."""

import argparse
import sys
import warnings
from pathlib import Path

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.cli.shared import exit_code
from swipe_core.data.cases import find_cases
from swipe_core.data.labelled import read_labelled
from swipe_core.errors import CheckpointError, ConfigError
from swipe_core.evaluation.figures import attention_sheet, case_sheet, zoom_sheet
from swipe_core.images import read_image
from swipe_core.pictures import write_lines, write_png
from swipe_core.prediction.predictor import Predictor
from swipe_core.training.folder import RunFolder


def draw_shares(options: argparse.Namespace) -> None:
    """Draw a point for each checkpoint: its training cases, and the best validation Dice of its run."""
    series: dict[str, list[tuple[int, float]]] = {}
    for path in options.checkpoints:
        content = load_checkpoint(path).content
        cases, best = content.summary.training_cases, content.summary.best_dice
        if cases is None or best is None:
            raise CheckpointError(f"{path} does not tell its training cases and its validation Dice.")
        series.setdefault(content.name, []).append((cases, best))
    write_lines(series, options.output, "training cases", "validation Dice (0 to 1)")


def draw_runs(options: argparse.Namespace) -> None:
    """Draw a line through the validations of each run."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name in options.folders:
        folder = RunFolder(Path(name))
        found = [record for record in folder.records() if record["kind"] == "validation"]
        if not found:
            raise CheckpointError(
                f"{folder.path} holds no run with validations: give a folder that `swipe train` wrote."
            )
        series[folder.path.resolve().name] = [(record["minutes"], record["mean_dice"]) for record in found]
    write_lines(series, options.output, "minutes of training", "validation Dice (0 to 1)")


def draw(options: argparse.Namespace) -> None:
    """Make the picture and write it."""
    if options.kind in ("shares", "runs"):
        (draw_shares if options.kind == "shares" else draw_runs)(options)
        return
    for name in ("width", "count"):
        number = getattr(options, name, 1)
        if number < 1:
            raise ConfigError(f"--{name} must be 1 or more; got {number}.")
    predictor = Predictor.load(options.checkpoint, device=options.device)
    ndim = predictor.content.model.ndim
    if options.kind == "cases":
        seed = predictor.content.summary.split_seed or 0
        found = find_cases(options.data, options.split, seed)
        count = min(options.count, len(found))
        chosen = [found[i * len(found) // count] for i in range(count)]
        sheet = case_sheet(predictor, [read_labelled(c, ndim, predictor.content.labels) for c in chosen])
    else:
        image = read_image(options.image, ndim=ndim)
        field = predictor.field(image)
        if options.kind == "zoom":
            sheet = zoom_sheet(field, image, width=options.width)
        else:
            sheet = attention_sheet(field, image)
    write_png(options.output, sheet)


def run(options: argparse.Namespace) -> int:
    """Draw, and print where the picture is; each warning of the model is printed once, without its place."""
    with warnings.catch_warnings(record=True, category=UserWarning) as noted:
        warnings.simplefilter("always", UserWarning)
        draw(options)
    for sentence in dict.fromkeys(str(warning.message) for warning in noted):
        print(sentence, file=sys.stderr)
    print(options.output)
    return 0


def main(options: argparse.Namespace) -> int:
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "no picture is written")
