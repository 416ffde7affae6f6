"""Make pictures of what a trained model does."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from swipe_core.checkpoints.file import load_checkpoint
from swipe_core.cli.shared import exit_code
from swipe_core.data.cases import SPLITS, find_cases
from swipe_core.data.labelled import read_labelled
from swipe_core.errors import CheckpointError, ConfigError
from swipe_core.evaluation.figures import attention_sheet, case_sheet, zoom_sheet
from swipe_core.images import read_image
from swipe_core.pictures import write_lines, write_png
from swipe_core.prediction.predictor import Predictor
from swipe_core.training.folder import RunFolder

EPILOG = """\
examples:
  python scripts/figures.py zoom runs/nuclei/best.safetensors cell.png --output zoom.png
  python scripts/figures.py cases runs/nuclei/best.safetensors data/nuclei --count 4 --output cases.png
  python scripts/figures.py attention runs/polyp/best.safetensors frame.jpg --output attention.png
  python scripts/figures.py shares runs/share_*/best.safetensors --output shares.png
  python scripts/figures.py runs runs/sparse runs/full --output runs.png
"""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    zoom = kinds.add_parser("zoom", help="one boundary at 1x, 4x and 16x, from one encoding")
    attention = kinds.add_parser("attention", help="which scale decided where")
    cases = kinds.add_parser("cases", help="images, references and predictions side by side")
    shares = kinds.add_parser("shares", help="validation Dice against the number of training cases")
    shares.add_argument(
        "checkpoints",
        metavar="CHECKPOINT",
        nargs="+",
        help="one from each run, with its --training.case_share",
    )
    runs = kinds.add_parser("runs", help="validation Dice against minutes of training")
    runs.add_argument("folders", metavar="RUN_DIR", nargs="+", help="folders that train.py wrote")
    for kind in (zoom, attention, cases):
        kind.add_argument("checkpoint", metavar="CHECKPOINT", help="a .safetensors file that train.py wrote")
    for kind in (zoom, attention):
        kind.add_argument("image", metavar="IMAGE", help="an image file")
    zoom.add_argument("--width", type=int, default=32, metavar="N", help="voxels shown (default: 32)")
    cases.add_argument("data", metavar="DATA_DIR", help="folder with images/ and labels/, or with splits")
    cases.add_argument("--split", default="val", choices=SPLITS, help="part of the data (default: val)")
    cases.add_argument(
        "--count", type=int, default=4, metavar="N", help="cases, evenly spread over the split (default: 4)"
    )
    for kind in (zoom, attention, cases, shares, runs):
        kind.add_argument("--output", required=True, metavar="FILE", help="PNG file to write")
    for kind in (zoom, attention, cases):
        kind.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or mps")
    return parser.parse_args(arguments)


def draw_shares(options: argparse.Namespace) -> None:
    """A point for each checkpoint: its training cases, and the best validation Dice of its run."""
    series: dict[str, list[tuple[int, float]]] = {}
    for path in options.checkpoints:
        content = load_checkpoint(path).content
        cases, best = (content.summary.get(key) for key in ("training_cases", "best_dice"))
        if cases is None or best is None:
            raise CheckpointError(f"{path} does not tell its training cases and its validation Dice.")
        series.setdefault(content.name, []).append((cases, best))
    write_lines(series, options.output, "training cases", "validation Dice (0 to 1)")


def draw_runs(options: argparse.Namespace) -> None:
    """A line for each run: its validations."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name in options.folders:
        folder = RunFolder(Path(name))
        found = [record for record in folder.records() if record["kind"] == "validation"]
        if not found:
            raise CheckpointError(f"{folder.path} holds no run with validations: give a folder of train.py.")
        series[folder.path.resolve().name] = [(record["minutes"], record["mean_dice"]) for record in found]
    write_lines(series, options.output, "minutes of training", "validation Dice (0 to 1)")


def draw(options: argparse.Namespace) -> None:
    """Make the picture that was asked for and write it."""
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
        seed = predictor.content.summary.get("split_seed", 0)
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
    """Draw, and say where the picture is; what the model warns of is said in its sentence alone, once."""
    with warnings.catch_warnings(record=True, category=UserWarning) as noted:
        warnings.simplefilter("always", UserWarning)
        draw(options)
    for sentence in dict.fromkeys(str(warning.message) for warning in noted):
        print(sentence, file=sys.stderr)
    print(options.output)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    return exit_code(lambda: run(options), place=options.output, stopped=lambda: "no picture is written")
